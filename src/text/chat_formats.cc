#include "text/chat_formats.h"

#include <string>
#include <vector>

namespace sepllm {
namespace {

// The templates of 3.1 and later put dates before the system message; ours does not.
constexpr const char* kLlama3 = R"(
{{- '<|begin_of_text|>' }}
{%- for message in messages %}
  {%- set content = message.content if message.as_generated else message.content | trim %}
  {{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\n\n' ~ content ~ '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %})";

// <s>[INST] <<SYS>>\nsystem\n<</SYS>>\n\nuser [/INST] answer </s>, then again from <s>.
constexpr const char* kLlama2 = R"(
{%- for message in messages %}
  {%- if message.role == 'system' %}
    {%- if not loop.first %}
      {{- raise_exception('the format llama2 takes a system message only as the first one') }}
    {%- endif %}
  {%- elif message.role == 'assistant' %}
    {{- message.content if message.as_generated else ' ' ~ message.content | trim ~ ' ' }}{{ eos_token }}
  {%- else %}
    {%- set content = message.content %}
    {%- if loop.index0 == 1 and messages[0].role == 'system' %}
      {%- set content = '<<SYS>>\n' ~ messages[0].content ~ '\n<</SYS>>\n\n' ~ content %}
    {%- endif %}
    {{- bos_token ~ '[INST] ' ~ content | trim ~ ' [/INST]' }}
  {%- endif %}
{%- endfor %})";

// Some models' templates add a default system message; here that is the caller's choice.
constexpr const char* kChatMl = R"(
{%- if begins_with_bos %}{{ bos_token }}{% endif %}
{%- for message in messages %}
  {{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\n' }}
{%- endif %})";

// system\n\nUser: text\n\nAssistant: answer. There are no special tokens; blank lines in a message would look
// like the end of a turn, so they are removed.
constexpr const char* kFalcon = R"(
{%- for message in messages %}
  {%- set content = message.content | trim %}
  {%- if message.role == 'system' %}
    {%- if not loop.first %}
      {{- raise_exception('the format falcon takes a system message only as the first one') }}
    {%- endif %}
    {{- content }}
  {%- elif message.as_generated %}
    {{- '\n\nAssistant:' ~ message.content }}
  {%- else %}
    {{- '\n\nUser: ' if message.role == 'user' else '\n\nAssistant: ' }}
    {{- content.replace('\r\n', '\n').replace('\n\n', '\n') }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '\n\nAssistant:' }}
{%- endif %})";

// For models without a template: a format of our own.
constexpr const char* kPlain = R"(
{%- if begins_with_bos %}{{ bos_token }}{% endif %}
{%- for message in messages %}
  {%- set content = message.content | trim %}
  {%- if message.role == 'system' %}
    {%- if not loop.first %}
      {{- raise_exception('the format plain takes a system message only as the first one') }}
    {%- endif %}
    {{- content ~ '\n\n' }}
  {%- elif message.as_generated %}
    {{- 'Assistant:' ~ message.content ~ '\n' }}
  {%- else %}
    {{- ('User: ' if message.role == 'user' else 'Assistant: ') ~ content ~ '\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- 'Assistant:' }}
{%- endif %})";

}  // namespace

const std::vector<ChatFormat>& chat_formats() {
  static const std::vector<ChatFormat> kFormats = {
      {"llama3",
       kLlama3,
       {"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
       {"<|eot_id|>", "<|end_of_text|>"},
       {}},
      {"llama2", kLlama2, {"bos", "eos"}, {}, {}},
      {"chatml", kChatMl, {"<|im_start|>", "<|im_end|>"}, {"<|im_end|>"}, {}},
      {"falcon", kFalcon, {}, {}, {"\nUser:"}},
      {"plain", kPlain, {}, {}, {"\nUser:"}}};
  return kFormats;
}

const ChatFormat* find_chat_format(const std::string& name) {
  for (const ChatFormat& format : chat_formats()) {
    if (name == format.name) return &format;
  }
  return nullptr;
}

}  // namespace sepllm
