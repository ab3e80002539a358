#include "attention/policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

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

bool Policy::keeps(int64_t position, int32_t token, const TokenSet& separators) const {
  if (position < init) return true;
  if (uses_separators()) return separators.contains(token);
  return kind == PolicyKind::kFixed && (position - init + 1) % interval == 0;
}

int64_t Policy::window_of(int64_t layer, int64_t n_layers) const {
  if (kind == PolicyKind::kFull) return kUnlimited;
  if (kind == PolicyKind::kSinkStream) return capacity - init + 1;
  for (const int64_t key : {layer, layer - n_layers}) {
    if (const auto it = layer_window.find(key); it != layer_window.end()) return it->second;
  }
  return window;
}

Pattern Policy::pattern(const int32_t* tokens, int64_t n_tokens, const TokenSet& separators, int64_t layer,
                        int64_t n_layers, std::vector<int64_t> document_starts) const {
  SEPLLM_CHECK(kind != PolicyKind::kSepStream);
  Pattern out{.n_initial = kind == PolicyKind::kFull ? 0 : init,
              .window = window_of(layer, n_layers),
              .document_starts = std::move(document_starts)};
  if (kind != PolicyKind::kSep && kind != PolicyKind::kFixed) return out;
  int64_t start = 0;  // of j's document
  auto next = out.document_starts.begin();
  for (int64_t j = 0; j < n_tokens; ++j) {
    for (; next != out.document_starts.end() && *next <= j; ++next) start = *next;
    // (The first `init` of each document are the pattern's initial ones.)
    if (j - start >= init && keeps(j - start, tokens[j], separators)) out.extra.push_back(j);
  }
  return out;
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

void Policy::validate_layers(int64_t n_layers) const {
  for (const auto& [layer, n] : layer_window) {
    if (layer < -n_layers || layer >= n_layers) {
      wrong(option_name("layer-window") + " names a layer that the model does not have",
            fmt::format("{} to {}", -n_layers, n_layers - 1), std::to_string(layer));
    }
    if (layer < 0 && layer_window.contains(layer + n_layers)) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} names layer {} twice", option_name("layer-window"), layer + n_layers));
    }
  }
}

}  // namespace sepllm
