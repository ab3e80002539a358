#include "server/admission.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/memory_at_hand.h"
#include "cache/kv_plan.h"

namespace sepllm::server {
namespace {

// Which marks a session that is kept has. Each costs as much as what the cache holds, unless it drops
// nothing; the first, of the empty cache, costs nothing, and a conversation that continues from its end needs
// no other. Another prompt that begins in the same way continues from the last mark before they part: marks
// lie at the ends of nearly all chunks of a short prompt, and further apart in a long one (service.cc sets
// one where prompts have parted).
struct MarkPlan {
  int64_t interval, n_periodic, n_asked;
  bool sets_marks;
  int64_t n_costly;  // with one more for a moment
};
constexpr int64_t kNever = int64_t{1} << 40;
constexpr int64_t kAllTokens = int64_t{1} << 41;  // are remembered, so that any prompt can be compared
constexpr MarkPlan kMarkPlans[] = {
    {256, 6, 3, true, 9}, {1024, 3, 3, true, 6}, {kNever, 3, 1, true, 2}, {kNever, 3, 1, false, 0}};

// The number of costly marks that a session with these settings can have.
int64_t n_costly(const MarkSettings& settings) {
  for (const MarkPlan& plan : kMarkPlans) {
    if (settings.interval == plan.interval && settings.n_asked == plan.n_asked) return plan.n_costly;
  }
  return settings.n_periodic + settings.n_asked;
}

int64_t limit_of(const ServiceSettings& settings) {
  if (settings.kv_memory > 0) return settings.kv_memory;
  const int64_t at_hand = memory_at_hand().bytes;
  constexpr int64_t kUnknown = int64_t{4} << 30;
  return at_hand == std::numeric_limits<int64_t>::max() ? kUnknown : at_hand / 2;
}

std::string mib(int64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / 1048576.0); }

std::string wanted_tokens(const ServiceEntry& entry) {
  return fmt::format("{} tokens of the prompt and {} new ones", entry.n_prompt(),
                     entry.request.generate.max_new_tokens);
}

}  // namespace

Admission::Admission(const Model& model, const Context& ctx, const ServiceSettings& settings)
    : model_(model), ctx_(ctx), settings_(settings), kv_limit_(limit_of(settings)) {}

void Admission::prepare(ServiceEntry* entry) {
  const ServiceRequest& r = entry->request;
  check(r);
  entry->policy = policy_json(r.policy);
  entry->policy_text = json_text(entry->policy);
  entry->blank = blank_of(entry->policy_text, r.policy);
  // (The last new token is not fed. Nobody waits for more than this.)
  constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();
  entry->n_tokens = entry->n_prompt() + std::clamp<int64_t>(r.generate.max_new_tokens - 1, 0, kMostTokens);
  check_positions(*entry);
  plan(entry);
  entry->ended.resize(static_cast<size_t>(r.n_choices));
}

void Admission::check(const ServiceRequest& r) const {
  const auto require = [](bool holds, const char* what) {
    if (!holds) throw Error(ErrorCode::kInvalidArgument, what);
  };
  require(!r.generate.prompt.empty(), "the prompt is empty");
  require(r.generate.max_new_tokens >= 0, "the number of new tokens is negative");
  require(r.n_choices >= 1, "the number of choices is less than 1");
  const int64_t vocab = model_.config().vocab_size;
  for (const int32_t id : r.generate.prompt) {
    if (id >= 0 && id < vocab) continue;
    throw Error(ErrorCode::kInvalidArgument, "token id outside the model's vocabulary",
                {.expected = fmt::format("0 to {}", vocab - 1), .got = std::to_string(id)});
  }
}

void Admission::check_positions(const ServiceEntry& entry) const {
  const ModelConfig& config = model_.config();
  const Policy& policy = entry.request.policy.policy;
  if (config.position != PositionType::kLearned) return;
  const bool reuses_places = policy.streaming() && policy.positions == PositionMode::kCache;
  const int64_t places = reuses_places ? std::min(entry.n_tokens, policy.capacity + 1) : entry.n_tokens;
  if (places <= config.max_positions) return;
  throw Error(
      ErrorCode::kOutOfRange, "the text is longer than the model's positions",
      {.expected = fmt::format("at most {} tokens", config.max_positions), .got = wanted_tokens(entry)});
}

// What the request will take at most. Error if that is more than there is.
void Admission::plan(ServiceEntry* entry) const {
  const PolicySettings& policy = entry->request.policy;
  const int64_t n_choices = entry->request.n_choices;
  const int64_t one = kv_bytes_at_most(policy, entry->n_tokens);
  if (one > kv_limit_ / n_choices) {
    throw Error(ErrorCode::kOutOfRange, "the text needs more memory for its KV cache than there is",
                {.expected = fmt::format("at most {}", mib(kv_limit_)),
                 .got = fmt::format("{} for {}{}", mib(one), wanted_tokens(*entry),
                                    n_choices > 1 ? fmt::format(", {} times", n_choices) : ""),
                 .hint = "fewer tokens, or a policy that keeps fewer keys"});
  }
  entry->cache_bytes = one * n_choices;
  if (!settings_.keep_prefixes) return;
  // As many marks as leave half of the memory to sessions that are idle, when as many run as may.
  const int64_t mark = mark_bytes_at_most(policy, entry->n_tokens);
  const int64_t n_together = std::max<int64_t>(1, settings_.parallel / n_choices);
  for (const MarkPlan& p : kMarkPlans) {
    entry->mark_bytes = p.n_costly * mark;
    entry->mark_settings = {
        .interval = p.interval, .n_periodic = p.n_periodic, .n_asked = p.n_asked, .max_tokens = kAllTokens};
    entry->sets_marks = p.sets_marks;
    if (entry->reserved() <= kv_limit_ / (2 * n_together)) break;
  }
  entry->keeps = true;
}

void Admission::count_room(const Session& session, ServiceEntry* entry) const {
  const int64_t n_choices = entry->request.n_choices;
  const int64_t mark = mark_bytes_at_most(entry->request.policy, entry->n_tokens);
  entry->cache_bytes = std::max(entry->cache_bytes, session.cache().stats().reserved_bytes * n_choices);
  entry->mark_bytes =
      std::max({entry->mark_bytes, n_costly(session.marks().settings()) * mark, session.marks().bytes()});
}

int64_t Admission::kv_bytes_at_most(const PolicySettings& policy, int64_t n_tokens) const {
  return most_kv_bytes(model_.decoder.kv_layout(policy.kv), policy.policy, n_tokens, policy.prefill_chunk);
}

int64_t Admission::mark_bytes_at_most(const PolicySettings& policy, int64_t n_tokens) const {
  return most_mark_bytes(model_.decoder.kv_layout(policy.kv), policy.policy, n_tokens, policy.prefill_chunk);
}

// Finding the separators of a policy takes longer than anything else that a new session needs.
std::shared_ptr<const Session> Admission::blank_of(const std::string& policy_text,
                                                   const PolicySettings& policy) {
  constexpr size_t kMost = 64;
  {
    const std::lock_guard lock(mutex_);
    if (const auto it = blanks_.find(policy_text); it != blanks_.end()) return it->second;
  }
  auto blank = std::make_shared<const Session>(model_, policy, ctx_);
  const std::lock_guard lock(mutex_);
  if (blanks_.size() >= kMost) blanks_.clear();
  return blanks_.emplace(policy_text, std::move(blank)).first->second;
}

}  // namespace sepllm::server
