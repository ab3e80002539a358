#include "train/train_config.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/yaml.h"
#include "model/families/family.h"

namespace sepllm {
namespace {

constexpr int64_t kMany = int64_t{1} << 40;

[[noreturn]] void refuse(const std::string& file, const char* key, const std::string& message,
                         const std::string& got = "") {
  throw Error(ErrorCode::kInvalidArgument, message, {.file = file, .place = key, .got = got});
}

// PREFIX, [PREFIX, ...] or [{path: PREFIX, weight: W}, ...].
std::vector<TokenSource> parse_sources(const Json& value, const std::string& file, const char* key) {
  std::vector<TokenSource> out;
  const auto add = [&](const Json& item) {
    if (!item.is_string() && !item.is_object()) {
      throw Error(ErrorCode::kInvalidArgument, "wrong type",
                  {.file = file,
                   .place = key,
                   .expected = "PREFIX of a token file, or a list of PREFIX or {path: PREFIX, weight: W}",
                   .got = json_text(item)});
    }
    if (item.is_string()) {
      out.push_back({item.get<std::string>(), 1});
      return;
    }
    const JsonObject object(item, file, key);
    for (const auto& [name, unused] : item.items()) {
      if (name != "path" && name != "weight")
        refuse(file, key, "an unknown key in a data source (known: path, weight)", name);
    }
    out.push_back({object.string("path"), object.number_or("weight", 1)});
    if (!(out.back().weight > 0)) refuse(file, key, "weights of data must be positive");
  };
  if (value.is_array()) {
    for (const Json& item : value) add(item);
  } else {
    add(value);
  }
  if (out.empty()) refuse(file, key, "no data given");
  return out;
}

void parse_policy(const Json& value, const std::string& file, const char* key, PolicySettings* settings) {
  OptionSet options;
  declare_policy_options(&options, settings);
  const Json object = value.is_string() ? Json{{"policy", value}} : value;
  options.apply_json(JsonObject(object, file, key));
  finish_policy_options(&options, settings, nullptr, file);
  if (settings->policy.kind == PolicyKind::kSepStream || settings->policy.kind == PolicyKind::kSinkStream)
    refuse(
        file, key,
        "models are trained with policies that do not stream: full, sep, sink, fixed, moba, sep-moba or nsa",
        policy_name(settings->policy.kind));
}

Json sources_json(const std::vector<TokenSource>& sources) {
  Json out = Json::array();
  for (const TokenSource& s : sources) out.push_back({{"path", s.prefix}, {"weight", s.weight}});
  return out;
}

void check(const TrainConfig& c, const std::string& file) {
  if (c.data.empty()) refuse(file, "data", "no training data given");
  if (c.save.empty()) refuse(file, "save", "no folder for the run given");
  const std::pair<const char*, int64_t> wanted[] = {{"seq_length", c.seq_length},
                                                    {"train_steps", c.train_steps},
                                                    {"global_batch_size", c.global_batch_size}};
  for (const auto& [key, value] : wanted) {
    if (value < 1) refuse(file, key, "missing: an integer of at least 1 is needed");
  }
  if (c.global_batch_size % c.micro_batch_size != 0)
    refuse(file, "micro_batch_size", "must divide global_batch_size",
           fmt::format("{} and {}", c.micro_batch_size, c.global_batch_size));
  if (!(c.lr > 0)) refuse(file, "lr", "missing: a positive number is needed");
  if (c.min_lr > c.lr) refuse(file, "min_lr", "larger than lr", fmt::format("{} > {}", c.min_lr, c.lr));
  if (c.init_from.empty()) {
    const std::pair<const char*, int64_t> sizes[] = {
        {"n_layers", c.n_layers}, {"hidden_size", c.hidden_size}, {"n_heads", c.n_heads}};
    for (const auto& [key, value] : sizes) {
      if (value < 1) refuse(file, key, "missing: a new model needs it (or init_from: a checkpoint)");
    }
    if (c.tokenizer.empty()) refuse(file, "tokenizer", "missing: a new model needs it");
  }
  if (c.valid_share > 0 && !c.valid_data.empty())
    refuse(file, "valid_share", "either valid_data or a share of data is held out, not both");
}

// The model and the data.
void declare_model_options(OptionSet* o, TrainConfig* c) {
  o->add_string("init_from", &c->init_from,
                "checkpoint to continue from, a Hugging Face folder or a GGUF file; none: a new model",
                "DIR");
  std::vector<std::string> names;
  for (const Family* family : families()) names.emplace_back(family->name);
  o->add_choice("family", &c->family, names, "family of a new model");
  o->add_choice("init", &c->init, {"pythia", "gpt2"}, "how a new model's weights are drawn");
  o->add_int("n_layers", &c->n_layers, 1, 10'000, "layers (needed by a new model)").default_value = {};
  o->add_int("hidden_size", &c->hidden_size, 1, 1 << 20,
             "width of the residual stream (needed by a new model)")
      .default_value = {};
  o->add_int("n_heads", &c->n_heads, 1, 1 << 16, "query heads (needed by a new model)").default_value = {};
  o->add_int("n_kv_heads", &c->n_kv_heads, 0, 1 << 16, "key and value heads").default_note = "n_heads";
  o->add_int("intermediate_size", &c->intermediate_size, 0, 1 << 22, "width of the MLP").default_note =
      "4 hidden_size; llama: 8/3 of it";
  o->add_int("vocab_size", &c->vocab_size, 0, 1 << 24, "rows of the token embedding").default_note =
      "the tokenizer's";
  o->add_double("rotary_pct", &c->rotary_pct, 0.01, 1, "gpt_neox: share of each head that is rotated");
  o->add_double("rope_theta", &c->rope_theta, 1, 1e12, "base of the rotary frequencies");
  o->add_flag("tie_embeddings", &c->tie_embeddings, "the head and the token embedding are one table");
  o->add_string("tokenizer", &c->tokenizer, "folder or file of the tokenizer", "PATH");
  o->add_double("valid_share", &c->valid_share, 0, 0.5, "share of each file of data that is held out");
  o->add_int("seq_length", &c->seq_length, 1, 1 << 24, "tokens in a sample (needed)").default_value = {};
  o->add_flag("document_mask", &c->document_mask,
              "tokens see only their own document; initial tokens and the interval of 'fixed' count from its "
              "beginning");
}

// The optimiser, and how a step is computed.
void declare_step_options(OptionSet* o, TrainConfig* c) {
  o->add_int("train_steps", &c->train_steps, 1, kMany, "number of steps (needed)").default_value = {};
  o->add_int("global_batch_size", &c->global_batch_size, 1, 1 << 24, "samples in a step (needed)")
      .default_value = {};
  o->add_int("micro_batch_size", &c->micro_batch_size, 1, 1 << 20,
             "samples that go through the model at the same time");
  o->add_double("lr", &c->lr, 0, 100, "learning rate (needed)").default_value = {};
  o->add_double("min_lr", &c->min_lr, 0, 100, "final learning rate");
  o->add_double("warmup", &c->warmup, 0, 1e12,
                "length of the warm-up; below 1: share of the steps; otherwise: number of steps");
  o->add_choice("lr_decay_style", &c->lr_decay_style, {"cosine", "linear", "constant", "wsd"},
                "shape of the learning rate's decay");
  o->add_int("lr_decay_steps", &c->lr_decay_steps, 0, kMany, "step at which min_lr is reached").default_note =
      "train_steps";
  o->add_double("wsd_decay", &c->wsd_decay, 0, 1,
                "wsd: share of the steps, at the end, in which the learning rate decays");
  o->add_double("beta1", &c->beta1, 0, 0.99999, "AdamW: decay of the first moment");
  o->add_double("beta2", &c->beta2, 0, 0.9999999, "AdamW: decay of the second moment");
  o->add_double("eps", &c->eps, 1e-30, 1, "AdamW: added to the denominator");
  o->add_double("weight_decay", &c->weight_decay, 0, 10,
                "AdamW: weight decay, applied to matrices and embeddings");
  o->add_double("clip_grad", &c->clip_grad, 0, 1e12,
                "largest norm of the gradient, which is scaled down to it; 0: no limit");
  o->add_double("spike_z", &c->spike_z, 0, 1e6,
                "skip a step whose gradient norm is this many standard deviations above the mean; 0: never");
  o->add_int("seed", &c->seed, 0, kMany,
             "seed of the weights and of the order of the samples; the held-out samples are always the same");
  o->add_flag("activation_checkpointing", &c->activation_checkpointing,
              "saves memory: a layer's activations are recomputed in the backward pass");
  o->add_choice("compute", &c->compute, {"auto", "f32", "bf16"},
                "precision of matrix products: f32, or operands rounded to bf16 with sums in f32 (mixed "
                "precision; needs AMX or AVX512_BF16); auto: bf16 where the processor has one of them. "
                "Weights that are trained, moments, norms, softmax and loss are f32 in any case");
  o->add_choice("activation_storage", &c->activation_storage, {"auto", "f32", "bf16"},
                "type in which activations are kept for the backward pass; bf16 takes half the memory; auto: "
                "as compute");
  o->add_choice(
      "weight_storage", &c->weight_storage, {"auto", "f32", "bf16"},
      "what matrix products read: the f32 weights, or bf16 copies (2 bytes per weight more); auto: as "
      "compute; the weights that are trained and saved are always f32");
  o->add_int("threads", &c->threads, 0, 1024, "threads of each rank").default_note =
      "all cores, divided among the ranks of a machine";
  o->add_int("rank_timeout", &c->rank_timeout, 1, 1'000'000,
             "several ranks: seconds without a heartbeat, or without progress in its own work, after which a "
             "rank counts as lost");
  o->add_int("later_policy_step", &c->later_policy_step, 0, kMany, "the step from which later_policy applies")
      .default_value = {};
}

// What a run writes, and when.
void declare_output_options(OptionSet* o, TrainConfig* c) {
  o->add_string("save", &c->save, "folder of the run, for checkpoints, metrics and the model (needed)",
                "DIR");
  o->add_int("save_interval", &c->save_interval, 1, kMany, "steps between checkpoints");
  o->add_int("keep_last", &c->keep_last, 1, 1 << 20, "number of newest checkpoints that are kept");
  o->add_int("keep_every", &c->keep_every, 0, kMany,
             "checkpoints of steps that are multiples of this number are always kept; 0: none");
  o->add_int("eval_interval", &c->eval_interval, 1, kMany, "steps between validations");
  o->add_int("eval_samples", &c->eval_samples, 1, 1 << 24, "held-out samples in a validation");
  o->add_int("log_interval", &c->log_interval, 1, kMany, "steps between lines of metrics.jsonl");
  o->add_int("sample_interval", &c->sample_interval, 0, kMany, "steps between samples of text; 0: none");
  o->add_int("sample_tokens", &c->sample_tokens, 1, 1 << 20, "tokens in a sample of text");
  o->add_double("sample_temp", &c->sample_temp, 0, 100, "temperature of the samples of text; 0: greedy");
  o->add_string("sample_prompt", &c->sample_prompt, "prompt with which samples of text begin");
}

void declare_train_options(OptionSet* o, TrainConfig* c) {
  declare_model_options(o, c);
  declare_step_options(o, c);
  declare_output_options(o, c);
}

struct IdleKeys {
  std::string why;
  std::vector<const char*> keys;
};

// Keys that would have no effect together with the others.
std::vector<IdleKeys> idle_keys(const TrainConfig& c) {
  std::vector<IdleKeys> idle;
  if (!c.init_from.empty()) {
    return {{"a checkpoint has its own: this key is for new models",
             {"family", "init", "n_layers", "hidden_size", "n_heads", "n_kv_heads", "intermediate_size",
              "vocab_size", "rotary_pct", "rope_theta", "tie_embeddings"}}};
  }
  const Family& family = family_of_name(c.family);
  idle.reserve(family.unused_settings.size() + 1);
  for (const auto& [key, why] : family.unused_settings) idle.push_back({why, {key}});
  if (family.always_tied && !c.tie_embeddings)
    idle.push_back({"this family's head is always the embedding", {"tie_embeddings"}});
  return idle;
}

// Such keys are errors and not ignored, because whoever writes one expects an effect.
void refuse_idle_keys(const TrainConfig& c, const JsonObject& given, const std::string& file) {
  for (const auto& [why, keys] : idle_keys(c)) {
    for (const char* key : keys) {
      if (given.has(key)) refuse(file, key, why);
    }
  }
}

}  // namespace

TrainConfig parse_train_config(const Json& json, const std::string& file) {
  TrainConfig config;
  OptionSet options;
  declare_train_options(&options, &config);
  const JsonObject object(json, file);
  Json plain = Json::object();
  for (const auto& [key, value] : json.items()) {
    if (key == "data") {
      config.data = parse_sources(value, file, "data");
    } else if (key == "valid_data") {
      config.valid_data = parse_sources(value, file, "valid_data");
    } else if (key == "policy") {
      parse_policy(value, file, "policy", &config.policy);
    } else if (key == "later_policy") {
      parse_policy(value, file, "later_policy", &config.later_policy);
    } else if (!value.is_null()) {
      plain[key] = value;
    }
  }
  options.apply_json(JsonObject(plain, file));
  if (json.contains("later_policy") != (config.later_policy_step > 0))
    refuse(file, "later_policy", "later_policy and later_policy_step belong together");
  check(config, file);
  refuse_idle_keys(config, JsonObject(plain, file), file);
  return config;
}

Json read_train_settings(const std::string& path, const std::vector<std::string>& changes) {
  Json json = parse_yaml(read_file(path, uint64_t{1} << 20), path);
  if (json.is_null()) json = Json::object();
  if (!json.is_object()) throw Error(ErrorCode::kBadFile, "expected key: value lines", {.file = path});
  for (const std::string& change : changes) {
    const size_t equals = change.find('=');
    if (equals == std::string::npos || equals == 0)
      refuse(option_name("set"), change.c_str(), "expected key=value");
    Json* at = &json;
    std::string key = change.substr(0, equals);
    for (size_t dot = key.find('.'); dot != std::string::npos; dot = key.find('.')) {
      at = &(*at)[key.substr(0, dot)];
      if (!at->is_null() && !at->is_object())
        refuse(option_name("set"), change.c_str(), "not a group of keys");
      key.erase(0, dot + 1);
    }
    (*at)[key] = parse_yaml(change.substr(equals + 1), option_name("set") + " " + change);
  }
  return json;
}

TrainConfig read_train_config(const std::string& path, const std::vector<std::string>& changes) {
  return parse_train_config(read_train_settings(path, changes), path);
}

std::string train_keys_markdown() {
  TrainConfig config;
  OptionSet options;
  declare_train_options(&options, &config);
  std::string out = "| Key | Default | |\n|---|---|---|\n";
  const auto row = [&out](const std::string& key, const std::string& value, const std::string& help) {
    out += fmt::format("| `{}` | {} | {} |\n", key, value, help);
  };
  for (const Option& o : options.options()) {
    if (o.name == "valid_share") {
      row("data", "",
          "token files (docs/DATA.md): PREFIX, a list of prefixes, or a list of `{path: PREFIX, weight: W}` "
          "(needed)");
      row("valid_data", "", "held-out token files, in the same forms");
    }
    if (o.name == "later_policy_step") {
      row("policy", "`full`",
          "which keys attention keeps: a name (`full`, `sep`, `sink`, `fixed`, `moba`, `sep-moba`, `nsa`), "
          "or a group of policy options as in docs/CLI.md: `{policy: sep, init: 4, window: 256}`");
      row("later_policy", "", "the same, from `later_policy_step` on");
    }
    const std::string shown = o.value_name.empty() ? json_text(o.default_value) : o.default_text();
    row(o.name, o.default_note.empty() && !shown.empty() ? "`" + shown + "`" : shown,
        o.choices.empty() ? o.help : fmt::format("{}: `{}`", o.help, fmt::join(o.choices, "`, `")));
  }
  return out;
}

Json train_config_json(const TrainConfig& config) {
  TrainConfig copy = config;
  OptionSet options;
  declare_train_options(&options, &copy);
  Json out = options.to_json();
  for (const IdleKeys& idle : idle_keys(config)) {
    for (const char* key : idle.keys) out.erase(key);
  }
  out["data"] = sources_json(config.data);
  if (!config.valid_data.empty()) out["valid_data"] = sources_json(config.valid_data);
  out["policy"] = policy_json(config.policy);
  if (config.later_policy_step > 0) out["later_policy"] = policy_json(config.later_policy);
  return out;
}

LrSchedule TrainConfig::schedule() const {
  LrSchedule s{.lr = lr, .min_lr = min_lr};
  s.decay_steps = lr_decay_steps > 0 ? lr_decay_steps : train_steps;
  s.warmup_steps =
      warmup < 1 ? std::llround(warmup * static_cast<double>(s.decay_steps)) : std::llround(warmup);
  s.wsd_decay_steps = std::llround(wsd_decay * static_cast<double>(s.decay_steps));
  s.style = lr_decay_style == "cosine"     ? LrDecayStyle::kCosine
            : lr_decay_style == "linear"   ? LrDecayStyle::kLinear
            : lr_decay_style == "constant" ? LrDecayStyle::kConstant
                                           : LrDecayStyle::kWsd;
  return s;
}

}  // namespace sepllm
