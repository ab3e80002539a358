#include "engine/scheduler.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <memory>
#include <new>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "engine/score_tokens.h"
#include "ops/ops.h"

namespace sepllm {
namespace {

using Clock = std::chrono::steady_clock;

double elapsed_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

bool finite(std::span<const float> logits) {
  return std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
}

}  // namespace

// What the choices of a request share.
struct Scheduler::Job {
  int64_t id;
  SchedulerRequest request;
  int64_t cut = 0;
  bool split = false;  // whether its choices have slots of their own; until then slot 0 stands for all
};

struct Scheduler::Slot {
  Slot(const Model& model, std::shared_ptr<Job> its_job, int64_t number)
      : job(std::move(its_job)),
        choice(number),
        sampler(sampling_of(*job, number), model.config().vocab_size),
        continuation(model, job->request.generate, sampler.recent_tokens(),
                     [this](const std::string& text) { return show(text); }),
        fed(static_cast<size_t>(job->request.generate.n_fed)) {}

  static SamplingSettings sampling_of(const Job& job, int64_t choice) {
    SamplingSettings out = job.request.sampling;
    out.seed = static_cast<int64_t>(static_cast<uint64_t>(out.seed) + static_cast<uint64_t>(choice));
    return out;
  }
  std::span<const int32_t> prompt() const { return job->request.generate.prompt; }
  bool in_prompt() const { return fed < prompt().size(); }
  int64_t n_sequences() const { return job->split ? 1 : job->request.n_choices; }
  // Whether the request is still wanted; if not, ends it.
  bool wanted() {
    const GenerateRequest& r = job->request.generate;
    if (!done && r.go_on && !r.go_on()) cancel();
    return !done;
  }
  void cancel() {
    continuation.end(FinishReason::kCancelled);
    done = true;
  }
  void fail(std::exception_ptr failure) {
    continuation.end(FinishReason::kError, std::move(failure));
    done = true;
  }
  // Runs `fn`, which concerns only this sequence. If it throws an Error, the sequence fails, and the result
  // is false.
  template <typename Fn>
  bool attempt(const Fn& fn) {
    try {
      fn();
      return true;
    } catch (const Error&) {
      fail(std::current_exception());
    } catch (const std::bad_alloc&) {
      fail(std::make_exception_ptr(Error(ErrorCode::kOutOfRange, "out of memory")));
    }
    return false;
  }
  // False: the request is cancelled.
  bool show(const std::string& text) {
    const bool more =
        !session || !job->request.on_text || job->request.on_text({choice, text, scores, *session});
    scores.clear();
    return more;
  }
  // logits: [1, vocab_size]
  void sample(const Context& ctx, const Matrix& logits) {
    next = sampler.sample({logits.data, static_cast<size_t>(logits.n_cols)}, continuation.recent());
    const int64_t n_top = job->request.n_top;
    if (n_top >= 0) score_logits(ctx, logits, {&next, 1}, n_top, &scores);
    done = !continuation.take(next);
    // Scores that no text took along: of a part of a character, or of the token that ended the text.
    if (!scores.empty() && !show("") && !done) cancel();
  }

