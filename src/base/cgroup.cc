#include "base/cgroup.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <ios>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace sepllm {
namespace {

// The kernel does not tell the size of its files, so they are read to their end.
std::optional<std::string> read_text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return file.bad() ? std::nullopt : std::optional(text.str());
}

std::vector<std::string> split(const std::string& text, char between) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, between);) out.push_back(part);
  return out;
}

std::optional<int64_t> leading_integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end != text.data() ? std::optional(value) : std::nullopt;
}

// The number in a file; nullopt for "max" and for anything that is not a number.
std::optional<int64_t> number_in(const std::string& path) {
  const auto text = read_text_of(path);
  return text ? leading_integer(*text) : std::nullopt;
}

// The value of `key` in lines of the form "key value", as in memory.stat.
int64_t number_after(const std::string& text, const std::string& key) {
  for (const std::string& line : split(text, '\n')) {
    if (line.starts_with(key + " "))
      return leading_integer(std::string_view(line).substr(key.size() + 1)).value_or(0);
  }
  return 0;
}

// Undoes the escapes of mountinfo, which writes blanks, tabs, line breaks and backslashes in octal (a blank
// as \040).
std::string unescaped_path(const std::string& text) {
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) &&
        octal(text[i + 3])) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool has_word(const std::string& list, const std::string& word) {
  const std::vector<std::string> words = split(list, ',');
  return std::find(words.begin(), words.end(), word) != words.end();
}

// A mounted hierarchy of groups: the folder `point` shows the group `top`.
struct Mount {
  std::string top, point;
  bool v2;
};

// Finds the mount of `controller` in v1, or of the one hierarchy of v2 if `controller` is empty.
std::optional<Mount> find_mount(const std::string& mountinfo, const std::string& controller) {
  // Each line is: ID PARENT DEVICE TOP POINT OPTIONS [TAG...] - TYPE SOURCE SUPER-OPTIONS (proc(5)).
  for (const std::string& line : split(mountinfo, '\n')) {
    const std::vector<std::string> fields = split(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 4) continue;
    const bool v2 = dash[1] == "cgroup2";
    const bool wanted = controller.empty() ? v2 : dash[1] == "cgroup" && has_word(dash[3], controller);
    if (wanted) return Mount{unescaped_path(fields[3]), unescaped_path(fields[4]), v2};
  }
  return std::nullopt;
}

// The process's group in that hierarchy, taken from lines of the form NUMBER:CONTROLLERS:PATH.
std::optional<std::string> find_group(const std::string& groups, const std::string& controller) {
  for (const std::string& line : split(groups, '\n')) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (controller.empty() ? controllers.empty() : has_word(controllers, controller))
      return line.substr(second + 1);
  }
  return std::nullopt;
}

// The folders of the process's group and of the groups above it, up to the mount point. A container may see
// its group's path as the host names it, or a path that leads out of what is mounted ("/.."): then only the
// mount point is used.
std::vector<std::string> group_folders(const Mount& mount, const std::string& group,
                                       const std::string& root) {
  std::string below = group;
  if (mount.top != "/") below = below.starts_with(mount.top) ? below.substr(mount.top.size()) : "";
  while (!below.empty() && below.back() == '/') below.pop_back();
  if (!below.empty() && (below.front() != '/' || below.find("/..") != std::string::npos)) below.clear();
  std::vector<std::string> out;
  for (;;) {
    out.push_back(root + mount.point + below);
    if (below.empty()) return out;
    below.resize(below.rfind('/'));
  }
}

template <typename T>
void keep_least(std::optional<T>* least, std::optional<T> value) {
  if (value && (!*least || *value < **least)) *least = value;
}

