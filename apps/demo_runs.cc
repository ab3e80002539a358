#include "apps/demo_runs.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "apps/shell/common.h"
#include "engine/generator.h"

namespace sepllm {
namespace {

// Full attention has no positions beyond the limit of its training; nor do learned positions that count the
// text's tokens.
bool within_limit_only(const ModelConfig& config, const Policy& policy) {
  return policy.kind == PolicyKind::kFull ||
         (config.position == PositionType::kLearned && policy.positions == PositionMode::kOriginal);
}

struct Scored {
  ScoreResult result;
  KvStats kv;
  std::vector<std::pair<double, double>> curve, perplexity;
};

Scored score_first(const Model& model, const PolicySettings& settings, const DemoPlan& plan, int64_t tokens,
                   const Context& context) {
  Scored out;
  Session session(model, settings_for_text(model, settings, plan.fed(tokens)), context);
  const std::span<const int32_t> ids(plan.ids.data(), static_cast<size_t>(plan.fed(tokens)));
  ScoreResult before;  // at the last point
  out.result = score(session, ids, plan.has_bos, [&](std::span<const double>, const ScoreResult& so_far) {
    const auto at = static_cast<double>(so_far.tokens);
    out.curve.emplace_back(at, static_cast<double>(session.cache().held_bytes()));
    const int64_t n = so_far.predicted - before.predicted;
    if (n + 1 >= plan.stretch) {  // The first token of a text without BOS is not predicted.
      out.perplexity.emplace_back(at, std::exp((so_far.nll_sum - before.nll_sum) / static_cast<double>(n)));
      before = so_far;
    }
    return true;
  });
  out.kv = session.cache().stats();
  return out;
}

void generate_words(const Model& model, const DemoPlan& plan, const Context& context, DemoRow* row) {
  Session session(model, settings_for_text(model, row->settings, plan.prompt_tokens), context);
  Sampler sampler(SamplingSettings{}, model.config().vocab_size);
  GenerateRequest request;
  request.prompt.assign(plan.ids.begin(), plan.ids.begin() + plan.prompt_tokens);
  request.max_new_tokens = plan.new_tokens;
  request.ignore_eos = true;
  const GenerateResult result = generate(session, sampler, request, {});
  if (result.failure) std::rethrow_exception(result.failure);
  row->generated = result.text;
  row->decode_tokens_per_second = result.decode_tokens_per_second();
}

}  // namespace

std::vector<PolicySettings> demo_settings(const Model& model) {
  const int64_t limit = model.config().max_positions;
  PolicyOptions own;
  own.options.set("policy", policy_name(PolicyKind::kSep));
  own.finish(model.config(), model.name);
  const bool has_window = own.options.was_set("window"), has_init = own.options.was_set("init");
  std::vector<PolicySettings> out;
  for (const PolicyKind kind : {PolicyKind::kFull, PolicyKind::kSep, PolicyKind::kSepStream,
                                PolicyKind::kSink, PolicyKind::kSinkStream, PolicyKind::kFixed}) {
    PolicySettings s;
    s.separators = own.settings.separators;
    Policy& p = s.policy;
    p.kind = kind;
    p.init = std::min<int64_t>(has_init ? own.settings.policy.init : 4, std::max<int64_t>(1, limit / 64));
    p.window = std::clamp<int64_t>(has_window ? own.settings.policy.window : limit / 8, 1,
                                   std::clamp<int64_t>(limit / 8, 1, 256));
    p.seps = std::clamp<int64_t>(limit / 16, 1, 64);
    p.capacity = std::max<int64_t>(8, p.init + p.seps + 2 * p.window);
    if (p.streaming()) p.positions = PositionMode::kCache;
    s.prefill_chunk = std::clamp<int64_t>(limit / 8, 16, 512);
    p.validate();
    out.push_back(s);
  }
  return out;
}

std::vector<DemoRow> run_demo(const Model& model, const DemoPlan& plan, const Context& context,
                              const std::function<void(size_t index, const std::string& policy)>& on_row) {
  std::vector<DemoRow> rows;
  for (const PolicySettings& settings : plan.settings) {
    on_row(rows.size(), policy_name(settings.policy.kind));
    DemoRow row;
    row.settings = settings;
    const Scored common = score_first(model, settings, plan, plan.common_tokens, context);
    const bool longer =
        plan.long_tokens > plan.common_tokens && !within_limit_only(model.config(), settings.policy);
    const Scored longest = longer ? score_first(model, settings, plan, plan.long_tokens, context) : common;
    row.common = common.result;
    row.common_kv = common.kv;
    row.longest = longest.result;
    row.longest_kv = longest.kv;
    row.kv_curve = longest.curve;
    row.perplexity_curve = longest.perplexity;
    generate_words(model, plan, context, &row);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace sepllm
