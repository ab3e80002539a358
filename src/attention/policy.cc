#include "attention/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attention/nsa_rule.h"
#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

[[noreturn]] void wrong(const std::string& message, const std::string& expected, const std::string& got) {
  throw Error(ErrorCode::kInvalidArgument, message, {.expected = expected, .got = got});
}

bool is_block_kind(PolicyKind kind) {
  return kind == PolicyKind::kMoba || kind == PolicyKind::kSepMoba || kind == PolicyKind::kNsa;
}

}  // namespace

const char* policy_name(PolicyKind kind) {
  switch (kind) {
    case PolicyKind::kFull:
      return "full";
    case PolicyKind::kSep:
      return "sep";
    case PolicyKind::kSepStream:
      return "sep-stream";
    case PolicyKind::kSink:
      return "sink";
    case PolicyKind::kSinkStream:
      return "sink-stream";
    case PolicyKind::kFixed:
      return "fixed";
    case PolicyKind::kMoba:
      return "moba";
    case PolicyKind::kSepMoba:
      return "sep-moba";
    case PolicyKind::kNsa:
      return "nsa";
  }
  return "?";
}

bool Policy::has(PolicyKind wanted) const {
  return kind == wanted || std::any_of(layer_policy.begin(), layer_policy.end(),
                                       [&](const auto& item) { return item.second.kind == wanted; });
}

bool Policy::has_windows() const {
  const auto windowless = [](PolicyKind k) { return k == PolicyKind::kFull || is_block_kind(k); };
  return !windowless(kind) || std::any_of(layer_policy.begin(), layer_policy.end(),
                                          [&](const auto& item) { return !windowless(item.second.kind); });
}

const LayerChoice* Policy::choice_of(int64_t layer, int64_t n_layers) const {
  for (const int64_t key : {layer, layer - n_layers}) {
    if (const auto it = layer_policy.find(key); it != layer_policy.end()) return &it->second;
  }
  return nullptr;
}

PolicyKind Policy::kind_of(int64_t layer, int64_t n_layers) const {
  const LayerChoice* choice = choice_of(layer, n_layers);
  return choice != nullptr ? choice->kind : kind;
}

int64_t Policy::window_of(int64_t layer, int64_t n_layers) const {
  const LayerChoice* choice = choice_of(layer, n_layers);
  const PolicyKind own = kind_of(layer, n_layers);
  if (own == PolicyKind::kFull || is_block_kind(own)) return kUnlimited;
  if (kind == PolicyKind::kSinkStream) return capacity - init + 1;
  if (choice != nullptr && choice->window > 0) return choice->window;
  for (const int64_t key : {layer, layer - n_layers}) {
    if (const auto it = layer_window.find(key); it != layer_window.end()) return it->second;
  }
  return window;
}

LayerRule Policy::rule(int64_t layer, int64_t n_layers, int64_t own_window) const {
  if (own_window > 0) return {.window = own_window, .own_window = true};
  const PolicyKind own = kind_of(layer, n_layers);
  const LayerChoice* choice = choice_of(layer, n_layers);
  if (is_block_kind(own)) {
    BlockRule blocks{.count = choice != nullptr && choice->blocks > 0 ? choice->blocks : this->blocks,
                     .size = choice != nullptr && choice->block_size > 0 ? choice->block_size : block_size,
                     .at_separators = own == PolicyKind::kSepMoba};
    if (blocks.at_separators)
      blocks.most = std::max(blocks.size, max_block > 0 ? max_block : 2 * blocks.size);
    if (own == PolicyKind::kNsa) blocks.nsa_window = window;
    return {.blocks = blocks};
  }
  LayerRule out{.init = own == PolicyKind::kFull ? 0 : init, .streams = own == PolicyKind::kSepStream};
  if (!out.streams) out.window = window_of(layer, n_layers);
  if (own == PolicyKind::kSep || own == PolicyKind::kSepStream) {
    out.keeps = LayerRule::Keeps::kSeparators;
    out.max_segment = max_segment;
  }
  if (own == PolicyKind::kFixed) {
    out.keeps = LayerRule::Keeps::kInterval;
    out.interval = choice != nullptr && choice->interval > 0 ? choice->interval : interval;
  }
  return out;
}

Pattern Policy::pattern(const int32_t* tokens, int64_t n_tokens, const TokenSet& separators, int64_t layer,
                        int64_t n_layers, std::vector<int64_t> document_starts) const {
  return rule(layer, n_layers).pattern(tokens, n_tokens, separators, std::move(document_starts));
}

