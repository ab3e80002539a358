// Turns sampled tokens into text, character by character, and decides where the text ends (stop ids, stop
// strings, length). The same code serves one sequence (generate) and many (Scheduler).
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/generate_request.h"
#include "engine/model.h"
#include "engine/recent_tokens.h"

namespace sepllm {

class Continuation {
 public:
  // `recent`: how many tokens the sampler's repeat penalty looks at (Sampler::recent_tokens). `on_text` (may
  // be empty) gets pieces of text as soon as they are certain; returning false cancels. `request` is copied.
  Continuation(const Model& model, const GenerateRequest& request, int64_t recent,
               std::function<bool(const std::string&)> on_text);
  ~Continuation();
  Continuation(Continuation&&) noexcept;

  // Takes a sampled token. True: it must be fed to get the next one. False: the text has ended, and the
  // token, even if it is part of the text, need not be fed.
  bool take(int32_t id);
  // Ends the text for this reason (for kError: with its exception).
  void end(FinishReason reason, std::exception_ptr failure = nullptr);
  // Shows the text that was held back. Call it once, after the last take().
  void finish();

  bool ended() const { return ended_ || full(); }
  std::span<const int32_t> recent() const { return recent_.tokens(); }
  const GenerateRequest& request() const { return request_; }
  GenerateResult& result() { return result_; }
  const GenerateResult& result() const { return result_; }

 private:
  class StopFilter;
  bool full() const { return result_.new_tokens >= request_.max_new_tokens; }
  void show(const std::string& text);

  GenerateRequest request_;
  std::function<bool(const std::string&)> on_text_;
  std::unique_ptr<StreamDecoder> decoder_;
  std::unique_ptr<StopFilter> filter_;
  RecentTokens recent_;
  GenerateResult result_;
  // whether the result's reason is final; until then it says what will end the text at the latest
  bool ended_ = false;
};

}  // namespace sepllm
