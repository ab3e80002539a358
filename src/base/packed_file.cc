#include "base/packed_file.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"

namespace sepllm {
namespace {

constexpr size_t kBlock = size_t{1} << 16;  // bytes of the file that are read at once

// The name of the packer that the file name's ending stands for; null if none.
const char* packing_by_name(const std::string& path) {
  for (const char* ending : {".gz", ".gzip"}) {
    if (has_ending(path, ending)) return "gzip";
  }
  for (const char* ending : {".zst", ".zstd"}) {
    if (has_ending(path, ending)) return "zstd";
  }
  return nullptr;
}

}  // namespace

struct UnpackStep {
  size_t taken = 0, given = 0;
};

class Unpacker {
 public:
  virtual ~Unpacker() = default;
  // Unpacks some of `in` to `out`. Sets `fault` if something is wrong.
  virtual UnpackStep run(std::string_view in, char* out, size_t n, std::string* fault) = 0;
  // Whether the content may end here.
  virtual bool complete() const = 0;
};

namespace {

class GzipUnpacker : public Unpacker {
 public:
  GzipUnpacker() {
    constexpr int kGzipOnly = 16;
    if (inflateInit2(&stream_, MAX_WBITS + kGzipOnly) != Z_OK) throw std::bad_alloc();
  }
  ~GzipUnpacker() override { inflateEnd(&stream_); }
  GzipUnpacker(const GzipUnpacker&) = delete;
  GzipUnpacker& operator=(const GzipUnpacker&) = delete;

  UnpackStep run(std::string_view in, char* out, size_t n, std::string* fault) override {
    if (complete_ && !in.empty()) {
      if (in[0] == '\0') {  // tapes and some tools pad with zeros
        padding_ = true;
        return {.taken = std::min(in.find_first_not_of('\0'), in.size())};
      }
      if (padding_ || !in.starts_with('\x1f')) {
        *fault = "something else follows the compressed data";
        return {};
      }
      inflateReset(&stream_);
      complete_ = false;
    }
    if (complete_) return {};
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream_.avail_in = static_cast<uInt>(in.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(std::min<size_t>(n, size_t{1} << 30));
    const uInt room = stream_.avail_out;
    const int code = inflate(&stream_, Z_NO_FLUSH);
    complete_ = code == Z_STREAM_END;
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
      *fault = stream_.msg != nullptr ? stream_.msg : "zlib code " + std::to_string(code);
    }
    return {.taken = in.size() - stream_.avail_in, .given = room - stream_.avail_out};
  }
  bool complete() const override { return complete_; }

 private:
  z_stream stream_{};
  bool complete_ = false, padding_ = false;
};

class ZstdUnpacker : public Unpacker {
 public:
  ZstdUnpacker() : stream_(ZSTD_createDStream()) {
    if (stream_ == nullptr) throw std::bad_alloc();
    // `zstd --long=31` writes such windows; memory is taken only as the window fills.
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, 31);
  }
  ~ZstdUnpacker() override { ZSTD_freeDStream(stream_); }
  ZstdUnpacker(const ZstdUnpacker&) = delete;
  ZstdUnpacker& operator=(const ZstdUnpacker&) = delete;

  UnpackStep run(std::string_view in, char* out, size_t n, std::string* fault) override {
    if (complete_ && in.empty()) return {};
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out, n, 0};
    const size_t left = ZSTD_decompressStream(stream_, &to, &from);
    if (ZSTD_isError(left) != 0) *fault = ZSTD_getErrorName(left);
    complete_ = left == 0;
    return {.taken = from.pos, .given = to.pos};
  }
  bool complete() const override { return complete_; }

 private:
  ZSTD_DStream* stream_;
  bool complete_ = false;
};

}  // namespace

PackedFileReader::PackedFileReader(std::string path) : path_(std::move(path)), file_(path_) {
  while (in_.size() < kFileKindBytes && read_more()) {
  }
  const FileKind kind = file_kind(in_);
  if (kind == FileKind::kGzip) {
    unpacker_ = std::make_unique<GzipUnpacker>();
  } else if (kind == FileKind::kZstd) {
    unpacker_ = std::make_unique<ZstdUnpacker>();
  } else if (const char* packing = packing_by_name(path_)) {
    throw Error(ErrorCode::kBadFile, "not a compressed file",
                {.file = path_,
                 .expected = fmt::format("{}, as its name says", packing),
                 .got = known_kind_name(in_),
                 .hint = "if it is not packed at all, rename it"});
  }
}

PackedFileReader::~PackedFileReader() = default;

bool PackedFileReader::read_more() {
  in_.erase(0, at_);
  at_ = 0;
  const size_t n = file_.append(&in_, kBlock);
  read_ += n;
  return n > 0;
}

size_t PackedFileReader::append(std::string* out, size_t n) {
  if (unpacker_ == nullptr && at_ == in_.size()) {
    const size_t got = file_.append(out, n);
    read_ += got;
    return got;
  }
  if (unpacker_ == nullptr) {
    const size_t got = std::min(n, in_.size() - at_);
    out->append(in_, at_, got);
    at_ += got;
    return got;
  }
  const size_t before = out->size();
  out->resize(before + n);
  UnpackStep step;
  for (bool at_end = false; step.given == 0;) {
    if (at_ == in_.size()) at_end = !read_more();
    std::string fault;
    step = unpacker_->run(std::string_view(in_).substr(at_), out->data() + before, n, &fault);
    at_ += step.taken;
    const auto refuse = [&](const std::string& message) {
      throw Error(ErrorCode::kBadFile, message,
                  {.file = path_, .place = fmt::format("byte {}", read_ - (in_.size() - at_))});
    };
    if (!fault.empty()) refuse("the compressed data is damaged: " + fault);
    if (step.taken > 0 || step.given > 0) continue;
    if (!at_end && (at_ == in_.size() || read_more())) continue;
    if (!unpacker_->complete()) refuse("the compressed data is cut off");
    break;
  }
  out->resize(before + step.given);
  return step.given;
}

}  // namespace sepllm
