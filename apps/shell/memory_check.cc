#include "apps/shell/memory_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "apps/shell/figures.h"
#include "apps/shell/memory_plan.h"
#include "base/error.h"
#include "base/log.h"

namespace sepllm {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 36;  // more bytes than any machine has, but no overflow

// Bytes of keys and values of a stream of which `share` are separators. If even full attention does not
// exceed `bound`, its bytes are returned, which are known without a plan.
int64_t cache_bytes(const ModelConfig& config, const PolicySettings& settings, int64_t tokens, double share,
                    int64_t bound) {
  if (tokens <= 0) return 0;
  if (config.position == PositionType::kLearned) tokens = std::min(tokens, config.max_positions);
  tokens = std::min(tokens, kMostTokens);
  const int64_t full = full_kv_bytes(config, settings, tokens);
  return full <= bound ? full : plan_cache(config, settings, tokens, share).kv_bytes;
}

int64_t left_of(int64_t bytes, int64_t taken) { return bytes > taken ? bytes - taken : 0; }

// What a policy keeps of a text without separators: it keeps at least as much of any other text.
int64_t certain_bytes(const ModelConfig& config, const PolicySettings& settings, const RunLength& length,
                      int64_t bound) {
  return cache_bytes(config, settings, length.certain, 0.0, bound);
}

std::string cache_text(int64_t bytes, int64_t tokens) {
  return fmt::format("{} of cache for {} token{}", human_bytes(bytes), tokens, tokens == 1 ? "" : "s");
}

// `what`: "model" or "cache", which is the larger part of what does not fit.
[[noreturn]] void fail(const std::string& name, const std::string& what, const std::string& got,
                       const MemoryAtHand& at_hand) {
  const std::string hint = what == "cache" ? "fewer tokens, --kv f16 or q8, or a --policy that keeps less"
                                           : "--weights native leaves weights in their files, and --weights "
                                             "q8_0 and q4_0 make them smaller";
  throw Error(ErrorCode::kOutOfRange, "the " + what + " does not fit into the available memory",
              {.file = name,
               .expected = "at most " + memory_text(at_hand),
               .got = got,
               .hint = hint + "; " + memory_hint()});
}

}  // namespace

std::string memory_text(const MemoryAtHand& at_hand) {
  constexpr int64_t kUnknown = MemoryAtHand{}.bytes;
  if (at_hand.bytes == kUnknown) return "unknown";
  if (at_hand.most == kUnknown || at_hand.most <= at_hand.bytes) return human_bytes(at_hand.bytes);
  return fmt::format("{}, {} with swap and reserves", human_bytes(at_hand.bytes), human_bytes(at_hand.most));
}

std::string memory_hint() {
  return "if the system's figures are wrong, SEPLLM_MEMORY=SIZE sets the available memory";
}

void check_weights_fit(const std::string& name, const ModelConfig& config, const WeightMemory& weights,
                       const PolicySettings& settings, const RunLength& length, const MemoryAtHand& at_hand) {
  const int64_t room = left_of(at_hand.most, weights.owned);
  const int64_t cache = certain_bytes(config, settings, length, room);
  if (weights.owned > at_hand.most || cache > room) {
    const std::string of_weights = human_bytes(weights.owned) + " of weights",
                      of_cache = cache > 0 ? " and " + cache_text(cache, length.certain) : "";
    fail(name, cache > weights.owned ? "cache" : "model", of_weights + of_cache, at_hand);
  }
  if (weights.mapped <= left_of(at_hand.bytes, weights.owned) && weights.owned <= at_hand.bytes) return;
  log_warning(fmt::format(
      "{}: {} of weights ({} mapped from the files) are more than the available memory ({}): "
      "it runs, but {}",
      name, human_bytes(weights.owned + weights.mapped), human_bytes(weights.mapped), memory_text(at_hand),
      weights.owned <= at_hand.bytes ? "reads weights from the disk again and again" : "swaps"));
}

void check_cache_fits(const Model& model, const PolicySettings& settings, const RunLength& length,
                      const MemoryAtHand& at_hand) {
  const int64_t certain = certain_bytes(model.config(), settings, length, at_hand.most);
  if (certain > at_hand.most) {
    fail(model.name, "cache", cache_text(certain, length.certain), at_hand);
  }
  const int64_t mapped = weight_memory(model.decoder.weights()).mapped;
  const int64_t tokens = std::max(length.certain, length.possible);
  const int64_t room = left_of(at_hand.bytes, mapped);
  const int64_t possible = cache_bytes(model.config(), settings, tokens, kAssumedSeparatorShare, room);
  if (mapped > at_hand.bytes || possible <= room) return;  // (the warning about the weights came before)
  log_warning(fmt::format(
      "{}: up to {}{} are more than the available memory ({}): --kv f16 or q8, or a --policy "
      "that keeps less, would take less",
      model.name, cache_text(possible, tokens),
      mapped > 0 ? fmt::format(" and {} of mapped weights", human_bytes(mapped)) : "", memory_text(at_hand)));
}

}  // namespace sepllm