void Policy::validate() const {
  const auto at_least = [](const char* name, int64_t value, int64_t min) {
    if (value < min)
      wrong("wrong value for " + option_name(name), fmt::format("an integer >= {}", min),
            std::to_string(value));
  };
  at_least("init", init, 0);
  at_least("window", window, 1);
  at_least("seps", seps, 0);
  at_least("capacity", capacity, 1);
  at_least("interval", interval, 1);
  at_least("max-segment", max_segment, 0);
  at_least("block-size", block_size, 1);
  at_least("blocks", blocks, 1);
  if (kind == PolicyKind::kNsa) at_least("blocks", blocks, kNsaForcedBlocks);
  if (kind == PolicyKind::kSepMoba && max_block != 0) at_least("max-block", max_block, block_size);
  at_least("rope-length", rope_length, 0);
  for (const auto& [layer, n] : layer_window) at_least("layer-window", n, 1);
  if (kind == PolicyKind::kSepStream && init + seps + window >= capacity) {
    wrong(fmt::format("{} + {} + {} must be below {}", option_name("init"), option_name("seps"),
                      option_name("window"), option_name("capacity")),
          fmt::format("less than {}", capacity),
          fmt::format("{} + {} + {} = {}", init, seps, window, init + seps + window));
  }
  if (kind == PolicyKind::kSinkStream && init >= capacity) {
    wrong(option_name("init") + " must be below " + option_name("capacity"),
          fmt::format("less than {}", capacity), std::to_string(init));
  }
  for (const auto& [name, is_set] :
       {std::pair("layer-window", !layer_window.empty()), std::pair("layer-policy", !layer_policy.empty())}) {
    if (!streaming() || !is_set) continue;
    throw Error(ErrorCode::kInvalidArgument, option_name(name) + " is not for streaming policies",
                {.got = policy_name(kind)});
  }
  for (const auto& [layer, choice] : layer_policy) {
    at_least("layer-policy", choice.window, 0);
    at_least("layer-policy", choice.interval, 0);
    at_least("layer-policy", choice.block_size, 0);
    at_least("layer-policy", choice.blocks, 0);
    if (choice.kind == PolicyKind::kNsa) {
      if (choice.blocks > 0) at_least("layer-policy", choice.blocks, kNsaForcedBlocks);
      if (choice.blocks == 0) at_least("blocks", blocks, kNsaForcedBlocks);
    }
    if (choice.kind == PolicyKind::kSepStream || choice.kind == PolicyKind::kSinkStream) {
      wrong("wrong value for " + option_name("layer-policy"),
            "full, sep, sink, fixed, moba, sep-moba or nsa for each layer", policy_name(choice.kind));
    }
  }
  if (!streaming() && positions == PositionMode::kCache) {
    throw Error(ErrorCode::kInvalidArgument,
                option_name("positions") + " cache is for streaming policies only",
                {.got = policy_name(kind)});
  }
}

namespace {

// For layer_window and layer_policy, the values of the option `name`.
template <typename T>
void check_layers(const char* name, const std::map<int64_t, T>& values, int64_t n_layers,
                  std::span<const int64_t> own_windows, const std::string& file) {
  const auto fail = [&](const std::string& message, const std::string& expected, const std::string& got) {
    throw Error(ErrorCode::kInvalidArgument, option_name(name) + message,
                {.file = file, .expected = expected, .got = got});
  };
  for (const auto& [layer, value] : values) {
    if (layer < -n_layers || layer >= n_layers) {
      fail(" names a layer that the model does not have", fmt::format("{} to {}", -n_layers, n_layers - 1),
           std::to_string(layer));
    }
    if (layer < 0 && values.contains(layer + n_layers))
      fail(fmt::format(" names layer {} twice", layer + n_layers), "", "");
    const int64_t l = layer < 0 ? layer + n_layers : layer;
    if (own_windows.empty() || own_windows[static_cast<size_t>(l)] == 0) continue;
    fail(fmt::format(" names layer {}, whose sliding window is the model's own", l), "",
         fmt::format("a window of {}", own_windows[static_cast<size_t>(l)]));
  }
}

std::string window_words(int64_t window) {
  return window == kUnlimited ? "full" : fmt::format("a window of {}", window);
}

}  // namespace

void Policy::validate_layers(int64_t n_layers, std::span<const int64_t> own_windows,
                             const std::string& file) const {
  check_layers("layer-window", layer_window, n_layers, own_windows, file);
  check_layers("layer-policy", layer_policy, n_layers, own_windows, file);
  if (layer_policy.empty()) return;
  for (const auto& [layer, window] : layer_window) {
    const int64_t l = layer < 0 ? layer + n_layers : layer;
    const int64_t own = window_of(l, n_layers);
    if (own == window) continue;
    const bool chosen = choice_of(l, n_layers) != nullptr;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} and {} contradict each other in layer {}", option_name("layer-window"),
                            option_name(chosen ? "layer-policy" : "policy"), l),
                {.file = file,
                 .got = fmt::format("{}, and {}", window_words(window), window_words(own)),
                 .hint = "give the layer's window in one of them"});
  }
}

}  // namespace sepllm
