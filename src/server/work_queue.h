// Work that would take too long in the thread of the connections, such as tokenising a long prompt.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace sepllm::server {

// One thread, which runs what is given to it in order.
class WorkQueue {
 public:
  WorkQueue() : thread_([this] { run(); }) {}
  ~WorkQueue() { stop(); }
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  // `work` must not throw. After stop() it is dropped.
  void post(std::function<void()> work);
  // Drops what waits, and waits for what runs. May be called twice.
  void stop();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  bool stopped_ = false;
  std::thread thread_;  // declared last: it uses the others
};

}  // namespace sepllm::server