  std::shared_ptr<Job> job;
  int64_t choice;
  std::shared_ptr<Session> session;  // null before on_start
  Sampler sampler;
  std::vector<TokenScore> scores;  // that on_text has not seen
  Continuation continuation;
  size_t fed;         // tokens of the prompt that were fed
  int32_t next = -1;  // the sampled token, which will be fed next
  bool done = false;
  Clock::time_point start = Clock::now();
};

Scheduler::Scheduler(const Model& model, const Context& ctx, int64_t max_active)
    : model_(model), ctx_(ctx), max_active_(max_active) {
  SEPLLM_CHECK(max_active >= 1);
}

Scheduler::~Scheduler() = default;

int64_t Scheduler::n_active() const {
  return std::accumulate(active_.begin(), active_.end(), int64_t{0},
                         [](int64_t sum, const auto& slot) { return sum + slot->n_sequences(); });
}

int64_t Scheduler::add(SchedulerRequest request) {
  const GenerateRequest& r = request.generate;
  SEPLLM_CHECK(r.n_fed >= 0 && static_cast<size_t>(r.n_fed) < r.prompt.size() && request.n_choices >= 1);
  SEPLLM_CHECK(r.n_fed == 0 || (request.session != nullptr && !request.on_start));
  auto job = std::make_shared<Job>(Job{next_id_, std::move(request)});
  auto slot = std::make_unique<Slot>(model_, job, 0);
  // The session is created now, so that the caller gets the error for settings that do not fit. Caches start
  // empty.
  slot->session = std::move(job->request.session);
  if (!slot->session && !job->request.on_start)
    slot->session = std::make_shared<Session>(model_, job->request.policy, ctx_);
  waiting_.push_back(std::move(slot));
  return next_id_++;
}

void Scheduler::cancel(int64_t id) {
  const auto end = [&](const std::unique_ptr<Slot>& slot) {
    if (slot->job->id == id && !slot->done) slot->cancel();
  };
  std::for_each(active_.begin(), active_.end(), end);
  std::for_each(waiting_.begin(), waiting_.end(), end);
}

void Scheduler::visit(FunctionRef<void(const SequenceState&)> fn) const {
  for (const auto& slot : active_) {
    fn({.id = slot->job->id,
        .choice = slot->choice,
        .fed = static_cast<int64_t>(slot->fed),
        .total = std::ssize(slot->prompt()),
        .new_tokens = slot->continuation.result().new_tokens,
        .session = slot->session.get()});
  }
}

bool Scheduler::step() {
  last_step_ = {};
  admit();
  last_step_.fed_prompt = feed_prompt();
  const bool decoded = decode();
  const bool any = last_step_.fed_prompt || decoded || !active_.empty();
  retire();
  return any || !waiting_.empty();
}

void Scheduler::admit() {
  // By index, because go_on may add requests.
  for (size_t k = 0; k < waiting_.size(); ++k) waiting_[k]->wanted();
  while (!waiting_.empty() &&
         (active_.empty() || n_active() + waiting_.front()->n_sequences() <= max_active_)) {
    active_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    active_.back()->start = Clock::now();
  }
}

// Feeds the next chunk of one prompt; the prompts take turns.
bool Scheduler::feed_prompt() {
  for (size_t k = 0; k < active_.size(); ++k) {
    Slot& slot = *active_[(next_prompt_ + k) % active_.size()];
    if (slot.done || !slot.in_prompt() || !slot.wanted()) continue;
    next_prompt_ = (next_prompt_ + k + 1) % active_.size();
    slot.attempt([&] { feed_chunk(slot); });
    return true;
  }
  return false;
}

void Scheduler::feed_chunk(Slot& slot) {
  const SchedulerRequest& request = slot.job->request;
  if (!slot.session) {
    const SchedulerRequest::Start start = request.on_start();
    SEPLLM_CHECK(start.session && start.n_fed >= 0 && start.n_fed < std::ssize(slot.prompt()));
    slot.session = start.session;
    slot.fed = static_cast<size_t>(start.n_fed);
    slot.job->cut = start.cut;
  }
  const auto left = slot.prompt().subspan(slot.fed);
  const auto to_cut = slot.job->cut - static_cast<int64_t>(slot.fed);
  const int64_t known = to_cut > 0 ? std::min(to_cut, std::ssize(left)) : std::ssize(left);
  const auto n = static_cast<size_t>(slot.session->next_chunk(known));
  const bool complete = n == left.size();
  const int64_t first = static_cast<int64_t>(slot.fed) + 1;
  const int64_t vocab = model_.config().vocab_size;
  scores_.clear();
  slot.session->feed(left.first(n), [&](int64_t, const Matrix& hidden) {
    if (request.score_prompt) score_chunk(slot, hidden);
    if (!complete || slot.continuation.ended()) return true;
    logits_.resize(std::max(logits_.size(), static_cast<size_t>(vocab)));
    model_.decoder.logits(ctx_, hidden.rows(hidden.n_rows - 1, 1), {logits_.data(), 1, vocab, vocab});
    if (!finite(std::span<const float>(logits_).first(static_cast<size_t>(vocab)))) refuse_output(model_);
    return true;
  });
  slot.fed += n;
  if (request.on_prompt) {
    request.on_prompt(
        {static_cast<int64_t>(slot.fed), std::ssize(slot.prompt()), first, scores_, *slot.session});
  }
  if (complete) begin_decoding(slot);
}

// Each token predicts the next one of the prompt.
void Scheduler::score_chunk(const Slot& slot, const Matrix& hidden) {
  const auto targets = slot.prompt().subspan(slot.fed + 1);
  const int64_t n = std::min(hidden.n_rows, std::ssize(targets));
  score_hidden(ctx_, model_.decoder, hidden.rows(0, n), targets.first(static_cast<size_t>(n)),
               std::max<int64_t>(0, slot.job->request.n_top), &scores_);
  if (!finite(scores_)) refuse_output(model_);
}

// The prompt is complete, and logits_ has what follows it: each choice takes its first token.
void Scheduler::begin_decoding(Slot& slot) {
  slot.continuation.result().prefill_seconds = elapsed_since(slot.start);
  slot.start = Clock::now();
  if (slot.continuation.ended()) {
    slot.done = true;
    return;
  }
  const int64_t vocab = model_.config().vocab_size;
  const Matrix logits{logits_.data(), 1, vocab, vocab};
  std::vector<Slot*> choices = {&slot};
  Job& job = *slot.job;
  for (int64_t c = 1; c < job.request.n_choices; ++c) {
    auto other = std::make_unique<Slot>(model_, slot.job, c);
    other->fed = slot.fed;
    other->continuation.result().prefill_seconds = slot.continuation.result().prefill_seconds;
    choices.push_back(other.get());
    active_.push_back(std::move(other));
  }
  job.split = true;
  for (Slot* choice : choices) {
    choice->attempt([&] {
      if (!choice->session)
        choice->session = std::make_shared<Session>(slot.session->fork(ctx_, Session::CopyMarks::kNo));
    });
  }
  for (Slot* choice : choices) {
    if (!choice->done) choice->attempt([&] { choice->sample(ctx_, logits); });
  }
}

// Decodes one token of each running sequence, in passes of at most as many rows as are independent of each
// other.
bool Scheduler::decode() {
  rows_.clear();
  for (const auto& slot : active_) {
    if (!slot->done && slot->next >= 0 && slot->wanted()) rows_.push_back(slot.get());
  }
  constexpr auto kMost = static_cast<size_t>(ops::kRowsOfEqualBits);
  for (size_t begin = 0; begin < rows_.size(); begin += kMost)
    decode_rows(begin, std::min(begin + kMost, rows_.size()));
  last_step_.rows = std::ssize(rows_);
  return !rows_.empty();
}

void Scheduler::decode_rows(size_t begin, size_t end) {
  // A sequence that cannot take its token, or has no memory for it, must not fail the others, so it is found
  // before the pass.
  batch_.clear();
  batch_slots_.clear();
  for (size_t k = begin; k < end; ++k) {
    Slot* slot = rows_[k];
    if (slot->attempt([&] { batch_.push_back(slot->session->prepare({&slot->next, 1})); }))
      batch_slots_.push_back(slot);
  }
  if (batch_.empty() || !forward_batch()) return;
  const int64_t vocab = model_.config().vocab_size;
  for (size_t r = 0; r < batch_slots_.size(); ++r) {
    Slot& slot = *batch_slots_[r];
    slot.attempt([&] {
      const Matrix row{logits_.data() + static_cast<int64_t>(r) * vocab, 1, vocab, vocab};
      if (!finite(std::span<const float>(row.data, static_cast<size_t>(vocab)))) refuse_output(model_);
      slot.session->entered({&slot.next, 1});
      slot.sample(ctx_, row);
    });
  }
}

// Computes the logits after the batch's tokens. False: the pass itself has failed (no scratch memory), and
// with it all of its sequences.
bool Scheduler::forward_batch() {
  const auto n_rows = static_cast<int64_t>(batch_.size());
  const int64_t vocab = model_.config().vocab_size;
  const auto forward = [&] {
    logits_.resize(std::max(logits_.size(), static_cast<size_t>(n_rows * vocab)));
    const Arena::Scope scope(ctx_.arena);
    const Matrix hidden = model_.decoder.forward(ctx_, batch_);
    model_.decoder.logits(ctx_, hidden, {logits_.data(), n_rows, vocab, vocab});
  };
  Slot& first = *batch_slots_[0];
  if (first.attempt(forward)) return true;
  for (Slot* slot : batch_slots_) {
    if (slot != &first) slot->fail(first.continuation.result().failure);
  }
  return false;
}

// Ended sequences are removed before their callbacks are called, which may add others.
void Scheduler::retire() {
  Slots ended;
  const auto take_ended = [&](auto& slots) {
    for (auto& slot : slots) {
      if (slot->done) ended.push_back(std::move(slot));
    }
    std::erase(slots, nullptr);
  };
  take_ended(active_);
  take_ended(waiting_);
  next_prompt_ = active_.empty() ? 0 : next_prompt_ % active_.size();
  for (const auto& slot : ended) {
    const Job& job = *slot->job;
    slot->continuation.finish();
    GenerateResult& result = slot->continuation.result();
    if (!slot->in_prompt()) result.decode_seconds = elapsed_since(slot->start);
    if (!job.request.on_end) continue;
    const int64_t n_ended = slot->n_sequences();
    for (int64_t c = slot->choice; c < slot->choice + n_ended; ++c)
      job.request.on_end({c, result, slot->session.get()});
  }
}

}  // namespace sepllm
