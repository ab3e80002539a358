// The KV cache of one sequence: it holds only the keys that its policy can still see, in place. The code that
// gives it memory is in kv_cache_room.cc, that of its saved states in snapshot.cc, and that of made-up
// contents in kv_cache_fill.cc.
// A layer whose queries choose among blocks (LayerRule::blocks) keeps all keys, in the band, and the mean key
// of every complete block.
// Each layer has two parts: the *compact* part (initial tokens and separators, in order) and the *band* (the
// recent tokens, a ring). Under a static policy a token enters the band; when it falls out of the window it
// is dropped, or moved to the compact part if the policy keeps it. Under sep-stream the two parts are the
// four blocks of docs/METHOD.md#streaming: Initial | Separator (compact), Past | Local (band). Each layer
// follows its LayerRule; layers with equal rules share one plan.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <vector>

#include "attention/key_span.h"
#include "attention/layer_rule.h"
#include "attention/policy.h"
#include "base/bytes.h"
#include "base/dtype.h"
#include "base/function_ref.h"
#include "base/token_set.h"
#include "tensor/buffer.h"

namespace sepllm {

struct KvLayout {
  int64_t n_layers = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  DType type = DType::kF32;  // of keys and values; kI8 has an f32 scale for each row
  // [n_layers]: the model's own sliding windows, which no policy changes; 0: the layer has none. Empty if no
  // layer has one.
  std::vector<int64_t> own_windows{};
  int64_t own_window(int64_t layer) const { return own_windows.empty() ? 0 : own_windows[layer]; }
};

struct SlotRef {
  bool band = false;
  int64_t index = 0;  // physical slot in that part
};

// One row to move from slot to slot, key and value, in every kv head of every layer that compresses; then the
// key must be rotated by `rotate_by` positions.
struct Move {
  SlotRef from, to;
  int64_t rotate_by = 0;
};

// How many keys queries saw and how many bytes were held, measured from the spans that the kernels read.
struct KvStats {
  int64_t queries = 0;     // (query, layer) pairs
  int64_t keys = 0;        // keys seen, including the query's own, over those pairs
  int64_t full_keys = 0;   // keys that full attention would have seen
  int64_t peak_keys = 0;   // the most keys of one query in one layer
  int64_t peak_bytes = 0;  // slots held at the peak, including the chunk in flight, over all layers
  int64_t full_bytes = 0;  // slots that full attention would hold now
  int64_t reserved_bytes = 0;

  double mean_keys() const {
    return queries == 0 ? 0.0 : static_cast<double>(keys) / static_cast<double>(queries);
  }
  double mean_share() const {
    return full_keys == 0 ? 1.0 : static_cast<double>(keys) / static_cast<double>(full_keys);
  }
  Json json() const;
};

class KvCache {
 public:
  static constexpr int64_t kMaxSpans = 3;  // per layer: the compact part, and the ring in one piece or two

  // `separators` is copied. Memory::kAddresses: rows are never written or copied, only planned (kv_plan.h).
  // Error as for Policy::validate.
  KvCache(const KvLayout& layout, const Policy& policy, const TokenSet& separators,
          Memory memory = Memory::kZeros);
  // A copy that gives the same bits as this cache for whatever follows. Call it only between two chunks.
  // Error (kOutOfRange) if there is not enough memory.
  KvCache copy() const;

  // The number of tokens seen, which is the stream position of the next one.
  int64_t length() const { return length_; }
  // The number of known tokens that may enter in one chunk with the same result as one by one: up to the next
  // compression (sep-stream), else kUnlimited.
  int64_t max_chunk() const;
  // The slots that this layer holds now, and their stream positions and token ids in block order.
  int64_t n_slots(int64_t layer) const;
  std::vector<int64_t> slot_positions(int64_t layer) const;
  std::vector<int32_t> slot_tokens(int64_t layer) const;
  int64_t n_separators() const;  // sep-stream only: m

