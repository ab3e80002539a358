#include "train/data_facts.h"

#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace sepllm {

std::string hash_of_pieces(const Tokenizer& tokenizer, int64_t n) {
  Hash64 hash;
  for (int64_t id = 0; id < n; ++id) {
    const std::string piece = tokenizer.piece(static_cast<int32_t>(id));
    const auto size = static_cast<uint64_t>(piece.size());
    hash.add(&size, sizeof size);
    hash.add(piece.data(), piece.size());
  }
  return hex64(hash.value());
}

std::string data_facts_path(const std::string& prefix) { return prefix + ".meta.json"; }

std::string data_facts(const Tokenizer& tokenizer, int64_t documents, int64_t tokens) {
  const int64_t n = tokenizer.vocab_size();
  const Json facts = {
      {"documents", documents},
      {"tokens", tokens},
      {"tokenizer",
       {{"format", tokenizer.format()}, {"vocab_size", n}, {"pieces", hash_of_pieces(tokenizer, n)}}}};
  return json_text(facts, 1) + "\n";
}

void check_prepared_with(const TokenFile& file, const Tokenizer& tokenizer) {
  const std::string path = data_facts_path(file.prefix());
  if (!is_regular_file(path)) return;
  const Json json = parse_json(read_file(path, uint64_t{1} << 20), path);
  const JsonObject facts(json, path);
  const int64_t documents = facts.integer("documents", 0, INT64_MAX);
  const int64_t tokens = facts.integer("tokens", 0, INT64_MAX);
  if (documents != file.n_documents() || tokens != file.n_tokens()) return;
  const JsonObject theirs = facts.object("tokenizer");
  const int64_t n = theirs.integer("vocab_size", 1, INT32_MAX);
  if (n <= tokenizer.vocab_size() && theirs.string("pieces") == hash_of_pieces(tokenizer, n)) return;
  throw Error(ErrorCode::kInvalidArgument, "the data was prepared with another tokenizer",
              {.file = file.prefix(),
               .expected = fmt::format("the one of {}, of {} tokens", path, n),
               .got = fmt::format("{}, of {} tokens", tokenizer.format(), tokenizer.vocab_size()),
               .hint = "prepare the text again, or give the tokenizer that it was prepared with"});
}

}  // namespace sepllm
