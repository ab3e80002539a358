#include "checkpoint/state_file.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/build_info.h"
#include "base/check.h"
#include "base/error.h"
#include "base/sign_of_life.h"

namespace sepllm {
namespace {

constexpr std::string_view kMagic = "SEPLLMST";
constexpr uint32_t kVersion = 1;
constexpr uint64_t kPreamble = 8 + 4 + 4 + 8;
constexpr uint64_t kHashBytes = 8;

// Hashes the bytes that pass through, and hands them on in large pieces.
class FileWriter : public ByteWriter {
 public:
  explicit FileWriter(AtomicFile* file) : file_(file) {}
  void bytes(const void* from, uint64_t n) override {
    hash_.add(from, n);
    if (pending_.size() + n > kPiece) flush();
    if (n >= kPiece) {
      file_->write({static_cast<const char*>(from), n});
    } else {
      pending_.append(static_cast<const char*>(from), n);
    }
    written_ += n;
  }
  void finish() {
    const uint64_t hash = hash_.value();
    pending_.append(reinterpret_cast<const char*>(&hash), sizeof hash);
    flush();
  }
  uint64_t written() const { return written_; }

 private:
  static constexpr uint64_t kPiece = 1 << 20;
  void flush() {
    file_->write(pending_);
    pending_.clear();
  }

