// The memory of a KvCache. Everything that a chunk needs is taken before the chunk begins, so that it never
// fails halfway.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <new>
#include <span>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "cache/kv_cache.h"

namespace sepllm {
namespace {

constexpr const char* kWhat = "the KV cache";

// Calls fn(slot, n) for each run of slots that lie together, of the n slots of a ring from `start` on.
template <typename Fn>
void for_each_ring_run(int64_t capacity, int64_t start, int64_t n, const Fn& fn) {
  for (int64_t done = 0; done < n;) {
    const int64_t slot = (start + done) % capacity;
    const int64_t run = std::min(n - done, capacity - slot);
    fn(slot, run);
    done += run;
  }
}

// Lists for which there is no memory fail with the same error as buffers.
template <typename Fn>
auto with_memory_errors(const Fn& fn) {
  try {
    return fn();
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::kOutOfRange, std::string("out of memory for ") + kWhat);
  }
}

}  // namespace

KvCache::Part KvCache::make_part(int64_t capacity, Memory memory) const {
  const int64_t rows = layout_.n_kv_heads * capacity;
  return {Buffer(rows * row_bytes_, kWhat, memory), Buffer(rows * row_bytes_, kWhat, memory),
          Buffer(rows * scale_bytes(), kWhat, memory), Buffer(rows * scale_bytes(), kWhat, memory), capacity};
}

// Fills a part that make_unwritten_part() made. The `used` rows of another ring, from its slot `start` on,
// are copied to the slots from `to_start` on (which wrap around only if both rings have the same size and
// start); all other slots get zeros.
void KvCache::fill_part(const Part& from, int64_t used, int64_t start, const Part& to,
                        int64_t to_start) const {
  if (memory_ == Memory::kAddresses) return;
  for (int64_t head = 0; head < layout_.n_kv_heads; ++head) {
    int64_t done = 0;
    for_each_ring_run(from.capacity, start, used, [&](int64_t slot, int64_t run) {
      const char* source[4] = {};
      int n = 0;
      for_each_array(from, head, slot, [&](const char* at, int64_t) { source[n++] = at; });
      n = 0;
      for_each_array(to, head, (to_start + done) % to.capacity,
                     [&](char* at, int64_t bytes) { std::memcpy(at, source[n++], run * bytes); });
      done += run;
    });
    for_each_ring_run(to.capacity, to_start + used, to.capacity - used, [&](int64_t slot, int64_t run) {
      for_each_array(to, head, slot, [&](char* at, int64_t bytes) { std::memset(at, 0, run * bytes); });
    });
  }
}

// Pages take memory only when fill_part() writes them, one layer after the other. So a cache that grows holds
// the old rows of only one layer twice.
KvCache::Part KvCache::make_unwritten_part(int64_t capacity) const {
  return make_part(capacity, memory_ == Memory::kZeros ? Memory::kAnything : memory_);
}

// --- What a chunk needs ---

KvCache::Dropped KvCache::dropped(int64_t m, int64_t n_joining) const {
  int64_t n = policy_.sep_replace ? m : 0;
  if (!policy_.seps_unbounded) n = std::max(n, m + n_joining - policy_.seps);
  const int64_t old = std::min(n, m);
  return {old, std::min(n, m + n_joining) - old};
}

// A ring grows by halves, but not beyond `limit` slots: it will never need more for such chunks.
int64_t KvCache::grown_ring(const Group& g, int64_t n_slots, int64_t limit) const {
  if (n_slots <= g.ring_capacity) return g.ring_capacity;
  return std::max(n_slots, std::min({limit, most_tokens_, g.ring_capacity + g.ring_capacity / 2}));
}

// The compact part grows by halves too, but not beyond the most that the policy keeps there.
int64_t KvCache::grown_compact(const Group& g, int64_t capacity, int64_t n_slots) const {
  if (n_slots <= capacity) return capacity;
  int64_t most = kUnlimited;
  if (g.rule.streams && !policy_.seps_unbounded) most = g.rule.init + policy_.seps;
  if (g.rule.keeps == LayerRule::Keeps::kNothing) most = g.rule.init;
  return std::max(n_slots, std::min({std::max<int64_t>(capacity + capacity / 2, 16), most, most_tokens_}));
}

KvCache::Room KvCache::static_room(const Group& g, std::span<const int32_t> tokens) const {
  const auto n = std::ssize(tokens);
  Room room;
  // The band, without the tokens that no query of the chunk sees.
  const int64_t evicted = std::clamp<int64_t>(length_ - g.rule.window - g.band_begin + 1, 0, g.band_size);
  room.ring = grown_ring(g, g.band_size - evicted + n,
                         g.rule.window < kUnlimited ? g.rule.window - 1 + n : kUnlimited);
  // The compact part, with the tokens that leave the window before the chunk's last query and are kept.
  int64_t n_compact = std::ssize(g.compact_positions);
  room.compact = g.compact_capacity;
  int64_t last = last_kept(g);
  for (int64_t j = std::max(g.promoted, g.band_begin); j <= length_ + n - 1 - g.rule.window; ++j) {
    const int32_t token = j < length_ ? g.band_tokens[g.slot_of(j)] : tokens[j - length_];
    if (!g.rule.stays(j, token, separators_, last)) continue;
    room.compact = grown_compact(g, room.compact, ++n_compact);
    last = j;
  }
  return room;
}

