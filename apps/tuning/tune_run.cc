#include "apps/tuning/tune_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

#include "apps/shell/figures.h"
#include "apps/tuning/separator_attention.h"
#include "base/error.h"

namespace sepllm {
namespace {

// The layers that policies rule.
std::vector<int64_t> ruled_layers(const ModelConfig& config) {
  std::vector<int64_t> out;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    if (config.layer(l).window == 0) out.push_back(l);
  }
  return out;
}

// The ranking of separators by the attention that they get from far away, in full attention over one piece.
std::vector<SeparatorAttention::Separator> rank_separators(const Model& model, const Context& context,
                                                           const std::vector<int32_t>& piece,
                                                           const TokenSet& separators) {
  constexpr int64_t kQueries = 128, kDistance = 64;
  const ModelConfig& config = model.config();
  const int64_t n = std::ssize(piece);
  SeparatorAttention probe(config, piece, separators, std::min(kDistance, n / 4),
                           std::max<int64_t>(1, n / kQueries), context.pool);
  std::vector<Pattern> patterns;
  for (int64_t l = 0; l < config.n_layers; ++l)
    patterns.push_back(
        Policy().rule(l, config.n_layers, config.layer(l).window).pattern(piece.data(), n, separators));
  const Sequence sequence{.tokens = piece, .cache = nullptr, .patterns = patterns};
  const Arena::Scope scope(context.arena);
  model.decoder.forward(context, {&sequence, 1}, &probe);
  return probe.ranking();
}

const TuneTrial* best_of(const std::vector<TuneTrial>& trials, auto&& accept) {
  const TuneTrial* out = nullptr;
  for (const TuneTrial& t : trials) {
    if (accept(t) && (out == nullptr || t.score.nll < out->score.nll)) out = &t;
  }
  return out;
}

class Run {
 public:
  Run(const Model& model, const Context& context, const TuneTexts& texts, const PolicySettings& base,
      const TuneBudget& budget, const TuneEvents& events)
      : model_(model),
        context_(context),
        texts_(texts),
        budget_(budget),
        events_(events),
        trials_(model, context, texts.search),
        layers_(ruled_layers(model.config())),
        space_{.base = base, .context = texts.context, .learned = {}, .has_specials = texts.has_specials} {}

  TuneReport run() {
    if (layers_.empty()) {
      throw Error(ErrorCode::kInvalidArgument, "nothing to tune: every layer has a sliding window of its own",
                  {.file = model_.name});
    }
    measure_full();
    learn_separators();
    measure_uniform();
    search_layers();
    choose();
    out_.interrupted = events_.search.stop();
    if (events_.found) events_.found(out_.found.policy.settings, out_.interrupted);
    measure_rows();
    return std::move(out_);
  }

 private:
  // The best on the search's text; but one rule for all layers if that is as good up to the noise, because a
  // difference within it may be the other way round on another text.
  void choose() {
    const TuneTrial* found = best_of(out_.search, [](const TuneTrial&) { return true; });
    const TuneTrial* fixed = best_of(out_.search, [](const TuneTrial& t) { return t.fixed; });
    if (fixed == nullptr) {
      throw Error(ErrorCode::kInvalidArgument, "stopped before any policy was measured",
                  {.file = model_.name});
    }
    const PairedDifference d = paired_difference(found->score, fixed->score);
    out_.found = d.mean < -d.standard_error ? *found : *fixed;
  }

  std::string full_needs() const {
    return fmt::format("full attention needs {:.1f} keys and {} here", out_.full.cost.mean_keys,
                       human_bytes(out_.full.cost.bytes));
  }

  void measure_full() {
    out_.full = {.policy = {"full", space_.with_kind(PolicyKind::kFull)}};
    out_.full.cost = trials_.cost(out_.full.policy.settings);
    if (budget_.used(out_.full.cost) <= 1) {
      throw Error(ErrorCode::kInvalidArgument, "full attention fits the budget, so there is nothing to tune",
                  {.expected = "a smaller --keys or --bytes, or a larger --context", .hint = full_needs()});
    }
    events_.phase("full attention, and where it goes");
    out_.full.score = trials_.score(out_.full.policy.settings, events_.search.stop);
  }