  AtomicFile* file_;
  Hash64 hash_;
  std::string pending_;
  uint64_t written_ = 0;
};

[[noreturn]] void refuse(const std::string& file, const std::string& message, const std::string& expected,
                         const std::string& got) {
  throw Error(ErrorCode::kBadFile, message, {.file = file, .expected = expected, .got = got});
}

// Throws for a version that this program does not read. `writer`: the program that wrote it, if known.
void check_version(ErrorCode code, const std::string& file, const std::string& what, StateVersions known,
                   int64_t got, const std::string& writer) {
  if (got >= known.oldest && got <= known.newest) return;
  const std::string range = known.oldest == known.newest
                                ? std::to_string(known.newest)
                                : std::to_string(known.oldest) + " to " + std::to_string(known.newest);
  const std::string of = writer.empty() ? "the version of sepllm that wrote it" : writer + " wrote it and";
  throw Error(code, what + " of " + (got < known.oldest ? "an older" : "a newer") + " version of sepllm",
              {.file = file,
               .expected = "version " + range,
               .got = std::to_string(got),
               .hint = of + " can continue it"});
}

// "sepllm 0.1.0 (commit 123456789abc)"; empty where the header does not say it.
std::string writer_of(const JsonObject& header) {
  const Json* program = header.has("program") ? &header.at("program") : nullptr;
  if (program == nullptr || !program->is_object()) return "";
  const auto text = [&](const char* key) {
    const auto at = program->find(key);
    return at != program->end() && at->is_string() ? at->get<std::string>() : std::string("?");
  };
  return "sepllm " + text("version") + " (commit " + text("commit") + ")";
}

constexpr size_t kReadPiece = size_t{256} << 10;

// Calls fn(piece) for all of `bytes`, in order.
template <typename Fn>
void by_pieces(std::string_view bytes, const Fn& fn) {
  for (size_t begin = 0; begin < bytes.size(); begin += kReadPiece) fn(bytes.substr(begin, kReadPiece));
}

uint64_t hash_of(std::string_view bytes, const std::function<void(std::string_view)>& on_read) {
  Hash64 hash;
  by_pieces(bytes, [&](std::string_view piece) {
    hash.add(piece.data(), piece.size());
    if (on_read) on_read(piece);
  });
  return hash.value();
}

}  // namespace

void write_state_file(const std::string& path, Json header, const std::vector<StateSection>& sections) {
  Json list = Json::array();
  uint64_t total = 0;
  for (const StateSection& s : sections) {
    ByteCounter counter;
    s.write(counter);
    list.push_back({{"name", s.name}, {"bytes", counter.count()}});
    total += counter.count();
  }
  header["program"] = {{"version", build_version()}, {"commit", build_commit()}};
  header["sections"] = std::move(list);
  const std::string text = json_text(header);
  total += kPreamble + text.size() + kHashBytes;
  AtomicFile file(path);
  FileWriter out(&file);
  out.bytes(kMagic.data(), kMagic.size());
  out.value(kVersion);
  out.value(static_cast<uint32_t>(text.size()));
  out.value(total);
  out.bytes(text.data(), text.size());
  for (const StateSection& s : sections) s.write(out);
  SEPLLM_CHECK(out.written() + kHashBytes == total);
  out.finish();
  file.commit();
}

StateContent parse_state(std::string_view bytes, const std::string& file,
                         const std::function<void(std::string_view)>& on_read) {
  if (!bytes.starts_with(kMagic)) {
    // An empty or cut file may still show that it was meant to be a state file.
    const bool begins = kMagic.starts_with(bytes) && !bytes.empty();
    refuse(file, begins ? "the state file is truncated" : "not a state file of this program", "", "");
  }
  if (bytes.size() < kPreamble) refuse(file, "the state file is truncated", "", "");
  ByteReader in(bytes.substr(kMagic.size()), file, "header");
  check_version(ErrorCode::kBadFile, file, "a state file", {kVersion, kVersion}, in.value<uint32_t>(), "");
  const auto header_bytes = in.value<uint32_t>();
  const auto total = in.value<uint64_t>();
  if (total != bytes.size()) {
    refuse(file, bytes.size() < total ? "the state file is truncated" : "the state file is too long",
           std::to_string(total) + " bytes", std::to_string(bytes.size()));
  }
  if (total < kPreamble + kHashBytes || header_bytes > total - kPreamble - kHashBytes)
    refuse(file, "the state file's header is longer than the file", "", "");
  const std::string_view body = bytes.substr(0, bytes.size() - kHashBytes);
  uint64_t hash;
  std::memcpy(&hash, bytes.data() + body.size(), sizeof hash);
  if (const uint64_t found = hash_of(body, on_read); hash != found)
    refuse(file, "the state file is damaged: wrong checksum", hex64(hash), hex64(found));

  StateContent content;
  content.header = parse_json(bytes.substr(kPreamble, header_bytes), file, {.refuse_duplicates = true});
  std::string_view rest = body.substr(kPreamble + header_bytes);
  const JsonObject header(content.header, file);
  const Json& list = header.at("sections");
  if (!list.is_array()) refuse(file, "wrong \"sections\"", "a list", list.type_name());
  for (const Json& item : list) {
    const JsonObject section(item, file, "sections");
    const auto n = static_cast<uint64_t>(section.integer("bytes", 0, static_cast<int64_t>(rest.size())));
    content.sections.emplace_back(section.string("name"), rest.substr(0, n));
    rest.remove_prefix(n);
  }
  if (!rest.empty()) refuse(file, "the state file has bytes beyond its sections", "", "");
  return content;
}

void require_version(const JsonObject& header, const JsonObject& part, const std::string& what,
                     StateVersions known) {
  const int64_t got = part.has("version") ? part.integer("version", 0, INT64_MAX) : 1;
  check_version(ErrorCode::kUnsupported, header.file(), what, known, got, writer_of(header));
}

StateFile::StateFile(const std::string& path)
    : map_(path),
      content_(parse_state(map_.bytes(), path, [this](std::string_view read) { map_.forget(read); })) {}

bool StateFile::has(const std::string& section) const {
  const auto& all = content_.sections;
  return std::any_of(all.begin(), all.end(), [&](const auto& s) { return s.first == section; });
}

ByteReader StateFile::section(const std::string& name) const { return {section_bytes(name), path(), name}; }

void StateFile::read_floats(const std::string& name, uint64_t first, std::span<float> to) const {
  std::string_view bytes = section_bytes(name);
  bytes.remove_prefix(std::min<uint64_t>(first * sizeof(float), bytes.size()));
  bytes = bytes.substr(0, to.size_bytes());
  ByteReader reader(bytes, path(), name);
  reader.need(to.size_bytes());
  auto* next = reinterpret_cast<char*>(to.data());
  by_pieces(bytes, [&](std::string_view piece) {
    sign_of_life();
    reader.bytes(next, piece.size());
    next += piece.size();
    map_.forget(piece);
  });
}

std::string_view StateFile::section_bytes(const std::string& name) const {
  for (const auto& [known, bytes] : content_.sections) {
    if (known == name) return bytes;
  }
  throw Error(ErrorCode::kBadFile, "the state file has no such section", {.file = path(), .got = name});
}

}  // namespace sepllm
