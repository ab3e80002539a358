// The engine behind a thread of its own: requests enter through a mailbox, are admitted as far as the memory
// for their caches reaches, run together (engine/scheduler.h), and leave their caches behind for later
// requests that begin with the same tokens (engine/prefix_store.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/generate_request.h"
#include "engine/sampler.h"
#include "engine/session.h"
#include "engine/token_score.h"

namespace sepllm::server {

// A part of the prompt has been fed (or was found in a cache that was kept).
struct PromptEvent {
  int64_t fed = 0;     // tokens of the prompt that are in the cache now, including the cached ones
  int64_t total = 0;   // tokens of the prompt
  int64_t cached = 0;  // tokens of the prompt that were not fed, because a kept cache had them
  // With score_prompt: scores[k] belongs to token first + k of the prompt. Over all events of a request they
  // follow each other without a gap, from token 1 to the last one (nothing predicts token 0).
  int64_t first = 0;
  std::span<const TokenScore> scores{};
  const Session* session = nullptr;  // only during the call
};

// Text of one choice, as soon as it is certain.
struct TextEvent {
  int64_t choice = 0;
  std::string text{};  // whole UTF-8 characters; empty if there are only scores
  // With n_top >= 0: the scores of the tokens that were sampled since the last event of this choice. A token
  // whose text is held back (a part of a character, or what may become a stop string) comes without its text.
  // A stop token has a score, too.
  std::span<const TokenScore> scores{};
  const Session* session = nullptr;  // only during the call
};

// One choice has ended.
struct EndEvent {
  int64_t choice = 0;
  const GenerateResult* result = nullptr;  // never null; only during the call
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;         // of the prompt
  double queue_seconds = 0.0;        // from submit() until it was admitted (or ended)
  const Session* session = nullptr;  // only during the call; null if the request was never admitted
};

struct ServiceRequest {
  // The prompt's ids (not empty), stops, max_new_tokens (0 is allowed: then only the prompt is fed). The
  // service sets n_fed; `go_on` is asked in addition to `cancelled` and may be empty.
  GenerateRequest generate{};
  SamplingSettings sampling{};
  PolicySettings policy{};  // finished and validated (finish_policy_options)
  // Continuations of one prompt: the prompt is fed once. Choice c is sampled with seed sampling.seed + c.
  int64_t n_choices = 1;
  int64_t n_top = -1;  // scores of sampled tokens: -1 none, 0 only their own, k > 0: and the k most likely
  bool score_prompt = false;  // also scores of the prompt's tokens (with n_top most likely ones, if any)
  bool reuse_prefix = true;   // may begin with a kept cache
  // Set by the connection when its client has gone (or by anybody, from any thread). It is looked at in the
  // queue, before each chunk of the prompt and before each token. Null: cannot be cancelled.
  std::shared_ptr<std::atomic<bool>> cancelled{};
  // Events, called from the service's thread. They must return quickly and must not throw, and must not call
  // the service except for submit(), state() and kv_bytes_at_most(). Each may be empty.
  std::function<void(const PromptEvent&)> on_prompt{};
  std::function<void(const TextEvent&)> on_text{};
  // Once per choice, always, also after a failure or a cancellation; nothing of that choice comes after it.
  std::function<void(const EndEvent&)> on_end{};
};

struct ServiceSettings {
  int64_t parallel = 4;       // sequences that run at the same time, >= 1
  int64_t max_queue = 64;     // requests that wait, >= 1
  int64_t kv_memory = 0;      // bytes for all caches; 0: a share of the memory at hand
  bool keep_prefixes = true;  // keep the caches of ended requests, as far as kv_memory reaches
};

struct ActiveRequest {
  int64_t id = 0;
  bool in_prompt = false;  // else it decodes
  int64_t prompt_tokens = 0;
  int64_t fed = 0;     // tokens of the prompt that are in the cache
  int64_t cached = 0;  // of these, tokens that a kept cache had
  int64_t n_choices = 1;
  int64_t new_tokens = 0;   // of all choices
  int64_t kv_bytes = 0;     // what its caches hold now
  int64_t kv_reserved = 0;  // what admission counts for it: the most that its caches can take
  Json policy{};            // policy_json of its settings
  double seconds = 0.0;     // since it was admitted
};

struct ServiceState {
  std::vector<ActiveRequest> active{};  // by age
  int64_t n_waiting = 0;
  bool admitting = true;    // false after stop_admitting()
  int64_t kv_limit = 0;     // bytes
  int64_t kv_reserved = 0;  // by the active requests, as admission counts
  int64_t kv_prefixes = 0;  // held by kept caches, with their marks
  int64_t n_prefixes = 0;   // kept caches
  // Counters since the start.
  int64_t requests = 0;          // that were queued
  int64_t rejected = 0;          // submit() gave nullopt
  int64_t prompt_tokens = 0;     // fed or found in a kept cache
  int64_t cached_tokens = 0;     // of these, found in a kept cache
  int64_t generated_tokens = 0;  // of all choices
  int64_t prefix_queries = 0;    // tokens of the prompts that were looked up among the kept caches
  int64_t prefix_hits = 0;       // of these, tokens that were found
  int64_t prompt_steps = 0;      // chunks of prompts
  int64_t decode_steps = 0;      // passes that decode
  int64_t decode_rows = 0;       // sum of their rows: / decode_steps is the mean batch
  double busy_seconds = 0.0;     // of the service's thread
};

// All public functions may be called from any thread.
class Service {
 public:
  // `model` is kept by reference. The pool and the arena of `ctx` belong to the service until its end: nobody
  // else may use them.
  Service(const Model& model, const Context& ctx, const ServiceSettings& settings);
  ~Service();  // cancels what waits or runs, and waits for its ends
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  // Queues a request and returns its number. nullopt: the queue is full, or stop_admitting() was called.
  // Error for a request that can never run: kInvalidArgument for settings that do not fit the model and
  // tokens outside the vocabulary; kOutOfRange for prompt + max_new_tokens beyond the model's learned
  // positions, or for more memory than kv_memory (the message names both figures).
  std::optional<int64_t> submit(ServiceRequest request);
  // The most bytes that the cache of one sequence of `n_tokens` tokens can take, which is what admission
  // counts per choice.
  int64_t kv_bytes_at_most(const PolicySettings& policy, int64_t n_tokens) const;
  int64_t kv_limit() const;  // bytes for all caches

  // From now on submit() gives nullopt; what runs and waits comes to its end.
  void stop_admitting();
  // Waits up to so many seconds. True: nothing runs or waits.
  bool wait_idle(double seconds);
  // Cancels everything that runs or waits.
  void cancel_all();
  ServiceState state() const;
  const Model& model() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sepllm::server
