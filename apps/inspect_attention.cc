// sepllm inspect attention: heat maps and the share of attention of each class of tokens, on one HTML page.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "apps/pages/attention_page.h"
#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/output.h"
#include "apps/shell/provenance.h"
#include "base/error.h"
#include "base/file.h"
#include "base/output_place.h"
#include "engine/session.h"
#include "text/token_ids.h"

namespace sepllm {
namespace {

// `count` indices, spread evenly from the first to the last of `n`.
std::vector<int64_t> spread(int64_t n, int64_t count) {
  std::vector<int64_t> out;
  const int64_t steps = std::min(n, count);
  for (int64_t i = 0; i < steps; ++i) out.push_back(steps == 1 ? 0 : i * (n - 1) / (steps - 1));
  return out;
}

std::vector<int64_t> indices(const std::string& list, const std::string& flag, int64_t n,
                             int64_t default_count) {
  if (list.empty()) return spread(n, default_count);
  std::vector<int64_t> out;
  for (const int32_t i : parse_ids(list, flag)) {
    if (std::find(out.begin(), out.end(), i) == out.end()) out.push_back(i);
  }
  return out;
}

class InspectAttentionCommand : public Command {
 public:
  InspectAttentionCommand() {
    own_.add_string("text", &text_, "text file; its beginning is used", "FILE");
    own_.add_string("out", &out_, "the HTML page to write", "FILE");
    own_.add_string("layers", &layers_, "layers to draw, as in 0,2", "LIST").default_note =
        "up to 6, evenly spread";
    own_.add_string("heads", &heads_, "heads to draw, as in 0,1", "LIST").default_note =
        "up to 4, evenly spread";
    own_.add_int("tokens", &drawn_, 1, 512, "tokens in a heat map");
    own_.add_int("share-tokens", &scored_, 1, 4096,
                 "tokens from which the shares are computed, at most the model's position limit");
    own_.add_int("init", &init_, 0, 1 << 20, "initial tokens");
    own_.add_int("window", &window_, 1, 1 << 20, "neighbouring tokens, including the query itself");
    own_.add_string("separators", &separators_,
                    "which tokens are separators: text, paper, strings:S or ids:1,2,3", "RULE");
    declare_bos_option(&own_, &bos_);
    common_.declare(&common_options_, true);
  }
  std::string name() const override { return "inspect attention"; }
  std::string summary() const override { return "Draw where a model's attention goes, as an HTML page"; }
  std::string usage() const override {
    return "--model M --text F [--out attention.html] [--layers 0,2] [--heads 0,1] [--tokens 64] [--json]";
  }
  std::vector<OptionGroup> groups() override { return {{"Page", &own_}, {"General", &common_options_}}; }

  int run() override {
    if (text_.empty()) throw Error(ErrorCode::kInvalidArgument, "no text given", {.expected = "--text FILE"});
    keep_apart({out_}, {text_});
    const OutputPlace place(out_);
    const Model model = common_.load();
    const ModelConfig& config = model.config();
    const std::vector<int32_t> ids = read_ids(model);
    PolicySettings settings;
    settings.policy.kind = PolicyKind::kSep;
    settings.separators = separators_;
    const ClassRule rule{.init = init_, .separators = model.separators(settings), .window = window_};
    Runtime runtime(common_);
    const Context context = runtime.context();
    AttentionMap map(config, ids, rule, indices(layers_, "--layers", config.n_layers, 6),
                     indices(heads_, "--heads", config.n_heads, 4), drawn_, context.pool);
    std::vector<Pattern> patterns;
    for (int64_t l = 0; l < config.n_layers; ++l) {
      const LayerRule layer = Policy().rule(l, config.n_layers, config.layer(l).window);
      patterns.push_back(layer.pattern(ids.data(), std::ssize(ids), rule.separators));
    }
    const Sequence sequence{.tokens = ids, .cache = nullptr, .patterns = patterns};
    {
      const Arena::Scope scope(context.arena);
      model.decoder.forward(context, {&sequence, 1}, &map);
    }
    for (const ClassShares& layer : map.shares()) {
      for (const double share : layer.attention) {
        if (!std::isfinite(share)) refuse_output(model);
      }
    }
    write_file_atomically(out_, attention_page(report(model, ids, rule, map)));
    if (common_.json) {
      print_json(json(ids, map));
    } else {
      print(table(map) + fmt::format("\nwritten: {}\n", out_));
    }
    return 0;
  }

