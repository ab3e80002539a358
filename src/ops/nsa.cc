#include "ops/nsa.h"

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/check.h"
#include "kernels/rowwise/gated_sum.h"
#include "ops/heads_slot.h"
#include "tensor/op_times.h"
#include "tensor/tape.h"

namespace sepllm::ops {
namespace {

// The outputs of the branches: with a tape they are activations.
NsaHeads branch_heads(const Context& ctx, int64_t n_rows, const HeadLayout& heads) {
  NsaHeads out;
  const int64_t n = heads.n * heads.dim;
  for (Heads& x : out) {
    float* data =
        ctx.tape != nullptr ? ctx.tape->activation(n_rows, n).data : ctx.arena.allocate<float>(n_rows * n);
    x = {data, n, HeadLayout::dense(heads.n, heads.dim)};
  }
  return out;
}

void record_sum(const Context& ctx, const NsaOperands& o, const NsaHeads& branches) {
  const HeadsSlot slots[kNsaBranches] = {{ctx, branches[0]}, {ctx, branches[1]}, {ctx, branches[2]}};
  ctx.tape->record([gates = o.gates, d_gates = ctx.tape->slot(o.gates), branches, slots,
                    out = HeadsSlot(ctx, o.out)](const Context& c) {
    const OpTimer timer(c, OpKind::kAttention, /*backward=*/true);
    const NsaHeads d_branches{slots[0].gradient(c), slots[1].gradient(c), slots[2].gradient(c)};
    gated_sum_backward(c, gates, branches, out.gradient(c), c.tape->gradient(d_gates), d_branches);
  });
}

void record_attention(const Context& ctx, const NsaArgs& args) {
  const HeadsSlot slots[kNsaBranches] = {{ctx, args.out[0]}, {ctx, args.out[1]}, {ctx, args.out[2]}};
  ctx.tape->record([args, slots, q = HeadsSlot(ctx, args.q), k = HeadsSlot(ctx, args.k),
                    v = HeadsSlot(ctx, args.v)](const Context& c) {
    const OpTimer timer(c, OpKind::kAttention, /*backward=*/true);
    nsa_attention_backward(c, args,
                           {.d_out = {slots[0].gradient(c), slots[1].gradient(c), slots[2].gradient(c)},
                            .d_q = q.gradient(c),
                            .d_k = k.gradient(c),
                            .d_v = v.gradient(c)});
  });
}

}  // namespace

void nsa_attend(const Context& ctx, const NsaOperands& o) {
  const OpTimer timer(ctx, OpKind::kAttention, /*backward=*/false);
  std::optional<Arena::Scope> scope;
  if (ctx.tape == nullptr) scope.emplace(ctx.arena);
  const int64_t n_rows = o.gates.n_rows, n_heads = o.q.layout.n;
  SEPLLM_CHECK(o.gates.n_cols == static_cast<int64_t>(kNsaBranches) * n_heads);
  NsaArgs args{.rule = o.rule,
               .scale = o.scale,
               .q = o.q,
               .k = o.k,
               .v = o.v,
               .out = branch_heads(ctx, n_rows, o.q.layout),
               .sequences = o.sequences};
  if (ctx.tape != nullptr) {
    args.selection = ctx.arena.allocate<int32_t>(n_rows * o.k.layout.n * o.rule.chosen());
    for (Heads& x : args.log_sum_exp)
      x = {ctx.arena.allocate<float>(n_rows * n_heads), n_heads, HeadLayout::dense(n_heads, 1)};
  }
  nsa_attention(ctx, args);
  if (ctx.tape != nullptr) record_attention(ctx, args);
  int64_t n_own = 0;
  for (const NsaSequence& s : o.sequences) {
    const NsaHeads branches{args.out[0].rows(s.first_row), args.out[1].rows(s.first_row),
                            args.out[2].rows(s.first_row)};
    gated_sum(ctx, o.gates.rows(s.first_row, s.n_rows), branches, o.out.rows(s.first_row));
    n_own += s.n_rows;
  }
  if (ctx.tape == nullptr) return;
  SEPLLM_CHECK(n_own == n_rows);
  record_sum(ctx, o, args.out);
}

}  // namespace sepllm::ops
