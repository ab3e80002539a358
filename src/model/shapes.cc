#include "model/shapes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "kernels/formats/panels.h"
#include "kernels/formats/rows.h"
#include "model/tensor_list.h"

namespace sepllm {
namespace {

struct Shape {
  const char* name;
  const char* config;  // of the checkpoint on the Hugging Face hub, less what describes no shape
};
constexpr Shape kShapes[] = {
    {"gpt2-124m",
     R"({"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12,
         "n_positions": 1024, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05,
         "tie_word_embeddings": true, "bos_token_id": 50256, "eos_token_id": 50256})"},
    {"pythia-14m",
     R"({"model_type": "gpt_neox", "vocab_size": 50304, "hidden_size": 128, "num_hidden_layers": 6,
         "num_attention_heads": 4, "intermediate_size": 512, "max_position_embeddings": 512,
         "hidden_act": "gelu", "layer_norm_eps": 1e-05, "rotary_emb_base": 10000, "rotary_pct": 0.25,
         "use_parallel_residual": true, "tie_word_embeddings": false,
         "bos_token_id": 0, "eos_token_id": 0})"},
    {"pythia-160m",
     R"({"model_type": "gpt_neox", "vocab_size": 50304, "hidden_size": 768, "num_hidden_layers": 12,
         "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 2048,
         "hidden_act": "gelu", "layer_norm_eps": 1e-05, "rotary_emb_base": 10000, "rotary_pct": 0.25,
         "use_parallel_residual": true, "tie_word_embeddings": false,
         "bos_token_id": 0, "eos_token_id": 0})"},
    {"sepllm-5m",  // models/sepllm-5m of this repository
     R"({"model_type": "llama", "vocab_size": 5120, "hidden_size": 256, "num_hidden_layers": 5,
         "num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 704,
         "max_position_embeddings": 1024, "hidden_act": "silu", "rms_norm_eps": 1e-05,
         "rope_theta": 10000.0, "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 0})"},
    {"llama-160m",
     R"({"model_type": "llama", "vocab_size": 32000, "hidden_size": 768, "num_hidden_layers": 12,
         "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 2048,
         "hidden_act": "silu", "rms_norm_eps": 1e-06, "tie_word_embeddings": false,
         "bos_token_id": 0, "eos_token_id": 2})"},
    {"tinyllama-1.1b",
     R"({"model_type": "llama", "vocab_size": 32000, "hidden_size": 2048, "num_hidden_layers": 22,
         "num_attention_heads": 32, "num_key_value_heads": 4, "intermediate_size": 5632,
         "max_position_embeddings": 2048, "hidden_act": "silu", "rms_norm_eps": 1e-05,
         "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2})"},
    {"llama-3-8b",
     R"({"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
         "max_position_embeddings": 8192, "hidden_act": "silu", "rms_norm_eps": 1e-05,
         "rope_theta": 500000.0, "tie_word_embeddings": false,
         "bos_token_id": 128000, "eos_token_id": 128001})"},
};

// Draws n floats around 0, uniform in 16 bits, with the standard deviation `deviation`, from the numbers of
// `rng` from `counter` on. n is a multiple of 4, or ends at the end of a row.
void draw_row(const Rng& rng, uint64_t counter, int64_t n, float deviation, float* row) {
  const float unit = deviation * std::sqrt(3.0F) / 32768.0F;
  for (int64_t i = 0; i < n; i += 4, ++counter) {
    const uint64_t bits = rng.bits(counter);
    for (int64_t k = 0; k < std::min<int64_t>(4, n - i); ++k) {
      row[i + k] = unit * (static_cast<float>((bits >> (16 * k)) & 0xFFFF) - 32767.5F);
    }
  }
}

// How the bytes of a block type are drawn: each stored value is 1 + the sum of two uniform numbers with one
// bit less. It always fits its byte or half byte and is symmetric around the value that means 0.
struct DrawnBlocks {
  uint64_t mask, one;
  float deviation;  // of a stored value
};
DrawnBlocks drawn_blocks(DType type) {
  const PanelForm& form = format_of(type).panel;
  // A 1 in each value of 8 bytes.
  const uint64_t one = ~uint64_t{0} / static_cast<uint64_t>(form.mask());
  // The variance of a number uniform in [0, n) is (n^2 - 1) / 12.
  const auto n = static_cast<float>(form.zero);
  return {one * static_cast<uint64_t>(form.zero - 1), one, std::sqrt((n * n - 1) / 6)};
}

