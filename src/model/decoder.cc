#include "model/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "ops/cached_attention.h"
#include "ops/nsa.h"
#include "ops/ops.h"
#include "tensor/tape.h"

namespace sepllm {
namespace {

// An activation: with a tape it stays until the backward pass and has a gradient.
Matrix allocate(const Context& ctx, int64_t n_rows, int64_t n_cols) {
  if (ctx.tape != nullptr) return ctx.tape->activation(n_rows, n_cols);
  return {ctx.arena.allocate<float>(n_rows * n_cols), n_rows, n_cols, n_cols};
}

// Releases what is allocated during its life, except for what a tape will read.
class ScratchScope {
 public:
  explicit ScratchScope(const Context& ctx) {
    if (ctx.tape == nullptr) scope_.emplace(ctx.arena);
  }

 private:
  std::optional<Arena::Scope> scope_;
};

// The text length that the sequence's rotary frequencies are computed for.
int64_t text_length(const Sequence& s) {
  return s.cache == nullptr ? std::ssize(s.tokens) : s.cache->policy().rope_length;
}

// How the queries and keys of some layers are rotated. Without a rope, no layer uses it.
struct Rotation {
  const RopeConfig* rope = nullptr;
  RopeTables first, second;  // second: of the queries' second places; without data: there are none
};

// One forward pass: data that its layers share, and the steps of a layer. Rows are the tokens of all
// sequences, one sequence after the other; `x` is the residual stream [n_tokens, hidden_size], to which every
// step adds.
class Pass {
 public:
  Pass(const Context& ctx, const ModelConfig& config, const ModelWeights& weights,
       std::span<const Sequence> sequences, AttentionProbe* probe, bool replay_layers)
      : ctx_(ctx),
        config_(config),
        weights_(weights),
        sequences_(sequences),
        probe_(probe),
        replay_layers_(replay_layers) {
    for (const Sequence& s : sequences) n_tokens_ += static_cast<int64_t>(s.tokens.size());
  }

  Matrix run() {
    const Matrix x = allocate(ctx_, n_tokens_, config_.hidden_size);
    const ScratchScope scope(ctx_);  // everything but x is scratch
    place_tokens();
    make_rotations();
    embed_tokens(x);  // x = embedding (+ learned positions)
    if (ctx_.tape == nullptr) allocate_layer();
    if (config_.position == PositionType::kAlibi) set_slopes();
    for (int64_t l = 0; l < config_.n_layers; ++l) {
      if (ctx_.tape == nullptr) {
        block(l, x);
      } else {
        ctx_.tape->mark_layer(l);
        ctx_.tape->segment(x, replay_layers_, [this, l, x] {
          allocate_layer();
          block(l, x);
        });
      }
    }
    end_chunks();  // after the last layer, because compressions move rows of all layers
    if (ctx_.tape != nullptr) ctx_.tape->mark_layer(config_.n_layers);
    ops::norm(ctx_, x, norm_operands(weights_.final_norm), x);
    return x;
  }

 private:
  ops::NormOperands norm_operands(const Norm& norm) const {
    return {.rms = config_.norm == NormType::kRmsNorm,
            .weight = norm.weight,
            .bias = norm.bias,
            .eps = static_cast<float>(config_.norm_eps),
            .offset = static_cast<float>(config_.norm_offset)};
  }

  // Buffers that every layer needs. All layers share one set, except with a tape.
  void allocate_layer() {
    normed_ = allocate(ctx_, n_tokens_, config_.hidden_size);
    qkv_ = allocate(ctx_, n_tokens_, config_.qkv_dim());
    attended_ = allocate(ctx_, n_tokens_, config_.n_heads * config_.head_dim);
    if (config_.has_nsa_gates()) gates_ = allocate(ctx_, n_tokens_, 3 * config_.n_heads);
  }

