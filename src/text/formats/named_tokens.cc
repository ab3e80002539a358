#include "text/formats/named_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "text/bpe/piece_table.h"

namespace sepllm {
namespace {

// Names of one kind, collected for one warning.
class Names {
 public:
  void add(const NamedToken& named) {
    constexpr size_t kShown = 3;
    if (count_++ == 0) place_ = named.place;
    if (count_ <= kShown) text_ += fmt::format("{}\"{}\"", count_ == 1 ? "" : ", ", named.token.content);
  }
  void warn(const std::string& what) const {
    if (count_ == 0) return;
    const std::string more = count_ > 3 ? fmt::format(" and {} more", count_ - 3) : "";
    log_warning(fmt::format("{}: {}{}: {}", place_, text_, more, what));
  }

 private:
  size_t count_ = 0;
  std::string place_, text_;
};

class Merger {
 public:
  Merger(std::vector<AddedToken> own, const TokenizerConfig& config, const BaseVocabulary& vocabulary)
      : list_(std::move(own)), config_(config), vocabulary_(vocabulary) {
    for (size_t k = 0; k < list_.size(); ++k) index(k);
    max_stated_ = max_token_id(static_cast<size_t>(vocabulary.size) + list_.size() + config.tokens.size());
  }

  std::vector<AddedToken> run() {
    for (const NamedToken& named : config_.tokens) add(named);
    guessed_.warn("no file states an id: the next free ones are taken, as transformers does");
    moved_.warn("the stated ids belong to other tokens and are ignored");
    lost_.warn("without an id: read as plain text");
    return std::move(list_);
  }

 private:
  void index(size_t k) {
    by_content_.emplace(list_[k].content, k);
    by_id_.emplace(list_[k].id, k);
    next_ = std::max(next_, int64_t{list_[k].id} + 1);
  }

  void add(const NamedToken& named) {
    const auto known = by_content_.find(named.token.content);
    if (known != by_content_.end()) {
      if (!named.ignored) update(list_[known->second], named);
      return;
    }
    const int32_t piece = vocabulary_.find(named.token.content);
    if (named.ignored) {
      if (piece < 0) lost_.add(named);
      return;
    }
    if (piece >= 0) {
      if (named.token.id >= 0 && named.token.id != piece) moved_.add(named);
      return put(named, piece);
    }
    if (named.token.id > max_stated_) {
      throw Error(ErrorCode::kBadFile, "token id out of range",
                  {.place = named.place,
                   .expected = fmt::format("at most {}", max_stated_),
                   .got = fmt::format("{} for \"{}\"", named.token.id, named.token.content)});
    }
    if (named.token.id >= 0 && take_stated(named)) return;
    take_next(named);
  }

  static void update(AddedToken& token, const NamedToken& named) {
    const int32_t id = token.id;
    if (named.overrides) {
      token = named.token;
      token.id = id;
    }
    token.special |= named.token.special;
  }

  // False if the stated id belongs to another token.
  bool take_stated(const NamedToken& named) {
    const auto owner = by_id_.find(named.token.id);
    if (owner != by_id_.end() && vocabulary_.renames) {
      by_content_.erase(list_[owner->second].content);
      by_content_.emplace(named.token.content, owner->second);
      list_[owner->second] = named.token;
      return true;
    }
    if (owner != by_id_.end() || vocabulary_.has(named.token.id)) {
      moved_.add(named);
      return false;
    }
    put(named, named.token.id);
    return true;
  }

  void take_next(const NamedToken& named) {
    const int64_t id = std::max(next_, vocabulary_.size);
    const int64_t rows = config_.model_vocab_size;
    if (id > max_stated_ || (rows > 0 && id >= rows)) return lost_.add(named);
    if (named.token.id < 0) guessed_.add(named);
    put(named, static_cast<int32_t>(id));
  }

  void put(const NamedToken& named, int32_t id) {
    list_.push_back(named.token);
    list_.back().id = id;
    index(list_.size() - 1);
  }

  std::vector<AddedToken> list_;
  const TokenizerConfig& config_;
  const BaseVocabulary& vocabulary_;
  std::unordered_map<std::string, size_t> by_content_;
  std::unordered_map<int32_t, size_t> by_id_;
  int64_t next_ = 0;
  int64_t max_stated_ = 0;
  Names guessed_, moved_, lost_;
};

// Puts `id` at one end of `ids`, or removes it from there.
void set_end(std::vector<int32_t>& ids, bool front, int32_t id, bool wanted) {
  const bool there = !ids.empty() && (front ? ids.front() : ids.back()) == id;
  if (there == wanted) return;
  const auto place = front ? ids.begin() : there ? ids.end() - 1 : ids.end();
  if (wanted) {
    ids.insert(place, id);
  } else {
    ids.erase(place);
  }
}

}  // namespace

std::vector<AddedToken> with_named_tokens(std::vector<AddedToken> own, const TokenizerConfig& config,
                                          const BaseVocabulary& vocabulary) {
  if (config.tokens.empty()) return own;
  return Merger(std::move(own), config, vocabulary).run();
}

void adapt_frame(TextFrame& frame, const TokenizerConfig& config, std::optional<int32_t> bos,
                 std::optional<int32_t> eos) {
  if (config.add_bos && bos) set_end(frame.before, /*front=*/true, *bos, *config.add_bos);
  if (config.add_eos && eos) set_end(frame.after, /*front=*/false, *eos, *config.add_eos);
}

bool begins_with(const TextFrame& frame, std::optional<int32_t> id) {
  return id && !frame.before.empty() && frame.before.front() == *id;
}

}  // namespace sepllm
