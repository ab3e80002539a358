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

std::span<const float> row_of(const Matrix& one) { return {one.data, static_cast<size_t>(one.n_cols)}; }

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
  bool completes(std::span<const int32_t> chunk) const { return fed + chunk.size() == prompt().size(); }
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
  std::vector<TokenScore> scores;         // that on_text gets next
  std::vector<TokenScore> prompt_scores;  // that on_prompt gets next
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

// Feeds the next chunk of one prompt; the prompts take turns. Chunks of few tokens wait for the decoding pass
// instead, as many as leave it rows of equal bits.
bool Scheduler::feed_prompt() {
  constexpr int64_t kMost = ops::kRowsOfEqualBits;
  joined_.clear();
  const int64_t n_decoding = std::count_if(active_.begin(), active_.end(),
                                           [](const auto& slot) { return !slot->done && slot->next >= 0; });
  int64_t room = kMost - n_decoding % kMost;
  bool any = false;
  const size_t first = next_prompt_, n_active = active_.size();  // (choices that split off are added behind)
  for (size_t k = 0; k < n_active; ++k) {
    Slot& slot = *active_[(first + k) % n_active];
    if (slot.done || !slot.in_prompt() || !slot.wanted()) continue;
    if (repeats_joined(slot)) break;
    any = true;
    if (!slot.attempt([&] { begin_prompt(slot); }) || !slot.in_prompt()) continue;
    const std::span<const int32_t> chunk = next_chunk(slot);
    if (std::ssize(chunk) > room && !joined_.empty()) break;  // the next step begins with it
    next_prompt_ = (first + k + 1) % n_active;
    if (std::ssize(chunk) > room) {
      slot.attempt([&] { feed_chunk(slot, chunk); });
      break;
    }
    joined_.push_back({&slot, chunk});
    room -= std::ssize(chunk);
  }
  return any;
}

// Whether a request that waits to begin would do well to wait for a prompt that begins in the same way and is
// about to be fed.
bool Scheduler::repeats_joined(const Slot& slot) const {
  constexpr int64_t kFew = 8;
  if (slot.session) return false;
  return std::any_of(joined_.begin(), joined_.end(), [&](const Row& row) {
    const auto own = slot.prompt(), other = row.slot->prompt();
    const auto n = std::mismatch(own.begin(), own.end(), other.begin(), other.end()).first - own.begin();
    return n > static_cast<int64_t>(row.slot->fed) + kFew;
  });
}

// Chooses the session of a request that begins. If it knows the whole prompt, decoding begins, too.
void Scheduler::begin_prompt(Slot& slot) {
  if (slot.session) return;
  const SchedulerRequest::Start start = slot.job->request.on_start();
  const int64_t n_prompt = std::ssize(slot.prompt());
  const int64_t n_hidden = std::ssize(start.last_hidden);
  SEPLLM_CHECK(start.session && start.n_fed >= 0 && start.n_fed <= n_prompt);
  SEPLLM_CHECK(start.n_fed < n_prompt || n_hidden == model_.config().hidden_size);
  slot.session = start.session;
  slot.fed = static_cast<size_t>(start.n_fed);
  slot.job->cut = start.cut;
  if (slot.in_prompt()) return;
  const int64_t vocab = model_.config().vocab_size;
  hidden_ = start.last_hidden;
  logits_.resize(std::max(logits_.size(), static_cast<size_t>(vocab)));
  const Matrix logits{logits_.data(), 1, vocab, vocab};
  if (!slot.continuation.ended()) {
    const Arena::Scope scope(ctx_.arena);
    model_.decoder.logits(ctx_, {hidden_.data(), 1, n_hidden, n_hidden}, logits);
    if (!finite(row_of(logits))) refuse_output(model_);
  }
  begin_decoding(slot, logits);
}

// The tokens that are fed next.
std::span<const int32_t> Scheduler::next_chunk(const Slot& slot) {
  const auto left = slot.prompt().subspan(slot.fed);
  const auto to_cut = slot.job->cut - static_cast<int64_t>(slot.fed);
  const int64_t known = to_cut > 0 ? std::min(to_cut, std::ssize(left)) : std::ssize(left);
  return left.first(static_cast<size_t>(slot.session->next_chunk(known)));
}

// A chunk in a pass of its own.
void Scheduler::feed_chunk(Slot& slot, std::span<const int32_t> chunk) {
  const int64_t vocab = model_.config().vocab_size;
  slot.session->feed(chunk, [&](int64_t, const Matrix& hidden) {
    score_chunk(slot, hidden);
    if (!slot.completes(chunk)) return true;
    hidden_.assign(hidden.row(hidden.n_rows - 1), hidden.row(hidden.n_rows - 1) + hidden.n_cols);
    if (slot.continuation.ended()) return true;
    logits_.resize(std::max(logits_.size(), static_cast<size_t>(vocab)));
    model_.decoder.logits(ctx_, hidden.rows(hidden.n_rows - 1, 1), {logits_.data(), 1, vocab, vocab});
    return true;
  });
  const int64_t n_hidden = model_.config().hidden_size;
  chunk_entered(slot, chunk, {hidden_.data(), 1, n_hidden, n_hidden}, {logits_.data(), 1, vocab, vocab});
}

