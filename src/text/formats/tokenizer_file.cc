#include "text/formats/tokenizer_file.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace sepllm {
namespace {

constexpr size_t kMaxKeys = 10'000;  // in an object that is not a vocabulary

// Builds the document from the parser's events. It knows where the parser is by the depth of open values: the
// document is at depth 1, "model" at 2, its vocabulary at 3.
class Handler : public JsonEvents {
 public:
  Handler(TokenizerFile& out, const std::string& file, bool only_vocab)
      : out_(out), file_(file), mode_(Mode::kDocument), only_vocab_(only_vocab) {}

  bool null() override { return value(nullptr, "null"); }
  bool boolean(bool v) override { return value(v, "a boolean"); }
  bool number_float(double v, const std::string& text) override { return value(v, text); }
  bool string(std::string& v) override {
    return mode_ == Mode::kMerges ? merge_part(v) : value(v, "a string");
  }
  bool binary(Json::binary_t&) override { return false; }
  bool number_integer(int64_t v) override {
    if (mode_ == Mode::kVocab) return vocab_entry(v);
    return value(v, "a number");
  }
  bool number_unsigned(uint64_t v) override {
    if (mode_ == Mode::kVocab) return vocab_entry(v > INT64_MAX ? -1 : static_cast<int64_t>(v));
    return value(v, "a number");
  }

  bool start_object(size_t) override {
    if (mode_ != Mode::kDocument) wrong("an object");
    if ((only_vocab_ && open_.empty()) || (!only_vocab_ && at_model() && key_ == "vocab")) {
      mode_ = Mode::kVocab;
      out_.has_vocab = true;
      return true;
    }
    open(Json::object());
    return true;
  }

  bool end_object() override {
    if (mode_ == Mode::kVocab) {
      mode_ = Mode::kDocument;
    } else {
      close();
    }
    return true;
  }

  bool start_array(size_t) override {
    if (mode_ == Mode::kMerges && !in_pair_) {
      in_pair_ = true;
      return true;
    }
    if (mode_ != Mode::kDocument) wrong("a list");
    if (!only_vocab_ && at_model() && key_ == "merges") {
      mode_ = Mode::kMerges;
      out_.has_merges = true;
      return true;
    }
    open(Json::array());
    return true;
  }

  bool end_array() override {
    if (in_pair_) {
      if (parts_.size() != 2) bad_merge();
      out_.merges.emplace_back(std::move(parts_[0]), std::move(parts_[1]));
      parts_.clear();
      in_pair_ = false;
    } else if (mode_ == Mode::kMerges) {
      mode_ = Mode::kDocument;
    } else {
      close();
    }
    return true;
  }

  bool key(std::string& name) override {
    key_ = name;
    if (mode_ == Mode::kVocab) return true;
    const bool listed_before =
        at_model() && ((name == "vocab" && out_.has_vocab) || (name == "merges" && out_.has_merges));
    if (listed_before || open_.back()->contains(name)) {
      throw Error(ErrorCode::kBadFile, "duplicate key in JSON", {.file = file_, .place = name});
    }
    if (open_.back()->size() >= kMaxKeys) {
      throw Error(ErrorCode::kBadFile, "too many keys in one JSON object", {.file = file_, .place = name});
    }
    return true;
  }

  bool parse_error(size_t, const std::string&, const Json::exception&) override { return false; }

 private:
  enum class Mode { kDocument, kVocab, kMerges };

  // Whether the innermost open value is the document's "model".
  bool at_model() const { return open_.size() == 2 && model_ != nullptr && open_.back() == model_; }

  [[noreturn]] void wrong(const std::string& got) const {
    if (mode_ == Mode::kMerges) bad_merge();
    throw Error(ErrorCode::kBadFile, "wrong value",
                {.file = file_,
                 .place = only_vocab_ ? key_ : "model.vocab." + key_,
                 .expected = "a token id",
                 .got = got});
  }

  [[noreturn]] void bad_merge() const {
    throw Error(ErrorCode::kBadFile, "wrong value",
                {.file = file_,
                 .place = fmt::format("model.merges[{}]", out_.merges.size()),
                 .expected = "\"left right\" or [\"left\", \"right\"]"});
  }

  bool vocab_entry(int64_t id) {
    out_.vocab.emplace_back(std::move(key_), id);
    key_.clear();
    return true;
  }

  bool merge_part(std::string& text) {
    if (in_pair_) {
      if (text.empty() || parts_.size() == 2) bad_merge();
      parts_.push_back(std::move(text));
    } else {
      out_.merges.push_back(parse_merge(text, file_, fmt::format("model.merges[{}]", out_.merges.size())));
    }
    return true;
  }

  template <typename T>
  bool value(T&& v, const std::string& kind) {
    if (mode_ != Mode::kDocument || only_vocab_) wrong(kind);
    place(Json(std::forward<T>(v)));
    return true;
  }

  // Pointers to open values stay valid: a value gets no further siblings while it is open.
  void open(Json&& v) {
    if (only_vocab_) wrong("a list");
    const bool is_model = open_.size() == 1 && open_[0]->is_object() && key_ == "model";
    open_.push_back(place(std::move(v)));
    if (is_model) model_ = open_.back();
  }

  void close() {
    if (open_.back() == model_) model_ = nullptr;
    open_.pop_back();
  }

  Json* place(Json&& v) {
    if (open_.empty()) {
      out_.document = std::move(v);
      return &out_.document;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    return &(parent[key_] = std::move(v));
  }

  TokenizerFile& out_;
  const std::string& file_;
  Mode mode_;
  bool only_vocab_;
  bool in_pair_ = false;
  std::vector<std::string> parts_;
  std::string key_;
  std::vector<Json*> open_;
  const Json* model_ = nullptr;
};

TokenizerFile parse(std::string_view bytes, const std::string& file, bool only_vocab) {
  TokenizerFile out;
  Handler handler(out, file, only_vocab);
  parse_json_events(bytes, file, {}, &handler);
  return out;
}

}  // namespace

TokenizerFile parse_tokenizer_file(std::string_view bytes, const std::string& file) {
  return parse(bytes, file, false);
}

std::vector<VocabEntry> parse_vocab_file(std::string_view bytes, const std::string& file) {
  return parse(bytes, file, true).vocab;
}

MergePair parse_merge(std::string_view line, const std::string& file, const std::string& place) {
  const size_t blank = line.find(' ');
  const bool two_parts = blank != std::string_view::npos && blank > 0 && blank + 1 < line.size() &&
                         line.find(' ', blank + 1) == std::string_view::npos;
  if (!two_parts) {
    throw Error(ErrorCode::kBadFile, "wrong merge",
                {.file = file,
                 .place = place,
                 .expected = "two pieces with a blank between",
                 .got = "\"" + std::string(line) + "\""});
  }
  return {std::string(line.substr(0, blank)), std::string(line.substr(blank + 1))};
}

}  // namespace sepllm
