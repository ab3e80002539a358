#include "model/config.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/log.h"
#include "model/config_fields.h"
#include "model/families/common.h"
#include "model/random_model.h"
#include "tests/support/expect_error.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

using test::expect_error;

Json config_of(const std::string& variant, const Json& changes = Json::object()) {
  RandomModelOptions options{.variant = variant};
  options.extra_config = changes;
  return random_model_config(options);
}

ModelConfig parse(const std::string& variant, const Json& changes = Json::object()) {
  return parse_model_spec(config_of(variant, changes), "config.json").config;
}

void expect_refused(const std::string& variant, const Json& changes, ErrorCode code,
                    const std::vector<std::string>& parts) {
  std::vector<std::string> all = parts;
  all.emplace_back("config.json");
  expect_error([&] { parse(variant, changes); }, code, all);
}

void expect_near(const std::vector<double>& got, const std::vector<double>& expected, double relative) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], relative * expected[i]) << i;
}

// All attention rows must be used exactly once: each head's q, k and v have a place of their own.
void expect_qkv_is_a_partition(const ModelConfig& c) {
  std::vector<int> used(static_cast<size_t>(c.qkv_dim() / c.head_dim));
  for (int64_t h = 0; h < c.n_heads; ++h) {
    ++used.at(static_cast<size_t>(h / c.group() * c.qkv.q_group_stride + h % c.group()));
  }
  for (int64_t g = 0; g < c.n_kv_heads; ++g) {
    ++used.at(static_cast<size_t>(c.qkv.k_offset + g * c.qkv.kv_stride));
    ++used.at(static_cast<size_t>(c.qkv.v_offset + g * c.qkv.kv_stride));
  }
  for (const int n : used) EXPECT_EQ(n, 1);
}

TEST(Config, QkvLayoutsArePartitions) {
  for (const std::string& variant : random_model_variants()) {
    SCOPED_TRACE(variant);
    expect_qkv_is_a_partition(parse(variant));
  }
}

TEST(Config, Llama) {
  const ModelConfig c = parse("llama");
  EXPECT_EQ(c.family, "llama");
  EXPECT_EQ(c.n_kv_heads, 2);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_TRUE(c.gated_mlp);
  EXPECT_FALSE(c.tied_embeddings);
  EXPECT_EQ(c.stored_dtype, "float32");
  EXPECT_EQ(c.ropes.at(0).dim, 16);
  EXPECT_EQ(c.block, BlockType::kSequential);
  EXPECT_TRUE(c.policy.is_null());
  const ModelConfig wide = parse("llama", {{"head_dim", 32}, {"num_key_value_heads", nullptr}});
  EXPECT_EQ(wide.head_dim, 32);
  EXPECT_EQ(wide.n_kv_heads, 4);
  const ModelSpec biased = parse_model_spec(config_of("llama", {{"attention_bias", true}}), "f");
  EXPECT_EQ(biased.names.layers[1].qkv[2].bias(), "layers.1.self_attn.v_proj.bias");
  EXPECT_TRUE(biased.config.layer(1).qkv_bias && biased.config.layer(1).out_bias);
  EXPECT_FALSE(biased.config.layer(1).mlp_bias);
}

TEST(Config, TokenIds) {
  EXPECT_EQ(parse("llama").bos_token_id, 256);
  EXPECT_EQ(parse("llama", {{"eos_token_id", {7, 9}}}).eos_token_ids, (std::vector<int32_t>{7, 9}));
  EXPECT_TRUE(parse("llama", {{"eos_token_id", nullptr}}).eos_token_ids.empty());
  // HF's default of GPT-2 lies beyond a small vocabulary.
  EXPECT_FALSE(parse("gpt2", {{"bos_token_id", 50256}}).bos_token_id);
  EXPECT_FALSE(parse("llama", {{"bos_token_id", -1}}).bos_token_id);
  expect_refused("llama", {{"eos_token_id", "x"}}, ErrorCode::kBadFile, {"eos_token_id", "a token id"});
}

