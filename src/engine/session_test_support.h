// Shared by the tests of sessions: a small random model, small policies, tokens with many separators.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "engine/session.h"
#include "model/random_model.h"
#include "tests/support/rewrite_state.h"
#include "tests/support/support.h"

namespace sepllm::test {

class SessionStateTest : public ::testing::Test {
 protected:
  SessionStateTest() {
    write_random_model(folder_.path(), {.variant = "llama", .seed = 3, .hidden_size = 32, .n_layers = 2});
    model_ = std::make_unique<Model>(load_model(folder_.path(), ""));
    const std::string alphabet = "abcdefg .,\n";
    const Rng rng(1);
    for (uint64_t k = 0; k < 400; ++k) ids_.push_back(alphabet[rng.bits(k) % alphabet.size()]);
  }

  // Name and settings; all of them evict or compress several times within 100 tokens.
  static std::vector<std::pair<std::string, PolicySettings>> all_settings() {
    std::vector<std::pair<std::string, PolicySettings>> out;
    const auto add = [&](const std::string& name, PolicyKind kind) -> Policy& {
      out.emplace_back(name, PolicySettings{});
      PolicySettings& s = out.back().second;
      s.policy.kind = kind;
      s.policy.init = 3;
      s.policy.window = 7;
      s.policy.seps = 5;
      s.policy.capacity = 20;
      s.policy.interval = 4;
      s.policy.block_size = 6;
      s.policy.blocks = 3;
      s.prefill_chunk = 9;
      if (s.policy.streaming()) s.policy.positions = PositionMode::kCache;
      return s.policy;
    };
    add("full", PolicyKind::kFull);
    add("sep", PolicyKind::kSep);
    add("sink", PolicyKind::kSink);
    add("fixed", PolicyKind::kFixed);
    add("layered", PolicyKind::kSep).layer_window = {{0, kUnlimited}};
    add("segments", PolicyKind::kSep).max_segment = 3;
    add("rules", PolicyKind::kSink).layer_policy = {{0, {PolicyKind::kSep, 5}}};
    add("moba", PolicyKind::kMoba);
    add("sep-moba", PolicyKind::kSepMoba);
    add("mixed-moba", PolicyKind::kMoba).layer_policy = {{0, {PolicyKind::kSep, 5}}};
    add("sep-stream", PolicyKind::kSepStream);
    add("stream-segments", PolicyKind::kSepStream).max_segment = 2;
    add("original", PolicyKind::kSepStream).positions = PositionMode::kOriginal;
    add("unbounded", PolicyKind::kSepStream).seps_unbounded = true;
    add("replace", PolicyKind::kSepStream).sep_replace = true;
    add("sink-stream", PolicyKind::kSinkStream);
    add("sink-original", PolicyKind::kSinkStream).positions = PositionMode::kOriginal;
    return out;
  }

  // Feeds ids_ from the session's length up to `end`.
  std::vector<float> advance_to(Session& session, int64_t end) const {
    const auto from = static_cast<size_t>(session.cache().length());
    const auto n = static_cast<size_t>(end) - from;
    const std::span<const float> logits = session.advance(std::span(ids_).subspan(from, n));
    return {logits.begin(), logits.end()};
  }

  TemporaryFolder folder_;
  std::unique_ptr<Model> model_;
  std::vector<int32_t> ids_;
  ThreadPool pool_{2}, one_{1};
  Arena arena_, other_arena_;
  Context ctx_{pool_, arena_};
  Context other_ctx_{one_, other_arena_};  // another number of threads
};

}  // namespace sepllm::test
