// sepllm inspect: describes a model, which of its tokens are separators, and the memory that it will need.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/layer_lines.h"
#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/memory_plan.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "engine/sampling_defaults.h"
#include "model/config_fields.h"
#include "text/chat_template.h"

namespace sepllm {
namespace {

Json config_json(const ModelConfig& c) {
  Json out = Json::object();
  for (const ConfigField& field : config_fields(c)) {
    if (!field.shown) continue;
    const size_t dot = field.name.find('.');
    Json& group = dot == std::string::npos ? out : out[field.name.substr(0, dot)];
    group[dot == std::string::npos ? field.name : field.name.substr(dot + 1)] = *field.shown;
  }
  return out;
}

Json weights_json(const ModelWeights& weights) {
  Json types = Json::object();
  for (const auto& [name, count] : weights.store.dtype_counts()) types[name] = count;
  return {{"parameters", parameter_count(weights)},
          {"bytes", weights.store.total_bytes()},
          {"tensors", weights.store.names().size()},
          {"dtypes", types}};
}

Json tokenizer_json(const Model& model) {
  if (model.tokenizer == nullptr) return {};
  const Tokenizer& t = *model.tokenizer;
  return {{"format", t.format()},
          {"vocab_size", t.vocab_size()},
          {"bos_id", t.bos_id() ? Json(*t.bos_id()) : Json()},
          {"eos_id", t.eos_id() ? Json(*t.eos_id()) : Json()},
          {"adds_bos", t.adds_bos()}};
}

// The separators of these settings, whatever the policy is: the user wants to see the list.
Json separators_json(const Model& model, PolicySettings settings) {
  if (!settings.policy.uses_separators()) settings.policy.kind = PolicyKind::kSep;
  if (model.tokenizer == nullptr && settings.separators.rfind("ids:", 0) != 0) return {};
  const std::vector<int32_t> ids = model.separators(settings).ids();
  std::vector<std::string> pieces;
  pieces.reserve(ids.size());
  for (const int32_t id : ids) {
    pieces.push_back(model.tokenizer != nullptr ? model.tokenizer->token_bytes(id) : std::to_string(id));
  }
  return {{"rule", settings.separators}, {"count", ids.size()}, {"ids", ids}, {"pieces", pieces}};
}

Json chat_json(const Model& model) {
  if (model.tokenizer == nullptr) return {};
  try {
    return ChatTemplate::of_model(*model.tokenizer).name();
  } catch (const Error& error) {
    return "cannot be run: " + with_dashes(error.marked_text());
  }
}

// How `chat` samples without options.
Json sampling_json(const std::string& folder) {
  const SamplingDefaults own = sampling_defaults(folder);
  const SamplingSettings& s = own.settings;
  return {{"from", own.file.empty() ? Json() : Json(own.file)},
          {"text", sampling_text(s)},
          {"temp", s.temperature},
          {"top-k", s.top_k},
          {"top-p", s.top_p},
          {"min-p", s.min_p},
          {"repeat-penalty", s.repeat_penalty},
          {"repeat-last-n", s.repeat_last_n}};
}

Json memory_json(const MemoryPlan& plan, const MemoryAtHand& at_hand) {
  const auto known = [](int64_t bytes) { return bytes == MemoryAtHand{}.bytes ? Json() : Json(bytes); };
  return {{"tokens", plan.tokens},
          {"separator_share_assumed", plan.separator_share},
          {"weights_bytes", plan.weights_bytes},
          {"weights_mapped", plan.weights_mapped},
          {"kv_bytes_per_token", plan.kv_bytes_per_token},
          {"kv_bytes", plan.kv_bytes},
          {"full_kv_bytes", plan.full_kv_bytes},
          {"activation_bytes", plan.activation_bytes},
          {"at_hand_bytes", known(at_hand.bytes)},
          {"at_hand_with_swap_bytes", known(at_hand.most)}};
}

std::string dtype_counts(const Json& dtypes) {
  std::string out;
  for (const auto& [name, count] : dtypes.items()) {
    out += fmt::format("{}{} x {}", out.empty() ? "" : ", ", count.get<int64_t>(), name);
  }
  return out;
}

std::string line(const char* label, const std::string& text) {
  return fmt::format("  {:<16}{}\n", label, text);
}

class InspectCommand : public Command {
 public:
  InspectCommand() {
    own_.add_int("tokens", &tokens_, 1, int64_t{1} << 40, "plan the memory for a stream of this length")
        .default_note = "the model's position limit";
    own_.add_double("separator-share", &separator_share_, 0.0, 1.0,
                    "share of separators in the text that the plan assumes");
    own_.add_flag("check", &check_,
                  "read every weight; an error names the first one that is NaN or infinite");
    common_.declare(&common_options_, false);
  }
  std::string name() const override { return "inspect"; }
  std::string summary() const override {
    return "Show config, weights, tokenizer, separators and memory plan of a model";
  }
  std::string usage() const override { return "--model M [--tokens N] [--check] [policy] [--json]"; }
  std::string positional() const override { return "model"; }
  std::vector<OptionGroup> groups() override {
    return {{"Plan", &own_}, {"What the cache keeps", &policy_.options}, {"General", &common_options_}};
  }

