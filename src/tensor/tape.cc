#include "tensor/tape.h"

#include <algorithm>

#include "base/check.h"

namespace sepllm {

float* Tape::parameter(const void* value) const {
  const auto found = parameters_.find(value);
  return found == parameters_.end() ? nullptr : found->second;
}

Matrix Tape::activation(int64_t n_rows, int64_t n_cols) {
  float* data = arena_.allocate<float>(n_rows * n_cols);
  blocks_.push_back({data, n_rows * n_cols, nullptr, depth_ > 0});
  return {data, n_rows, n_cols, n_cols};
}

Tape::Slot Tape::slot(const Matrix& part) const {
  for (size_t b = blocks_.size(); b-- > 0;) {  // the latest are asked for most
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
  return {entries_.size(), blocks_.size()};
}

void Tape::end_segment(const Mark& mark) {
  --depth_;
  entries_.push_back({nullptr, nullptr, mark, blocks_.size()});
}

void Tape::forget(const Mark& mark) {
  --depth_;
  entries_.resize(mark.entry);
  blocks_.resize(mark.block);
}

void Tape::give_gradient(Block& block) {
  constexpr int64_t kPiece = 64 * 1024;
  float* gradient = arena_.allocate<float>(block.size);
  pool_.parallel_for((block.size + kPiece - 1) / kPiece, [&](int64_t piece, int) {
    std::fill_n(gradient + piece * kPiece, std::min(kPiece, block.size - piece * kPiece), 0.0F);
  });
  block.gradient = gradient;
}

void Tape::run_segment(const Context& ctx, const Mark& begin, size_t end_entry, size_t end_block) {
  const Arena::Scope scope(arena_);
  for (size_t b = begin.block; b < end_block; ++b) give_gradient(blocks_[b]);
  run_entries(ctx, begin.entry, end_entry);
  for (size_t b = begin.block; b < end_block; ++b) blocks_[b].gradient = nullptr;
}

void Tape::run_entries(const Context& ctx, size_t begin, size_t end) {
  while (end > begin) {
    const Entry entry = entries_[--end];  // a copy: a replayed segment records more
    if (entry.call != nullptr) {
      entry.call(entry.fn, ctx);
    } else {
      run_segment(ctx, entry.begin, end, entry.end_block);
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
  clear();
}

void Tape::clear() {
  entries_.clear();
  blocks_.clear();
  depth_ = 0;
}

Matrix Tape::copy_of(const Matrix& m) {
  const Matrix copied{arena_.allocate<float>(m.n_rows * m.n_cols), m.n_rows, m.n_cols, m.n_cols};
  copy(m, copied);
  return copied;
}

void Tape::copy(const Matrix& from, const Matrix& to) {
  for (int64_t r = 0; r < from.n_rows; ++r) std::copy_n(from.row(r), from.n_cols, to.row(r));
}

}  // namespace sepllm
