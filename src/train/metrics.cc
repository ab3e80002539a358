#include "train/metrics.h"

#include <cmath>
#include <cstdint>
#include <optional>

namespace sepllm {

Json metrics_json(const StepMetrics& m) {
  Json line = {{"step", m.step},
               {"loss", m.loss},
               {"lr", m.lr},
               {"gradient_norm", m.gradient_norm},
               {"skipped", m.skipped},
               {"tokens", m.tokens},
               {"dense_flops", m.dense_flops},
               {"attention_flops", m.attention_flops},
               {"visible_share", m.visible_share},
               {"seconds", m.seconds},
               {"elapsed", m.elapsed}};
  if (m.gemm_share) line["gemm_share"] = *m.gemm_share;
  if (m.valid_loss) line["valid_loss"] = *m.valid_loss;
  if (m.ranks > 1) {
    line["ranks"] = m.ranks;
    line["seconds_waited"] = m.waited;
  }
  return line;
}

std::optional<StepMetrics> parse_metrics(const Json& line) {
  if (!line.is_object()) return std::nullopt;
  const auto optional = [&line](const char* key) -> std::optional<double> {
    const auto at = line.find(key);
    if (at == line.end() || !at->is_number()) return std::nullopt;
    return at->get<double>();
  };
  const auto number = [&optional](const char* key) { return optional(key).value_or(NAN); };
  const auto integer = [&line](const char* key) -> int64_t {
    const auto at = line.find(key);
    return at != line.end() && at->is_number_integer() ? at->get<int64_t>() : -1;
  };
  StepMetrics m;
  m.step = integer("step");
  if (m.step < 0) return std::nullopt;
  m.loss = number("loss");
  m.lr = number("lr");
  m.gradient_norm = number("gradient_norm");
  const auto skipped = line.find("skipped");
  m.skipped = skipped != line.end() && skipped->is_boolean() && skipped->get<bool>();
  m.tokens = integer("tokens");
  m.dense_flops = number("dense_flops");
  m.attention_flops = number("attention_flops");
  m.visible_share = number("visible_share");
  m.seconds = number("seconds");
  m.elapsed = number("elapsed");
  m.gemm_share = optional("gemm_share");
  m.valid_loss = optional("valid_loss");
  return m;
}

}  // namespace sepllm
