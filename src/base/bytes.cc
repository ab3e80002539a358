#include "base/bytes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/sign_of_life.h"

namespace sepllm {
namespace {

// Bijective in both arguments: products with odd numbers carry low bits upwards, and shifts bring them down
// again.
uint64_t mix(uint64_t lane, uint64_t word) {
  uint64_t x = (lane ^ word) * 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 32)) * 0xD6E8FEB86659FD93;
  return x ^ (x >> 29);
}

}  // namespace

void ByteReader::refuse(const std::string& message) const {
  throw Error(ErrorCode::kBadFile, message, {.file = file_, .place = place_});
}

void ByteReader::need(uint64_t n) const {
  if (n <= left_.size()) return;
  throw Error(ErrorCode::kBadFile, "ends too early",
              {.file = file_,
               .place = place_,
               .expected = fmt::format("{} more bytes", n),
               .got = std::to_string(left_.size())});
}

void ByteReader::bytes(void* to, uint64_t n) {
  need(n);
  if (n == 0) return;
  std::memcpy(to, left_.data(), n);
  left_.remove_prefix(n);
}

int64_t ByteReader::integer(const char* what, int64_t min, int64_t max) {
  const auto v = value<int64_t>();
  if (v >= min && v <= max) return v;
  throw Error(ErrorCode::kBadFile, fmt::format("wrong {}", what),
              {.file = file_,
               .place = place_,
               .expected = min == max ? std::to_string(min) : fmt::format("{} to {}", min, max),
               .got = std::to_string(v)});
}

void ByteReader::finish() const {
  if (!left_.empty()) refuse(fmt::format("has {} bytes too many", left_.size()));
}

void Hash64::take(const unsigned char* block) {
  for (int k = 0; k < 4; ++k) {
    uint64_t word;
    std::memcpy(&word, block + 8 * k, 8);
    lanes_[k] = mix(lanes_[k], word);
  }
}

void Hash64::add(const void* from, uint64_t n) {
  const auto* p = static_cast<const unsigned char*>(from);
  while (n > 0) {
    const uint64_t held = n_ % kBlock;
    if (held == 0 && n >= kBlock) {
      sign_of_life();  // the bytes may come from a slow disk
      const uint64_t whole = std::min<uint64_t>(n, uint64_t{1} << 20) / kBlock * kBlock;
      for (const unsigned char* end = p + whole; p < end; p += kBlock) take(p);
      n -= whole;
      n_ += whole;
      continue;
    }
    const uint64_t part = std::min(n, kBlock - held);
    std::memcpy(pending_ + held, p, part);
    p += part;
    n -= part;
    n_ += part;
    if (held + part == kBlock) take(pending_);
  }
}

uint64_t Hash64::value() const {
  Hash64 last = *this;
  if (const uint64_t held = n_ % kBlock; held != 0) {
    std::memset(last.pending_ + held, 0, kBlock - held);
    last.take(last.pending_);
  }
  uint64_t h = n_;
  for (const uint64_t lane : last.lanes_) h = mix(h, lane);
  return h;
}

std::string hex64(uint64_t value) { return fmt::format("{:016x}", value); }

}  // namespace sepllm
