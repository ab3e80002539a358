#include "train/train_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/options.h"
#include "model/config_fields.h"

namespace sepllm {
namespace {

constexpr const char* kKind = "training checkpoint";
constexpr int64_t kCheckpointVersion = 1;
constexpr std::string_view kBefore = "step-", kAfter = ".ckpt";

Json tensor_list(const std::vector<ParameterInfo>& list) {
  Json out = Json::array();
  for (const ParameterInfo& p : list) out.push_back({p.name, p.shape});
  return out;
}

[[noreturn]] void another_model(const std::string& file) {
  throw Error(ErrorCode::kInvalidArgument, "the checkpoint belongs to another model",
              {.file = file, .hint = "use another folder for the run, or the settings that it started with"});
}

bool has_tensors_of(const StateFile& file, const Parameters& parameters) {
  return file.header().value("tensors", Json()) == tensor_list(parameters.list());
}

// For equal shapes of tensors: would the two models compute the same?
bool is_same_model(const ModelConfig& mine, const Json& theirs, const std::string& file) {
  const HeldWarnings said;  // the warnings of this config were logged when the run began
  ModelConfig other = parse_model_spec(theirs, file).config;
  // only a statement in the config; learned positions have a tensor
  other.max_positions = mine.max_positions;
  Hash64 a, b;
  add_hash(&a, mine);
  add_hash(&b, other);
  return a.value() == b.value();
}

}  // namespace

TrainState parse_checkpoint_header(const Json& header, const std::string& file) {
  const JsonObject object(header, file);
  if (object.string_or("kind", "") != kKind) {
    throw Error(ErrorCode::kBadFile, "not a training checkpoint",
                {.file = file, .expected = kKind, .got = object.string_or("kind", "another state")});
  }
  require_version(object, object, "a training checkpoint", {1, kCheckpointVersion});
  TrainState state;
  state.step = object.integer("step", 0, INT64_MAX);
  const auto refuse = [&file](const char* key, const char* expected) {
    throw Error(ErrorCode::kBadFile, "wrong type in a training checkpoint",
                {.file = file, .place = key, .expected = expected});
  };
  const Json& position = object.at("position");
  if (!position.is_array()) refuse("position", "a list of integers");
  for (const Json& used : position) {
    if (!used.is_number_integer()) refuse("position", "a list of integers");
    state.position.push_back(used.get<int64_t>());
  }
  if (!object.at("data").is_number_unsigned()) refuse("data", "an integer of at least 0");
  state.data_fingerprint = object.at("data").get<uint64_t>();
  state.model_config = object.at("model_config");
  state.settings = object.at("settings");
  state.progress = object.at("progress");
  return state;
}

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

void remove_leftovers(const std::string& folder) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename();
    if (is_temporary_of(name, name.substr(0, name.find(".tmp."))))
      std::filesystem::remove_all(entry.path(), ignored);
  }
}

void save_checkpoint(const std::string& path, const TrainState& state, Learner& learner) {
  using Moment = Learner::Moment;
  if (!learner.comm().is_root()) {
    for (const Moment m : {Moment::kFirst, Moment::kSecond}) learner.gather_moments(m, nullptr);
    return;
  }
  const Json header = {{"kind", kKind},
                       {"version", kCheckpointVersion},
                       {"step", state.step},
                       {"position", state.position},
                       {"data", state.data_fingerprint},
                       {"model_config", state.model_config},
                       {"settings", state.settings},
                       {"progress", state.progress},
                       {"tensors", tensor_list(learner.parameters().list())}};
  const auto size = static_cast<size_t>(learner.parameters().size());
  const std::span<const float> parameters(learner.parameters().data(), size);
  // The first time it only counts: the other ranks send theirs once.
  const auto moments = [&](Moment which) {
    return [&learner, which, size](ByteWriter& to) {
      if (dynamic_cast<ByteCounter*>(&to) != nullptr) return to.bytes(nullptr, size * sizeof(float));
      learner.gather_moments(which, [&to](std::span<const float> piece) { to.list(piece); });
    };
  };
  write_state_file(path, header,
                   {{"parameters", [parameters](ByteWriter& to) { to.list(parameters); }},
                    {"first_moments", moments(Moment::kFirst)},
                    {"second_moments", moments(Moment::kSecond)}});
}

OpenCheckpoint::OpenCheckpoint(const std::string& path, Learner& learner,
                               const std::function<void(const TrainState&)>& check)
    : file_(path), state_(parse_checkpoint_header(file_.header(), path)) {
  if (check) check(state_);
  if (!has_tensors_of(file_, learner.parameters()) ||
      !is_same_model(learner.spec().config, state_.model_config, path))
    another_model(path);
  for (const char* name : {"parameters", "first_moments", "second_moments"}) {
    const ByteReader reader = file_.section(name);
    if (reader.left() != static_cast<uint64_t>(learner.parameters().size()) * sizeof(float))
      reader.refuse("the number of values differs from the model's");
  }
}

void load_checkpoint(const OpenCheckpoint* checkpoint, Learner* learner) {
  using Moment = Learner::Moment;
  if (checkpoint == nullptr) {
    for (const Moment m : {Moment::kFirst, Moment::kSecond}) learner->scatter_moments(m, nullptr);
    return;
  }
  Parameters& parameters = learner->parameters();
  const StateFile& file = checkpoint->file_;
  file.read_floats("parameters", 0, {parameters.data(), static_cast<size_t>(parameters.size())});
  const std::pair<const char*, Moment> arrays[] = {{"first_moments", Moment::kFirst},
                                                   {"second_moments", Moment::kSecond}};
  for (const auto& [name, which] : arrays) {
    uint64_t at = 0;
    learner->scatter_moments(which, [&, name = name](std::span<float> piece) {
      file.read_floats(name, at, piece);
      at += piece.size();
    });
  }
}

TrainState load_checkpoint_parameters(const std::string& path, Parameters* parameters) {
  const StateFile file(path);
  if (!has_tensors_of(file, *parameters)) another_model(path);
  const std::span<float> values(parameters->data(), static_cast<size_t>(parameters->size()));
  ByteReader reader = file.section("parameters");
  if (reader.left() != values.size_bytes()) reader.refuse("the number of values differs from the model's");
  reader.list(values);
  return parse_checkpoint_header(file.header(), path);
}

TrainState read_checkpoint_state(const std::string& path) {
  const StateFile file(path);
  return parse_checkpoint_header(file.header(), path);
}

}  // namespace sepllm
