#include "checkpoint/model_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"
#include "base/json.h"

namespace sepllm {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAdapterConfig = "adapter_config.json";
constexpr size_t kMaxNames = 10'000;  // a folder with more names is not a model's

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code code;
  for (fs::directory_iterator at(folder, code), end; !code && at != end && names.size() < kMaxNames;
       at.increment(code))
    names.push_back(at->path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

// A way in which weights are published that this program does not read.
struct Format {
  const char* start;  // how the file's name starts
  const char* end;
  const char* what;
  const char* remedy;
};
constexpr const char* kFromTorch =
    "pickles can run programs and are not read: load it with AutoModelForCausalLM.from_pretrained of "
    "transformers and "
    "save_pretrained() it, which writes safetensors";
constexpr const char* kFromOther = "save the model again as safetensors, from PyTorch";
constexpr std::array kFormats = {
    Format{"pytorch_model", ".bin", "weights as a pickle of PyTorch", kFromTorch},
    Format{"pytorch_model", ".bin.index.json", "weights as pickles of PyTorch", kFromTorch},
    Format{"consolidated", ".pth", "weights as Meta first publishes them",
           "take the model's Hugging Face form, or convert it with transformers "
           "(convert_llama_weights_to_hf.py)"},
    Format{"", ".pth", "weights as a pickle of PyTorch", kFromTorch},
    Format{"", ".pt", "weights as a pickle of PyTorch", kFromTorch},
    Format{"", ".ckpt", "a checkpoint of another program", kFromTorch},
    Format{"tf_model", ".h5", "weights of TensorFlow", kFromOther},
    Format{"", ".h5", "weights of TensorFlow or Keras", kFromOther},
    Format{"flax_model", ".msgpack", "weights of Flax", kFromOther},
    Format{"", ".msgpack", "weights of Flax", kFromOther},
    Format{"", ".onnx", "a model of ONNX", kFromOther},
    Format{"", ".npz", "weights as arrays of NumPy (MLX)", kFromOther},
    Format{"", ".bin", "weights as a pickle of PyTorch", kFromTorch},
};

bool fits(const Format& format, const std::string& name) {
  return name.starts_with(format.start) && name.ends_with(format.end);
}

bool is_shard_name(const std::string& name) {  // "model-00001-of-00005.safetensors"
  return name.ends_with(".safetensors") && name.find("-of-") != std::string::npos;
}

// "base_model_name_or_path" of an adapter; empty if it does not say.
std::string base_of_adapter(const std::string& folder) {
  const std::string path = folder + "/" + kAdapterConfig;
  try {
    const Json json = read_json(path, uint64_t{1} << 20);
    return JsonObject(json, path).string_or("base_model_name_or_path", "");
  } catch (const Error&) {  // the error is about the adapter as a whole
    return "";
  }
}

[[noreturn]] void refuse_adapter(const std::string& folder) {
  const std::string base = base_of_adapter(folder);
  throw Error(ErrorCode::kUnsupported, "this is an adapter for a model (LoRA, of PEFT), not a whole model",
              {.file = folder,
               .hint = fmt::format(
                   "merge it into its base model{} with merge_and_unload() of PEFT and save that with "
                   "save_pretrained()",
                   base.empty() ? "" : " (" + base + ")")});
}

[[noreturn]] void refuse_hub_cache(const std::string& folder) {
  const std::vector<std::string> revisions = names_in(folder + "/snapshots");
  throw Error(ErrorCode::kInvalidArgument, "this is a model's folder in the cache of the Hugging Face Hub",
              {.file = folder,
               .expected = "one of its snapshots",
               .hint = revisions.empty() ? "" : "try " + folder + "/snapshots/" + revisions.front()});
}

}  // namespace

void check_model_folder(const std::string& folder) {
  if (!file_exists(folder)) throw Error(ErrorCode::kNotFound, "no such model folder", {.file = folder});
  if (is_folder(folder)) return;
  const FileKind kind = file_kind_of(folder);
  throw Error(ErrorCode::kInvalidArgument, "not a folder",
              {.file = folder,
               .expected = "a folder with config.json and *.safetensors, or a GGUF file",
               .got = kind == FileKind::kUnknown ? "" : file_kind_name(kind)});
}

bool has_adapter(const std::string& folder) {
  return file_exists(folder + "/" + kAdapterConfig) || file_exists(folder + "/adapter_model.safetensors") ||
         file_exists(folder + "/adapter_model.bin");
}

void refuse_model_folder(const std::string& folder, const std::string& lacks) {
  if (has_adapter(folder)) refuse_adapter(folder);
  if (is_folder(folder + "/snapshots") && is_folder(folder + "/blobs")) refuse_hub_cache(folder);
  const std::vector<std::string> names = names_in(folder);
  const auto refuse = [&](const std::string& message, const std::string& got, const std::string& hint) {
    throw Error(ErrorCode::kUnsupported, message,
                {.file = folder, .expected = lacks, .got = got, .hint = hint});
  };
  for (const std::string& name : names) {
    if (is_shard_name(name))
      refuse("shards of a model without their index", name, "download model.safetensors.index.json too");
  }
  for (const std::string& name : names) {
    if (name.ends_with(".safetensors"))
      refuse("weights under another name", name, "rename them if they are the model's");
  }
  for (const std::string& name : names) {
    if (name.ends_with(".gguf")) {
      refuse("a model in GGUF is given by its file, not by its folder", name,
             fmt::format("try {}/{}", folder, name));
    }
  }
  if (std::find(names.begin(), names.end(), "model_index.json") != names.end())
    refuse("this is a pipeline of diffusers, not a language model", "model_index.json", "");
  for (const Format& format : kFormats) {
    for (const std::string& name : names) {
      if (fits(format, name))
        refuse(fmt::format("the folder has {}, which are not read", format.what), name, format.remedy);
    }
  }
  throw Error(ErrorCode::kNotFound, "no model in the folder", {.file = folder, .expected = lacks});
}

}  // namespace sepllm
