#include "text/corpus/block_work.h"

#include <cstddef>
#include <cstdint>
#include <exception>
#include <utility>
#include <vector>

namespace sepllm {
namespace {

// Enough that threads seldom wait for the slowest one.
constexpr int kBlocksPerThread = 8;

struct Batch {
  std::vector<TextBlock> blocks;
  std::exception_ptr error;  // of a later block

  void read(DocumentReader& reader, int n) {
    blocks.clear();
    try {
      for (TextBlock block; static_cast<int>(blocks.size()) < n && reader.next(&block);) {
        blocks.push_back(std::move(block));
      }
    } catch (...) {
      error = std::current_exception();
    }
  }
};

}  // namespace

int block_slots(const ThreadPool& pool) { return kBlocksPerThread * pool.size(); }

bool for_each_block(DocumentReader& reader, ThreadPool& pool,
                    FunctionRef<void(const TextBlock& block, int slot, int worker)> work,
                    FunctionRef<bool(int slot)> take) {
  const int n_slots = block_slots(pool);
  std::vector<std::exception_ptr> errors(static_cast<size_t>(n_slots));
  Batch now, next;
  now.read(reader, n_slots);
  for (;;) {
    const auto n = static_cast<int64_t>(now.blocks.size());
    const bool read_on = n > 0 && !now.error;
    next.blocks.clear();
    pool.parallel_for(n + (read_on ? 1 : 0), [&](int64_t task, int worker) {
      if (read_on && task-- == 0) return next.read(reader, n_slots);
      const auto slot = static_cast<size_t>(task);
      errors[slot] = nullptr;
      try {
        work(now.blocks[slot], static_cast<int>(slot), worker);
      } catch (...) {
        errors[slot] = std::current_exception();
      }
    });
    for (int64_t slot = 0; slot < n; ++slot) {
      if (errors[static_cast<size_t>(slot)]) std::rethrow_exception(errors[static_cast<size_t>(slot)]);
      if (!take(static_cast<int>(slot))) return false;
    }
    if (now.error) std::rethrow_exception(now.error);
    if (n == 0) return true;
    std::swap(now, next);
  }
}

}  // namespace sepllm
