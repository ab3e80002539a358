// Text generation: takes a prompt, gives tokens and text as they are generated.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/continuation.h"
#include "engine/generate_request.h"
#include "engine/sampler.h"
#include "engine/session.h"

namespace sepllm {

// A text in progress: each step computes one token. Between two steps the session must not change.
class Generation {
 public:
  // The references are kept. `on_text` as for generate(). `logits`: those after the session's last token, for
  // a request whose whole prompt the session has seen (n_fed == prompt.size()); they are copied.
  Generation(Session& session, Sampler& sampler, const GenerateRequest& request,
             std::function<bool(const std::string&)> on_text, std::span<const float> logits = {});

  // Feeds the prompt (the first time) or the last token, and samples the next one. False: the text has ended.
  // Error if the prompt cannot be fed; an Error at a later token (learned positions that end) ends the text
  // and is stored in the result.
  bool step();
  // For a pass of several sessions: the token that the next step would feed; -1: it would feed the prompt, or
  // nothing.
  int32_t pending() const { return continuation_.ended() ? -1 : last_; }
  // In place of step(), after pending() has entered the session in such a pass, which took so many seconds:
  // samples the next token from the logits after it.
  bool step_after(std::span<const float> logits, double seconds);
  // In place of a step: ends the text for this reason (for kError: with its exception).
  void end(FinishReason reason, std::exception_ptr failure = nullptr) {
    continuation_.end(reason, std::move(failure));
  }
  // Shows the text that was held back. Call it once, after the last step.
  void finish() { continuation_.finish(); }
  GenerateResult& result() { return continuation_.result(); }
  const GenerateResult& result() const { return continuation_.result(); }

 private:
  std::span<const float> feed_prompt();
  std::span<const float> feed_last();
  bool take(std::span<const float> logits);
  bool go_on() const { return !continuation_.request().go_on || continuation_.request().go_on(); }

  Session& session_;
  Sampler& sampler_;
  Continuation continuation_;
  std::vector<float> first_logits_;
  int32_t last_ = -1;  // the token that is to be fed; -1: the prompt is
};

// Continues `session` with the request's prompt. `on_text` gets pieces of whole characters as soon as they
// are certain (never part of a stop string); return false from it to cancel. Every token that is part of the
// result has entered the cache, except the last one sampled. Error if the prompt cannot be fed; an Error at a
// later token (learned positions that end) is stored in the result, so that the text so far is not lost.
GenerateResult generate(Session& session, Sampler& sampler, const GenerateRequest& request,
                        const std::function<bool(const std::string&)>& on_text);

}  // namespace sepllm
