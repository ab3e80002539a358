#include "apps/shell/common.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"
#include "base/utf8.h"
#include "engine/walk_choice.h"
#include "model/shapes.h"

namespace sepllm {

std::optional<DType> weight_type(const std::string& name) {
  for (const DTypeInfo& info : kDTypeInfos) {
    if (is_weight_type(info.type) && name == info.name) return info.type;
  }
  return std::nullopt;
}

void declare_threads_option(OptionSet* options, int64_t* threads, const std::string& help) {
  options->add_int("threads", threads, 1, 1024, help).default_note =
      "all cores, within the CPU quota of a container";
}

int threads_or_default(int64_t threads) {
  return threads > 0 ? static_cast<int>(threads) : ThreadPool::default_size();
}

std::vector<std::string> weight_type_names() {
  std::vector<std::string> names;
  for (const DTypeInfo& info : kDTypeInfos) {
    if (is_weight_type(info.type)) names.emplace_back(info.name);
  }
  return names;
}

namespace {

// Types to which nothing is converted.
std::optional<DType> kept_type(const std::string& name) {
  for (const DType type : kPanelTypes) {
    if (!is_weight_type(type) && name == dtype_name(type)) return type;
  }
  return std::nullopt;
}

// What the option for weights says of a model (not of a shape).
std::optional<DType> type_for_model(const std::string& weights) {
  if (!kept_type(weights)) return weight_type(weights);
  throw Error(ErrorCode::kInvalidArgument, "weights of a model are not converted to this type",
              {.place = option_name("weights"),
               .expected = fmt::format("one of {}", fmt::join(weight_type_names(), ", ")),
               .got = weights,
               .hint = "files that store it are read as they are; random weights can have it, too"});
}

}  // namespace

void CommonOptions::declare(OptionSet* options, bool runs) {
  runs_model = runs;
  options->add_string("model", &model,
                      "the model: a folder (config.json, safetensors, tokenizer) or a GGUF file", "PATH");
  options->add_string("tokenizer", &tokenizer, "tokenizer file or folder, if it is not in the model's folder",
                      "FILE");
  options->add_flag("json", &json, "print exactly one JSON value on standard output");
  if (!runs_model) return;
  options->add_choice("shape", &shape, shape_names(),
                      "a model of this shape with random weights instead of --model, to measure speed");
  declare_threads_option(options, &threads);
  options->add_choice("attention-impl", &attention, {"simd", "reference"},
                      "attention kernel: the fast one, or the plain one for comparison");
  options->add_flag(
      "exact", &exact,
      "multiply 8- and 4-bit weights as f32, without rounding activations to 8 bits, and int8 keys "
      "and values without rounding queries and weights to 16 bits");
  std::vector<std::string> types = weight_type_names();
  types.insert(types.begin(), "native");
  for (const DType type : kPanelTypes) {
    if (!is_weight_type(type)) types.emplace_back(dtype_name(type));
  }
  options->add_choice(
      "weights", &weights, types,
      "type in which weights are multiplied; native: as stored (bf16 with --shape); with a "
      "type of 4 bits the token embedding and the head get q8_0; q4_1 to q6_k: only with --shape");
}

int CommonOptions::n_threads() const { return threads_or_default(threads); }

Model CommonOptions::load(PolicyOptions* policy, const RunLength& length) const {
  if (model.empty() == shape.empty()) {
    throw Error(ErrorCode::kInvalidArgument, model.empty() ? "no model given" : "--model and --shape given",
                {.expected = "--model PATH"});
  }
  const std::string& name = model.empty() ? shape : model;
  const auto before_memory = [&](const ModelConfig& config, const WeightMemory& memory) {
    if (policy != nullptr) policy->finish(config, name);
    if (!runs_model) return;
    const PolicySettings settings = policy != nullptr ? policy->settings : PolicySettings{};
    check_weights_fit(name, config, memory, settings, length, memory_at_hand());
  };
  const std::optional<DType> kept = kept_type(weights);
  const WeightOptions options{.type = model.empty() && kept ? kept : type_for_model(weights),
                              .n_threads = n_threads(),
                              .before_memory = before_memory};
  return model.empty() ? make_shape_model(shape, tokenizer, options) : load_model(model, tokenizer, options);
}

Runtime::Runtime(const CommonOptions& options)
    : pool_(options.n_threads()),
      attention_(options.attention == "reference" ? AttentionImpl::kReference : AttentionImpl::kSimd),
      block_products_(options.exact ? BlockProducts::kExact : BlockProducts::kInteger) {}

Runtime::Runtime(const CommonOptions& options, Decoder* decoder) : Runtime(options) {
  if (decoder != nullptr) choose_walks(context(), decoder, walk_rules());
}

Context Runtime::context() {
  return {.pool = pool_, .arena = arena_, .attention = attention_, .block_products = block_products_};
}

PolicyOptions::PolicyOptions(const PolicySettings& defaults) : settings(defaults) {
  declare_policy_options(&options, &settings);
  options.add_string("policy-file", &file_,
                     "read the policy from this JSON file, as `sepllm tune` writes it, instead of from the "
                     "model's config.json",
                     "FILE");
}

void PolicyOptions::finish(const ModelConfig& config, const std::string& model) {
  if (options.was_set("policy-file") && file_.empty())  // such as a shell variable that is not set
    refuse_value("policy-file", "the name of a JSON file", file_);
  finish_model_policy(&options, &settings, config, model, file_);
}

void declare_bos_option(OptionSet* options, std::string* bos) {
  options->add_choice("bos", bos, {"auto", "on", "off"},
                      "begin with the BOS token; auto: if the tokenizer's files say so");
}

std::string read_text(const std::string& path) {
  std::string text = read_file(path);
  if (const auto bad = utf8_find_invalid(text)) {
    throw Error(ErrorCode::kInvalidArgument, "invalid UTF-8",
                {.file = path, .place = fmt::format("byte {}", *bad), .got = known_kind_name(text)});
  }
  return text;
}

std::optional<std::string> repository_file(const std::string& name) {
  for (std::filesystem::path at = program_folder(); at.has_relative_path(); at = at.parent_path()) {
    if (file_exists(at / name)) return at / name;
  }
  return std::nullopt;
}

}  // namespace sepllm
