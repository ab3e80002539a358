// A request for /v1/chat/completions.
#pragma once

#include <string>
#include <vector>

#include "server/openai/request_settings.h"
#include "text/chat_template.h"

namespace sepllm::server {

// "messages" of a request: roles system, developer (a system message), user, assistant and tool; the content
// a string or a list of parts of type text. ApiError.
std::vector<ChatMessage> read_messages(const Fields& request);

// The settings, with logprobs and top_logprobs. ApiError, also for tools that must be called.
RequestSettings read_chat_settings(const Fields& request, const ServedModels& models,
                                   const SamplingSettings& defaults, int64_t vocab_size);

// The text that the template writes for the messages and the beginning of an answer. ApiError where the
// template refuses them or leaves out the result of a tool.
MarkedText write_prompt(const ChatTemplate& chat, const Tokenizer& tokenizer,
                        const std::vector<ChatMessage>& messages, bool begin_answer = true);

}  // namespace sepllm::server
