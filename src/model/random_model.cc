#include "model/random_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/rng.h"
#include "checkpoint/weight_store.h"
#include "checkpoint/weight_writer.h"
#include "kernels/formats/rows.h"
#include "model/families/family.h"
#include "model/tensor_list.h"
#include "tensor/buffer.h"

namespace sepllm {
namespace {

// What the members of all families' config.json have in common.
Json base_config(const RandomModelOptions& o, const Family& family) {
  return {{"architectures", {family.architecture}},
          {"model_type", family.model_types.front()},
          {"vocab_size", kByteTokenizerVocab},
          {"bos_token_id", kByteTokenizerBos},
          {"eos_token_id", kByteTokenizerEos},
          {"tie_word_embeddings", family.always_tied},
          {"torch_dtype", o.dtype == DType::kF32   ? "float32"
                          : o.dtype == DType::kF16 ? "float16"
                                                   : "bfloat16"}};
}

NewModelSizes sizes_of(const RandomModelOptions& o) {
  return {.hidden_size = o.hidden_size,
          .n_layers = o.n_layers,
          .n_heads = o.n_heads,
          .n_kv_heads = std::max<int64_t>(o.n_heads / 2, 1),
          .max_positions = o.max_positions};
}

struct NamedTensor {
  std::string name;
  std::vector<int64_t> shape;
  Buffer data;  // of the model's dtype
};

// Draws each tensor from its own stream of random numbers. The scales keep activations near 1 and give every
// part an effect: norms are near 1, biases and norm biases are small but not 0.
class Generator {
 public:
  Generator(const RandomModelOptions& options, const ModelSpec& spec)
      : options_(options),
        transposed_(spec.names.transposed_linears),
        norm_offset_(spec.config.norm_offset) {}

  void table(Weight&, const std::string& name, int64_t rows, int64_t columns) {
    draw(name, {rows, columns}, 0, 1 / std::sqrt(static_cast<double>(columns)));
  }
  void linear(Linear&, const std::string& weight, const std::string& bias, int64_t n_out, int64_t n_in) {
    const auto shape = transposed_ ? std::vector<int64_t>{n_in, n_out} : std::vector<int64_t>{n_out, n_in};
    draw(weight, shape, 0, 1 / std::sqrt(static_cast<double>(n_in)));
    if (!bias.empty()) draw(bias, {n_out}, 0, 0.1);
  }
  void norm(Norm&, const std::string& weight, const std::string& bias, int64_t n) {
    draw(weight, {n}, 1 - norm_offset_, 0.1);
    if (!bias.empty()) draw(bias, {n}, 0, 0.1);
  }
  const std::vector<NamedTensor>& tensors() const { return tensors_; }

 private:
  void draw(const std::string& name, const std::vector<int64_t>& shape, double mean, double deviation) {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    const Rng rng(options_.seed, tensors_.size());
    std::vector<float> values(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      values[static_cast<size_t>(i)] =
          static_cast<float>(mean + deviation * rng.normal(static_cast<uint64_t>(i)));
    }
    Buffer data(n * dtype_size(options_.dtype), "a random tensor");
    row_from_f32(options_.dtype, values.data(), n, data.data());
    tensors_.push_back({name, shape, std::move(data)});
  }

  const RandomModelOptions& options_;
  bool transposed_;
  double norm_offset_;
  std::vector<NamedTensor> tensors_;
};

void write_weights(const std::string& folder, const std::vector<NamedTensor>& tensors, DType dtype,
                   int n_shards) {
  const auto n = static_cast<size_t>(n_shards);
  std::vector<std::vector<StoredTensor>> shards(n);  // with their data
  Json weight_map = Json::object();
  int64_t total = 0;
  const auto file_name = [&](size_t shard) {
    return n == 1 ? std::string("model.safetensors")
                  : fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, n);
  };
  for (size_t i = 0; i < tensors.size(); ++i) {
    const size_t shard = i * n / tensors.size();
    const NamedTensor& t = tensors[i];
    shards[shard].push_back({.name = t.name,
                             .type = dtype,
                             .shape = t.shape,
                             .data = t.data.as<char>(),
                             .bytes = t.data.bytes()});
    weight_map[t.name] = file_name(shard);
    total += t.data.bytes();
  }
  for (size_t s = 0; s < n; ++s) {
    write_weight_file(folder + "/" + file_name(s), shards[s]);
  }
  if (n == 1) return;
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  write_file_atomically(folder + "/model.safetensors.index.json", json_text(index, 1) + "\n");
}

}  // namespace

std::vector<std::string> random_model_variants() {
  std::vector<std::string> names;
  for (const Family* family : families()) {
    for (const TinyVariant& v : family->variants) names.emplace_back(v.name);
  }
  return names;
}

Json random_model_config(const RandomModelOptions& options) {
  for (const Family* family : families()) {
    for (const TinyVariant& v : family->variants) {
      if (options.variant != v.name) continue;
      const NewModelSizes sizes = sizes_of(options);
      Json config = base_config(options, *family);
      config.update(family->new_config(sizes));
      config.update(v.changes(sizes));
      config.update(options.extra_config);
      return config;
    }
  }
  throw Error(ErrorCode::kInvalidArgument, "unknown variant of random model", {.got = options.variant});
}

void write_random_model(const std::string& folder, const RandomModelOptions& options) {
  const Json config = random_model_config(options);
  const ModelSpec spec = parse_model_spec(config, folder + "/config.json");
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) throw Error(ErrorCode::kIo, "cannot make the folder: " + code.message(), {.file = folder});

  Generator generator(options, spec);
  ModelWeights unused;
  visit_model(spec, usual_names(spec), &unused, generator);
  write_weights(folder, generator.tensors(), options.dtype, std::max(options.n_shards, 1));
  write_byte_tokenizer(folder);
  write_file_atomically(folder + "/config.json", json_text(config, 1) + "\n");
}

}  // namespace sepllm
