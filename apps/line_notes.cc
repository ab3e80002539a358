#include "apps/line_notes.h"

#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "apps/shell/output.h"
#include "base/log.h"

namespace sepllm {

std::string skipped_text(const LineNotes& lines) {
  return lines.skipped == 0 ? ""
                            : fmt::format("{} bad lines, the first: {}", lines.skipped, lines.first_skipped);
}

void say_of_lines(const LineNotes& lines) {
  const auto one_or_more = [](int64_t n) { return fmt::format("{} line{}", n, n == 1 ? "" : "s"); };
  if (lines.skipped > 0) {
    print_note(
        fmt::format("note: {} left out, the first: {}", one_or_more(lines.skipped), lines.first_skipped));
  }
  if (lines.replaced > 0) {
    print_note(fmt::format("note: {} with U+FFFD in place of invalid characters, the first: {}",
                           one_or_more(lines.replaced), lines.first_replaced));
  }
  if (lines.odd > 0) {
    log_warning(fmt::format(
        "{} with JSON that is not valid but that Python reads; read in the same way; the first: {}",
        one_or_more(lines.odd), lines.first_odd));
  }
}

}  // namespace sepllm