void draw_symmetric_panel(DType type, const Rng& rng, uint64_t counter, int64_t n_rows, int64_t n_in,
                          float deviation, char* panel) {
  const DrawnBlocks draw = drawn_blocks(type);
  f16 scales[2 * kPanelOutputs] = {};
  const f16 scale = to_f16(deviation / draw.deviation);
  for (int64_t i = 0; i < 2 * kPanelOutputs; ++i) {
    if (i % kPanelOutputs < n_rows) scales[i] = scale;
  }
  const PanelForm& form = format_of(type).panel;
  for (int64_t pair = 0; pair < panel_pairs(form, n_in); ++pair) {
    const int64_t bytes = form.values_bytes();
    for (int64_t i = 0; i < bytes; i += 8, counter += 2) {
      const uint64_t values =
          (rng.bits(counter) & draw.mask) + (rng.bits(counter + 1) & draw.mask) + draw.one;
      std::memcpy(panel + i, &values, sizeof(values));
    }
    std::memcpy(panel + bytes, scales, sizeof(scales));
    panel += form.pair_bytes();
  }
}

// Of kept types (base/dtype.h): all bits of values are drawn. Minima, or scales of both signs, put the mean
// at 0.
Quanta drawn_scales(const PanelForm& form, float deviation, bool negative) {
  const auto n = static_cast<float>(form.mask() + 1);
  const float scale = deviation / std::sqrt((n * n - 1) / 12), sign = negative ? -1.0F : 1.0F;
  const float middle = (n - 1) / 2;
  Quanta quanta;
  switch (form.scales) {
    case PanelScales::kGroups:
      quanta.scale = to_f16(sign * scale);
      break;
    case PanelScales::kGroupsMinima:
      quanta.scale = to_f16(scale);
      quanta.minimum = to_f16(-middle * scale);
      break;
    case PanelScales::kBlocksMinima:
      quanta.scale = to_f16(scale / 32);
      quanta.minimum = to_f16(middle * scale / 32);
      quanta.sub_scales[0] = quanta.sub_minimum = 32;
      break;
    case PanelScales::kBlocksHalves:
      quanta.scale = to_f16(scale / 16);
      for (uint8_t& sub : quanta.sub_scales) sub = static_cast<uint8_t>(negative ? -16 : 16);
      break;
  }
  return quanta;
}

void draw_kept_panel(const PanelForm& form, const Rng& rng, uint64_t counter, int64_t n_rows, int64_t n_in,
                     float deviation, char* panel) {
  for (int64_t u = 0; u < panel_units(form, n_in); ++u, panel += form.unit_bytes()) {
    std::memset(panel, 0, static_cast<size_t>(form.unit_bytes()));
    for (int64_t pair = 0; pair < form.pairs(); ++pair) {
      for (int64_t i = 0; i < form.values_bytes(); i += 8, ++counter) {
        const uint64_t values = rng.bits(counter);
        std::memcpy(panel + form.pair_at(pair) + i, &values, sizeof(values));
      }
    }
    for (int64_t g = 0; g < form.groups(); ++g) {
      for (int64_t lane = 0; lane < n_rows; ++lane)
        write_group_scales(form, drawn_scales(form, deviation, (g + lane) % 2 != 0), g, lane, panel);
    }
  }
}

void draw_panel(DType type, const Rng& rng, uint64_t counter, int64_t n_rows, int64_t n_in, float deviation,
                char* panel) {
  if (is_weight_type(type)) return draw_symmetric_panel(type, rng, counter, n_rows, n_in, deviation, panel);
  draw_kept_panel(format_of(type).panel, rng, counter, n_rows, n_in, deviation, panel);
}

// Makes each tensor from its own stream of random numbers.
class Maker {
 public:
  Maker(ModelWeights* weights, double norm_offset, DType type, uint64_t seed, ThreadPool& pool)
      : w_(*weights),
        norm_mean_(static_cast<float>(1 - norm_offset)),
        type_(type),
        seed_(seed),
        pool_(pool) {}

  // Position embeddings stay f32.
  void table(Weight& slot, const std::string&, int64_t rows, int64_t columns) {
    const DType type = &slot == &w_.position_embedding ? DType::kF32 : table_type(type_);
    slot = matrix(type, rows, columns);
  }
  void linear(Linear& slot, const std::string&, const std::string& bias, int64_t n_out, int64_t n_in) {
    slot.weight = matrix(type_, n_out, n_in);
    slot.bias = bias.empty() ? nullptr : vector(n_out, 0);
  }
  void norm(Norm& slot, const std::string&, const std::string& bias, int64_t n) {
    slot = {vector(n, norm_mean_), bias.empty() ? nullptr : vector(n, 0), n};
  }

