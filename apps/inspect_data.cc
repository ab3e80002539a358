// sepllm inspect data: describes the content of a token file.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "base/utf8.h"
#include "text/separators.h"
#include "train/token_file.h"

namespace sepllm {
namespace {

constexpr int64_t kScanned = int64_t{1} << 26;  // number of tokens whose ids are checked
constexpr int64_t kAtOnce = int64_t{1} << 16;
constexpr int64_t kShownTokens = 64;  // per document

// Lengths of documents, in tokens.
struct Lengths {
  int64_t shortest = 0, median = 0, longest = 0;

  explicit Lengths(const TokenFile& file) {
    std::vector<int64_t> all(static_cast<size_t>(file.n_documents()));
    if (all.empty()) return;
    for (int64_t d = 0; d < file.n_documents(); ++d) {
      all[static_cast<size_t>(d)] = file.document_begin(d + 1) - file.document_begin(d);
    }
    const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
    std::nth_element(all.begin(), middle, all.end());
    median = *middle;
    const auto [low, high] = std::minmax_element(all.begin(), all.end());
    shortest = *low;
    longest = *high;
  }
};

class InspectDataCommand : public Command {
 public:
  InspectDataCommand() {
    own_.add_string("data", &prefix_, "the token file: PREFIX of PREFIX.bin and PREFIX.idx", "PREFIX");
    own_.add_string("tokenizer", &tokenizer_, "show text and count separators with this tokenizer", "PATH");
    own_.add_int("documents", &documents_, 0, 1000, "number of documents whose beginnings are shown");
    own_.add_string("separators", &separators_,
                    "which tokens are separators: text, paper, strings:S or ids:1,2,3", "RULE");
    own_.add_flag("json", &json_, "print exactly one JSON value on standard output");
  }
  std::string name() const override { return "inspect data"; }
  std::string summary() const override { return "Show what a token file for training contains"; }
  std::string usage() const override { return "PREFIX [--tokenizer T] [--documents N] [--json]"; }
  std::string positional() const override { return "data"; }
  std::vector<OptionGroup> groups() override { return {{"Options", &own_}}; }

  int run() override {
    if (prefix_.empty()) throw Error(ErrorCode::kInvalidArgument, "no data given", {.expected = "PREFIX"});
    for (const char* ending : {".bin", ".idx"}) {
      if (prefix_.ends_with(ending)) prefix_.resize(prefix_.size() - 4);
    }
    const TokenFile file(prefix_);
    const auto tokenizer = tokenizer_.empty() ? nullptr : load_tokenizer(tokenizer_);
    const Json facts = facts_of(file, tokenizer.get());
    if (json_) {
      print_json(facts);
    } else {
      print(table(facts));
    }
    return 0;
  }

 private:
  Json facts_of(const TokenFile& file, const Tokenizer* tokenizer) const {
    const Lengths lengths(file);
    Json facts = {{"data", prefix_},
                  {"documents", file.n_documents()},
                  {"tokens", file.n_tokens()},
                  {"token_bytes", token_bytes(file.type())},
                  {"bin_bytes", file.n_tokens() * token_bytes(file.type())},
                  {"shortest", lengths.shortest},
                  {"median", lengths.median},
                  {"longest", lengths.longest}};
    scan(file, tokenizer, &facts);
    Json shown = Json::array();
    for (int64_t d = 0; d < std::min(documents_, file.n_documents()); ++d) {
      shown.push_back(beginning(file, d, tokenizer));
    }
    facts["beginnings"] = shown;
    return facts;
  }

  // Finds the largest id and the separators among the first tokens.
  void scan(const TokenFile& file, const Tokenizer* tokenizer, Json* facts) const {
    const int64_t n = std::min(file.n_tokens(), kScanned);
    const int64_t vocab_size = tokenizer != nullptr ? tokenizer->vocab_size() : INT32_MAX;
    const TokenSet separators =
        tokenizer != nullptr ? make_separators(*tokenizer, separators_, vocab_size, false) : TokenSet();
    std::vector<int32_t> ids(static_cast<size_t>(kAtOnce));
    int64_t n_separators = 0;
    int32_t largest = -1;
    for (int64_t at = 0; at < n; at += kAtOnce) {
      const std::span<int32_t> some(ids.data(), static_cast<size_t>(std::min(kAtOnce, n - at)));
      file.read(at, some, vocab_size);
      for (const int32_t id : some) {
        largest = std::max(largest, id);
        n_separators += separators.contains(id) ? 1 : 0;
      }
    }
    (*facts)["scanned"] = n;
    (*facts)["largest_id"] = largest;
    if (tokenizer == nullptr || n == 0) return;
    (*facts)["separator_share"] = static_cast<double>(n_separators) / static_cast<double>(n);
  }

  static Json beginning(const TokenFile& file, int64_t document, const Tokenizer* tokenizer) {
    const int64_t first = file.document_begin(document);
    const int64_t n = file.document_begin(document + 1) - first;
    std::vector<int32_t> ids(static_cast<size_t>(std::min(n, kShownTokens)));
    file.read(first, ids, tokenizer != nullptr ? tokenizer->vocab_size() : INT32_MAX);
    Json out = {{"document", document}, {"tokens", n}, {"ids", ids}};
    if (tokenizer != nullptr) out["text"] = utf8_sanitize(tokenizer->decode(ids));
    return out;
  }

  static std::string table(const Json& facts) {
    const auto number = [&](const char* key) { return facts.at(key).get<int64_t>(); };
    std::string out;
    const auto line = [&](const char* label, const std::string& text) {
      out += fmt::format("  {:<16}{}\n", label, text);
    };
    const int64_t tokens = number("tokens"), documents = number("documents"), scanned = number("scanned");
    out += facts.at("data").get<std::string>() + "\n";
    line("documents", std::to_string(documents));
    line("tokens",
         fmt::format("{} of {} bytes, {}", tokens, number("token_bytes"), human_bytes(number("bin_bytes"))));
    line("lengths",
         fmt::format("{} to {}, median {}, mean {:.1f}", number("shortest"), number("longest"),
                     number("median"),
                     static_cast<double>(tokens) / static_cast<double>(std::max<int64_t>(documents, 1))));
    const std::string part = scanned < tokens ? fmt::format(" (of the first {} tokens)", scanned) : "";
    line("largest id", std::to_string(number("largest_id")) + part);
    if (facts.contains("separator_share")) {
      line("separators", fmt::format("{:.1f} %{}", 100 * facts.at("separator_share").get<double>(), part));
    }
    for (const Json& d : facts.at("beginnings")) {
      const bool whole = d.at("tokens").get<size_t>() == d.at("ids").size();
      const Json& shown = d.contains("text") ? d.at("text") : d.at("ids");
      out += fmt::format("  document {}, {} tokens: {}{}\n", d.at("document").get<int64_t>(),
                         d.at("tokens").get<int64_t>(), json_text(shown), whole ? "" : " ...");
    }
    return out;
  }

  OptionSet own_;
  std::string prefix_, tokenizer_, separators_ = "text";
  int64_t documents_ = 3;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_inspect_data_command() { return std::make_unique<InspectDataCommand>(); }

}  // namespace sepllm
