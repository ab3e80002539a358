// A heartbeat of this process's work. The work gives signs often (for each task of a loop, for each piece of
// a file), and a watchdog asks whether there has been one. A sign costs two reads of shared memory.
#pragma once

#include <atomic>
#include <cstdint>

namespace sepllm {

namespace life {
inline std::atomic<uint32_t> asked{1}, answered{0};
}  // namespace life

inline void sign_of_life() {
  const uint32_t question = life::asked.load(std::memory_order_relaxed);
  if (life::answered.load(std::memory_order_relaxed) != question)
    life::answered.store(question, std::memory_order_relaxed);
}

// There may be any number of watchers; each is used by one thread.
class LifeWatcher {
 public:
  // Whether there has been a sign since the last call.
  bool moved() {
    const bool answered = static_cast<int32_t>(life::answered.load(std::memory_order_relaxed) - mine_) >= 0;
    mine_ = life::asked.fetch_add(1, std::memory_order_relaxed) + 1;
    return answered;
  }

 private:
  uint32_t mine_ = life::asked.fetch_add(1, std::memory_order_relaxed) + 1;
};

}  // namespace sepllm