 private:
  Weight matrix(DType type, int64_t n_out, int64_t n_in) {
    const Rng rng(seed_, n_tensors_++);
    const float deviation = 1 / std::sqrt(static_cast<float>(n_in));
    Weight w{.type = type, .n_out = n_out, .n_in = n_in, .row_stride = n_in};
    const bool blocks = is_block_type(type);
    if (blocks) check_rows(type, n_in);
    w_.matrices.emplace_back(matrix_bytes(type, n_out, n_in), "the model's weights");
    char* data = w_.matrices.back().as<char>();
    w.data = data;
    // A task is a panel, or as many rows, and begins at its own counter.
    pool_.parallel_for(n_panels(n_out), [&](int64_t panel, int) {
      const int64_t begin = panel * kPanelOutputs;
      const int64_t n_rows = std::min(kPanelOutputs, n_out - begin);
      const auto counter = static_cast<uint64_t>(begin * n_in);
      if (blocks) {
        draw_panel(type, rng, counter, n_rows, n_in, deviation, data + panel * panel_bytes(type, n_in));
        return;
      }
      for (int64_t r = 0; r < n_rows; ++r) {
        fill_row(type, rng, counter + static_cast<uint64_t>(r * n_in), n_in, deviation,
                 data + (begin + r) * row_bytes(type, n_in));
      }
    });
    return w;
  }

  static void check_rows(DType type, int64_t n_in) {
    const int64_t whole = format_of(type).panel.pairs() * kPairElements;
    if (n_in % whole == 0) return;
    throw Error(ErrorCode::kInvalidArgument, fmt::format("rows of this shape cannot be {}", dtype_name(type)),
                {.expected = fmt::format("a multiple of {} values", whole), .got = fmt::format("{}", n_in)});
  }

  static void fill_row(DType type, const Rng& rng, uint64_t counter, int64_t n, float deviation, char* row) {
    constexpr int64_t kPiece = 1024;
    float piece[kPiece];
    for (int64_t i = 0; i < n; i += kPiece) {
      const int64_t count = std::min(kPiece, n - i);
      draw_row(rng, counter + static_cast<uint64_t>(i), count, deviation, piece);
      row_from_f32(type, piece, count, row + i * dtype_size(type));
    }
  }

  const float* vector(int64_t n, float mean) {
    const Rng rng(seed_, n_tensors_++);
    w_.vectors.emplace_back(n * static_cast<int64_t>(sizeof(float)), "norms and biases");
    float* out = w_.vectors.back().as<float>();
    draw_row(rng, 0, n, 0.1F, out);
    for (int64_t i = 0; i < n; ++i) out[i] += mean;
    return out;
  }

  ModelWeights& w_;
  float norm_mean_;
  DType type_;
  uint64_t seed_;
  ThreadPool& pool_;
  uint64_t n_tensors_ = 0;
};

// Adds up the memory of what Maker will make.
class Counter {
 public:
  Counter(const ModelWeights& slots, DType type) : slots_(slots), type_(type) {}

  void table(Weight& slot, const std::string&, int64_t rows, int64_t columns) {
    const DType type = &slot == &slots_.position_embedding ? DType::kF32 : table_type(type_);
    bytes_ += matrix_bytes(type, rows, columns);
  }
  void linear(Linear&, const std::string&, const std::string& bias, int64_t n_out, int64_t n_in) {
    bytes_ += matrix_bytes(type_, n_out, n_in) + (bias.empty() ? 0 : vector_bytes(n_out));
  }
  void norm(Norm&, const std::string&, const std::string& bias, int64_t n) {
    bytes_ += vector_bytes(n) * (bias.empty() ? 1 : 2);
  }
  int64_t bytes() const { return bytes_; }

 private:
  static int64_t vector_bytes(int64_t n) { return n * static_cast<int64_t>(sizeof(float)); }

  const ModelWeights& slots_;
  DType type_;
  int64_t bytes_ = 0;
};

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const Shape& s : kShapes) names.emplace_back(s.name);
  return names;
}

ModelSpec shape_spec(const std::string& name) {
  for (const Shape& s : kShapes) {
    if (name == s.name) return parse_model_spec(parse_json(s.config, name), name);
  }
  throw Error(ErrorCode::kInvalidArgument, "unknown shape",
              {.expected = fmt::format("one of {}", fmt::join(shape_names(), ", ")), .got = name});
}

ModelWeights make_random_weights(const ModelSpec& spec, DType type, uint64_t seed, ThreadPool& pool) {
  ModelWeights weights;
  Maker maker(&weights, spec.config.norm_offset, type, seed, pool);
  visit_model(spec, usual_names(spec), &weights, maker);
  if (spec.config.tied_embeddings) weights.head.weight = weights.token_embedding;
  return weights;
}

WeightMemory random_weight_memory(const ModelSpec& spec, DType type) {
  ModelWeights slots;
  Counter counter(slots, type);
  visit_model(spec, usual_names(spec), &slots, counter);
  return {.owned = counter.bytes(), .mapped = 0};
}

}  // namespace sepllm