  // Enters the chunks into the caches, and collects every token's places for the position encoding.
  void place_tokens() {
    auto* cached = ctx_.arena.allocate<ops::CachedRows>(std::ssize(sequences_));
    size_t n_cached = 0;
    int64_t at = 0;
    for (const Sequence& s : sequences_) {
      if (s.cache != nullptr) cached[n_cached++] = {s.cache, s.tokens, at};
      at += std::ssize(s.tokens);
    }
    cached_ = {cached, n_cached};
    ops::begin_chunks(cached_);

    encoded_ = ctx_.arena.allocate<int64_t>(n_tokens_);
    second_encoded_ = ctx_.arena.allocate<int64_t>(n_tokens_);
    positions_ = ctx_.arena.allocate<int64_t>(n_tokens_);
    learned_ = ctx_.arena.allocate<int64_t>(n_tokens_);
    at = 0;
    for (const Sequence& s : sequences_) {
      const int64_t n = std::ssize(s.tokens);
      const int64_t begin = s.cache == nullptr ? 0 : s.cache->length();
      for (int64_t t = 0; t < n; ++t) positions_[at + t] = begin + t;
      const int64_t *first = positions_ + at, *second = first, *learned = first;
      if (s.cache != nullptr) {
        first = s.cache->encoded().data();
        learned = s.cache->learned().data();
        any_second_ = any_second_ || !s.cache->second_encoded().empty();
        second = s.cache->second_encoded().empty() ? first : s.cache->second_encoded().data();
      }
      std::copy_n(first, n, encoded_ + at);
      std::copy_n(second, n, second_encoded_ + at);
      std::copy_n(learned, n, learned_ + at);
      at += n;
    }
  }

  // The angles for each rope of the model, both for the policy's places and for the tokens' own positions, as
  // far as layers need them.
  void make_rotations() {
    const int64_t n_ropes = std::ssize(config_.ropes);
    rotations_ = ctx_.arena.allocate<Rotation>(2 * n_ropes);
    std::uninitialized_fill_n(rotations_, 2 * n_ropes, Rotation{});
    for (int64_t l = 0; l < config_.n_layers; ++l) {
      const LayerSpec& layer = config_.layer(l);
      if (layer.rope == LayerSpec::kNoRope) continue;
      Rotation& r = rotations_[2 * layer.rope + (layer.window > 0 ? 1 : 0)];
      if (r.rope != nullptr) continue;
      r.rope = config_.rope_of(l);
      r.first = tables(*r.rope, layer.window > 0 ? positions_ : encoded_);
      if (any_second_ && layer.window == 0) r.second = tables(*r.rope, second_encoded_);
    }
    if (any_second_ && n_ropes > 0) second_q_ = allocate(ctx_, n_tokens_, config_.qkv_dim());
  }
  const Rotation* rotation_of(int64_t l) const {
    const LayerSpec& layer = config_.layer(l);
    if (layer.rope == LayerSpec::kNoRope) return nullptr;
    return &rotations_[2 * layer.rope + (layer.window > 0 ? 1 : 0)];
  }

  void set_slopes() {
    auto* slopes = ctx_.arena.allocate<float>(config_.n_heads);
    std::transform(config_.alibi_slopes.begin(), config_.alibi_slopes.end(), slopes,
                   [](double slope) { return static_cast<float>(slope); });
    slopes_ = slopes;
  }

  // How the tokens of a text of this length are rotated.
  ops::RopeSpec rope_of(const RopeConfig& rope, int64_t length) const {
    if (!rope.by_length()) return {rope.inv_freq, rope.pairing, rope.attention_factor};
    auto* inv_freq = ctx_.arena.allocate<double>(std::ssize(rope.inv_freq));
    rope.frequencies(length, inv_freq);
    return {{inv_freq, rope.inv_freq.size()}, rope.pairing, rope.attention_factor};
  }

