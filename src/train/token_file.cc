#include "train/token_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "base/sign_of_life.h"

namespace sepllm {
namespace {

constexpr std::string_view kMagic("MMIDIDX\x00\x00", 9);
constexpr int64_t kHeader = 9 + 8 + 1 + 8 + 8;
constexpr uint64_t kVersion = 1;
constexpr int64_t kMostOfUint16 = 65'500;
constexpr int64_t kItemsPerSign = 65'536;  // a long index may come from a slow disk

template <typename T>
T at(const char* array, int64_t i) {
  T value;
  std::memcpy(&value, array + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <typename T>
void convert(const char* from, std::span<int32_t> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    const T value = at<T>(from, static_cast<int64_t>(i));
    const bool fits = value >= 0 && static_cast<uint64_t>(value) <= INT32_MAX;
    out[i] = fits ? static_cast<int32_t>(value) : -1;
  }
}

// A number of bytes as an unsigned number of 32 bits holds it.
int64_t low_part(int64_t bytes) { return static_cast<uint32_t>(bytes); }

}  // namespace

int64_t token_bytes(TokenType type) {
  switch (type) {
    case TokenType::kUint8:
    case TokenType::kInt8:
      return 1;
    case TokenType::kInt16:
    case TokenType::kUint16:
      return 2;
    case TokenType::kInt32:
      return 4;
    case TokenType::kInt64:
      return 8;
  }
  return 0;
}

TokenFile::TokenFile(const std::string& prefix)
    : prefix_(prefix),
      index_(std::make_unique<MappedFile>(prefix + ".idx")),
      data_(std::make_unique<MappedFile>(prefix + ".bin")) {
  read_index();
  check_items();
  Hash64 hash;
  hash.add(index_->bytes().data(), std::min<uint64_t>(index_->bytes().size(), uint64_t{1} << 24));
  constexpr int64_t kSamples = 64, kSample = 4096;
  const auto size = static_cast<int64_t>(data_->bytes().size());
  for (int64_t s = 0; s < kSamples; ++s) {
    const int64_t from = size / kSamples * s;
    hash.add(data_->bytes().data() + from, static_cast<uint64_t>(std::min(kSample, size - from)));
  }
  fingerprint_ = hash.value();
}

uint64_t TokenFile::content_hash() const {
  constexpr uint64_t kWhole = uint64_t{1} << 32, kPieces = uint64_t{1} << 16;
  Hash64 hash;
  for (const std::string_view bytes : {index_->bytes(), data_->bytes()}) {
    const uint64_t size = bytes.size();
    hash.add(&size, sizeof size);
    if (size <= kWhole) {
      hash.add(bytes.data(), size);
      continue;
    }
    for (uint64_t p = 0; p < kPieces; ++p) {
      const uint64_t from = size / kPieces * p;
      hash.add(bytes.data() + from, std::min(kWhole / kPieces, size - from));
    }
  }
  return hash.value();
}

void TokenFile::read_index() {
  const std::string_view bytes = index_->bytes();
  const std::string& file = index_->path();
  const auto have = static_cast<int64_t>(bytes.size());
  if (have < kHeader || bytes.substr(0, kMagic.size()) != kMagic) {
    throw Error(ErrorCode::kBadFile, "not the index of a token file",
                {.file = file, .expected = "the magic MMIDIDX and a header of 34 bytes"});
  }
  if (const auto version = at<uint64_t>(bytes.data() + 9, 0); version != kVersion) {
    throw Error(ErrorCode::kUnsupported, "unknown version of the index",
                {.file = file, .place = "byte 9", .expected = "1", .got = std::to_string(version)});
  }
  type_ = static_cast<TokenType>(bytes[17]);
  if (token_bytes(type_) == 0) {
    throw Error(ErrorCode::kUnsupported, "unknown type of tokens",
                {.file = file,
                 .place = "byte 17",
                 .expected = "1 to 5 or 8 (integers)",
                 .got = std::to_string(static_cast<unsigned char>(bytes[17]))});
  }
  const auto n_items = at<uint64_t>(bytes.data() + 18, 0), n_bounds = at<uint64_t>(bytes.data() + 26, 0);
  constexpr uint64_t kMost = uint64_t{1} << 56;
  const bool sane = n_items < kMost && n_bounds < kMost && n_bounds >= 1;
  const uint64_t want = static_cast<uint64_t>(kHeader) + 12 * n_items + 8 * n_bounds;
  if (!sane || want != bytes.size()) {
    throw Error(ErrorCode::kBadFile, "the index is cut off or has another length than its header says",
                {.file = file,
                 .expected = sane ? fmt::format("{} bytes for {} items and {} document bounds", want, n_items,
                                                n_bounds)
                                  : "a number of items and of document bounds (at least one)",
                 .got = fmt::format("{} bytes", bytes.size())});
  }
  n_items_ = static_cast<int64_t>(n_items);
  n_documents_ = static_cast<int64_t>(n_bounds) - 1;
  sizes_ = bytes.data() + kHeader;
  pointers_ = sizes_ + 4 * n_items_;
  documents_ = pointers_ + 8 * n_items_;
}

void TokenFile::bad_index(const std::string& message, int64_t item) const {
  throw Error(ErrorCode::kBadFile, message, {.file = index_->path(), .place = fmt::format("entry {}", item)});
}

void TokenFile::check_items() {
  const int64_t width = token_bytes(type_);
  const auto size = static_cast<int64_t>(data_->bytes().size());
  int64_t end = 0;
  for (int64_t i = 0; i < n_items_; ++i) {
    if (i % kItemsPerSign == 0) sign_of_life();
    const auto n = at<int32_t>(sizes_, i);
    if (n < 0) bad_index("an item of negative size", i);
    const bool as_it_is = high_parts_.empty() && at<int64_t>(pointers_, i) == end;
    if (!as_it_is && !is_overflow(i, end))
      bad_index("an item that does not begin where the one before ends", i);
    end += n * width;  // each is below 2^31 * 8, and is checked against the file before the next one
    if (end > size) bad_index(fmt::format("an item beyond the end of {}.bin ({} bytes)", prefix_, size), i);
  }
  if (end != size) {
    throw Error(ErrorCode::kBadFile, "the file has another length than its index says",
                {.file = data_->path(),
                 .expected = fmt::format("{} bytes", end),
                 .got = fmt::format("{} bytes", size)});
  }
  int64_t before = 0;
  for (int64_t d = 0; d <= n_documents_; ++d) {
    if (d % kItemsPerSign == 0) sign_of_life();
    const auto item = at<int64_t>(documents_, d);
    const bool ends_right = (d != 0 || item == 0) && (d != n_documents_ || item == n_items_);
    if (item < before || item > n_items_ || !ends_right) bad_index("document bounds out of order", d);
    before = item;
  }
  n_tokens_ = end / width;
  if (!high_parts_.empty()) warn_of_overflow();
}

// Whether the pointer of this item is `begin` as 32 bits hold it. If so, notes it.
bool TokenFile::is_overflow(int64_t item, int64_t begin) {
  if (begin <= INT32_MAX || low_part(at<int64_t>(pointers_, item)) != low_part(begin)) return false;
  const int64_t high = begin - low_part(begin);
  if (high_parts_.empty() || high_parts_.back().bytes != high) high_parts_.push_back({item, high});
  return true;
}

void TokenFile::warn_of_overflow() const {
  log_warning(fmt::format(
      "{}: entry {}: from here on the pointers have overflowed at 32 bits, a known bug of some versions of "
      "Megatron-LM and GPT-NeoX; the sizes of the items fit the data and are used instead. Other programs "
      "may read "
      "the wrong tokens: prepare the data again for them",
      index_->path(), high_parts_.front().item));
}

int64_t TokenFile::item_begin(int64_t item) const {
  if (item == n_items_) return n_tokens_;
  int64_t begin = at<int64_t>(pointers_, item);
  const auto behind = std::upper_bound(high_parts_.begin(), high_parts_.end(), item,
                                       [](int64_t i, const HighPart& part) { return i < part.item; });
  if (behind != high_parts_.begin()) begin = low_part(begin) + std::prev(behind)->bytes;
  return begin / token_bytes(type_);
}

int64_t TokenFile::document_begin(int64_t d) const {
  SEPLLM_CHECK(d >= 0 && d <= n_documents_);
  return item_begin(at<int64_t>(documents_, d));
}

int64_t TokenFile::document_of(int64_t token) const {
  SEPLLM_CHECK(token >= 0 && token < n_tokens_);
  int64_t low = 0, high = n_documents_;  // document_begin(low) <= token < document_begin(high)
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (document_begin(middle) <= token ? low : high) = middle;
  }
  return low;
}

void TokenFile::read(int64_t first, std::span<int32_t> out, int64_t vocab_size) const {
  SEPLLM_CHECK(first >= 0 && first + static_cast<int64_t>(out.size()) <= n_tokens_);
  const char* from = data_->bytes().data() + first * token_bytes(type_);
  switch (type_) {
    case TokenType::kUint8:
      convert<uint8_t>(from, out);
      break;
    case TokenType::kInt8:
      convert<int8_t>(from, out);
      break;
    case TokenType::kInt16:
      convert<int16_t>(from, out);
      break;
    case TokenType::kUint16:
      convert<uint16_t>(from, out);
      break;
    case TokenType::kInt32:
      convert<int32_t>(from, out);
      break;
    case TokenType::kInt64:
      convert<int64_t>(from, out);
      break;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i] >= 0 && out[i] < vocab_size) continue;
    throw Error(ErrorCode::kBadFile, "a token id outside the model's vocabulary",
                {.file = data_->path(),
                 .place = fmt::format("token {}", first + static_cast<int64_t>(i)),
                 .expected = fmt::format("0 to {}", vocab_size - 1),
                 .got = out[i] >= 0 ? std::to_string(out[i]) : "an id below 0 or beyond 32 bits",
                 .hint = "was the data prepared with another tokenizer?"});
  }
}

