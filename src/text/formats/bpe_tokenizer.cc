#include "text/formats/bpe_tokenizer.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"

namespace sepllm {
namespace {

constexpr size_t kMaxReserve = size_t{1} << 26;  // tokens

}  // namespace

AddedTokens make_added_tokens(std::vector<AddedToken> own, const BpeModel& model,
                              const Normalizer& normalizer, const TokenizerConfig& config,
                              const std::string& file, bool renames) {
  const PieceTable& pieces = model.pieces();
  const BaseVocabulary vocabulary{
      .find = [&](std::string_view text) { return pieces.find(text); },
      .has = [&](int32_t id) { return id < pieces.size() && !pieces.piece(id).empty(); },
      .size = pieces.size(),
      .renames = renames};
  return {with_named_tokens(std::move(own), config, vocabulary), normalizer, file};
}

class BpeTokenizer::Loan {
 public:
  explicit Loan(const BpeTokenizer& owner) : owner_(owner) {
    const std::lock_guard lock(owner_.mutex_);
    if (!owner_.idle_.empty()) {
      scratch_ = std::move(owner_.idle_.back());
      owner_.idle_.pop_back();
    }
  }
  ~Loan() {
    if (scratch_ == nullptr) return;
    const std::lock_guard lock(owner_.mutex_);
    owner_.idle_.push_back(std::move(scratch_));
  }
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;
  Scratch& get() {
    if (scratch_ == nullptr) scratch_ = std::make_unique<Scratch>();
    return *scratch_;
  }

 private:
  const BpeTokenizer& owner_;
  std::unique_ptr<Scratch> scratch_;
};

BpeTokenizer::BpeTokenizer(BpeParts parts, const TokenizerConfig& config, const std::string& file)
    : parts_(std::move(parts)) {
  check_added_tokens(file);
  vocab_size_ = parts_.model.pieces().size();
  for (const AddedToken& token : parts_.added.tokens()) {
    vocab_size_ = std::max(vocab_size_, int64_t{token.id} + 1);
  }
  bytes_.resize(static_cast<size_t>(vocab_size_));
  for (int64_t id = 0; id < vocab_size_; ++id) {
    const AddedToken* token = parts_.added.by_id(static_cast<int32_t>(id));
    bytes_[static_cast<size_t>(id)] =
        token != nullptr ? token->content : parts_.decoder.token_bytes(piece(static_cast<int32_t>(id)), {});
  }
  choose_special_ids(config);
  adapt_frame(parts_.frame, config, bos_, eos_);
  set_chat_templates(config.chat_templates);
  set_token_texts(config.token_texts);
}

void BpeTokenizer::check_added_tokens(const std::string& file) const {
  const PieceTable& pieces = parts_.model.pieces();
  for (const AddedToken& token : parts_.added.tokens()) {
    const auto fail = [&](const std::string& expected) {
      throw Error(ErrorCode::kBadFile, "added token contradicts the vocabulary",
                  {.file = file,
                   .place = "added_tokens",
                   .expected = expected,
                   .got = "\"" + token.content + "\" with id " + std::to_string(token.id)});
    };
    const int32_t id = pieces.find(token.content);
    if (id >= 0 && id != token.id) fail("id " + std::to_string(id));
    if (id < 0 && token.id < pieces.size() && !pieces.piece(token.id).empty()) {
      fail("\"" + pieces.piece(token.id) + "\"");
    }
  }
}

std::optional<int32_t> BpeTokenizer::choose_id(const SpecialTokenChoice& choice,
                                               std::initializer_list<const char*> usual_names) const {
  if (choice.text) {
    if (const auto id = find(*choice.text)) return id;
  }
  if (choice.id && *choice.id >= 0 && *choice.id < vocab_size_) return static_cast<int32_t>(*choice.id);
  for (const char* name : usual_names) {
    const AddedToken* token = parts_.added.by_content(name);
    if (token != nullptr && token->special) return token->id;
  }
  return std::nullopt;
}

void BpeTokenizer::choose_special_ids(const TokenizerConfig& config) {
  bos_ = choose_id(config.bos, {"<|begin_of_text|>", "<s>", "<|endoftext|>"});
  if (!bos_ && parts_.frame.before.size() == 1) bos_ = parts_.frame.before.front();
  eos_ = choose_id(config.eos, {"<|end_of_text|>", "</s>", "<|endoftext|>"});
}

bool BpeTokenizer::adds_bos() const { return begins_with(parts_.frame, bos_); }

bool BpeTokenizer::cuts_before_line_break() const {
  return parts_.normalizer.cuts_before_line_break() && parts_.pre_tokenizer.cuts_before_line_break() &&
         parts_.added.cuts_before_line_break() &&
         !(parts_.pre_tokenizer.blank_before_sections() && parts_.added.any_ends_in_letter());
}

std::vector<int32_t> BpeTokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  if (const auto bad = utf8_find_invalid(text)) {
    throw Error(ErrorCode::kInvalidArgument, "text is not valid UTF-8",
                {.place = "byte " + std::to_string(*bad)});
  }
  std::vector<int32_t> out;
  out.reserve(std::min(text.size() / 4 + 8, kMaxReserve));
  if (options.add_special) out = parts_.frame.before;
  Loan loan(*this);
  Scratch& scratch = loan.get();
  const SpecialPlaces places{options.parse_special, options.special_within};
  const bool maps_places = places.within != nullptr && parts_.added.normalizes_special();
  parts_.added.split(text, false, places, [&](const Section& section) {
    if (section.id >= 0) return out.push_back(section.id);
    const bool at_start = section.text.data() == text.data();
    SpecialPlaces own{places.anywhere};
    std::vector<TextRange> ranges;
    if (maps_places) {
      const auto begin = static_cast<size_t>(section.text.data() - text.data());
      ranges = normalized_ranges(parts_.normalizer, section.text, begin, *places.within);
      own.within = &ranges;
    }
    encode_section({section.text, at_start && !options.continues, at_start && options.continues}, own,
                   scratch, out);
  });
  if (options.add_special) out.insert(out.end(), parts_.frame.after.begin(), parts_.frame.after.end());
  return out;
}

