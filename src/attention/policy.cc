#include "attention/policy.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

[[noreturn]] void wrong(const std::string& message, const std::string& expected, const std::string& got) {
  throw Error(ErrorCode::kInvalidArgument, message, {.expected = expected, .got = got});
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
  }
  return "?";
}

int64_t Policy::window_of(int64_t layer, int64_t n_layers) const {
  if (kind == PolicyKind::kFull) return kUnlimited;
  if (kind == PolicyKind::kSinkStream) return capacity - init + 1;
  for (const int64_t key : {layer, layer - n_layers}) {
    if (const auto it = layer_window.find(key); it != layer_window.end()) return it->second;
  }
  return window;
}

LayerRule Policy::rule(int64_t layer, int64_t n_layers, int64_t own_window) const {
  if (own_window > 0) return {.window = own_window, .own_window = true};
  LayerRule out{.init = kind == PolicyKind::kFull ? 0 : init, .streams = kind == PolicyKind::kSepStream};
  if (!out.streams) out.window = window_of(layer, n_layers);
  if (uses_separators()) out.keeps = LayerRule::Keeps::kSeparators;
  if (kind == PolicyKind::kFixed) {
    out.keeps = LayerRule::Keeps::kInterval;
    out.interval = interval;
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
  if (streaming() && !layer_window.empty()) {
    throw Error(ErrorCode::kInvalidArgument, option_name("layer-window") + " is for static policies only",
                {.got = policy_name(kind)});
  }
  if (!streaming() && positions == PositionMode::kCache) {
    throw Error(ErrorCode::kInvalidArgument,
                option_name("positions") + " cache is for streaming policies only",
                {.got = policy_name(kind)});
  }
}

void Policy::validate_layers(int64_t n_layers, std::span<const int64_t> own_windows) const {
  for (const auto& [layer, n] : layer_window) {
    if (layer < -n_layers || layer >= n_layers) {
      wrong(option_name("layer-window") + " names a layer that the model does not have",
            fmt::format("{} to {}", -n_layers, n_layers - 1), std::to_string(layer));
    }
    if (layer < 0 && layer_window.contains(layer + n_layers)) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} names layer {} twice", option_name("layer-window"), layer + n_layers));
    }
    const int64_t l = layer < 0 ? layer + n_layers : layer;
    if (own_windows.empty() || own_windows[static_cast<size_t>(l)] == 0) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} names layer {}, whose sliding window is the model's own",
                            option_name("layer-window"), l),
                {.got = fmt::format("a window of {}", own_windows[static_cast<size_t>(l)])});
  }
}

}  // namespace sepllm