// The session has the chunk. After its last token, if it completes a prompt: `hidden` [1, hidden_size], and,
// if the prompt is continued, `logits` [1, vocab_size].
void Scheduler::chunk_entered(Slot& slot, std::span<const int32_t> chunk, const Matrix& hidden,
                              const Matrix& logits) {
  const bool complete = slot.completes(chunk);
  const bool continues = complete && !slot.continuation.ended();
  if (!finite(slot.prompt_scores) || (continues && !finite(row_of(logits)))) refuse_output(model_);
  const int64_t first = static_cast<int64_t>(slot.fed) + 1;
  slot.fed += chunk.size();
  const auto& on_prompt = slot.job->request.on_prompt;
  if (on_prompt) {
    const auto last_hidden = complete ? row_of(hidden) : std::span<const float>();
    on_prompt({static_cast<int64_t>(slot.fed), std::ssize(slot.prompt()), first, slot.prompt_scores,
               last_hidden, *slot.session});
  }
  slot.prompt_scores.clear();
  if (complete) begin_decoding(slot, logits);
}

// hidden: of the chunk's tokens. Each predicts the next token of the prompt.
void Scheduler::score_chunk(Slot& slot, const Matrix& hidden) const {
  slot.prompt_scores.clear();
  if (!slot.job->request.score_prompt) return;
  const auto targets = slot.prompt().subspan(slot.fed + 1);
  const int64_t n = std::min(hidden.n_rows, std::ssize(targets));
  score_hidden(ctx_, model_.decoder, hidden.rows(0, n), targets.first(static_cast<size_t>(n)),
               std::max<int64_t>(0, slot.job->request.n_top), &slot.prompt_scores);
}

// The prompt is complete: each choice takes its first token.
void Scheduler::begin_decoding(Slot& slot, const Matrix& logits) {
  slot.continuation.result().prefill_seconds = elapsed_since(slot.start);
  slot.start = Clock::now();
  if (slot.continuation.ended()) {
    slot.done = true;
    return;
  }
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

// Decodes one token of each running sequence, together with the chunks that have joined, in passes of at most
// as many rows as are independent of each other.
bool Scheduler::decode() {
  rows_.clear();
  for (const auto& slot : active_) {
    if (!slot->done && slot->next >= 0 && slot->wanted()) rows_.push_back({slot.get(), {&slot->next, 1}});
  }
  last_step_.rows = std::ssize(rows_);
  for (const Row& row : joined_) {
    if (!row.slot->done) rows_.push_back(row);
  }
  int64_t n_rows = 0;
  size_t begin = 0;
  for (size_t k = 0; k < rows_.size(); ++k) {
    const int64_t n = std::ssize(rows_[k].tokens);
    if (n_rows + n > ops::kRowsOfEqualBits) {
      run_rows(begin, k);
      begin = k;
      n_rows = 0;
    }
    n_rows += n;
  }
  if (begin < rows_.size()) run_rows(begin, rows_.size());
  return !rows_.empty();
}

void Scheduler::run_rows(size_t begin, size_t end) {
  // A sequence that cannot take its token, or has no memory for it, must not fail the others, so it is found
  // before the pass.
  batch_.clear();
  batch_rows_.clear();
  for (size_t k = begin; k < end; ++k) {
    const Row& row = rows_[k];
    if (row.slot->attempt([&] { batch_.push_back(row.slot->session->prepare(row.tokens)); }))
      batch_rows_.push_back(row);
  }
  if (batch_.empty() || !forward_batch()) return;
  const int64_t vocab = model_.config().vocab_size, n_hidden = model_.config().hidden_size;
  for (size_t r = 0; r < batch_rows_.size(); ++r) {
    const Row row = batch_rows_[r];
    Slot& slot = *row.slot;
    slot.attempt([&] {
      const auto at = static_cast<int64_t>(r);
      const Matrix logits{logits_.data() + at * vocab, 1, vocab, vocab};
      slot.session->entered(row.tokens);
      if (slot.in_prompt())
        return chunk_entered(slot, row.tokens, {hidden_.data() + at * n_hidden, 1, n_hidden, n_hidden},
                             logits);
      if (!finite(row_of(logits))) refuse_output(model_);
      slot.sample(ctx_, logits);
    });
  }
}

// Computes the logits after the last token of each of the batch's rows, and the scores of prompts. False: the
// pass itself has failed (no scratch memory), and with it all of its sequences.
bool Scheduler::forward_batch() {
  const auto n = std::ssize(batch_);
  const int64_t vocab = model_.config().vocab_size;
  const auto forward = [&] {
    logits_.resize(std::max(logits_.size(), static_cast<size_t>(n * vocab)));
    const Arena::Scope scope(ctx_.arena);
    const Matrix hidden = model_.decoder.forward(ctx_, batch_);
    hidden_.resize(std::max(hidden_.size(), static_cast<size_t>(n * hidden.n_cols)));
    const Matrix last{hidden_.data(), n, hidden.n_cols, hidden.n_cols};
    int64_t at = 0;
    for (int64_t r = 0; r < n; ++r) {
      const Row& row = batch_rows_[static_cast<size_t>(r)];
      const int64_t n_tokens = std::ssize(row.tokens);
      if (row.slot->in_prompt()) score_chunk(*row.slot, hidden.rows(at, n_tokens));
      at += n_tokens;
      std::copy_n(hidden.row(at - 1), hidden.n_cols, last.row(r));
    }
    model_.decoder.logits(ctx_, last, {logits_.data(), n, vocab, vocab});
  };
  Slot& first = *batch_rows_[0].slot;
  if (first.attempt(forward)) return true;
  for (const Row& row : batch_rows_) {
    if (row.slot != &first) row.slot->fail(first.continuation.result().failure);
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
