// Sets of code points as sorted ranges.
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace sepllm {

struct CodePointRange {
  char32_t first, last;  // both inclusive
};

class CodePointSet {
 public:
  CodePointSet() = default;
  // The ranges may be in any order and may overlap.
  explicit CodePointSet(std::vector<CodePointRange> ranges);
  explicit CodePointSet(std::span<const CodePointRange> ranges)
      : CodePointSet(std::vector<CodePointRange>(ranges.begin(), ranges.end())) {}

  // Sorted, and with gaps between them.
  const std::vector<CodePointRange>& ranges() const { return ranges_; }
  bool empty() const { return ranges_.empty(); }
  bool contains(char32_t c) const;

  CodePointSet operator|(const CodePointSet& other) const;
  CodePointSet operator-(const CodePointSet& other) const;
  // All other code points from 0 to U+10FFFF.
  CodePointSet complement() const;

 private:
  std::vector<CodePointRange> ranges_;
};

}  // namespace sepllm
