#include "capi/batch.h"

#include <sepllm/sepllm.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "capi/guard.h"
#include "engine/session.h"
#include "model/decoder.h"
#include "ops/ops.h"
#include "tensor/arena.h"
#include "tensor/context.h"
#include "tensor/matrix.h"

namespace sepllm::capi {
namespace {

std::string numbered(size_t i) { return "session " + std::to_string(i); }

void require_one_pass(std::span<SharedSession* const> sessions) {
  require(!sessions.empty(), "no sessions were given");
  std::unordered_set<const SharedSession*> seen;
  const SharedSession& first = *sessions[0];
  for (size_t i = 0; i < sessions.size(); ++i) {
    const SharedSession& s = *sessions[i];
    const auto refuse_unless = [&](bool condition, const char* why) {
      if (!condition) throw Error(ErrorCode::kInvalidArgument, why, {.place = numbered(i)});
    };
    refuse_unless(seen.insert(&s).second, "it is among the sessions twice");
    refuse_unless(&s.model() == &first.model(), "it belongs to another model than the first one");
    refuse_unless(s.runtime() == first.runtime(), "it is on another runtime than the first one");
    refuse_unless(s.products() == first.products(), "some of the sessions are \"exact\", and others are not");
  }
}

// One pass. logits: [n, vocab_size]
void decode_rows(std::span<SharedSession* const> sessions, std::span<const int32_t> ids,
                 const Matrix& logits) {
  const Decoder& decoder = sessions[0]->model().decoder;
  const Context& ctx = sessions[0]->session().context();
  std::vector<Sequence> rows;
  rows.reserve(sessions.size());
  for (size_t i = 0; i < sessions.size(); ++i)
    rows.push_back(sessions[i]->session().prepare(ids.subspan(i, 1)));
  const Arena::Scope scope(ctx.arena);
  const Matrix hidden = decoder.forward(ctx, rows);
  for (size_t i = 0; i < sessions.size(); ++i) sessions[i]->session().entered(ids.subspan(i, 1));
  decoder.logits(ctx, hidden, logits);
}

}  // namespace

SessionsCall::SessionsCall(std::span<SharedSession* const> sessions) {
  require_one_pass(sessions);
  for (SharedSession* s : sessions) uses_.emplace_back(s->in_use(), "session");
  turn_.emplace(sessions[0]->runtime()->mutex());
  for (SharedSession* s : sessions) s->require_usable();
}

void decode_together(std::span<SharedSession* const> sessions, std::span<const int32_t> ids,
                     FunctionRef<void(size_t, std::span<const float>)> take) {
  constexpr size_t kMost = ops::kRowsOfEqualBits;
  const auto vocab = static_cast<size_t>(sessions[0]->model().config().vocab_size);
  std::vector<float> logits(std::min(sessions.size(), kMost) * vocab);
  for (size_t begin = 0; begin < sessions.size(); begin += kMost) {
    const size_t n = std::min(kMost, sessions.size() - begin);
    const auto n_cols = static_cast<int64_t>(vocab);
    decode_rows(sessions.subspan(begin, n), ids.subspan(begin, n),
                {logits.data(), static_cast<int64_t>(n), n_cols, n_cols});
    for (size_t i = 0; i < n; ++i) take(begin + i, std::span(logits).subspan(i * vocab, vocab));
  }
}

}  // namespace sepllm::capi

using namespace sepllm;        // NOLINT(google-build-using-namespace)
using namespace sepllm::capi;  // NOLINT(google-build-using-namespace)

sepllm_status sepllm_sessions_decode(sepllm_session* const* sessions, size_t n, const int32_t* ids) {
  return guarded([&] {
    const auto tokens = array(ids, n, "ids");
    std::vector<SharedSession*> all;
    for (sepllm_session* s : array(sessions, n, "sessions"))
      all.push_back(given(s, "a session").shared.get());
    const SessionsCall call(all);
    for (size_t i = 0; i < n; ++i) {
      try {
        all[i]->check(tokens[i]);
      } catch (const Error& e) {
        throw Error(e.code(), e.marked_text(), {.place = numbered(i)});
      }
    }
    if (!std::all_of(all.begin(), all.end(), [](const SharedSession* s) { return s->may_continue(); }))
      throw Refusal(SEPLLM_CANCELLED, "the call was cancelled");
    bool finite = true;
    decode_together(all, tokens, [&](size_t i, std::span<const float> logits) {
      finite = all[i]->decoded(tokens[i], logits) && finite;
    });
    if (!finite) refuse_output(all[0]->model());
  });
}
