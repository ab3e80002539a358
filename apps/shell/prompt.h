// The options for a prompt: --prompt, --prompt-file or --prompt-ids, with --bos.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/options.h"
#include "engine/model.h"

namespace sepllm {

class PromptOptions {
 public:
  void declare(OptionSet* options);
  // The ids to start from, never empty: an empty prompt becomes just the start token. Error
  // (kInvalidArgument) for two prompts at once, ids out of range, text that is not UTF-8, or an empty prompt
  // if the model has no start token or with --bos off.
  std::vector<int32_t> ids(const Model& model) const;

 private:
  OptionSet* options_ = nullptr;
  std::string text_, file_, id_list_;
  std::string bos_ = "auto";
};

}  // namespace sepllm
