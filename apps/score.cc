// sepllm score: perplexity, speed and KV use of contiguous text of any length.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/score_log.h"
#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/output.h"
#include "apps/shell/provenance.h"
#include "base/error.h"
#include "base/file.h"
#include "base/output_place.h"
#include "base/process.h"
#include "engine/file_stream.h"
#include "engine/scorer.h"

namespace sepllm {
namespace {

constexpr const char* kCommand = "score";

class ScoreCommand : public Command {
 public:
  ScoreCommand() {
    own_.add_strings("text", &input_.texts,
                     "text files; each is tokenised by itself, then they are joined with nothing in between")
        .takes_list = true;
    own_.add_string("ids", &input_.ids, "file of token ids separated by blanks, used as they are", "FILE");
    own_.add_int("tokens", &input_.tokens, 1, INT64_MAX,
                 "score only the first N tokens of the text, not counting BOS")
        .default_note = "all";
    declare_bos_option(&own_, &input_.bos);
    own_.add_string("nll-out", &nll_out_, "write the negative log-likelihood of each token, one per line",
                    "FILE");
    own_.add_string("log", &log_, "write a JSON line every 65,536 tokens during the run, and one at the end",
                    "FILE");
    own_.add_string("state", &state_,
                    "save the stream's state in this file during the run; if the file exists, resume from it",
                    "FILE");
    own_.add_int("state-every", &state_every_, 1, INT64_MAX,
                 "tokens between saved states; one is also saved at the end and at Ctrl-C");
    common_.declare(&common_options_, true);
  }
  std::string name() const override { return kCommand; }
  std::string summary() const override { return "Measure perplexity, speed and KV use of contiguous text"; }
  std::string usage() const override {
    return "--model M (--text F... | --ids F) [--tokens N] [--nll-out F] [--log F] [--state F] [policy] "
           "[--json]";
  }
  std::vector<OptionGroup> groups() override {
    return {{"Text", &own_}, {"What the cache keeps", &policy_.options}, {"General", &common_options_}};
  }

  int run() override {
    check_inputs();
    std::vector<std::string> inputs = input_.texts;
    inputs.push_back(input_.ids);
    keep_apart({state_, log_, nll_out_}, inputs);
    const OutputPlace state(state_), log(log_, OutputKind::kGrowingFile);
    const OutputPlace nll(nll_out_, state_.empty() ? OutputKind::kFile : OutputKind::kGrowingFile);
    const Model model = common_.load(&policy_, {.certain = input_.regular() ? input_.tokens : 0});
    const int64_t total = input_.regular() ? count_tokens(model, input_) : 0;
    check_cache_fits(model, policy_.settings, {.certain = total}, memory_at_hand());
    Runtime runtime(common_);
    FileStream stream(model, input_);
    policy_.settings = settings_for_text(model, policy_.settings, total + (stream.has_bos() ? 1 : 0));
    Session session(model, policy_.settings, runtime.context());
    Scorer scorer(session, stream, stream.has_bos());
    Outputs outputs = open_outputs(session, scorer);
    session.cache().reserve(std::max<int64_t>(0, total + 1 - session.cache().length()));
    if (resumed_from_) print_note(fmt::format("resuming from {} tokens", *resumed_from_));
    const bool interrupted = score_all(session, scorer, outputs, total);
    if (!interrupted) check_count(input_, scorer.result().tokens, stream.has_bos());
    outputs.nll.finish();
    outputs.log.finish(scorer.result());
    report(scorer.result(), session, interrupted);
    return 0;
  }

 private:
  // Files that a run writes during its work.
  struct Outputs {
    NllFile nll;
    ScoreLog log;
    int64_t state_tokens = -1;  // tokens of the state on disk
  };

  void check_inputs() const {
    if (input_.texts.empty() == input_.ids.empty()) {
      throw Error(ErrorCode::kInvalidArgument, input_.texts.empty() ? "nothing to score" : "two inputs given",
                  {.expected = "--text FILE... or --ids FILE"});
    }
    if (!input_.ids.empty() && own_.was_set("bos")) {
      throw Error(ErrorCode::kInvalidArgument, "--bos does not go with --ids, which are used as they are");
    }
    if (own_.was_set("state-every") && state_.empty()) {
      throw Error(ErrorCode::kInvalidArgument, "--state-every needs --state FILE");
    }
    const std::string* outputs[] = {&state_, &log_, &nll_out_};
    for (int k = 0; k < 3; ++k) {
      const std::string& path = *outputs[k];
      if (path.empty() || (path != *outputs[(k + 1) % 3] && path != *outputs[(k + 2) % 3])) continue;
      throw Error(ErrorCode::kInvalidArgument, "--state, --log and --nll-out must be different files",
                  {.file = path});
    }
  }

  // Resumes from the state, if there is one. Nothing is written before everything is known to fit together.
  Outputs open_outputs(Session& session, Scorer& scorer) {
    if (state_.empty() || !file_exists(state_)) {
      return {NllFile(nll_out_, !state_.empty()), ScoreLog(log_, session.cache())};
    }
    const StateFile file(state_);
    const Json extra = session.restore(file);
    const JsonObject object(extra, state_, "extra");
    check_state(object);
    scorer.restore(object.object("score").json(), state_);
    const ScoreResult& result = scorer.result();
    resumed_from_ = result.tokens;
    const ScoreResult window = ScoreResult::from_json(object.object("window"));
    // In the log, lines of full intervals stay; the line of the previous run's end is removed, because it is
    // no longer the end.
    return {NllFile(nll_out_, result.predicted, object.number("last_nll")),
            ScoreLog(log_, session.cache(), window), result.tokens};
  }