  void learn_separators() {
    if (events_.search.stop()) return;
    const TokenSet separators = model_.separators(space_.with_kind(PolicyKind::kSep));
    const auto ranking = rank_separators(model_, context_, texts_.search.pieces[0], separators);
    space_.learned = best_half(ranking);
    constexpr size_t kShown = 12;
    for (size_t k = 0; k < std::min(kShown, ranking.size()); ++k) {
      const auto& s = ranking[k];
      out_.separators.push_back({model_.tokenizer_or_error().token_bytes(s.id), s.count, s.attention});
    }
  }

  void measure_uniform() {
    const std::vector<TunePolicy> uniform = uniform_candidates(space_, budget_, trials_);
    if (uniform.empty()) {
      throw Error(ErrorCode::kInvalidArgument, "no policy fits the budget",
                  {.expected = "a larger --keys or --bytes", .hint = full_needs()});
    }
    const auto n_uniform = std::ssize(uniform);
    const LayerSearch layers = layer_search(nullptr);
    const int64_t most = n_uniform + layers.most_measurements() + std::ssize(layers_);
    const double report_share =
        static_cast<double>(texts_.report.n_tokens()) / static_cast<double>(texts_.search.n_tokens());
    if (out_.full.score.complete)
      events_.estimated(out_.full.score.seconds *
                            (static_cast<double>(most) + report_share * static_cast<double>(n_uniform + 8)),
                        most);
    events_.phase("one rule for all layers");
    for (const TunePolicy& policy : uniform) {
      TuneTrial trial{.policy = policy, .cost = trials_.cost(policy.settings), .score = {}, .fixed = true};
      trial.score = trials_.score(policy.settings, events_.search.stop);
      if (!trial.score.complete) return;
      events_.search.measured(policy.name, trial.score.nll);
      out_.search.push_back(std::move(trial));
    }
  }

  LayerSearch layer_search(const TuneTrial* other) const {
    return {.space = space_,
            .budget = budget_,
            .trials = trials_,
            .layers = layers_,
            .events = events_.search,
            .other = other};
  }

  void search_layers() {
    if (events_.search.stop()) return;
    const auto is_static = [](const TuneTrial& t) { return !t.policy.settings.policy.streaming(); };
    const TuneTrial* best = best_of(out_.search, is_static);
    if (best == nullptr) return;
    const TuneTrial start = *best;
    const TuneTrial* second = best_of(out_.search, [&](const TuneTrial& t) {
      return is_static(t) && t.policy.settings.policy.kind != start.policy.settings.policy.kind;
    });
    const std::optional<TuneTrial> other = second != nullptr ? std::optional(*second) : std::nullopt;
    events_.phase("rules for single layers, beginning with " + start.policy.name);
    layer_search(other ? &*other : nullptr).run(start, &out_.effects, &out_.search);
  }

  // What the found policy comes to with another budget: full layers go, the least helpful first, until it
  // fits.
  std::optional<TunePolicy> found_within(const TuneBudget& budget) const {
    const LayerSearch other{
        .space = space_, .budget = budget, .trials = trials_, .layers = layers_, .events = events_.search};
    const PolicySettings& settings = out_.found.policy.settings;
    if (settings.policy.streaming()) return std::nullopt;
    std::map<int64_t, LayerChoice> choices = settings.policy.layer_policy;
    for (;;) {
      if (auto policy = other.fitted(settings, choices)) return policy;
      auto worst = choices.end();
      double effect = -INFINITY;
      for (auto it = choices.begin(); it != choices.end(); ++it) {
        const auto e = std::find_if(out_.effects.begin(), out_.effects.end(),
                                    [&](const LayerEffect& l) { return l.layer == it->first; });
        if (it->second.kind != PolicyKind::kFull || e == out_.effects.end() || !(e->full > effect)) continue;
        worst = it;
        effect = e->full;
      }
      if (worst == choices.end()) return std::nullopt;
      choices.erase(worst);
    }
  }

