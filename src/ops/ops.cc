#include "ops/ops.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>

#include "base/check.h"
#include "kernels/formats/rows.h"
#include "kernels/linear/linear_backward.h"
#include "kernels/rowwise/elementwise_backward.h"
#include "kernels/rowwise/norm.h"
#include "ops/heads_slot.h"
#include "tensor/op_times.h"
#include "tensor/tape.h"

namespace sepllm::ops {
namespace {

// A copy of x for the backward pass, because x will be overwritten.
Matrix saved(const Context& ctx, const Matrix& x) {
  const Matrix copy = ctx.tape->keep(x.n_rows, x.n_cols);
  ctx.pool.parallel_for(x.n_rows, [&](int64_t r, int) { std::copy_n(x.row(r), x.n_cols, copy.row(r)); });
  return copy;
}

}  // namespace

Tape::Packing bf16_packing() {
  return {[](const float* from, int64_t n, uint16_t* to) { row_from_f32(DType::kBF16, from, n, to); },
          [](const uint16_t* from, int64_t n, float* to) { row_to_f32(DType::kBF16, from, n, to); }};
}

void embed(const Context& ctx, const Weight& table, std::span<const int64_t> ids, const Matrix& y,
           bool accumulate) {
  const OpTimer timer(ctx, OpKind::kEmbed, /*backward=*/false);
  sepllm::embed(ctx, table, ids, y, accumulate);
  float* gradient = ctx.tape != nullptr ? ctx.tape->parameter(table.data) : nullptr;
  if (gradient == nullptr) return;
  ctx.tape->record([ids, slot = ctx.tape->slot(y), gradient](const Context& c) {
    const OpTimer timer(c, OpKind::kEmbed, /*backward=*/true);
    embed_backward(c, ids, c.tape->gradient(slot), gradient);
  });
}

void linear(const Context& ctx, const Matrix& x, std::span<const LinearPart> parts) {
  const OpTimer timer(ctx, OpKind::kLinear, /*backward=*/false);
  sepllm::linear(ctx, x, parts);
  if (ctx.tape == nullptr) return;
  for (const LinearPart& part : parts) {
    const Tape::Slot from = ctx.tape->slot(x), to = ctx.tape->slot(part.y);
    ctx.tape->record([x, w = *part.w, bias = part.bias, from, to](const Context& c) {
      const OpTimer timer(c, OpKind::kLinear, /*backward=*/true);
      const Matrix dy = c.tape->gradient(to);
      linear_backward_weight(c, x, dy, w, c.tape->parameter(w.data),
                             bias != nullptr ? c.tape->parameter(bias) : nullptr);
      linear_backward_input(c, dy, w, c.tape->gradient(from));
    });
  }
}

void activate(const Context& ctx, Activation f, const Matrix& x) {
  const OpTimer timer(ctx, OpKind::kActivation, /*backward=*/false);
  if (ctx.tape != nullptr) {
    ctx.tape->record([f, before = saved(ctx, x), slot = ctx.tape->slot(x)](const Context& c) {
      const OpTimer timer(c, OpKind::kActivation, /*backward=*/true);
      activate_backward(c, f, before, c.tape->gradient(slot));
    });
  }
  sepllm::activate(ctx, f, x);
}

void activate_gated(const Context& ctx, Activation f, const Matrix& x, const Matrix& up) {
  const OpTimer timer(ctx, OpKind::kActivation, /*backward=*/false);
  if (ctx.tape != nullptr) {
    const Tape::Slot gate = ctx.tape->slot(x), factor = ctx.tape->slot(up);
    ctx.tape->record([f, before = saved(ctx, x), up, gate, factor](const Context& c) {
      const OpTimer timer(c, OpKind::kActivation, /*backward=*/true);
      activate_gated_backward(c, f, before, up, c.tape->gradient(gate), c.tape->gradient(factor));
    });
  }
  sepllm::activate_gated(ctx, f, x, up);
}

namespace {

// What the kernels multiply by: the stored weights, or a copy that the offset is added to.
const float* effective_weight(const Context& ctx, const NormOperands& operands, int64_t n) {
  if (operands.offset == 0) return operands.weight;
  auto* out = ctx.arena.allocate<float>(n);
  std::transform(operands.weight, operands.weight + n, out,
                 [offset = operands.offset](float w) { return w + offset; });
  return out;
}

// (The gradients of weight + offset are those of the weight.)
NormBackward norm_backward_of(const Context& ctx, const NormOperands& operands, int64_t n) {
  return {.rms = operands.rms,
          .weight = effective_weight(ctx, operands, n),
          .eps = operands.eps,
          .dweight = ctx.tape->parameter(operands.weight),
          .dbias = operands.bias != nullptr ? ctx.tape->parameter(operands.bias) : nullptr};
}

// As saved(): [n_rows * heads, dim].
Matrix saved_heads(const Context& ctx, const Heads& x, int64_t n_rows) {
  const int64_t n_heads = x.layout.n, dim = x.layout.dim;
  const Matrix copy = ctx.tape->keep(n_rows * n_heads, dim);
  ctx.pool.parallel_for(n_rows, [&](int64_t r, int) {
    for (int64_t h = 0; h < n_heads; ++h) std::copy_n(x.at(r, h), dim, copy.row(r * n_heads + h));
  });
  return copy;
}

}  // namespace

void norm(const Context& ctx, const Matrix& x, const NormOperands& operands, const Matrix& y) {
  const OpTimer timer(ctx, OpKind::kNorm, /*backward=*/false);
  SEPLLM_CHECK(x.n_rows == y.n_rows && x.n_cols == y.n_cols);
  if (ctx.tape != nullptr) {
    const Tape::Slot from = ctx.tape->slot(x), to = ctx.tape->slot(y);
    const bool in_place = x.data == y.data;
    ctx.tape->record([before = saved(ctx, x), operands, from, to, in_place](const Context& c) {
      const OpTimer timer(c, OpKind::kNorm, /*backward=*/true);
      const Arena::Scope scope(c.arena);
      norm_backward(c, before, norm_backward_of(c, operands, before.n_cols), c.tape->gradient(to),
                    c.tape->gradient(from), !in_place);
    });
  }
  const Arena::Scope scope(ctx.arena);
  const float* weight = effective_weight(ctx, operands, x.n_cols);
  if (operands.rms) {
    rms_norm(ctx, x, weight, operands.eps, y);
  } else {
    layer_norm(ctx, x, weight, operands.bias, operands.eps, y);
  }
}

void norm_heads(const Context& ctx, const Heads& x, int64_t n_rows, const NormOperands& operands) {
  const OpTimer timer(ctx, OpKind::kNorm, /*backward=*/false);
  SEPLLM_CHECK(operands.rms && operands.bias == nullptr);
  if (ctx.tape != nullptr) {
    ctx.tape->record(
        [before = saved_heads(ctx, x, n_rows), slot = HeadsSlot(ctx, x), operands, n_rows](const Context& c) {
          const OpTimer timer(c, OpKind::kNorm, /*backward=*/true);
          const Arena::Scope scope(c.arena);
          rms_norm_heads_backward(c, before, norm_backward_of(c, operands, before.n_cols), slot.gradient(c),
                                  n_rows);
        });
  }
  const Arena::Scope scope(ctx.arena);
  rms_norm_heads(ctx, x, n_rows, effective_weight(ctx, operands, x.layout.dim), operands.eps);
}

void scale(const Context& ctx, const Matrix& x, float factor) {
  const auto multiply = [factor](const Context& c, const Matrix& m) {
    c.pool.parallel_for(m.n_rows, [&](int64_t r, int) {
      std::transform(m.row(r), m.row(r) + m.n_cols, m.row(r), [&](float v) { return v * factor; });
    });
  };
  const OpTimer timer(ctx, OpKind::kEmbed, /*backward=*/false);
  multiply(ctx, x);
  if (ctx.tape == nullptr) return;
  ctx.tape->record([multiply, slot = ctx.tape->slot(x)](const Context& c) {
    const OpTimer timer(c, OpKind::kEmbed, /*backward=*/true);
    multiply(c, c.tape->gradient(slot));
  });
}

void copy(const Context& ctx, const Matrix& x, const Matrix& y) {
  const OpTimer timer(ctx, OpKind::kNorm, /*backward=*/false);  // (where other layers have a norm)
  SEPLLM_CHECK(x.n_rows == y.n_rows && x.n_cols == y.n_cols);
  ctx.pool.parallel_for(x.n_rows, [&](int64_t r, int) { std::copy_n(x.row(r), x.n_cols, y.row(r)); });
  if (ctx.tape == nullptr) return;
  ctx.tape->record([from = ctx.tape->slot(x), to = ctx.tape->slot(y)](const Context& c) {
    const OpTimer timer(c, OpKind::kNorm, /*backward=*/true);
    sepllm::add(c, c.tape->gradient(from), c.tape->gradient(to));
  });
}

void add(const Context& ctx, const Matrix& x, const Matrix& y) {
  const OpTimer timer(ctx, OpKind::kNorm, /*backward=*/false);  // (sums that a post-norm belongs to)
  sepllm::add(ctx, x, y);
  if (ctx.tape == nullptr) return;
  ctx.tape->record([to = ctx.tape->slot(x), from = ctx.tape->slot(y)](const Context& c) {
    const OpTimer timer(c, OpKind::kNorm, /*backward=*/true);
    sepllm::add(c, c.tape->gradient(from), c.tape->gradient(to));
  });
}

RopeTables rope_tables(const Context& ctx, const RopeSpec& rope, std::span<const int64_t> places) {
  const int64_t n_freq = std::ssize(rope.inv_freq), n = std::ssize(places) * n_freq;
  auto* cos = ctx.arena.allocate<float>(n);
  auto* sin = ctx.arena.allocate<float>(n);
  sepllm::rope_tables(ctx, rope.inv_freq, places, cos, sin, rope.factor);
  return {n_freq, cos, sin};
}

void rope(const Context& ctx, const RopeOperands& o) {
  const OpTimer timer(ctx, OpKind::kRope, /*backward=*/false);
  if (o.second.cos != nullptr) rope_rotate(ctx, o.q, o.second_q, o.n_rows, o.pairing, o.second);
  rope_rotate(ctx, o.q, o.q, o.n_rows, o.pairing, o.first);
  rope_rotate(ctx, o.k, o.k, o.n_rows, o.pairing, o.first);
  if (ctx.tape == nullptr) return;
  SEPLLM_CHECK(o.second.cos == nullptr);
  ctx.tape->record([o, q = HeadsSlot(ctx, o.q), k = HeadsSlot(ctx, o.k)](const Context& c) {
    const OpTimer timer(c, OpKind::kRope, /*backward=*/true);
    // The gradient of a rotation is rotated back by the same angles.
    const Arena::Scope scope(c.arena);
    const int64_t n = o.n_rows * o.first.n_freq;
    float* sin = c.arena.allocate<float>(n);
    std::transform(o.first.sin, o.first.sin + n, sin, [](float s) { return -s; });
    const RopeTables back{o.first.n_freq, o.first.cos, sin};
    for (const HeadsSlot& heads : {q, k}) {
      const Heads g = heads.gradient(c);
      rope_rotate(c, g, g, o.n_rows, o.pairing, back);
    }
  });
}

namespace {

// The sequences with memory for what their queries choose, which the backward pass reads.
std::span<const PatternSequence> with_choices(const Context& ctx, const PatternAttentionArgs& args) {
  auto* out = ctx.arena.allocate<PatternSequence>(std::ssize(args.sequences));
  std::transform(args.sequences.begin(), args.sequences.end(), out, [&](PatternSequence s) {
    const int64_t count = s.pattern->blocks.count;
    if (count > 1) s.chosen = ctx.arena.allocate<int32_t>(s.n_rows * args.q.layout.n * (count - 1));
    return s;
  });
  return {out, args.sequences.size()};
}

}  // namespace

void pattern_attend(const Context& ctx, const PatternAttentionArgs& args) {
  const OpTimer timer(ctx, OpKind::kAttention, /*backward=*/false);
  if (ctx.tape == nullptr) return pattern_attention(ctx, args);
  int64_t n_rows = 0;
  for (const PatternSequence& s : args.sequences) {
    SEPLLM_CHECK(s.batch == 0);  // activations of a tape are rows of tokens
    n_rows = std::max(n_rows, s.first_row + s.n_rows);
  }
  const int64_t n_heads = args.q.layout.n;
  PatternAttentionArgs own = args;
  own.sequences = with_choices(ctx, args);
  own.log_sum_exp = {ctx.arena.allocate<float>(n_rows * n_heads), n_heads, HeadLayout::dense(n_heads, 1)};
  pattern_attention(ctx, own);
  ctx.tape->record([own, q = HeadsSlot(ctx, args.q), k = HeadsSlot(ctx, args.k), v = HeadsSlot(ctx, args.v),
                    out = HeadsSlot(ctx, args.out)](const Context& c) {
    const OpTimer timer(c, OpKind::kAttention, /*backward=*/true);
    pattern_attention_backward(c, own,
                               {.d_out = out.gradient(c),
                                .d_q = q.gradient(c),
                                .d_k = k.gradient(c),
                                .d_v = v.gradient(c),
                                .same_for_any_threads = true});
  });
}

}  // namespace sepllm::ops
