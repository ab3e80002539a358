#include "cache/kv_cache.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "attention/nsa_rule.h"
#include "base/check.h"

namespace sepllm {
namespace {

// Rows of 64 bytes or more begin on cache lines; smaller ones share them.
int64_t padded_row_bytes(int64_t head_dim, DType type) {
  const int64_t bytes = head_dim * dtype_size(type);
  return bytes < 64 ? bytes : (bytes + 63) / 64 * 64;
}
// Elements from the beginning of a row to that of the next. (The type is never a block type.)
int64_t row_elements(DType type, int64_t row_bytes) { return row_bytes / dtype_info(type).bytes; }

}  // namespace

Json KvStats::json() const {
  return {{"mean_keys", mean_keys()}, {"peak_keys", peak_keys},   {"mean_share", mean_share()},
          {"peak_bytes", peak_bytes}, {"full_bytes", full_bytes}, {"reserved_bytes", reserved_bytes}};
}

KvCache::KvCache(const KvLayout& layout, const Policy& policy, const TokenSet& separators, Memory memory)
    : layout_(layout),
      policy_(policy),
      separators_(separators),
      memory_(memory),
      row_bytes_(padded_row_bytes(layout.head_dim, layout.type)) {
  SEPLLM_CHECK(layout.n_layers > 0 && layout.n_kv_heads > 0 && layout.head_dim > 0);
  SEPLLM_CHECK(!is_block_type(layout.type));
  policy_.validate();
  SEPLLM_CHECK(layout.own_windows.empty() || std::ssize(layout.own_windows) == layout.n_layers);
  policy_.validate_layers(layout.n_layers, layout.own_windows);
  layers_.resize(layout.n_layers);
  for (int64_t l = 0; l < layout.n_layers; ++l) {
    const LayerRule rule = policy_.rule(l, layout.n_layers, layout.own_window(l));
    auto it = std::find_if(groups_.begin(), groups_.end(), [&](const Group& g) { return g.rule == rule; });
    if (it == groups_.end()) {
      groups_.emplace_back();
      it = groups_.end() - 1;
      it->rule = rule;
    }
    it->layers.push_back(l);
    group_of_.push_back(it - groups_.begin());
  }
}

const KvCache::Group* KvCache::streaming() const {
  const auto it = std::find_if(groups_.begin(), groups_.end(), [](const Group& g) { return g.rule.streams; });
  return it == groups_.end() ? nullptr : &*it;
}

KvCache::Group* KvCache::streaming() { return const_cast<Group*>(std::as_const(*this).streaming()); }

const KvCache::Group& KvCache::ruled() const {
  const auto it =
      std::find_if(groups_.begin(), groups_.end(), [](const Group& g) { return !g.rule.own_window; });
  return it == groups_.end() ? groups_[0] : *it;
}

int64_t KvCache::n_separators() const {
  const Group& g = ruled();
  return std::max<int64_t>(0, std::ssize(g.compact_positions) - policy_.init);
}

int64_t KvCache::effective_capacity() const { return policy_.capacity + excess_; }

int64_t KvCache::max_chunk() const {
  const Group* stream = streaming();
  return stream == nullptr ? kUnlimited : effective_capacity() + 1 - held(*stream);
}

int64_t KvCache::n_slots(int64_t layer) const { return held(group_at(layer)); }

std::vector<int64_t> KvCache::slot_positions(int64_t layer) const {
  const Group& g = group_at(layer);
  std::vector<int64_t> out = g.compact_positions;
  for (int64_t k = 0; k < g.band_size; ++k) out.push_back(g.band_begin + k);
  return out;
}

std::vector<int32_t> KvCache::slot_tokens(int64_t layer) const {
  const Group& g = group_at(layer);
  std::vector<int32_t> out = g.compact_tokens;
  for (int64_t k = 0; k < g.band_size; ++k) out.push_back(g.band_tokens[g.slot_of(g.band_begin + k)]);
  return out;
}

// --- A chunk ---

void KvCache::begin_chunk(std::span<const int32_t> tokens) {
  const auto n = std::ssize(tokens);
  make_room(tokens);
  in_flight_ = n;
  set_encoded(n);
  for (Group& group : groups_) {
    if (group.rule.streams) {
      plan_stream(group, tokens);
    } else {
      plan_static(group, tokens);
    }
    set_spans(group);
    count(group, n);
  }
  stats_.peak_bytes = std::max(stats_.peak_bytes, held_bytes());
}

void KvCache::set_encoded(int64_t n) {
  const bool slots = policy_.positions == PositionMode::kCache;
  const Group* stream = streaming();
  encoded_.resize(n);
  std::iota(encoded_.begin(), encoded_.end(), slots && stream != nullptr ? held(*stream) : length_);
  positions_.resize(n);
  std::iota(positions_.begin(), positions_.end(), length_);
  second_encoded_.clear();
  if (!slots || policy_.kind != PolicyKind::kSinkStream) return;
  for (const int64_t place : encoded_) second_encoded_.push_back(std::min(place, policy_.capacity));
}

int64_t KvCache::last_place(int64_t n) const {
  const bool slots = policy_.positions == PositionMode::kCache;
  const Group* stream = streaming();
  if (slots && stream != nullptr) return held(*stream) + n - 1;
  return slots && policy_.kind == PolicyKind::kSinkStream ? std::min(length_ + n - 1, policy_.capacity)
                                                          : length_ + n - 1;
}

// The band loses the keys that no query of this chunk can see there. Of these, and of the tokens that leave
// the window within the chunk, those that the policy keeps go to the compact part (the latter after their
// rows are written).
void KvCache::plan_static(Group& g, std::span<const int32_t> tokens) {
  const auto n = std::ssize(tokens);
  const int64_t last = length_ + n - 1;
  while (g.band_size > 0 && g.band_begin <= length_ - g.rule.window) {
    const int64_t slot = g.ring_start;
    const int32_t token = g.band_tokens[slot];
    if (g.band_begin >= g.promoted && g.rule.stays(g.band_begin, token, separators_, last_kept(g))) {
      push_compact(g, g.band_begin, token);
      const SlotRef to{false, std::ssize(g.compact_positions) - 1};
      for (const int64_t layer : g.layers) copy_slot(layer, {true, slot}, to);
    }
    ++g.band_begin;
    --g.band_size;
    g.ring_start = (g.ring_start + 1) % g.ring_capacity;
    g.promoted = std::max(g.promoted, g.band_begin);
  }
  append_to_band(g, tokens);
  if (g.rule.blocks.used()) append_blocks(g, tokens);
  g.first_late = std::ssize(g.compact_positions);
  for (int64_t j = std::max(g.promoted, g.band_begin); j <= last - g.rule.window; ++j) {
    const int32_t token = g.band_tokens[g.slot_of(j)];
    if (g.rule.stays(j, token, separators_, last_kept(g))) push_compact(g, j, token);
    g.promoted = j + 1;
  }
}

// The first tokens of the stream go directly to their block; all others go to the band.
void KvCache::plan_stream(Group& g, std::span<const int32_t> tokens) {
  const int64_t n_initial = std::clamp<int64_t>(g.rule.init - length_, 0, std::ssize(tokens));
  for (int64_t t = 0; t < n_initial; ++t) push_compact(g, length_ + t, tokens[t]);
  g.first_late = std::ssize(g.compact_positions);
  if (g.band_size == 0) g.band_begin = length_ + n_initial;
  append_to_band(g, tokens.subspan(n_initial));
}

void KvCache::append_to_band(Group& g, std::span<const int32_t> tokens) {
  const auto n = std::ssize(tokens);
  use_next(g, /*band=*/true);
  for (int64_t t = 0; t < n; ++t) {
    g.band_tokens[g.slot_of(g.band_begin + g.band_size + t)] = tokens[t];
  }
  g.band_size += n;
}

void KvCache::append_blocks(Group& g, std::span<const int32_t> tokens) {
  use_next_means(g);
  if (memory_ != Memory::kAddresses) g.seen.resize(g.seen.size() + tokens.size());
  for (size_t t = 0; t < tokens.size(); ++t)
    g.rule.blocks.append(length_ + static_cast<int64_t>(t), tokens[t], separators_, &g.block_starts);
}

// From the tokens of the band, which are all tokens. What belongs to later tokens is dropped.
void KvCache::rebuild_blocks(Group& g) {
  if (!g.rule.blocks.used()) return;
  g.seen.resize(static_cast<size_t>(g.band_size));
  g.block_starts.clear();
  for (int64_t j = 0; j < g.band_size; ++j)
    g.rule.blocks.append(j, g.band_tokens[g.slot_of(j)], separators_, &g.block_starts);
  for (const int64_t l : g.layers) layers_[l].n_means = std::min(layers_[l].n_means, n_complete_blocks(l));
}

double KvCache::expected_keys(const Group& g, int64_t position) {
  const BlockRule& rule = g.rule.blocks;
  // (For NSA as if no part of the window were in a chosen block.)
  if (rule.nsa()) return static_cast<double>(std::min(nsa_pairs(nsa_rule(rule), position), position + 1));
  return expected_block_keys(g.block_starts, 0, rule.count, position);
}

void KvCache::push_compact(Group& g, int64_t position, int32_t token) {
  if (std::ssize(g.compact_positions) == g.compact_capacity) use_next(g, /*band=*/false);
  g.compact_positions.push_back(position);
  g.compact_tokens.push_back(token);
}

void KvCache::set_spans(Group& g) {
  g.spans.clear();
  const auto n_compact = std::ssize(g.compact_positions);
  const bool stream = g.rule.streams;
  const bool slots = stream && policy_.positions == PositionMode::kCache;
  if (n_compact > 0) {
    KeySpan s;
    s.n_keys = n_compact;
    s.kind = KeySpan::Kind::kCompact;
    s.positions = g.compact_positions.data();
    s.lag = stream ? 0 : g.rule.window;
    s.encoded = slots ? nullptr : g.compact_positions.data();
    s.second_query = !second_encoded_.empty();
    g.spans.push_back(s);
  }
  // The ring is one span or two.
  int64_t done = 0;
  while (done < g.band_size) {
    KeySpan s;
    const int64_t slot = (g.ring_start + done) % g.ring_capacity;
    s.n_keys = std::min(g.band_size - done, g.ring_capacity - slot);
    s.first_position = g.band_begin + done;
    s.window = g.rule.window;
    s.first_encoded = slots ? n_compact + done : s.first_position;
    g.spans.push_back(s);
    done += s.n_keys;
  }
}

void KvCache::count(const Group& g, int64_t n) {
  const auto n_layers = std::ssize(g.layers);
  const bool chooses = g.rule.blocks.used();
  for (int64_t i = length_; i < length_ + n; ++i) {
    stats_.full_keys += (i + 1) * n_layers;
    // (count_chosen() is told the keys. A plan has no queries.)
    if (chooses && memory_ != Memory::kAddresses) continue;
    int64_t keys = chooses ? std::llround(expected_keys(g, i)) : 0;
    if (!chooses) {
      for (const KeySpan& s : g.spans) keys += s.range(i).size();
    }
    stats_.keys += keys * n_layers;
    stats_.peak_keys = std::max(stats_.peak_keys, keys);
  }
  stats_.queries += n * n_layers;
}

void KvCache::count_chosen(int64_t layer, int64_t row, int64_t keys, int64_t most) {
  Seen& seen = group_at(layer).seen[static_cast<size_t>(length_ + row)];
  seen.keys += keys;
  seen.most = std::max(seen.most, most);
  stats_.keys += keys;
  stats_.peak_keys = std::max(stats_.peak_keys, most);
}

SlotRef KvCache::entry_of(const Group& g, int64_t position) {
  const bool band = position >= g.band_begin;
  return {band, band ? g.slot_of(position) : position};
}

void KvCache::chunk_rows(int64_t layer, void** key_rows, void** value_rows, int64_t* head_strides) {
  const Group& g = group_at(layer);
  for (int64_t t = 0; t < in_flight_; ++t) {
    const SlotRef slot = entry_of(g, length_ + t);
    key_rows[t] = key_row(layer, 0, slot);
    value_rows[t] = value_row(layer, 0, slot);
    head_strides[t] = part(layer, slot.band).capacity * row_elements(layout_.type, row_bytes_);
  }
}

void KvCache::chunk_scales(int64_t layer, float** key_scales, float** value_scales, int64_t* head_strides) {
  SEPLLM_CHECK(layout_.type == DType::kI8);
  const Group& g = group_at(layer);
  for (int64_t t = 0; t < in_flight_; ++t) {
    const SlotRef slot = entry_of(g, length_ + t);
    key_scales[t] = key_scale(layer, 0, slot);
    value_scales[t] = value_scale(layer, 0, slot);
    head_strides[t] = part(layer, slot.band).capacity;
  }
}

void KvCache::rows_written(int64_t layer) {
  const Group& g = group_at(layer);
  for (auto k = g.first_late; k < std::ssize(g.compact_positions); ++k) {
    copy_slot(layer, {true, g.slot_of(g.compact_positions[k])}, {false, k});
  }
}

std::span<const KeySpan> KvCache::spans(int64_t layer) {
  const Group& g = group_at(layer);
  layer_spans_ = g.spans;
  const int64_t elements = row_elements(layout_.type, row_bytes_);
  for (KeySpan& s : layer_spans_) {
    const bool band = s.kind == KeySpan::Kind::kBand;
    const SlotRef first{band, band ? g.slot_of(s.first_position) : 0};
    s.k = key_row(layer, 0, first);
    s.v = value_row(layer, 0, first);
    s.slot_stride = elements;
    s.head_stride = part(layer, band).capacity * elements;
    s.k_scales = key_scale(layer, 0, first);
    s.v_scales = value_scale(layer, 0, first);
    s.scale_head_stride = part(layer, band).capacity;
  }
  return layer_spans_;
}

std::span<const Move> KvCache::end_chunk() {
  SEPLLM_CHECK(in_flight_ > 0);
  length_ += in_flight_;
  in_flight_ = 0;
  moves_.clear();
  Group* stream = streaming();
  if (stream != nullptr && held(*stream) > effective_capacity()) compress(*stream);
  return moves_;
}

// docs/METHOD.md#streaming, step 3: the separators of the past window join the separator block, and the rest
// of the past window is dropped. Before: compact = [initial a | separators m], band = [past n_past | local
// w]; after: compact = [initial | the newest of (m + joining), at most s], band = [local].
void KvCache::compress(Group& g) {
  const bool rotate = policy_.positions == PositionMode::kCache;
  const auto old_compact = std::ssize(g.compact_positions);
  const int64_t n_past = g.band_size - policy_.window;
  // Step 1: which tokens of the past are separators (or end a segment that is too long), as offsets in the
  // band.
  joining_.clear();
  int64_t last = last_kept(g);
  for (int64_t b = 0; b < n_past; ++b) {
    const int64_t position = g.band_begin + b;
    if (!g.rule.stays(position, g.band_tokens[g.slot_of(position)], separators_, last)) continue;
    joining_.push_back(b);
    last = position;
  }
  // Step 2: how many of all separators must be dropped, the oldest first.
  const auto [dropped_old, dropped_joining] = dropped(n_separators(), std::ssize(joining_));
  joining_.erase(joining_.begin(), joining_.begin() + dropped_joining);

  // Step 3: the old separators that stay close the gap after the initial tokens.
  if (old_compact - dropped_old + std::ssize(joining_) > g.compact_capacity) use_next(g, /*band=*/false);
  for (int64_t k = g.rule.init + dropped_old; dropped_old > 0 && k < old_compact; ++k) {
    moves_.push_back({{false, k}, {false, k - dropped_old}, rotate ? -dropped_old : 0});
  }
  const auto erase_from = [&, n = dropped_old](auto& list) {  // (clang 14 captures no structured bindings)
    list.erase(list.begin() + g.rule.init, list.begin() + g.rule.init + n);
  };
  erase_from(g.compact_positions);
  erase_from(g.compact_tokens);
  // Step 4: the joining separators follow them. A key's place was old_compact + b, and becomes its slot.
  for (const int64_t b : joining_) {
    const int64_t slot = g.slot_of(g.band_begin + b);
    const auto to = std::ssize(g.compact_positions);
    moves_.push_back({{true, slot}, {false, to}, rotate ? to - (old_compact + b) : 0});
    g.compact_positions.push_back(g.band_begin + b);
    g.compact_tokens.push_back(g.band_tokens[slot]);
  }
  if (policy_.seps_unbounded) excess_ = std::max(excess_, n_separators() - policy_.seps);
  // Step 5: the local window stays where it is in the ring, but its places decrease by the number of slots
  // that were removed before it.
  const int64_t shift = std::ssize(g.compact_positions) - old_compact - n_past;
  g.band_begin += n_past;
  g.band_size -= n_past;
  g.ring_start = (g.ring_start + n_past) % g.ring_capacity;
  for (int64_t b = 0; rotate && shift != 0 && b < g.band_size; ++b) {
    const SlotRef here{true, g.slot_of(g.band_begin + b)};
    moves_.push_back({here, here, shift});
  }
}

// --- Storage ---

char* KvCache::row(const Buffer& buffer, const Part& part, int64_t kv_head, int64_t slot) const {
  return buffer.as<char>() + (kv_head * part.capacity + slot) * row_bytes_;
}

void* KvCache::key_row(int64_t layer, int64_t kv_head, SlotRef slot) {
  Part& p = part(layer, slot.band);
  return row(p.k, p, kv_head, slot.index);
}

void* KvCache::value_row(int64_t layer, int64_t kv_head, SlotRef slot) {
  Part& p = part(layer, slot.band);
  return row(p.v, p, kv_head, slot.index);
}

float* KvCache::key_scale(int64_t layer, int64_t kv_head, SlotRef slot) {
  Part& p = part(layer, slot.band);
  return scale(p.k_scales, p, kv_head, slot.index);
}

float* KvCache::value_scale(int64_t layer, int64_t kv_head, SlotRef slot) {
  Part& p = part(layer, slot.band);
  return scale(p.v_scales, p, kv_head, slot.index);
}

void KvCache::copy_row(int64_t layer, int64_t kv_head, SlotRef from, SlotRef to) {
  std::memcpy(key_row(layer, kv_head, to), key_row(layer, kv_head, from), row_bytes_);
  std::memcpy(value_row(layer, kv_head, to), value_row(layer, kv_head, from), row_bytes_);
  if (layout_.type != DType::kI8) return;
  *key_scale(layer, kv_head, to) = *key_scale(layer, kv_head, from);
  *value_scale(layer, kv_head, to) = *value_scale(layer, kv_head, from);
}

void KvCache::copy_slot(int64_t layer, SlotRef from, SlotRef to) {
  if (memory_ == Memory::kAddresses) return;
  for (int64_t head = 0; head < layout_.n_kv_heads; ++head) copy_row(layer, head, from, to);
}

int64_t KvCache::held_bytes() const {
  int64_t slots = 0;
  for (const Group& g : groups_) slots += held(g) * std::ssize(g.layers);
  // (A plan counts slots only.)
  return slots * slot_bytes() + (memory_ == Memory::kAddresses ? 0 : held_means() * mean_bytes());
}

int64_t KvCache::held_means() const {
  int64_t out = 0;
  for (int64_t l = 0; l < layout_.n_layers; ++l) out += n_complete_blocks(l) * blocks(l).means_of_block();
  return out;
}

int64_t KvCache::reserved_means() const {
  int64_t out = 0;
  for (const Layer& l : layers_) out += l.means.bytes() / mean_bytes();
  return out;
}

KvStats KvCache::stats() const {
  KvStats out = stats_;
  out.full_bytes = length_ * layout_.n_layers * slot_bytes();
  for (const Layer& l : layers_) {
    for (const Part* p : {&l.compact, &l.band}) out.reserved_bytes += p->bytes();
  }
  if (memory_ != Memory::kAddresses) out.reserved_bytes += reserved_means() * mean_bytes();
  return out;
}

}  // namespace sepllm
