// Weights that other programs have quantised, or that are only a part of a model: told by the names of their
// tensors and by "quant_method" of config.json, so that the error can name the format.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sepllm {

// "GPTQ", "bitsandbytes, 4 bits", "the adapter of LoRA": a format whose tensors are among these names; none
// where they tell nothing. Meant for files in which a tensor that is needed was not found as a float: some of
// the names may lie beside plain weights, too.
std::optional<std::string> foreign_format(const std::vector<std::string>& tensor_names);

// How the program that "quant_method" (or an older key) names is called: "gptq" -> "GPTQ"; the text itself
// where it is not known.
std::string quantizer_name(const std::string& quant_method);

// What to do about it.
extern const char* const kForeignRemedy;

}  // namespace sepllm
