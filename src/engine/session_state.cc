// A session's state as a file: the header says what it belongs to; then come the cache and the marks.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "engine/fingerprint.h"
#include "engine/session.h"

namespace sepllm {
namespace {

constexpr const char* kKind = "session";
constexpr int64_t kSessionVersion = 1;  // the version of the sections and of the header's description of them
constexpr const char* kCacheSection = "cache";
constexpr const char* kMarksSection = "marks";
// in the header, because the cache's section did not have them at first
constexpr const char* kCapacities = "capacities";
// Marks are left out of a file if their copies of the cache together take more than this many times the
// cache.
constexpr int64_t kMarksPerState = 4;

std::string shown(const Json& value) {
  return value.is_string() ? value.get<std::string>() : json_text(value);
}

// Throws for the first member that differs, or that only one of the two has. If `what` is empty, the members
// are options.
void require_same(const Json& theirs, const Json& own, const std::string& what, const std::string& file) {
  const auto compare = [&](const std::string& key) {
    const Json* a = theirs.contains(key) ? &theirs.at(key) : nullptr;
    const Json* b = own.contains(key) ? &own.at(key) : nullptr;
    if (a != nullptr && b != nullptr && *a == *b) return;
    throw Error(ErrorCode::kBadFile,
                "the state was saved with another " + (what.empty() ? option_name(key) : what + key),
                {.file = file,
                 .expected = a != nullptr ? shown(*a) : "none",
                 .got = b != nullptr ? shown(*b) : "none"});
  };
  // The kind of policy is compared first, because the other settings follow from it.
  if (own.contains("policy")) compare("policy");
  for (const auto& [key, value] : theirs.items()) compare(key);
  for (const auto& [key, value] : own.items()) compare(key);
}

std::vector<int64_t> capacities_in(const JsonObject& header) {
  std::vector<int64_t> out;
  if (!header.json().contains(kCapacities)) return out;
  const Json& list = header.json().at(kCapacities);
  for (const Json& value : list.is_array() ? list : Json::array())
    out.push_back(value.is_number_integer() ? value.get<int64_t>() : 0);
  return out;
}

}  // namespace

// What a state belongs to; equal for two sessions iff one can continue from the other's state.
Json Session::identity() const {
  return {{"model", {{"family", model_.config().family}, {"fingerprint", model_fingerprint(model_.decoder)}}},
          {"policy", policy_json(settings_)},
          {"separators",
           {{"count", cache_.separators().size()}, {"fingerprint", set_fingerprint(cache_.separators())}}}};
}

void Session::save(const std::string& path, const Json& extra) const {
  Json header = {{"kind", kKind},
                 {"version", kSessionVersion},
                 {"tokens", cache_.length()},
                 {kCapacities, cache_.capacities()}};
  header.update(identity());
  header["extra"] = extra;
  std::vector<StateSection> sections = {{kCacheSection, [this](ByteWriter& out) { cache_.save(out); }}};
  if (marks_) {
    ByteCounter size;
    cache_.save(size);
    const int64_t most = kMarksPerState * static_cast<int64_t>(size.count());
    sections.push_back({kMarksSection, [this, most](ByteWriter& out) { marks_->save(out, most); }});
  }
  write_state_file(path, std::move(header), sections);
}

Json Session::restore(const StateFile& file) {
  const JsonObject header(file.header(), file.path());
  if (const std::string kind = header.string("kind"); kind != kKind) {
    throw Error(ErrorCode::kBadFile, "the state file belongs to something else",
                {.file = file.path(), .expected = kKind, .got = kind});
  }
  require_version(header, header, "a state", {1, kSessionVersion});
  const Json own = identity();
  for (const auto& [key, what] :
       {std::pair{"model", "model: "}, {"policy", ""}, {"separators", "set of separators: "}})
    require_same(header.object(key).json(), own.at(key), what, file.path());
  std::optional<Marks> marks;
  if (marks_ && file.has(kMarksSection)) {
    ByteReader in = file.section(kMarksSection);
    marks = Marks::read(in, marks_->settings(), header.integer("tokens", 0, INT64_MAX));
  }
  ByteReader in = file.section(kCacheSection);
  cache_.restore(in, settings_.prefill_chunk, capacities_in(header));
  in_pass_ = false;
  if (!marks_) return header.at("extra");
  if (marks && marks->end() == cache_.length()) {
    marks_ = std::move(marks);
  } else {
    marks_->begin(cache_.length());
  }
  add_mark(/*asked=*/false);
  return header.at("extra");
}

void Session::keep_marks(const MarkSettings& settings) {
  marks_.emplace(settings);
  marks_->begin(cache_.length());
  add_mark(/*asked=*/false);
}

void Session::mark() {
  SEPLLM_CHECK(marks_.has_value());
  add_mark(/*asked=*/true);
}

void Session::drop_marks() {
  SEPLLM_CHECK(marks_.has_value());
  marks_->keep_first();
}

void Session::add_mark(bool asked) {
  SEPLLM_CHECK(marks_->end() == cache_.length());
  Marks::Mark mark{cache_.length(), asked, {}};
  ByteCounter size;
  cache_.save_mark(size);
  mark.state.reserve(size.count());
  StringWriter out(&mark.state);
  cache_.save_mark(out);
  marks_->add(std::move(mark));
}

void Session::rewind(int64_t position, Replay replay) {
  SEPLLM_CHECK(usable() && marks_.has_value() && marks_->end() == cache_.length());
  SEPLLM_CHECK(position >= 0 && position <= cache_.length());
  if (position == cache_.length()) return;
  const Marks::Mark* mark = marks_->before(position);
  if (mark == nullptr) {
    throw Error(ErrorCode::kOutOfRange, "cannot go back that far",
                {.expected = fmt::format("token {} or later", marks_->positions().front()),
                 .got = std::to_string(position)});
  }
  if (cache_.drops_nothing()) {
    cache_.cut(position);
    marks_->cut(position);
    return;
  }
  const std::span<const int32_t> tokens = marks_->tokens(mark->position, position);
  const std::vector<int32_t> again(tokens.begin(), tokens.end());
  const std::vector<ChunkList::Run> chunks = marks_->chunks(mark->position, position);
  const int64_t begin = mark->position;
  go_back_to(*mark);
  marks_->cut(begin);
  if (replay == Replay::kFast) return feed(again);
  std::span<const int32_t> left = again;
  for (const ChunkList::Run& chunk : chunks) {
    for (int64_t k = 0; k < chunk.count; ++k) {
      const std::span<const int32_t> next = left.first(static_cast<size_t>(chunk.length));
      left = left.subspan(next.size());
      // A chunk is longer than the cache takes only in a state file that was tampered with.
      chunk.length > next_chunk() ? feed(next) : run(next, [](const Matrix&) {});
    }
  }
}

void Session::go_back_to(const Marks::Mark& mark) {
  ByteReader in(mark.state, "", "mark");
  cache_.rewind(in, settings_.prefill_chunk);
}

Session Session::fork_at(const Context& ctx, int64_t position) const {
  SEPLLM_CHECK(usable() && marks_.has_value() && marks_->end() == cache_.length());
  const Marks::Mark* mark = marks_->before(position);
  if (mark != nullptr && cache_.drops_nothing())
    return {*this, ctx, cache_.copy_first(position), marks_->first(position)};
  if (mark != nullptr && mark->position == position) {
    Session out(*this, ctx, cache_.copy(), marks_->first(position));
    out.go_back_to(*mark);
    return out;
  }
  Session out = fork(ctx);
  out.rewind(position);
  return out;
}

int64_t Session::reusable(std::span<const int32_t> prompt, bool same_bits) const {
  SEPLLM_CHECK(marks_.has_value() && !prompt.empty());
  const int64_t differs = in_common(prompt.first(prompt.size() - 1));
  const int64_t position = same_bits ? marks_->whole_end(differs) : differs;
  return marks_->before(position) == nullptr ? 0 : position;
}

int64_t Session::in_common(std::span<const int32_t> prompt) const {
  SEPLLM_CHECK(marks_.has_value());
  if (!usable() || marks_->begin() > 0) return 0;
  const std::span<const int32_t> held = marks_->tokens(0, marks_->end());
  return std::mismatch(held.begin(), held.end(), prompt.begin(), prompt.end()).first - held.begin();
}

int64_t Session::rewinds_to(int64_t position) const {
  SEPLLM_CHECK(marks_.has_value());
  if (position >= cache_.length()) return cache_.length();
  const Marks::Mark* mark = marks_->before(position);
  if (mark == nullptr) return -1;
  return cache_.drops_nothing() ? position : mark->position;
}

}  // namespace sepllm
