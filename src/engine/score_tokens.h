// Log-probabilities of tokens from logits or hidden states.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/token_score.h"
#include "model/decoder.h"
#include "tensor/context.h"
#include "tensor/matrix.h"

namespace sepllm {

// The score of targets[r] under logits[r], with the n_top most likely tokens (0: none). Bits do not depend on
// the number of threads or on other rows. logits: [n, vocab_size]; the scores are added to `out`.
void score_logits(const Context& ctx, const Matrix& logits, std::span<const int32_t> targets, int64_t n_top,
                  std::vector<TokenScore>* out);

// The same from hidden states [n, hidden_size], whose logits never exist all at once.
void score_hidden(const Context& ctx, const Decoder& decoder, const Matrix& hidden,
                  std::span<const int32_t> targets, int64_t n_top, std::vector<TokenScore>* out);

// Whether all log-probabilities are finite.
bool finite(std::span<const TokenScore> scores);

}  // namespace sepllm
