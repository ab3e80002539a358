// A small model in GGUF, with a tokenizer, cut at every length and changed at every byte of its header: each
// time an Error or a model, nothing else. (Changed weights are other weights: a few are enough.)
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "checkpoint/gguf_writer.h"
#include "tests/fuzz/checkpoint_inputs.h"
#include "tests/support/support.h"

namespace sepllm {
namespace {

GgufFields model_fields() {
  GgufFields f;
  f.text("general.architecture", "llama");
  for (const auto& [key, value] :
       {std::pair("context_length", 16), std::pair("embedding_length", 8), std::pair("block_count", 1),
        std::pair("feed_forward_length", 8), std::pair("attention.head_count", 2),
        std::pair("attention.head_count_kv", 1), std::pair("rope.dimension_count", 4)})
    f.u32(std::string("llama.") + key, static_cast<uint32_t>(value));
  f.f32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  return f;
}

void add_bpe(GgufFields* f) {
  f->text("tokenizer.ggml.model", "gpt2");
  f->text("tokenizer.ggml.pre", "smollm");
  f->texts("tokenizer.ggml.tokens", {"A", "b", "\xC4\xA0",
                                     "\xC4\xA0"
                                     "b",
                                     "1", ",", "<|end|>", "x"});
  f->i32s("tokenizer.ggml.token_type", {1, 1, 1, 1, 1, 1, 3, 4});
  f->texts("tokenizer.ggml.merges", {"\xC4\xA0 b"});
  f->u32("tokenizer.ggml.bos_token_id", 6);
  f->flag("tokenizer.ggml.add_bos_token", true);
  f->text("tokenizer.chat_template", "{{ bos_token }}");
}

void add_sentencepiece(GgufFields* f) {
  f->text("tokenizer.ggml.model", "llama");
  std::vector<std::string> tokens = {"<unk>",
                                     "<s>",
                                     "\xE2\x96\x81",
                                     "A",
                                     "b",
                                     "\xE2\x96\x81"
                                     "A",
                                     "<x>",
                                     "1"};
  f->texts("tokenizer.ggml.tokens", tokens);
  f->i32s("tokenizer.ggml.token_type", {2, 3, 1, 1, 1, 1, 4, 1});
  f->f32s("tokenizer.ggml.scores", {0, 0, -1, -2, -3, -1, 0, -4});
  f->u32("tokenizer.ggml.bos_token_id", 1);
}

// The bytes of a model with 8 tokens.
std::string model_bytes(void (*add_tokenizer)(GgufFields*)) {
  const test::TemporaryFolder folder;
  GgufFields fields = model_fields();
  add_tokenizer(&fields);
  const auto tensor = [](const std::string& name, std::vector<int64_t> shape) {
    return StoredTensor{.name = name, .type = DType::kF32, .shape = std::move(shape)};
  };
  const std::vector<StoredTensor> tensors = {
      tensor("token_embd.weight", {8, 8}),        tensor("output_norm.weight", {8}),
      tensor("blk.0.attn_norm.weight", {8}),      tensor("blk.0.attn_q.weight", {8, 8}),
      tensor("blk.0.attn_k.weight", {4, 8}),      tensor("blk.0.attn_v.weight", {4, 8}),
      tensor("blk.0.attn_output.weight", {8, 8}), tensor("blk.0.ffn_norm.weight", {8}),
      tensor("blk.0.ffn_gate.weight", {8, 8}),    tensor("blk.0.ffn_up.weight", {8, 8}),
      tensor("blk.0.ffn_down.weight", {8, 8}),    tensor("rope_freqs.weight", {2})};
  GgufWriter writer(folder.file("m.gguf"), fields, tensors);
  const std::vector<float> ones(64, 1.0F);
  for (size_t k = 0; k < tensors.size(); ++k) writer.write(ones.data());
  writer.commit();
  return read_file(folder.file("m.gguf"));
}

class BrokenGgufModel : public testing::TestWithParam<void (*)(GgufFields*)> {};

TEST_P(BrokenGgufModel, EveryTruncationIsRefused) {
  const std::string bytes = model_bytes(GetParam());
  const HeldWarnings quiet;
  ASSERT_TRUE(test::accepts_gguf_model(bytes));
  constexpr size_t kPadding = 24;  // behind the last tensor, of two floats: nobody misses it
  for (size_t n = 0; n < bytes.size() - kPadding; ++n) {
    const std::vector<char> exact(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    EXPECT_FALSE(test::accepts_gguf_model({exact.data(), exact.size()})) << n;
  }
}

TEST_P(BrokenGgufModel, EveryChangedByteIsAnErrorOrAModel) {
  const std::string bytes = model_bytes(GetParam());
  const HeldWarnings quiet;
  const size_t header = bytes.find("blk.0.ffn_down.weight") + 100;
  int accepted = 0, n = 0;
  for (size_t k = 0; k < bytes.size(); k += k < header ? 1 : 37) {
    for (const char change : {'\x01', '\x80', '\xFF'}) {
      std::vector<char> changed(bytes.begin(), bytes.end());
      changed[k] = static_cast<char>(changed[k] ^ change);
      accepted += test::accepts_gguf_model({changed.data(), changed.size()}) ? 1 : 0;
      ++n;
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_GT(n, 3000);
  EXPECT_LT(accepted, n * 3 / 4);
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, BrokenGgufModel, testing::Values(&add_bpe, &add_sentencepiece),
                         [](const auto& one) { return one.index == 0 ? "bpe" : "sentencepiece"; });

}  // namespace
}  // namespace sepllm
