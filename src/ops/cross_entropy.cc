// The loss of training and its gradient, in blocks of rows.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "kernels/cpu_features.h"
#include "kernels/formats/element.h"
#include "kernels/linear/linear_backward.h"
#include "kernels/parallel.h"
#include "kernels/rowwise/elementwise_backward.h"
#include "kernels/rowwise/elementwise_rows.h"
#include "ops/ops.h"
#include "tensor/op_times.h"

namespace sepllm::ops {
namespace {

constexpr int64_t kExpWork = 16;
// Outputs of a part of the head: its logits (8 MiB for 1024 rows) stay in the last-level cache from one loop
// to the next. The size is fixed, because the order of sums depends on it.
constexpr int64_t kPartOut = 2048;

// A block of rows of cross_entropy, and where its results go.
struct Block {
  Matrix hidden, d_hidden;
  const CrossEntropyOperands& operands;
  int64_t begin;  // of its rows in targets, factors and nll
  double* nll;

  int64_t n_rows() const { return hidden.n_rows; }
  int32_t target(int64_t r) const { return operands.targets[static_cast<size_t>(begin + r)]; }
  float factor(int64_t r) const { return operands.factors[begin + r]; }
};

// Adds what flows back from the gradient `dy` of the outputs [out, out + w.n_out).
void flow_back(const Context& ctx, const Block& block, const Matrix& dy, const Weight& w, int64_t out) {
  float* dw = ctx.tape->parameter(block.operands.head->data);
  const float* bias = block.operands.bias;
  float* dbias = bias != nullptr ? ctx.tape->parameter(bias) : nullptr;
  linear_backward_weight(ctx, block.hidden, dy, w, dw != nullptr ? dw + out * w.n_in : nullptr,
                         dbias != nullptr ? dbias + out : nullptr);
  linear_backward_input(ctx, dy, w, block.d_hidden);
}

// The logits of all outputs at once, in f32.
void whole_block(const Context& ctx, const Block& block, const Matrix& logits) {
  const CrossEntropyOperands& o = block.operands;
  const auto targets =
      o.targets.subspan(static_cast<size_t>(block.begin), static_cast<size_t>(block.n_rows()));
  sepllm::linear(ctx, block.hidden, *o.head, o.bias, logits);
  cross_entropy_rows(ctx, logits, targets, o.factors + block.begin, block.nll + block.begin);
  flow_back(ctx, block, logits, *o.head, 0);
}

// In mixed precision: memory holds the exponentials of the logits in bf16, which are written once and read
// once; everything else happens to parts of the outputs that stay in cache.
class BlockByParts {
 public:
  // Scratch for blocks of at most n_rows rows.
  BlockByParts(const Context& ctx, const Weight& head, int64_t n_rows)
      : ctx_(ctx),
        n_out_(head.n_out),
        n_parts_((head.n_out + kPartOut - 1) / kPartOut),
        exps_(ctx.arena.allocate<bf16>(n_rows * head.n_out)),
        sums_(ctx.arena.allocate<LogSum>(n_rows * n_parts_)),
        logs_(ctx.arena.allocate<double>(n_rows)),
        of_target_(ctx.arena.allocate<float>(n_rows)),
        part_{ctx.arena.allocate<float>(n_rows * kPartOut), n_rows, kPartOut, kPartOut} {}

  void run(const Block& block) const {
    for (int64_t k = 0; k < n_parts_; ++k) forward(block, k);
    ctx_.pool.parallel_for(block.n_rows(), [&](int64_t r, int) {
      LogSum all = sums_[r * n_parts_];
      for (int64_t k = 1; k < n_parts_; ++k) add(sums_[r * n_parts_ + k], &all);
      logs_[r] = all.value();
      block.nll[block.begin + r] = logs_[r] - of_target_[r];
    });
    for (int64_t k = 0; k < n_parts_; ++k) backward(block, k);
  }

 private:
  int64_t size(int64_t part) const { return std::min(kPartOut, n_out_ - part * kPartOut); }
  bf16* exps(int64_t row, int64_t part) const { return exps_ + row * n_out_ + part * kPartOut; }
  static Weight weights(const Block& block, int64_t part, int64_t n_out) {
    Weight w = *block.operands.head;
    w.data = element_at(w.type, w.data, part * kPartOut * w.row_stride);
    w.n_out = n_out;
    return w;
  }
  static void add(const LogSum& more, LogSum* to) {
    const float top = std::max(to->top, more.top);
    to->total = to->total * std::exp(static_cast<double>(to->top) - top) +
                more.total * std::exp(static_cast<double>(more.top) - top);
    to->top = top;
  }
  // Where the row's target is in the part, or null.
  float* target_in(const Block& block, int64_t row, int64_t part) const {
    const int64_t at = block.target(row) - part * kPartOut;
    return at >= 0 && at < size(part) ? part_.row(row) + at : nullptr;
  }

