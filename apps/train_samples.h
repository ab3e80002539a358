// Sample texts by a model in training.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model.h"
#include "tensor/arena.h"
#include "train/trainer.h"

namespace sepllm {

class TextSampler {
 public:
  // Error (kInvalidArgument) for an empty `sample_prompt` if the tokenizer has no token that a text could
  // start after.
  TextSampler(Trainer& trainer, ThreadPool& pool);

  // `sample_prompt` and `sample_tokens` more tokens, drawn at `sample_temp` with the run's seed, under the
  // policy of the trainer's step: the same parameters give the same text. If the model's logits are not
  // numbers, a remark is returned instead.
  std::string text();

 private:
  Trainer& trainer_;
  ThreadPool& pool_;
  Model model_;
  std::vector<int32_t> prompt_;
  Arena arena_;
};

}  // namespace sepllm
