#include "text/formats/tokenizer_json.h"

#include "base/error.h"
#include "text/formats/prefix_space.h"
#include "text/formats/tokenizer_file.h"
#include "text/steps/json_step.h"

namespace sepllm {
namespace {

// Settings that change nothing when they are empty, and are not supported otherwise.
void refuse_setting(const JsonObject& model, const char* key) {
  const Json null;
  const auto it = model.json().find(key);
  const Json& value = it == model.json().end() ? null : *it;
  const bool off = value.is_null() || value == "" || (value.is_number() && value.get<double>() == 0) ||
                   (value.is_boolean() && !value.get<bool>());
  if (off) return;
  throw Error(ErrorCode::kUnsupported, "setting of the model not supported",
              {.file = model.file(), .place = model.path_of(key), .got = json_text(value)});
}

BpeSettings parse_settings(const JsonObject& model, bool bytes) {
  // The file's reader takes these two out where they have the right type.
  for (const auto& [key, expected] : {std::pair("vocab", "a JSON object"), std::pair("merges", "a list")}) {
    if (!model.json().contains(key)) continue;
    throw Error(ErrorCode::kBadFile, "wrong type",
                {.file = model.file(), .place = model.path_of(key), .expected = expected});
  }
  refuse_unknown_keys(model, {"type", "dropout", "unk_token", "continuing_subword_prefix",
                              "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges"});
  if (const std::string type = model.string_or("type", "BPE"); type != "BPE") {
    throw Error(ErrorCode::kUnsupported, "this kind of model is not supported",
                {.file = model.file(), .place = "model.type", .expected = "BPE", .got = type});
  }
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    refuse_setting(model, key);
  }
  return {.bytes = bytes,
          .byte_fallback = model.boolean_or("byte_fallback", false),
          .ignore_merges = model.boolean_or("ignore_merges", false),
          .fuse_unk = model.boolean_or("fuse_unk", false),
          .unk_token = model.string_or("unk_token", "")};
}

BpeModel parse_model(const JsonObject& document, TokenizerFile& content, bool bytes) {
  const BpeSettings settings = parse_settings(document.object("model"), bytes);
  for (const auto& [present, key] :
       {std::pair(content.has_vocab, "model.vocab"), std::pair(content.has_merges, "model.merges")}) {
    if (!present) throw Error(ErrorCode::kNotFound, "missing key", {.file = document.file(), .place = key});
  }
  return {PieceTable(std::move(content.vocab), document.file()), content.merges, settings, document.file()};
}

// The special tokens of a TemplateProcessing for a single text, before and after it.
class TemplateReader {
 public:
  explicit TemplateReader(const JsonObject& step) : step_(step) {}

  TextFrame read() {
    refuse_unknown_keys(step_, {"type", "single", "pair", "special_tokens"});
    const Json& single = step_.at("single");
    if (!single.is_array()) wrong("a list");
    for (const Json& member : single) read_member(JsonObject(member, step_.file(), step_.path_of("single")));
    if (!seen_text_) wrong("a Sequence A");
    return std::move(frame_);
  }

 private:
  [[noreturn]] void wrong(const char* expected) const {
    throw Error(ErrorCode::kBadFile, "wrong template",
                {.file = step_.file(), .place = step_.path_of("single"), .expected = expected});
  }

  void read_member(const JsonObject& member) {
    refuse_unknown_keys(member, {"Sequence", "SpecialToken"});
    if (member.has("Sequence")) {
      if (seen_text_ || member.object("Sequence").string("id") != "A") wrong("one Sequence, A");
      seen_text_ = true;
      return;
    }
    const std::string name = member.object("SpecialToken").string("id");
    const JsonObject token = step_.object("special_tokens").object(name.c_str());
    const Json& ids = token.at("ids");
    if (!ids.is_array()) wrong("special_tokens with ids");
    std::vector<int32_t>& target = seen_text_ ? frame_.after : frame_.before;
    for (const Json& id : ids) {
      const Json holder = {{"ids", id}};
      target.push_back(static_cast<int32_t>(
          JsonObject(holder, step_.file(), token.path_of("ids")).integer("ids", 0, INT32_MAX)));
    }
  }

  const JsonObject& step_;
  TextFrame frame_;
  bool seen_text_ = false;
};

TextFrame parse_post_processor(const JsonObject& document) {
  TextFrame frame;
  for_each_step(document, "post_processor", "processors",
                [&](const JsonObject& step, const std::string& type) {
                  if (type == "ByteLevel") return;  // moves offsets only
                  if (type != "TemplateProcessing") unknown_step(step, type);
                  if (!frame.before.empty() || !frame.after.empty()) {
                    throw Error(ErrorCode::kUnsupported, "more than one template",
                                {.file = step.file(), .place = step.path_of("type")});
                  }
                  frame = TemplateReader(step).read();
                });
  return frame;
}

// Ids that the template names must be tokens.
void check_frame(const TextFrame& frame, const BpeModel& model, const AddedTokens& added,
                 const std::string& file) {
  for (const auto* ids : {&frame.before, &frame.after}) {
    for (const int32_t id : *ids) {
      const bool known =
          added.by_id(id) != nullptr || (id < model.pieces().size() && !model.pieces().piece(id).empty());
      if (known) continue;
      throw Error(ErrorCode::kBadFile, "template names an id without a token",
                  {.file = file, .place = "post_processor", .got = std::to_string(id)});
    }
  }
}

}  // namespace

std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view bytes, const std::string& file,
                                                const TokenizerConfig& config) {
  TokenizerFile content = parse_tokenizer_file(bytes, file);
  if (config.add_prefix_space) {
    set_prefix_space(content.document, *config.add_prefix_space, config.prefix_everywhere);
  }
  const JsonObject document(content.document, file);
  refuse_unknown_keys(document, {"version", "truncation", "padding", "added_tokens", "normalizer",
                                 "pre_tokenizer", "post_processor", "decoder", "model"});
  if (const std::string version = document.string_or("version", "1.0"); version != "1.0") {
    throw Error(ErrorCode::kUnsupported, "unknown version of the format",
                {.file = file, .place = "version", .expected = "1.0", .got = version});
  }
  Normalizer normalizer(document);
  PreTokenizer pre_tokenizer(document);
  BpeModel model = parse_model(document, content, pre_tokenizer.ends_in_bytes());
  const int64_t max_id =
      max_token_id(static_cast<size_t>(model.pieces().size()) +
                   (document.has("added_tokens") ? document.at("added_tokens").size() : 0));
  AddedTokens added =
      make_added_tokens(parse_added_tokens(document, max_id), model, normalizer, config, file);
  TokenDecoder decoder(document, pre_tokenizer.has_byte_level());
  TextFrame frame = parse_post_processor(document);
  check_frame(frame, model, added, file);
  const char* format =
      pre_tokenizer.has_byte_level() ? "byte-level BPE (tokenizer.json)" : "BPE (tokenizer.json)";
  return std::make_unique<BpeTokenizer>(
      BpeParts{std::move(normalizer), std::move(pre_tokenizer), std::move(model), std::move(added),
               std::move(decoder), std::move(frame), format},
      config, file);
}

}  // namespace sepllm
