// A tokenizer for tests: a list of texts, matched greedily (longest first); specials are found as strings.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "text/tokenizer.h"

namespace sepllm::test {

class FakeTokenizer : public Tokenizer {
 public:
  explicit FakeTokenizer(std::vector<std::string> texts)
      : texts_(std::move(texts)), special_(texts_.size(), false) {}

  void set_text(int32_t id, const std::string& text) { texts_[static_cast<size_t>(id)] = text; }
  void make_special(int32_t id) { special_[static_cast<size_t>(id)] = true; }
  void set_bos(int32_t id, bool adds_bos) {
    make_special(id);
    bos_ = id;
    adds_bos_ = adds_bos;
  }
  void set_eos(int32_t id) {
    make_special(id);
    eos_ = id;
  }

  // A character that no token begins is a failed check: tests give all that they use.
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const override {
    const std::string_view whole = text;
    const auto is_in_place = [&](const std::string& token) {
      const auto at = static_cast<size_t>(text.data() - whole.data());
      if (options.special_within == nullptr) return true;
      for (const TextRange& range : *options.special_within) {
        if (range.begin <= at && at + token.size() <= range.end) return true;
      }
      return false;
    };
    std::vector<int32_t> ids;
    if (options.add_special && adds_bos_) ids.push_back(*bos_);
    while (!text.empty()) {
      int32_t best = -1;
      for (int32_t id = 0; id < vocab_size(); ++id) {
        if (is_special(id) && !options.parse_special) continue;
        const std::string& token = texts_[static_cast<size_t>(id)];
        if (token.empty() || !text.starts_with(token)) continue;
        if (is_special(id) && !is_in_place(token)) continue;
        if (best < 0 || token.size() > texts_[static_cast<size_t>(best)].size()) best = id;
      }
      SEPLLM_CHECK(best >= 0);
      ids.push_back(best);
      text.remove_prefix(texts_[static_cast<size_t>(best)].size());
    }
    return ids;
  }
  std::string token_bytes(int32_t id) const override {
    return id >= 0 && id < vocab_size() ? texts_[static_cast<size_t>(id)] : "";
  }
  std::string piece(int32_t id) const override { return token_bytes(id); }
  std::string decode(const std::vector<int32_t>& ids, bool skip_special = false) const override {
    std::string out;
    for (const int32_t id : ids) {
      if (!skip_special || !is_special(id)) out += token_bytes(id);
    }
    return out;
  }
  int64_t vocab_size() const override { return static_cast<int64_t>(texts_.size()); }
  bool is_special(int32_t id) const override {
    return id >= 0 && id < vocab_size() && special_[static_cast<size_t>(id)];
  }
  std::optional<int32_t> find(std::string_view piece) const override {
    for (int32_t id = 0; id < vocab_size(); ++id) {
      if (texts_[static_cast<size_t>(id)] == piece) return id;
    }
    return std::nullopt;
  }
  std::optional<int32_t> bos_id() const override { return bos_; }
  std::optional<int32_t> eos_id() const override { return eos_; }
  bool adds_bos() const override { return adds_bos_; }
  std::string format() const override { return "fake"; }

 private:
  std::vector<std::string> texts_;
  std::vector<bool> special_;
  std::optional<int32_t> bos_, eos_;
  bool adds_bos_ = false;
};

}  // namespace sepllm::test
