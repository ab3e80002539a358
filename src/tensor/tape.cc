#include "tensor/tape.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/check.h"

namespace sepllm {

float* Tape::parameter(const void* value) const {
  const auto found = parameters_.find(value);
  return found == parameters_.end() ? nullptr : found->second;
}

void Tape::set_packing(const Packing& packing, Arena* workspace) {
  SEPLLM_CHECK(entries_.empty());
  packing_ = packing;
  workspace_ = workspace;
}

Tape::WorkspaceScope::WorkspaceScope(Tape& tape) : tape_(tape) {
  if (tape.workspace_ == nullptr) return;
  SEPLLM_CHECK(tape.depth_ == 1);  // only one at a time
  if (!tape.workspace_hold_) {
    tape.workspace_hold_.emplace(*tape.workspace_);
    tape.workspace_->allocate_bytes(1);  // an arena that is not empty keeps its blocks
  }
  scope_.emplace(*tape.workspace_);
  tape.in_workspace_ = true;
}

Tape::WorkspaceScope::~WorkspaceScope() { tape_.in_workspace_ = false; }

float* Tape::allocate(int64_t n) {
  if (!in_workspace_) return arena_.allocate<float>(n);
  float* data = workspace_->allocate<float>(n);
  packed_.push_back({data, n, nullptr});
  return data;
}

Matrix Tape::keep(int64_t n_rows, int64_t n_cols) {
  return {allocate(n_rows * n_cols), n_rows, n_cols, n_cols};
}

Matrix Tape::activation(int64_t n_rows, int64_t n_cols) {
  const Matrix out = keep(n_rows, n_cols);
  blocks_.push_back({out.data, n_rows * n_cols, nullptr, depth_ > 0});
  return out;
}

template <typename Fn>
void Tape::by_pieces(int64_t n, const Fn& fn) const {
  constexpr int64_t kPiece = 64 * 1024;
  pool_.parallel_for((n + kPiece - 1) / kPiece,
                     [&](int64_t piece, int) { fn(piece * kPiece, std::min(kPiece, n - piece * kPiece)); });
}

void Tape::pack_segment(const Mark& begin) {
  for (size_t k = begin.packed; k < packed_.size(); ++k) {
    Packed& p = packed_[k];
    p.bits = arena_.allocate<uint16_t>(p.size);
    by_pieces(p.size, [&](int64_t at, int64_t n) { packing_.pack(p.data + at, n, p.bits + at); });
  }
}

Tape::Slot Tape::slot(const Matrix& part) const {
  for (size_t b = blocks_.size(); b-- > 0;) {  // the latest blocks are asked for most often
    const int64_t offset = part.data - blocks_[b].data;
    if (offset >= 0 && offset < blocks_[b].size)
      return {static_cast<int64_t>(b), offset, part.n_rows, part.n_cols, part.stride};
  }
  SEPLLM_CHECK(false && "not an activation of this tape");
  return {};
}

Matrix Tape::gradient(const Slot& slot) const {
  float* gradient = blocks_[static_cast<size_t>(slot.block)].gradient;
  SEPLLM_CHECK(gradient != nullptr);
  return {gradient + slot.offset, slot.n_rows, slot.n_cols, slot.stride};
}

Tape::Mark Tape::begin_segment() {
  ++depth_;
  return mark();
}

void Tape::end_segment(const Mark& mark) {
  --depth_;
  entries_.push_back({nullptr, nullptr, mark, this->mark()});
}

void Tape::forget(const Mark& mark) {
  --depth_;
  entries_.resize(mark.entry);
  blocks_.resize(mark.block);
  packed_.resize(mark.packed);
}

void Tape::give_gradient(Block& block) {
  float* gradient = arena_.allocate<float>(block.size);
  by_pieces(block.size, [&](int64_t at, int64_t n) { std::fill_n(gradient + at, n, 0.0F); });
  block.gradient = gradient;
  gradient_bytes_ += block.size * static_cast<int64_t>(sizeof(float));
  peak_gradient_bytes_ = std::max(peak_gradient_bytes_, gradient_bytes_);
}

void Tape::run_segment(const Context& ctx, const Mark& begin, const Mark& end) {
  const Arena::Scope scope(arena_);
  const int64_t before = gradient_bytes_;
  for (size_t k = begin.packed; k < end.packed; ++k) {
    const Packed& p = packed_[k];
    by_pieces(p.size, [&](int64_t at, int64_t n) { packing_.unpack(p.bits + at, n, p.data + at); });
  }
  for (size_t b = begin.block; b < end.block; ++b) give_gradient(blocks_[b]);
  run_entries(ctx, begin.entry, end.entry);
  for (size_t b = begin.block; b < end.block; ++b) blocks_[b].gradient = nullptr;
  gradient_bytes_ = before;
}

void Tape::run_entries(const Context& ctx, size_t begin, size_t end) {
  while (end > begin) {
    const Entry entry = entries_[--end];  // a copy: a replayed segment records more
    if (entry.call != nullptr) {
      entry.call(entry.fn, ctx);
    } else {
      run_segment(ctx, entry.begin, entry.end);
      end = entry.begin.entry;
    }
  }
}

void Tape::backward(const Context& ctx) {
  SEPLLM_CHECK(depth_ == 0);
  {
    const Arena::Scope scope(arena_);
    for (Block& block : blocks_) {
      if (!block.in_segment) give_gradient(block);
    }
    run_entries(ctx, 0, entries_.size());
  }
  const int64_t peak = peak_gradient_bytes_;
  clear();
  peak_gradient_bytes_ = peak;
}

void Tape::clear() {
  gradient_bytes_ = peak_gradient_bytes_ = 0;
  entries_.clear();
  blocks_.clear();
  packed_.clear();
  workspace_hold_.reset();
  depth_ = 0;
}

Tape::State Tape::keep_state(const Matrix& m) {
  const int64_t n = m.n_rows * m.n_cols;
  if (workspace_ == nullptr) {
    float* values = arena_.allocate<float>(n);
    pool_.parallel_for(m.n_rows,
                       [&](int64_t r, int) { std::copy_n(m.row(r), m.n_cols, values + r * m.n_cols); });
    return {values, nullptr};
  }
  auto* bits = arena_.allocate<uint16_t>(n);
  pool_.parallel_for(m.n_rows,
                     [&](int64_t r, int) { packing_.pack(m.row(r), m.n_cols, bits + r * m.n_cols); });
  return {nullptr, bits};
}

void Tape::set_back(const State& kept, const Matrix& m) const {
  pool_.parallel_for(m.n_rows, [&](int64_t r, int) {
    if (kept.values != nullptr) {
      std::copy_n(kept.values + r * m.n_cols, m.n_cols, m.row(r));
    } else {
      packing_.unpack(kept.bits + r * m.n_cols, m.n_cols, m.row(r));
    }
  });
}

}  // namespace sepllm
