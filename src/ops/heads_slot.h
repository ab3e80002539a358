// The gradient of heads, for the backward closures of ops.
#pragma once

#include "tensor/context.h"
#include "tensor/heads.h"
#include "tensor/tape.h"

namespace sepllm::ops {

// Where the gradient of heads in an activation of the tape lies. Call gradient() only inside a backward
// closure.
struct HeadsSlot {
  HeadsSlot(const Context& ctx, const Heads& x) : heads(x), slot(ctx.tape->slot({x.data, 1, 1, 1})) {}
  Heads gradient(const Context& ctx) const {
    Heads g = heads;
    g.data = ctx.tape->gradient(slot).data;
    return g;
  }
  Heads heads;
  Tape::Slot slot;
};

}  // namespace sepllm::ops