  void forward(const Block& block, int64_t part) const {
    const int64_t n = size(part);
    const Matrix logits = part_.rows(0, block.n_rows()).columns(0, n);
    const float* bias = block.operands.bias;
    sepllm::linear(ctx_, block.hidden, weights(block, part, n),
                   bias != nullptr ? bias + part * kPartOut : nullptr, logits);
    parallel_for(ctx_, logits.n_rows, logits.n_rows * n * kExpWork, [&](int64_t r, int) {
      sums_[r * n_parts_ + part] = exp_row(logits.row(r), n, exps(r, part));
      if (const float* target = target_in(block, r, part)) of_target_[r] = *target;
    });
  }

  void backward(const Block& block, int64_t part) const {
    const int64_t n = size(part);
    const Matrix d = part_.rows(0, block.n_rows()).columns(0, n);
    parallel_for(ctx_, d.n_rows, d.n_rows * n, [&](int64_t r, int) {
      const double scale = std::exp(sums_[r * n_parts_ + part].top - logs_[r]) * block.factor(r);
      scaled_row(exps(r, part), n, static_cast<float>(scale), d.row(r));
      // softmax - 1, without the rounding of the stored exponential.
      if (float* target = target_in(block, r, part))
        *target = static_cast<float>(std::expm1(of_target_[r] - logs_[r]) * block.factor(r));
    });
    flow_back(ctx_, block, d, weights(block, part, n), part * kPartOut);
  }

  const Context& ctx_;
  int64_t n_out_, n_parts_;
  bf16* exps_;    // [row][output]
  LogSum* sums_;  // [row][part]
  double* logs_;  // [row] log of the sum of the exponentials
  float* of_target_;
  Matrix part_;  // of the logits, then of their gradient
};

bool by_parts(const Context& ctx, const Weight& head) {
  return ctx.float_products == FloatProducts::kBF16 && cpu_has_bf16_products() && !head.transposed;
}

}  // namespace

void cross_entropy(const Context& ctx, const Matrix& hidden, const CrossEntropyOperands& operands,
                   double* nll) {
  const OpTimer timer(ctx, OpKind::kHead, /*backward=*/false);
  const Weight& head = *operands.head;
  Tape* tape = ctx.tape;
  SEPLLM_CHECK(tape != nullptr && static_cast<int64_t>(operands.targets.size()) == hidden.n_rows);
  for (const int32_t t : operands.targets) SEPLLM_CHECK(t >= 0 && t < head.n_out);
  // As many rows as fit into 256 MiB, but at least 64: the head's weights and their gradient pass through
  // memory once for each block.
  constexpr int64_t kElements = int64_t{1} << 26;
  const int64_t most = std::clamp<int64_t>(kElements / head.n_out, 64, 1024);
  const int64_t n_blocks = std::max<int64_t>(1, (hidden.n_rows + most - 1) / most);
  const int64_t rows = (hidden.n_rows + n_blocks - 1) / n_blocks;
  const Matrix d_hidden{ctx.arena.allocate<float>(hidden.n_rows * hidden.n_cols), hidden.n_rows,
                        hidden.n_cols, hidden.n_cols};
  ctx.pool.parallel_for(d_hidden.n_rows,
                        [&](int64_t r, int) { std::fill_n(d_hidden.row(r), d_hidden.n_cols, 0.0F); });
  tape->record([d_hidden, slot = tape->slot(hidden)](const Context& c) {
    sepllm::add(c, c.tape->gradient(slot), d_hidden);
  });
  const Arena::Scope scope(ctx.arena);
  const auto for_each_block = [&](const auto& fn) {
    for (int64_t begin = 0; begin < hidden.n_rows; begin += rows) {
      const int64_t n = std::min(rows, hidden.n_rows - begin);
      fn(Block{hidden.rows(begin, n), d_hidden.rows(begin, n), operands, begin, nll});
    }
  };
  if (by_parts(ctx, head)) {
    const BlockByParts parts(ctx, head, rows);
    for_each_block([&](const Block& block) { parts.run(block); });
  } else {
    const Matrix logits{ctx.arena.allocate<float>(rows * head.n_out), rows, head.n_out, head.n_out};
    for_each_block([&](const Block& block) { whole_block(ctx, block, logits.rows(0, block.n_rows())); });
  }
}

}  // namespace sepllm::ops
