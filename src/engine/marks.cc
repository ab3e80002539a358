#include "engine/marks.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"

namespace sepllm {

Marks::Marks(const MarkSettings& settings) : settings_(settings) {
  SEPLLM_CHECK(settings.interval >= 1 && settings.n_periodic >= 3 && settings.n_asked >= 1);
  SEPLLM_CHECK(settings.max_tokens > settings.interval);
}

void Marks::begin(int64_t position) {
  marks_.clear();
  tokens_.clear();
  chunks_ = {};
  begin_ = position;
  whole_end_ = 0;
}

void Marks::append(std::span<const int32_t> tokens, bool whole) {
  if (whole && whole_end_ == end()) whole_end_ += static_cast<int64_t>(tokens.size());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  chunks_.append(static_cast<int64_t>(tokens.size()));
}

bool Marks::due() const { return marks_.empty() || end() - marks_.back().position >= settings_.interval; }

void Marks::add(Mark mark) {
  SEPLLM_CHECK(mark.position == end());
  if (!marks_.empty() && marks_.back().position == mark.position) {
    mark.asked = mark.asked || marks_.back().asked;
    marks_.pop_back();
  }
  marks_.push_back(std::move(mark));
  thin_out();
}

void Marks::thin_out() {
  const auto count = [&](bool asked) {
    return std::count_if(marks_.begin(), marks_.end(), [&](const Mark& m) { return m.asked == asked; });
  };
  if (count(true) > settings_.n_asked) {
    marks_.erase(std::find_if(marks_.begin(), marks_.end(), [](const Mark& m) { return m.asked; }));
  }
  if (count(false) > settings_.n_periodic) {
    // The gap that would be left, divided by the distance from here: it is small where marks are dense for
    // their age. The oldest and the newest mark stay.
    size_t best = 0;
    double least = 0.0;
    for (size_t k = 1; k + 1 < marks_.size(); ++k) {
      if (marks_[k].asked) continue;
      const auto gap = static_cast<double>(marks_[k + 1].position - marks_[k - 1].position);
      const double share = gap / static_cast<double>(end() - marks_[k].position);
      if (best != 0 && share >= least) continue;
      best = k;
      least = share;
    }
    marks_.erase(marks_.begin() + static_cast<std::ptrdiff_t>(best));
  }
  // Drops tokens that are too old, many at a time, because dropping moves the others.
  if (static_cast<int64_t>(tokens_.size()) <= settings_.max_tokens + settings_.max_tokens / 4) return;
  const auto young = std::find_if(marks_.begin(), marks_.end(), [&](const Mark& m) {
    return m.position >= end() - settings_.max_tokens || &m == &marks_.back();
  });
  marks_.erase(marks_.begin(), young);
  const int64_t forgotten = marks_.front().position - begin_;
  tokens_.erase(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(forgotten));
  chunks_.drop_first(forgotten);
  begin_ += forgotten;
}

const Marks::Mark* Marks::before(int64_t position) const {
  const auto after = std::upper_bound(marks_.begin(), marks_.end(), position,
                                      [](int64_t p, const Mark& m) { return p < m.position; });
  return after == marks_.begin() ? nullptr : &*(after - 1);
}

Marks Marks::first(int64_t position) const {
  SEPLLM_CHECK(position >= begin_ && position <= end());
  Marks out(settings_);
  for (const Mark& mark : marks_) {
    if (mark.position <= position) out.marks_.push_back(mark);
  }
  out.begin_ = begin_;
  const std::span<const int32_t> kept = tokens(begin_, position);
  out.tokens_.assign(kept.begin(), kept.end());
  out.whole_end_ = std::min(whole_end_, begin_ + chunks_.end_before(position - begin_));
  out.chunks_ = chunks_;
  out.chunks_.keep_first(position - begin_);
  return out;
}

void Marks::cut(int64_t position) {
  SEPLLM_CHECK(position >= begin_ && position <= end());
  while (!marks_.empty() && marks_.back().position > position) marks_.pop_back();
  // A chunk that is cut here is none that a fed text would have.
  whole_end_ = std::min(whole_end_, begin_ + chunks_.end_before(position - begin_));
  tokens_.resize(static_cast<size_t>(position - begin_));
  chunks_.keep_first(position - begin_);
}

void Marks::keep_first() {
  if (std::ssize(marks_) > 1) marks_.erase(marks_.begin() + 1, marks_.end());
}

std::span<const int32_t> Marks::tokens(int64_t from, int64_t to) const {
  SEPLLM_CHECK(from >= begin_ && from <= to && to <= end());
  return std::span(tokens_).subspan(static_cast<size_t>(from - begin_), static_cast<size_t>(to - from));
}

std::vector<ChunkList::Run> Marks::chunks(int64_t from, int64_t to) const {
  return chunks_.between(from - begin_, to - begin_);
}

int64_t Marks::whole_end(int64_t position) const {
  return begin_ > 0 ? 0 : chunks_.end_before(std::min(position, whole_end_));
}

std::vector<int64_t> Marks::positions() const {
  std::vector<int64_t> out;
  for (const Mark& m : marks_) out.push_back(m.position);
  return out;
}

int64_t Marks::bytes() const {
  auto total = static_cast<int64_t>(tokens_.capacity() * sizeof(int32_t)) + chunks_.bytes();
  for (const Mark& m : marks_) total += static_cast<int64_t>(m.state.capacity());
  return total;
}

// --- States ---

std::vector<const Marks::Mark*> Marks::newest_within(int64_t max_bytes) const {
  std::vector<const Mark*> out;
  const auto add = [&](const Mark& m) {
    const auto bytes = static_cast<int64_t>(m.state.size());
    if (bytes > max_bytes) return;
    max_bytes -= bytes;
    out.push_back(&m);
  };
  if (!marks_.empty()) add(marks_.front());
  for (const bool asked : {true, false}) {
    for (size_t k = marks_.size(); k-- > 1;) {
      if (marks_[k].asked == asked) add(marks_[k]);
    }
  }
  std::sort(out.begin(), out.end());  // by position, the order in which they are kept
  return out;
}

void Marks::save(ByteWriter& out, int64_t max_bytes) const {
  out.value(begin_);
  out.value(whole_end_);
  out.list(std::span<const int32_t>(tokens_));
  chunks_.save(out);
  const std::vector<const Mark*> kept = newest_within(max_bytes);
  out.value(static_cast<int64_t>(kept.size()));
  for (const Mark* m : kept) {
    out.value(m->position);
    out.value(static_cast<int64_t>(m->asked));
    out.value(static_cast<int64_t>(m->state.size()));
    out.bytes(m->state.data(), m->state.size());
  }
}

Marks Marks::read(ByteReader& in, const MarkSettings& settings, int64_t length) {
  Marks out(settings);
  out.begin_ = in.integer("first token remembered", 0, length);
  out.whole_end_ = in.integer("end of whole chunks", 0, length);
  const int64_t n_tokens = length - out.begin_;
  in.need(static_cast<uint64_t>(n_tokens) * sizeof(int32_t));
  out.tokens_.resize(static_cast<size_t>(n_tokens));
  in.list(std::span<int32_t>(out.tokens_));
  out.chunks_ = ChunkList::read(in, n_tokens);
  const int64_t n_marks = in.integer("number of marks", 0, settings.n_periodic + settings.n_asked);
  int64_t before = out.begin_ - 1;
  for (int64_t k = 0; k < n_marks; ++k) {
    Mark mark{
        in.integer("position of a mark", before + 1, length), in.integer("kind of a mark", 0, 1) == 1, {}};
    before = mark.position;
    if (out.chunks_.end_before(before - out.begin_) != before - out.begin_)
      in.refuse("a mark within a chunk");
    mark.state.resize(static_cast<size_t>(in.integer("bytes of a mark", 0, static_cast<int64_t>(in.left()))));
    in.bytes(mark.state.data(), mark.state.size());
    out.marks_.push_back(std::move(mark));
  }
  in.finish();
  return out;
}

}  // namespace sepllm
