// Files that hold the state of work in progress: a JSON header, followed by named sections of bytes.
//   8 bytes "SEPLLMST" | u32 version | u32 bytes of the header | u64 bytes of the file | header | sections |
//   u64 hash of all before it
//
// The header is an object of the writer's, and in it "sections": [{"name": .., "bytes": ..}, ..] in order,
// and "program", the version and commit of the program that wrote it. Numbers are little-endian.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "base/json.h"

namespace sepllm {

struct StateSection {
  std::string name;
  // called twice (to count, then to write) and must write the same bytes both times
  std::function<void(ByteWriter&)> write;
};

// Replaces the file at once or not at all (AtomicFile). `header` is an object without "sections" and
// "program". Error (kIo).
void write_state_file(const std::string& path, Json header, const std::vector<StateSection>& sections);

// The parts of a state file in memory; the sections point into `bytes`. Error (kBadFile) for another kind of
// file, another version, fewer or more bytes than were written, or a changed byte anywhere.
struct StateContent {
  Json header;
  std::vector<std::pair<std::string, std::string_view>> sections;
};
// What a state holds has a version of its own, which is not the program's.
struct StateVersions {
  int64_t oldest = 1, newest = 1;  // that this program reads
};
// "version" in `part` of the header (or the header itself), 1 where there is none. Error (kUnsupported) for a
// version that is not `known`: whether an older or a newer program wrote it, and which one.
void require_version(const JsonObject& header, const JsonObject& part, const std::string& what,
                     StateVersions known);

// `on_read`, if given, is called with each piece after its checksum has been computed.
StateContent parse_state(std::string_view bytes, const std::string& file,
                         const std::function<void(std::string_view)>& on_read = {});

class StateFile {
 public:
  // Error as for MappedFile and parse_state. Pages leave this process's memory as soon as they have been
  // read, because a file may be as large as what the process holds already.
  explicit StateFile(const std::string& path);

  const std::string& path() const { return map_.path(); }
  const Json& header() const { return content_.header; }
  bool has(const std::string& section) const;
  ByteReader section(const std::string& name) const;  // Error (kBadFile) if there is none
  // Reads numbers of a section that is a list of floats, from number `first` on; Error (kBadFile) if it has
  // fewer.
  void read_floats(const std::string& name, uint64_t first, std::span<float> to) const;

 private:
  std::string_view section_bytes(const std::string& name) const;

  MappedFile map_;
  StateContent content_;
};

}  // namespace sepllm
