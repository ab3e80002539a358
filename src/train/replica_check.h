// Checks that all ranks of a run have the same data and tokenizer, because each reads them from its own disk.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "text/tokenizer.h"
#include "train/comm.h"

namespace sepllm {

// What must be equal: a name in words, and a hash or another short text.
using ReplicaFacts = std::vector<std::pair<std::string, std::string>>;

// Call on all ranks. Throws SharedFailure that names the first rank and fact that differ from rank 0's.
void check_replicas(Comm& comm, const ReplicaFacts& own);

std::string tokenizer_hash(const Tokenizer& tokenizer);

}  // namespace sepllm
