#include "engine/conversation.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

using Clock = std::chrono::steady_clock;
using Role = ChatMessage::Role;

}  // namespace

Conversation::Conversation(const Model& model, const Context& ctx, const ConversationSettings& settings)
    : model_(model),
      ctx_(ctx),
      settings_(settings),
      tokenizer_(model.tokenizer_or_error()),
      stops_(settings.chat.stops(tokenizer_, settings.clock)),
      sampler_(settings.sampling, model.config().vocab_size) {
  stops_.strings.insert(stops_.strings.end(), settings.stops.begin(), settings.stops.end());
  const std::vector<int32_t> more = model.end_tokens();
  stops_.ids.insert(stops_.ids.end(), more.begin(), more.end());
  if (!settings.system.empty()) messages_.push_back({Role::kSystem, settings.system});
  // If a template refuses such a conversation, it says so before the user has typed anything.
  std::vector<ChatMessage> first = messages_;
  first.push_back({Role::kUser, "x"});
  settings.chat.render(tokenizer_, first, settings.clock);
  open_session();
}

void Conversation::open_session() {
  session_.emplace(model_, settings_.policy, ctx_);
  // All tokens are remembered, so that every turn can be taken back with the same bits.
  session_->keep_marks({.max_tokens = int64_t{1} << 40});
}

void Conversation::check_ids(const std::vector<int32_t>& ids) const {
  for (const int32_t id : ids) {
    if (id >= 0 && id < model_.config().vocab_size) continue;
    throw Error(ErrorCode::kOutOfRange, "token id outside the model's vocabulary",
                {.file = "the tokenizer",
                 .expected = "0 to " + std::to_string(model_.config().vocab_size - 1),
                 .got = std::to_string(id)});
  }
}

std::string Conversation::prompt() const {
  SEPLLM_CHECK(!turns_.empty());
  const std::vector<ChatMessage> asked(messages_.begin(), messages_.end() - 1);
  return settings_.chat.render(tokenizer_, asked, settings_.clock).bytes();
}

std::vector<int32_t> Conversation::known() const {
  std::vector<int32_t> ids = history_;
  ids.insert(ids.end(), unfed_.begin(), unfed_.end());
  return ids;
}

// messages_ ends with the user's current message.
Conversation::Prompt Conversation::next_prompt() const {
  const MarkedText text = settings_.chat.render(tokenizer_, messages_, settings_.clock);
  if (!turns_.empty()) {
    // The text that the tokens so far stand for: the previous prompt, and its answer as the model gave it. If
    // the new prompt begins with this text, the tokens are kept; if the answer were encoded again, it could
    // be cut into other tokens.
    const std::vector<ChatMessage> asked(messages_.begin(), messages_.end() - 2);
    std::string said = settings_.chat.render(tokenizer_, asked, settings_.clock).bytes();
    said += messages_[messages_.size() - 2].content;
    if (text.bytes().starts_with(said) && text.size() > said.size()) {
      Prompt out{static_cast<int64_t>(known().size()), encode_marked(tokenizer_, text, said.size())};
      check_ids(out.rest);
      if (!out.rest.empty()) return out;
    }
  }
  Prompt out{0, encode_marked(tokenizer_, text)};
  check_ids(out.rest);
  if (out.rest.empty()) throw Error(ErrorCode::kInvalidArgument, "the chat template writes an empty prompt");
  const std::vector<int32_t> so_far = known();
  const auto most = static_cast<std::ptrdiff_t>(std::min(so_far.size(), out.rest.size() - 1));
  out.kept = std::mismatch(so_far.begin(), so_far.begin() + most, out.rest.begin()).first - so_far.begin();
  out.rest.erase(out.rest.begin(), out.rest.begin() + out.kept);
  return out;
}

std::optional<Answer> Conversation::answer(const std::string& text, const OnText& on_text,
                                           const std::function<bool()>& go_on) {
  messages_.push_back({Role::kUser, text});
  Prompt next{0, {}};
  try {
    next = next_prompt();
  } catch (const Error&) {
    messages_.pop_back();
    throw;
  }
  // Where the prompt differs from the tokens so far, the cache goes back to that place.
  keep_fed(next.kept);
  const auto begin = static_cast<int64_t>(history_.size());
  Turn turn{begin, unfed_, 0, sampler_.state()};
  std::vector<int32_t> prompt(unfed_.begin(), unfed_.begin() + (next.kept - begin));
  prompt.insert(prompt.end(), next.rest.begin(), next.rest.end());
  const auto n_before = static_cast<int64_t>(prompt.size()) - 1;
  turn.answer = begin + n_before;
  session_->mark();
  // The last token is fed separately for every answer: a repeated answer then begins with it and gives the
  // same bits.
  const auto start = Clock::now();
  bool complete = go_on();
  if (complete && n_before > 0) {
    session_->feed(std::span(prompt).first(static_cast<size_t>(n_before)),
                   [&](int64_t, const Matrix&) { return complete = go_on(); });
  }
  if (!complete) {
    session_->rewind(begin);
    messages_.pop_back();
    return std::nullopt;
  }
  session_->mark();
  const std::chrono::duration<double> seconds = Clock::now() - start;
  history_.insert(history_.end(), prompt.begin(), prompt.end());
  turns_.push_back(std::move(turn));
  Answer out = generate_answer(on_text);
  out.fed += n_before;
  out.feed_seconds += seconds.count();
  return out;
}