  RopeTables tables(const RopeConfig& rope, const int64_t* places) const {
    if (!rope.by_length())
      return ops::rope_tables(ctx_, rope_of(rope, 0), {places, static_cast<size_t>(n_tokens_)});
    const int64_t n_freq = std::ssize(rope.inv_freq);
    auto* cos = ctx_.arena.allocate<float>(n_tokens_ * n_freq);
    auto* sin = ctx_.arena.allocate<float>(n_tokens_ * n_freq);
    int64_t at = 0;
    for (const Sequence& s : sequences_) {  // each sequence has its own frequencies
      const ops::RopeSpec own = rope_of(rope, text_length(s));
      rope_tables(ctx_, own.inv_freq, {places + at, s.tokens.size()}, cos + at * n_freq, sin + at * n_freq,
                  own.factor);
      at += std::ssize(s.tokens);
    }
    return {n_freq, cos, sin};
  }

  // How each layer rotates keys that move.
  std::span<const ops::RopeSpec> layer_ropes(int64_t length) const {
    const int64_t n_ropes = std::ssize(config_.ropes);
    auto* specs = ctx_.arena.allocate<ops::RopeSpec>(n_ropes);
    for (int64_t k = 0; k < n_ropes; ++k) specs[k] = rope_of(config_.ropes[static_cast<size_t>(k)], length);
    auto* ropes = ctx_.arena.allocate<ops::RopeSpec>(config_.n_layers);
    for (int64_t l = 0; l < config_.n_layers; ++l) {
      const int64_t k = config_.layer(l).rope;
      ropes[l] = k == LayerSpec::kNoRope ? ops::RopeSpec() : specs[k];
    }
    return {ropes, static_cast<size_t>(config_.n_layers)};
  }

  void end_chunks() const {
    if (config_.rope_by_length() == nullptr) return ops::end_chunks(ctx_, layer_ropes(0), cached_);
    for (const ops::CachedRows& rows : cached_)
      ops::end_chunks(ctx_, layer_ropes(rows.cache->policy().rope_length), {&rows, 1});
  }

  void embed_tokens(const Matrix& x) const {
    const ScratchScope scope(ctx_);
    auto* ids = ctx_.arena.allocate<int64_t>(n_tokens_);
    int64_t at = 0;
    for (const Sequence& s : sequences_) {
      for (const int32_t id : s.tokens) ids[at++] = id;
    }
    const auto n = static_cast<size_t>(n_tokens_);
    ops::embed(ctx_, weights_.token_embedding, {ids, n}, x);
    if (config_.embed_scale != 1) ops::scale(ctx_, x, static_cast<float>(config_.embed_scale));
    if (config_.position == PositionType::kLearned)
      ops::embed(ctx_, weights_.position_embedding, {learned_, n}, x, /*accumulate=*/true);
  }

  // One transformer layer, by the block's type (model/config.h):
  //   sequential:      x += attention(norm1(x)); x += mlp(norm2(x))
  //   parallel:        x += attention(norm1(x)) + mlp(norm2(x)); shared: norm1 for both
  // The second norm of a parallel block therefore reads x before the attention's output is added. Layers
  // without norms before read x itself; those with norms after add post_norm(attention(...)).
  void block(int64_t l, const Matrix& x) {
    const LayerWeights& w = weights_.layers[static_cast<size_t>(l)];
    const ScratchScope scope(ctx_);
    // normed_ [n_tokens, hidden_size] = norm1(x)
    read_residual(w.norm1, x);
    // attended_ [n_tokens, n_heads * head_dim] = attention, from normed_ through queries, keys and values
    attend(l, w);
    if (config_.block == BlockType::kSequential) {
      // x += attention's output; then normed_ = norm2(x)
      add_projection(w.attention_out, w.post_norm1, attended_, x);
      second_norm(w, x);
    } else {
      // The same in the other order; a shared norm leaves norm1(x) in normed_.
      if (config_.block == BlockType::kParallel) second_norm(w, x);
      add_projection(w.attention_out, w.post_norm1, attended_, x);
    }
    // x += MLP(normed_)
    mlp(w, x);
  }

  // normed = norm(x), or a copy of x. (A copy, because x changes before a tape's backward pass reads it.)
  void read_residual(const Norm& norm, const Matrix& x) const {
    if (norm.weight != nullptr) {
      ops::norm(ctx_, x, norm_operands(norm), normed_);
    } else {
      ops::copy(ctx_, x, normed_);
    }
  }