struct TokenFileWriter::Impl {
  Impl(const std::string& prefix, int64_t vocab)
      : vocab_size(vocab),
        type(vocab < kMostOfUint16 ? TokenType::kUint16 : TokenType::kInt32),
        index(prefix + ".idx"),
        data(prefix + ".bin") {}

  int64_t vocab_size;
  TokenType type;
  AtomicFile index, data;
  std::vector<int32_t> sizes;
  int64_t current = 0, total = 0;
  std::string buffer;
};

TokenFileWriter::TokenFileWriter(const std::string& prefix, int64_t vocab_size)
    : impl_(std::make_unique<Impl>(prefix, vocab_size)) {
  SEPLLM_CHECK(vocab_size > 0 && vocab_size <= INT32_MAX);
}
TokenFileWriter::~TokenFileWriter() = default;

void TokenFileWriter::add(std::span<const int32_t> tokens) {
  Impl& w = *impl_;
  if (w.current + static_cast<int64_t>(tokens.size()) > INT32_MAX) {
    throw Error(ErrorCode::kOutOfRange, "a document of more than 2^31 - 1 tokens",
                {.hint = "split it, or say where its documents end"});
  }
  for (const int32_t id : tokens) {
    SEPLLM_CHECK(id >= 0 && id < w.vocab_size);
    w.buffer.append(reinterpret_cast<const char*>(&id), static_cast<size_t>(token_bytes(w.type)));
  }
  w.current += static_cast<int64_t>(tokens.size());
  constexpr size_t kFlush = size_t{1} << 20;
  if (w.buffer.size() < kFlush) return;
  w.data.write(w.buffer);
  w.buffer.clear();
}

