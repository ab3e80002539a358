// The order of a matrix's rows in a file, where it is not that of the family's own checkpoints.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace sepllm {

struct QkvLayout;

// Row r of the matrix (element r of a bias) is row (*order)[r] of the file. Null: the same order.
using RowOrder = std::shared_ptr<const std::vector<int64_t>>;

// Heads whose two halves lie in pairs: row i of a head's first half is its row 2 i in the file, and row i of
// the second half row 2 i + 1. (GGUF's q and k of llama, for rotations of neighbours.)
RowOrder paired_rows(int64_t n_heads, int64_t head_dim);

// A fused QKV matrix of this layout that lies in the file as all queries, all keys, all values. (GGUF's
// gptneox and falcon.)
RowOrder rows_of_parts(const QkvLayout& layout, int64_t n_heads, int64_t n_kv_heads, int64_t head_dim);

}  // namespace sepllm