  int run() override {
    const Model model = common_.load(&policy_);
    if (check_) check_finite(model.decoder.weights());
    const int64_t tokens = tokens_ > 0 ? tokens_ : model.config().max_positions;
    const MemoryPlan plan = plan_memory(model, policy_.settings, tokens, separator_share_);
    const MemoryAtHand at_hand = memory_at_hand();
    const Json all = {{"model", common_.model},
                      {"config", config_json(model.config())},
                      {"weights", weights_json(model.decoder.weights())},
                      {"tokenizer", tokenizer_json(model)},
                      {"chat_format", chat_json(model)},
                      {"chat_sampling", sampling_json(common_.model)},
                      {"end_tokens", model.end_tokens()},
                      {"separators", separators_json(model, policy_.settings)},
                      {"policy", policy_json(policy_.settings)},
                      {"memory", memory_json(plan, at_hand)}};
    if (common_.json) {
      print_json(all);
    } else {
      print(config_table(all, layer_lines(model.config())) + tokenizer_table(all) +
            separator_table(all["separators"]) + memory_table(all) + line("available", memory_text(at_hand)));
    }
    return 0;
  }

 private:
  static std::string config_table(const Json& all, const std::vector<std::string>& layers) {
    const Json& c = all["config"];
    const Json& w = all["weights"];
    const auto n = [&](const char* key) { return c[key].get<int64_t>(); };
    const auto s = [&](const char* key) { return c[key].get<std::string>(); };
    std::string out = fmt::format("Model {}\n", all["model"].get<std::string>());
    out += line("family", s("family"));
    out += line("layers",
                fmt::format("{}, {} blocks, hidden size {}", n("layers"), s("block"), n("hidden_size")));
    for (const std::string& layer : layers) out += line("", layer);
    out += line("heads",
                fmt::format("{}, {} for keys and values, {} wide", n("heads"), n("kv_heads"), n("head_dim")));
    out += line("MLP", fmt::format("{} wide, {}{}", n("intermediate_size"), s("activation"),
                                   c["gated_mlp"].get<bool>() ? ", gated" : ""));
    out += line("norm", s("norm"));
    std::string positions = fmt::format("{}, trained for {}", s("positions"), n("max_positions"));
    if (c.contains("rope")) {
      positions += fmt::format(" (theta {}, {} dims, {})", c["rope"]["theta"].get<double>(),
                               c["rope"]["dims"].get<int64_t>(), c["rope"]["type"].get<std::string>());
    }
    out += line("positions", positions);
    out += line("vocabulary", fmt::format("{} rows{}", n("vocab_size"),
                                          c["tied_embeddings"].get<bool>() ? ", tied to the head" : ""));
    out += line("weights", fmt::format("{} parameters, {} in {} tensors ({})", w["parameters"].get<int64_t>(),
                                       human_bytes(w["bytes"].get<int64_t>()), w["tensors"].get<int64_t>(),
                                       dtype_counts(w["dtypes"])));
    return out;
  }

