// Recognises weights that other programs have quantised, or that are only a part of a model, by the names of
// their tensors and by "quant_method" of config.json, so that the error can name the format.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sepllm {

// The format whose tensors are among these names ("GPTQ", "bitsandbytes, 4 bits", "the adapter of LoRA"), if
// the names tell one. Call it when a tensor that is needed was not found as a float: some of these names may
// also occur next to plain weights.
std::optional<std::string> foreign_format(const std::vector<std::string>& tensor_names);

// The usual name of the program that "quant_method" (or an older key) stands for: "gptq" -> "GPTQ"; the text
// itself if it is not known.
std::string quantizer_name(const std::string& quant_method);

// What to do about such weights.
extern const char* const kForeignRemedy;

}  // namespace sepllm
