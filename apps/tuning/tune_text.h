// Cuts a text into the pieces on which `sepllm tune` searches and those on which it reports.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/tuning/trials.h"
#include "engine/model.h"

namespace sepllm {

struct TuneCut {
  std::vector<std::string> files{};
  std::string bos = "auto";
  int64_t context = 0;  // tokens of a piece; 0: at most 2048, as far as the model and the text allow
  int64_t search_tokens = 0, report_tokens = 0;
};

struct TuneTexts {
  int64_t context = 0;
  TunePieces search{}, report{};  // from the first and from the second half of the text
  bool has_specials = false;      // special tokens occur in the text
};

// The pieces of each half are spread evenly over it. Error (kInvalidArgument) for a text that is too short,
// and a context beyond the model's position limit; and as for Model::encode.
TuneTexts cut_text(const Model& model, const TuneCut& cut);

}  // namespace sepllm
