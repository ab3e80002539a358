// What a folder holds that is given as a model and is none that can be read: the formats in which models are
// published beside safetensors, by name, with what to do about them.
#pragma once

#include <string>

namespace sepllm {

// Error (kNotFound, kInvalidArgument) where there is no folder of this name.
void check_model_folder(const std::string& folder);

// Throws the Error (kUnsupported, or kNotFound where nothing of a model is there) for a folder without
// weights in safetensors, or without config.json: `lacks` names what was looked for. Names what lies there
// instead: a LoRA adapter, pickles of PyTorch, weights of TensorFlow, Flax, ONNX or GGUF, shards without
// their index, a folder of the Hub's cache one level too high.
[[noreturn]] void refuse_model_folder(const std::string& folder, const std::string& lacks);

// Whether the folder holds a PEFT adapter (adapter_config.json, adapter_model.*).
bool has_adapter(const std::string& folder);

}  // namespace sepllm
