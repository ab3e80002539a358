#include "engine/walk_choice.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/build_info.h"
#include "base/error.h"
#include "engine/walk_file.h"
#include "kernels/cpu_features.h"

namespace sepllm {
namespace {

constexpr double kSeconds = 0.05;  // for all types of a model
using MatricesByType = std::map<DType, std::vector<Weight*>>;

MatricesByType types_of(Decoder* decoder) {
  MatricesByType of_type;
  for (Weight* w : decoder->multiplied_matrices()) {
    if (!w->transposed) of_type[w->type].push_back(w);
  }
  return of_type;
}

int64_t bytes_of(const std::vector<Weight*>& matrices) {
  int64_t bytes = 0;
  for (const Weight* w : matrices) bytes += w->n_out * row_bytes(w->type, w->n_in);
  return bytes;
}

}  // namespace

WalkMode walk_mode() {
  const char* value = std::getenv("SEPLLM_WALKS");
  const std::string_view text = value == nullptr ? "" : value;
  if (text.empty() || text == "on") return WalkMode::kOn;
  if (text == "off") return WalkMode::kOff;
  if (text == "again") return WalkMode::kAgain;
  throw Error(ErrorCode::kInvalidArgument, "wrong value of SEPLLM_WALKS",
              {.expected = "on, off or again", .got = std::string(text)});
}

std::string walk_machine() {
  return fmt::format("{}, {}, sepllm {} {}", cpu_name(), instruction_sets(), build_version(), build_commit());
}

WalkRules walk_rules() { return {.mode = walk_mode(), .file = WalkFile::default_path()}; }

std::vector<ChosenWalk> choose_walks(const Context& ctx, Decoder* decoder, const WalkRules& rules) {
  std::vector<ChosenWalk> chosen;
  if (rules.mode == WalkMode::kOff) return chosen;
  MatricesByType types = types_of(decoder);
  std::erase_if(types, [&rules](const auto& entry) { return bytes_of(entry.second) < rules.least_bytes; });
  if (types.empty()) return chosen;
  WalkFile file(rules.file, walk_machine());
  bool new_ones = false;
  for (const auto& [type, matrices] : types) {
    const bool exact = is_block_type(type) && ctx.block_products == BlockProducts::kExact;
    const std::string key =
        fmt::format("{}{}, {} threads", dtype_name(type), exact ? " exact" : "", ctx.pool.size());
    ChosenWalk c{.type = type, .walk = {}, .bytes_per_second = 0, .measured = {}};
    if (const auto known = file.find(key); known && rules.mode == WalkMode::kOn) {
      c.walk = known->walk;
      c.bytes_per_second = known->bytes_per_second;
    } else {
      std::vector<Weight> views;
      for (const Weight* w : matrices) views.push_back(*w);
      c.measured = measure_walks(ctx, views, kSeconds / static_cast<double>(types.size()));
      const WalkRate best = fastest_walk(c.measured);
      c.walk = best.walk;
      c.bytes_per_second = best.bytes_per_second;
      file.put({key, c.walk, c.bytes_per_second});
      new_ones = true;
    }
    for (Weight* w : matrices) w->walk = c.walk;
    chosen.push_back(std::move(c));
  }
  if (new_ones) file.save();
  return chosen;
}

}  // namespace sepllm
