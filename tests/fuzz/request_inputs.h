// Requests for the fuzz entry of the server's reader, and for the replay of its corpus.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/model.h"
#include "model/random_model.h"
#include "server/openai/api_error.h"
#include "server/openai/chat_request.h"
#include "server/openai/completion_request.h"

namespace sepllm::test {

// A tiny model, for its tokenizer and vocabulary.
inline const Model& request_model() {
  static const Model kModel = [] {
    std::string folder = std::filesystem::temp_directory_path() / "sepllm-fuzz-XXXXXX";
    if (::mkdtemp(folder.data()) == nullptr) std::abort();
    write_random_model(folder, {.hidden_size = 16, .n_layers = 1, .n_heads = 2});
    Model model = load_model(folder, "");
    std::filesystem::remove_all(folder);  // what is mapped stays
    return model;
  }();
  return kModel;
}

// Whether the server takes these bytes as the body of a request: with "messages" as one for chat, else as one
// for completions. What is refused must be refused with a 4xx in the form of an ApiError.
inline bool accepts_request(std::string_view body) {
  using namespace server;
  const Model& model = request_model();
  static const ServedModels kModels(
      model.config(),
      {{"m", {}}, parse_alias("fast=sep-stream,seps=16,window=32,capacity=99", {}, model.config())});
  const int64_t vocab = model.config().vocab_size;
  try {
    const Json json = parse_body(body);
    const Fields fields(json);
    if (fields.find("messages") != nullptr) {
      read_chat_settings(fields, kModels, {}, vocab);
      const MarkedText text = write_prompt(ChatTemplate(), *model.tokenizer, read_messages(fields));
      return !encode_marked(*model.tokenizer, text).empty();
    }
    const CompletionRequest request = read_completion_settings(fields, kModels, {}, vocab);
    return !read_prompts(fields, model, request.settings.skip_special, 64).empty();
  } catch (const ApiError& error) {
    if (error.status < 400 || error.status > 499) throw;
    error_response(error);
    return false;
  }
}

}  // namespace sepllm::test
