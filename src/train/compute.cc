#include "train/compute.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernels/cpu_features.h"

namespace sepllm {
namespace {

// The value in force before, or `otherwise` for runs of versions that had only that.
std::string value_before(const Json& before, const char* key, const std::string& otherwise) {
  const bool has = before.contains(key) && before[key].is_string() && before[key] != "auto";
  return has ? before[key].get<std::string>() : otherwise;
}

[[noreturn]] void refuse_bf16(const std::string& got, const std::string& why) {
  throw Error(ErrorCode::kInvalidArgument, "this run cannot compute in bf16",
              {.place = "compute",
               .expected = "AMX or AVX512_BF16, the same on all ranks",
               .got = got,
               .hint = why + "compute: f32 works everywhere"});
}

}  // namespace

std::string bf16_unit() {
  const unsigned features = cpu_features();
  return (features & kAmxBf16) != 0 ? "AMX" : (features & kBf16) != 0 ? "AVX512_BF16" : "";
}

void settle_compute(TrainConfig* config, const Json& before, Comm& comm) {
  const std::string own = bf16_unit();
  const std::vector<std::string> units = comm.all_texts(own);
  const bool same = std::all_of(units.begin(), units.end(), [&](const std::string& u) { return u == own; });
  const bool able = same && !own.empty();
  const bool continues = before.is_object();
  if (config->compute == "auto")
    config->compute = continues ? value_before(before, "compute", "f32") : able ? "bf16" : "f32";
  for (const auto& [key, value] : {std::pair{"weight_storage", &config->weight_storage},
                                   std::pair{"activation_storage", &config->activation_storage}}) {
    if (*value == "auto") *value = continues ? value_before(before, key, config->compute) : config->compute;
  }
  if (config->compute != "bf16" || able) return;
  const std::string why = continues && value_before(before, "compute", "f32") == "bf16"
                              ? "the run was started in bf16; with other products its results change: "
                              : "";
  if (same) refuse_bf16("a processor with neither", why);
  std::string got;
  for (size_t r = 0; r < units.size(); ++r)
    got += fmt::format("{}rank {}: {}", r == 0 ? "" : ", ", r, units[r].empty() ? "neither" : units[r]);
  refuse_bf16(got, why);
}

void apply_compute(const TrainConfig& config, Learner* learner) {
  learner->set_float_products(config.compute == "bf16" ? FloatProducts::kBF16 : FloatProducts::kF32);
  learner->set_activation_storage(config.activation_type());
  learner->set_weight_storage(config.weight_type());
}

std::string compute_text(const TrainConfig& config) {
  return config.compute == "bf16" ? fmt::format("bf16 ({})", bf16_unit()) : config.compute;
}

}  // namespace sepllm
