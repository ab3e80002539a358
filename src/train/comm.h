// The ranks of a run: processes, on one machine or on several, that train one model together. Sums are
// computed in the order of the ranks, so a run has the same bits whenever it has the same number of ranks.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "train/transport.h"

namespace sepllm {

// A part of an array: elements [begin, begin + n).
struct Part {
  int64_t begin = 0, n = 0;
};
// The part of `whole` that rank r of n_ranks owns: whole groups of 16 elements, as equal as these allow.
Part part_of(Part whole, int64_t r, int64_t n_ranks);
// The part of n tasks that rank r does: parts are in order and as equal as possible.
Part share_of(int64_t n, int64_t r, int64_t n_ranks);

// Thrown on all ranks by Comm::run_or_fail_together(), so that no rank waits for another.
// what() is a text for write_options().
class SharedFailure : public std::exception {
 public:
  explicit SharedFailure(std::string what) : what_(std::move(what)) {}
  const char* what() const noexcept override { return what_.c_str(); }

 private:
  std::string what_;
};

// Collective operations: all ranks call the same ones in the same order. A separate thread moves the bytes
// while the caller computes, and notices ranks that have died or make no progress (train/heartbeats.h). With
// one rank every call returns at once.
class Comm {
 public:
  struct Options {
    // Called, from any thread, with a sentence for people, when a rank no longer answers or the transport
    // fails. All ranks end after it.
    std::function<void(const std::string&)> on_lost = [](const std::string&) {};
    // Seconds after which a rank counts as lost: one that sends no heartbeat, or whose caller neither makes
    // progress (base/sign_of_life.h) nor waits for others.
    double timeout = 30;
  };

  Comm();  // one rank
  // Calls `connect` on its own thread. Error as for `connect`.
  Comm(const TransportMaker& connect, Options options);
  ~Comm();
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_root() const { return rank_ == 0; }
  std::string name(int r) const;  // "rank 1 (its host)"
  // All ranks: the cores that this process may use, shared with the ranks that may use the same; likewise the
  // CPU quota of its control group, shared with the ranks in that group.
  int threads_per_rank();
  // All ranks: those on the same host in the same control group of memory, this one included, ascending.
  std::vector<int> ranks_sharing_memory();

  // These two begin here and have ended after wait(), or wait_until() with what they return: until then the
  // array must neither be read nor changed.
  // Reduce-scatter: rank r's part_of(all of data, r) becomes the sum over all ranks; its other parts stay as
  // they are.
  int64_t start_reduce_scatter(std::span<float> data);
  // All-gather: on every rank, part_of(all of data, r) becomes what rank r has there.
  int64_t start_all_gather(std::span<float> data);
  void wait();
  // Waits for this operation and all that began before it; later ones continue.
  void wait_until(int64_t operation);

  // All other operations have ended when they return. Sums over all ranks, with the same bits on every rank.
  void sum(std::span<double> values);
  bool any(bool value);
  // Every rank gets what rank 0 has.
  std::string broadcast(const std::string& text);
  void broadcast(std::span<float> data);
  std::vector<std::string> all_texts(const std::string& own);  // by rank
  // Rank 0 has `whole`, an array of n elements (null elsewhere), and every rank `part`, its part_of() it.
  // gather() copies the parts into the whole, scatter() the whole into the parts.
  void gather(int64_t n, const float* part, float* whole);
  void scatter(int64_t n, const float* whole, float* part);

  // Does some work of this rank's own, without any call of this class. If it fails on any rank, all ranks
  // throw SharedFailure, which names that rank; a single rank throws what its work threw.
  void run_or_fail_together(const std::function<void()>& work);

  void set_timeout(double seconds);  // Options::timeout, from now on
  // What this rank's caller is doing from now on, for the message about a rank without progress: a literal,
  // such as "computing step", and the step's number if it is not 0.
  void set_activity(const char* what, int64_t step = 0);

  // All ranks: the last call. After a failure of only this rank call abort() instead, which ends all ranks.
  void leave();
  void abort(int exit_code);

  double seconds_waited() const { return seconds_waited_; }  // by the caller, in total
  int64_t bytes_sent() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;  // null: one rank
  int rank_ = 0, size_ = 1;
  double seconds_waited_ = 0;
};

}  // namespace sepllm
