// Changes state files (checkpoint/state_file.h) so that they are intact but say something else than their
// writer did.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "checkpoint/state_file.h"

namespace sepllm::test {

// Changes the header of a state file; its sections and the checksum are again those of a whole file.
inline void rewrite_state(const std::string& path, const std::function<void(Json& header)>& change) {
  const std::string bytes = read_file(path);
  StateContent content = parse_state(bytes, path);
  content.header.erase("sections");
  change(content.header);
  std::vector<StateSection> sections;
  for (const auto& [name, text] : content.sections)
    sections.push_back({name, [text = text](ByteWriter& out) { out.bytes(text.data(), text.size()); }});
  write_state_file(path, content.header, sections);
}

}  // namespace sepllm::test
