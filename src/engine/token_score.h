// How likely the model held a token to be.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace sepllm {

struct TokenScore {
  int32_t id = 0;
  // natural logarithm of the softmax of the raw logits, before penalties and temperature
  float logprob = 0.0F;
  // The most likely tokens with their log-probabilities, best first; of equal ones the smaller id comes
  // first. The token itself, if it is among them, has the same bits here as in `logprob`.
  std::vector<std::pair<int32_t, float>> top{};
};

}  // namespace sepllm
