#include "text/template/marked_text.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sepllm {

MarkedText::MarkedText(std::string bytes, Origin origin) : bytes_(std::move(bytes)) {
  if (!bytes_.empty()) runs_.push_back({bytes_.size(), origin});
}

size_t MarkedText::run_of(size_t at) const {
  const auto run =
      std::upper_bound(runs_.begin(), runs_.end(), at, [](size_t a, const Run& r) { return a < r.end; });
  return static_cast<size_t>(run - runs_.begin());
}

bool MarkedText::has_user_bytes() const {
  return std::any_of(runs_.begin(), runs_.end(), [](const Run& r) { return r.origin == Origin::kUser; });
}

void MarkedText::append(std::string_view bytes, Origin origin) {
  if (bytes.empty()) return;
  bytes_ += bytes;
  if (!runs_.empty() && runs_.back().origin == origin) {
    runs_.back().end = bytes_.size();
  } else {
    runs_.push_back({bytes_.size(), origin});
  }
}

void MarkedText::append(const MarkedText& other, size_t begin, size_t end) {
  const std::string_view bytes = other.bytes_;
  for (size_t run = other.run_of(begin); begin < end; ++run) {
    const size_t part_end = std::min(end, other.runs_[run].end);
    append(bytes.substr(begin, part_end - begin), other.runs_[run].origin);
    begin = part_end;
  }
}

MarkedText MarkedText::slice(size_t begin, size_t end) const {
  MarkedText out;
  out.append(*this, begin, end);
  return out;
}

std::vector<TextRange> MarkedText::template_ranges() const {
  std::vector<TextRange> out;
  size_t begin = 0;
  for (const Run& run : runs_) {
    if (run.origin == Origin::kTemplate) out.push_back({begin, run.end});
    begin = run.end;
  }
  return out;
}

}  // namespace sepllm