  // The steps of a chunk: begin_chunk; then, for each layer, write the rows that chunk_rows() (and
  // chunk_scales()) name, call rows_written(), and attend over spans(); then end_chunk, whose moves must be
  // carried out in all layers that compress, in order, before the next chunk (ops/cached_attention.h does all
  // of it). 1 <= tokens.size() <= max_chunk(). begin_chunk takes all the memory that the chunk needs first
  // (make_room). After a chunk that did not reach its end the cache is unusable: the next begin_chunk fails a
  // check.
  void begin_chunk(std::span<const int32_t> tokens);
  // Takes all the memory that a chunk of these tokens needs until its end: afterwards nothing that the cache
  // does for it can fail. Error (kOutOfRange), and the cache does not change, if there is not that much.
  void make_room(std::span<const int32_t> tokens);
  // Where the chunk's tokens go in this layer: for each token the row of kv head 0; head g lies g * its
  // stride further. Tokens of one chunk may lie in both parts (sep-stream's initial tokens), so there is one
  // stride per token.
  void chunk_rows(int64_t layer, void** key_rows, void** value_rows, int64_t* head_strides);
  // Only for int8: where the rows' scales go, in the same way; strides in floats.
  void chunk_scales(int64_t layer, float** key_scales, float** value_scales, int64_t* head_strides);
  void rows_written(int64_t layer);
  // At most kMaxSpans.
  std::span<const KeySpan> spans(int64_t layer);
  // Places of the chunk's tokens for the position encoding: as keys and as queries towards most spans;
  // towards spans with second_query (empty if there are none); and for learned positions.
  std::span<const int64_t> encoded() const { return encoded_; }
  std::span<const int64_t> second_encoded() const { return second_encoded_; }
  // The same in one layer: if its window is the model's own, the places are positions in the text.
  std::span<const int64_t> encoded(int64_t layer) const {
    return group_at(layer).rule.own_window ? positions_ : encoded_;
  }
  std::span<const int64_t> second_encoded(int64_t layer) const {
    return group_at(layer).rule.own_window ? std::span<const int64_t>() : second_encoded_;
  }
  // Whether end_chunk()'s moves must be carried out in this layer.
  bool compresses(int64_t layer) const { return group_at(layer).rule.streams; }
  std::span<const int64_t> learned() const { return second_encoded_.empty() ? encoded_ : second_encoded_; }
  std::span<const Move> end_chunk();

  // --- Layers whose queries choose among blocks, during a chunk ---
  // spans() is one band of all keys there. Between rows_written() and the attention, the means of the blocks
  // that have become complete must be written, from the rows as they are stored (ops/cached_attention.h does
  // it). States hold no means: after restore(), copy() and the like all are written again, with the same
  // bits.

  // What each query sees in this layer; not used() if it is not such a layer.
  const BlockRule& blocks(int64_t layer) const { return group_at(layer).rule.blocks; }
  // The positions at which blocks begin; all blocks but the last are complete.
  std::span<const int64_t> block_starts(int64_t layer) const { return group_at(layer).block_starts; }
  int64_t n_complete_blocks(int64_t layer) const {
    return std::max<int64_t>(0, std::ssize(group_at(layer).block_starts) - 1);
  }
  // The mean key of block b and kv head g is at means + (b * means_of_block * n_kv_heads + g) * head_dim, and
  // for NSA its mean value n_kv_heads * head_dim further (BlockRule::means_of_block). Those of the first
  // n_means() blocks are there; the caller writes the others and says so.
  float* block_means(int64_t layer) { return layers_[layer].means.as<float>(); }
  int64_t n_means(int64_t layer) const { return layers_[layer].n_means; }
  void means_written(int64_t layer) { layers_[layer].n_means = n_complete_blocks(layer); }
  // The means that are held, and those for which there is memory, over all layers.
  int64_t held_means() const;
  int64_t reserved_means() const;
  int64_t mean_bytes() const {  // of one mean in all kv heads
    return layout_.n_kv_heads * layout_.head_dim * static_cast<int64_t>(sizeof(float));
  }
  // For stats(): the keys that query `row` of the chunk saw in this layer (the mean over query heads), and
  // the most of one head.
  void count_chosen(int64_t layer, int64_t row, int64_t keys, int64_t most);

