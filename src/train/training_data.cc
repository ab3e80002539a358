#include "train/training_data.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace sepllm {

TrainingData open_training_data(const TrainConfig& config, int64_t vocab_size) {
  const auto open = [&](const std::vector<TokenSource>& sources, int64_t seed, SampleRange range) {
    return std::make_unique<TokenData>(sources, config.seq_length, vocab_size, static_cast<uint64_t>(seed),
                                       range);
  };
  // The same seed for all runs, so that runs with several seeds are judged by the same samples.
  constexpr int64_t kHeldOutSeed = 1;
  const double end = config.valid_data.empty() ? 1 - config.valid_share : 1;
  TrainingData data{.train = open(config.data, config.seed, {0, end}), .held_out = nullptr};
  if (!config.valid_data.empty()) {
    data.held_out = open(config.valid_data, kHeldOutSeed, {});
  } else if (config.valid_share > 0) {
    data.held_out = open(config.data, kHeldOutSeed, {end, 1});
  }
  return data;
}

}  // namespace sepllm
