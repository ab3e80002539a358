#include "engine/prefix_store.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {
namespace {

// Fewer tokens are not worth a session.
constexpr int64_t kLeastReused = 8;
// A session is taken if at most this many tokens of older requests are lost.
constexpr int64_t kMostLost = 64;
constexpr int64_t kMostIdle = 256;

// Where a request can begin in this session, of which the first `in_common` tokens are the prompt's; at most
// 0: nowhere.
int64_t start_in(const HeldSession& held, const PrefixStore::Wanted& wanted, int64_t in_common) {
  const Session& session = *held.session;
  const int64_t n_prompt = std::ssize(wanted.prompt);
  const int64_t limit = std::min(in_common, n_prompt - 1);
  if (!wanted.scored && in_common == n_prompt && held.prompt_end == n_prompt && !held.last_hidden.empty() &&
      session.rewinds_to(n_prompt) == n_prompt)
    return n_prompt;
  if (wanted.scored) {
    // Token `position` must be known: its score is.
    if (held.n_top < wanted.n_top) return 0;
    return session.rewinds_to(std::min({limit, in_common - 1, std::ssize(held.scores)}));
  }
  const int64_t same_bits = session.rewinds_to(session.marks().whole_end(limit));
  return limit > held.first_generated ? std::max(same_bits, session.rewinds_to(limit)) : same_bits;
}

bool may_be_taken(const HeldSession& held, int64_t in_common) {
  // An answer is there to be replaced by another one.
  return !held.in_use &&
         (in_common >= held.prompt_end || held.session->cache().length() - in_common <= kMostLost);
}

int64_t bytes_of(const HeldSession& held) {
  const Session& session = *held.session;
  int64_t bytes = session.cache().stats().reserved_bytes + session.marks().bytes() +
                  session.model().config().vocab_size * static_cast<int64_t>(sizeof(float));
  if (!held.scores.empty()) {
    const auto per_score =
        static_cast<int64_t>(sizeof(TokenScore)) + std::ssize(held.scores.back().top) * int64_t{8} + 16;
    bytes += static_cast<int64_t>(held.scores.capacity()) * per_score;
  }
  return bytes;
}

// The beginning of a session's stream, which its copy or the session itself continues.
void keep_beginning(HeldSession* held, int64_t position, bool scored) {
  // (The score of the token at `position` is known only if the prompt has that token too.)
  const int64_t n_scores = std::max<int64_t>(0, scored ? position : position - 1);
  if (std::ssize(held->scores) > n_scores) held->scores.resize(static_cast<size_t>(n_scores));
  if (held->scores.empty()) held->n_top = HeldSession::kNone;
  if (position <= held->first_generated) held->first_generated = HeldSession::kNone;
  if (position < held->prompt_end) held->last_hidden.clear();
  held->prompt_end = std::min(held->prompt_end, position);
}

}  // namespace

PrefixStore::Place PrefixStore::best(const Wanted& wanted, int64_t* in_common) const {
  Place out;
  *in_common = 0;
  for (const auto& held : all_) {
    if (held->policy != wanted.policy || !held->session->usable()) continue;
    Place place{held.get(), 0, held->session->in_common(wanted.prompt), false};
    *in_common = std::max(*in_common, place.in_common);
    place.position = start_in(*held, wanted, place.in_common);
    place.taken = may_be_taken(*held, place.in_common);
    if (place.position < kLeastReused) continue;
    const auto rank = [](const Place& p) { return std::pair(p.position, p.taken); };
    if (out.held == nullptr || rank(place) > rank(out)) out = place;
  }
  return out;
}

PrefixStore::Found PrefixStore::take(const Wanted& wanted, const Context& ctx) {
  SEPLLM_CHECK(!wanted.prompt.empty());
  Found found;
  const Place place = best(wanted, &found.in_common);
  if (place.held == nullptr) return found;
  const auto at =
      std::find_if(all_.begin(), all_.end(), [&](const auto& h) { return h.get() == place.held; });
  std::shared_ptr<HeldSession> held = *at;
  held->last_used = ++clock_;
  try {
    if (place.taken) {
      set_idle(*held, false);
      held->session->rewind(place.position);
    } else {
      auto copy = std::make_shared<HeldSession>(*held);
      copy->session = std::make_shared<Session>(held->session->fork_at(ctx, place.position));
      copy->in_use = true;
      copy->bytes = 0;
      all_.push_back(copy);
      held = std::move(copy);
    }
    keep_beginning(held.get(), place.position, wanted.scored);
  } catch (const Error&) {  // out of memory
    if (held->in_use && place.taken) remove(held);
    return {nullptr, 0, found.in_common};
  } catch (const std::bad_alloc&) {
    if (held->in_use && place.taken) remove(held);
    return {nullptr, 0, found.in_common};
  }
  found.held = std::move(held);
  found.n_fed = place.position;
  return found;
}

