// Products of few rows with weights of 4 to 8 bits: bound by reading the panels, each line once for all rows.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/formats/format.h"
#include "kernels/formats/quantized_rows.h"
#include "tensor/walk.h"

namespace sepllm {

// The panels that are read at the same time (Walk::streams), multiplied with all rows: sums[s][r][o] += the
// product of output o of panel s with row r, o < 16.
struct PanelRun {
  DType type;
  int ahead;  // bytes of each panel that are fetched ahead, into the panel that follows; 0: none
  int n_streams = 0;
  const char* panels[kMostStreams] = {};
  int64_t n_units;
  int64_t n_rows;
  float* sums;  // [n_streams, n_rows, 16], 64-byte aligned

  float* sum(int64_t stream, int64_t row) const { return sums + (stream * n_rows + row) * 16; }
};

// A pair of blocks of rows of activations, row r of them.
struct PairOfRows {
  const int8_t* values;
  const float* scales;
  const int32_t* starts;
  const float* sums;
  int64_t n_blocks, n_parts;

  PairOfRows(const QuantizedRows& q, int64_t row, int64_t pair)
      : values(q.values + (row * q.n_blocks + 2 * pair) * kGroupElements),
        scales(q.scales + row * q.n_blocks + 2 * pair),
        starts(q.starts + (row * q.n_blocks + 2 * pair) * q.n_parts),
        sums(q.sums + (q.sums != nullptr ? row * q.n_blocks + 2 * pair : 0)),
        n_blocks(q.n_blocks),
        n_parts(q.n_parts) {}
  // Elements k .. k + 3, as the integer instructions take them.
  int32_t four_values(int64_t r, int64_t k) const {
    int32_t four;
    std::memcpy(&four, values + r * n_blocks * kGroupElements + k, sizeof(four));
    return four;
  }
  int32_t start(int64_t r, int64_t b) const { return starts[r * n_blocks + b]; }  // where there is one part
  int32_t start(int64_t r, int64_t b, int64_t part) const {
    return starts[(r * n_blocks + b) * n_parts + part];
  }
  float scale(int64_t r, int64_t b) const { return scales[r * n_blocks + b]; }
  float sum(int64_t r, int64_t b) const { return sums[r * n_blocks + b]; }
};

// Computes in integers and adds in the order of linear_blocks_reference.
void run_panels(const PanelRun& run, const QuantizedRows& x);
// Exactly: with each weight as f32. x: [n_rows, all inputs of n_units], rows `stride` apart, zeros beyond
// n_in.
void run_panels_exact(const PanelRun& run, const float* x, int64_t stride);

// The kernels that run_panels chooses from: AVX-512 with VNNI (kernels/cpu_features.h), AVX2, and the
// definition for any machine. All give the same bits.
void run_panels_vnni(const PanelRun& run, const QuantizedRows& x);
void run_panels_avx2(const PanelRun& run, const QuantizedRows& x);
void run_panels_plain(const PanelRun& run, const QuantizedRows& x);

}  // namespace sepllm