 private:
  std::vector<int32_t> read_ids(const Model& model) const {
    std::vector<int32_t> ids = model.encode(read_text(text_), bos_);
    if (ids.empty()) throw Error(ErrorCode::kInvalidArgument, "the text is empty", {.file = text_});
    const int64_t n =
        std::min({static_cast<int64_t>(ids.size()), std::max(scored_, drawn_), model.config().max_positions});
    ids.resize(static_cast<size_t>(n));
    return ids;
  }

  AttentionReport report(const Model& model, const std::vector<int32_t>& ids, const ClassRule& rule,
                         const AttentionMap& map) const {
    AttentionReport out{.model = common_.model,
                        .source = text_,
                        .pieces = {},
                        .classes = {},
                        .n_scored = static_cast<int64_t>(ids.size()),
                        .init = init_,
                        .window = window_,
                        .separators = separators_,
                        .program = provenance(common_.n_threads()),
                        .maps = map.maps(),
                        .shares = map.shares()};
    const int64_t drawn = std::min(drawn_, static_cast<int64_t>(ids.size()));
    for (int64_t i = 0; i < drawn; ++i) {
      const int32_t id = ids[static_cast<size_t>(i)];
      out.pieces.push_back(model.tokenizer_or_error().token_bytes(id));
      // The colour of a token in the passage depends neither on the window nor on a query, so the query is
      // taken far away.
      out.classes.push_back(rule.classify(i + rule.window, i, id));
    }
    return out;
  }

  static Json shares_json(const std::array<double, kTokenClasses>& shares) {
    Json out = Json::object();
    for (size_t c = 0; c < kTokenClasses; ++c) out[token_class_name(static_cast<TokenClass>(c))] = shares[c];
    return out;
  }

  Json json(const std::vector<int32_t>& ids, const AttentionMap& map) const {
    Json layers = Json::array();
    for (size_t l = 0; l < map.shares().size(); ++l) {
      layers.push_back({{"layer", l},
                        {"attention", shares_json(map.shares()[l].attention)},
                        {"tokens", shares_json(map.shares()[l].tokens)}});
    }
    return {{"tokens", ids.size()},      {"init", init_}, {"window", window_},
            {"separators", separators_}, {"out", out_},   {"program", provenance(common_.n_threads())},
            {"layers", layers}};
  }

  static std::string table(const AttentionMap& map) {
    std::string out = "Share of attention (share of the visible tokens)\nlayer";
    for (size_t c = 0; c < kTokenClasses; ++c) {
      out += fmt::format("{:>20}", token_class_name(static_cast<TokenClass>(c)));
    }
    for (size_t l = 0; l < map.shares().size(); ++l) {
      out += fmt::format("\n{:>5}", l);
      for (size_t c = 0; c < kTokenClasses; ++c) {
        out += fmt::format("{:>20}", fmt::format("{:.1f} % ({:.1f} %)", 100 * map.shares()[l].attention[c],
                                                 100 * map.shares()[l].tokens[c]));
      }
    }
    return out + "\n";
  }

  OptionSet own_, common_options_;
  CommonOptions common_;
  std::string text_, layers_, heads_;
  std::string out_ = "attention.html";
  std::string separators_ = "text", bos_ = "auto";
  int64_t drawn_ = 64, scored_ = 512, init_ = 4, window_ = 16;
};

}  // namespace

std::unique_ptr<Command> make_inspect_attention_command() {
  return std::make_unique<InspectAttentionCommand>();
}

}  // namespace sepllm
