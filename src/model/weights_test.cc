#include "model/weights.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "checkpoint/safetensors.h"
#include "model/decoder.h"
#include "model/random_model.h"
#include "tests/support/captured_log.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"
#include "tests/support/weight_types.h"

namespace sepllm {
namespace {

using test::expect_error;

TEST(Weights, LoadsARealLlama) {
  SEPLLM_DATA_OR_SKIP(data);
  const std::string folder = data + "/derived/stories260k-hf";
  const ModelWeights w = load_weights(folder, read_model_spec(folder));
  EXPECT_EQ(w.layers.size(), 5U);
  EXPECT_EQ(w.head.weight.data, w.token_embedding.data);
  EXPECT_EQ(parameter_count(w), 260'032);
  EXPECT_EQ(w.layers[0].qkv.size(), 3U);
  EXPECT_EQ(w.layers[0].qkv[2].out_offset, 64 + 32);
  EXPECT_NO_THROW(check_finite(w));
}

TEST(Weights, LoadsARealGpt2) {
  SEPLLM_DATA_OR_SKIP(data);
  const std::string folder = data + "/derived/tiny-random-gpt2-hf";
  const ModelWeights w = load_weights(folder, read_model_spec(folder));
  EXPECT_EQ(w.layers.size(), 5U);
  EXPECT_TRUE(w.layers[0].mlp_in[0].weight.transposed);
  EXPECT_EQ(w.layers[0].mlp_in[0].weight.n_out, 128);
  EXPECT_EQ(w.layers[0].mlp_in[0].weight.row_stride, 128);
  EXPECT_EQ(w.position_embedding.n_out, 512);
}

// A tiny model whose tensors and config can be changed before it is loaded.
class Changed {
 public:
  explicit Changed(const std::string& variant) {
    write_random_model(folder_.path(), {.variant = variant, .hidden_size = 16, .n_layers = 1});
    const SafetensorsFile file(folder_.file("model.safetensors"));
    for (const auto& [name, entry] : file.entries()) {
      tensors_[name] = {entry.dtype, entry.shape, std::string(entry.data, static_cast<size_t>(entry.bytes))};
    }
    config_ = parse_json(read_file(folder_.file("config.json")), "config.json");
  }

  struct Tensor {
    std::string dtype;
    std::vector<int64_t> shape;
    std::string bytes;
  };
  std::map<std::string, Tensor>& tensors() { return tensors_; }
  Json& config() { return config_; }

  ModelWeights load() const {
    write();
    return load_weights(folder_.path(), read_model_spec(folder_.path()));
  }
  // What was written last, under another config.
  ModelWeights load_as(const Json& config) const {
    return load_weights(folder_.path(), parse_model_spec(config, "config.json"));
  }
  void write() const {
    std::vector<SafetensorsTensor> list;
    for (const auto& [name, t] : tensors_) list.push_back({name, t.dtype, t.shape, t.bytes.data()});
    write_safetensors(folder_.file("model.safetensors"), list);
    folder_.write("config.json", config_.dump());
  }
  void expect_refused(ErrorCode code, const std::vector<std::string>& parts) const {
    expect_error([&] { load(); }, code, parts);
  }

 private:
  test::TemporaryFolder folder_;
  std::map<std::string, Tensor> tensors_;
  Json config_;
};

void rename_all(std::map<std::string, Changed::Tensor>* tensors,
                const std::function<std::string(const std::string&)>& rename) {
  std::map<std::string, Changed::Tensor> renamed;
  for (auto& [name, t] : *tensors) renamed[rename(name)] = std::move(t);
  *tensors = std::move(renamed);
}

TEST(Weights, ViewsTheStoredMatrices) {
  Changed m("llama");
  const ModelWeights w = m.load();
  const LayerWeights& layer = w.layers[0];
  const auto& up = m.tensors().at("model.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(std::memcmp(layer.mlp_in[1].weight.data, up.bytes.data(), up.bytes.size()), 0);
  EXPECT_EQ(layer.mlp_in[1].weight.n_out, 48);
  EXPECT_EQ(layer.mlp_in[1].weight.n_in, 16);
  EXPECT_EQ(layer.mlp_in[1].weight.row_stride, 16);
  const auto& norm = m.tensors().at("model.layers.0.post_attention_layernorm.weight");
  EXPECT_EQ(std::memcmp(layer.norm2.weight, norm.bytes.data(), norm.bytes.size()), 0);
  EXPECT_EQ(layer.norm2.bias, nullptr);
  EXPECT_EQ(layer.mlp_in.size(), 2U);  // gate, up
  EXPECT_NE(w.head.weight.data, w.token_embedding.data);
  EXPECT_EQ(w.position_embedding.data, nullptr);
}

TEST(Weights, StayValidWhenMoved) {
  Changed m("falcon-rw");
  ModelWeights first = m.load();
  const float* bias = first.layers[0].qkv[0].bias;
  const float value = bias[0];
  ModelWeights second = std::move(first);
  EXPECT_EQ(second.layers[0].qkv[0].bias, bias);
  EXPECT_EQ(bias[0], value);
}

TEST(Weights, SharedNormsHaveNoSecond) {
  EXPECT_EQ(Changed("falcon-7b").load().layers[0].norm2.weight, nullptr);
  EXPECT_NE(Changed("falcon-40b").load().layers[0].norm2.weight, nullptr);
}

TEST(Weights, ThePrefixMayBeAbsent) {
  for (const char* variant : {"llama", "gpt2", "gpt_neox", "falcon-40b"}) {
    Changed m(variant);
    const std::string prefix = read_model_spec(m.load().store.folder()).prefix;
    rename_all(&m.tensors(), [&](const std::string& name) {
      return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
    });
    EXPECT_NO_THROW(m.load()) << variant;
  }
}

TEST(Weights, TheHeadOfNeoXHasTwoNames) {
  Changed m("gpt_neox");
  rename_all(&m.tensors(),
             [](const std::string& n) { return n == "embed_out.weight" ? "lm_head.weight" : n; });
  EXPECT_NE(m.load().head.weight.data, nullptr);
}

TEST(Weights, KnownBuffersAreIgnored) {
  Changed llama("llama");
  llama.tensors()["model.layers.0.self_attn.rotary_emb.inv_freq"] = {"F32", {2}, std::string(8, '\0')};
  EXPECT_NO_THROW(check_finite(llama.load()));
  Changed neox("gpt_neox");
  neox.tensors()["gpt_neox.layers.0.attention.bias"] = {"BOOL", {1, 1, 2, 2}, std::string(4, '\1')};
  neox.tensors()["gpt_neox.layers.0.attention.masked_bias"] = {"F16", {}, std::string("\0\xfc", 2)};
  EXPECT_NO_THROW(check_finite(neox.load()));
  Changed gpt2("gpt2");
  gpt2.tensors()["transformer.h.0.attn.bias"] = {"F32", {1, 1, 1, 1}, std::string(4, '\0')};
  gpt2.tensors()["transformer.h.0.attn.masked_bias"] = {"F32", {}, std::string(4, '\0')};
  EXPECT_NO_THROW(check_finite(gpt2.load()));
}

TEST(Weights, MissingTensorsAreErrors) {
  for (const char* name : {"model.layers.0.mlp.up_proj.weight", "model.norm.weight"}) {
    Changed m("llama");
    m.tensors().erase(name);
    m.expect_refused(ErrorCode::kNotFound, {name, "missing", "model."});
  }
}

TEST(Weights, NeitherTableIsAnError) {
  Changed m("llama");
  m.tensors().erase("lm_head.weight");
  m.tensors().erase("model.embed_tokens.weight");
  m.expect_refused(ErrorCode::kNotFound, {"model.embed_tokens.weight", "missing"});
}

// As transformers has it: the value head of a trained policy, a layer more than the config has.
TEST(Weights, SpareTensorsAreLeftOutWithOneWarning) {
  for (const char* variant : {"llama", "gpt_neox", "gpt2", "falcon-7b"}) {
    Changed m(variant);
    const int64_t parameters = parameter_count(m.load());
    for (const char* name : {"v_head.summary.weight", "model.layers.9.mlp.up_proj.weight", "a", "b"}) {
      m.tensors()[name] = {"I64", {1}, std::string(8, '\0')};
    }
    const test::CapturedLog log;
    const ModelWeights w = m.load();
    EXPECT_EQ(parameter_count(w), parameters);
    ASSERT_EQ(log.lines().size(), 1U) << variant;
    EXPECT_NE(log.lines()[0].find("4 tensors (a, b, model.layers.9.mlp.up_proj.weight, ...)"),
              std::string::npos)
        << log.lines()[0];
    EXPECT_NO_THROW(check_finite(w));
  }
  Changed one("llama");
  one.tensors()["v_head.summary.weight"] = {"F32", {1}, std::string(4, '\0')};
  const test::CapturedLog log;
  one.load();
  ASSERT_EQ(log.lines().size(), 1U);
  EXPECT_NE(log.lines()[0].find("1 tensor (v_head.summary.weight) that"), std::string::npos)
      << log.lines()[0];
}

TEST(Weights, AStaleIndexIsOneWarning) {
  const test::TemporaryFolder folder;
  write_random_model(folder.path(), {.n_shards = 3});
  const std::string path = folder.file("model.safetensors.index.json");
  Json index = parse_json(read_file(path), path);
  index["weight_map"]["mtp.fc.weight"] = index["weight_map"]["model.norm.weight"];
  folder.write("model.safetensors.index.json", index.dump());
  const test::CapturedLog log;
  load_weights(folder.path(), read_model_spec(folder.path()));
  ASSERT_EQ(log.lines().size(), 1U);
  EXPECT_NE(log.lines()[0].find("the index names 1 tensor (mtp.fc.weight) that"), std::string::npos)
      << log.lines()[0];
}

TEST(Weights, AnAdapterBesideThemIsNotPassedOverInSilence) {
  const test::TemporaryFolder folder;
  write_random_model(folder.path(), {});
  folder.write("adapter_config.json", "{}");
  const test::CapturedLog log;
  load_weights(folder.path(), read_model_spec(folder.path()));
  ASSERT_EQ(log.lines().size(), 1U);
  EXPECT_NE(log.lines()[0].find("is not applied"), std::string::npos) << log.lines()[0];
}

TEST(Weights, ATiedModelMayStoreItsHead) {
  Changed m("gpt2");
  m.tensors()["lm_head.weight"] = m.tensors().at("transformer.wte.weight");
  const ModelWeights w = m.load();
  EXPECT_EQ(w.head.weight.data, w.token_embedding.data);
  m.tensors()["lm_head.weight"] = {"F32", {2, 16}, std::string(128, '\0')};
  m.expect_refused(ErrorCode::kBadFile, {"lm_head.weight", "shape"});
}

// --- Tied tables ---

struct TiedFamily {
  const char* variant;
  const char* embedding;
  const char* head;
  bool by_default;  // tied where config.json does not say
};
constexpr TiedFamily kTiedFamilies[] = {
    {"llama", "model.embed_tokens.weight", "lm_head.weight", false},
    {"gpt_neox", "gpt_neox.embed_in.weight", "embed_out.weight", false},
    {"gpt_neox", "gpt_neox.embed_in.weight", "lm_head.weight", false},
    {"gpt2", "transformer.wte.weight", "lm_head.weight", true},
    {"falcon-40b", "transformer.word_embeddings.weight", "lm_head.weight", true},
};

// What the checkpoint holds counts, whatever config.json says: the table or tables that are there are used,
// and a contradiction is one warning.
TEST(Weights, TheCheckpointSaysWhetherTheHeadIsTied) {
  std::vector<std::string> warnings;
  LogSink old = set_log_sink([&](LogLevel, const std::string& text) { warnings.push_back(text); });
  for (const TiedFamily& family : kTiedFamilies) {
    Changed m(family.variant);
    m.config().erase("tie_word_embeddings");
    m.tensors().erase("embed_out.weight");
    const Changed::Tensor embedding = m.tensors().at(family.embedding);
    for (const char* stored : {"embedding", "head", "equal", "different"}) {
      Changed::Tensor head = embedding;
      if (stored == std::string("different")) head.bytes[3] = static_cast<char>(head.bytes[3] ^ 0x80);
      m.tensors()[family.embedding] = embedding;
      m.tensors()[family.head] = head;
      const bool one = stored == std::string("embedding") || stored == std::string("head");
      if (one) m.tensors().erase(stored == std::string("head") ? family.embedding : family.head);
      m.write();
      for (const std::optional<bool> flag : {std::optional<bool>(), {true}, {false}}) {
        SCOPED_TRACE(std::string(family.variant) + " " + family.head + ", " + stored + ", " +
                     (flag ? *flag ? "tied" : "untied" : "not said"));
        Json config = m.config();
        if (flag) config["tie_word_embeddings"] = *flag;
        warnings.clear();
        const ModelWeights w = m.load_as(config);
        const bool says_tied = flag.value_or(family.by_default);
        EXPECT_EQ(w.tied(), one || (says_tied && stored == std::string("equal")));
        EXPECT_EQ(std::memcmp(w.token_embedding.data, embedding.bytes.data(), embedding.bytes.size()), 0);
        EXPECT_EQ(std::memcmp(w.head.weight.data, head.bytes.data(), head.bytes.size()), 0);
        const bool contradicts = one ? !says_tied : says_tied && stored == std::string("different");
        ASSERT_EQ(warnings.size(), contradicts ? 1U : 0U);
        if (!contradicts) continue;
        EXPECT_NE(warnings[0].find(family.embedding), std::string::npos) << warnings[0];
        // (Where neither of a head's two names is there, the usual one is missing.)
        const bool by_other_name = family.head == std::string("lm_head.weight") && one;
        EXPECT_TRUE(by_other_name || warnings[0].find(family.head) != std::string::npos) << warnings[0];
      }
    }
  }
  set_log_sink(std::move(old));
}

// The config of a decoder is that of its weights: all that asks it (the fingerprint, training) sees the same.
TEST(Weights, TheDecodersConfigIsThatOfTheCheckpoint) {
  Changed m("llama");
  m.tensors().erase("lm_head.weight");
  const std::string folder = m.load().store.folder();
  EXPECT_FALSE(read_model_spec(folder).config.tied_embeddings);
  EXPECT_TRUE(Decoder::load(folder).config().tied_embeddings);
}

// Equal numbers in two types are equal.
TEST(Weights, TablesOfTwoTypesAreComparedByValue) {
  Changed m("gpt2");
  const Changed::Tensor& embedding = m.tensors().at("transformer.wte.weight");
  Changed::Tensor head{"F64", embedding.shape, std::string(2 * embedding.bytes.size(), '\0')};
  for (size_t i = 0; i < embedding.bytes.size() / 4; ++i) {
    float value;
    std::memcpy(&value, embedding.bytes.data() + 4 * i, 4);
    const double same = value;
    std::memcpy(head.bytes.data() + 8 * i, &same, 8);
  }
  m.tensors()["lm_head.weight"] = head;
  EXPECT_TRUE(m.load().tied());
}

// --- f64 ---

// Every tensor in f64, of every family: the same weights, in f32, to the last bit.
TEST(Weights, OfF64AreThoseOfF32) {
  for (const std::string& variant : random_model_variants()) {
    SCOPED_TRACE(variant);
    Changed plain(variant), wide(variant);
    for (auto& [name, t] : wide.tensors()) {
      std::string bytes(2 * t.bytes.size(), '\0');
      for (size_t i = 0; i < t.bytes.size() / 4; ++i) {
        float value;
        std::memcpy(&value, t.bytes.data() + 4 * i, 4);
        const double same = value;
        std::memcpy(bytes.data() + 8 * i, &same, 8);
      }
      t = {"F64", t.shape, bytes};
    }
    const ModelWeights a = plain.load(), b = wide.load();
    EXPECT_NO_THROW(check_finite(b));
    EXPECT_EQ(parameter_count(a), parameter_count(b));
    EXPECT_EQ(weight_bytes(a), weight_bytes(b));
    const auto same = [](const Weight& x, const Weight& y) {
      ASSERT_EQ(y.type, DType::kF32);
      ASSERT_FALSE(y.transposed);
      for (int64_t r = 0; r < x.n_out; ++r) {
        for (int64_t i = 0; i < x.n_in; ++i) {
          const auto at = x.transposed ? i * x.row_stride + r : r * x.row_stride + i;
          ASSERT_EQ(static_cast<const float*>(x.data)[at],
                    static_cast<const float*>(y.data)[r * y.row_stride + i]);
        }
      }
    };
    same(a.token_embedding, b.token_embedding);
    same(a.head.weight, b.head.weight);
    if (a.position_embedding.data != nullptr) same(a.position_embedding, b.position_embedding);
    same(a.layers[0].qkv.back().weight, b.layers[0].qkv.back().weight);
    same(a.layers[0].mlp_down.weight, b.layers[0].mlp_down.weight);
    EXPECT_EQ(a.final_norm.weight[3], b.final_norm.weight[3]);
  }
}

TEST(Weights, ShapesAgainstTheConfigAreErrors) {
  Changed larger("llama");
  larger.config()["vocab_size"] = 300;
  larger.expect_refused(ErrorCode::kBadFile, {"embed_tokens", "expected [300, 16]", "got [258, 16]"});
  Changed heads("llama");
  heads.config()["num_key_value_heads"] = 4;
  heads.expect_refused(ErrorCode::kBadFile, {"k_proj", "shape"});
  Changed positions("gpt2");
  positions.config()["n_positions"] = 513;
  positions.expect_refused(ErrorCode::kBadFile, {"wpe", "expected [513, 16]"});
}

TEST(Weights, WrongTypesAreErrors) {
  Changed m("llama");
  m.tensors().at("model.layers.0.mlp.up_proj.weight").dtype = "I32";
  m.expect_refused(ErrorCode::kUnsupported, {"up_proj", "F32, F16, BF16 or F64", "I32"});
}

TEST(Weights, NonFiniteValuesAreErrors) {
  const float nan = std::nanf("");
  Changed norm("llama");
  std::memcpy(norm.tensors().at("model.norm.weight").bytes.data() + 12, &nan, 4);
  norm.expect_refused(ErrorCode::kBadFile, {"model.norm.weight, element 3", "NaN"});
  Changed matrix("llama");
  std::memcpy(matrix.tensors().at("model.embed_tokens.weight").bytes.data() + 4 * 3000, &nan, 4);
  const ModelWeights w = matrix.load();
  expect_error([&] { check_finite(w); }, ErrorCode::kBadFile, {"embed_tokens.weight, element 3000"});
}

TEST(Weights, OfAnotherTypeThanStored) {
  for (const char* variant : {"llama", "llama-tied", "gpt2", "falcon-40b", "gpt_neox"}) {
    const test::TemporaryFolder folder;
    write_random_model(folder.path(), {.variant = variant, .hidden_size = 48, .n_layers = 2});
    const ModelSpec spec = read_model_spec(folder.path());
    const ModelWeights native = load_weights(folder.path(), spec);
    for (const DType type : test::weight_types()) {
      if (type == DType::kF32) continue;  // as stored
      const ModelWeights w = load_weights(folder.path(), spec, {.type = type, .n_threads = 2});
      EXPECT_EQ(parameter_count(w), parameter_count(native)) << variant;
      EXPECT_EQ(w.token_embedding.type, table_type(type));
      EXPECT_EQ(w.head.weight.type, table_type(type));
      EXPECT_EQ(w.head.weight.data == w.token_embedding.data, spec.config.tied_embeddings) << variant;
      for (size_t i = 0; i < w.layers[1].qkv.size(); ++i) {
        EXPECT_EQ(w.layers[1].qkv[i].weight.type, type);
        EXPECT_EQ(w.layers[1].qkv[i].out_offset, native.layers[1].qkv[i].out_offset);
      }
      EXPECT_EQ(w.layers[1].mlp_down.weight.type, type);
      EXPECT_FALSE(w.layers[1].mlp_down.weight.transposed);
      EXPECT_LT(weight_bytes(w), weight_bytes(native));
      EXPECT_LE(multiplied_bytes(w), weight_bytes(w));
      EXPECT_NO_THROW(check_finite(w));
      EXPECT_EQ(w.position_embedding.type, DType::kF32);
    }
    EXPECT_EQ(weight_bytes(native), 4 * parameter_count(native)) << variant;
    const Weight& tokens = native.token_embedding;
    const Weight& positions = native.position_embedding;
    EXPECT_EQ(multiplied_bytes(native),
              weight_bytes(native) - 4 * positions.n_out * positions.n_in -
                  (spec.config.tied_embeddings ? 0 : 4 * tokens.n_out * tokens.n_in))
        << variant;
    const ModelWeights same = load_weights(folder.path(), spec, {.type = DType::kF32});
    EXPECT_TRUE(same.matrices.empty());
  }
}

TEST(Weights, NonFiniteValuesAreErrorsWhenConverted) {
  Changed m("llama");
  const float nan = std::nanf("");
  std::memcpy(m.tensors().at("model.embed_tokens.weight").bytes.data() + 4 * (16 * 200 + 3), &nan, 4);
  const std::string folder = m.load().store.folder();
  expect_error([&] { load_weights(folder, read_model_spec(folder), {.type = DType::kQ8_0}); },
               ErrorCode::kBadFile, {"embed_tokens.weight, row 200", "NaN"});
}

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

TEST(Weights, ConvertedOnesDoNotHoldTheFileInMemory) {
  const test::TemporaryFolder folder;
  write_random_model(folder.path(), {.hidden_size = 384, .n_layers = 6});
  const int64_t before = resident_bytes();
  const ModelWeights w = load_weights(folder.path(), read_model_spec(folder.path()), {.type = DType::kQ8_0});
  const int64_t grown = resident_bytes() - before;
  ASSERT_GT(w.store.total_bytes(), 40'000'000);
  EXPECT_LT(grown, weight_bytes(w) + 8'000'000);
}

TEST(Weights, TruncatedFilesAreErrorsAtEveryLength) {
  const test::TemporaryFolder folder;
  write_random_model(folder.path(), {.hidden_size = 8, .n_layers = 1, .n_heads = 2, .dtype = DType::kF16});
  const ModelSpec spec = read_model_spec(folder.path());
  const std::string bytes = read_file(folder.file("model.safetensors"));
  // The data is one block to the reader: small steps through the header, wide ones behind it (every length:
  // safetensors_test).
  for (size_t n = 0; n < bytes.size(); n += n < 1500 ? 7 : 97) {
    folder.write("model.safetensors", bytes.substr(0, n));
    EXPECT_THROW(load_weights(folder.path(), spec), Error) << n;
  }
}

}  // namespace
}  // namespace sepllm