  void second_norm(const LayerWeights& w, const Matrix& x) {
    if (ctx_.tape != nullptr) normed_ = allocate(ctx_, n_tokens_, config_.hidden_size);
    read_residual(w.norm2, x);
  }

  // x += from W^T + b, or x += post_norm(from W^T + b)
  void add_projection(const Linear& w, const Norm& post_norm, const Matrix& from, const Matrix& x) const {
    const bool plain = post_norm.weight == nullptr;
    const ScratchScope scope(ctx_);
    const Matrix to = plain ? x : allocate(ctx_, n_tokens_, config_.hidden_size);
    const LinearPart part{&w.weight, w.bias, to, /*accumulate=*/plain};
    ops::linear(ctx_, from, {&part, 1});
    if (plain) return;
    ops::norm(ctx_, to, norm_operands(post_norm), to);
    ops::add(ctx_, x, to);
  }

  // x += down(f(up(normed))), or x += down(f(gate(normed)) * up(normed)).
  void mlp(const LayerWeights& w, const Matrix& x) const {
    const int64_t n = config_.intermediate_size;
    const auto part = [](const Linear& linear, const Matrix& to) {
      return LinearPart{&linear.weight, linear.bias, to};
    };
    if (!config_.gated_mlp) {
      const Matrix up = allocate(ctx_, n_tokens_, n);
      const LinearPart one = part(w.mlp_in[0], up);
      ops::linear(ctx_, normed_, {&one, 1});
      ops::activate(ctx_, config_.activation, up);
      return add_projection(w.mlp_down, w.post_norm2, up, x);
    }
    Matrix gate, up;
    if (w.mlp_in.size() == 1) {  // rows of [gate | up]
      const Matrix both = allocate(ctx_, n_tokens_, 2 * n);
      gate = both.columns(0, n), up = both.columns(n, n);
      const LinearPart one = part(w.mlp_in[0], both);
      ops::linear(ctx_, normed_, {&one, 1});
    } else {
      up = allocate(ctx_, n_tokens_, n);
      gate = allocate(ctx_, n_tokens_, n);
      const LinearPart parts[] = {part(w.mlp_in[0], gate), part(w.mlp_in[1], up)};
      ops::linear(ctx_, normed_, parts);
    }
    ops::activate_gated(ctx_, config_.activation, gate, up);
    add_projection(w.mlp_down, w.post_norm2, gate, x);
  }

  // attended [n_tokens, n_heads * head_dim] = softmax(scale q k^T) v of every sequence over its own keys.
  void attend(int64_t l, const LayerWeights& w) {
    // qkv [n_tokens, qkv_dim], by one matrix or by three that write their own columns.
    LinearPart parts[4];
    SEPLLM_CHECK(w.qkv.size() < std::size(parts));
    size_t n_parts = 0;
    for (const Linear& part : w.qkv)
      parts[n_parts++] = {&part.weight, part.bias, qkv_.columns(part.out_offset, part.weight.n_out)};
    if (uses_gates(l)) parts[n_parts++] = {&w.gates.weight, nullptr, gates_};
    ops::linear(ctx_, normed_, std::span(parts, n_parts));
    norm_queries_and_keys(l, w);
    if (const Rotation* r = rotation_of(l)) {  // queries and keys, in place
      ops::rope(ctx_, {.q = queries(qkv_),
                       .k = keys(),
                       .n_rows = n_tokens_,
                       .pairing = r->rope->pairing,
                       .first = r->first,
                       .second = r->second,
                       .second_q = queries(second_q_)});
    }
    if (probe_ != nullptr) show_probe(l);
    attend_to_patterns(l);
    attend_to_caches(l);
  }

