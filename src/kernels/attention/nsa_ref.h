// The parts of NSA's reference that tests use by themselves.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention/nsa.h"

namespace sepllm {

// A document of a sequence: positions [0, n) are rows [first_row, first_row + n).
struct NsaDocument {
  int64_t first_row = 0;
  int64_t n_rows = 0;
};
std::vector<NsaDocument> nsa_documents(const NsaSequence& sequence);

// [rows of the document][complete blocks of the document], in double: the scores by which a kv head chooses.
// 0 where a block is not complete for a query.
std::vector<double> nsa_scores_reference(const NsaArgs& args, const NsaDocument& document, int64_t kv_head);

// nsa_attention_reference without the choice: args.selection is read.
void nsa_branches_reference(const Context& ctx, const NsaArgs& args);

}  // namespace sepllm
