#include "model/config_fields.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "model/families/common.h"
#include "model/random_model.h"

namespace sepllm {
namespace {

ModelConfig fields_config(const std::string& variant) {
  return parse_model_spec(random_model_config({.variant = variant}), "config.json").config;
}

uint64_t hash_of(const ModelConfig& c) {
  Hash64 hash;
  add_hash(&hash, c);
  return hash.value();
}

std::map<std::string, std::string> shown(const ModelConfig& c) {
  std::map<std::string, std::string> out;
  for (const ConfigField& f : config_fields(c)) {
    EXPECT_FALSE(out.contains(f.name)) << f.name;
    if (f.shown) out[f.name] = f.shown->dump();
  }
  return out;
}

TEST(ConfigFields, WhatIsHashedIsShown) {
  for (const std::string& variant : random_model_variants()) {
    const ModelConfig c = fields_config(variant);
    for (const ConfigField& f : config_fields(c)) {
      // (Models without rotary positions are hashed with the dims that they do not rotate.)
      if (!f.hashed.empty() && !f.name.starts_with("rope.")) {
        EXPECT_TRUE(f.shown) << variant << " " << f.name;
      }
    }
    const auto fields = shown(c);
    EXPECT_EQ(fields.contains("rope.inv_freq"), !c.ropes.empty()) << variant;
    EXPECT_EQ(fields.contains("alibi_slopes"), c.position == PositionType::kAlibi) << variant;
  }
}

// State files name models by this hash: these are the values that files of version 0.1.0 have.
TEST(ConfigFields, TheHashesOfOldFilesHold) {
  const std::map<std::string, uint64_t> hashes = {
      {"llama", 0xbe9bcf2aca4371ccU},      {"llama-tied", 0xe40d9c900ea074a3U},
      {"gpt_neox", 0xb8acc37998e39824U},   {"gpt_neox-sequential", 0xe4df26ec2323e157U},
      {"gpt2", 0x1cb1c8bb36070ea7U},       {"falcon-7b", 0xd2f4f3b3f5c46f5bU},
      {"falcon-40b", 0x8166242612d54a15U}, {"falcon-11b", 0x27dcf9d9effb202eU},
      {"falcon-rw", 0x69794dc973b66acfU},
  };
  for (const auto& [variant, hash] : hashes) EXPECT_EQ(hash_of(fields_config(variant)), hash) << variant;
}

// Whatever is computed differently has another hash and is shown otherwise, in the field of this name only.
TEST(ConfigFields, EveryChangeIsHashedAndShown) {
  const std::pair<const char*, std::function<void(ModelConfig&)>> changes[] = {
      {"vocab_size", [](ModelConfig& c) { ++c.vocab_size; }},
      {"max_positions", [](ModelConfig& c) { ++c.max_positions; }},
      {"norm_eps", [](ModelConfig& c) { c.norm_eps *= 2; }},
      {"norm_offset", [](ModelConfig& c) { c.norm_offset = 1; }},
      {"embed_scale", [](ModelConfig& c) { c.embed_scale = 8; }},
      {"activation", [](ModelConfig& c) { c.activation = Activation::kRelu; }},
      {"attention_scale", [](ModelConfig& c) { c.layers[1].attention_scale = 1; }},
      {"own_window", [](ModelConfig& c) { c.layers[1].window = 16; }},
      {"layer_rope", [](ModelConfig& c) { c.layers[1].rope = LayerSpec::kNoRope; }},
      {"norm_before", [](ModelConfig& c) { c.layers[1].norm_before = false; }},
      {"norm_after", [](ModelConfig& c) { c.layers[1].norm_after = true; }},
      {"qk_norm", [](ModelConfig& c) { c.layers[1].qk_norm = QkNorm::kHead; }},
      {"rope.inv_freq", [](ModelConfig& c) { c.ropes[0].inv_freq[2] *= 2; }},
      {"rope.attention_factor", [](ModelConfig& c) { c.ropes[0].attention_factor = 2; }},
      {"rope.dynamic",
       [](ModelConfig& c) {
         c.ropes[0].dynamic = {2, 512, 14};
       }},
      {"rope.longrope",
       [](ModelConfig& c) {
         c.ropes[0].longrope = {512, c.ropes[0].inv_freq};
       }},
  };
  const ModelConfig plain = fields_config("llama");
  std::set<uint64_t> hashes = {hash_of(plain)};
  for (const auto& [name, change] : changes) {
    ModelConfig c = plain;
    change(c);
    hashes.insert(hash_of(c));
    auto before = shown(plain), after = shown(c);
    EXPECT_NE(before[name], after[name]) << name;
    before.erase(name);
    after.erase(name);
    EXPECT_EQ(before, after) << name;
  }
  EXPECT_EQ(hashes.size(), std::size(changes) + 1);
}

// Which of two layers has the window, and with which of two ropes a layer rotates, are different models.
TEST(ConfigFields, LayersAreToldApart) {
  ModelConfig first = fields_config("llama"), second = first;
  first.layers[0].window = second.layers[1].window = 16;
  EXPECT_NE(hash_of(first), hash_of(second));
  EXPECT_EQ(shown(first)["own_window"], "[16,0,0]");

  ModelConfig two = fields_config("llama");
  two.ropes.push_back(two.ropes[0]);
  two.ropes[1].inv_freq[0] = 0.5;
  two.layers[2].rope = 1;
  ModelConfig other = two;
  other.ropes[1].inv_freq[0] = 0.25;
  EXPECT_NE(hash_of(two), hash_of(other));
  EXPECT_EQ(shown(two)["layer_rope"], "[0,0,1]");
  EXPECT_TRUE(shown(two).contains("rope_1.inv_freq"));
}

}  // namespace
}  // namespace sepllm