void TokenFileWriter::end_document() {
  Impl& w = *impl_;
  if (w.current == 0) return;
  w.sizes.push_back(static_cast<int32_t>(w.current));
  w.total += w.current;
  w.current = 0;
}

void TokenFileWriter::finish() {
  Impl& w = *impl_;
  end_document();
  w.data.write(w.buffer);
  std::string index(kMagic);
  StringWriter out(&index);
  const auto n = static_cast<uint64_t>(w.sizes.size());
  out.value(kVersion);
  out.value(static_cast<uint8_t>(w.type));
  out.value(n);
  out.value(n + 1);
  out.list(std::span<const int32_t>(w.sizes));
  int64_t at = 0;
  for (const int32_t size : w.sizes) {
    out.value(at);
    at += size * token_bytes(w.type);
  }
  for (int64_t d = 0; d <= static_cast<int64_t>(n); ++d) out.value(d);
  w.index.write(index);
  w.data.sync();
  w.index.sync();
  w.data.commit();  // last, so that an index always finds its tokens
  w.index.commit();
}

int64_t TokenFileWriter::n_tokens() const { return impl_->total + impl_->current; }
int64_t TokenFileWriter::n_documents() const { return static_cast<int64_t>(impl_->sizes.size()); }

}  // namespace sepllm
