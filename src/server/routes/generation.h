// A request for text from the moment when it has been read to the end of its answer: it puts its prompts into
// the service's queue and writes what comes back, whole or as a stream.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "server/openai/answer_form.h"
#include "server/openai/api_error.h"
#include "server/openai/completion_request.h"
#include "server/openai/text_offsets.h"
#include "server/openai/usage.h"
#include "server/routes/api.h"

namespace sepllm::server {

// What is to be generated. Choice c of prompt p is number p * n + c of the answer.
struct GenerationPlan {
  const AnswerForm* form = nullptr;
  RequestSettings settings;  // with max_tokens
  std::vector<CompletionPrompt> prompts;
  std::vector<int32_t> stop_ids;
  bool echo = false;  // the prompt is part of the answer, with its scores if there are any
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // Begins it. ApiError, and nothing runs, where the service refuses a prompt.
  static void start(Api& api, const HttpExchangePtr& exchange, GenerationPlan plan);

 private:
  using Clock = std::chrono::steady_clock;
  struct Choice {
    std::string text;
    std::vector<ScoredToken> tokens;
    std::optional<TextOffsets> offsets;
    FinishReason finish = FinishReason::kLength;
    bool begun = false;
    Clock::time_point last_text{};
  };
  // What the choices of a prompt share: its part of the answer, with echo.
  struct Echo {
    std::vector<ScoredToken> tokens;
    std::optional<TextOffsets> offsets;  // behind the prompt
  };

  Generation(Api& api, HttpExchangePtr exchange, GenerationPlan plan);
  void submit_all();
  ServiceRequest request_for(size_t prompt);
  void begin_stream();
  void on_prompt(size_t prompt, const PromptEvent& event);
  void on_text(size_t prompt, const TextEvent& event);
  void on_end(size_t prompt, const EndEvent& event);
  void begin_choice(size_t prompt, Choice& choice, int64_t index);
  void place_echo(const CompletionPrompt& prompt, Echo& echo) const;
  void end_choice(Choice& choice, int64_t index, const Session* session);
  Json chunk(Json choice) const;
  void add_tokens(Choice& choice, std::span<const TokenScore> scores);
  Json take_logprobs(Choice& choice) const;
  void send(Json choice);
  void note_time(Choice& choice);
  void report_cache(Json& chunk, int64_t index, const Session* session, bool last);
  void fail(const ApiError& error);
  void all_ended();
  void end_stream();
  void respond_whole();
  bool has_scores() const { return plan_.settings.n_top >= 0; }
  bool scores_prompt() const { return plan_.echo && has_scores(); }

  Api& api_;
  const HttpExchangePtr exchange_;
  const GenerationPlan plan_;
  AnswerFrame frame_;
  const Clock::time_point start_ = Clock::now();
  const std::shared_ptr<std::atomic<bool>> cancelled_ = std::make_shared<std::atomic<bool>>(false);

  std::mutex mutex_;  // for what follows: submit() and the events run in different threads
  std::vector<Choice> choices_;
  std::vector<Echo> echoes_;  // one for each prompt
  Usage usage_;
  size_t n_left_ = 0;    // choices that have not ended
  bool failed_ = false;  // an error was answered
  bool any_text_ = false;
  Clock::time_point last_report_{};  // of the cache
};

}  // namespace sepllm::server
