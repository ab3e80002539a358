// Shared by the tests of caches.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "attention/policy.h"

namespace sepllm::test {

// Name and policy; all that evict or compress do so several times within 100 tokens.
inline std::vector<std::pair<std::string, Policy>> small_policies() {
  std::vector<std::pair<std::string, Policy>> out;
  const auto add = [&](const std::string& name, PolicyKind kind) -> Policy& {
    out.emplace_back(name, Policy{});
    Policy& p = out.back().second;
    p.kind = kind;
    p.init = 3;
    p.window = 7;
    p.seps = 5;
    p.capacity = 24;
    p.interval = 3;
    if (p.streaming()) p.positions = PositionMode::kCache;
    return p;
  };
  add("full", PolicyKind::kFull);
  add("sep", PolicyKind::kSep);
  add("fixed", PolicyKind::kFixed);
  add("sink", PolicyKind::kSink);
  add("layered", PolicyKind::kSep).layer_window = {{0, kUnlimited}, {1, 2}};
  add("segments", PolicyKind::kSep).max_segment = 4;
  add("rules", PolicyKind::kSep).layer_policy = {{0, {PolicyKind::kFixed, 5, 4}},
                                                 {-1, {PolicyKind::kSink, 9}}};
  for (const auto& [name, kind] : {std::pair("moba", PolicyKind::kMoba),
                                   {"sep-moba", PolicyKind::kSepMoba},
                                   {"nsa", PolicyKind::kNsa}}) {
    Policy& p = add(name, kind);
    p.block_size = 4;
    p.blocks = 3;
  }
  add("sep-stream", PolicyKind::kSepStream);
  add("stream-segments", PolicyKind::kSepStream).max_segment = 2;
  add("replace", PolicyKind::kSepStream).sep_replace = true;
  add("unbounded", PolicyKind::kSepStream).seps_unbounded = true;
  add("sink-stream", PolicyKind::kSinkStream);
  return out;
}

}  // namespace sepllm::test