// Expected values: where transformers 5 stops.
TEST(Config, EndTokensOfGenerationConfigReplaceThoseOfTheConfig) {
  using Ids = std::vector<int32_t>;
  const test::TemporaryFolder folder;
  const auto ends = [&](const Json& config, const std::string& generation) {
    folder.write("config.json", config_of("llama", config).dump());
    folder.write("generation_config.json", generation);
    return read_model_spec(folder.path()).config;
  };
  const Json seven = {{"eos_token_id", 7}};
  EXPECT_EQ(ends(seven, R"({"eos_token_id": 3})").eos_token_ids, Ids{3});
  EXPECT_EQ(ends(seven, R"({"eos_token_id": [257, 3]})").eos_token_ids, (Ids{257, 3}));
  EXPECT_EQ(ends(seven, R"({"temperature": 0.6})").eos_token_ids, Ids{7});
  EXPECT_EQ(ends(seven, R"({"eos_token_id": null})").eos_token_ids, Ids{7});
  EXPECT_EQ(ends(seven, R"({"eos_token_id": [100000]})").eos_token_ids, Ids{7});
  EXPECT_TRUE(ends(seven, "{}").eos_stated);
  const Json none = {{"eos_token_id", nullptr}};
  EXPECT_FALSE(ends(none, "{}").eos_stated);
  EXPECT_TRUE(ends(none, R"({"eos_token_id": 3})").eos_stated);
  folder.write("generation_config.json", "{");
  expect_error([&] { read_model_spec(folder.path()); }, ErrorCode::kBadFile, {"generation_config.json"});
}

// Expected values: LlamaRotaryEmbedding of transformers 5 in float32.
TEST(Config, RopeScalingIsThatOfTransformers) {
  const Json llama3 = {{"rope_type", "llama3"},   {"rope_theta", 500000.0},
                       {"factor", 8.0},           {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 8192}};
  const std::vector<double> expected = {1.0,
                                        0.193922758102417,
                                        0.03760603070259094,
                                        0.00729266507551074,
                                        0.0005248460220173001,
                                        3.428102354519069e-05,
                                        6.647869668086059e-06,
                                        1.289173155782919e-06};
  expect_near(parse("llama", {{"rope_parameters", llama3}}).ropes.at(0).inv_freq, expected, 1e-6);
  Json old = llama3;
  old.erase("rope_theta");
  const ModelConfig c = parse("llama", {{"rope_scaling", old}, {"rope_theta", 500000}});
  expect_near(c.ropes.at(0).inv_freq, expected, 1e-6);
  EXPECT_EQ(c.ropes.at(0).type, "llama3");
  old.erase("original_max_position_embeddings");
  expect_near(parse("llama", {{"rope_scaling", old}, {"rope_theta", 5e5}, {"max_position_embeddings", 8192}})
                  .ropes.at(0)
                  .inv_freq,
              expected, 1e-6);
  const std::vector<double> linear = {0.25,   0.07905694097280502,   0.025,   0.007905694656074047,
                                      0.0025, 0.0007905694656074047, 0.00025, 7.905694656074047e-05};
  expect_near(parse("llama", {{"rope_scaling", {{"type", "linear"}, {"factor", 4}}}}).ropes.at(0).inv_freq,
              linear, 1e-6);
}

