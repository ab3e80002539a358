// One task of attention_backward, in the form that the vector kernel takes.
#pragma once

#include <cstdint>

#include "kernels/attention/attention_task.h"

namespace sepllm {

// A tile of queries: the kernel sets their d_q (or adds to it) and adds to the gradient sums of their keys.
struct AttentionBackwardTask {
  AttentionTask tile;  // without partial and next; its output and log_sum_exp are read
  const AttentionGradients* gradients;
  // Gradient sums of one kv head's keys or values over queries: [sums of the sequence's KeyRows]
  // [attention_tile_stride], including padded elements.
  float* key_sums;
  float* value_sums;
  bool adds_to_d_q;                   // d_q holds the part of other keys already
  const AttentionBackwardTask* next;  // null, or the task after this one

  const float* out(int64_t r, int64_t h) const { return tile.output(r, h); }
  const float* d_out(int64_t r, int64_t h) const { return tile.at(gradients->d_out, r, h); }
  float* d_q(int64_t r, int64_t h) const { return tile.at(gradients->d_q, r, h); }
  float log_sum_exp(int64_t r, int64_t h) const { return *tile.log_sum_exp(r, h); }
};

void attention_backward(const AttentionBackwardTask& t);
// to[d] = the sum over i of rows[i][d], for n_rows >= 1 rows that are padded to whole vectors. stream:
// written past the caches (call attention_end_stream afterwards).
void attention_sum_rows(const float* const* rows, int64_t n_rows, int64_t n, bool stream, float* to);
void attention_end_stream();
int64_t attention_backward_scratch(int64_t head_dim, int64_t lanes);  // floats

}  // namespace sepllm
