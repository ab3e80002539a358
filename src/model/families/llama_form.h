// What the families that came after Llama share with it: RMS norms, gated MLPs, rotary positions, grouped
// queries, and the names of keys and tensors. A family says in its own file where it differs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "model/config.h"
#include "model/families/common.h"
#include "model/families/family.h"

namespace sepllm {

// What holds where config.json does not have a key: the defaults of the family's configuration class in
// transformers. 0: the key must be there.
struct LlamaDefaults {
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, n_layers = 0, n_heads = 0;
  int64_t n_kv_heads = 0;  // 0: as many as query heads, which the value null always means
  int64_t head_dim = 0;    // 0: hidden_size / n_heads
  int64_t max_positions = 2048;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
  double norm_eps = 1e-6;
  bool tied = false;
  std::optional<int32_t> bos{}, eos{};
};

// Reads everything that is not of single layers: sizes, heads, norms, activation, tying, token ids. (Ropes
// and layers are left to the caller.)
void read_llama_form(const JsonObject& config, const LlamaDefaults& defaults, ModelConfig* out);

// The names of a layer's tensors in HF's LlamaForCausalLM, without biases and norms that Llama does not have.
LayerNames llama_layer_names(int64_t layer);
// The same with one fused matrix each for queries, keys and values and for gate and up, as in Phi-3.
LayerNames fused_layer_names(int64_t layer);
// Fills the names of all tensors outside the layers, and those of the layers from names(layer).
void set_llama_names(ModelSpec* spec, LayerNames (*names)(int64_t layer));

// The members of a new model's config.json that have the same names in all these families.
Json new_llama_form(const NewModelSizes& sizes);
// The same with `pad_token_id` null, for families whose class in transformers has an id as its default, which
// a small vocabulary does not have.
Json new_llama_form_without_padding(const NewModelSizes& sizes);

// `layer_types`: for each layer whether it is "sliding_attention" (true) or "full_attention"; nullopt where
// the key is absent or null. Error for another length or another type.
std::optional<std::vector<bool>> read_layer_types(const JsonObject& config, int64_t n_layers);

// `sliding_window`, in tokens, the query's own included; 0 where it is null, `fallback` where it is absent.
int64_t read_sliding_window(const JsonObject& config, int64_t fallback);

// Gives the layers in which `local` is true this window. Error, naming the key `place`, if there is such a
// layer and no window.
void set_windows(const JsonObject& config, const char* place, const std::vector<bool>& local, int64_t window,
                 ModelConfig* out);

// The windows of Qwen 2 and 3: `sliding_window` holds where `use_sliding_window` is true, in the layers that
// `layer_types` names or, without that key, in those from `max_window_layers` on.
void set_qwen_windows(const JsonObject& config, ModelConfig* out);

}  // namespace sepllm
