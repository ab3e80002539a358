// Shared by the families for reading config.json. Every function throws an Error (kBadFile, kNotFound,
// kUnsupported) naming file, key, expected and got.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/config.h"

namespace sepllm {

// A config beyond these limits is a mistake or an attack, not a model. The product of any three of them fits
// into int64.
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxHidden = int64_t{1} << 20;
constexpr int64_t kMaxIntermediate = int64_t{1} << 22;
constexpr int64_t kMaxLayers = int64_t{1} << 14;
constexpr int64_t kMaxHeads = int64_t{1} << 14;
constexpr int64_t kMaxHeadDim = 1024;  // the limit of the attention kernels
constexpr int64_t kMaxPositions = int64_t{1} << 40;

// The first of the keys that is present and not null; if none is, the first of all.
const char* first_key(const JsonObject& config, std::initializer_list<const char*> keys);

// Throws the Error for a wrong value of a key.
[[noreturn]] void refuse_value(const JsonObject& config, const char* key, const std::string& expected,
                               const std::string& got);

// hidden_size / n_heads; Error naming `heads_key` if it does not divide or gives heads above kMaxHeadDim.
int64_t divided_head_dim(const JsonObject& config, const char* heads_key, int64_t hidden_size,
                         int64_t n_heads);

// An activation by its HF name.
Activation read_activation(const JsonObject& config, const char* key, const char* fallback);

// An epsilon of a norm: a number in [0, 1].
double read_epsilon(const JsonObject& config, const char* key, double fallback);

// Requires a switch to have the only value that this program supports.
void require_flag(const JsonObject& config, const char* key, bool fallback, bool required);

// bos_token_id and eos_token_id (one or a list), with the family's defaults where the keys are absent; null
// means none. Ids beyond vocab_size are dropped with a warning.
void read_token_ids(const JsonObject& config, std::optional<int32_t> default_bos,
                    std::optional<int32_t> default_eos, ModelConfig* out);
// The ids under `key` that are within vocab_size: an id, a list, or none.
std::vector<int32_t> read_id_list(const JsonObject& config, const char* key, int64_t vocab_size);

// 1 / sqrt(head_dim), by which transformers scales scores unless the config says otherwise.
double usual_attention_scale(int64_t head_dim);

// The names under which transformers 5 reads a family's rope settings at the top level of config.json.
struct RopePlaces {
  const char* theta_key = "rope_theta";             // the base
  const char* share_key = "partial_rotary_factor";  // the share of the head that is rotated
  double theta = 10000.0, share = 1.0;              // if nothing says otherwise
  // Whether the family rotates a share of the head; if not, the whole head is rotated, whatever the settings
  // say.
  bool rotates_share = false;
};
// Appends to out->ropes and sets `position`. Needs head_dim and max_positions. The places of the settings
// (`rope_scaling`, `rope_parameters`, the top level), their order, the types and their formulas are those of
// HF modeling_rope_utils.py (transformers 5.24), but in double. One warning names the settings of the file
// that are ignored, if they contradict those that are read.
void read_rope(const JsonObject& config, const RopePlaces& places, ModelConfig* out);
// The same from the settings that a config has for one type of its layers; `theta`: the base, if they do not
// say it. These families rotate the whole head.
void read_rope_of_layers(const JsonObject& config, const JsonObject& settings, double theta,
                         ModelConfig* out);

// Slopes of ALiBi (Press et al. 2021). For n heads, where n is a power of two, they are the powers of
// 2^(-8/n). Otherwise they are those of the next lower power of two, m, followed by every other one of 2m.
std::vector<double> alibi_slopes(int64_t n_heads);

// A QKV row of [group][its query heads, key, value].
QkvLayout grouped_qkv(int64_t group);
// A QKV row of all query heads, all key heads, all value heads.
QkvLayout separate_qkv(int64_t n_heads, int64_t n_kv_heads);

// Sets n_layers equal layers. If `layer` has no scale, it gets the usual one; if it has no rope, it gets the
// model's first.
void set_layers(ModelConfig* config, LayerSpec layer);

}  // namespace sepllm