  // The largest place (of learned()) that a chunk of n tokens would take.
  int64_t last_place(int64_t n) const;

  // The row of a slot in one layer and kv head, for carrying out moves.
  void* key_row(int64_t layer, int64_t kv_head, SlotRef slot);
  void* value_row(int64_t layer, int64_t kv_head, SlotRef slot);
  int64_t row_bytes() const { return row_bytes_; }
  // Only for int8: the factor of the row's elements; else null.
  float* key_scale(int64_t layer, int64_t kv_head, SlotRef slot);
  float* value_scale(int64_t layer, int64_t kv_head, SlotRef slot);
  // Copies key and value (and scales) of one kv head over another slot's.
  void copy_row(int64_t layer, int64_t kv_head, SlotRef from, SlotRef to);
  // The bytes of all slots that are held now, over all layers, and of the means of blocks.
  int64_t held_bytes() const;
  // The bytes of a slot in one layer: keys, values and scales of all heads.
  int64_t slot_bytes() const { return 2 * layout_.n_kv_heads * (row_bytes_ + scale_bytes()); }

  // Takes memory for exactly this many more tokens, instead of growing by halves, in layers that keep all of
  // them. Use it for tokens that are known, not for chunk after chunk.
  void reserve(int64_t n_tokens);
  // The stream will have at most this many tokens: what grows by halves does not grow beyond it. A longer
  // stream works too.
  void expect_at_most(int64_t n_tokens) { most_tokens_ = n_tokens; }

  static constexpr int64_t kNoBound = int64_t{1} << 40;

  // --- States, between two chunks (and their moves) ---

  // Writes everything that the cache holds. If it is restored into a cache of the same layout, policy and
  // separators, every later chunk gives the same bits as here: where the ring begins is part of the state,
  // because kernels add in the order of the spans.
  void save(ByteWriter& out) const;
  // Error (kBadFile), and the cache does not change, for bytes that are not such a state, or come from a
  // cache that took larger chunks than `max_chunk`. Memory is allocated only for rows that exist, a ring's
  // free slots (at most the window and a chunk), and the free slots of `capacities`, at most as many again
  // and a few.
  void restore(ByteReader& in, int64_t max_chunk, std::span<const int64_t> capacities = {});
  // How many slots there is memory for: in the compact part and the band of each group of layers, and then
  // for how many means in each group with blocks. It does not influence later bits, only later growth.
  std::vector<int64_t> capacities() const;
  // Writes a mark: what a later rewind() of this cache needs. Parts that are only ever appended to are left
  // out, so it is cheap. rewind() accepts only marks of this cache's own past: written by it, or by the cache
  // whose state it restored. Error as for restore(), and the cache does not change; a mark that did not come
  // from a file needs no bound.
  void save_mark(ByteWriter& out) const;
  void rewind(ByteReader& in, int64_t max_chunk = kNoBound);
  // Whether all layers keep all tokens (full attention): then cut() needs no mark.
  bool drops_nothing() const;
  // Forgets the tokens from `position` on; 0 <= position <= length(). Requires drops_nothing().
  void cut(int64_t position);
  // The same as copy() and cut(), but without memory for the tokens that are cut.
  KvCache copy_first(int64_t position) const;

  // Turns an empty cache (checked) into one that has seen `depth` tokens, token_at(0), token_at(1), ...: it
  // holds the slots that it would hold and will drop them when it would, but the keys and values in them are
  // made up, uniform in (-1, 1), the same for the same seed. It is for measurements at great depth, and takes
  // microseconds per thousand tokens. stats() begin after it. Error as for begin_chunk.
  void fill(int64_t depth, FunctionRef<int32_t(int64_t position)> token_at, uint64_t seed);

  const KvLayout& layout() const { return layout_; }
  const Policy& policy() const { return policy_; }
  const TokenSet& separators() const { return separators_; }
  KvStats stats() const;

