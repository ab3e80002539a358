#include "server/openai/chat_request.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "server/openai/api_error.h"
#include "server/openai/limits.h"

namespace sepllm::server {
namespace {

using Role = ChatMessage::Role;

Role read_role(const Fields& message) {
  const std::string role = message.text("role").value_or("");
  if (role == "system" || role == "developer") return Role::kSystem;
  if (role == "user") return Role::kUser;
  if (role == "assistant") return Role::kAssistant;
  if (role == "tool") return Role::kTool;
  throw ApiError(400,
                 fmt::format("'{}' must be system, developer, user, assistant or tool, not '{}'",
                             message.path_of("role"), role.substr(0, 40)),
                 message.path_of("role"), "invalid_value");
}

// Parts of type text (and refusals, which are texts of the model) are joined.
std::string read_content(const Fields& message, Role role) {
  const Json* content = message.find("content");
  const std::string path = message.path_of("content");
  if (content == nullptr) {
    if (role == Role::kAssistant) return "";  // an answer that only called tools
    throw ApiError(400, fmt::format("'{}' is missing", path), path, "missing_required_parameter");
  }
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) message.refuse("content", "a string or a list of parts");
  std::string text;
  for (size_t k = 0; k < content->size(); ++k) {
    const Fields part((*content)[k], fmt::format("{}[{}]", path, k));
    const std::string type = part.text("type").value_or("");
    if (type != "text" && type != "refusal") {
      throw ApiError(400,
                     fmt::format("this model takes only text, not parts of type '{}'", type.substr(0, 40)),
                     part.path_of("type"), "unsupported_content");
    }
    text += part.text(type.c_str()).value_or("");
  }
  return text;
}

void check_tools(const Fields& request) {
  // Tools may be offered; the model is not told of them, and calls none.
  const Json* tools = request.find("tools");
  if (tools != nullptr && !tools->is_array()) request.refuse("tools", "a list");
  for (const char* name : {"tool_choice", "function_call"}) {
    const Json* choice = request.find(name);
    if (choice == nullptr || *choice == "auto" || *choice == "none") continue;
    throw ApiError(400, fmt::format("'{}' other than auto and none is not supported by this server", name),
                   name, "unsupported_parameter");
  }
  const Json* modalities = request.find("modalities");
  if (modalities != nullptr && *modalities != Json::array({"text"}))
    throw ApiError(400, "'modalities' other than text are not supported", "modalities",
                   "unsupported_parameter");
}

}  // namespace

std::vector<ChatMessage> read_messages(const Fields& request) {
  const Json* list = request.find("messages");
  if (list == nullptr) throw ApiError(400, "'messages' is missing", "messages", "missing_required_parameter");
  if (!list->is_array() || list->empty() || list->size() > kMaxMessages)
    request.refuse("messages", fmt::format("a list of 1 to {} messages", kMaxMessages));
  std::vector<ChatMessage> messages;
  for (size_t k = 0; k < list->size(); ++k) {
    const Fields message((*list)[k], fmt::format("messages[{}]", k));
    const Role role = read_role(message);
    messages.push_back({role, read_content(message, role)});
  }
  return messages;
}

RequestSettings read_chat_settings(const Fields& request, const ServedModels& models,
                                   const SamplingSettings& defaults, int64_t vocab_size) {
  RequestSettings s = read_settings(request, models, defaults, vocab_size);
  check_tools(request);
  if (s.max_tokens.value_or(1) == 0)
    throw ApiError(400, "'max_tokens' must be at least 1", "max_tokens", "invalid_value");
  const bool wanted = request.boolean("logprobs").value_or(false);
  const auto top = request.integer("top_logprobs", 0, kMaxTop);
  if (top.value_or(0) > 0 && !wanted)
    throw ApiError(400, "'top_logprobs' needs logprobs: true", "top_logprobs", "invalid_value");
  s.n_top = wanted ? top.value_or(0) : -1;
  return s;
}

MarkedText write_prompt(const ChatTemplate& chat, const Tokenizer& tokenizer,
                        const std::vector<ChatMessage>& messages, bool begin_answer) {
  MarkedText text;
  try {
    text = chat.render(tokenizer, messages, clock_now(), begin_answer);
  } catch (const Error& error) {
    throw as_api_error(error, "messages");
  }
  for (const ChatMessage& message : messages) {
    if (message.role != Role::kTool || text.bytes().find(message.content) != std::string::npos) continue;
    throw ApiError(400, "the model's chat template does not take messages of role tool", "messages",
                   "unsupported_content");
  }
  if (text.empty()) throw ApiError(400, "the chat template writes an empty prompt", "messages");
  return text;
}

}  // namespace sepllm::server
