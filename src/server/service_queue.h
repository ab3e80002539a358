// A request inside the service, from submit() to its last end. Used inside the service.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/prefix_store.h"
#include "engine/scheduler.h"
#include "server/service.h"

namespace sepllm::server {

using ServiceClock = std::chrono::steady_clock;

inline double seconds_since(ServiceClock::time_point start) {
  return std::chrono::duration<double>(ServiceClock::now() - start).count();
}

struct ServiceEntry {
  ServiceEntry(int64_t number, ServiceRequest r) : id(number), request(std::move(r)) {}

  int64_t n_prompt() const { return static_cast<int64_t>(request.generate.prompt.size()); }
  int64_t reserved() const { return cache_bytes + mark_bytes; }
  PrefixStore::Wanted wanted() const {
    return {.prompt = request.generate.prompt,
            .policy = policy_text,
            .scored = request.score_prompt,
            .n_top = request.n_top > 0 ? request.n_top : 0};
  }
  bool is_cancelled() const {
    return cancelled || (request.cancelled && request.cancelled->load(std::memory_order_relaxed)) ||
           (request.generate.go_on && !request.generate.go_on());
  }

  int64_t id;
  ServiceRequest request;
  Json policy{};
  std::string policy_text{};
  std::shared_ptr<const Session> blank{};  // an empty session of the policy
  // The most that it can take: the caches of all its choices, and the marks of the one that is kept.
  int64_t cache_bytes = 0, mark_bytes = 0;
  bool keeps = false;            // whether the session is kept
  MarkSettings mark_settings{};  // ... and with which marks
  bool sets_marks = false;       // ... in addition to periodic ones
  int64_t n_tokens = 0;          // that its cache holds at most
  ServiceClock::time_point submitted = ServiceClock::now(), admitted{};

  bool cancelled = false;
  double queue_seconds = 0.0;
  PrefixStore::Found found{};           // among the kept sessions
  bool has_looked = false;              // for it
  std::shared_ptr<HeldSession> held{};  // null: not kept, or not started
  int64_t mark_at = 0;                  // a mark is set at the last end of a chunk up to here
  int64_t fed = 0, cached = 0;
  int64_t new_tokens = 0;     // of choices that have ended
  std::vector<bool> ended{};  // by choice; sized by Admission::prepare
  int64_t n_ended = 0;
  bool failed = false;
  bool is_over() const { return n_ended == request.n_choices; }
};

}  // namespace sepllm::server