  void norm_queries_and_keys(int64_t l, const LayerWeights& w) const {
    const QkNorm kind = config_.layer(l).qk_norm;
    if (kind == QkNorm::kHead) {
      ops::norm_heads(ctx_, queries(qkv_), n_tokens_, norm_operands(w.q_norm));
      ops::norm_heads(ctx_, keys(), n_tokens_, norm_operands(w.k_norm));
    } else if (kind == QkNorm::kRow) {
      const int64_t d = config_.head_dim;
      const Matrix q = qkv_.columns(0, config_.n_heads * d);
      const Matrix k = qkv_.columns(config_.qkv.k_offset * d, config_.n_kv_heads * d);
      ops::norm(ctx_, q, norm_operands(w.q_norm), q);
      ops::norm(ctx_, k, norm_operands(w.k_norm), k);
    }
  }

  // Where the heads lie in a QKV row (QkvLayout counts in head_dims) and in a row of the attention's output.
  Heads queries(const Matrix& rows) const {
    const int64_t d = config_.head_dim;
    return {rows.data,
            rows.stride,
            {.n = config_.n_heads,
             .dim = d,
             .group = config_.group(),
             .stride = d,
             .group_stride = config_.qkv.q_group_stride * d}};
  }
  Heads kv_heads(int64_t offset) const {
    const int64_t d = config_.head_dim;
    return {qkv_.data, qkv_.stride,
            HeadLayout::even(config_.n_kv_heads, d, config_.qkv.kv_stride * d, offset * d)};
  }
  Heads keys() const { return kv_heads(config_.qkv.k_offset); }
  Heads values() const { return kv_heads(config_.qkv.v_offset); }
  Heads attended_heads() const {
    return {attended_.data, attended_.stride, HeadLayout::dense(config_.n_heads, config_.head_dim)};
  }

  const Pattern& pattern_of(const Sequence& s, int64_t l) const {
    return s.patterns[s.patterns.size() == 1 ? 0 : static_cast<size_t>(l)];
  }
  // Whether a sequence attends by NSA in this layer.
  bool is_nsa(const Sequence& s, int64_t l) const {
    return s.cache != nullptr ? s.cache->blocks(l).nsa() : pattern_of(s, l).blocks.nsa();
  }
  bool uses_gates(int64_t l) const {
    const bool used =
        std::any_of(sequences_.begin(), sequences_.end(), [&](const Sequence& s) { return is_nsa(s, l); });
    SEPLLM_CHECK(!used || config_.layer(l).nsa_gates);
    return used;
  }

  float scale(int64_t l) const { return static_cast<float>(config_.layer(l).attention_scale); }

  // Attention of the sequences without a cache, which attend to themselves.
  void attend_to_patterns(int64_t l) const {
    auto* list = ctx_.arena.allocate<PatternSequence>(static_cast<int64_t>(sequences_.size()));
    auto* nsa_list = ctx_.arena.allocate<NsaSequence>(static_cast<int64_t>(sequences_.size()));
    size_t n = 0, n_nsa = 0;
    int64_t first_row = 0;
    NsaRule rule;  // of all sequences that attend by NSA
    for (const Sequence& s : sequences_) {
      const auto n_rows = static_cast<int64_t>(s.tokens.size());
      if (s.cache == nullptr && is_nsa(s, l)) {
        const Pattern& p = pattern_of(s, l);
        SEPLLM_CHECK(n_nsa == 0 || nsa_rule(p.blocks) == rule);
        rule = nsa_rule(p.blocks);
        nsa_list[n_nsa++] = {first_row, n_rows, p.document_starts};
      } else if (s.cache == nullptr) {
        list[n++] = {first_row, n_rows, &pattern_of(s, l)};
      }
      first_row += n_rows;
    }
    if (n_nsa > 0) {
      ops::nsa_attend(ctx_, {.rule = rule,
                             .scale = scale(l),
                             .q = queries(qkv_),
                             .k = keys(),
                             .v = values(),
                             .gates = gates_,
                             .out = attended_heads(),
                             .sequences = {nsa_list, n_nsa}});
    }
    if (n == 0) return;
    ops::pattern_attend(ctx_, {.scale = scale(l),
                               .q = queries(qkv_),
                               .k = keys(),
                               .v = values(),
                               .out = attended_heads(),
                               .alibi_slopes = slopes_,
                               .sequences = {list, n}});
  }

