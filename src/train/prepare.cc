#include "train/prepare.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "text/corpus/block_work.h"

namespace sepllm {
namespace {

// The result of one block.
struct Tokens {
  std::vector<int32_t> ids;
  std::vector<size_t> ends;  // the ends of documents, in `ids`
  PrepareReport counts;
};

class BlockTokenizer {
 public:
  BlockTokenizer(const Tokenizer& tokenizer, const TokenSet& separators, const PrepareOptions& options)
      : tokenizer_(tokenizer), separators_(separators), options_(options) {}

  void run(const TextBlock& block, const DocumentOptions& documents, Tokens* out) const {
    out->ids.clear();
    out->ends.clear();
    out->counts = {};
    out->counts.lines =
        for_each_document(block, documents, [&](const DocumentPart& part) { add(part, out); });
    out->counts.tokens = static_cast<int64_t>(out->ids.size());
    out->counts.separators =
        std::count_if(out->ids.begin(), out->ids.end(), [&](int32_t id) { return separators_.contains(id); });
  }

 private:
  void add(const DocumentPart& part, Tokens* out) const {
    if (part.begins && part.ends && part.text.empty()) {
      ++out->counts.empty;
      return;
    }
    if (part.begins && options_.bos) out->ids.push_back(*options_.bos);
    const auto ids =
        tokenizer_.encode(part.text, {.parse_special = options_.parse_special, .continues = !part.begins});
    out->ids.insert(out->ids.end(), ids.begin(), ids.end());
    out->counts.text_bytes += static_cast<int64_t>(part.text.size());
    if (!part.ends) return;
    if (options_.eod) out->ids.push_back(*options_.eod);
    out->ends.push_back(out->ids.size());
  }

  const Tokenizer& tokenizer_;
  const TokenSet& separators_;
  const PrepareOptions& options_;
};

}  // namespace

PrepareReport prepare_tokens(DocumentReader& reader, const Tokenizer& tokenizer, const TokenSet& separators,
                             const PrepareOptions& options, TokenFileWriter& writer, ThreadPool& pool,
                             FunctionRef<bool(const PrepareReport& so_far)> go_on) {
  const BlockTokenizer block_tokenizer(tokenizer, separators, options);
  std::vector<Tokens> slots(static_cast<size_t>(block_slots(pool)));
  PrepareReport report;
  const auto work = [&](const TextBlock& block, int slot, int /*worker*/) {
    block_tokenizer.run(block, reader.options(), &slots[static_cast<size_t>(slot)]);
  };
  const auto take = [&](int slot) {
    const Tokens& tokens = slots[static_cast<size_t>(slot)];
    const std::span<const int32_t> ids(tokens.ids);
    size_t begin = 0;
    for (const size_t end : tokens.ends) {
      writer.add(ids.subspan(begin, end - begin));
      writer.end_document();
      begin = end;
    }
    writer.add(ids.subspan(begin));  // the beginning of a document that continues in the next block
    report.empty += tokens.counts.empty;
    report.text_bytes += tokens.counts.text_bytes;
    report.tokens += tokens.counts.tokens;
    report.separators += tokens.counts.separators;
    report.lines.add(tokens.counts.lines);
    report.documents = writer.n_documents();
    return go_on(report);
  };
  if (!for_each_block(reader, pool, work, take)) {
    throw Error(ErrorCode::kInvalidArgument, "interrupted: nothing was written");
  }
  return report;
}

}  // namespace sepllm
