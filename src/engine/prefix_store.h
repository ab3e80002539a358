// Sessions that are kept after their requests, so that later requests whose prompts begin in the same way can
// continue from them: conversations, and prompts with the same examples or documents.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/session.h"
#include "engine/token_score.h"

namespace sepllm {

// A session of the store, with what is known about its stream.
struct HeldSession {
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

  std::shared_ptr<Session> session{};  // keeps marks
  std::string policy{};  // the text of policy_json(): a session of other settings cannot be continued
  // The scores of tokens 1, 2, ... of the stream as far as they are known, with at least n_top likely tokens.
  std::vector<TokenScore> scores{};
  int64_t n_top = kNone;            // kNone: there are no scores
  int64_t first_generated = kNone;  // the position of the first token that was sampled
  int64_t prompt_end = 0;           // of the last request
  // The hidden state of the last token of that prompt, which a request with the same prompt needs instead of
  // feeding it again; empty: not known. The session can go back to prompt_end then.
  std::vector<float> last_hidden{};

  // of the store
  bool in_use = false;
  int64_t last_used = 0;
  int64_t bytes = 0;
};

// Must be used from one thread.
class PrefixStore {
 public:
  struct Wanted {
    std::span<const int32_t> prompt{};  // not empty
    const std::string& policy;
    bool scored = false;  // the scores of the prompt's tokens are needed too,
    int64_t n_top = 0;    // with that many likely ones
  };
  // What a request begins with. If `held` is null, nothing could be reused.
  struct Found {
    std::shared_ptr<HeldSession> held{};  // in use now, with n_fed tokens of the prompt
    int64_t n_fed = 0;  // all tokens of the prompt only if held->last_hidden is that of the last
    // The number of tokens that the prompt has in common with a session of the same settings, even if they
    // could not be reused: the place where a mark would help the next one.
    int64_t in_common = 0;
  };

  // Finds the session that saves most. It is taken if little more than the prompt would be lost; otherwise,
  // or if another request uses it, a copy is made of its beginning, and the session stays. The rules:
  // - A text gets the same bits as from a session that is fed the whole prompt, unless tokens that were
  //   generated are reused: chunks of a prompt are reused as a whole or not at all.
  // - A prompt that was fed before need not be fed again.
  // - If scores are wanted, tokens are reused as far as theirs are known. Then chunks may be cut, and bits
  //   may differ in the order of sums.
  // `ctx` is that of copies. If there is no memory for a copy, nothing is found.
  Found take(const Wanted& wanted, const Context& ctx);
  // Makes the session that take() would find the last one to be dropped. Whether it would be taken (not
  // copied).
  bool touch(const Wanted& wanted);
  // Adds a session, in use.
  std::shared_ptr<HeldSession> add(std::shared_ptr<Session> session, const std::string& policy);
  // The request has ended: the session is kept.
  void give_back(const std::shared_ptr<HeldSession>& held);
  void remove(const std::shared_ptr<HeldSession>& held);
  // Makes idle sessions take at most this much: first drops their marks, with which they could go back, then
  // sessions; each time those first that were used longest ago.
  void drop_to(int64_t bytes);

  int64_t idle_bytes() const { return idle_bytes_; }  // of the sessions that are not in use, with their marks
  int64_t n_idle() const;

 private:
  struct Place {
    HeldSession* held = nullptr;
    int64_t position = 0;   // where the request would begin
    int64_t in_common = 0;  // of that session
    bool taken = false;     // not copied
  };
  Place best(const Wanted& wanted, int64_t* in_common) const;
  void set_idle(HeldSession& held, bool idle);
  std::vector<std::shared_ptr<HeldSession>> idle_by_age() const;
  void drop_repeated(const HeldSession& held);

  std::vector<std::shared_ptr<HeldSession>> all_;
  int64_t idle_bytes_ = 0;
  int64_t clock_ = 0;
};

}  // namespace sepllm