  static std::string tokenizer_table(const Json& all) {
    const Json& t = all["tokenizer"];
    if (t.is_null()) return "\nTokenizer\n  none in the folder: give one with --tokenizer\n";
    const auto id = [](const Json& value) { return value.is_null() ? "none" : json_text(value); };
    std::string out = "\nTokenizer\n";
    out += line("format", t["format"].get<std::string>());
    out += line("tokens", json_text(t["vocab_size"]));
    out += line("BOS, EOS", fmt::format("{}, {}{}", id(t["bos_id"]), id(t["eos_id"]),
                                        t["adds_bos"].get<bool>() ? "; texts begin with BOS" : ""));
    out += line("chat format", all["chat_format"].get<std::string>());
    const Json& sampling = all["chat_sampling"];
    out += line("chat sampling",
                sampling["text"].get<std::string>() +
                    (sampling["from"].is_null() ? " (the model states none)" : " (the model's own)"));
    out += line("end tokens",
                all["end_tokens"].empty()
                    ? "none"
                    : fmt::format("{}", fmt::join(all["end_tokens"].get<std::vector<int32_t>>(), ", ")));
    return out;
  }

  static std::string separator_table(const Json& separators) {
    constexpr size_t kShown = 200;
    if (separators.is_null()) return "";
    const Json& pieces = separators["pieces"];
    std::string out = fmt::format("\nSeparators by the rule '{}': {}\n",
                                  separators["rule"].get<std::string>(), pieces.size());
    std::string row = " ";
    for (size_t i = 0; i < std::min(pieces.size(), kShown); ++i) {
      const std::string piece = json_text(pieces[i]);
      if (row.size() + piece.size() + 1 > 100) {
        out += row + "\n";
        row = " ";
      }
      row += " " + piece;
    }
    out += row + "\n";
    if (pieces.size() > kShown)
      out += fmt::format("  ... and {} more (--json lists all)\n", pieces.size() - kShown);
    return out;
  }

  static std::string memory_table(const Json& all) {
    const Json& m = all["memory"];
    const auto bytes = [&](const char* key) { return human_bytes(m[key].get<int64_t>()); };
    const double share = static_cast<double>(m["kv_bytes"].get<int64_t>()) /
                         static_cast<double>(m["full_kv_bytes"].get<int64_t>());
    std::string out = fmt::format("\nMemory plan for {} tokens under --policy {}\n",
                                  m["tokens"].get<int64_t>(), all["policy"]["policy"].get<std::string>());
    out += line("weights",
                bytes("weights_bytes") + (m["weights_mapped"].get<bool>() ? ", mapped from the files" : ""));
    out += line("KV per token", bytes("kv_bytes_per_token"));
    out += line("KV cache", fmt::format("{} at most, {:.1f} % of full attention's {}", bytes("kv_bytes"),
                                        100 * share, bytes("full_kv_bytes")));
    out += line("activations", bytes("activation_bytes") + " per chunk (estimate)");
    out += line("assumed", fmt::format("{:.1f} % of the tokens are separators",
                                       100 * m["separator_share_assumed"].get<double>()));
    return out;
  }

  OptionSet own_, common_options_;
  PolicyOptions policy_;
  CommonOptions common_;
  int64_t tokens_ = 0;
  double separator_share_ = kAssumedSeparatorShare;
  bool check_ = false;
};

}  // namespace

std::unique_ptr<Command> make_inspect_command() { return std::make_unique<InspectCommand>(); }

}  // namespace sepllm