 private:
  // Keys and values of one part of one layer: [kv head][slot][row], and their scales [kv head][slot].
  struct Part {
    Buffer k, v, k_scales, v_scales;
    int64_t capacity = 0;
    int64_t bytes() const { return k.bytes() + v.bytes() + k_scales.bytes() + v_scales.bytes(); }
  };
  struct Layer {
    Part compact, band;
    // Longer parts that make_room() has made and that are not in use yet. Capacity 0: none.
    Part next_compact, next_band;
    // Only with blocks: [capacity in blocks][means_of_block][kv head][head_dim], of which n_means are
    // written. next_means is as next_compact.
    Buffer means, next_means;
    int64_t n_means = 0;
  };
  // The keys that one query saw in the layers of a group: the sum over layers, and the most of one head.
  struct Seen {
    int64_t keys = 0, most = 0;
  };
  // The plan that layers with the same rule share.
  struct Group {
    LayerRule rule;
    std::vector<int64_t> layers;
    std::vector<int64_t> compact_positions;
    std::vector<int32_t> compact_tokens;
    int64_t band_begin = 0;  // stream position of the oldest token in the band
    int64_t band_size = 0;
    int64_t ring_start = 0;  // the slot of that token
    int64_t ring_capacity = 0;
    int64_t compact_capacity = 0;
    std::vector<int32_t> band_tokens;   // by slot
    std::vector<int32_t> next_tokens;   // by slot of next_band
    std::vector<int64_t> block_starts;  // only with blocks; see BlockRule::append
    std::vector<Seen> seen;             // only with blocks: by position
    int64_t promoted = 0;               // positions below were offered to the compact part
    int64_t first_late = 0;      // compact rows from here on are copied after the chunk's rows are written
    std::vector<KeySpan> spans;  // for the chunk in flight; rows are not set yet

    int64_t slot_of(int64_t position) const { return (ring_start + position - band_begin) % ring_capacity; }
  };

  // The content of a state, before the cache takes it over.
  struct State {
    int64_t length = 0, excess = 0;
    KvStats stats;
    std::vector<Group> groups;
  };

