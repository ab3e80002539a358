// Reads and prints a policy: the one place for flags, config.json, state files and requests.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
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
                                 PolicyKind::kSink, PolicyKind::kSinkStream, PolicyKind::kFixed,
                                 PolicyKind::kMoba, PolicyKind::kSepMoba,    PolicyKind::kNsa};
constexpr PolicyKind kLayerKinds[] = {PolicyKind::kFull,  PolicyKind::kSep,  PolicyKind::kSink,
                                      PolicyKind::kFixed, PolicyKind::kMoba, PolicyKind::kSepMoba,
                                      PolicyKind::kNsa};

// The items of a list with commas between, as "NAME=VALUE"; nullopt for an item without '='.
using Item = std::pair<std::string_view, std::string_view>;
std::optional<std::vector<Item>> list_items(std::string_view text) {
  std::vector<Item> out;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), item.size() + 1));
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    out.emplace_back(item.substr(0, equals), item.substr(equals + 1));
  }
  return out;
}

std::map<int64_t, int64_t> parse_layer_window(const std::string& text) {
  const char* syntax = "LAYER=WINDOW|full,... as in 0=full,-1=full";
  std::map<int64_t, int64_t> out;
  const auto items = list_items(text);
  if (!items) refuse_value("layer-window", syntax, text);
  for (const auto& [name, value] : *items) {
    const auto layer = parse_integer(name);
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

// LAYER or FIRST..LAST, both counted from the same end.
std::optional<std::pair<int64_t, int64_t>> parse_layers(std::string_view text) {
  constexpr int64_t kMostLayers = 100000;
  const size_t dots = text.find("..");
  const auto first = parse_integer(text.substr(0, dots));
  const auto last = dots == std::string_view::npos ? first : parse_integer(text.substr(dots + 2));
  const bool fits = first && last && *first <= *last && (*first < 0) == (*last < 0) &&
                    *first >= -kMostLayers && *last < kMostLayers;
  return fits ? std::optional(std::pair(*first, *last)) : std::nullopt;
}

// KIND, KIND:WINDOW, fixed:WINDOW/INTERVAL, or moba:SIZE/BLOCKS (and sep-moba and nsa in the same way).
std::optional<LayerChoice> parse_choice(std::string_view text) {
  LayerChoice out;
  const size_t colon = text.find(':');
  const std::string_view kind = text.substr(0, colon);
  const auto* known = std::find_if(std::begin(kLayerKinds), std::end(kLayerKinds),
                                   [&](PolicyKind k) { return kind == policy_name(k); });
  if (known == std::end(kLayerKinds)) return std::nullopt;
  out.kind = *known;
  if (colon == std::string_view::npos) return out;
  const std::string_view numbers = text.substr(colon + 1);
  const size_t slash = numbers.find('/');
  const auto fits = [](const std::optional<int64_t>& n) { return n && *n >= 1 && *n <= kMaxSize; };
  const bool of_blocks =
      out.kind == PolicyKind::kMoba || out.kind == PolicyKind::kSepMoba || out.kind == PolicyKind::kNsa;
  const auto first = parse_integer(numbers.substr(0, slash));
  if (out.kind == PolicyKind::kFull || !fits(first)) return std::nullopt;
  (of_blocks ? out.block_size : out.window) = *first;
  if (slash == std::string_view::npos) return out;
  const auto second = parse_integer(numbers.substr(slash + 1));
  if ((out.kind != PolicyKind::kFixed && !of_blocks) || !fits(second)) return std::nullopt;
  (of_blocks ? out.blocks : out.interval) = *second;
  return out;
}

std::map<int64_t, LayerChoice> parse_layer_policy(const std::string& text) {
  const char* syntax =
      "LAYERS=full|sep:WINDOW|sink:WINDOW|fixed:WINDOW/INTERVAL|moba:SIZE/BLOCKS|sep-moba:SIZE/"
      "BLOCKS|nsa:SIZE/BLOCKS,... as "
      "in 0..2=full,3=sep:128,-1=full";
  std::map<int64_t, LayerChoice> out;
  const auto items = list_items(text);
  if (!items) refuse_value("layer-policy", syntax, text);
  for (const auto& [name, value] : *items) {
    const auto layers = parse_layers(name);
    const auto choice = parse_choice(value);
    if (!layers || !choice) refuse_value("layer-policy", syntax, text);
    for (int64_t l = layers->first; l <= layers->second; ++l) {
      if (!out.emplace(l, *choice).second) refuse_value("layer-policy", "each layer once", text);
    }
  }
  return out;
}

std::string print_choice(const LayerChoice& choice) {
  std::string out = policy_name(choice.kind);
  if (choice.window > 0) out += fmt::format(":{}", choice.window);
  if (choice.interval > 0) out += fmt::format("/{}", choice.interval);
  if (choice.block_size > 0) out += fmt::format(":{}", choice.block_size);
  if (choice.blocks > 0) out += fmt::format("/{}", choice.blocks);
  return out;
}

// Neighbouring layers with the same choice are printed as a range.
std::string print_layer_policy(const std::map<int64_t, LayerChoice>& choices) {
  std::string out;
  for (auto first = choices.begin(); first != choices.end();) {
    auto last = first, next = std::next(first);
    while (next != choices.end() && next->first == last->first + 1 && next->first != 0 &&
           next->second == first->second) {
      last = next++;
    }
    const std::string layers =
        first == last ? std::to_string(first->first) : fmt::format("{}..{}", first->first, last->first);
    out += fmt::format("{}{}={}", out.empty() ? "" : ",", layers, print_choice(first->second));
    first = next;
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

Option layer_policy_option(Policy* policy) {
  Option option;
  option.name = "layer-policy";
  option.value_name = "L=KIND:N,...";
  option.help =
      "not for streaming policies: other rules for some layers, as in "
      "0..2=full,3=sep:128,4=fixed:64/8,5=moba:64/8,-1=sink:32 (the numbers are the window and, after '/', "
      "the "
      "interval; for moba, sep-moba and nsa the size and the number of blocks; without them those of the "
      "policy)";
  option.set = [=](const std::string& text) { policy->layer_policy = parse_layer_policy(text); };
  option.get = [=] { return Json(print_layer_policy(policy->layer_policy)); };
  return option;
}

// Whether an option has a meaning under a policy.
bool applies(const std::string& option, const Policy& policy) {
  const PolicyKind kind = policy.kind;
  const bool windows = policy.has_windows();
  if (option == "init") return windows;
  if (option == "window") return (windows || policy.has(PolicyKind::kNsa)) && kind != PolicyKind::kSinkStream;
  if (option == "seps" || option == "sep-replace") return kind == PolicyKind::kSepStream;
  if (option == "capacity") return policy.streaming();
  if (option == "interval") return policy.has(PolicyKind::kFixed);
  if (option == "max-segment") return policy.has(PolicyKind::kSep) || kind == PolicyKind::kSepStream;
  if (option == "block-size" || option == "blocks") return policy.has_blocks();
  if (option == "max-block") return policy.has(PolicyKind::kSepMoba);
  if (option == "layer-window") return windows && !policy.streaming();
  if (option == "layer-policy") return !policy.streaming();
  return true;
}

constexpr const char* kPolicyOptions[] = {"init",      "window",      "seps",         "capacity",
                                          "interval",  "max-segment", "block-size",   "blocks",
                                          "max-block", "sep-replace", "layer-window", "layer-policy"};

// The config's object without the keys that do not apply, because a flag chose another policy than the
// config's.
Json applicable(const Json& config, const Policy& policy) {
  Json out = Json::object();
  const auto named = config.find("policy");
  const bool of_static = named != config.end() && *named != policy_name(PolicyKind::kSepStream) &&
                         *named != policy_name(PolicyKind::kSinkStream);
  for (const auto& [key, value] : config.items()) {
    // Static policies know only one kind of positions, so the config's value tells nothing about a stream.
    const bool left_out = key == "layer-policy" || (key == "positions" && (!policy.streaming() || of_static));
    if (!left_out && applies(key, policy)) out[key] = value;
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
  options
      ->add_int("max-segment", &p->max_segment, 0, kMaxSize,
                "sep, sep-stream: of a segment without separators every k-th token is kept", "K")
      .default_note = "0: no limit";
  options->add_int("block-size", &p->block_size, 1, kMaxSize,
                   "moba, nsa: tokens of a block; sep-moba: the least number of them", "B");
  options->add_int("blocks", &p->blocks, 1, kMaxSize,
                   "moba, sep-moba, nsa: blocks that each query sees, including its own; at least 3 for nsa",
                   "K");
  options
      ->add_int("max-block", &p->max_block, 0, kMaxSize,
                "sep-moba: the most tokens of a block, where no separator ends it", "M")
      .default_note = "0: twice the block size";
  options->add_flag("sep-replace", &p->sep_replace,
                    "sep-stream: a compression keeps only the newest batch of separators");
  options->add(layer_window_option(p));
  options->add(layer_policy_option(p));
  options->add_string(
      "separators", &settings->separators,
      "which tokens are separators: text, paper, special, ids:1,2,3 or strings:S; several with + "
      "between, as in text+special",
      "RULE");
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
    if (!applies(name, policy)) {
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
                        (o.name == "layer-policy" && settings.policy.layer_policy.empty()) ||
                        (o.name == "max-segment" && settings.policy.max_segment == 0) ||
                        (o.name == "max-block" && settings.policy.max_block == 0) ||
                        (o.name == "rope-length" && settings.policy.rope_length == 0);
    if (applies(o.name, settings.policy) && !separators_unused && !unused) out[o.name] = o.get();
  }
  return out;
}

}  // namespace sepllm
