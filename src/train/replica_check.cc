#include "train/replica_check.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "train/data_facts.h"

namespace sepllm {

void check_replicas(Comm& comm, const ReplicaFacts& own) {
  if (comm.size() == 1) return;
  Json list = Json::array();
  for (const auto& [what, text] : own) list.push_back({what, text});
  const std::vector<std::string> all = comm.all_texts(json_text(list));
  const Json first = parse_json(all[0], comm.name(0));
  for (size_t r = 1; r < all.size(); ++r) {
    const Json other = parse_json(all[r], comm.name(static_cast<int>(r)));
    for (size_t i = 0; i < first.size() && i < other.size(); ++i) {
      if (first[i] == other[i]) continue;
      throw SharedFailure(fmt::format("{}: {} differs from that of rank 0 (expected {}, got {})",
                                      comm.name(static_cast<int>(r)), other[i][0].get<std::string>(),
                                      first[i][1].get<std::string>(), other[i][1].get<std::string>()));
    }
  }
}

std::string tokenizer_hash(const Tokenizer& tokenizer) {
  const int64_t n = tokenizer.vocab_size();
  return fmt::format("{} tokens, {}", n, hash_of_pieces(tokenizer, n));
}

}  // namespace sepllm
