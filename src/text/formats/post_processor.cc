#include "text/formats/post_processor.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "text/steps/json_step.h"

namespace sepllm {
namespace {

// Reads the special tokens that a TemplateProcessing puts before and after a single text.
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

// The id of a pair such as ["<s>", 0].
int32_t read_pair(const JsonObject& step, const char* key) {
  const Json& pair = step.at(key);
  if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string()) {
    throw Error(ErrorCode::kBadFile, "wrong value",
                {.file = step.file(),
                 .place = step.path_of(key),
                 .expected = "a token and its id",
                 .got = json_text(pair)});
  }
  const Json holder = {{"id", pair[1]}};
  return static_cast<int32_t>(JsonObject(holder, step.file(), step.path_of(key)).integer("id", 0, INT32_MAX));
}

TextFrame read_step(const JsonObject& step, const std::string& type) {
  if (type == "TemplateProcessing") return TemplateReader(step).read();
  if (type != "BertProcessing" && type != "RobertaProcessing") unknown_step(step, type);
  if (type == "BertProcessing") {
    refuse_unknown_keys(step, {"type", "sep", "cls"});
  } else {
    refuse_unknown_keys(step, {"type", "sep", "cls", "trim_offsets", "add_prefix_space"});
  }
  return {{read_pair(step, "cls")}, {read_pair(step, "sep")}};
}

}  // namespace

TextFrame parse_post_processor(const JsonObject& document) {
  TextFrame frame;
  for_each_step(document, "post_processor", "processors",
                [&](const JsonObject& step, const std::string& type) {
                  if (type == "ByteLevel") return;  // it only moves offsets
                  if (!frame.before.empty() || !frame.after.empty()) {
                    throw Error(ErrorCode::kUnsupported, "more than one post-processor that adds tokens",
                                {.file = step.file(), .place = step.path_of("type")});
                  }
                  frame = read_step(step, type);
                });
  return frame;
}

}  // namespace sepllm
