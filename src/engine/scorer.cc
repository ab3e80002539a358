#include "engine/scorer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/check.h"
#include "base/error.h"

namespace sepllm {

double ScoreResult::perplexity() const { return std::exp(nll_mean()); }

// The JSON library writes the shortest digits that give the same double.
Json ScoreResult::json() const {
  return {{"tokens", tokens}, {"predicted", predicted}, {"nll_sum", nll_sum}, {"seconds", seconds}};
}

ScoreResult ScoreResult::from_json(const JsonObject& object) {
  ScoreResult out;
  out.tokens = object.integer("tokens", 0, INT64_MAX);
  out.predicted = object.integer("predicted", 0, INT64_MAX);
  out.nll_sum = object.number("nll_sum");
  out.seconds = object.number("seconds");
  return out;
}

Scorer::Scorer(Session& session, TokenStream& stream, bool has_bos)
    : session_(session), stream_(stream), has_bos_(has_bos), start_(std::chrono::steady_clock::now()) {}

bool Scorer::next_is_whole() {
  const int64_t needed = chunk() + 1;
  return static_cast<int64_t>(stream_.peek(needed).size()) == needed;
}

bool Scorer::step() {
  // One more than is fed: the last row predicts it.
  const std::span<const int32_t> ids = stream_.peek(chunk() + 1);
  const auto n = std::min<int64_t>(chunk(), static_cast<int64_t>(ids.size()));
  nll_.clear();
  if (n == 0) return false;
  const auto tokens = ids.first(static_cast<size_t>(n));
  const std::span<const int32_t> targets = ids.subspan(1);
  session_.feed(tokens, [&](int64_t first, const Matrix& hidden) {
    SEPLLM_CHECK(first == 0 && hidden.n_rows == n);
    const auto predicted = static_cast<int64_t>(targets.size());  // n, or n - 1 at the end of the stream
    nll_.resize(targets.size());
    if (predicted == 0) return true;
    session_.model().decoder.nll(session_.context(), hidden.rows(0, predicted), targets, nll_.data());
    return true;
  });
  for (const double x : nll_) {
    if (!std::isfinite(x)) refuse_output(session_.model());
    result_.nll_sum += x;
  }
  ids_.add(tokens.data(), tokens.size_bytes());
  stream_.take(n);
  fed_ += n;
  result_.predicted += static_cast<int64_t>(nll_.size());
  result_.tokens = fed_ - (has_bos_ ? 1 : 0);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  result_.seconds = seconds_before_ + elapsed.count();
  return true;
}

Json Scorer::state() const {
  return {
      {"fed", fed_}, {"has_bos", has_bos_}, {"ids_hash", hex64(ids_.value())}, {"result", result_.json()}};
}

void Scorer::restore(const Json& state, const std::string& file) {
  SEPLLM_CHECK(fed_ == 0);
  const JsonObject object(state, file, "extra");
  const auto other_text = [&](const std::string& why) {
    throw Error(ErrorCode::kInvalidArgument, "the state was saved with another text",
                {.file = file, .got = why});
  };
  const int64_t fed = object.integer("fed", 0, INT64_MAX);
  if (fed != session_.cache().length()) {
    throw Error(ErrorCode::kBadFile, "the state contradicts itself",
                {.file = file,
                 .place = object.path_of("fed"),
                 .expected = std::to_string(session_.cache().length()),
                 .got = std::to_string(fed)});
  }
  const std::string hash = object.string("ids_hash");
  const ScoreResult result = ScoreResult::from_json(object.object("result"));
  constexpr int64_t kBlock = 65536;
  while (fed_ < fed) {
    const std::span<const int32_t> ids = stream_.peek(std::min(kBlock, fed - fed_));
    if (ids.empty()) {
      other_text("a text of " + std::to_string(fed_) + " tokens where the state has " + std::to_string(fed));
    }
    ids_.add(ids.data(), ids.size_bytes());
    const auto n = static_cast<int64_t>(ids.size());
    stream_.take(n);
    fed_ += n;
  }
  if (object.boolean_or("has_bos", false) != has_bos_ || hex64(ids_.value()) != hash) {
    other_text("other tokens among the first " + std::to_string(fed));
  }
  result_ = result;
  seconds_before_ = result.seconds;
  start_ = std::chrono::steady_clock::now();
}

ScoreResult score(Session& session, std::span<const int32_t> ids, bool has_bos, const OnNll& on_nll) {
  SEPLLM_CHECK(ids.size() >= 2);
  session.cache().reserve(static_cast<int64_t>(ids.size()));
  SpanStream stream(ids);
  Scorer scorer(session, stream, has_bos);
  while (scorer.step()) {
    if (on_nll && !on_nll(scorer.nll(), scorer.result())) break;
  }
  return scorer.result();
}

}  // namespace sepllm
