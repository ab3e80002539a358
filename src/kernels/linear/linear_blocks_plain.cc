#include <cmath>
#include <cstdint>

#include "kernels/formats/panels.h"
#include "kernels/formats/scales.h"
#include "kernels/linear/linear_blocks.h"

namespace sepllm {
namespace {

// Group b of one output times all rows: sums[r][0] += ..
void add_group(const PanelForm& form, const Quanta& quanta, const QuantizedRows& x, int64_t b, int64_t n_rows,
               float* sums) {
  const GroupScales scales = group_scales(form, quanta);
  const int64_t n = kGroupElements / form.parts();
  for (int64_t r = 0; r < n_rows; ++r) {
    const int64_t block = r * x.n_blocks + b;
    float& sum = sums[r * kPanelOutputs];
    for (int64_t part = 0; part < form.parts(); ++part) {
      const int8_t* values = x.values + block * kGroupElements + part * n;
      int32_t dot = x.starts[block * form.parts() + part];
      for (int64_t k = 0; k < n; ++k) dot += quanta.values[part * n + k] * values[k];
      sum = std::fma(scales.scale[part] * static_cast<float>(dot), x.scales[block], sum);
    }
    if (form.has_minima()) sum = std::fma(scales.minimum, x.sums[block], sum);
  }
}

}  // namespace

void run_panels_plain(const PanelRun& run, const QuantizedRows& x) {
  const PanelForm& form = format_of(run.type).panel;
  for (int64_t b = 0; b < form.groups() * run.n_units; ++b) {
    for (int s = 0; s < run.n_streams; ++s) {
      const char* unit = run.panels[s] + b / form.groups() * form.unit_bytes();
      for (int64_t lane = 0; lane < kPanelOutputs; ++lane) {
        const Quanta quanta = read_group(form, unit, b % form.groups(), lane);
        add_group(form, quanta, x, b, run.n_rows, run.sum(s, 0) + lane);
      }
    }
  }
}

}  // namespace sepllm