TEST(Config, RopeForms) {
  const ModelConfig plain = parse("llama", {{"rope_theta", 10000}});
  EXPECT_EQ(parse("llama", {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 10000.0}}}})
                .ropes.at(0)
                .inv_freq,
            plain.ropes.at(0).inv_freq);
  EXPECT_EQ(parse("llama", {{"rope_scaling", nullptr}}).ropes.at(0).inv_freq, plain.ropes.at(0).inv_freq);
  EXPECT_EQ(parse("llama", {{"rope_scaling", Json::object()}}).ropes.at(0).inv_freq,
            plain.ropes.at(0).inv_freq);
  // A value within the parameters has priority over one next to them.
  EXPECT_EQ(
      parse("llama", {{"rope_theta", 7.0}, {"rope_parameters", {{"rope_theta", 9.0}}}}).ropes.at(0).theta,
      9.0);
  expect_refused("llama", {{"rope_scaling", {{"type", "proportional"}}}}, ErrorCode::kUnsupported,
                 {"rope_scaling.type", "default, linear, dynamic, yarn, longrope, llama3", "proportional"});
  expect_refused("llama",
                 {{"rope_scaling", {{"type", "longrope"}, {"short_factor", {1}}, {"long_factor", {1}}}}},
                 ErrorCode::kBadFile, {"rope_scaling.short_factor", "8 positive numbers", "1 elements"});
  expect_refused("llama", {{"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}}},
                 ErrorCode::kUnsupported, {"rope_parameters.full_attention", "types of layers"});
  expect_refused("llama", {{"rope_scaling", {{"type", "linear"}}}}, ErrorCode::kNotFound,
                 {"rope_scaling.factor"});
  expect_refused("llama", {{"rope_scaling", {{"type", "linear"}, {"factor", 0}}}}, ErrorCode::kBadFile,
                 {"rope_scaling.factor", "positive"});
  expect_refused("llama", {{"rope_theta", -1.0}}, ErrorCode::kBadFile, {"rope_theta", "positive"});
  expect_refused("llama", {{"rope_scaling", 3}}, ErrorCode::kBadFile, {"rope_scaling", "a JSON object"});
  // (With the default type transformers ignores it: tests/golden/rope_golden_test.cc.)
  expect_refused("llama",
                 {{"partial_rotary_factor", 0.5}, {"rope_scaling", {{"type", "linear"}, {"factor", 2}}}},
                 ErrorCode::kBadFile, {"partial_rotary_factor", "rotates all of the head"});
  expect_refused("llama", {{"head_dim", 2}, {"rope_scaling", {{"type", "dynamic"}, {"factor", 2}}}},
                 ErrorCode::kBadFile, {"more than 2 rotated dims"});
  expect_refused("llama", {{"rope_scaling", {{"type", "yarn"}, {"factor", 2}, {"beta_fast", -1}}}},
                 ErrorCode::kBadFile, {"rope_scaling.beta_fast", "positive"});
  expect_refused("llama", {{"head_dim", 15}}, ErrorCode::kBadFile, {"even"});
  expect_refused("llama", {{"head_dim", 2048}}, ErrorCode::kBadFile, {"head_dim", "1024"});
  expect_refused("llama", {{"rope_scaling", {{"type", "linear"}, {"factor", 1e-310}}}}, ErrorCode::kBadFile,
                 {"overflow"});
  expect_refused(
      "llama-tied",
      {{"rope_scaling",
        {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}}},
      ErrorCode::kBadFile, {"high_freq_factor", "more than"});
}

TEST(Config, GptNeoX) {
  const ModelConfig c = parse("gpt_neox", {{"hidden_size", 80}});
  EXPECT_EQ(c.block, BlockType::kParallel);
  EXPECT_EQ(c.activation, Activation::kGelu);
  EXPECT_EQ(c.ropes.at(0).dim, 6);  // int(20 * 0.25) = 5, rounded up to pairs, exponents over 5
  expect_near(c.ropes.at(0).inv_freq, {1.0, 0.025118863210082054, 0.0006309573072940111}, 1e-6);
  EXPECT_EQ(c.norm, NormType::kLayerNorm);
  EXPECT_EQ(parse("gpt_neox-sequential").block, BlockType::kSequential);
  EXPECT_EQ(parse("gpt_neox", {{"rope_parameters", {{"partial_rotary_factor", 0.5}, {"rope_theta", 100}}}})
                .ropes.at(0)
                .dim,
            8);
  EXPECT_EQ(parse("gpt_neox", {{"hidden_act", "gelu_fast"}}).activation, Activation::kGeluTanh);
  const LayerSpec no_bias = parse("gpt_neox", {{"attention_bias", false}}).layer(0);
  EXPECT_FALSE(no_bias.qkv_bias || no_bias.out_bias);
  EXPECT_TRUE(no_bias.mlp_bias);
}

TEST(Config, Gpt2) {
  const ModelConfig c = parse("gpt2");
  EXPECT_EQ(c.position, PositionType::kLearned);
  EXPECT_EQ(c.activation, Activation::kGeluTanh);
  EXPECT_EQ(c.intermediate_size, 4 * c.hidden_size);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_EQ(parse("gpt2", {{"n_inner", 100}}).intermediate_size, 100);
  expect_refused("gpt2", {{"add_cross_attention", true}}, ErrorCode::kUnsupported,
                 {"add_cross_attention", "expected false"});
}

TEST(Config, AttentionScalesOfGpt2) {
  const auto scales = [](Json changes) {
    changes["n_layer"] = 2;
    std::vector<double> out;
    for (const LayerSpec& layer : parse("gpt2", changes).layers) out.push_back(layer.attention_scale);
    return out;
  };
  EXPECT_EQ(scales(Json::object()), (std::vector<double>{0.25, 0.25}));  // heads of 16
  EXPECT_EQ(scales({{"reorder_and_upcast_attn", true}}), (std::vector<double>{0.25, 0.25}));
  EXPECT_EQ(scales({{"scale_attn_by_inverse_layer_idx", true}}), (std::vector<double>{0.25, 0.125}));
  EXPECT_EQ(scales({{"scale_attn_weights", false}}), (std::vector<double>{1, 1}));
  EXPECT_EQ(scales({{"scale_attn_weights", false}, {"scale_attn_by_inverse_layer_idx", true}}),
            (std::vector<double>{1, 0.5}));
}

// A config that is refused says why, and nothing else.
TEST(Config, RefusalsComeWithoutWarnings) {
  int n_lines = 0;
  LogSink old = set_log_sink([&](LogLevel, const std::string&) { ++n_lines; });
  const Json far = {{"bos_token_id", 50256}, {"eos_token_id", 50256}};
  for (const auto& [variant, key] : {std::pair{"gpt2", "add_cross_attention"},
                                     {"falcon-40b", "apply_residual_connection_post_layernorm"}}) {
    Json changes = far;
    changes[key] = true;
    expect_refused(variant, changes, ErrorCode::kUnsupported, {key});
  }
  Json changes = far;
  changes["quantization_config"] = {{"quant_method", "gptq"}};
  expect_refused("llama", changes, ErrorCode::kUnsupported, {"quant_method"});
  EXPECT_EQ(n_lines, 0);
  parse("llama", far);
  EXPECT_EQ(n_lines, 2);
  set_log_sink(std::move(old));
}

// States and checkpoints tell models apart by this hash: whatever a config changes in what is computed
// changes it.
TEST(Config, TheHashTellsRopesAndScalesApart) {
  const auto hash = [](const char* variant, const Json& changes) {
    Hash64 h;
    add_hash(&h, parse(variant, changes));
    return h.value();
  };
  const Json scalings[] = {
      Json::object(),
      {{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}},
      {{"rope_scaling", {{"type", "dynamic"}, {"factor", 2}}}},
      {{"rope_scaling", {{"type", "dynamic"}, {"factor", 3}}}},
      {{"rope_scaling", {{"type", "yarn"}, {"factor", 2}}}},
      {{"rope_scaling", {{"type", "yarn"}, {"factor", 2}, {"attention_factor", 1}}}},
  };
  std::set<uint64_t> hashes;
  for (const Json& s : scalings) hashes.insert(hash("llama", s));
  EXPECT_EQ(hashes.size(), std::size(scalings));
  EXPECT_NE(hash("gpt2", Json::object()), hash("gpt2", {{"scale_attn_by_inverse_layer_idx", true}}));
  EXPECT_NE(hash("gpt2", Json::object()), hash("gpt2", {{"scale_attn_weights", false}}));
  EXPECT_EQ(hash("gpt2", Json::object()), hash("gpt2", {{"reorder_and_upcast_attn", true}}));
}

TEST(Config, FalconVariants) {
  const ModelConfig f7 = parse("falcon-7b");
  EXPECT_EQ(f7.block, BlockType::kParallelShared);
  EXPECT_EQ(f7.n_kv_heads, 1);
  EXPECT_EQ(f7.qkv_dim(), 64 + 2 * 16);
  const ModelConfig f40 = parse("falcon-40b");
  EXPECT_EQ(f40.block, BlockType::kParallel);
  EXPECT_EQ(f40.n_kv_heads, 2);
  EXPECT_EQ(parse("falcon-11b").block, BlockType::kParallelShared);
  const ModelConfig rw = parse("falcon-rw");
  EXPECT_EQ(rw.block, BlockType::kSequential);
  EXPECT_EQ(rw.position, PositionType::kAlibi);
  EXPECT_EQ(rw.n_kv_heads, 4);
  expect_near(rw.alibi_slopes, {0.25 / 4, 0.0625 / 4, 0.015625 / 4, 0.00390625 / 4}, 1e-12);
  EXPECT_EQ(parse("falcon-7b", {{"num_kv_heads", 3}}).n_kv_heads, 1);
  expect_refused("falcon-rw", {{"num_kv_heads", 2}}, ErrorCode::kBadFile, {"num_kv_heads"});
  expect_refused("falcon-40b", {{"num_kv_heads", 3}}, ErrorCode::kBadFile, {"num_kv_heads", "divisor"});
  expect_refused("falcon-40b", {{"parallel_attn", false}}, ErrorCode::kBadFile, {"parallel_attn"});
}

TEST(Config, FalconUnderItsFirstName) {
  const Json old40 = {{"model_type", "RefinedWeb"},
                      {"vocab_size", 100},
                      {"hidden_size", 64},
                      {"n_layer", 2},
                      {"n_head", 8},
                      {"n_head_kv", 2},
                      {"alibi", false},
                      {"bias", false},
                      {"parallel_attn", true}};
  const ModelConfig c = parse_model_spec(old40, "f").config;
  EXPECT_EQ(c.family, "falcon");
  EXPECT_EQ(c.n_kv_heads, 2);
  EXPECT_EQ(c.block, BlockType::kParallel);
  Json old7 = old40;
  old7["model_type"] = "RefinedWebModel";
  old7["multi_query"] = true;
  EXPECT_EQ(parse_model_spec(old7, "f").config.block, BlockType::kParallelShared);
}

// Expected values: build_alibi_tensor of transformers, before it rounds to bf16.
TEST(Config, AlibiSlopesForAnyNumberOfHeads) {
  expect_near(alibi_slopes(1), {0.00390625}, 1e-12);
  expect_near(alibi_slopes(6), {0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125}, 1e-12);
  const auto twelve = alibi_slopes(12);
  ASSERT_EQ(twelve.size(), 12U);
  EXPECT_NEAR(twelve[7], 0.00390625, 1e-12);
  EXPECT_NEAR(twelve[8], 0.70703125, 4e-3 * 0.7);
  EXPECT_NEAR(twelve[11], 0.08837890625, 4e-3 * 0.09);
}

TEST(Config, BadConfigsAreErrors) {
  expect_error([] { parse_model_spec(Json::array(), "config.json"); }, ErrorCode::kBadFile,
               {"a JSON object"});
  expect_error([] { parse_model_spec(Json::object(), "config.json"); }, ErrorCode::kUnsupported,
               {"model_type", "gpt_neox, llama, gpt2, falcon", "got none"});
  expect_refused("llama", {{"model_type", "bert"}}, ErrorCode::kUnsupported,
                 {"unknown model family", "bert"});
  expect_refused("llama", {{"model_type", 3}}, ErrorCode::kBadFile, {"model_type", "a string"});
  expect_refused("llama", {{"num_attention_heads", 0}}, ErrorCode::kBadFile,
                 {"num_attention_heads", "got 0"});
  expect_refused("llama", {{"num_attention_heads", 5}, {"num_key_value_heads", 5}}, ErrorCode::kBadFile,
                 {"num_attention_heads", "divisor of the hidden size 64"});
  expect_refused("llama", {{"num_key_value_heads", 3}}, ErrorCode::kBadFile,
                 {"num_key_value_heads", "divisor of the 4 heads"});
  expect_refused("llama", {{"num_key_value_heads", 8}}, ErrorCode::kBadFile, {"num_key_value_heads"});
  expect_refused("llama", {{"hidden_size", "64"}}, ErrorCode::kBadFile, {"hidden_size", "an integer"});
  expect_refused("llama", {{"vocab_size", int64_t{1} << 40}}, ErrorCode::kBadFile, {"vocab_size"});
  expect_refused("llama", {{"num_hidden_layers", -1}}, ErrorCode::kBadFile, {"num_hidden_layers"});
  expect_refused("llama", {{"num_hidden_layers", 1e9}}, ErrorCode::kBadFile, {"num_hidden_layers"});
  expect_refused("llama", {{"rms_norm_eps", -1}}, ErrorCode::kBadFile, {"rms_norm_eps"});
  expect_refused("llama", {{"hidden_act", "mish"}}, ErrorCode::kUnsupported, {"hidden_act", "silu", "mish"});
  for (const auto& [method, name] : {std::pair{"gptq", "GPTQ"},
                                     {"awq", "AWQ"},
                                     {"bitsandbytes", "bitsandbytes"},
                                     {"compressed-tensors", "compressed-tensors"},
                                     {"fp8", "FP8"},
                                     {"odd", "odd"}}) {
    expect_refused(
        "llama", {{"quantization_config", {{"quant_method", method}, {"bits", 4}}}}, ErrorCode::kUnsupported,
        {"quantization_config.quant_method", "quantised by another program: ", name, "original model"});
  }
  expect_refused("llama", {{"quantization_config", {{"load_in_4bit", true}}}}, ErrorCode::kUnsupported,
                 {"bitsandbytes"});
  const auto refused_blocks = [](const Json& change, ErrorCode code, const std::vector<std::string>& parts) {
    Json q = {{"quant_method", "sepllm"}, {"type", "q8_0"}, {"block_size", 32}};
    q.update(change);
    expect_refused("llama", {{"quantization_config", q}}, code, parts);
  };
  refused_blocks({{"type", "q5_0"}}, ErrorCode::kUnsupported, {"quantization_config.type", "q8_0 or q4_0"});
  refused_blocks({{"type", 8}}, ErrorCode::kBadFile, {"quantization_config.type", "a string"});
  refused_blocks({{"block_size", 64}}, ErrorCode::kBadFile, {"quantization_config.block_size", "64"});
  refused_blocks({{"quant_method", nullptr}}, ErrorCode::kUnsupported, {"quant_method"});
  expect_refused("gpt2", {{"n_head", 5}}, ErrorCode::kBadFile, {"n_head"});
  expect_refused("gpt_neox", {{"rotary_pct", 1.5}}, ErrorCode::kBadFile, {"rotary_pct"});
  expect_refused("gpt_neox", {{"rotary_pct", 0.01}}, ErrorCode::kBadFile, {"rotated dims"});
  expect_refused("llama", {{"sepllm", 1}}, ErrorCode::kBadFile, {"sepllm", "a JSON object"});
}

TEST(Config, BlocksAreThoseOfTheQuantizationConfig) {
  EXPECT_FALSE(parse_model_spec(config_of("llama"), "config.json").blocks);
  Json config = config_of("llama");
  config["quantization_config"] = {{"quant_method", "sepllm"}, {"type", "q4_0"}, {"block_size", 32}};
  EXPECT_EQ(parse_model_spec(config, "config.json").blocks, DType::kQ4_0);
}

TEST(Config, ThePolicyIsPassedOn) {
  EXPECT_EQ(parse("llama", {{"sepllm", {{"policy", "sep"}, {"window", 64}}}}).policy.dump(),
            R"({"policy":"sep","window":64})");
}

TEST(Config, MissingFilesAreErrors) {
  const test::TemporaryFolder folder;
  expect_error([&] { read_model_spec(folder.path()); }, ErrorCode::kNotFound, {"config.json"});
  folder.write("adapter_config.json", R"({"base_model_name_or_path":"org/base"})");
  expect_error([&] { read_model_spec(folder.path()); }, ErrorCode::kUnsupported, {"LoRA", "org/base"});
  folder.write("config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
  expect_error([&] { read_model_spec(folder.path()); }, ErrorCode::kBadFile,
               {"config.json", "Git LFS pointer", "a JSON file", "git lfs pull"});
  folder.write("config.json", "<!doctype html><html></html>");
  expect_error([&] { read_model_spec(folder.path()); }, ErrorCode::kBadFile, {"config.json", "HTML page"});
  expect_error([&] { read_model_spec(folder.file("none")); }, ErrorCode::kNotFound, {"no such model folder"});
}

// Error or success, never anything else; a truncated config is always an Error.
TEST(Config, EveryTruncationAndMutationIsHandled) {
  for (const std::string& variant : random_model_variants()) {
    const std::string text = config_of(variant).dump();
    int n_fine = 0;
    const auto try_parse = [&](const std::string& content) {
      try {
        parse_model_spec(parse_json(content, "config.json"), "config.json");
        ++n_fine;
      } catch (const Error&) {
      }
    };
    for (size_t n = 0; n < text.size(); ++n) try_parse(text.substr(0, n));
    EXPECT_EQ(n_fine, 0) << variant;
    for (size_t i = 0; i < text.size(); ++i) {
      for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128}) {
        std::string mutated = text;
        mutated[i] = static_cast<char>(mutated[i] ^ flip);
        try_parse(mutated);
      }
    }
    EXPECT_GT(n_fine, 0) << variant;
  }
}

}  // namespace
}  // namespace sepllm