std::optional<double> quota_of(const std::string& folder, bool v2) {
  std::optional<int64_t> quota, period;
  if (v2) {  // "QUOTA PERIOD" or "max PERIOD"
    const auto text = read_text_of(folder + "/cpu.max");
    if (!text) return std::nullopt;
    quota = leading_integer(*text);
    const size_t blank = text->find(' ');
    period =
        blank == std::string::npos ? 100'000 : leading_integer(std::string_view(*text).substr(blank + 1));
  } else {
    quota = number_in(folder + "/cpu.cfs_quota_us");  // -1: none
    period = number_in(folder + "/cpu.cfs_period_us");
  }
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

// The room that is left between `used` and a limit; nullopt if there is no limit (v1 writes the largest whole
// number of pages).
std::optional<int64_t> room_under(std::optional<int64_t> limit, int64_t used) {
  constexpr int64_t kNoLimit = int64_t{1} << 60;
  if (!limit || *limit >= kNoLimit) return std::nullopt;
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, used));
}

void keep_least_room(const std::string& folder, bool v2, GroupLimits* limits) {
  const auto number = [&](const char* of_v1, const char* of_v2) {
    return number_in(folder + (v2 ? of_v2 : of_v1));
  };
  const std::string stat = read_text_of(folder + "/memory.stat").value_or("");
  const std::string of_all = v2 ? "" : "total_";
  const int64_t files =
      number_after(stat, of_all + "active_file") + number_after(stat, of_all + "inactive_file");
  const int64_t used = number("/memory.usage_in_bytes", "/memory.current").value_or(0) - files;
  const auto hard = room_under(number("/memory.limit_in_bytes", "/memory.max"), used);
  keep_least(&limits->memory_hard_room, hard);
  keep_least(&limits->memory_room, hard);
  if (v2) {
    // Above memory.high the kernel slows a process down until it almost stops.
    keep_least(&limits->memory_room, room_under(number_in(folder + "/memory.high"), used));
    keep_least(&limits->swap_room, room_under(number_in(folder + "/memory.swap.max"),
                                              number_in(folder + "/memory.swap.current").value_or(0)));
    return;
  }
  // In v1 this limit is on the sum of memory and swap.
  const int64_t used_of_both = number_in(folder + "/memory.memsw.usage_in_bytes").value_or(0) - files;
  const auto both = room_under(number_in(folder + "/memory.memsw.limit_in_bytes"), used_of_both);
  if (both) keep_least(&limits->swap_room, std::optional(std::max<int64_t>(0, *both - hard.value_or(0))));
}

// Calls fn(folder, v2) for the process's group and all groups above it. Returns the group's name.
template <typename Fn>
std::string for_groups(const std::string& groups, const std::string& mountinfo, const std::string& controller,
                       const std::string& root, const Fn& fn) {
  std::string name;
  // where v1 and v2 are both mounted, both limits hold
  for (const std::string& of : {controller, std::string()}) {
    const auto mount = find_mount(mountinfo, of);
    const auto group = find_group(groups, of);
    if (!mount || !group) continue;
    for (const std::string& folder : group_folders(*mount, *group, root)) fn(folder, mount->v2);
    name += (mount->v2 ? "v2:" : "v1:") + *group + "\n";
  }
  return name;
}

}  // namespace

GroupLimits read_group_limits(const std::string& root) {
  GroupLimits limits;
  const auto groups = read_text_of(root + "/proc/self/cgroup");
  const auto mounts = read_text_of(root + "/proc/self/mountinfo");
  if (!groups || !mounts) return limits;
  limits.cpu_group = for_groups(*groups, *mounts, "cpu", root, [&](const std::string& folder, bool v2) {
    keep_least(&limits.cpus, quota_of(folder, v2));
  });
  limits.memory_group = for_groups(*groups, *mounts, "memory", root, [&](const std::string& folder, bool v2) {
    keep_least_room(folder, v2, &limits);
  });
  return limits;
}

int threads_within(int cores, std::optional<double> quota) {
  if (!quota) return cores;
  // The small tolerance accepts a quota that is a whole number except for the rounding of its period.
  const double whole = std::floor(*quota + 0.01);
  return static_cast<int>(std::clamp(whole, 1.0, static_cast<double>(std::max(1, cores))));
}

}  // namespace sepllm
