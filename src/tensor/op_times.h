// Where the time of a training step goes: seconds for each kind of op, with separate numbers for forward and
// backward.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>

#include "tensor/context.h"

namespace sepllm {

enum class OpKind { kEmbed, kLinear, kNorm, kRope, kActivation, kAttention, kHead };
inline constexpr std::array<const char*, 7> kOpNames = {"embed",      "linear",    "norm", "rope",
                                                        "activation", "attention", "head"};

struct OpTimes {
  std::array<double, kOpNames.size()> forward{}, backward{};
};

// Adds the seconds of its lifetime to ctx.times, if there is one. The head computes its gradient in the
// forward pass and is counted there.
class OpTimer {
 public:
  OpTimer(const Context& ctx, OpKind kind, bool backward) {
    if (ctx.times == nullptr) return;
    to_ = &(backward ? ctx.times->backward : ctx.times->forward)[static_cast<size_t>(kind)];
    start_ = std::chrono::steady_clock::now();
  }
  ~OpTimer() {
    if (to_ != nullptr)
      *to_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;

 private:
  double* to_ = nullptr;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace sepllm
