#include "train/train_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/options.h"
#include "checkpoint/state_file.h"

namespace sepllm {
namespace {

constexpr const char* kKind = "training checkpoint";
constexpr std::string_view kBefore = "step-", kAfter = ".ckpt";

Json tensor_list(const std::vector<ParameterInfo>& list) {
  Json out = Json::array();
  for (const ParameterInfo& p : list) out.push_back({p.name, p.shape});
  return out;
}

TrainState parse_state_header(const Json& header, const std::string& file) {
  const JsonObject object(header, file);
  if (object.string_or("kind", "") != kKind) {
    throw Error(ErrorCode::kBadFile, "not a training checkpoint",
                {.file = file, .expected = kKind, .got = object.string_or("kind", "another state")});
  }
  TrainState state;
  state.step = object.integer("step", 0, INT64_MAX);
  for (const Json& n : object.at("position")) state.position.push_back(n.get<int64_t>());
  state.data_fingerprint = object.at("data").get<uint64_t>();
  state.model_config = object.at("model_config");
  state.settings = object.at("settings");
  state.progress = object.at("progress");
  return state;
}

}  // namespace

std::string checkpoint_path(const std::string& folder, int64_t step) {
  return fmt::format("{}/{}{:09}{}", folder, kBefore, step, kAfter);
}

std::vector<int64_t> checkpoint_steps(const std::string& folder) {
  std::vector<int64_t> steps;
  std::error_code code;
  for (const auto& entry : std::filesystem::directory_iterator(folder, code)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(kBefore) || !name.ends_with(kAfter)) continue;
    const auto step = parse_integer(
        std::string_view(name).substr(kBefore.size(), name.size() - kBefore.size() - kAfter.size()));
    if (step && *step >= 0) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void save_checkpoint(const std::string& path, const TrainState& state, Learner& learner) {
  const Json header = {{"kind", kKind},
                       {"step", state.step},
                       {"position", state.position},
                       {"data", state.data_fingerprint},
                       {"model_config", state.model_config},
                       {"settings", state.settings},
                       {"progress", state.progress},
                       {"tensors", tensor_list(learner.parameters().list())}};
  const auto array = [](std::span<const float> values) {
    return [values](ByteWriter& to) { to.list(values); };
  };
  const std::span<const float> parameters(learner.parameters().data(),
                                          static_cast<size_t>(learner.parameters().size()));
  write_state_file(path, header,
                   {{"parameters", array(parameters)},
                    {"first_moments", array(learner.first_moments())},
                    {"second_moments", array(learner.second_moments())}});
}

TrainState load_checkpoint(const std::string& path, Learner* learner) {
  const StateFile file(path);
  TrainState state = parse_state_header(file.header(), path);
  if (file.header().value("tensors", Json()) != tensor_list(learner->parameters().list())) {
    throw Error(ErrorCode::kInvalidArgument, "a checkpoint of another model",
                {.file = path, .hint = "give the run another folder, or the settings that it began with"});
  }
  const std::span<float> parameters(learner->parameters().data(),
                                    static_cast<size_t>(learner->parameters().size()));
  const std::pair<const char*, std::span<float>> arrays[] = {{"parameters", parameters},
                                                             {"first_moments", learner->first_moments()},
                                                             {"second_moments", learner->second_moments()}};
  for (const auto& [name, values] : arrays) {
    ByteReader reader = file.section(name);
    if (reader.left() != values.size_bytes()) reader.refuse("not as many numbers as the model has");
  }
  for (const auto& [name, values] : arrays) {
    ByteReader reader = file.section(name);
    reader.list(values);
  }
  return state;
}

TrainState read_checkpoint_state(const std::string& path) {
  const StateFile file(path);
  return parse_state_header(file.header(), path);
}

}  // namespace sepllm
