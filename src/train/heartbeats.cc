#include "train/heartbeats.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <utility>

namespace sepllm {
namespace {

constexpr int kBeat = 2;  // the tag of heartbeats
constexpr char kAlive = 'a', kLeaves = 'l';

double since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

}  // namespace

Heartbeats::Heartbeats(Transport& transport, const std::atomic<double>& limit,
                       std::function<std::string(int)> name)
    : transport_(transport), limit_(limit), name_(std::move(name)) {
  last_round_ = last_sent_ = moved_ = fed_ = Clock::now();
  const int from = transport.rank() == 0 ? 1 : 0, to = transport.rank() == 0 ? transport.size() : 1;
  partners_.resize(static_cast<size_t>(std::max(0, to - from)));
  for (int r = from; r < to; ++r) {
    Partner& p = partners_[static_cast<size_t>(r - from)];
    p.rank = r;
    p.heard = Clock::now();
    p.receiving = transport.receive(&p.in, sizeof p.in, r, kBeat);
  }
}

void Heartbeats::hear(Partner& p) {
  if (p.is_sending && transport_.test(&p.sending)) p.is_sending = false;
  if (p.left || !transport_.test(&p.receiving)) return;
  p.heard = Clock::now();
  p.last = p.in;
  p.left = p.in.kind == kLeaves;
  if (!p.left) p.receiving = transport_.receive(&p.in, sizeof p.in, p.rank, kBeat);
}

void Heartbeats::send(Partner& p, char kind) {
  if (p.is_sending || p.said_goodbye) return;
  p.out = own_;
  p.out.kind = kind;
  p.sending = transport_.send(&p.out, sizeof p.out, p.rank, kBeat);
  p.is_sending = true;
  p.said_goodbye = kind == kLeaves;
}

std::string Heartbeats::standing(int rank, const char* activity) const {
  return fmt::format(
      "{} has made no progress for {:.0f} seconds while {}: it hangs; the run will continue from its last "
      "checkpoint",
      name_(rank), limit_.load(), activity);
}

std::string Heartbeats::find_lost(const Partner& p) const {
  if (p.left) return "";
  const double limit = limit_, silent = since(p.heard);
  // A rank that hangs says so itself and ends all ranks. If it cannot do even that, others do it a little
  // later.
  const double grace = std::min(5.0, limit / 4);
  if (p.last.stands > limit / 2 && p.last.stands + silent > limit + grace)
    return standing(p.rank, p.last.activity);
  if (silent <= limit) return "";
  return fmt::format(
      "{} has not answered for {:.0f} seconds: it has died, hangs, or cannot be reached; the run will "
      "continue from its last checkpoint",
      name_(p.rank), limit);
}

// As seen by rank 0, which hears from all ranks.
bool Heartbeats::all_starve() const {
  if (transport_.rank() != 0 || own_.starves <= limit_) return false;
  return std::all_of(partners_.begin(), partners_.end(),
                     [this](const Partner& p) { return p.last.starves > limit_; });
}

bool Heartbeats::due() const { return since(last_heard_) > 0.02; }

std::string Heartbeats::round(const Caller& caller) {
  const double limit = limit_;
  // A pause of this process (stopped and continued, a machine asleep) says nothing about the others.
  const bool paused = since(last_round_) > limit / 4;
  last_round_ = last_heard_ = Clock::now();
  const bool moved = life_.moved();
  if (moved || paused || caller.waits) moved_ = last_round_;
  if (caller.arrived || paused || !caller.waits) fed_ = last_round_;
  own_.stands = static_cast<float>(since(moved_));
  own_.starves = static_cast<float>(since(fed_));
  std::strncpy(own_.activity, caller.activity.c_str(), sizeof own_.activity - 1);
  const bool send_now = since(last_sent_) > std::min(1.0, limit / 8);
  if (send_now) last_sent_ = Clock::now();
  if (own_.stands > limit) return standing(transport_.rank(), own_.activity);
  for (Partner& p : partners_) {
    if (paused) p.heard = Clock::now();
    hear(p);
    if (send_now) send(p, kAlive);
    if (std::string lost = find_lost(p); !lost.empty()) return lost;
  }
  if (all_starve()) {
    return fmt::format(
        "all ranks wait for each other, and nothing has arrived for {:.0f} seconds: the network between "
        "some of them has failed; the run will continue from its last checkpoint",
        limit);
  }
  return "";
}

std::string Heartbeats::goodbye(bool* done) {
  last_round_ = Clock::now();
  *done = true;
  own_.stands = own_.starves = 0;
  for (Partner& p : partners_) {
    hear(p);
    send(p, kLeaves);
    if (std::string lost = find_lost(p); !lost.empty()) return lost;
    *done = *done && p.left && p.said_goodbye && !p.is_sending;
  }
  return "";
}

}  // namespace sepllm
