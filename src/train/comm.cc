#include "train/comm.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/cgroup.h"
#include "base/check.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "train/heartbeats.h"

namespace sepllm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kData = 1;  // the tag of messages with data
// jobs whose messages may be in flight at once: bounds the memory of receivers
constexpr size_t kInFlight = 4;

double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

// to = sources[0] + sources[1] + ..., in this order, element by element.
void add_in_order(const std::vector<const float*>& sources, int64_t n, float* to) {
  constexpr int64_t kBlock = 1024;
  float sums[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t count = std::min(kBlock, n - begin);
    std::copy_n(sources[0] + begin, count, sums);
    for (size_t s = 1; s < sources.size(); ++s) {
      const float* from = sources[s] + begin;
      if (count == kBlock) {
        for (int64_t i = 0; i < kBlock; ++i) sums[i] += from[i];
      } else {
        for (int64_t i = 0; i < count; ++i) sums[i] += from[i];
      }
    }
    std::copy_n(sums, count, to + begin);
  }
}

}  // namespace

Part part_of(Part whole, int64_t r, int64_t n_ranks) {
  constexpr int64_t kGroup = 16;
  const Part groups = share_of((whole.n + kGroup - 1) / kGroup, r, n_ranks);
  const int64_t begin = std::min(whole.n, groups.begin * kGroup);
  return {whole.begin + begin, std::min(whole.n, (groups.begin + groups.n) * kGroup) - begin};
}

Part share_of(int64_t n, int64_t r, int64_t n_ranks) {
  const int64_t begin = n * r / n_ranks;
  return {begin, n * (r + 1) / n_ranks - begin};
}

struct Comm::Impl {
  // One operation: its messages, and what is done with them.
  struct Job {
    int64_t number = 0;                              // from 1 on, in the order in which jobs were added
    std::function<void(Job&)> start;                 // starts its sends and receives
    std::function<void(Job&)> finish = [](Job&) {};  // called when all of them have ended
    std::vector<Transport::Request> open;
    std::vector<std::vector<float>> received;  // memory for messages, if the job needs some
  };