// The session is now just before the last token of the last turn's prompt, with which history_ ends.
Answer Conversation::generate_answer(const OnText& on_text) {
  const Turn& turn = turns_.back();
  GenerateRequest request;
  request.before.assign(history_.begin(), history_.begin() + turn.begin);
  request.prompt.assign(history_.begin() + turn.begin, history_.end());
  request.n_fed = turn.answer - turn.begin;
  request.max_new_tokens = settings_.max_new_tokens;
  request.stop_ids = stops_.ids;
  request.stop_strings = stops_.strings;
  request.skip_special = true;
  Answer out{generate(*session_, sampler_, request, on_text), 1, 0.0};
  out.feed_seconds = out.result.prefill_seconds;
  fit_cache_to(out.result, request.prompt);
  messages_.push_back({Role::kAssistant, out.result.text, /*as_generated=*/true});
  return out;
}

// The sampled tokens may go beyond the text: a stop string, or what was held back when the answer ended.
void Conversation::fit_cache_to(const GenerateResult& result, const std::vector<int32_t>& prompt) {
  const std::vector<int32_t>& ids = result.ids;
  StreamDecoder decoder(tokenizer_, prompt, /*skip_special=*/true);
  size_t n = 0, bytes = 0;  // whole tokens of the text
  std::vector<size_t> ends;
  for (const int32_t id : ids) ends.push_back(bytes += decoder.push(id).size());
  n = ids.size();
  unfed_.clear();
  if (bytes > result.text.size()) {
    const auto beyond = std::upper_bound(ends.begin(), ends.end(), result.text.size());
    n = static_cast<size_t>(beyond - ends.begin());
    // Tokens that have not given any text yet belong to the character that is cut off.
    while (n > 0 && ends[n - 1] == (n > 1 ? ends[n - 2] : 0) && ends[n - 1] == result.text.size()) --n;
  }
  const size_t whole = n == 0 ? 0 : ends[n - 1];
  const int64_t first = turns_.back().answer + 1;
  const auto entered = std::min(ids.size(), static_cast<size_t>(session_->cache().length() - first));
  if (n < entered) session_->rewind(first + static_cast<int64_t>(n), Session::Replay::kFast);
  const auto split = static_cast<std::ptrdiff_t>(std::min(n, entered));
  history_.insert(history_.end(), ids.begin(), ids.begin() + split);
  unfed_.assign(ids.begin() + split, ids.begin() + static_cast<std::ptrdiff_t>(n));
  if (bytes > result.text.size() && whole < result.text.size()) {
    const auto rest = tokenizer_.encode(result.text.substr(whole),
                                        {.parse_special = false, .add_special = false, .continues = true});
    unfed_.insert(unfed_.end(), rest.begin(), rest.end());
  }
}

// Keeps at most the first n tokens in the cache; the others will be fed again.
void Conversation::keep_fed(int64_t n) {
  if (n >= static_cast<int64_t>(history_.size())) return;
  go_back(n);
  unfed_.insert(unfed_.begin(), history_.begin() + n, history_.end());
  history_.resize(static_cast<size_t>(n));
}

void Conversation::go_back(int64_t position) {
  if (session_->marks().before(position) != nullptr) {
    session_->rewind(position);
  } else {
    // The position lies before the point where a state without marks was loaded (a file of an earlier
    // version), so the session begins again.
    open_session();
    session_->feed(std::span(history_).first(static_cast<size_t>(position)));
  }
}

Answer Conversation::retry(std::optional<int64_t> seed, const OnText& on_text) {
  SEPLLM_CHECK(!turns_.empty());
  const Turn& turn = turns_.back();
  std::vector<int32_t> ids = known();
  ids.resize(static_cast<size_t>(turn.answer) + 1);
  if (static_cast<int64_t>(history_.size()) < turn.answer) {
    // Taking back a later turn has left the cache at a place before this prompt, so the prompt is fed again,
    // as it was.
    keep_fed(turn.begin);
    const auto n_fed = history_.size();
    session_->feed(std::span(ids).subspan(n_fed, static_cast<size_t>(turn.answer) - n_fed),
                   [](int64_t, const Matrix&) { return true; });
  } else {
    go_back(turn.answer);
  }
  session_->mark();
  history_ = std::move(ids);
  messages_.pop_back();
  const int64_t last = sampler_.state().seed;
  sampler_.restore({seed ? *seed : last == INT64_MAX ? 0 : last + 1, turn.sampler.counter});
  return generate_answer(on_text);
}

std::string Conversation::undo() {
  SEPLLM_CHECK(!turns_.empty());
  const Turn turn = turns_.back();
  keep_fed(turn.begin);
  unfed_.resize(static_cast<size_t>(turn.begin) - history_.size());
  unfed_.insert(unfed_.end(), turn.before.begin(), turn.before.end());
  messages_.pop_back();
  std::string said = std::move(messages_.back().content);
  messages_.pop_back();
  turns_.pop_back();
  sampler_.restore(turn.sampler);
  return said;
}

}  // namespace sepllm
