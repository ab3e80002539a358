// Several sessions that take a token each in one pass, so that the weights are read once for all of them.
#pragma once

#include <sepllm/sepllm.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>

#include "base/function_ref.h"
#include "capi/guard.h"
#include "capi/session.h"

namespace sepllm::capi {

// A call that uses several sessions, as SessionCall does for one.
class SessionsCall {
 public:
  // Error (kInvalidArgument) for no sessions, for one that is there twice, and for sessions that cannot share
  // a pass: of another model or runtime, or with and without "exact". Refusal as for SessionCall.
  explicit SessionsCall(std::span<SharedSession* const> sessions);

 private:
  std::deque<Use> uses_;
  std::optional<Turn> turn_;
};

// Feeds ids[i] to sessions[i]; a SessionsCall lives meanwhile, and SharedSession::check has passed. After
// each pass `take` gets the number of each of its sessions and the logits after the token, which are valid
// during the call; it must not throw. The bits are those of a pass of its own: passes have as many rows as
// keep them apart. An Error or bad_alloc within a pass leaves the sessions of this pass unusable, and the
// later ones as they were.
void decode_together(std::span<SharedSession* const> sessions, std::span<const int32_t> ids,
                     FunctionRef<void(size_t, std::span<const float>)> take);

}  // namespace sepllm::capi