KvCache::Room KvCache::stream_room(const Group& g, std::span<const int32_t> tokens) const {
  const auto n = std::ssize(tokens);
  const int64_t n_initial = std::clamp<int64_t>(g.rule.init - length_, 0, n);
  const int64_t n_compact = std::ssize(g.compact_positions) + n_initial;
  const int64_t n_band = g.band_size + n - n_initial;
  Room room;
  room.ring = grown_ring(g, n_band, std::max(n_band, effective_capacity() + 1 - n_compact));
  room.compact = g.compact_capacity;
  for (int64_t k = n_compact - n_initial; k < n_compact; ++k)
    room.compact = grown_compact(g, room.compact, k + 1);
  if (n_compact + n_band > effective_capacity())
    room.compact = grown_compact(g, room.compact, compact_after_compression(g, tokens, n_initial));
  return room;
}

// Slots of the compact part after the compression at the end of a chunk, whose first `n_initial` tokens do
// not enter the band.
int64_t KvCache::compact_after_compression(const Group& g, std::span<const int32_t> chunk,
                                           int64_t n_initial) const {
  const std::span<const int32_t> tokens = chunk.subspan(n_initial);
  const int64_t n_past = g.band_size + std::ssize(tokens) - policy_.window;
  const int64_t band_begin = length_ + n_initial - g.band_size;
  int64_t n_joining = 0;
  int64_t last = n_initial > 0 ? length_ + n_initial - 1 : last_kept(g);
  for (int64_t b = 0; b < n_past; ++b) {
    const int32_t token =
        b < g.band_size ? g.band_tokens[g.slot_of(g.band_begin + b)] : tokens[b - g.band_size];
    if (!g.rule.stays(band_begin + b, token, separators_, last)) continue;
    ++n_joining;
    last = band_begin + b;
  }
  const Dropped go = dropped(n_separators(), n_joining);
  return g.rule.init + n_separators() - go.old + n_joining - go.joining;
}

// --- Growth ---

void KvCache::make_room(std::span<const int32_t> tokens) {
  SEPLLM_CHECK(in_flight_ == 0 && !tokens.empty() && std::ssize(tokens) <= max_chunk());
  try {
    with_memory_errors([&] { take_room(tokens); });
  } catch (...) {  // others may need what could be had
    drop_next();
    throw;
  }
}

void KvCache::take_room(std::span<const int32_t> tokens) {
  const auto n = std::ssize(tokens);
  for (Group& g : groups_) {
    const Room room = g.rule.streams ? stream_room(g, tokens) : static_room(g, tokens);
    make_next(g, /*band=*/true, room.ring);
    make_next(g, /*band=*/false, room.compact);
    make_next_means(g, length_ + n);
    if (g.rule.blocks.used()) {
      g.block_starts.reserve((length_ + n) / g.rule.blocks.size + 2);
      if (memory_ != Memory::kAddresses && g.seen.capacity() < g.seen.size() + tokens.size())
        g.seen.reserve(std::max(g.seen.size() + tokens.size(), 3 * g.seen.size() / 2));
    }
    g.compact_positions.reserve(room.compact);
    g.compact_tokens.reserve(room.compact);
    g.spans.reserve(kMaxSpans);
  }
  layer_spans_.reserve(kMaxSpans);
  encoded_.reserve(n);
  second_encoded_.reserve(n);
  positions_.reserve(n);
  const Group* stream = streaming();
  if (stream == nullptr || held(*stream) + n <= effective_capacity()) return;
  joining_.reserve(held(*stream) + n);
  moves_.reserve(held(*stream) + n);
}

// Room for the means of all complete blocks of so many tokens.
void KvCache::make_next_means(const Group& g, int64_t n_tokens) {
  if (!g.rule.blocks.used()) return;
  const int64_t n_blocks = n_tokens / g.rule.blocks.size;  // at most
  for (const int64_t l : g.layers) {
    Layer& layer = layers_[l];
    const int64_t capacity = layer.means.bytes() / block_bytes(g);
    const int64_t most = std::min(most_tokens_ / g.rule.blocks.size, capacity + capacity / 2);
    const int64_t bytes = n_blocks <= capacity ? 0 : std::max(n_blocks, most) * block_bytes(g);
    if (layer.next_means.bytes() == bytes) continue;
    layer.next_means = Buffer(bytes, kWhat, memory_ == Memory::kZeros ? Memory::kAnything : memory_);
  }
}

