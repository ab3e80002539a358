#include "train/token_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "base/error.h"
#include "base/rng.h"
#include "base/sign_of_life.h"

namespace sepllm {

// A Feistel network over the next even number of bits; a result outside [0, n) is permuted again.
int64_t permuted(uint64_t key, int64_t i, int64_t n) {
  SEPLLM_CHECK(i >= 0 && i < n);
  const int bits = std::max(1, (64 - std::countl_zero(static_cast<uint64_t>(n - 1)) + 1) / 2);
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  auto value = static_cast<uint64_t>(i);
  do {
    uint64_t left = value >> bits, right = value & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t mixed = left ^ (Rng(key, round).bits(right) & mask);
      left = right;
      right = mixed;
    }
    value = left << bits | right;
  } while (value >= static_cast<uint64_t>(n));
  return static_cast<int64_t>(value);
}

TokenData::TokenData(const std::vector<TokenSource>& sources, int64_t seq_length, int64_t vocab_size,
                     uint64_t seed, SampleRange range)
    : seq_length_(seq_length), vocab_size_(vocab_size), seed_(seed), used_(sources.size()) {
  SEPLLM_CHECK(!sources.empty() && seq_length >= 1 && range.begin >= 0 && range.end <= 1);
  Hash64 hash;
  for (const TokenSource& source : sources) {
    if (!(source.weight > 0) || !std::isfinite(source.weight)) {
      throw Error(ErrorCode::kInvalidArgument, "weights of data must be positive numbers",
                  {.file = source.prefix, .got = fmt::format("{}", source.weight)});
    }
    auto file = std::make_unique<File>(File{TokenFile(source.prefix), source.weight, 0, 0});
    const int64_t total = std::max<int64_t>(file->tokens.n_tokens() - 1, 0) / seq_length;
    const auto share = [&](double s) { return std::llround(s * static_cast<double>(total)); };
    file->first = share(range.begin);
    file->count = share(range.end) - file->first;
    if (file->count < 1) {
      throw Error(ErrorCode::kInvalidArgument, "too few tokens for a single sample",
                  {.file = source.prefix,
                   .expected = fmt::format("at least {} tokens in the part [{}, {}) of the file",
                                           seq_length + 1, range.begin, range.end),
                   .got = fmt::format("{} tokens in the file", file->tokens.n_tokens())});
    }
    const uint64_t own = file->tokens.fingerprint();
    hash.add(&own, sizeof own);
    hash.add(&source.weight, sizeof source.weight);
    files_.push_back(std::move(file));
  }
  const int64_t settings[] = {seq_length, vocab_size, static_cast<int64_t>(seed)};
  hash.add(settings, sizeof settings);
  hash.add(&range, sizeof range);
  fingerprint_ = hash.value();
}

void TokenData::set_position(const Position& position) {
  bool fits = position.size() == used_.size();
  constexpr int64_t kMost = int64_t{1} << 56;  // so that sums do not overflow
  for (const int64_t n : position) fits = fits && n >= 0 && n < kMost;
  if (!fits) throw Error(ErrorCode::kBadFile, "the position in the data belongs to other data");
  used_ = position;
}

// The file that is furthest behind its share.
size_t TokenData::choose() const {
  double weights = 0;
  int64_t given = 1;  // including the coming sample
  for (size_t f = 0; f < files_.size(); ++f) {
    weights += files_[f]->weight;
    given += used_[f];
  }
  size_t best = 0;
  double most = -HUGE_VAL;
  for (size_t f = 0; f < files_.size(); ++f) {
    const double behind =
        files_[f]->weight / weights * static_cast<double>(given) - static_cast<double>(used_[f]);
    if (behind > most) {
      most = behind;
      best = f;
    }
  }
  return best;
}

void TokenData::skip() { ++used_[choose()]; }

void TokenData::next(Sample* sample) {
  sign_of_life();
  const size_t f = choose();
  const File& file = *files_[f];
  const int64_t pass = used_[f] / file.count, place = used_[f] % file.count;
  const uint64_t key = Rng(seed_, f).bits(static_cast<uint64_t>(pass));
  const int64_t first = (file.first + permuted(key, place, file.count)) * seq_length_;
  sample->source = static_cast<int64_t>(f);
  sample->first = first;
  sample->tokens.resize(static_cast<size_t>(seq_length_) + 1);
  file.tokens.read(first, sample->tokens, vocab_size_);
  sample->document_starts.assign(1, 0);
  int64_t d = file.tokens.document_of(first) + 1;
  for (; d < file.tokens.n_documents(); ++d) {
    const int64_t begin = file.tokens.document_begin(d) - first;
    if (begin >= seq_length_) break;
    if (begin > sample->document_starts.back()) sample->document_starts.push_back(begin);
  }
  ++used_[f];
}

std::vector<uint64_t> TokenData::content_hashes() const {
  std::vector<uint64_t> hashes;
  for (const auto& file : files_) hashes.push_back(file->tokens.content_hash());
  return hashes;
}

int64_t TokenData::n_samples() const {
  int64_t n = 0;
  for (const auto& file : files_) n += file->count;
  return n;
}

}  // namespace sepllm
