#include "engine/walk_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

namespace sepllm {
namespace {

constexpr uint64_t kMostBytes = 1 << 20;
constexpr int kMostAhead = 1 << 16;

MeasuredWalk walk_of(const JsonObject& json) {
  MeasuredWalk w{.key = json.string("key"), .walk = {}, .bytes_per_second = json.number("bytes_per_second")};
  w.walk.streams = static_cast<int>(json.integer("streams", 1, kMostStreams));
  w.walk.ahead = static_cast<int>(json.integer("ahead", 0, kMostAhead));
  if ((w.walk.streams & (w.walk.streams - 1)) != 0) {
    throw Error(ErrorCode::kBadFile, "streams is no power of two", {.file = json.file()});
  }
  return w;
}

}  // namespace

std::string WalkFile::default_path() {
  const auto folder = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value != nullptr && *value == '/' ? value : "";
  };
  if (const std::string cache = folder("XDG_CACHE_HOME"); !cache.empty()) return cache + "/sepllm/walks.json";
  if (const std::string home = folder("HOME"); !home.empty()) return home + "/.cache/sepllm/walks.json";
  return "";
}

WalkFile::WalkFile(std::string path, std::string machine)
    : path_(std::move(path)), machine_(std::move(machine)) {
  if (path_.empty() || !file_exists(path_)) return;
  try {
    const Json json = read_json(path_, kMostBytes);
    const JsonObject object(json, path_);
    const std::string theirs = object.string("machine");
    if (theirs != machine_) {
      log_debug(fmt::format("{} is ignored: it is of {}", path_, theirs));
      return;
    }
    const Json& list = object.at("walks");
    if (!list.is_array()) throw Error(ErrorCode::kBadFile, "walks is no array", {.file = path_});
    std::vector<MeasuredWalk> walks;
    for (const Json& walk : list) walks.push_back(walk_of({walk, path_, "walks"}));
    walks_ = std::move(walks);
  } catch (const Error& e) {
    log_debug(fmt::format("{} is ignored: {}", path_, e.what()));
  }
}

std::optional<MeasuredWalk> WalkFile::find(const std::string& key) const {
  const auto at =
      std::find_if(walks_.begin(), walks_.end(), [&](const MeasuredWalk& w) { return w.key == key; });
  if (at == walks_.end()) return std::nullopt;
  return *at;
}

void WalkFile::put(MeasuredWalk walk) {
  std::erase_if(walks_, [&](const MeasuredWalk& w) { return w.key == walk.key; });
  walks_.push_back(std::move(walk));
}

void WalkFile::save() const {
  if (path_.empty()) return;
  Json list = Json::array();
  for (const MeasuredWalk& w : walks_) {
    list.push_back({{"key", w.key},
                    {"streams", w.walk.streams},
                    {"ahead", w.walk.ahead},
                    {"bytes_per_second", w.bytes_per_second}});
  }
  std::error_code failed;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), failed);
  try {
    AtomicFile file(path_);
    file.write(json_text({{"machine", machine_}, {"walks", list}}, 2) + "\n");
    file.commit();
  } catch (const Error& e) {
    log_debug(fmt::format("{} is not written: {}", path_, e.what()));
  }
}

}  // namespace sepllm
