// /tokenize, /detokenize, /apply-template and /tokenizer_info, in the forms of llama.cpp and of vLLM.
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"
#include "server/openai/api_error.h"
#include "server/openai/chat_request.h"
#include "server/openai/fields.h"
#include "server/routes/api.h"

namespace sepllm::server {
namespace {

const Tokenizer& tokenizer_or_404(const Api& api) {
  if (api.tokenizer() == nullptr) throw ApiError(404, "the model has no tokenizer");
  return *api.tokenizer();
}

HttpResponse json_response(const Json& json) { return {.body = json_text(json)}; }

// llama.cpp's "with_pieces": text, or bytes where they are no text.
Json piece_json(const Tokenizer& tokenizer, int32_t id) {
  const std::string bytes = tokenizer.token_bytes(id);
  Json piece = bytes;
  if (utf8_find_invalid(bytes)) {
    piece = Json::array();
    for (const char byte : bytes) piece.push_back(static_cast<unsigned char>(byte));
  }
  return {{"id", id}, {"piece", piece}};
}

// Ids of "content" (llama.cpp: special tokens only if asked for), "prompt" or "messages" (vLLM).
std::vector<int32_t> encode_request(const Api& api, const Fields& request) {
  const Tokenizer& tokenizer = tokenizer_or_404(api);
  const bool parse = request.boolean("parse_special").value_or(true);
  std::vector<int32_t> ids;
  if (request.find("messages") != nullptr) {
    const bool begin = request.boolean("add_generation_prompt").value_or(true);
    return encode_marked(tokenizer,
                         write_prompt(api.settings.chat, tokenizer, read_messages(request), begin));
  }
  const bool of_llama = request.find("content") != nullptr;
  const auto text = request.text(of_llama ? "content" : "prompt");
  if (!text) throw ApiError(400, "'prompt', 'content' or 'messages' is missing", "prompt");
  const bool add = of_llama ? request.boolean("add_special").value_or(false)
                            : request.boolean("add_special_tokens").value_or(true);
  try {
    ids = tokenizer.encode(*text, {.parse_special = parse});
    if (add && tokenizer.adds_bos()) ids.insert(ids.begin(), api.model.start_token());
  } catch (const Error& error) {
    throw as_api_error(error, of_llama ? "content" : "prompt");
  }
  return ids;
}

}  // namespace

HttpResponse tokenize(const Api& api, const HttpRequest& http) {
  const Json body = parse_body(http.body);
  const Fields request(body);
  const std::vector<int32_t> ids = encode_request(api, request);
  Json out = {{"count", std::ssize(ids)}, {"max_model_len", api.model.config().max_positions}};
  if (request.boolean("with_pieces").value_or(false)) {
    Json pieces = Json::array();
    for (const int32_t id : ids) pieces.push_back(piece_json(*api.tokenizer(), id));
    out["tokens"] = std::move(pieces);
  } else {
    out["tokens"] = ids;
  }
  if (request.boolean("return_token_strs").value_or(false)) {
    Json texts = Json::array();
    for (const int32_t id : ids) texts.push_back(api.tokenizer()->piece(id));
    out["token_strs"] = std::move(texts);
  }
  return json_response(out);
}

HttpResponse detokenize(const Api& api, const HttpRequest& http) {
  const Json body = parse_body(http.body);
  const Fields request(body);
  const Tokenizer& tokenizer = tokenizer_or_404(api);
  const Json* list = request.find("tokens");
  if (list == nullptr) throw ApiError(400, "'tokens' is missing", "tokens");
  const std::vector<int32_t> ids = read_ids(*list, "tokens", api.model.config().vocab_size);
  const std::string text = utf8_sanitize(tokenizer.decode(ids));
  return json_response({{"content", text}, {"prompt", text}});
}

HttpResponse apply_template(const Api& api, const HttpRequest& http) {
  const Json body = parse_body(http.body);
  const Fields request(body);
  const bool begin = request.boolean("add_generation_prompt").value_or(true);
  const MarkedText text =
      write_prompt(api.settings.chat, tokenizer_or_404(api), read_messages(request), begin);
  return json_response({{"prompt", text.bytes()}});
}

HttpResponse tokenizer_info(const Api& api, const HttpRequest&) {
  const Tokenizer& tokenizer = tokenizer_or_404(api);
  Json out = {{"tokenizer_class", tokenizer.format()}, {"vocab_size", tokenizer.vocab_size()}};
  for (const auto& [name, text] : tokenizer.token_texts()) out[name] = text;
  const auto add = [&](const char* name, std::optional<int32_t> id) {
    if (!out.contains(name)) out[name] = id ? Json(tokenizer.piece(*id)) : Json();
  };
  add("bos_token", tokenizer.bos_id());
  add("eos_token", tokenizer.eos_id());
  add("pad_token", std::nullopt);
  const auto chat = tokenizer.chat_template();
  out["chat_template"] = chat ? Json(*chat) : Json();
  out["model_max_length"] = api.model.config().max_positions;
  return json_response(out);
}

}  // namespace sepllm::server
