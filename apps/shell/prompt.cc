#include "apps/shell/prompt.h"

#include <cstdint>
#include <string>
#include <vector>

#include "apps/shell/common.h"
#include "base/error.h"
#include "text/token_ids.h"

namespace sepllm {

void PromptOptions::declare(OptionSet* options) {
  options_ = options;
  options->add_string("prompt", &text_, "text to continue");
  options->add_string("prompt-file", &file_, "file of text to continue", "FILE");
  options->add_string("prompt-ids", &id_list_, "token ids to continue, used as they are", "IDS");
  declare_bos_option(options, &bos_);
}

std::vector<int32_t> PromptOptions::ids(const Model& model) const {
  const bool by_ids = options_->was_set("prompt-ids");
  const bool by_file = options_->was_set("prompt-file");
  if (static_cast<int>(by_ids) + static_cast<int>(by_file) + static_cast<int>(options_->was_set("prompt")) >
      1) {
    throw Error(ErrorCode::kInvalidArgument, "more than one prompt given",
                {.expected = "one of --prompt, --prompt-file and --prompt-ids"});
  }
  if (by_ids && options_->was_set("bos")) {
    throw Error(ErrorCode::kInvalidArgument,
                "--bos does not go with --prompt-ids, which are used as they are");
  }
  std::vector<int32_t> ids;
  if (by_ids) {
    ids = parse_ids(id_list_, "--prompt-ids");
    check_ids(ids, model.config().vocab_size, "--prompt-ids");
  } else {
    const std::string text = by_file ? read_text(file_) : text_;
    if (!text.empty()) ids = model.encode(text, bos_);
  }
  if (!ids.empty()) return ids;
  if (bos_ == "off") {
    throw Error(ErrorCode::kInvalidArgument,
                "an empty prompt starts from the BOS token, which --bos off forbids");
  }
  return {model.start_token()};
}

}  // namespace sepllm
