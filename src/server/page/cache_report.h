// What a session's cache holds, for the page that shows it.
#pragma once

#include "base/json.h"
#include "engine/session.h"

namespace sepllm::server {

// {"length": tokens so far, "held": [[first, last, kind], ...], "kv": {"bytes", "full_bytes", "mean_keys"}}.
// `held`: runs of stream positions, ascending, that the layers keep which the policy rules; kind: "initial",
// "separator", "interval" (policy fixed) or "window". Bytes are those of all layers, now. Call it between two
// passes.
Json cache_report(const Session& session);

}  // namespace sepllm::server
