// Writes a trained BPE as the files that the `tokenizers` library and transformers read.
#include <cstddef>
#include <string>

#include "base/json.h"
#include "text/corpus/bpe_trainer.h"

namespace sepllm {
namespace {

Json byte_level(bool add_prefix_space, bool trim_offsets) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", trim_offsets},
          {"use_regex", true}};
}

// One entry per line. (A JSON object with very many keys would search all of them for each new one, so this
// is written by hand.)
std::string vocab_text(const TrainedBpe& bpe) {
  std::string out = "{";
  for (size_t id = 0; id < bpe.pieces.size(); ++id) {
    out += (id == 0 ? "\n   " : ",\n   ") + json_text(Json(bpe.pieces[id])) + ": " + std::to_string(id);
  }
  return out + "\n  }";
}

std::string merges_text(const TrainedBpe& bpe) {
  std::string out = "[";
  for (size_t m = 0; m < bpe.merges.size(); ++m) {
    const auto [left, right] = bpe.merges[m];
    const std::string both =
        bpe.pieces[static_cast<size_t>(left)] + " " + bpe.pieces[static_cast<size_t>(right)];
    out += (m == 0 ? "\n   " : ",\n   ") + json_text(Json(both));
  }
  return out + (bpe.merges.empty() ? "]" : "\n  ]");
}

}  // namespace

std::string tokenizer_json_of(const TrainedBpe& bpe) {
  Json added = Json::array();
  for (size_t s = 0; s < bpe.specials.size(); ++s) {
    added.push_back({{"id", s},
                     {"content", bpe.specials[s]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const Json head = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", byte_level(false, true)},
                     {"post_processor", byte_level(true, false)},
                     {"decoder", byte_level(true, true)}};
  std::string out = json_text(head, 1);
  out.resize(out.size() - 2);  // "\n}"
  return out +
         ",\n \"model\": {\n  \"type\": \"BPE\",\n  \"dropout\": null,\n  \"unk_token\": null,\n"
         "  \"continuing_subword_prefix\": null,\n  \"end_of_word_suffix\": null,\n  \"fuse_unk\": false,\n"
         "  \"byte_fallback\": false,\n  \"ignore_merges\": false,\n  \"vocab\": " +
         vocab_text(bpe) + ",\n  \"merges\": " + merges_text(bpe) + "\n }\n}\n";
}

std::string tokenizer_config_json_of(const TrainedBpe& bpe) {
  Json out = {{"tokenizer_class", "PreTrainedTokenizerFast"},
              {"add_prefix_space", false},
              {"clean_up_tokenization_spaces", false}};
  if (!bpe.specials.empty()) {
    for (const char* role : {"bos_token", "eos_token", "unk_token"}) out[role] = bpe.specials.front();
  }
  return json_text(out, 1) + "\n";
}

}  // namespace sepllm
