// Shared by the tests of the C functions: a small random model, and handles that free themselves.
#pragma once

#include <gtest/gtest.h>
#include <sepllm/sepllm.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "model/random_model.h"
#include "tests/support/support.h"

namespace sepllm::test {

struct Free {
  void operator()(sepllm_runtime* p) const { sepllm_runtime_free(p); }
  void operator()(sepllm_model* p) const { sepllm_model_free(p); }
  void operator()(sepllm_tokenizer* p) const { sepllm_tokenizer_free(p); }
  void operator()(sepllm_session* p) const { sepllm_session_free(p); }
  void operator()(sepllm_generation* p) const { sepllm_generation_free(p); }
  void operator()(sepllm_cache* p) const { sepllm_cache_free(p); }
};
template <typename T>
using Handle = std::unique_ptr<T, Free>;

// The call must succeed.
inline void ok(sepllm_status status) { ASSERT_EQ(status, SEPLLM_OK) << sepllm_last_error(); }
// The call must fail with this code, and the message must contain `part`.
inline void refused(sepllm_status status, sepllm_status wanted, const std::string& part) {
  EXPECT_EQ(status, wanted) << sepllm_last_error();
  EXPECT_NE(std::string(sepllm_last_error()).find(part), std::string::npos) << sepllm_last_error();
}

class CApiModel : public ::testing::Test {
 protected:
  CApiModel() {
    write_random_model(folder_.path(), {.variant = "llama", .seed = 3, .hidden_size = 32, .n_layers = 2});
    sepllm_model* model = nullptr;
    ok(sepllm_model_load(folder_.path().c_str(), R"({"threads": 2})", &model));
    model_.reset(model);
    n_logits_ = sepllm_model_vocab_size(model);
    const std::string alphabet = "abcdefg .,\n";
    const Rng rng(1);
    for (uint64_t k = 0; k < 200; ++k) ids_.push_back(alphabet[rng.bits(k) % alphabet.size()]);
  }

  Handle<sepllm_session> session(const char* options = nullptr, sepllm_runtime* runtime = nullptr) const {
    sepllm_session* out = nullptr;
    ok(sepllm_session_new(model_.get(), options, runtime, &out));
    return Handle<sepllm_session>(out);
  }
  std::vector<float> logits(const Handle<sepllm_session>& session) const {
    std::vector<float> out(static_cast<size_t>(n_logits_));
    ok(sepllm_session_logits(session.get(), out.data(), n_logits_));
    return out;
  }
  // The logits after tokens [first, first + n) of the text were fed.
  std::vector<float> fed(const Handle<sepllm_session>& session, size_t first, size_t n) const {
    ok(sepllm_session_feed(session.get(), ids_.data() + first, n));
    return logits(session);
  }

  TemporaryFolder folder_;
  Handle<sepllm_model> model_;
  int64_t n_logits_ = 0;
  std::vector<int32_t> ids_;
};

inline constexpr const char* kSepPolicy = R"({"policy": "sep", "init": 3, "window": 7, "prefill-chunk": 9})";

}  // namespace sepllm::test
