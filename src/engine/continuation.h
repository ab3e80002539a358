// What becomes of sampled tokens: the text they add, whole character by whole character, and where it ends
// (stop ids, stop strings, length). The same for one sequence (generate) and for many (Scheduler).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/generate_request.h"
#include "engine/model.h"

namespace sepllm {

class Continuation {
 public:
  // `recent` tokens at least are remembered for the sampler's repeat penalty. `on_text` (may be empty) gets
  // pieces of text as they are certain; false from it cancels. `request` is copied.
  Continuation(const Model& model, const GenerateRequest& request, int64_t recent,
               std::function<bool(const std::string&)> on_text);
  ~Continuation();
  Continuation(Continuation&&) noexcept;

  // Takes a sampled token; true: it is to be fed for the next one. False: the text has ended, and the token,
  // where it is part of the text, need not be fed.
  bool take(int32_t id);
  // Ends the text for this reason (kError: with its exception).
  void end(FinishReason reason, std::exception_ptr failure = nullptr);
  // The text that was held back. After the last take(), once.
  void finish();

  bool ended() const { return ended_ || full(); }
  std::span<const int32_t> recent() const { return recent_; }
  const GenerateRequest& request() const { return request_; }
  GenerateResult& result() { return result_; }

 private:
  class StopFilter;
  bool full() const { return result_.new_tokens >= request_.max_new_tokens; }
  void show(const std::string& text);
  void remember(int32_t id);

  GenerateRequest request_;
  std::function<bool(const std::string&)> on_text_;
  std::unique_ptr<StreamDecoder> decoder_;
  std::unique_ptr<StopFilter> filter_;
  std::vector<int32_t> recent_;
  size_t recent_limit_;
  GenerateResult result_;
  bool ended_ = false;  // for the result's reason; not yet: it says what will end the text at the latest
};

}  // namespace sepllm
