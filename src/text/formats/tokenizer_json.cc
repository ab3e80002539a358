#include "text/formats/tokenizer_json.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "text/formats/post_processor.h"
#include "text/formats/prefix_space.h"
#include "text/formats/tokenizer_file.h"
#include "text/steps/json_step.h"

namespace sepllm {
namespace {

// For a setting that changes nothing when it is empty, and is otherwise not supported.
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
  // The file's reader removes these two from the document if they have the right type.
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
  refuse_setting(model, "dropout");
  return {.bytes = bytes,
          .byte_fallback = model.boolean_or("byte_fallback", false),
          .ignore_merges = model.boolean_or("ignore_merges", false),
          .fuse_unk = model.boolean_or("fuse_unk", false),
          .unk_token = model.string_or("unk_token", ""),
          .continuing_prefix = model.string_or("continuing_subword_prefix", ""),
          .end_suffix = model.string_or("end_of_word_suffix", "")};
}

BpeModel parse_model(const JsonObject& document, TokenizerFile& content, bool bytes) {
  const BpeSettings settings = parse_settings(document.object("model"), bytes);
  for (const auto& [present, key] :
       {std::pair(content.has_vocab, "model.vocab"), std::pair(content.has_merges, "model.merges")}) {
    if (!present) throw Error(ErrorCode::kNotFound, "missing key", {.file = document.file(), .place = key});
  }
  return {PieceTable(std::move(content.vocab), document.file()), content.merges, settings, document.file()};
}

// Ids that the post-processor names must be tokens.
void check_frame(const TextFrame& frame, const BpeModel& model, const AddedTokens& added,
                 const std::string& file) {
  for (const auto* ids : {&frame.before, &frame.after}) {
    for (const int32_t id : *ids) {
      const bool known =
          added.by_id(id) != nullptr || (id < model.pieces().size() && !model.pieces().piece(id).empty());
      if (known) continue;
      throw Error(ErrorCode::kBadFile, "post-processor names an id without a token",
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