void KvCache::use_next_means(const Group& g) {
  for (const int64_t l : g.layers) {
    Layer& layer = layers_[l];
    if (layer.next_means.bytes() == 0) continue;
    if (layer.n_means > 0) {
      std::memcpy(layer.next_means.as<char>(), layer.means.as<char>(),
                  static_cast<size_t>(layer.n_means * block_bytes(g)));
    }
    layer.means = std::move(layer.next_means);
    layer.next_means = {};
  }
}

void KvCache::drop_next() {
  for (Layer& l : layers_) {
    l.next_band = {};
    l.next_compact = {};
    l.next_means = {};
  }
}

// Makes parts of this capacity for use_next() if the parts of the group have another capacity. Either all
// layers of the group get such a part, or none.
void KvCache::make_next(Group& g, bool band, int64_t capacity) {
  const bool needed = capacity != (band ? g.ring_capacity : g.compact_capacity);
  const int64_t next = needed ? capacity : 0;
  if (next_part(g.layers[0], band).capacity == next) return;
  if (band) g.next_tokens.resize(next);
  for (const int64_t layer : g.layers) next_part(layer, band) = needed ? make_unwritten_part(next) : Part{};
}

// The parts that make_next() made, if any, take the place of the group's.
void KvCache::use_next(Group& g, bool band) {
  const int64_t capacity = next_part(g.layers[0], band).capacity;
  if (capacity == 0) return;
  const int64_t used = band ? g.band_size : std::min(std::ssize(g.compact_positions), g.compact_capacity);
  for (const int64_t layer : g.layers) {
    Part& next = next_part(layer, band);
    fill_part(part(layer, band), used, band ? g.ring_start : 0, next, 0);
    part(layer, band) = std::move(next);
    next = {};
  }
  if (!band) {
    g.compact_capacity = capacity;
    return;
  }
  for (int64_t k = 0; k < used; ++k) g.next_tokens[k] = g.band_tokens[(g.ring_start + k) % g.ring_capacity];
  g.band_tokens = std::exchange(g.next_tokens, {});
  g.ring_start = 0;
  g.ring_capacity = capacity;
}

void KvCache::reserve(int64_t n_tokens) {
  SEPLLM_CHECK(in_flight_ == 0 && n_tokens >= 0);
  try {
    for (Group& g : groups_) {
      if (!appends_band(g)) continue;
      with_memory_errors(
          [&] { make_next(g, /*band=*/true, std::max(g.ring_capacity, g.band_size + n_tokens)); });
      use_next(g, /*band=*/true);
    }
  } catch (...) {
    drop_next();
    throw;
  }
}

// --- Copies ---

KvCache::Part KvCache::copy_of(const Part& p, int64_t used, int64_t start) const {
  Part out = make_unwritten_part(p.capacity);
  fill_part(p, used, start, out, start);
  return out;
}

void KvCache::copy_means(int64_t l, Layer* to) const {
  const Layer& from = layers_[l];
  to->means = Buffer(from.means.bytes(), kWhat, memory_ == Memory::kZeros ? Memory::kAnything : memory_);
  to->n_means = from.n_means;
  if (from.n_means == 0) return;
  std::memcpy(to->means.as<char>(), from.means.as<char>(),
              static_cast<size_t>(from.n_means * block_bytes(group_at(l))));
}

KvCache KvCache::copy() const {
  SEPLLM_CHECK(in_flight_ == 0);
  return with_memory_errors([&] {
    KvCache out(layout_, policy_, separators_, memory_);
    for (int64_t l = 0; l < layout_.n_layers; ++l) {
      const Group& g = group_at(l);
      out.layers_[l].compact = copy_of(layers_[l].compact, std::ssize(g.compact_positions), 0);
      out.layers_[l].band = copy_of(layers_[l].band, g.band_size, g.ring_start);
      copy_means(l, &out.layers_[l]);
    }
    out.take({length_, excess_, stats_, groups_});
    out.most_tokens_ = most_tokens_;
    return out;
  });
}

KvCache KvCache::copy_first(int64_t position) const {
  SEPLLM_CHECK(in_flight_ == 0 && drops_nothing() && position >= 0 && position <= length_);
  return with_memory_errors([&] {
    KvCache out(layout_, policy_, separators_, memory_);
    for (int64_t l = 0; l < layout_.n_layers; ++l) {
      out.layers_[l].band = make_unwritten_part(position);
      fill_part(layers_[l].band, position, 0, out.layers_[l].band, 0);
    }
    out.take({length_, excess_, stats_, groups_});
    out.cut(position);
    for (Group& g : out.groups_) {
      g.ring_capacity = position;
      g.compact_capacity = 0;
      g.band_tokens.resize(position);
      g.band_tokens.shrink_to_fit();
    }
    return out;
  });
}

}  // namespace sepllm