  // Other settings that the bits of a result depend on.
  std::string products() const { return common_.exact ? "exact" : "native"; }

  void check_state(const JsonObject& extra) const {
    const auto require = [&](const char* key, const std::string& own, const char* message) {
      const std::string theirs = extra.string_or(key, "");
      if (theirs == own) return;
      throw Error(ErrorCode::kInvalidArgument, message, {.file = state_, .expected = theirs, .got = own});
    };
    require("command", kCommand, "the state belongs to another command");
    require("attention_impl", common_.attention, "the state was saved with another --attention-impl");
    require("products", products(), "the state was saved with another choice of --exact");
    const int64_t tokens = extra.object("score").object("result").integer("tokens", 0, INT64_MAX);
    if (input_.tokens == 0 || tokens <= input_.tokens) return;
    throw Error(ErrorCode::kInvalidArgument, "the state is beyond --tokens",
                {.file = state_,
                 .expected = fmt::format("at least {}", tokens),
                 .got = std::to_string(input_.tokens)});
  }

  // True if Ctrl-C came before the end.
  bool score_all(Session& session, Scorer& scorer, Outputs& outputs, int64_t total) const {
    const InterruptGuard guard;
    Progress progress("scoring", total);
    for (;;) {
      // The last chunk ends where the text does. A longer text would have a longer chunk there, so the state
      // is saved before it.
      const bool whole = scorer.next_is_whole();
      if (!whole) save_state(session, scorer, outputs);
      if (!scorer.step()) return false;  // no text at all: check_count() reports it
      const ScoreResult& result = scorer.result();
      outputs.nll.write(scorer.nll());
      const std::string remark = fmt::format("{:.0f} tokens/s, perplexity {:.4f}, of all {:.4f}",
                                             outputs.log.tokens_per_second(result),
                                             outputs.log.perplexity(result), result.perplexity());
      outputs.log.update(result);
      progress.show(result.tokens, remark);
      const bool due =
          result.tokens / state_every_ > std::max<int64_t>(0, outputs.state_tokens) / state_every_;
      if (!whole) return false;
      if (due || guard.interrupted()) save_state(session, scorer, outputs);
      if (guard.interrupted()) return true;
    }
  }

  void save_state(const Session& session, const Scorer& scorer, Outputs& outputs) const {
    const int64_t tokens = scorer.result().tokens;
    if (state_.empty() || tokens == outputs.state_tokens) return;
    outputs.nll.sync();
    outputs.log.sync();
    session.save(state_, {{"command", kCommand},
                          {"attention_impl", common_.attention},
                          {"products", products()},
                          {"score", scorer.state()},
                          {"window", outputs.log.last().json()},
                          {"last_nll", outputs.nll.last()}});
    outputs.state_tokens = tokens;
  }

  void report(const ScoreResult& result, const Session& session, bool interrupted) const {
    const KvStats kv = session.cache().stats();
    if (interrupted)
      print_note(fmt::format("interrupted after {} tokens; these are the figures so far", result.tokens));
    if (common_.json) {
      Json out = {{"tokens", result.tokens},
                  {"perplexity", result.perplexity()},
                  {"nll_mean", result.nll_mean()},
                  {"seconds", result.seconds},
                  {"tokens_per_second", result.tokens_per_second()},
                  {"peak_rss_bytes", peak_rss_bytes()},
                  {"program", provenance(common_.n_threads())},
                  {"policy", policy_json(policy_.settings)},
                  {"kv", kv.json()}};
      if (resumed_from_) out["resumed_from"] = *resumed_from_;
      if (interrupted) out["interrupted"] = true;
      print_json(out);
      return;
    }
    print(fmt::format("policy        {}\ntokens        {}\nperplexity    {:.4f}\nNLL           {:.6f}\n",
                      policy_name(policy_.settings.policy.kind), result.tokens, result.perplexity(),
                      result.nll_mean()));
    print(fmt::format(
        "time          {:.2f} s, {:.1f} tokens/s\nkeys/query    mean {:.1f} ({:.1f} % of full), peak {}\n",
        result.seconds, result.tokens_per_second(), kv.mean_keys(), 100 * kv.mean_share(), kv.peak_keys));
    print(fmt::format("KV cache      {} at the peak; full attention: {}\nmemory        {}\n",
                      human_bytes(kv.peak_bytes), human_bytes(kv.full_bytes), human_bytes(peak_rss_bytes())));
  }

  OptionSet own_, common_options_;
  PolicyOptions policy_;
  CommonOptions common_;
  TextInput input_;
  std::string nll_out_, log_, state_;
  int64_t state_every_ = ScoreLog::kInterval;
  std::optional<int64_t> resumed_from_;
};

}  // namespace

std::unique_ptr<Command> make_score_command() { return std::make_unique<ScoreCommand>(); }

}  // namespace sepllm
