// The differences between models, as data. model/families/ reads them from a HF config.json; the decoder
// knows nothing else of a family.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "base/dtype.h"
#include "base/json.h"
#include "kernels/rowwise/kinds.h"
#include "model/layer_parts.h"
#include "model/row_order.h"

namespace sepllm {

enum class NormType { kLayerNorm, kRmsNorm };
enum class PositionType { kRope, kAlibi, kLearned };

// How the residual stream runs through a transformer block.
enum class BlockType {
  kSequential,     // x += attn(norm1(x)); x += mlp(norm2(x))
  kParallel,       // x += attn(norm1(x)) + mlp(norm2(x))      NeoX with use_parallel_residual, Falcon 40B
                   // (ln_attn, ln_mlp)
  kParallelShared  // x += attn(norm1(x)) + mlp(norm1(x))      Falcon 7B
};

// Where the query, key and value of each head lie in the output row of the QKV projection, in units of
// head_dim. Query head h: (h / group) * q_group_stride + h % group, where group = n_heads / n_kv_heads; key
// head g: k_offset + g * kv_stride; value head g: v_offset + g * kv_stride.
struct QkvLayout {
  int64_t q_group_stride = 0;
  int64_t k_offset = 0;
  int64_t v_offset = 0;
  int64_t kv_stride = 0;
};

// Rotary positions, as config.json states them.
struct RopeConfig {
  RopePairing pairing = RopePairing::kHalf;
  int64_t dim = 0;  // number of leading dims of each head that are rotated
  double theta = 10000.0;
  std::string type = "default";  // HF rope_type: "default", "linear", "dynamic", "yarn", "longrope", "llama3"
  // [dim / 2], radians per position, with any scaling applied (HF rope_parameters, rope_scaling); for
  // "dynamic" and "longrope": those for texts within the trained length.
  std::vector<double> inv_freq;
  // The factor of the rotated dims of queries and keys (the attention factor of yarn and longrope).
  double attention_factor = 1.0;

  // Type "dynamic" (NTK-aware scaling by the length of the text): the base grows with the length beyond the
  // trained one.
  struct Dynamic {
    double factor = 1.0;
    int64_t trained_length = 0;  // max_position_embeddings
    int64_t exponent_dim = 0;    // frequency i of n has the exponent -2 i / exponent_dim
  };
  std::optional<Dynamic> dynamic{};

  // Type "longrope" (Ding et al. 2024): texts longer than the trained length have other frequencies.
  struct Long {
    int64_t trained_length = 0;  // original_max_position_embeddings
    std::vector<double> inv_freq;
  };
  std::optional<Long> longrope{};

  // Whether the frequencies depend on the length of the text.
  bool by_length() const { return dynamic || longrope; }
  // Up to which length they do not; only where by_length().
  int64_t trained_length() const {
    if (dynamic) return dynamic->trained_length;
    SEPLLM_CHECK(longrope.has_value());
    return longrope->trained_length;
  }
  // out[dim / 2] = the frequencies for a text of `length` tokens, as transformers computes them when it sees
  // the whole text in one pass.
  void frequencies(int64_t length, double* out) const;
};

// Norms of queries and keys, before they are rotated: of each head (weights [head_dim]), or of all heads of a
// row together (weights [n_heads * head_dim] and [n_kv_heads * head_dim]; needs separate_qkv()).
enum class QkNorm { kNone, kHead, kRow };

// One layer: everything that may differ from layer to layer.
struct LayerSpec {
  static constexpr int64_t kNoRope = -1;

  double attention_scale = 0.0;  // multiplies q k^T; usually 1 / sqrt(head_dim)
  // The model's own sliding window: a query sees this many tokens, including itself, and no policy changes
  // that. 0: none; the policy rules the layer.
  int64_t window = 0;
  int64_t rope = kNoRope;   // index into ModelConfig::ropes
  bool norm_before = true;  // what attention and MLP read is normalised first (norm1, norm2)
  bool norm_after = false;  // what they add to the residual stream is normalised (post_norm1, post_norm2)
  QkNorm qk_norm = QkNorm::kNone;
  bool qkv_bias = false, out_bias = false, mlp_bias = false;  // which matrices have biases
  // There is a matrix [3 n_heads, hidden_size], without bias, for the gates of native sparse attention
  // (docs/METHOD.md#native-sparse-attention): "nsa_gates" of config.json. Other attention does not read it.
  bool nsa_gates = false;
};

struct ModelConfig {
  std::string family;      // Family::name: "llama", "gpt_neox", ...
  int64_t vocab_size = 0;  // rows of the embedding
  int64_t hidden_size = 0;
  int64_t n_layers = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate_size = 0;
  int64_t max_positions = 0;  // the position limit it was trained for

  NormType norm = NormType::kRmsNorm;  // layer norms have biases, RMS norms do not
  double norm_eps = 1e-5;
  double norm_offset = 0.0;  // norms multiply by their weights plus this
  double embed_scale = 1.0;  // multiplies the rows of the token embedding
  BlockType block = BlockType::kSequential;
  Activation activation = Activation::kSilu;
  bool gated_mlp = false;  // down(act(gate(x)) * up(x)), else down(act(up(x)))

