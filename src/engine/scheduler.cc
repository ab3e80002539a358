#include "engine/scheduler.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "kernels/linear/linear.h"

namespace sepllm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
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
        session(model, request.policy, ctx),
        sampler(request.sampling, model.config().vocab_size),
        continuation(model, request.generate, sampler.recent_tokens(), request.on_text) {}

  std::span<const int32_t> prompt() const { return request.generate.prompt; }
  bool in_prompt() const { return fed < prompt().size(); }

  int64_t id;
  SchedulerRequest request;
  Session session;
  Sampler sampler;
  Continuation continuation;
  size_t fed = 0;     // tokens of the prompt
  int32_t next = -1;  // sampled, to be fed
  bool done = false;
  Clock::time_point start = Clock::now();
};

Scheduler::Scheduler(const Model& model, const Context& ctx, int64_t max_active)
    : model_(model), ctx_(ctx), max_active_(max_active) {
  SEPLLM_CHECK(max_active >= 1);
}

Scheduler::~Scheduler() = default;

int64_t Scheduler::add(SchedulerRequest request) {
  SEPLLM_CHECK(!request.generate.prompt.empty());
  // The session is made now, so that settings that do not fit are the caller's error; caches start empty.
  waiting_.push_back(std::make_unique<Slot>(model_, ctx_, next_id_, std::move(request)));
  return next_id_++;
}

void Scheduler::cancel(int64_t id) {
  const auto end = [&](const std::unique_ptr<Slot>& slot) {
    if (slot->id != id || slot->done) return;
    slot->continuation.end("cancelled");
    slot->done = true;
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
  while (!waiting_.empty() && n_active() < max_active_) {
    active_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    active_.back()->start = Clock::now();
  }
}

// The next chunk of one prompt, in turn.
bool Scheduler::feed_prompt() {
  for (size_t k = 0; k < active_.size(); ++k) {
    Slot& slot = *active_[(next_prompt_ + k) % active_.size()];
    if (slot.done || !slot.in_prompt()) continue;
    next_prompt_ = (next_prompt_ + k + 1) % active_.size();
    const auto left = slot.prompt().subspan(slot.fed);
    const auto n =
        static_cast<size_t>(std::min({static_cast<int64_t>(left.size()), slot.request.policy.prefill_chunk,
                                      slot.session.cache().max_chunk()}));
    try {
      const bool last = n == left.size();
      const auto& go_on = slot.request.generate.go_on;
      if (go_on && !go_on()) {
        slot.continuation.end("cancelled");
        slot.done = true;
        return true;
      }
      if (last) {
        const std::span<const float> logits = slot.session.advance(left);
        slot.fed += n;
        GenerateResult& result = slot.continuation.result();
        result.prefill_seconds = seconds_since(slot.start);
        slot.start = Clock::now();
        if (slot.continuation.ended()) {
          slot.done = true;
        } else {
          take(slot, logits);
        }
      } else {
        slot.session.feed(left.first(n), [](int64_t, const Matrix&) { return true; });
        slot.fed += n;
      }
    } catch (const Error&) {
      fail(slot);
    }
    return true;
  }
  return false;
}

// One token of each running sequence, in passes of as many rows as the few-row products take.
bool Scheduler::decode() {
  rows_.clear();
  for (const auto& slot : active_) {
    if (slot->done || slot->next < 0) continue;
    const auto& go_on = slot->request.generate.go_on;
    if (go_on && !go_on()) {
      slot->continuation.end("cancelled");
      slot->done = true;
      continue;
    }
    rows_.push_back(slot.get());
  }
  constexpr auto kMost = static_cast<size_t>(kFewRows);
  for (size_t begin = 0; begin < rows_.size(); begin += kMost)
    decode_rows(begin, std::min(begin + kMost, rows_.size()));
  return !rows_.empty();
}

void Scheduler::decode_rows(size_t begin, size_t end) {
  // A sequence that cannot take its token must not fail the others: it is found before the pass.
  batch_.clear();
  size_t n = begin;
  for (size_t k = begin; k < end; ++k) {
    Slot& slot = *rows_[k];
    const Sequence sequence{.tokens = {&slot.next, 1}, .cache = &slot.session.cache()};
    try {
      model_.decoder.check({&sequence, 1});
    } catch (const Error&) {
      fail(slot);
      continue;
    }
    rows_[n++] = &slot;
    batch_.push_back(sequence);
  }
  if (batch_.empty()) return;
  const auto n_rows = static_cast<int64_t>(batch_.size());
  const int64_t vocab = model_.config().vocab_size;
  logits_.resize(std::max(logits_.size(), static_cast<size_t>(n_rows * vocab)));
  {
    const Arena::Scope scope(ctx_.arena);
    const Matrix hidden = model_.decoder.forward(ctx_, batch_);
    model_.decoder.logits(ctx_, hidden, {logits_.data(), n_rows, vocab, vocab});
  }
  for (int64_t r = 0; r < n_rows; ++r) {
    Slot& slot = *rows_[begin + static_cast<size_t>(r)];
    try {
      const std::span<const float> row(logits_.data() + r * vocab, static_cast<size_t>(vocab));
      if (!finite(row)) refuse_output(model_);
      take(slot, row);
    } catch (const Error&) {
      fail(slot);
    }
  }
}

void Scheduler::take(Slot& slot, std::span<const float> logits) {
  slot.next = slot.sampler.sample(logits, slot.continuation.recent());
  slot.done = !slot.continuation.take(slot.next);
}

void Scheduler::fail(Slot& slot) {
  slot.continuation.end("error", std::current_exception());
  slot.done = true;
}

void Scheduler::retire() {
  const auto ended = [&](std::unique_ptr<Slot>& slot) {
    if (!slot->done) return false;
    slot->continuation.finish();
    GenerateResult& result = slot->continuation.result();
    if (!slot->in_prompt()) result.decode_seconds = seconds_since(slot->start);
    if (slot->request.on_end) slot->request.on_end(result);
    return true;
  };
  std::erase_if(active_, ended);
  std::erase_if(waiting_, ended);
  next_prompt_ = active_.empty() ? 0 : next_prompt_ % active_.size();
}

}  // namespace sepllm
