#include "text/tokenizer.h"

#include <sepllm/sepllm.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "capi/guard.h"
#include "capi/model.h"
#include "text/separators.h"

using namespace sepllm;        // NOLINT(google-build-using-namespace)
using namespace sepllm::capi;  // NOLINT(google-build-using-namespace)

sepllm_status sepllm_tokenizer_load(const char* path, sepllm_tokenizer** out) {
  return guarded([&] {
    given(out, "out");
    given(path, "path");
    *out = new sepllm_tokenizer{load_tokenizer(path)};
  });
}

sepllm_status sepllm_model_tokenizer(const sepllm_model* model, sepllm_tokenizer** out) {
  return guarded([&] {
    given(out, "out");
    const auto& loaded = given(model, "model").shared;
    const Tokenizer& tokenizer = loaded->model.tokenizer_or_error();
    // The handle keeps the whole model alive.
    *out = new sepllm_tokenizer{std::shared_ptr<const Tokenizer>(loaded, &tokenizer)};
  });
}

void sepllm_tokenizer_free(sepllm_tokenizer* tokenizer) { delete tokenizer; }

int64_t sepllm_tokenizer_vocab_size(const sepllm_tokenizer* tokenizer) {
  return tokenizer == nullptr ? 0 : tokenizer->shared->vocab_size();
}

int32_t sepllm_tokenizer_bos(const sepllm_tokenizer* tokenizer) {
  return tokenizer == nullptr ? -1 : tokenizer->shared->bos_id().value_or(-1);
}

int32_t sepllm_tokenizer_eos(const sepllm_tokenizer* tokenizer) {
  return tokenizer == nullptr ? -1 : tokenizer->shared->eos_id().value_or(-1);
}

int sepllm_tokenizer_adds_bos(const sepllm_tokenizer* tokenizer) {
  return tokenizer != nullptr && tokenizer->shared->adds_bos() ? 1 : 0;
}

sepllm_status sepllm_tokenizer_encode(const sepllm_tokenizer* tokenizer, const char* text, size_t n_bytes,
                                      int flags, int32_t** ids, size_t* n_ids) {
  return guarded([&] {
    const Tokenizer& t = *given(tokenizer, "tokenizer").shared;
    given(ids, "ids");
    given(n_ids, "n_ids");
    const auto bytes = array(text, n_bytes, "text");
    require((flags & ~(SEPLLM_PLAIN_TEXT | SEPLLM_ADD_SPECIAL)) == 0, "unknown flags");
    const EncodeOptions options{.parse_special = (flags & SEPLLM_PLAIN_TEXT) == 0,
                                .add_special = (flags & SEPLLM_ADD_SPECIAL) != 0};
    const std::vector<int32_t> found = t.encode({bytes.data(), bytes.size()}, options);
    *ids = copy_array(std::span<const int32_t>(found));
    *n_ids = found.size();
  });
}

sepllm_status sepllm_tokenizer_decode(const sepllm_tokenizer* tokenizer, const int32_t* ids, size_t n_ids,
                                      int flags, char** text, size_t* n_bytes) {
  return guarded([&] {
    const Tokenizer& t = *given(tokenizer, "tokenizer").shared;
    given(text, "text");
    const auto all = array(ids, n_ids, "ids");
    require((flags & ~SEPLLM_SKIP_SPECIAL) == 0, "unknown flags");
    const std::string bytes = t.decode({all.begin(), all.end()}, (flags & SEPLLM_SKIP_SPECIAL) != 0);
    *text = copy_text(bytes);
    if (n_bytes != nullptr) *n_bytes = bytes.size();
  });
}

sepllm_status sepllm_tokenizer_separators(const sepllm_tokenizer* tokenizer, const char* rule,
                                          int64_t vocab_size, int streaming, int32_t** ids, size_t* n_ids) {
  return guarded([&] {
    const Tokenizer& t = *given(tokenizer, "tokenizer").shared;
    given(ids, "ids");
    given(n_ids, "n_ids");
    require(vocab_size >= 0 && vocab_size <= INT32_MAX, "vocab_size is not in 0 to 2^31 - 1");
    const std::vector<int32_t> found =
        make_separators(t, rule != nullptr ? rule : "text", vocab_size > 0 ? vocab_size : t.vocab_size(),
                        streaming != 0)
            .ids();
    *ids = copy_array(std::span<const int32_t>(found));
    *n_ids = found.size();
  });
}
