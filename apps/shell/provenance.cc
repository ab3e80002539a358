#include "apps/shell/provenance.h"

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/build_info.h"
#include "kernels/cpu_features.h"

namespace sepllm {

Json provenance(int threads, std::optional<int64_t> seed) {
  Json out = {{"version", build_version()},
              {"commit", build_commit()},
              {"cpu", cpu_name()},
              {"instruction_sets", instruction_sets()},
              {"threads", threads}};
  if (seed) out["seed"] = *seed;
  return out;
}

std::string provenance_line(const Json& provenance) {
  const auto text = [&](const char* key) { return provenance.at(key).get<std::string>(); };
  const int threads = provenance.at("threads").get<int>();
  std::string out =
      fmt::format("Made by sepllm {} (commit {}) on {} ({}) with {} thread{}", text("version"),
                  text("commit"), text("cpu"), text("instruction_sets"), threads, threads == 1 ? "" : "s");
  if (provenance.contains("seed")) out += fmt::format(", seed {}", provenance.at("seed").get<int64_t>());
  return out + ".";
}

}  // namespace sepllm
