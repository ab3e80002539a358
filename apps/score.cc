// sepllm score: perplexity, speed and KV use of contiguous text.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <optional>

#include "apps/commands.h"
#include "apps/common.h"
#include "apps/output.h"
#include "apps/score_log.h"
#include "base/error.h"
#include "base/file.h"
#include "engine/scorer.h"

namespace sepllm {
namespace {

struct Stream {
  std::vector<int32_t> ids;
  bool has_bos = false;
  int64_t text_tokens() const { return static_cast<int64_t>(ids.size()) - (has_bos ? 1 : 0); }
};

class ScoreCommand : public Command {
 public:
  ScoreCommand() {
    own_.add_strings("text", &texts_, "text files, each tokenised alone, then joined with nothing between");
    own_.add_string("ids", &ids_file_, "file of token ids separated by blanks, used as they are", "FILE");
    own_.add_int("tokens", &tokens_, 1, INT64_MAX,
                 "score the first N text tokens, BOS not counted (default: all)");
    declare_bos_option(&own_, &bos_);
    own_.add_string("nll-out", &nll_out_, "write the negative log-likelihood of each token, one a line",
                    "FILE");
    own_.add_string("log", &log_, "write a JSON line per 65,536 tokens and at the end", "FILE");
    common_.declare(&common_options_, true);
  }
  std::string name() const override { return "score"; }
  std::string summary() const override { return "Perplexity, speed and KV use of contiguous text"; }
  std::string usage() const override {
    return "--model M (--text F... | --ids F) [--tokens N] [--nll-out F] [--log F] [policy] [--json]";
  }
  std::vector<OptionGroup> groups() override {
    return {{"Text", &own_}, {"What the cache keeps", &policy_.options}, {"General", &common_options_}};
  }

  int run() override {
    check_inputs();
    const Model model = common_.load();
    policy_.finish(model);
    const Stream stream = read_stream(model);
    Runtime runtime(common_);
    Session session(model, policy_.settings, runtime.context());
    const InterruptGuard guard;
    std::optional<AtomicFile> nll_file;
    if (!nll_out_.empty()) nll_file.emplace(nll_out_);
    std::optional<ScoreLog> log;
    if (!log_.empty()) log.emplace(log_, session.cache());

    ScoreResult result;
    {
      Progress progress("scoring", stream.text_tokens());
      result = score(session, stream.ids, stream.has_bos,
                     [&](std::span<const double> nll, const ScoreResult& so_far) {
                       if (nll_file) write_nll(*nll_file, nll);
                       if (log) log->update(so_far);
                       progress.show(so_far.tokens, fmt::format("perplexity {:.4f}", so_far.perplexity()));
                       return !guard.interrupted();
                     });
    }
    if (nll_file) nll_file->commit();
    if (log) log->finish(result);
    report(result, session, result.tokens < stream.text_tokens());
    return 0;
  }

 private:
  void check_inputs() const {
    if (texts_.empty() == ids_file_.empty()) {
      throw Error(ErrorCode::kInvalidArgument, texts_.empty() ? "nothing to score" : "two inputs given",
                  {.expected = "--text FILE... or --ids FILE"});
    }
    if (!ids_file_.empty() && own_.was_set("bos")) {
      throw Error(ErrorCode::kInvalidArgument, "--bos does not go with --ids, which are used as they are");
    }
  }

  Stream read_stream(const Model& model) const {
    Stream stream;
    if (!ids_file_.empty()) {
      stream.ids = parse_ids(read_file(ids_file_), ids_file_);
      check_ids(stream.ids, model.config().vocab_size, ids_file_);
    } else {
      for (size_t i = 0; i < texts_.size(); ++i) {
        // Only the stream's start has a BOS.
        const std::vector<int32_t> part = model.encode(read_text(texts_[i]), i == 0 ? bos_ : "off");
        stream.ids.insert(stream.ids.end(), part.begin(), part.end());
      }
    }
    const std::optional<int32_t> bos = bos_of(model);
    stream.has_bos = !stream.ids.empty() && bos && stream.ids.front() == *bos;
    cut(stream);
    return stream;
  }

  void cut(Stream& stream) const {
    const std::string source = ids_file_.empty() ? texts_.front() : ids_file_;
    const int64_t least = stream.has_bos ? 1 : 2;
    if (stream.text_tokens() < least) {
      throw Error(ErrorCode::kInvalidArgument, "too little text to score",
                  {.file = source,
                   .expected = fmt::format("at least {} token{}", least, least == 1 ? "" : "s"),
                   .got = std::to_string(stream.text_tokens())});
    }
    if (tokens_ == 0) return;
    if (tokens_ > stream.text_tokens() || tokens_ < least) {
      throw Error(ErrorCode::kInvalidArgument, "--tokens does not fit the text",
                  {.file = source,
                   .expected = fmt::format("from {} to {}", least, stream.text_tokens()),
                   .got = std::to_string(tokens_)});
    }
    stream.ids.resize(static_cast<size_t>(tokens_ + (stream.has_bos ? 1 : 0)));
  }

  static void write_nll(AtomicFile& file, std::span<const double> nll) {
    std::string lines;
    for (const double x : nll) lines += fmt::format("{}\n", x);
    file.write(lines);
  }

  void report(const ScoreResult& result, const Session& session, bool interrupted) const {
    const KvStats kv = session.cache().stats();
    if (interrupted)
      print_note(fmt::format("interrupted after {} tokens: the figures so far", result.tokens));
    if (common_.json) {
      Json out = {{"tokens", result.tokens},
                  {"perplexity", result.perplexity()},
                  {"nll_mean", result.nll_mean()},
                  {"seconds", result.seconds},
                  {"tokens_per_second", result.tokens_per_second()},
                  {"peak_rss_bytes", peak_rss_bytes()},
                  {"policy", policy_json(policy_.settings)},
                  {"kv", kv.json()}};
      if (interrupted) out["interrupted"] = true;
      print_json(out);
      return;
    }
    print(fmt::format("policy        {}\ntokens        {}\nperplexity    {:.4f}\nNLL           {:.6f}\n",
                      policy_name(policy_.settings.policy.kind), result.tokens, result.perplexity(),
                      result.nll_mean()));
    print(fmt::format(
        "time          {:.2f} s, {:.1f} tokens/s\nkeys a query  mean {:.1f} ({:.1f} % of full), peak {}\n",
        result.seconds, result.tokens_per_second(), kv.mean_keys(), 100 * kv.mean_share(), kv.peak_keys));
    print(fmt::format("KV cache      {} at the peak; full attention: {}\nmemory        {}\n",
                      human_bytes(kv.peak_bytes), human_bytes(kv.full_bytes), human_bytes(peak_rss_bytes())));
  }

  OptionSet own_, common_options_;
  PolicyOptions policy_;
  CommonOptions common_;
  std::vector<std::string> texts_;
  std::string ids_file_, nll_out_, log_;
  std::string bos_ = "auto";
  int64_t tokens_ = 0;
};

}  // namespace

std::unique_ptr<Command> make_score_command() { return std::make_unique<ScoreCommand>(); }

}  // namespace sepllm