  Impl(const TransportMaker& connect, Options chosen) : options(std::move(chosen)), timeout(options.timeout) {
    thread = std::thread([this, connect] { run(connect); });
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return transport != nullptr || connect_error; });
    if (!connect_error) return;
    lock.unlock();
    thread.join();
    std::rethrow_exception(connect_error);
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      quit = true;
    }
    changed.notify_all();
    thread.join();
  }

  // Called on the caller's thread.
  int64_t add(Job job) {
    int64_t number = 0;
    {
      const std::lock_guard lock(mutex);
      job.number = number = ++n_added;
      pending.push_back(std::move(job));
    }
    changed.notify_all();
    return number;
  }
  // Until the jobs up to this number have ended.
  void wait(int64_t number) {
    std::unique_lock lock(mutex);
    waited_for = true;
    changed.notify_all();
    ended.wait(lock, [&] { return failed || ended_through >= number; });
    waited_for = false;
    if (failed) throw Error(ErrorCode::kIo, failure);
  }

  void send(Job& job, const void* from, int64_t bytes, int to) {
    if (bytes == 0) return;
    job.open.push_back(transport->send(from, bytes, to, kData));
    sent += bytes;
  }
  void receive(Job& job, void* to, int64_t bytes, int from) {
    if (bytes > 0) job.open.push_back(transport->receive(to, bytes, from, kData));
  }

  // From here on, functions are called only on Comm's own thread.
  void run(const TransportMaker& connect) {
    std::unique_ptr<Transport> made;
    try {
      made = connect();
    } catch (...) {
      connect_error = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex);
      transport = std::move(made);
    }
    changed.notify_all();
    if (connect_error) return;
    try {
      heartbeats.emplace(*transport, timeout, [this](int r) { return name(r); });
      while (one_round()) {
      }
    } catch (const std::exception& e) {
      fail(e.what());
    }
  }

  // One round of the thread's loop; false when there is nothing left to do.
  bool one_round() {
    bool leave_now = false;
    int abort_code = 0;
    {
      std::unique_lock lock(mutex);
      if (active.empty() && pending.empty() && !quit && !leaving && !aborting)
        changed.wait_for(lock, std::chrono::milliseconds(50));
      if (quit || failed) return false;
      leave_now = leaving && active.empty() && pending.empty();
      abort_code = aborting.value_or(0);
      while (active.size() < kInFlight && !pending.empty()) {
        active.splice(active.end(), pending, pending.begin());
        starting.push_back(&active.back());
      }
      n_active = active.size();
    }
    if (abort_code != 0) {
      fail("ended", abort_code);
      return false;
    }
    for (Job* job : starting) job->start(*job);
    starting.clear();
    const bool moved = test_jobs();
    if (leave_now) {
      if (!say_goodbye()) return true;
      if (failed) return false;
      transport->leave();
      const std::lock_guard lock(mutex);
      left = true;
      ended.notify_all();
      return false;
    }
    heartbeat();
    if (!moved && !active.empty()) nap();
    return true;
  }

  bool test_jobs() {
    bool moved = false;
    for (auto job = active.begin(); job != active.end();) {
      auto& open = job->open;
      const size_t before = open.size();
      std::erase_if(open, [this](auto& request) { return transport->test(&request); });
      arrived = arrived || open.size() < before;
      if (!open.empty()) {
        ++job;
        continue;
      }
      job->finish(*job);
      job = active.erase(job);
      moved = true;
    }
    if (moved) {
      const std::lock_guard lock(mutex);
      n_active = active.size();
      // Jobs start in their order, so the first ones of both lists have the lowest numbers.
      ended_through = (!active.empty()    ? active.front().number
                       : !pending.empty() ? pending.front().number
                                          : n_added + 1) -
                      1;
      ended.notify_all();
      rounds_in_vain = 0;
    }
    return moved;
  }

  // Messages move only while we poll, but the core belongs to the thread that computes.
  void nap() {
    bool hurry = false;
    {
      const std::lock_guard lock(mutex);
      hurry = waited_for;
    }
    ++rounds_in_vain;
    if (hurry && rounds_in_vain < 50) {
      ::sched_yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(hurry ? 20 : 100));
    }
  }

  void heartbeat() {
    if (!heartbeats->due()) return;
    Heartbeats::Caller caller;
    {
      const std::lock_guard lock(mutex);
      caller.waits = leaving || (waited_for && (!pending.empty() || n_active > 0));
    }
    caller.arrived = std::exchange(arrived, false);
    const int64_t step = activity_step;
    caller.activity = step > 0 ? fmt::format("{} {}", activity.load(), step) : activity.load();
    if (const std::string lost = heartbeats->round(caller); !lost.empty()) fail(lost);
  }

  // True when every partner has said goodbye too.
  bool say_goodbye() {
    bool all = false;
    if (const std::string lost = heartbeats->goodbye(&all); !lost.empty()) fail(lost);
    if (!all) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return all || failed;
  }

  void fail(const std::string& why, int exit_code = 1) {
    bool asked_for = false;
    {
      const std::lock_guard lock(mutex);
      if (failed) return;
      failure = why;
      failed = true;
      asked_for = aborting.has_value();
    }
    if (!asked_for) options.on_lost(why);
    ended.notify_all();
    transport->abort(exit_code);
  }

  std::string name(int r) {
    const std::lock_guard lock(mutex);
    const auto at = static_cast<size_t>(r);
    return at < hosts.size() ? fmt::format("rank {} ({})", r, hosts[at]) : fmt::format("rank {}", r);
  }

  Options options;
  std::unique_ptr<Transport> transport;
  std::exception_ptr connect_error;
  std::atomic<int64_t> sent = 0;
  std::atomic<bool> failed = false;
  std::atomic<double> timeout;
  std::atomic<const char*> activity = "starting";
  std::atomic<int64_t> activity_step = 0;

  std::mutex mutex;
  std::condition_variable changed, ended;
  std::list<Job> pending;
  std::vector<std::string> hosts;  // by rank
  size_t n_active = 0;
  int64_t n_added = 0, ended_through = 0;  // jobs with numbers up to this one have ended
  std::string failure;
  bool waited_for = false, quit = false, leaving = false, left = false;
  std::optional<int> aborting;

  std::list<Job> active;  // used only by the thread
  std::vector<Job*> starting;
  std::optional<Heartbeats> heartbeats;
  bool arrived = false;  // whether a message has ended since the last heartbeat
  int rounds_in_vain = 0;
  std::thread thread;
};

Comm::Comm() = default;

Comm::Comm(const TransportMaker& connect, Options options)
    : impl_(std::make_unique<Impl>(connect, std::move(options))) {
  rank_ = impl_->transport->rank();
  size_ = impl_->transport->size();
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  std::vector<std::string> hosts = all_texts(host);
  const std::lock_guard lock(impl_->mutex);
  impl_->hosts = std::move(hosts);
}

Comm::~Comm() = default;

std::string Comm::name(int r) const { return impl_ ? impl_->name(r) : "rank 0"; }