void BpeTokenizer::encode_section(const Piece& part, const SpecialPlaces& places, Scratch& scratch,
                                  std::vector<int32_t>& out) const {
  const std::string_view normal = parts_.normalizer.apply(part.text, scratch.normalizer);
  parts_.added.split(normal, true, places, [&](const Section& section) {
    if (section.id >= 0) return out.push_back(section.id);
    const bool at_start = section.text.data() == normal.data();
    const Piece piece{section.text, part.first && at_start, part.continued && at_start};
    parts_.pre_tokenizer.run(piece, scratch.pre_tokenizer, [&](const Piece& word) {
      parts_.model.encode_word(word.text, scratch.bpe, out);
    });
  });
}

std::string BpeTokenizer::token_bytes(int32_t id) const {
  return id >= 0 && id < vocab_size_ ? bytes_[static_cast<size_t>(id)] : std::string();
}

std::string BpeTokenizer::last_token_bytes(int32_t id) const {
  const bool same = !last_token_differs() || parts_.added.by_id(id) != nullptr;
  return same ? token_bytes(id) : parts_.decoder.token_bytes(piece(id), {.last = true});
}

std::string BpeTokenizer::piece(int32_t id) const {
  if (const AddedToken* token = parts_.added.by_id(id)) return token->content;
  return id >= 0 && id < parts_.model.pieces().size() ? parts_.model.pieces().piece(id) : std::string();
}

std::string BpeTokenizer::decode(const std::vector<int32_t>& ids, bool skip_special) const {
  std::string out;
  bool first = true;
  int32_t previous = -1;  // the token before, as long as its end is not yet decided
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size_ || (skip_special && is_special(id))) continue;
    if (last_token_differs()) {
      if (previous >= 0) out += token_bytes(previous);
      previous = id;
    } else if (first && parts_.decoder.first_differs() && parts_.added.by_id(id) == nullptr) {
      out += parts_.decoder.token_bytes(piece(id), {.first = true});
    } else {
      out += bytes_[static_cast<size_t>(id)];
    }
    first = false;
  }
  if (previous >= 0) out += last_token_bytes(previous);
  parts_.decoder.strip_start(out);
  return out;
}

bool BpeTokenizer::is_special(int32_t id) const {
  const AddedToken* token = parts_.added.by_id(id);
  return token != nullptr && token->special;
}

std::optional<int32_t> BpeTokenizer::find(std::string_view piece) const {
  if (const AddedToken* token = parts_.added.by_content(piece)) return token->id;
  const int32_t id = parts_.model.pieces().find(piece);
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

}  // namespace sepllm
