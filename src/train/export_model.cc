#include "train/export_model.h"

#include <fmt/format.h>

#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/file.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/weight_store.h"
#include "kernels/rows.h"
#include "text/tokenizer.h"

namespace sepllm {
namespace {

void write_weights(const std::string& path, Parameters& parameters, DType type) {
  std::vector<SafetensorsTensor> tensors;
  for (const ParameterInfo& p : parameters.list())
    tensors.push_back({p.name, stored_name(type), p.shape, nullptr});
  SafetensorsWriter writer(path, std::move(tensors), {{"format", "pt"}});
  std::vector<char> rows;
  for (const SafetensorsTensor& t : writer.order()) {
    for (const ParameterInfo& p : parameters.list()) {
      if (p.name != t.name) continue;
      if (type == DType::kF32) {  // as they are: no copy beside a training run's memory
        writer.write(parameters.values(p));
        continue;
      }
      rows.resize(static_cast<size_t>(p.size * dtype_size(type)));
      row_from_f32(type, parameters.values(p), p.size, rows.data());
      writer.write(rows.data());
    }
  }
  writer.commit();
}

void copy_tokenizer(const std::string& from, const std::string& folder) {
  for (const StoredTokenizerFile& file : tokenizer_files(from))
    write_file_atomically(folder + "/" + file.name, read_file(file.path));
}

constexpr const char* kSteps = "sepllm_steps";  // in config.json

const char* torch_name(DType type) {
  return type == DType::kF32 ? "float32" : type == DType::kF16 ? "float16" : "bfloat16";
}

std::string card(Trainer& trainer) {
  const TrainConfig& c = trainer.config();
  const Learner::Flops& flops = trainer.learner().flops();
  std::string text = fmt::format(
      "# A model trained with SepLLM\n\n"
      "{} parameters, {} steps of {} samples of {} tokens ({} tokens in all).\n\n"
      "| | |\n|---|---|\n"
      "| policy | `{}` |\n"
      "| begun from | {} |\n"
      "| FLOPs, products with weights | {:.3e} |\n"
      "| FLOPs, attention (visible pairs) | {:.3e} |\n",
      trainer.learner().parameters().count(), trainer.step(), c.global_batch_size, c.seq_length,
      trainer.step() * c.global_batch_size * c.seq_length,
      policy_json(c.later_policy_step > 0 ? c.later_policy : c.policy).dump(),
      c.init_from.empty() ? "random weights (" + c.init + ")" : "a checkpoint", flops.dense, flops.attention);
  if (const auto loss = trainer.last_valid_loss())
    text += fmt::format("| loss on the held-out part | {:.4f} |\n", *loss);
  text += "\nAll settings:\n\n```json\n" + train_config_json(c).dump(1) + "\n```\n";
  return text;
}

}  // namespace

std::optional<int64_t> exported_steps(const std::string& folder, DType type) {
  if (!file_exists(folder)) return std::nullopt;
  const std::string path = folder + "/config.json";
  const Json config =
      is_regular_file(path) ? Json::parse(read_file(path, uint64_t{1} << 24), nullptr, false) : Json();
  if (!config.is_object() || !config.contains(kSteps) || !config[kSteps].is_number_integer()) {
    throw Error(ErrorCode::kInvalidArgument, "is in the way of the finished model",
                {.file = folder, .expected = "nothing, or an earlier model of the run"});
  }
  if (config.value("torch_dtype", Json()) != torch_name(type)) return std::nullopt;
  return config[kSteps].get<int64_t>();
}

void export_model(Trainer& trainer, const std::string& folder, DType type) {
  SEPLLM_CHECK(type == DType::kF32 || type == DType::kF16 || type == DType::kBF16);
  const TrainConfig& c = trainer.config();
  exported_steps(folder, type);  // nobody else's
  AtomicFolder target(folder, /*replace=*/true);
  Json config = trainer.model_config();
  config["torch_dtype"] = torch_name(type);
  config[kSteps] = trainer.step();
  config.erase("dtype");
  config.erase("quantization_config");
  config["sepllm"] = policy_json(
      c.later_policy_step > 0 && trainer.step() >= c.later_policy_step ? c.later_policy : c.policy);
  write_weights(target.path() + "/model.safetensors", trainer.learner().parameters(), type);
  copy_tokenizer(c.tokenizer.empty() ? c.init_from : c.tokenizer, target.path());
  write_file_atomically(target.path() + "/config.json", config.dump(1) + "\n");
  write_file_atomically(target.path() + "/README.md", card(trainer));
  target.commit();
}

}  // namespace sepllm
