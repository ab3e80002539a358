#include "checkpoint/foreign_weights.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

namespace sepllm {
namespace {

struct Sign {
  const char* part;  // a part of a tensor's name
  const char* format;
};
// The first entry that matches counts. Sources: AutoGPTQ, AutoAWQ, bitsandbytes, compressed-tensors,
// transformers' FP8, gpt-oss, HQQ, AQLM, EETQ, quanto, PEFT.
constexpr std::array kSigns = {
    Sign{".lora_A.", "LoRA, not merged into its model"},
    Sign{".lora_B.", "LoRA, not merged into its model"},
    Sign{".quant_state.bitsandbytes__", "bitsandbytes, 4 bits"},
    Sign{".absmax", "bitsandbytes, 4 bits"},
    Sign{".SCB", "bitsandbytes, 8 bits"},
    Sign{".g_idx", "GPTQ"},
    Sign{".qweight", "AWQ or GPTQ"},
    Sign{".qzeros", "AWQ or GPTQ"},
    Sign{".weight_packed", "compressed-tensors"},
    Sign{".weight_scale_inv", "FP8 in blocks"},
    Sign{".codebooks", "AQLM"},
    Sign{".W_q", "HQQ"},
    Sign{".weight._data", "quanto"},
    Sign{".weight_scales", "EETQ"},
    Sign{".weight_scale", "FP8 or 8-bit integers with scales"},
    Sign{"_proj_blocks", "MXFP4"},
};

struct Quantizer {
  const char* method;
  const char* name;
};
constexpr std::array kQuantizers = {
    Quantizer{"gptq", "GPTQ"},
    Quantizer{"awq", "AWQ"},
    Quantizer{"bitsandbytes", "bitsandbytes"},
    Quantizer{"compressed-tensors", "compressed-tensors"},
    Quantizer{"fp8", "FP8"},
    Quantizer{"fbgemm_fp8", "FBGEMM FP8"},
    Quantizer{"mxfp4", "MXFP4"},
    Quantizer{"hqq", "HQQ"},
    Quantizer{"aqlm", "AQLM"},
    Quantizer{"eetq", "EETQ"},
    Quantizer{"quanto", "quanto"},
    Quantizer{"torchao", "torchao"},
    Quantizer{"bitnet", "BitNet"},
    Quantizer{"vptq", "VPTQ"},
    Quantizer{"spqr", "SpQR"},
    Quantizer{"higgs", "HIGGS"},
};

}  // namespace

const char* const kForeignRemedy =
    "take the original model in f16, bf16 or f32 (`sepllm quantize` makes it 8 or 4 bits)";

std::optional<std::string> foreign_format(const std::vector<std::string>& tensor_names) {
  for (const Sign& sign : kSigns) {
    for (const std::string& name : tensor_names) {
      if (name.find(sign.part) != std::string::npos) return sign.format;
    }
  }
  return std::nullopt;
}

std::string quantizer_name(const std::string& quant_method) {
  const auto* const known = std::find_if(kQuantizers.begin(), kQuantizers.end(),
                                         [&](const Quantizer& q) { return quant_method == q.method; });
  return known == kQuantizers.end() ? quant_method : known->name;
}

}  // namespace sepllm