int Comm::threads_per_rank() {
  if (!impl_) return ThreadPool::default_size();
  const GroupLimits limits = read_group_limits();
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof set, &set);
  const std::string host = impl_->hosts[static_cast<size_t>(rank_)];
  std::string cores = host;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) cores += CPU_ISSET(cpu, &set) ? '1' : '0';
  const auto ranks_with = [this](const std::string& own) {  // to be called by all ranks
    const std::vector<std::string> all = all_texts(own);
    return std::count(all.begin(), all.end(), own);
  };
  const auto share_cores = static_cast<int>(ranks_with(cores));
  const auto share_quota = static_cast<double>(ranks_with(host + limits.cpu_group));
  const int threads = std::max(1, ThreadPool::affinity_size() / share_cores);
  return threads_within(threads, limits.cpus ? std::optional(*limits.cpus / share_quota) : std::nullopt);
}

std::vector<int> Comm::ranks_sharing_memory() {
  if (!impl_) return {0};
  const std::string own = impl_->hosts[static_cast<size_t>(rank_)] + read_group_limits().memory_group;
  const std::vector<std::string> all = all_texts(own);
  std::vector<int> out;
  for (int r = 0; r < size_; ++r) {
    if (all[static_cast<size_t>(r)] == own) out.push_back(r);
  }
  return out;
}

int64_t Comm::bytes_sent() const { return impl_ ? impl_->sent.load() : 0; }

int64_t Comm::start_reduce_scatter(std::span<float> data) {
  if (size_ == 1) return 0;
  const auto n = static_cast<int64_t>(data.size());
  const auto part = [this, n](int r) { return part_of({0, n}, r, size_); };
  Impl* impl = impl_.get();
  Impl::Job job;
  job.start = [this, impl, data, part](Impl::Job& j) {
    const Part own = part(rank_);
    j.received.resize(static_cast<size_t>(size_));
    // Each rank begins with its neighbour, so that no rank receives from all at once.
    for (int step = 1; step < size_; ++step) {
      const int from = (rank_ + size_ - step) % size_, to = (rank_ + step) % size_;
      auto& memory = j.received[static_cast<size_t>(from)];
      memory.resize(static_cast<size_t>(own.n));
      impl->receive(j, memory.data(), own.n * 4, from);
      impl->send(j, data.data() + part(to).begin, part(to).n * 4, to);
    }
  };
  job.finish = [this, data, part](Impl::Job& j) {
    const Part own = part(rank_);
    std::vector<const float*> sources;
    sources.reserve(static_cast<size_t>(size_));
    for (int r = 0; r < size_; ++r) {
      sources.push_back(r == rank_ ? data.data() + own.begin : j.received[static_cast<size_t>(r)].data());
    }
    add_in_order(sources, own.n, data.data() + own.begin);
  };
  return impl_->add(std::move(job));
}

int64_t Comm::start_all_gather(std::span<float> data) {
  if (size_ == 1) return 0;
  Impl* impl = impl_.get();
  Impl::Job job;
  job.start = [this, impl, data](Impl::Job& j) {
    const auto part = [&](int r) { return part_of({0, static_cast<int64_t>(data.size())}, r, size_); };
    for (int step = 1; step < size_; ++step) {
      const int from = (rank_ + size_ - step) % size_, to = (rank_ + step) % size_;
      impl->receive(j, data.data() + part(from).begin, part(from).n * 4, from);
      impl->send(j, data.data() + part(rank_).begin, part(rank_).n * 4, to);
    }
  };
  return impl_->add(std::move(job));
}

void Comm::wait() {
  if (size_ > 1) wait_until(impl_->n_added);  // (only this thread adds)
}

void Comm::wait_until(int64_t operation) {
  if (size_ == 1) return;
  const auto start = Clock::now();
  impl_->wait(operation);
  seconds_waited_ += seconds_since(start);
}

void Comm::sum(std::span<double> values) {
  if (size_ == 1) return;
  const size_t n = values.size();
  std::vector<double> all(n * static_cast<size_t>(size_));
  std::copy(values.begin(), values.end(), all.begin() + static_cast<std::ptrdiff_t>(n) * rank_);
  Impl* impl = impl_.get();
  Impl::Job job;
  job.start = [this, impl, n, &all](Impl::Job& j) {
    const auto bytes = static_cast<int64_t>(n * sizeof(double));
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      impl->receive(j, all.data() + n * static_cast<size_t>(r), bytes, r);
      impl->send(j, all.data() + n * static_cast<size_t>(rank_), bytes, r);
    }
  };
  impl_->add(std::move(job));
  wait();
  for (size_t i = 0; i < n; ++i) {
    values[i] = 0;
    for (size_t r = 0; r < static_cast<size_t>(size_); ++r) values[i] += all[r * n + i];
  }
}

bool Comm::any(bool value) {
  double count = value ? 1 : 0;
  sum({&count, 1});
  return count > 0;
}

