// Attention over the caller's memory.
#include <sepllm/sepllm.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "attention/pattern.h"
#include "capi/guard.h"
#include "capi/runtime.h"
#include "capi/tensor.h"
#include "kernels/attention/pattern_attention.h"

namespace sepllm::capi {
namespace {

// Ascending positions of an array, below n_tokens.
std::vector<int64_t> positions(const int64_t* data, size_t n, int64_t n_tokens, const char* name) {
  const std::span<const int64_t> all = array(data, n, name);
  for (size_t i = 0; i < all.size(); ++i) {
    const bool ascends = i == 0 ? all[i] >= 0 : all[i] > all[i - 1];
    require(ascends && all[i] < n_tokens,
            (std::string(name) + ": not ascending positions below n_tokens").c_str());
  }
  return {all.begin(), all.end()};
}

// A call's operands as the kernel takes them. It keeps the patterns that they point to.
class PatternCall {
 public:
  explicit PatternCall(const sepllm_attention& a) : source_(a) {
    constexpr int64_t kMost = int64_t{1} << 31;
    for (const int64_t n : {a.batch, a.heads, a.kv_heads, a.tokens})
      require(n >= 1 && n < kMost, "batch, heads, kv_heads and tokens are not in 1 to 2^31 - 1");
    require(a.head_dim >= 1 && a.head_dim <= 1024, "head_dim is not in 1 to 1024");
    require(a.heads % a.kv_heads == 0, "kv_heads does not divide heads");
    require(std::isfinite(a.scale), "scale is not finite");
    args_.scale = a.scale != 0.0F ? a.scale : 1.0F / std::sqrt(static_cast<float>(a.head_dim));
    args_.q = checked_heads(a.q, shape(a.heads), "q", false);
    args_.k = checked_heads(a.k, shape(a.kv_heads), "k", false);
    args_.v = checked_heads(a.v, shape(a.kv_heads), "v", false);
    args_.out = checked_heads(a.out, shape(a.heads), "out", true);
    if (a.log_sum_exp.data != nullptr)
      args_.log_sum_exp = checked_heads(a.log_sum_exp, shape(a.heads, 1), "log_sum_exp", true);
    require(args_.k.row_stride == args_.v.row_stride &&
                args_.k.layout.group_stride == args_.v.layout.group_stride,
            "k and v have different head_stride or token_stride");
    args_.alibi_slopes = a.alibi_slopes;
    add_sequences();
  }
  const PatternAttentionArgs& args() const { return args_; }

  // The operand of a gradient.
  Heads gradient(const sepllm_tensor& t, bool of_kv, const char* name, bool written) const {
    return checked_heads(t, shape(of_kv ? source_.kv_heads : source_.heads), name, written);
  }
  // Sets the rows of padding to 0.
  void clear_padding(const Heads& x) const {
    for (const PatternSequence& s : sequences_) {
      for (int64_t row = s.n_rows; row < source_.tokens; ++row) {
        for (int64_t head = 0; head < x.layout.n; ++head)
          std::fill_n(x.at(s.batch, row, head), x.layout.dim, 0.0F);
      }
    }
  }

 private:
  TensorShape shape(int64_t heads, int64_t dim = 0) const {
    return {source_.batch, heads, source_.tokens, dim > 0 ? dim : source_.head_dim};
  }

  void add_sequences() {
    const auto patterns = array(source_.patterns, source_.n_patterns, "patterns");
    require(patterns.size() == 1 || std::ssize(patterns) == source_.batch,
            "n_patterns is neither 1 nor the batch");
    for (const sepllm_pattern& p : patterns) {
      require(p.n_tokens >= 0 && p.n_tokens <= source_.tokens, "a pattern's n_tokens is not in 0 to tokens");
      require(p.n_initial >= 0, "a pattern's n_initial is negative");
      require(p.window >= 0, "a pattern's window is negative");
      patterns_.push_back(
          {.n_initial = p.n_initial,
           .extra = positions(p.kept, p.kept != nullptr ? p.n_kept : 0, p.n_tokens, "kept"),
           .window = p.window > 0 ? std::min(p.window, kUnlimited) : kUnlimited,
           .document_starts = positions(p.document_starts, p.document_starts != nullptr ? p.n_documents : 0,
                                        p.n_tokens, "document_starts")});
    }
    for (int64_t b = 0; b < source_.batch; ++b) {
      const size_t i = patterns.size() == 1 ? 0 : static_cast<size_t>(b);
      sequences_.push_back({.n_rows = patterns[i].n_tokens, .pattern = &patterns_[i], .batch = b});
    }
    args_.sequences = sequences_;
  }

  const sepllm_attention& source_;
  PatternAttentionArgs args_;
  std::vector<Pattern> patterns_;
  std::vector<PatternSequence> sequences_;
};

}  // namespace
}  // namespace sepllm::capi

using namespace sepllm;        // NOLINT(google-build-using-namespace)
using namespace sepllm::capi;  // NOLINT(google-build-using-namespace)

sepllm_status sepllm_attention_forward(sepllm_runtime* runtime, const sepllm_attention* attention) {
  return guarded([&] {
    Runtime& shared = *given(runtime, "runtime").shared;
    const PatternCall call(given(attention, "attention"));
    const Turn turn(shared.mutex());
    pattern_attention(shared.context(), call.args());
    call.clear_padding(call.args().out);
    if (call.args().log_sum_exp.data != nullptr) call.clear_padding(call.args().log_sum_exp);
  });
}

sepllm_status sepllm_attention_backward(sepllm_runtime* runtime, const sepllm_attention* attention,
                                        sepllm_tensor d_out, sepllm_tensor d_q, sepllm_tensor d_k,
                                        sepllm_tensor d_v) {
  return guarded([&] {
    Runtime& shared = *given(runtime, "runtime").shared;
    const PatternCall call(given(attention, "attention"));
    require(call.args().log_sum_exp.data != nullptr, "the backward pass needs log_sum_exp");
    const AttentionGradients gradients{.d_out = call.gradient(d_out, false, "d_out", false),
                                       .d_q = call.gradient(d_q, false, "d_q", true),
                                       .d_k = call.gradient(d_k, true, "d_k", true),
                                       .d_v = call.gradient(d_v, true, "d_v", true),
                                       .same_for_any_threads = true};
    const Turn turn(shared.mutex());
    pattern_attention_backward(shared.context(), call.args(), gradients);
    for (const Heads& x : {gradients.d_q, gradients.d_k, gradients.d_v}) call.clear_padding(x);
  });
}