  // Attention of the sequences with a cache. The chunk's own keys and values enter the cache first; then the
  // queries attend to everything that it keeps.
  void attend_to_caches(int64_t l) const {
    if (cached_.empty()) return;
    const Rotation* r = rotation_of(l);
    const bool second = r != nullptr && r->second.cos != nullptr;
    ops::cached_attend(ctx_,
                       {.layer = l,
                        .scale = scale(l),
                        .q = queries(qkv_),
                        .k = keys(),
                        .v = values(),
                        .second_q = second ? queries(second_q_) : Heads(),
                        .out = attended_heads(),
                        .alibi_slopes = slopes_,
                        .gates = gates_},
                       cached_);
  }

  void show_probe(int64_t l) const {
    const auto dense = [&](const Heads& from) {
      const int64_t n = from.layout.n, d = from.layout.dim;
      const Matrix to = allocate(ctx_, n_tokens_, n * d);
      for (int64_t r = 0; r < n_tokens_; ++r) {
        for (int64_t h = 0; h < n; ++h) std::copy_n(from.at(r, h), d, to.row(r) + h * d);
      }
      return to;
    };
    const Matrix q = dense(queries(qkv_)), k = dense(keys());
    probe_->layer(l, q, k, scale(l));
  }

  const Context& ctx_;
  const ModelConfig& config_;
  const ModelWeights& weights_;
  std::span<const Sequence> sequences_;
  AttentionProbe* probe_;
  bool replay_layers_;
  int64_t n_tokens_ = 0;
  std::span<const ops::CachedRows> cached_{};  // for the sequences that have a cache
  int64_t* encoded_ = nullptr;                 // [n_tokens] the policy's places
  int64_t* second_encoded_ = nullptr;          // [n_tokens] KvCache::second_encoded(), or encoded_
  int64_t* positions_ = nullptr;               // [n_tokens] positions in the text
  int64_t* learned_ = nullptr;                 // [n_tokens]
  bool any_second_ = false;                    // whether a cache has second places
  const float* slopes_ = nullptr;              // [n_heads]; null: no ALiBi
  Rotation* rotations_ = nullptr;              // [ropes][by the policy's places, by positions]
  Matrix normed_;                              // [n_tokens, hidden_size] the input of a layer's matrices
  Matrix qkv_, second_q_;                      // [n_tokens, qkv_dim]; of second_q only the queries are used
  Matrix attended_;                            // [n_tokens, n_heads * head_dim]
  Matrix gates_;                               // [n_tokens, 3 n_heads]; without data: the model has none
};

// The largest place that the sequence's new tokens take in the position encoding.
int64_t last_place(const Sequence& s) {
  const auto n = static_cast<int64_t>(s.tokens.size());
  return s.cache == nullptr ? n - 1 : s.cache->last_place(n);
}

}  // namespace

Decoder Decoder::load(const std::string& folder, const WeightOptions& options) {
  ModelSpec spec = read_model_spec(folder);
  WeightStore store = WeightStore::open(folder);
  const StoredNames names = stored_names(store, spec);
  spec.config.tied_embeddings = names.tied;
  return {spec.config, load_weights(std::move(store), spec, names, options)};
}

Decoder::Decoder(ModelConfig config, ModelWeights weights)
    : config_(std::move(config)), weights_(std::move(weights)) {}

KvLayout Decoder::kv_layout(DType type) const {
  return {config_.n_layers, config_.n_kv_heads, config_.head_dim, type, config_.own_windows()};
}

// A layer's own window is already part of its pattern (Policy::rule).
void Decoder::check_patterns(const Sequence& s) const {
  for (int64_t l = 0; l < config_.n_layers; ++l) {
    const int64_t window = config_.layer(l).window;
    const Pattern& p = s.patterns[s.patterns.size() == 1 ? 0 : static_cast<size_t>(l)];
    SEPLLM_CHECK(window == 0 ||
                 (p.window <= window && p.n_initial == 0 && p.extra.empty() && p.blocks.count == 0));
  }
}

void Decoder::check(std::span<const Sequence> sequences) const {
  for (const Sequence& s : sequences) {
    SEPLLM_CHECK(!s.tokens.empty());
    SEPLLM_CHECK((s.cache != nullptr) !=
                 (s.patterns.size() == 1 || static_cast<int64_t>(s.patterns.size()) == config_.n_layers));
    for (size_t t = 0; t < s.tokens.size(); ++t) {
      if (s.tokens[t] < 0 || s.tokens[t] >= config_.vocab_size) {
        throw Error(ErrorCode::kInvalidArgument, "token id outside the model's vocabulary",
                    {.place = fmt::format("token {}", t),
                     .expected = fmt::format("0 to {}", config_.vocab_size - 1),
                     .got = std::to_string(s.tokens[t])});
      }
    }
    if (s.cache == nullptr) check_patterns(s);
    check_place(last_place(s), text_length(s));
    if (s.cache != nullptr) s.cache->make_room(s.tokens);
  }
}

void Decoder::check_place(int64_t place, int64_t text_length) const {
  const RopeConfig* rope = config_.rope_by_length();
  int64_t limit = config_.max_positions;
  if (rope != nullptr && rope->dynamic) limit = std::max(limit, text_length);
  // (Longer texts than the trained length have frequencies that reach to the end.)
  if (rope != nullptr && rope->longrope && text_length <= rope->trained_length())
    limit = std::min(limit, rope->trained_length());
  if (place < limit) return;
  if (config_.position == PositionType::kLearned) {
    throw Error(ErrorCode::kOutOfRange, "the model's learned positions end here",
                {.expected = fmt::format("at most {} positions", config_.max_positions),
                 .got = fmt::format("position {}", place),
                 .hint = fmt::format("streaming policies with {} cache and a smaller {} continue for ever",
                                     option_name("positions"), option_name("capacity"))});
  }
  if (!warned_of_limit_.exchange(true)) {
    log_warning(rope != nullptr
                    ? fmt::format("positions go beyond the {} that the rotary frequencies are made for "
                                  "({}): predictions may degrade",
                                  limit, option_name("rope-length"))
                    : fmt::format("positions go beyond the {} that the model was trained for: its "
                                  "predictions may degrade",
                                  limit));
  }
}

Matrix Decoder::forward(const Context& ctx, std::span<const Sequence> sequences, AttentionProbe* probe,
                        bool replay_layers) const {
  check(sequences);
  if (ctx.tape == nullptr) return Pass(ctx, config_, weights_, sequences, probe, false).run();
  // The pass lives as long as its tape, because replayed layers run on it.
  static_assert(std::is_trivially_destructible_v<Pass>);
  for (const Sequence& s : sequences) SEPLLM_CHECK(s.cache == nullptr);
  void* memory = ctx.arena.allocate_bytes(sizeof(Pass));
  return (new (memory) Pass(ctx, config_, weights_, sequences, probe, replay_layers))->run();
}

void Decoder::logits(const Context& ctx, const Matrix& hidden, const Matrix& out) const {
  linear(ctx, hidden, weights_.head.weight, weights_.head.bias, out);
}

void Decoder::nll(const Context& ctx, const Matrix& hidden, std::span<const int32_t> targets,
                  double* out) const {
  linear_nll(ctx, hidden, weights_.head.weight, weights_.head.bias, targets, out);
}

void Decoder::loss(const Context& ctx, const Matrix& hidden, std::span<const int32_t> targets,
                   const float* factors, double* out) const {
  SEPLLM_CHECK(ctx.tape != nullptr);
  ops::cross_entropy(
      ctx, hidden,
      {.head = &weights_.head.weight, .bias = weights_.head.bias, .targets = targets, .factors = factors},
      out);
}

}  // namespace sepllm