std::vector<std::string> Comm::all_texts(const std::string& own) {
  std::vector<std::string> texts(static_cast<size_t>(size_));
  texts[static_cast<size_t>(rank_)] = own;
  if (size_ == 1) return texts;
  Impl* impl = impl_.get();
  std::vector<int64_t> sizes(texts.size());
  sizes[static_cast<size_t>(rank_)] = static_cast<int64_t>(own.size());
  const auto exchange = [&](const std::function<std::span<char>(int)>& bytes_of) {
    Impl::Job job;
    job.start = [&](Impl::Job& j) {
      for (int r = 0; r < size_; ++r) {
        if (r == rank_) continue;
        impl->receive(j, bytes_of(r).data(), static_cast<int64_t>(bytes_of(r).size()), r);
        impl->send(j, bytes_of(rank_).data(), static_cast<int64_t>(bytes_of(rank_).size()), r);
      }
    };
    impl->add(std::move(job));
    wait();
  };
  exchange([&](int r) {
    return std::span<char>(reinterpret_cast<char*>(&sizes[static_cast<size_t>(r)]), sizeof(int64_t));
  });
  for (size_t r = 0; r < texts.size(); ++r) texts[r].resize(static_cast<size_t>(sizes[r]));
  exchange([&](int r) { return std::span<char>(texts[static_cast<size_t>(r)]); });
  return texts;
}

std::string Comm::broadcast(const std::string& text) { return all_texts(is_root() ? text : "")[0]; }

void Comm::broadcast(std::span<float> data) {
  if (size_ == 1) return;
  constexpr size_t kPiece = size_t{1} << 22;
  for (size_t begin = 0; begin < data.size(); begin += kPiece) {
    const auto piece = data.subspan(begin, std::min(kPiece, data.size() - begin));
    const auto n = static_cast<int64_t>(piece.size());
    scatter(n, is_root() ? piece.data() : nullptr, piece.data() + part_of({0, n}, rank_, size_).begin);
    start_all_gather(piece);
    wait();
  }
}

void Comm::gather(int64_t n, const float* part, float* whole) {
  const Part own = part_of({0, n}, rank_, size_);
  if (is_root()) std::copy_n(part, own.n, whole);
  if (size_ == 1) return;
  Impl* impl = impl_.get();
  Impl::Job job;
  job.start = [=, this](Impl::Job& j) {
    if (rank_ > 0) return impl->send(j, part, own.n * 4, 0);
    for (int r = 1; r < size_; ++r) {
      const Part p = part_of({0, n}, r, size_);
      impl->receive(j, whole + p.begin, p.n * 4, r);
    }
  };
  impl_->add(std::move(job));
  wait();
}

void Comm::scatter(int64_t n, const float* whole, float* part) {
  const Part own = part_of({0, n}, rank_, size_);
  if (is_root()) std::memmove(part, whole, static_cast<size_t>(own.n) * 4);
  if (size_ == 1) return;
  Impl* impl = impl_.get();
  Impl::Job job;
  job.start = [=, this](Impl::Job& j) {
    if (rank_ > 0) return impl->receive(j, part, own.n * 4, 0);
    for (int r = 1; r < size_; ++r) {
      const Part p = part_of({0, n}, r, size_);
      impl->send(j, whole + p.begin, p.n * 4, r);
    }
  };
  impl_->add(std::move(job));
  wait();
}

void Comm::run_or_fail_together(const std::function<void()>& work) {
  if (size_ == 1) return work();
  std::string failure;
  try {
    work();
  } catch (const Error& e) {
    failure = e.marked_text();
  } catch (const std::exception& e) {
    failure = *e.what() != '\0' ? e.what() : "failed";
  }
  const std::vector<std::string> all = all_texts(failure);
  for (int r = 0; r < size_; ++r) {
    const std::string& text = all[static_cast<size_t>(r)];
    if (text.empty()) continue;
    throw SharedFailure(r == 0 ? text : name(r) + ": " + text);
  }
}

void Comm::set_timeout(double seconds) {
  sign_of_life();  // the time before was under another limit
  if (impl_) impl_->timeout = seconds;
}

void Comm::set_activity(const char* what, int64_t step) {
  if (!impl_) return;
  sign_of_life();
  impl_->activity_step = step;
  impl_->activity = what;
}

void Comm::leave() {
  if (!impl_) return;
  std::unique_lock lock(impl_->mutex);
  impl_->leaving = true;
  impl_->changed.notify_all();
  impl_->ended.wait(lock, [this] { return impl_->left || impl_->failed; });
}

void Comm::abort(int exit_code) {
  if (!impl_) return;
  std::unique_lock lock(impl_->mutex);
  impl_->aborting = exit_code;
  impl_->changed.notify_all();
  impl_->ended.wait_for(lock, std::chrono::seconds(5), [this] { return impl_->failed.load(); });
}

}  // namespace sepllm
