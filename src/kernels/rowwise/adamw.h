// One step of AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization"; the order of operations
// of PyTorch's torch.optim.AdamW).
#pragma once

#include <cstdint>

#include "tensor/context.h"

namespace sepllm {

struct AdamwStep {
  float lr = 0;
  float beta1 = 0.9F;
  float beta2 = 0.95F;
  float eps = 1e-8F;
  float weight_decay = 0;
  float gradient_scale = 1;  // multiplies the gradient first (clipping)
  int64_t step = 1;          // counts from 1, for the bias correction of the moments
};

// Computes in one pass over memory: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p = p (1 - lr wd) - lr (m
// / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps). All arrays: [n].
void adamw(const Context& ctx, const AdamwStep& step, int64_t n, const float* gradient, float* parameter,
           float* m, float* v);

// The same in double precision, element by element.
void adamw_reference(const AdamwStep& step, int64_t n, const float* gradient, float* parameter, float* m,
                     float* v);

// The sum of squares, added up in double between pieces of fixed size: the same for any number of threads.
double sum_of_squares(const Context& ctx, const float* x, int64_t n);

}  // namespace sepllm
