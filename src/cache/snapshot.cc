// States of a KvCache: whole ones, with which another cache can continue, and marks, to which the same cache
// can return. They hold, in this order: the layout, the counts, the plan of each group of layers, and the
// rows of each layer. The rows are the keys, the values and their scales for each part and kv head, the
// oldest first, one run of the ring after the other.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "cache/kv_cache.h"

namespace sepllm {
namespace {

// Far beyond the length of any stream, and small enough for sums to stay within int64.
constexpr int64_t kMaxPosition = int64_t{1} << 40;

}  // namespace

// Calls fn(begin, bytes) for each run of rows that lie together, of the `used` rows of a ring from `start`
// on.
template <typename Fn>
void KvCache::for_each_run(const Part& p, int64_t used, int64_t start, const Fn& fn) const {
  for (int64_t head = 0; head < layout_.n_kv_heads; ++head) {
    for (int64_t done = 0; done < used;) {
      const int64_t slot = (start + done) % p.capacity;
      const int64_t run = std::min(used - done, p.capacity - slot);
      for_each_array(p, head, slot, [&](char* at, int64_t bytes) { fn(at, run * bytes); });
      done += run;
    }
  }
}

// --- Writing ---

void KvCache::save(ByteWriter& out) const { save(out, /*whole=*/true); }
void KvCache::save_mark(ByteWriter& out) const { save(out, /*whole=*/false); }

void KvCache::save(ByteWriter& out, bool whole) const {
  SEPLLM_CHECK(in_flight_ == 0);
  for (const int64_t v :
       {layout_.n_layers, layout_.n_kv_heads, layout_.head_dim, static_cast<int64_t>(layout_.type), length_,
        excess_, stats_.queries, stats_.keys, stats_.full_keys, stats_.peak_keys, stats_.peak_bytes}) {
    out.value(v);
  }
  for (const Group& g : groups_) {
    // (A cache that drops nothing has a ring of any size, without a seam.)
    for (const int64_t v : {std::ssize(g.compact_positions), g.band_begin, g.band_size, g.ring_start,
                            appends_band(g) ? g.band_size : g.ring_capacity, g.promoted}) {
      out.value(v);
    }
    if (whole || !appends_compact(g)) {
      out.list(std::span<const int64_t>(g.compact_positions));
      out.list(std::span<const int32_t>(g.compact_tokens));
    }
    if (!whole && appends_band(g)) continue;
    for (int64_t k = 0; k < g.band_size; ++k) out.value(g.band_tokens[g.slot_of(g.band_begin + k)]);
    for (const Seen& query : g.seen) {
      out.value(query.keys);
      out.value(query.most);
    }
  }
  for (int64_t l = 0; l < layout_.n_layers; ++l) {
    const Group& g = group_at(l);
    const Layer& layer = layers_[l];
    if (whole || !appends_compact(g)) write_rows(out, layer.compact, std::ssize(g.compact_positions), 0);
    if (whole || !appends_band(g)) write_rows(out, layer.band, g.band_size, g.ring_start);
  }
}

void KvCache::write_rows(ByteWriter& out, const Part& p, int64_t used, int64_t start) const {
  for_each_run(p, used, start, [&](char* at, int64_t n) { out.bytes(at, static_cast<uint64_t>(n)); });
}

// --- Reading ---

void KvCache::read_rows(ByteReader& in, Part& p, int64_t used, int64_t start) const {
  for_each_run(p, used, start, [&](char* at, int64_t n) { in.bytes(at, static_cast<uint64_t>(n)); });
}

std::vector<int64_t> KvCache::capacities() const {
  std::vector<int64_t> out;
  for (const Group& g : groups_) {
    out.push_back(g.compact_capacity);
    out.push_back(g.ring_capacity);
  }
  for (const Group& g : groups_) {
    if (g.rule.blocks.used()) out.push_back(layers_[g.layers[0]].means.bytes() / mean_bytes());
  }
  return out;
}

// Restores the room that there was, if the numbers are possible. (The room of a ring is part of its state.)
void KvCache::set_capacities(std::span<const int64_t> capacities, std::vector<Group>* groups) const {
  constexpr int64_t kAhead = 4096;
  for (size_t k = 0; k < groups->size(); ++k) {
    Group& g = (*groups)[k];
    const auto capacity = [&](size_t index, int64_t used) {
      return index < capacities.size() ? std::clamp(capacities[index], used, 2 * used + kAhead) : used;
    };
    g.compact_capacity = capacity(2 * k, std::ssize(g.compact_positions));
    if (!appends_band(g)) continue;
    g.ring_capacity = capacity(2 * k + 1, g.band_size);
    g.band_tokens.resize(g.ring_capacity);
  }
}

void KvCache::restore(ByteReader& in, int64_t max_chunk, std::span<const int64_t> capacities) {
  SEPLLM_CHECK(in_flight_ == 0);
  State s = read_state(in, /*whole=*/true, max_chunk);
  int64_t rows = 0;
  for (const Group& g : s.groups) rows += held(g) * std::ssize(g.layers);
  in.need(static_cast<uint64_t>(rows * slot_bytes()));
  set_capacities(capacities, &s.groups);
  std::vector<Layer> layers(layers_.size());
  size_t next = 2 * s.groups.size();  // in the capacities: those of means
  for (const Group& g : s.groups) {
    int64_t n_means = 0;
    if (g.rule.blocks.used() && next < capacities.size())
      n_means = std::clamp<int64_t>(capacities[next++], 0, 2 * g.band_size);
    for (const int64_t l : g.layers) {
      layers[l].compact = make_part(g.compact_capacity);
      layers[l].band = make_part(g.ring_capacity);
      layers[l].means = Buffer(n_means * mean_bytes(), "the KV cache", Memory::kAnything);
    }
  }
  for (size_t l = 0; l < layers.size(); ++l) {
    const Group& g = s.groups[group_of_[l]];
    read_rows(in, layers[l].compact, std::ssize(g.compact_positions), 0);
    read_rows(in, layers[l].band, g.band_size, g.ring_start);
  }
  in.finish();
  layers_ = std::move(layers);
  take(std::move(s));
}

void KvCache::rewind(ByteReader& in, int64_t max_chunk) {
  SEPLLM_CHECK(in_flight_ == 0);
  State s = read_state(in, /*whole=*/false, max_chunk);
  // A ring that has grown since the mark gets its old length again, because the place where it ends decides
  // in which order kernels add. The compact part of a restored cache may have less room than there was.
  struct NewPart {
    int64_t layer;
    bool band;
    Part part;
  };
  std::vector<NewPart> other;
  int64_t rows = 0;
  for (Group& g : s.groups) {
    const auto n_compact = std::ssize(g.compact_positions);
    const bool more_room = n_compact > g.compact_capacity;
    if (more_room) g.compact_capacity = n_compact;
    rows +=
        std::ssize(g.layers) * ((appends_compact(g) ? 0 : n_compact) + (appends_band(g) ? 0 : g.band_size));
    for (const int64_t l : g.layers) {
      if (part(l, true).capacity != g.ring_capacity) other.push_back({l, true, make_part(g.ring_capacity)});
      if (more_room) other.push_back({l, false, make_part(g.compact_capacity)});
    }
  }
  in.need(static_cast<uint64_t>(rows * slot_bytes()));
  for (NewPart& p : other) part(p.layer, p.band) = std::move(p.part);
  for (int64_t l = 0; l < layout_.n_layers; ++l) {
    const Group& g = s.groups[group_of_[l]];
    if (!appends_compact(g)) read_rows(in, part(l, false), std::ssize(g.compact_positions), 0);
    if (!appends_band(g)) read_rows(in, part(l, true), g.band_size, g.ring_start);
  }
  take(std::move(s));
}

bool KvCache::drops_nothing() const {
  return std::all_of(groups_.begin(), groups_.end(), [](const Group& g) { return appends_band(g); });
}

// Rows are appended to the ring of such a cache, which begins at its first slot, and each query has seen all
// tokens up to its own, or those that Group::seen has counted.
void KvCache::cut(int64_t position) {
  SEPLLM_CHECK(in_flight_ == 0 && drops_nothing() && position >= 0 && position <= length_);
  const int64_t n = length_ - position;
  // (The mean of position + 1 and length_, times the number of tokens.)
  const int64_t n_keys = n * (position + 1 + length_) / 2;
  int64_t seen = 0, most = 0;
  for (const Group& g : groups_) {
    if (!g.rule.blocks.used()) {
      seen += n_keys * std::ssize(g.layers);
      most = position;
      continue;
    }
    for (int64_t i = 0; i < length_; ++i) {
      const Seen& query = g.seen[static_cast<size_t>(i)];
      if (i < position) {
        most = std::max(most, query.most);
      } else {
        seen += query.keys;
      }
    }
  }
  stats_.queries = std::max<int64_t>(0, stats_.queries - n * layout_.n_layers);
  stats_.keys = std::max<int64_t>(0, stats_.keys - seen);
  stats_.full_keys = std::max<int64_t>(0, stats_.full_keys - n_keys * layout_.n_layers);
  length_ = position;
  for (Group& g : groups_) {
    g.band_size = position;
    g.promoted = std::min(g.promoted, position);
    rebuild_blocks(g);
  }
  stats_.peak_keys = std::min(stats_.peak_keys, most);
  stats_.peak_bytes = std::min(stats_.peak_bytes, held_bytes());
}

void KvCache::take(State s) {
  length_ = s.length;
  excess_ = s.excess;
  stats_ = s.stats;
  groups_ = std::move(s.groups);
  for (Group& g : groups_) rebuild_blocks(g);
}

KvCache::State KvCache::read_state(ByteReader& in, bool whole, int64_t max_chunk) const {
  State s;
  in.integer("number of layers", layout_.n_layers, layout_.n_layers);
  in.integer("number of kv heads", layout_.n_kv_heads, layout_.n_kv_heads);
  in.integer("head_dim", layout_.head_dim, layout_.head_dim);
  const auto type = static_cast<int64_t>(layout_.type);
  in.integer("type of keys and values", type, type);
  s.length = in.integer("length", 0, whole ? kMaxPosition : length_);
  s.excess = in.integer("excess of separators", 0, policy_.seps_unbounded ? s.length : 0);
  for (int64_t* v :
       {&s.stats.queries, &s.stats.keys, &s.stats.full_keys, &s.stats.peak_keys, &s.stats.peak_bytes}) {
    *v = in.integer("statistics", 0, int64_t{1} << 61);
  }
  for (const Group& own : groups_) {
    Group& g = s.groups.emplace_back();
    if (!whole) g = own;
    g.rule = own.rule;
    g.layers = own.layers;
    read_group(in, whole, max_chunk, s, &g);
    check_group(in, s, g);
  }
  return s;
}

void KvCache::read_group(ByteReader& in, bool whole, int64_t max_chunk, const State& s, Group* g) const {
  const bool stream = g->rule.streams;
  const int64_t most = std::min(s.length, stream ? policy_.capacity + s.excess : s.length);
  const bool compact_there = whole || !appends_compact(*g);
  const bool band_there = whole || !appends_band(*g);
  const int64_t kept = compact_there ? most : std::ssize(g->compact_positions);
  const int64_t n_compact = in.integer("number of compact slots", 0, kept);
  g->band_begin = in.integer("begin of the band", 0, kMaxPosition);
  g->band_size = in.integer("size of the band", 0, stream ? most - n_compact : most);
  const int64_t ring_start = in.integer("begin of the ring", 0, kMaxPosition);
  const int64_t ring_capacity = in.integer("size of the ring", g->band_size, kMaxPosition);
  g->promoted = in.integer("number of tokens looked at", 0, s.length);
  if (compact_there) in.need(static_cast<uint64_t>(n_compact) * (sizeof(int64_t) + sizeof(int32_t)));
  g->compact_positions.resize(static_cast<size_t>(n_compact));
  g->compact_tokens.resize(static_cast<size_t>(n_compact));
  if (compact_there) {
    in.list(std::span<int64_t>(g->compact_positions));
    in.list(std::span<int32_t>(g->compact_tokens));
  }
  if (!band_there) return;  // a prefix of the ring, which begins where it did
  // The compact parts of the other policies grow at most to this size.
  const bool endless = appends_band(*g);
  const int64_t limit = stream ? policy_.capacity + s.excess + 1 : g->rule.window - 1 + max_chunk;
  if (!endless && ring_capacity > std::max(limit, g->band_size))
    in.refuse("a ring larger than its cache has");
  if (ring_start != 0 && (endless || ring_start >= ring_capacity)) in.refuse("a ring that begins outside");
  in.need(static_cast<uint64_t>(g->band_size) * sizeof(int32_t));
  g->ring_start = ring_start;
  g->ring_capacity = endless ? g->band_size : ring_capacity;
  g->band_tokens.assign(static_cast<size_t>(g->ring_capacity), 0);
  for (int64_t k = 0; k < g->band_size; ++k)
    g->band_tokens[g->slot_of(g->band_begin + k)] = in.value<int32_t>();
  if (!g->rule.blocks.used()) return;
  in.need(static_cast<uint64_t>(g->band_size) * sizeof(Seen));
  g->seen.resize(static_cast<size_t>(g->band_size));
  for (Seen& query : g->seen) {
    query.keys = in.integer("keys of a query", 0, kMaxPosition);
    // (For NSA, means of blocks count too.)
    query.most = in.integer("keys of a query", 0, g->rule.blocks.nsa() ? 2 * s.length : s.length);
  }
}

// Checks everything that the plan of a chunk relies on.
void KvCache::check_group(const ByteReader& in, const State& s, const Group& g) const {
  const auto n_compact = std::ssize(g.compact_positions);
  const auto require = [&](bool holds) {
    if (!holds) in.refuse("positions that no cache has");
  };
  int64_t before = -1;
  for (const int64_t position : g.compact_positions) {
    require(position > before && position < s.length);
    before = position;
  }
  for (const std::vector<int32_t>* tokens : {&g.compact_tokens, &g.band_tokens}) {
    for (const int32_t token : *tokens) require(token >= 0);
  }
  if (!g.rule.streams) {
    require(g.band_begin + g.band_size == s.length && g.band_begin <= g.promoted && before < g.promoted);
    return;
  }
  const int64_t n_initial = std::min(s.length, g.rule.init);
  require(n_compact >= n_initial && n_compact - n_initial <= policy_.seps + s.excess);
  for (int64_t k = 0; k < n_initial; ++k) require(g.compact_positions[k] == k);
  if (g.band_size == 0) {
    require(n_compact == n_initial);
  } else {
    require(g.band_begin + g.band_size == s.length && before < g.band_begin);
  }
}

}  // namespace sepllm
