#include "apps/bench/batch_case.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "model/decoder.h"
#include "model/weights.h"
#include "tensor/arena.h"

namespace sepllm {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

BatchCase::BatchCase(const Model& model, const PolicySettings& settings, const MadeUpTokens& tokens,
                     const BatchShape& shape, const Context& ctx)
    : model_(model),
      chunk_(settings.prefill_chunk),
      ctx_(ctx),
      shape_(shape),
      logits_(static_cast<size_t>(shape.n_sequences * model.config().vocab_size)),
      sampler_({}, model.config().vocab_size) {
  const TokenSet separators = model.separators(settings);
  for (int64_t s = 0; s < shape.n_sequences; ++s) {
    KvCache cache(model.decoder.kv_layout(settings.kv), settings.policy, separators);
    cache.fill(
        shape.depth, [&](int64_t position) { return tokens.at(position); }, static_cast<uint64_t>(s + 1));
    cache.reserve(shape.n_prompt + shape.n_decoded);
    std::string mark;
    StringWriter out(&mark);
    cache.save_mark(out);
    marks_.push_back(std::move(mark));
    caches_.push_back(std::move(cache));
  }
  for (int64_t t = 0; t < shape.n_prompt + shape.n_decoded; ++t) ids_.push_back(tokens.at(shape.depth + t));
}

void BatchCase::read_prompt(KvCache* cache) {
  for (int64_t at = 0; at < shape_.n_prompt;) {
    const int64_t n = std::min({chunk_, cache->max_chunk(), shape_.n_prompt - at});
    const Arena::Scope scope(ctx_.arena);
    const Sequence sequence{
        .tokens = std::span(ids_).subspan(static_cast<size_t>(at), static_cast<size_t>(n)), .cache = cache};
    model_.decoder.check({&sequence, 1});
    const Matrix hidden = model_.decoder.forward(ctx_, {&sequence, 1});
    at += n;
    if (at < shape_.n_prompt) continue;
    const int64_t n_logits = model_.config().vocab_size;  // only the last token's are needed
    model_.decoder.logits(ctx_, hidden.rows(n - 1, 1), {logits_.data(), 1, n_logits, n_logits});
  }
}

void BatchCase::decode_step(int64_t t) {
  const Arena::Scope scope(ctx_.arena);
  const auto id = std::span(ids_).subspan(static_cast<size_t>(shape_.n_prompt + t), 1);
  std::vector<Sequence> sequences;
  for (KvCache& cache : caches_) sequences.push_back({.tokens = id, .cache = &cache});
  model_.decoder.check(sequences);
  const Matrix hidden = model_.decoder.forward(ctx_, sequences);
  const int64_t n_logits = model_.config().vocab_size;
  const Matrix logits{logits_.data(), shape_.n_sequences, n_logits, n_logits};
  model_.decoder.logits(ctx_, hidden, logits);
  for (int64_t s = 0; s < shape_.n_sequences; ++s)
    sampler_.sample({logits.row(s), static_cast<size_t>(n_logits)}, {});
}

BatchCase::Seconds BatchCase::run() {
  for (size_t s = 0; s < caches_.size(); ++s) {
    ByteReader in(marks_[s], "memory", "mark");
    caches_[s].rewind(in);
  }
  Seconds out;
  auto start = std::chrono::steady_clock::now();
  for (KvCache& cache : caches_) read_prompt(&cache);
  out.prompt = seconds_since(start);
  start = std::chrono::steady_clock::now();
  for (int64_t t = 0; t < shape_.n_decoded; ++t) decode_step(t);
  out.decode = seconds_since(start);
  return out;
}

int64_t BatchCase::kv_bytes() const {
  int64_t bytes = 0;
  for (const KvCache& cache : caches_) bytes += cache.held_bytes();
  return bytes;
}

double BatchCase::step_bytes() const {
  double bytes = static_cast<double>(multiplied_bytes(model_.decoder.weights()));
  for (const KvCache& cache : caches_)
    bytes += cache.stats().mean_keys() * static_cast<double>(cache.layout().n_layers * cache.slot_bytes());
  return bytes;
}

}  // namespace sepllm
