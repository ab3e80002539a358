#include "train/export_model.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/file.h"
#include "base/sign_of_life.h"
#include "checkpoint/weight_writer.h"
#include "kernels/formats/rows.h"
#include "text/tokenizer.h"
#include "train/train_config.h"

namespace sepllm {
namespace {

void write_weights(const std::string& path, Parameters& parameters, DType type) {
  std::vector<StoredTensor> tensors;
  for (const ParameterInfo& p : parameters.list())
    tensors.push_back({.name = p.name, .type = type, .shape = p.shape});
  WeightWriter writer(path, tensors);
  std::vector<char> rows;
  for (const std::string& name : writer.order()) {
    for (const ParameterInfo& p : parameters.list()) {
      if (p.name != name) continue;
      if (type == DType::kF32) {  // written directly: no copy in addition to a training run's memory
        writer.write(parameters.values(p));
        continue;
      }
      sign_of_life();
      rows.resize(static_cast<size_t>(p.size * dtype_size(type)));
      row_from_f32(type, parameters.values(p), p.size, rows.data());
      writer.write(rows.data());
    }
  }
  writer.commit();
}

void copy_tokenizer(const std::string& from, const std::string& folder) {
  for (const StoredTokenizerFile& file : tokenizer_files(from)) {
    const std::string path = folder + "/" + file.name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    write_file_atomically(path, file.read());
  }
}

constexpr uint64_t kMaxFacts = uint64_t{1} << 24;

std::string facts_file(const std::string& folder) { return folder + "/training.json"; }

// The policy of the model: that of its last step.
const PolicySettings& last_policy(const TrainConfig& c, int64_t step) {
  return c.later_policy_step > 0 && step >= c.later_policy_step ? c.later_policy : c.policy;
}

Json facts(const TrainState& state, DType type) {
  Json out = {{"step", state.step}, {"type", stored_name(type)}};
  for (const char* key : {"tokens", "loss", "valid_loss", "dense_flops", "attention_flops"}) {
    if (state.progress.contains(key)) out[key] = state.progress[key];
  }
  out["settings"] = state.settings;
  return out;
}

std::string data_text(const std::vector<TokenSource>& sources) {
  std::string out;
  for (const TokenSource& s : sources)
    out += fmt::format("{}`{}`{}", out.empty() ? "" : ", ", s.prefix,
                       sources.size() > 1 ? fmt::format(" ({:g})", s.weight) : "");
  return out;
}

std::string policy_text(const TrainConfig& c, int64_t step) {
  std::string out = "`" + json_text(policy_json(c.policy)) + "`";
  if (&last_policy(c, step) == &c.later_policy)
    out += fmt::format(", from step {} on `{}`", c.later_policy_step, json_text(policy_json(c.later_policy)));
  return out;
}

std::string card(const TrainState& state, const TrainConfig& c, const Parameters& parameters) {
  const JsonObject progress(state.progress, "the checkpoint", "progress");
  const auto number = [&progress](const char* key) { return progress.number_or(key, NAN); };
  std::string text = fmt::format(
      "# A model trained with SepLLM\n\n"
      "| | |\n|---|---|\n"
      "| parameters | {} |\n| started from | {} |\n| policy | {} |\n| data | {} |\n"
      "| steps | {}, each with {} samples of {} tokens |\n| tokens | {} |\n",
      parameters.count(),
      c.init_from.empty() ? "random weights (" + c.init + ")" : "the checkpoint `" + c.init_from + "`",
      policy_text(c, state.step), data_text(c.data), state.step, c.global_batch_size, c.seq_length,
      progress.integer_or("tokens", 0, 0, INT64_MAX));
  text += fmt::format(
      "| AdamW | lr {:g} to {:g} ({}), betas {:g} and {:g}, weight decay {:g}, gradients clipped at {:g} |\n",
      c.lr, c.min_lr, c.lr_decay_style, c.beta1, c.beta2, c.weight_decay, c.clip_grad);
  text += fmt::format("| FLOPs | {:.3e} of products with weights, {:.3e} of attention (visible pairs) |\n",
                      number("dense_flops"), number("attention_flops"));
  if (state.progress.contains("loss"))
    text += fmt::format("| loss of the last step | {:.4f} |\n", number("loss"));
  if (state.progress.contains("valid_loss"))
    text += fmt::format("| loss on the held-out part | {:.4f} |\n", number("valid_loss"));
  return text + "\nAll settings:\n\n```json\n" + json_text(state.settings, 1) + "\n```\n";
}

}  // namespace

void export_model(const TrainState& state, Parameters& parameters, const std::string& folder,
                  const ExportOptions& options) {
  const DType type = options.type;
  SEPLLM_CHECK(type == DType::kF32 || type == DType::kF16 || type == DType::kBF16);
  const TrainConfig c = parse_train_config(state.settings, "the checkpoint's settings");
  AtomicFolder target(folder, options.replace);
  Json config = state.model_config;
  config["torch_dtype"] = type == DType::kF32 ? "float32" : type == DType::kF16 ? "float16" : "bfloat16";
  config.erase("dtype");
  config.erase("quantization_config");
  config["sepllm"] = policy_json(last_policy(c, state.step));
  write_weights(target.path() + "/model.safetensors", parameters, type);
  copy_tokenizer(!options.tokenizer.empty() ? options.tokenizer
                 : c.tokenizer.empty()      ? c.init_from
                                            : c.tokenizer,
                 target.path());
  write_file_atomically(target.path() + "/config.json", python_json_text(config, 1) + "\n");
  write_file_atomically(facts_file(target.path()), json_text(facts(state, type), 1) + "\n");
  write_file_atomically(target.path() + "/README.md", card(state, c, parameters));
  target.commit();
}

bool is_exported(const TrainState& state, const std::string& folder, DType type) {
  const std::string file = facts_file(folder);
  return is_regular_file(file) && read_file(file, kMaxFacts) == json_text(facts(state, type), 1) + "\n";
}

void check_room_for_export(const std::string& folder) {
  if (!file_exists(folder) || is_regular_file(facts_file(folder))) return;
  std::error_code code;
  if (is_folder(folder) && std::filesystem::is_empty(folder, code)) return;
  throw Error(ErrorCode::kInvalidArgument, "is in the way of the finished model",
              {.file = folder, .expected = "nothing, or an earlier model of the run"});
}

}  // namespace sepllm