  void add_row(std::vector<TuneScore>* scores, const Trials& trials, TuneRow row,
               const std::function<bool()>& stop) {
    TuneScore score = trials.score(row.policy.settings, stop);
    if (!score.complete) return;
    row.cost = trials.cost(row.policy.settings);
    row.nll = score.nll;
    row.seconds = score.seconds;
    events_.search.measured(row.policy.name, row.nll);
    out_.rows.push_back(std::move(row));
    scores->push_back(std::move(score));
  }

  // Variants of sep have no curve of their own.
  std::string family_of(const PolicySettings& settings) const {
    const Policy& p = settings.policy;
    const bool plain = settings.separators == space_.base.separators && p.max_segment == 0;
    return p.kind == PolicyKind::kSink || (p.kind == PolicyKind::kSep && plain) ? policy_name(p.kind) : "";
  }

  void measure_rows() {
    events_.phase("the other half of the text");
    const bool early = out_.interrupted;
    const auto stop = [&] { return !early && events_.search.stop(); };
    const Trials trials(model_, context_, texts_.report);
    std::vector<TuneScore> scores;
    const auto add = [&](TuneRow::Role role, const std::string& family, const TunePolicy& policy) {
      add_row(&scores, trials, {.role = role, .family = family, .policy = policy}, stop);
    };
    add(TuneRow::Role::kFull, "", out_.full.policy);
    add(TuneRow::Role::kFound, "tuned", out_.found.policy);
    for (const TuneTrial& t : out_.search) {
      if (t.fixed) add(TuneRow::Role::kFixed, family_of(t.policy.settings), t.policy);
    }
    if (!early) add_other_budgets(add);
    out_.interrupted = early || events_.search.stop();
    const TuneRow* best = out_.best_fixed();
    if (best == nullptr) return;
    const size_t reference = static_cast<size_t>(best - out_.rows.data());
    for (size_t r = 0; r < out_.rows.size(); ++r)
      out_.rows[r].to_best_fixed = paired_difference(scores[r], scores[reference]);
  }

  // Half and twice the budget, for the frontier.
  void add_other_budgets(
      const std::function<void(TuneRow::Role, const std::string&, const TunePolicy&)>& add) const {
    for (const double factor : {0.5, 2.0}) {
      TuneBudget budget = budget_;
      budget.share *= factor;
      budget.keys *= factor;
      budget.bytes = static_cast<int64_t>(static_cast<double>(budget.bytes) * factor);
      if (budget.used(out_.full.cost) <= 1) continue;
      if (const auto policy = found_within(budget)) add(TuneRow::Role::kOtherBudget, "tuned", *policy);
      for (const PolicyKind kind : {PolicyKind::kSink, PolicyKind::kSep}) {
        const auto make = [&](int64_t n) { return space_.sized(kind, n); };
        const auto n = largest_fitting(1, space_.context, budget, trials_, make);
        if (n) add(TuneRow::Role::kOtherBudget, policy_name(kind), {short_name(make(*n).policy), make(*n)});
      }
    }
  }

  const Model& model_;
  Context context_;
  const TuneTexts& texts_;
  TuneBudget budget_;
  const TuneEvents& events_;
  Trials trials_;
  std::vector<int64_t> layers_;
  TuneSpace space_;
  TuneReport out_;
};

}  // namespace

double TuneRow::perplexity() const { return std::exp(nll); }

const TuneRow* TuneReport::row(TuneRow::Role role) const {
  const auto it = std::find_if(rows.begin(), rows.end(), [&](const TuneRow& r) { return r.role == role; });
  return it == rows.end() ? nullptr : &*it;
}

const TuneRow* TuneReport::best_fixed() const {
  const TuneRow* out = nullptr;
  for (const TuneRow& r : rows) {
    if (r.role == TuneRow::Role::kFixed && (out == nullptr || r.nll < out->nll)) out = &r;
  }
  return out;
}

int64_t TuneReport::n_measured() const {
  int64_t n = std::ssize(search);
  for (const LayerEffect& e : effects) {
    for (const double effect : {e.full, e.narrow, e.other}) n += std::isnan(effect) ? 0 : 1;
  }
  return n;
}

TuneReport tune(const Model& model, const Context& context, const TuneTexts& texts,
                const PolicySettings& base, const TuneBudget& budget, const TuneEvents& events) {
  return Run(model, context, texts, base, budget, events).run();
}

}  // namespace sepllm