  Group& group_at(int64_t layer) { return groups_[group_of_[layer]]; }
  const Group& group_at(int64_t layer) const { return groups_[group_of_[layer]]; }
  // The group that compresses; null if there is none.
  Group* streaming();
  const Group* streaming() const;
  // The group of the layers that the policy rules (or any group, if it rules none).
  const Group& ruled() const;
  // Where the token at this position of the chunk in flight enters.
  static SlotRef entry_of(const Group& group, int64_t position);
  void plan_static(Group& group, std::span<const int32_t> tokens);
  void plan_stream(Group& group, std::span<const int32_t> tokens);
  void append_to_band(Group& group, std::span<const int32_t> tokens);
  void push_compact(Group& group, int64_t position, int32_t token);
  void append_blocks(Group& group, std::span<const int32_t> tokens);
  void rebuild_blocks(Group& group);
  // About how many keys the query at this position saw, in a layer with blocks.
  static double expected_keys(const Group& group, int64_t position);
  void make_next_means(const Group& group, int64_t n_tokens);
  void use_next_means(const Group& group);
  void copy_means(int64_t layer, Layer* to) const;
  int64_t block_bytes(const Group& group) const { return group.rule.blocks.means_of_block() * mean_bytes(); }
  // The position of the last token of the compact part, which is the last that stays; -1: it is empty.
  static int64_t last_kept(const Group& group) {
    return group.compact_positions.empty() ? -1 : group.compact_positions.back();
  }
  void set_spans(Group& group);
  void set_encoded(int64_t n);
  void count(const Group& group, int64_t n);
  void compress(Group& group);
  // How many of m separators, and of those that join them in a compression, are dropped; the oldest first.
  struct Dropped {
    int64_t old = 0, joining = 0;
  };
  Dropped dropped(int64_t m, int64_t n_joining) const;
  void copy_slot(int64_t layer, SlotRef from, SlotRef to);
  // The capacities that a group's parts need until the end of a chunk.
  struct Room {
    int64_t compact = 0, ring = 0;
  };
  Room static_room(const Group& group, std::span<const int32_t> tokens) const;
  Room stream_room(const Group& group, std::span<const int32_t> tokens) const;
  int64_t compact_after_compression(const Group& group, std::span<const int32_t> chunk,
                                    int64_t n_initial) const;
  int64_t grown_ring(const Group& group, int64_t n_slots, int64_t limit) const;
  int64_t grown_compact(const Group& group, int64_t capacity, int64_t n_slots) const;
  void take_room(std::span<const int32_t> tokens);
  void make_next(Group& group, bool band, int64_t capacity);
  void use_next(Group& group, bool band);
  void drop_next();
  Part copy_of(const Part& part, int64_t used, int64_t start) const;
  void fill_part(const Part& from, int64_t used, int64_t start, const Part& to, int64_t to_start) const;
  char* row(const Buffer& buffer, const Part& part, int64_t kv_head, int64_t slot) const;
  static float* scale(const Buffer& buffer, const Part& part, int64_t kv_head, int64_t slot) {
    return buffer.bytes() == 0 ? nullptr : buffer.as<float>() + kv_head * part.capacity + slot;
  }
  // Calls fn(bytes at the slot, bytes of a slot) for each array of a kv head that has rows: keys, values, and
  // their scales.
  template <typename Fn>
  void for_each_array(const Part& part, int64_t kv_head, int64_t slot, const Fn& fn) const {
    for (const Buffer* rows : {&part.k, &part.v}) fn(row(*rows, part, kv_head, slot), row_bytes_);
    if (scale_bytes() == 0) return;
    for (const Buffer* scales : {&part.k_scales, &part.v_scales})
      fn(reinterpret_cast<char*>(scale(*scales, part, kv_head, slot)), scale_bytes());
  }
  Part make_part(int64_t capacity, Memory memory) const;
  Part make_part(int64_t capacity) const { return make_part(capacity, memory_); }
  Part make_unwritten_part(int64_t capacity) const;
  // Whether rows in the group's compact part (its band) never move or leave: then a mark needs no copy of
  // them.
  static bool appends_compact(const Group& group) { return !group.rule.streams; }
  static bool appends_band(const Group& group) {
    return appends_compact(group) && group.rule.window >= kUnlimited;
  }
  void save(ByteWriter& out, bool whole) const;
  void set_capacities(std::span<const int64_t> capacities, std::vector<Group>* groups) const;
  State read_state(ByteReader& in, bool whole, int64_t max_chunk) const;
  void read_group(ByteReader& in, bool whole, int64_t max_chunk, const State& state, Group* group) const;
  void check_group(const ByteReader& in, const State& state, const Group& group) const;
  void take(State state);
  template <typename Fn>
  void for_each_run(const Part& part, int64_t used, int64_t start, const Fn& fn) const;
  void write_rows(ByteWriter& out, const Part& part, int64_t used, int64_t start) const;
  void read_rows(ByteReader& in, Part& part, int64_t used, int64_t start) const;
  Part& next_part(int64_t layer, bool band) {
    return band ? layers_[layer].next_band : layers_[layer].next_compact;
  }
  Part& part(int64_t layer, bool band) { return band ? layers_[layer].band : layers_[layer].compact; }
  int64_t effective_capacity() const;
  int64_t scale_bytes() const { return layout_.type == DType::kI8 ? int64_t{sizeof(float)} : 0; }
  int64_t held(const Group& group) const { return std::ssize(group.compact_positions) + group.band_size; }

  KvLayout layout_;
  Policy policy_;
  TokenSet separators_;
  Memory memory_;
  int64_t row_bytes_ = 0;
  int64_t length_ = 0;
  int64_t most_tokens_ = kUnlimited;  // of the stream, as far as is known
  int64_t excess_ = 0;                // unbounded separators: how much the block and the capacity have grown
  int64_t in_flight_ = 0;             // tokens of the chunk between begin_chunk and end_chunk
  std::vector<Layer> layers_;
  std::vector<Group> groups_;
  std::vector<int64_t> group_of_;
  std::vector<int64_t> encoded_, second_encoded_, positions_;
  std::vector<Move> moves_;
  std::vector<int64_t> joining_;  // in a compression: separators of the past window, as offsets in the band
  std::vector<KeySpan> layer_spans_;
  KvStats stats_;
};

}  // namespace sepllm
