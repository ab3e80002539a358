// The sampling settings that a model ships with, in generation_config.json.
#pragma once

#include <string>

#include "engine/sampler.h"

namespace sepllm {

struct SamplingDefaults {
  SamplingSettings settings;
  std::string file{};  // which states them; empty: the model states none, and these are the program's own
};

// The settings of a chat for which the model states none: temperature .8, top-k 40, top-p .95, min-p .05.
SamplingSettings chat_sampling();

// What FOLDER/generation_config.json states, with transformers' meaning: what it leaves open has the value
// that transformers gives it (temperature 1, top_k 50), and its repetition penalty looks at the whole
// context. "do_sample": false is greedy. A file that states sampling settings without do_sample means them
// (transformers would not sample at all); without any, the settings are `fallback`, with the file's
// penalty if it has one. One warning names settings that would choose tokens in ways that this program does
// not have. `folder` may be empty or a file: then it states none. Error (kBadFile) with file and key for a
// value of another type or out of its range.
SamplingDefaults sampling_defaults(const std::string& folder,
                                   const SamplingSettings& fallback = chat_sampling());

// "temperature 0.6, top-k 20, top-p 0.95": those that have an effect.
std::string sampling_text(const SamplingSettings& settings);

}  // namespace sepllm
