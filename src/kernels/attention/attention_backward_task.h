// The work of one task of pattern_attention_backward, as the vector kernel takes it.
#pragma once

#include <cstdint>

#include "kernels/attention/attention_task.h"
#include "kernels/attention/pattern_attention.h"

namespace sepllm {

// Sums over queries of the gradients of one span's keys, for one kv head: [n_keys][attention_tile_stride],
// padded elements included.
struct KeyGradients {
  float* k;
  float* v;
};

// A tile of queries: sets their d_q and adds to the sums of their keys.
struct AttentionBackwardTask {
  AttentionTask tile;  // without output, partial and next
  const float* out;    // as args->out, that the forward pass left
  const float* log_sum_exp;
  const PatternAttentionGradients* gradients;
  const KeyGradients* key_gradients;  // by span of the sequence
  const AttentionBackwardTask* next;  // null, or the one after it

  int64_t row(int64_t r) const { return tile.sequence->first_row + tile.row + r; }
  const float* out_row(int64_t r, int64_t h) const {
    return out + row(r) * tile.args->out_row_stride + (tile.head + h) * tile.args->head_dim;
  }
  const float* d_out(int64_t r, int64_t h) const {
    return gradients->d_out + row(r) * gradients->d_out_row_stride + (tile.head + h) * tile.args->head_dim;
  }
  float* d_q(int64_t r, int64_t h) const {
    return gradients->d_q + row(r) * gradients->d_q_row_stride +
           tile.kv_head() * gradients->d_q_group_stride +
           (tile.head % tile.group() + h) * tile.args->head_dim;
  }
  float log_sum_exp_of(int64_t r, int64_t h) const {
    return log_sum_exp[row(r) * tile.args->n_heads + tile.head + h];
  }
};

void attention_backward(const AttentionBackwardTask& t);
// to[d] = the sum over i of rows[i][d], for n_rows >= 1 rows that are padded to whole vectors. stream: past
// the caches (to be ended by attention_end_stream).
void attention_sum_rows(const float* const* rows, int64_t n_rows, int64_t n, bool stream, float* to);
void attention_end_stream();
int64_t attention_backward_scratch(int64_t head_dim, int64_t lanes);  // floats

}  // namespace sepllm
