#include "server/work_queue.h"

#include <deque>
#include <functional>
#include <mutex>
#include <utility>

namespace sepllm::server {

void WorkQueue::post(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  if (stopped_) return;
  waiting_.push_back(std::move(work));
  changed_.notify_one();
}

void WorkQueue::stop() {
  std::deque<std::function<void()>> dropped;  // destroyed without the lock
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    dropped.swap(waiting_);
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void WorkQueue::run() {
  while (true) {
    std::function<void()> work;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopped_ || !waiting_.empty(); });
      if (stopped_) return;
      work = std::move(waiting_.front());
      waiting_.pop_front();
    }
    work();
  }
}

}  // namespace sepllm::server
