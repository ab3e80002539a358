#include "engine/marks.h"

#include <algorithm>

#include "base/check.h"

namespace sepllm {

Marks::Marks(const MarkSettings& settings) : settings_(settings) {
  SEPLLM_CHECK(settings.interval >= 1 && settings.n_periodic >= 3 && settings.n_asked >= 1);
  SEPLLM_CHECK(settings.max_tokens > settings.interval);
}

void Marks::begin(int64_t position) {
  marks_.clear();
  tokens_.clear();
  begin_ = position;
}

void Marks::append(std::span<const int32_t> tokens) {
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
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
    // The gap that would be left, for the distance from here: small where marks are dense for their age. The
    // oldest and the newest stay.
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
  // Too old; in large steps, because the tokens move.
  if (static_cast<int64_t>(tokens_.size()) <= settings_.max_tokens + settings_.max_tokens / 4) return;
  const auto young = std::find_if(marks_.begin(), marks_.end(), [&](const Mark& m) {
    return m.position >= end() - settings_.max_tokens || &m == &marks_.back();
  });
  marks_.erase(marks_.begin(), young);
  const int64_t forgotten = marks_.front().position - begin_;
  tokens_.erase(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(forgotten));
  begin_ += forgotten;
}

const Marks::Mark* Marks::before(int64_t position) const {
  const auto after = std::upper_bound(marks_.begin(), marks_.end(), position,
                                      [](int64_t p, const Mark& m) { return p < m.position; });
  return after == marks_.begin() ? nullptr : &*(after - 1);
}

void Marks::cut(int64_t position) {
  SEPLLM_CHECK(position >= begin_ && position <= end());
  while (!marks_.empty() && marks_.back().position > position) marks_.pop_back();
  tokens_.resize(static_cast<size_t>(position - begin_));
}

std::span<const int32_t> Marks::tokens(int64_t from, int64_t to) const {
  SEPLLM_CHECK(from >= begin_ && from <= to && to <= end());
  return std::span(tokens_).subspan(static_cast<size_t>(from - begin_), static_cast<size_t>(to - from));
}

std::vector<int64_t> Marks::positions() const {
  std::vector<int64_t> out;
  for (const Mark& m : marks_) out.push_back(m.position);
  return out;
}

int64_t Marks::bytes() const {
  auto total = static_cast<int64_t>(tokens_.capacity() * sizeof(int32_t));
  for (const Mark& m : marks_) total += static_cast<int64_t>(m.state.capacity());
  return total;
}

}  // namespace sepllm
