// One session behind its handle: what C callers expect it to remember between calls.
#pragma once

#include <sepllm/sepllm.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "capi/guard.h"
#include "capi/model.h"
#include "engine/sampler.h"
#include "engine/session.h"
#include "tensor/context.h"

namespace sepllm::capi {

class SharedSession {
 public:
  SharedSession(std::shared_ptr<LoadedModel> model, const SessionSettings& settings,
                std::shared_ptr<Runtime> runtime);
  // A copy on another runtime (or the same).
  SharedSession(const SharedSession& other, std::shared_ptr<Runtime> runtime);

  // The steps of the C functions; a SessionCall lives meanwhile.
  void feed(std::span<const int32_t> ids);
  void score(std::span<const int32_t> ids, int64_t n_scored, double* nll, int32_t* best);
  void rewind(int64_t position);
  void restore(const std::string& path);
  int32_t sample();
  // For a pass of several sessions: check() takes the memory that the session needs for one more token, and
  // throws what would make the pass fail because of it; decoded() says that the token has entered, with the
  // logits after it. False: they are not finite, and the session has none.
  void check(int32_t id);
  bool decoded(int32_t id, std::span<const float> logits) noexcept;
  // Refusal (kInvalidState) if an earlier pass has failed.
  void require_usable() const;
  void set_sampling(const SamplingSettings& settings);

  // Refusal (kInvalidState) if there are none.
  std::span<const float> logits() const;
  bool has_logits() const { return !logits_.empty(); }
  // A generation feeds the session itself, and says here what it has fed.
  void entered(std::span<const int32_t> ids);
  // Whether the caller's function lets a call continue.
  bool may_continue() const { return poll_ == nullptr || poll_(poll_user_) == 0; }
  void set_poll(sepllm_poll_function poll, void* user);
  // The tokens that the session has seen, as far as they are known: after a state without them was restored,
  // those since then.
  std::span<const int32_t> tokens() const { return tokens_; }

  Session& session() { return session_; }
  const Model& model() const { return model_->model; }
  const std::shared_ptr<Runtime>& runtime() const { return runtime_; }
  BlockProducts products() const { return products_; }
  InUse& in_use() { return in_use_; }

 private:
  std::shared_ptr<LoadedModel> model_;
  std::shared_ptr<Runtime> runtime_;
  BlockProducts products_;
  Session session_;
  SamplingSettings sampling_;
  std::optional<Sampler> sampler_;  // made when it is needed: it takes memory for the vocabulary
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;  // after the last token; empty: not known
  sepllm_poll_function poll_ = nullptr;
  void* poll_user_ = nullptr;
  InUse in_use_ = false;
};

// A call that uses a session: nobody else does meanwhile, and it is its runtime's turn.
class SessionCall {
 public:
  // Refusal (kBusy, kInvalidState) or Error.
  explicit SessionCall(SharedSession& shared);

 private:
  Use use_;
  Turn turn_;
};

}  // namespace sepllm::capi

struct sepllm_session {
  std::shared_ptr<sepllm::capi::SharedSession> shared;
};
