// Describes a folder that was given as a model but cannot be read as one: names the format in which its model
// is published, and says what to do about it.
#pragma once

#include <string>

namespace sepllm {

// Error (kNotFound, kInvalidArgument) if there is no folder of this name.
void check_model_folder(const std::string& folder);

// Throws the Error (kUnsupported, or kNotFound if there is no part of a model) for a folder without weights
// in safetensors, or without config.json; `lacks` names what was looked for. The Error names what lies there
// instead: a LoRA adapter, pickles of PyTorch, weights of TensorFlow, Flax, ONNX or GGUF, shards without
// their index, or a folder of the Hub's cache one level too high.
[[noreturn]] void refuse_model_folder(const std::string& folder, const std::string& lacks);

// Whether the folder holds a PEFT adapter (adapter_config.json, adapter_model.*).
bool has_adapter(const std::string& folder);

}  // namespace sepllm
