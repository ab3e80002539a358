// The settings of a training run, as its YAML file gives them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attention/policy.h"
#include "base/dtype.h"
#include "base/json.h"
#include "base/options.h"
#include "train/schedule.h"
#include "train/token_data.h"

namespace sepllm {

struct TrainConfig {
  // The model: a checkpoint to continue from, or a new one of these sizes.
  std::string init_from;            // HF folder
  std::string family = "gpt_neox";  // one of model/families/
  std::string init = "pythia";      // weights of a new model: pythia or gpt2
  int64_t n_layers = 0, hidden_size = 0, n_heads = 0;
  int64_t n_kv_heads = 0;         // 0: n_heads
  int64_t intermediate_size = 0;  // 0: 4 hidden_size, llama: 8/3 of it in whole 64s
  int64_t vocab_size = 0;         // 0: the tokenizer's, in whole 64s
  double rotary_pct = 0.25;       // gpt_neox
  double rope_theta = 10000;
  bool tie_embeddings = false;
  std::string tokenizer;  // folder or file; none: init_from's

  // The text.
  std::vector<TokenSource> data, valid_data;
  double valid_share = 0;  // without valid_data: this share at the end of each file of data
  int64_t seq_length = 0;
  bool document_mask = false;

  // The steps.
  int64_t train_steps = 0, global_batch_size = 0, micro_batch_size = 1;
  // warmup: if below 1 a share of the steps, else a number of steps
  double lr = 0, min_lr = 0, warmup = 0.01;
  std::string lr_decay_style = "cosine";
  int64_t lr_decay_steps = 0;  // 0: train_steps
  double wsd_decay = 0.1;      // wsd: the share of the steps at the end in which the rate decays
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1, clip_grad = 1.0;
  double spike_z =
      6;  // a step is skipped whose gradient norm lies that many deviations above its mean; 0: none
  int64_t seed = 1;
  bool activation_checkpointing = false;
  // auto, f32 or bf16; train/compute.h replaces auto by the value in force.
  std::string compute = "auto", activation_storage = "auto", weight_storage = "auto";
  int64_t threads = 0;        // per rank
  int64_t rank_timeout = 30;  // seconds

  // The policy of attention; from later_policy_step on, later_policy.
  PolicySettings policy, later_policy;
  int64_t later_policy_step = 0;  // 0: never

  // Output.
  std::string save;  // the folder of the run
  int64_t save_interval = 500, keep_last = 2, keep_every = 0;
  int64_t eval_interval = 100, eval_samples = 64, log_interval = 1;
  int64_t sample_interval = 0, sample_tokens = 64;
  double sample_temp = 0.8;  // 0: greedy
  std::string sample_prompt;

  LrSchedule schedule() const;
  DType activation_type() const { return activation_storage == "bf16" ? DType::kBF16 : DType::kF32; }
  DType weight_type() const { return weight_storage == "bf16" ? DType::kBF16 : DType::kF32; }
};

// Reads a YAML file and then `changes` ("key=value", the value as YAML; "policy.window=64"). Error for
// unknown keys (with the nearest name), wrong types and ranges, missing ones, and settings that contradict
// each other.
TrainConfig read_train_config(const std::string& path, const std::vector<std::string>& changes);
// The two halves of read_train_config.
Json read_train_settings(const std::string& path, const std::vector<std::string>& changes);
TrainConfig parse_train_config(const Json& json, const std::string& file);

// Every key with its default and its help text, as a table in Markdown (docs/TRAINING.md).
std::string train_keys_markdown();

// All settings in force, in the order of the documentation, without the keys that have no effect;
// parse_train_config reads it back.
Json train_config_json(const TrainConfig& config);

}  // namespace sepllm
