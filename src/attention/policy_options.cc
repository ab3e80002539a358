// Reads and prints a policy: the one place for flags, config.json, state files and requests.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attention/policy.h"
#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

// Far above any memory, far below overflow in sums.
constexpr int64_t kMaxSize = int64_t{1} << 40;

constexpr PolicyKind kKinds[] = {PolicyKind::kFull, PolicyKind::kSep,        PolicyKind::kSepStream,
                                 PolicyKind::kSink, PolicyKind::kSinkStream, PolicyKind::kFixed};

std::map<int64_t, int64_t> parse_layer_window(const std::string& text) {
  const char* syntax = "LAYER=WINDOW|full,... as in 0=full,-1=full";
  std::map<int64_t, int64_t> out;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos) refuse_value("layer-window", syntax, text);
    const std::string_view value = item.substr(equals + 1);
    const auto layer = parse_integer(item.substr(0, equals));
    const auto window = value == "full" ? kUnlimited : parse_integer(value);
    const bool fits = window && *window >= 1 && (*window <= kMaxSize || value == "full");
    if (!layer || !fits) refuse_value("layer-window", syntax, text);
    if (!out.emplace(*layer, *window).second) refuse_value("layer-window", "each layer once", text);
  }
  return out;
}

std::string print_layer_window(const std::map<int64_t, int64_t>& windows) {
  std::string out;
  for (const auto& [layer, window] : windows) {
    if (!out.empty()) out += ",";
    out += fmt::format("{}={}", layer, window == kUnlimited ? "full" : std::to_string(window));
  }
  return out;
}

// An option whose value is one of a closed list of names of T.
template <typename T>
Option named(const char* name, T* target, std::vector<std::pair<const char*, T>> values,
             const std::string& help) {
  Option option;
  for (const auto& [text, value] : values) option.choices.emplace_back(text);
  const std::string list = fmt::format("{}", fmt::join(option.choices, "|"));
  option.name = name;
  option.value_name = list;
  option.help = help;
  option.set = [=](const std::string& text) {
    for (const auto& [known, value] : values) {
      if (text == known) {
        *target = value;
        return;
      }
    }
    refuse_value(name, list, text);
  };
  option.get = [=] {
    for (const auto& [known, value] : values) {
      if (*target == value) return Json(known);
    }
    return Json();
  };
  return option;
}

Option seps_option(Policy* policy) {
  Option option;
  option.name = "seps";
  option.value_name = "S|unbounded";
  option.help =
      "sep-stream: separators that are kept (s in METHOD.md); unbounded: the separator block and the "
      "capacity grow";
  option.set = [=](const std::string& text) {
    policy->seps_unbounded = text == "unbounded";
    if (policy->seps_unbounded) return;
    const auto value = parse_integer(text);
    if (!value || *value < 0 || *value > kMaxSize)
      refuse_value("seps", "an integer >= 0 or 'unbounded'", text);
    policy->seps = *value;
  };
  option.get = [=] { return policy->seps_unbounded ? Json("unbounded") : Json(policy->seps); };
  return option;
}

Option layer_window_option(Policy* policy) {
  Option option;
  option.name = "layer-window";
  option.value_name = "L=N,...";
  option.help =
      "static policies: other windows for some layers, as in 0=full,-1=full (negative numbers count from the "
      "end)";
  option.set = [=](const std::string& text) { policy->layer_window = parse_layer_window(text); };
  option.get = [=] { return Json(print_layer_window(policy->layer_window)); };
  return option;
}

// Whether an option has a meaning under a policy.
bool applies(const std::string& option, PolicyKind kind) {
  const bool stream = kind == PolicyKind::kSepStream || kind == PolicyKind::kSinkStream;
  if (option == "init") return kind != PolicyKind::kFull;
  if (option == "window") return kind != PolicyKind::kFull && kind != PolicyKind::kSinkStream;
  if (option == "seps" || option == "sep-replace") return kind == PolicyKind::kSepStream;
  if (option == "capacity") return stream;
  if (option == "interval") return kind == PolicyKind::kFixed;
  if (option == "layer-window") return kind != PolicyKind::kFull && !stream;
  return true;
}

constexpr const char* kPolicyOptions[] = {"init",     "window",      "seps",        "capacity",
                                          "interval", "sep-replace", "layer-window"};

