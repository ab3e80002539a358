#include "text/formats/gguf_pre_tokenizers.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "text/steps/word_scanners.h"

namespace sepllm {
namespace {

constexpr const char* kOneDigit = R"(\p{N})";
constexpr const char* kDigits = R"(\p{N}+)";
constexpr const char* kThreeDigits = "[0-9][0-9][0-9]";
constexpr const char* kPunctuation = R"([\p{P}\$\+<=>\^~\|`]+)";  // Falcon's
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const std::vector<GgufPreTokenizer>& table() {
  static const std::vector<GgufPreTokenizer> kTable = {
      {.names = {"default"}, .patterns = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, kDigits, kThreeDigits}},
      {.names = {"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling"},
       .patterns = {kGpt2Pattern}},
      {.names = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"},
       .patterns = {kOneDigit, kGpt2Pattern}},
      {.names = {"falcon"}, .patterns = {kPunctuation, kGpt2Pattern, kThreeDigits}},
      {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"},
       .patterns = {kLlama3Pattern},
       .ignore_merges = true,
       .adds_bos = true},
      {.names = {"dbrx", "smaug-bpe"}, .patterns = {kLlama3Pattern}},
      {.names = {"qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan"}, .patterns = {kQwen2}},
      {.names = {"tekken"}, .patterns = {kTekken}, .ignore_merges = true, .adds_bos = true},
      {.names = {"gpt-4o"}, .patterns = {kGpt4o}},
  };
  return kTable;
}

}  // namespace

const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name) {
  for (const GgufPreTokenizer& pre : table()) {
    for (const char* known : pre.names) {
      if (name == known) return &pre;
    }
  }
  return nullptr;
}

std::string known_gguf_pre_tokenizers() {
  std::string out;
  for (const GgufPreTokenizer& pre : table()) {
    for (const char* name : pre.names) out += (out.empty() ? "" : ", ") + std::string(name);
  }
  return out;
}

namespace {

// The patterns of one step, or of all steps of a sequence; false if a step is of another kind.
bool add_patterns(const JsonObject& step, std::vector<std::string>* out) {
  const std::string type = step.string_or("type", "");
  if (type == "Sequence") {
    for (const Json& part : step.at("pretokenizers")) {
      if (!add_patterns(JsonObject(part, step.file()), out)) return false;
    }
    return true;
  }
  if (type == "ByteLevel") {
    if (step.boolean_or("use_regex", true)) out->emplace_back(kGpt2Pattern);
    return !step.boolean_or("add_prefix_space", true);
  }
  if (type == "Digits") {
    out->emplace_back(step.boolean_or("individual_digits", false) ? kOneDigit : kDigits);
    return true;
  }
  if (type == "Punctuation") {
    out->emplace_back(kPunctuation);
    return step.string_or("behavior", "") == "Contiguous";
  }
  if (type != "Split" || step.string_or("behavior", "") != "Isolated" || step.boolean_or("invert", false))
    return false;
  const JsonObject pattern = step.object("pattern");
  if (!pattern.has("Regex")) return false;
  out->push_back(pattern.string("Regex"));
  return true;
}

// Patterns that split alike are often written differently.
bool same_pattern(const std::string& a, const char* b) {
  const WordScanner scanner = find_word_scanner(a);
  return a == b || (scanner != nullptr && scanner == find_word_scanner(b));
}

}  // namespace

std::string gguf_pre_tokenizer_name(const JsonObject& document, bool ignore_merges) {
  std::vector<std::string> patterns;
  if (!document.has("pre_tokenizer") || !add_patterns(document.object("pre_tokenizer"), &patterns)) return "";
  // Falcon's tokenizer.json also splits runs of digits, which its tokens never cross.
  if (patterns == std::vector<std::string>{kPunctuation, kGpt2Pattern, kDigits, kThreeDigits})
    patterns.erase(patterns.begin() + 2);
  for (const GgufPreTokenizer& pre : table()) {
    if (pre.ignore_merges != ignore_merges) continue;
    if (std::equal(patterns.begin(), patterns.end(), pre.patterns.begin(), pre.patterns.end(), same_pattern))
      return pre.names.front();
  }
  return "";
}

std::string pre_tokenizer_json(const GgufPreTokenizer& pre) {
  Json steps = Json::array();
  for (const char* pattern : pre.patterns) {
    steps.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  }
  steps.push_back(
      {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}});
  return json_text({{"type", "Sequence"}, {"pretokenizers", steps}});
}

}  // namespace sepllm
