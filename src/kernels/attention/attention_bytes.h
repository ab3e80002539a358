// Attention of a decoding step over int8 keys and values by dot products of bytes: AVX-512 with VNNI. The
// other kernels convert every key and value to f32, which limits them where several query heads share a kv
// head.
//
// The definition (attention_bytes_test.cc has it in plain loops). For each query row and head, q = query *
// scale * log2(e):
//
//   step_q = max |q_d| / kByteQueryMost,   Q_d = round(q_d / step_q)
//   score_j = (sum over d of Q_d * K_jd, an exact integer) * (step_q * scale of key j) + ALiBi's bias
//   w_j = exp2(score_j - largest so far) * scale of value j
//   for each block of kByteBlock keys: step = max w_j / kByteWeightMost,   W_j = round(w_j / step)
//   out = sum over blocks of (sum over j of W_j * V_j, an exact integer) * step, divided by sum exp2(...)
//
// So the only difference from attention in f32 is the rounding of queries and weights to 16 bits:
//
// - |step_q Q_d - q_d| <= max |q| / 65278 changes a score by at most max |q| * sum |k_j| / 65278. (Rounding
//   the key to int8 changed it by up to max |k_j| * sum |q| / 254.)
// - |step W_j - w_j| <= max w / 131070 changes an output by at most 64 / 131070 of the largest value;
// rounding
//   goes both ways, so that in practice it is about a hundredth of that.
#pragma once

#include <cstdint>

#include "kernels/attention/attention_task.h"

namespace sepllm {

// The largest integers of queries and weights: two signed bytes, two unsigned bytes.
inline constexpr int kByteQueryMost = 127 * 256 + 127;
inline constexpr int kByteWeightMost = 65535;
// The keys whose weights have one step, and the keys whose scores are computed before their softmax.
inline constexpr int64_t kByteBlock = 64;
inline constexpr int64_t kByteTile = 256;
inline constexpr int64_t kByteMostHeadDim = 256;

// Whether this machine has the instructions.
bool has_attention_bytes();
// For int8 keys and values, head_dim <= kByteMostHeadDim and at most kAttentionTileLanes lanes. It computes
// no log_sum_exp, and does not stream the output (checked).
void attention_bytes(const AttentionTask& t);
int64_t attention_bytes_scratch(int64_t head_dim, int64_t lanes);  // floats, for at most this many lanes

}  // namespace sepllm