// The config's object without the keys that do not apply, because a flag chose another policy than the
// config's.
Json applicable(const Json& config, const Policy& policy) {
  Json out = Json::object();
  const auto named = config.find("policy");
  const bool of_static = named != config.end() && *named != policy_name(PolicyKind::kSepStream) &&
                         *named != policy_name(PolicyKind::kSinkStream);
  for (const auto& [key, value] : config.items()) {
    // Static policies know only one kind of positions, so the config's value tells nothing about a stream.
    const bool left_out = key == "positions" && (!policy.streaming() || of_static);
    if (!left_out && applies(key, policy.kind)) out[key] = value;
  }
  return out;
}

}  // namespace

void declare_policy_options(OptionSet* options, PolicySettings* settings) {
  Policy* p = &settings->policy;
  std::vector<std::pair<const char*, PolicyKind>> kinds;
  for (const PolicyKind kind : kKinds) kinds.emplace_back(policy_name(kind), kind);
  options->add(named("policy", &p->kind, kinds, "which keys attention keeps"));
  options->add_int("init", &p->init, 0, kMaxSize, "initial tokens, which are always kept (a in METHOD.md)",
                   "A");
  options->add_int("window", &p->window, 1, kMaxSize,
                   "size of the neighbouring window (n in METHOD.md; for sep-stream w)");
  options->add(seps_option(p));
  options->add_int("capacity", &p->capacity, 1, kMaxSize,
                   "streaming policies: slots of the cache (c in METHOD.md)", "C");
  options->add_int("interval", &p->interval, 1, kMaxSize, "fixed: every k-th token is kept", "K");
  options->add_flag("sep-replace", &p->sep_replace,
                    "sep-stream: a compression keeps only the newest batch of separators");
  options->add(layer_window_option(p));
  options->add_string("separators", &settings->separators,
                      "which tokens are separators: text, paper, strings:S or ids:1,2,3", "RULE");
  options
      ->add(named<PositionMode>(
          "positions", &p->positions,
          {{"original", PositionMode::kOriginal}, {"cache", PositionMode::kCache}},
          "positions of keys: in the text, or slots of the cache (only streaming policies)"))
      .default_note = "original; cache under streaming policies";
  options
      ->add_int("rope-length", &p->rope_length, 0, kMaxSize,
                "models of rope type dynamic or longrope: the text length for which rotary frequencies are "
                "computed",
                "T")
      .default_note =
      "that of the whole text in score, of the prompt in generate, otherwise the trained length";
  options->add(
      named<DType>("kv", &settings->kv,
                   {{"f32", DType::kF32}, {"f16", DType::kF16}, {"bf16", DType::kBF16}, {"q8", DType::kI8}},
                   "type of the KV cache; q8: int8 with a scale for each row"));
  options->add_int("prefill-chunk", &settings->prefill_chunk, 1, int64_t{1} << 20,
                   "tokens per forward pass of known text");
}

void finish_policy_options(OptionSet* options, PolicySettings* settings, const Json& config_policy,
                           const std::string& config_file) {
  const Policy& policy = settings->policy;
  const bool kind_by_flag = options->was_set("policy");
  std::vector<std::string> by_flag;
  for (const char* name : kPolicyOptions) {
    if (options->was_set(name)) by_flag.emplace_back(name);
  }
  if (!config_policy.is_null()) {
    const JsonObject checked(config_policy, config_file, "sepllm");
    const Json own = kind_by_flag ? applicable(config_policy, policy) : config_policy;
    options->apply_json(JsonObject(own, config_file, "sepllm"));
  }
  for (const std::string& name : by_flag) {
    if (!applies(name, policy.kind)) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("{} does not apply to {} {}", option_name(name),
                                                           option_name("policy"), policy_name(policy.kind)));
    }
  }
  if (policy.streaming() && !options->was_set("positions")) settings->policy.positions = PositionMode::kCache;
  policy.validate();
}

Json policy_json(const PolicySettings& settings) {
  PolicySettings copy = settings;
  OptionSet options;
  declare_policy_options(&options, &copy);
  Json out = Json::object();
  for (const Option& o : options.options()) {
    const bool separators_unused = o.name == "separators" && !settings.policy.uses_separators();
    const bool unused = (o.name == "layer-window" && settings.policy.layer_window.empty()) ||
                        (o.name == "rope-length" && settings.policy.rope_length == 0);
    if (applies(o.name, settings.policy.kind) && !separators_unused && !unused) out[o.name] = o.get();
  }
  return out;
}

}  // namespace sepllm
