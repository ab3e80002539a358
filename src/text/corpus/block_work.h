// Processes all blocks of a reader on several threads, with results in the order of the input.
#pragma once

#include "base/function_ref.h"
#include "base/thread_pool.h"
#include "text/corpus/document_reader.h"

namespace sepllm {

// The number of blocks that are in work at a time, which is also the number of slots for their results.
int block_slots(const ThreadPool& pool);

// Calls work(block, slot, worker) for each block, with worker in [0, pool.size()), while the next blocks are
// read; then take(slot) in the order of the input, on the calling thread. If take returns false, the work
// ends and for_each_block returns false. Of several errors, the one that comes first in the input is thrown,
// whatever the threads do, after everything before it was taken.
bool for_each_block(DocumentReader& reader, ThreadPool& pool,
                    FunctionRef<void(const TextBlock& block, int slot, int worker)> work,
                    FunctionRef<bool(int slot)> take);

}  // namespace sepllm
