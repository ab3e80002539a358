#include "model/gguf/spec.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "model/families/family.h"
#include "model/gguf/architecture.h"

namespace sepllm {
namespace {

constexpr const char* kArchitectureKey = "general.architecture";

const GgufArchitecture& architecture_of(const GgufMetadata& m) {
  const std::string name = m.string(kArchitectureKey);
  if (const GgufArchitecture* found = find_gguf_architecture(name)) return *found;
  std::vector<std::string> known;
  for (const GgufArchitecture* a : gguf_architectures()) known.emplace_back(a->name);
  throw Error(ErrorCode::kUnsupported, "an architecture that is not read from GGUF",
              {.file = m.file(),
               .place = kArchitectureKey,
               .expected = fmt::format("one of {}", fmt::join(known, ", ")),
               .got = name,
               .hint = "its Hugging Face folder may be of a family that is read"});
}

// The padding token, which no text of this program has. Null where there is none, because the classes of some
// families in transformers have a default, which a small vocabulary does not hold.
Json padding_id(const GgufMetadata& m, int64_t vocab_size) {
  const int64_t id = m.integer_or("tokenizer.ggml.padding_token_id", -1, INT64_MIN, INT64_MAX);
  return id >= 0 && id < vocab_size ? Json(id) : Json(nullptr);
}

// Ids of tokens as config.json has them. Chat models end their turns with eot or eom.
void add_token_ids(const GgufMetadata& m, int64_t vocab_size, Json* out) {
  const auto id = [&](const char* name) -> Json {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
    if (!m.has(key)) return nullptr;
    return m.integer(key, 0, vocab_size - 1);
  };
  (*out)["bos_token_id"] = id("bos");
  (*out)["pad_token_id"] = padding_id(m, vocab_size);
  Json ends = Json::array();
  for (const char* name : {"eos", "eot", "eom"}) {
    const Json end = id(name);
    if (!end.is_null() && std::find(ends.begin(), ends.end(), end) == ends.end()) ends.push_back(end);
  }
  (*out)["eos_token_id"] = ends.empty() ? Json(nullptr) : ends.size() == 1 ? ends[0] : ends;
}

// The type of most weights, for `inspect`.
std::string most_common_type(const WeightStore& store) {
  std::map<std::string, int64_t> bytes;
  for (const std::string& name : store.names()) bytes[store.tensor(name).dtype] += store.tensor(name).bytes;
  const auto most = std::max_element(bytes.begin(), bytes.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? "" : most->first;
}

}  // namespace

Json gguf_config(const WeightStore& store) {
  SEPLLM_CHECK(store.gguf() != nullptr);
  const GgufMetadata& m = *store.gguf();
  const GgufArchitecture& architecture = architecture_of(m);
  Json out = architecture.config({m, architecture.name}, store);
  for (const Family* family : families()) {
    for (const char* type : family->model_types) {
      if (out["model_type"] == type) out["architectures"] = Json::array({family->architecture});
    }
  }
  const int64_t vocab_size = gguf_vocab_size(store);
  out["vocab_size"] = vocab_size;
  out["tie_word_embeddings"] = !store.has(kGgufHead);
  add_token_ids(m, vocab_size, &out);
  if (m.has(kGgufPolicyKey)) out["sepllm"] = parse_json(m.string(kGgufPolicyKey), m.file());
  return out;
}

ModelSpec read_gguf_spec(const WeightStore& store) {
  ModelSpec spec = parse_model_spec(gguf_config(store), store.folder());
  spec.config.stored_dtype = most_common_type(store);
  return gguf_spec(architecture_of(*store.gguf()), std::move(spec));
}

}  // namespace sepllm
