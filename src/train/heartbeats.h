// Heartbeats between the ranks of a run: once a second from every rank to rank 0, and from there to every
// rank, with what the rank's caller is doing. They find ranks that are silent, and ranks that are alive but
// make no progress.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/sign_of_life.h"
#include "train/transport.h"

namespace sepllm {

class Heartbeats {
 public:
  // Of this rank's caller, now.
  struct Caller {
    bool waits = false;    // for other ranks: that it stands still is no fault of its own
    bool arrived = false;  // since the last time: a message has ended
    std::string activity;  // "computing step 12"
  };

  // `limit`: seconds, the longest that a rank may be silent, or stand still in work of its own. `name` of a
  // rank, for people. Called, as all here, on the thread of the transport.
  Heartbeats(Transport& transport, const std::atomic<double>& limit, std::function<std::string(int)> name);

  // Whether it is time for round().
  bool due() const;
  // Sends and hears. Empty, or a sentence for people: a rank is lost, perhaps this one.
  std::string round(const Caller& caller);
  // The same at the end of a run: `done` when all partners have said goodbye too.
  std::string goodbye(bool* done);

 private:
  using Clock = std::chrono::steady_clock;
  struct Heartbeat {
    float stands = 0;   // seconds that the caller has stood still in work of its own
    float starves = 0;  // seconds that it has waited and nothing has arrived
    char kind = 0;
    char activity[55] = "";
  };
  struct Partner {
    int rank = 0;
    Heartbeat out, in, last;  // in: being received; last: heard
    Transport::Request sending = nullptr, receiving = nullptr;
    bool is_sending = false, said_goodbye = false, left = false;
    Clock::time_point heard;
  };

  void hear(Partner& p);
  void send(Partner& p, char kind);
  std::string find_lost(const Partner& p) const;
  std::string standing(int rank, const char* activity) const;
  bool all_starve() const;

  Transport& transport_;
  const std::atomic<double>& limit_;
  std::function<std::string(int)> name_;
  std::vector<Partner> partners_;
  LifeWatcher life_;
  Heartbeat own_;
  Clock::time_point last_round_, last_heard_, last_sent_, moved_, fed_;
};

}  // namespace sepllm