  PositionType position = PositionType::kRope;
  std::vector<RopeConfig> ropes;     // the ropes that layers refer to; empty if positions are not rotary
  std::vector<double> alibi_slopes;  // [n_heads]: -slope x distance is added to the scaled score

  std::vector<LayerSpec> layers;  // [n_layers]
  QkvLayout qkv;
  // The head is the embedding, as config.json says or, for a Decoder's config, as the checkpoint holds it
  // (model/stored_names.h).
  bool tied_embeddings = false;

  std::optional<int32_t> bos_token_id;
  std::vector<int32_t> eos_token_ids;
  bool eos_stated = false;   // stated by the model's files; else the family's default
  std::string stored_dtype;  // "dtype" or "torch_dtype", for inspect
  Json policy;               // the "sepllm" object of config.json, or null

  int64_t group() const { return n_heads / n_kv_heads; }
  int64_t qkv_dim() const { return (n_heads + 2 * n_kv_heads) * head_dim; }
  const LayerSpec& layer(int64_t l) const { return layers[static_cast<size_t>(l)]; }
  // How layer l rotates queries and keys; null if it does not.
  const RopeConfig* rope_of(int64_t l) const {
    return layer(l).rope == LayerSpec::kNoRope ? nullptr : &ropes[static_cast<size_t>(layer(l).rope)];
  }
  // Whether every layer has a sliding window of its own: then a policy has no effect.
  bool all_layers_local() const;
  // Whether any layer has gates for NSA.
  bool has_nsa_gates() const;
  // The layers' own sliding windows, as KvLayout and Policy take them.
  std::vector<int64_t> own_windows() const;
  // The rope whose frequencies depend on the length of the text (of several, that with the smallest trained
  // length); null if there is none.
  const RopeConfig* rope_by_length() const;
};

// What a tensor's name begins with, without ".weight" or ".bias".
struct LinearName {
  std::string base{};
  std::string weight() const { return base + ".weight"; }
  std::string bias() const { return base + ".bias"; }
};
struct NormName {
  std::string base{};
  std::string weight() const { return base + ".weight"; }
  std::string bias() const { return base + ".bias"; }
};
// Names of the parts that the layer has according to its LayerSpec.
using LayerNames = LayerParts<NormName, LinearName>;
struct TensorNames {
  std::string token_embedding;
  std::string position_embedding;  // learned positions
  NormName final_norm;
  std::string head;              // without prefix of the base model; also present where tied
  std::string head_alternative;  // another name that the head's weight may have; empty: none
  std::vector<LayerNames> layers;
  bool transposed_linears = false;  // GPT-2's Conv1D: layer matrices are stored [in, out]
};

// Everything that a family file gets from one config.json.
struct ModelSpec {
  ModelConfig config;
  // Names (but the head's) are without the base model's prefix ("model.", "gpt_neox.", "transformer."): some
  // checkpoints have it and some do not.
  std::string prefix;
  // Prefixes that some checkpoints have instead: multimodal models put their text model into a larger one.
  std::vector<std::string> other_prefixes;
  TensorNames names;
  // The type of the layers' matrices if `sepllm quantize` has stored them as blocks: then they are [n_out,
  // row bytes] and never transposed, and the tables have table_type() (model/weights.h).
  std::optional<DType> blocks;
  // Where the file has rows in another order than the family's checkpoints: by the name of the matrix or
  // bias.
  std::map<std::string, RowOrder> row_orders{};
  // The weights of norms are larger in the file by this much. (GGUF's of Gemma)
  double stored_norm_offset = 0;
  // Suffixes of tensors that are buffers and are ignored ("rotary_emb.inv_freq", "attn.bias", ...), and what
  // the names of tensors of parts begin with that are left out knowingly ("vision_tower.").
  std::vector<std::string> ignored_suffixes, ignored_prefixes;
};

// Reads FOLDER/config.json (at most 16 MiB), or the metadata of a GGUF file (model/gguf/spec.h). Error naming
// file, key, expected and got for: an unknown model_type (listing the known), 0 or absurd sizes, heads that
// do not divide, unknown activation or rope type, wrong JSON types.
ModelSpec read_model_spec(const std::string& folder);
// The config.json of a model: of FOLDER/config.json, or made of a GGUF file's metadata.
Json read_config_json(const std::string& model);
// Where that stands, for messages: FOLDER/config.json, or the GGUF file.
std::string config_path(const std::string& model);
// As above from parsed JSON; `file` is for messages.
ModelSpec parse_model_spec(const Json& json, const std::string& file);

// The key of config.json that says that the layers without a sliding window of their own have gates for NSA.
inline constexpr const char* kNsaGatesKey = "nsa_gates";
// Gives gates to these layers. Error (kUnsupported), naming `file`, for models with ALiBi, for which NSA is
// not defined.
void add_nsa_gates(ModelSpec* spec, const std::string& file);
// The same model without gates.
ModelSpec without_nsa_gates(ModelSpec spec);

// The config.json of what is read of a model: the same, or for a multimodal model the one that its text model
// would have by itself. New checkpoints (a trained model) get this one.
Json text_model_config(const Json& json, const std::string& file);

// The known families: HF model_type names.
std::vector<std::string> known_families();

}  // namespace sepllm
