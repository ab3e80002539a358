#include "engine/scheduler.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <span>
#include <utility>

#include "base/check.h"
#include "base/error.h"
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

struct Scheduler::Slot {
  Slot(const Model& model, const Context& ctx, int64_t number, SchedulerRequest r)
      : id(number),
        request(std::move(r)),
        session(request.session ? request.session : std::make_shared<Session>(model, request.policy, ctx)),
        sampler(request.sampling, model.config().vocab_size),
        continuation(model, request.generate, sampler.recent_tokens(), request.on_text),
        fed(static_cast<size_t>(request.generate.n_fed)) {}

  std::span<const int32_t> prompt() const { return request.generate.prompt; }
  bool in_prompt() const { return fed < prompt().size(); }
  // Whether the request is still wanted; if not, ends it.
  bool wanted() {
    if (!done && request.generate.go_on && !request.generate.go_on()) cancel();
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
  void sample(std::span<const float> logits) {
    next = sampler.sample(logits, continuation.recent());
    if (!continuation.take(next)) done = true;
  }

  int64_t id;
  SchedulerRequest request;
  std::shared_ptr<Session> session;
  Sampler sampler;
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

int64_t Scheduler::add(SchedulerRequest request) {
  const GenerateRequest& r = request.generate;
  SEPLLM_CHECK(r.n_fed >= 0 && static_cast<size_t>(r.n_fed) < r.prompt.size());
  SEPLLM_CHECK(r.n_fed == 0 || request.session != nullptr);
  // The session is created now, so that the caller gets the error for settings that do not fit. Caches start
  // empty.
  waiting_.push_back(std::make_unique<Slot>(model_, ctx_, next_id_, std::move(request)));
  return next_id_++;
}

void Scheduler::cancel(int64_t id) {
  const auto end = [&](const std::unique_ptr<Slot>& slot) {
    if (slot->id == id && !slot->done) slot->cancel();
  };
  std::for_each(active_.begin(), active_.end(), end);
  std::for_each(waiting_.begin(), waiting_.end(), end);
}

bool Scheduler::step() {
  admit();
  const bool fed = feed_prompt();
  const bool decoded = decode();
  const bool any = fed || decoded || !active_.empty();
  retire();
  return any || !waiting_.empty();
}

void Scheduler::admit() {
  // By index, because go_on may add requests.
  for (size_t k = 0; k < waiting_.size(); ++k) waiting_[k]->wanted();
  while (!waiting_.empty() && n_active() < max_active_) {
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
  const auto left = slot.prompt().subspan(slot.fed);
  const auto n = static_cast<size_t>(slot.session->next_chunk(static_cast<int64_t>(left.size())));
  if (n < left.size()) {
    slot.session->feed(left.first(n));
    slot.fed += n;
    return;
  }
  const std::span<const float> logits = slot.session->advance(left);
  slot.fed += n;
  slot.continuation.result().prefill_seconds = elapsed_since(slot.start);
  slot.start = Clock::now();
  if (slot.continuation.ended()) {
    slot.done = true;
  } else {
    slot.sample(logits);
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
      const std::span<const float> row(logits_.data() + static_cast<int64_t>(r) * vocab,
                                       static_cast<size_t>(vocab));
      if (!finite(row)) refuse_output(model_);
      slot.session->entered({&slot.next, 1});
      slot.sample(row);
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
    slot->continuation.finish();
    GenerateResult& result = slot->continuation.result();
    if (!slot->in_prompt()) result.decode_seconds = elapsed_since(slot->start);
    if (slot->request.on_end) slot->request.on_end(result);
  }
}

}  // namespace sepllm