bool PrefixStore::touch(const Wanted& wanted) {
  int64_t in_common = 0;
  const Place place = best(wanted, &in_common);
  if (place.held == nullptr) return false;
  place.held->last_used = ++clock_;
  return place.taken;
}

std::shared_ptr<HeldSession> PrefixStore::add(std::shared_ptr<Session> session, const std::string& policy) {
  SEPLLM_CHECK(session->keeps_marks());
  auto held = std::make_shared<HeldSession>();
  held->session = std::move(session);
  held->policy = policy;
  held->in_use = true;
  held->last_used = ++clock_;
  all_.push_back(held);
  return held;
}

void PrefixStore::set_idle(HeldSession& held, bool idle) {
  SEPLLM_CHECK(held.in_use == idle);
  held.in_use = !idle;
  if (idle) held.bytes = bytes_of(held);
  idle_bytes_ += idle ? held.bytes : -held.bytes;
}

void PrefixStore::give_back(const std::shared_ptr<HeldSession>& held) {
  if (!held->session->usable() || held->session->cache().length() < kLeastReused) return remove(held);
  drop_repeated(*held);
  held->last_used = ++clock_;
  set_idle(*held, true);
  if (n_idle() <= kMostIdle) return;
  remove(idle_by_age().front());
}

// Drops idle sessions that could give nothing that this one does not give: requests with the same prompt that
// ran at the same time leave them behind. (A session with marks has its own places to go back to.)
void PrefixStore::drop_repeated(const HeldSession& held) {
  const Session& session = *held.session;
  if (!session.cache().drops_nothing() || session.marks().begin() > 0) return;
  const auto tokens = session.marks().tokens(0, session.marks().end());
  const auto repeated = [&](const HeldSession& other) {
    const Session& s = *other.session;
    return !other.in_use && other.policy == held.policy && s.cache().length() <= session.cache().length() &&
           s.in_common(tokens) == s.cache().length() &&
           s.marks().whole_end(s.cache().length()) <= session.marks().whole_end(session.cache().length()) &&
           (other.scores.empty() || (other.scores.size() <= held.scores.size() && other.n_top <= held.n_top));
  };
  std::erase_if(all_, [&](const auto& other) {
    if (!repeated(*other)) return false;
    idle_bytes_ -= other->bytes;
    return true;
  });
}

void PrefixStore::remove(const std::shared_ptr<HeldSession>& held) {
  const auto at = std::find(all_.begin(), all_.end(), held);
  if (at == all_.end()) return;
  if (!held->in_use) idle_bytes_ -= held->bytes;
  all_.erase(at);
}

void PrefixStore::drop_to(int64_t bytes) {
  const int64_t limit = std::max<int64_t>(0, bytes);
  if (idle_bytes_ <= limit) return;
  const std::vector<std::shared_ptr<HeldSession>> by_age = idle_by_age();
  for (const auto& held : by_age) {
    if (idle_bytes_ <= limit) return;
    if (held->session->cache().drops_nothing()) continue;  // its marks take almost nothing
    set_idle(*held, false);
    held->session->drop_marks();
    held->last_hidden = {};
    set_idle(*held, true);
  }
  for (const auto& held : by_age) {
    if (idle_bytes_ <= limit) return;
    remove(held);
  }
}

// The idle sessions, those first that were used longest ago.
std::vector<std::shared_ptr<HeldSession>> PrefixStore::idle_by_age() const {
  std::vector<std::shared_ptr<HeldSession>> out;
  std::copy_if(all_.begin(), all_.end(), std::back_inserter(out), [](const auto& h) { return !h->in_use; });
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a->last_used < b->last_used; });
  return out;
}

int64_t PrefixStore::n_idle() const {
  return std::count_if(all_.begin(), all_.end(), [](const auto& h) { return !h->in_use; });
}

}  // namespace sepllm
