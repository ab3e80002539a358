// Text generation: takes a prompt, gives tokens and text as they are generated.
#pragma once

#include <functional>
#include <string>

#include "engine/generate_request.h"
#include "engine/sampler.h"
#include "engine/session.h"

namespace sepllm {

// Continues `session` with the request's prompt. `on_text` gets pieces of whole characters as soon as they
// are certain (never part of a stop string); return false from it to cancel. Every token that is part of the
// result has entered the cache, except the last one sampled. Error if the prompt cannot be fed; an Error at a
// later token (learned positions that end) is stored in the result, so that the text so far is not lost.
GenerateResult generate(Session& session, Sampler& sampler, const GenerateRequest& request,
                        const std::function<bool(const std::string&)>& on_text);

}  // namespace sepllm
