// The walks that were measured on this machine, in a small file under the user's cache folder, so that they
// need not be measured again. The file is never needed and never wrong: one that is damaged, of another
// processor or of another version of the program is ignored, and replaced when there is something to
// remember.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tensor/walk.h"

namespace sepllm {

struct MeasuredWalk {
  std::string key;  // what is read, by how many threads
  Walk walk;
  double bytes_per_second = 0;
};

class WalkFile {
 public:
  // $XDG_CACHE_HOME/sepllm/walks.json, or ~/.cache/sepllm/walks.json; empty where the environment names
  // neither.
  static std::string default_path();

  // Reads what is there for `machine` (its processor and the version of the program). What cannot be used is
  // ignored with one log_debug line; no error. Empty `path`: nothing is read and nothing is kept.
  WalkFile(std::string path, std::string machine);

  const std::vector<MeasuredWalk>& walks() const { return walks_; }
  std::optional<MeasuredWalk> find(const std::string& key) const;
  // Takes the place of one with the same key.
  void put(MeasuredWalk walk);
  // Writes the file, whole or not at all, and makes its folder. Where that is not possible: one log_debug
  // line.
  void save() const;

 private:
  std::string path_;
  std::string machine_;
  std::vector<MeasuredWalk> walks_;
};

}  // namespace sepllm
