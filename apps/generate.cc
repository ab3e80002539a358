// sepllm generate: continues a prompt.
#include <fmt/format.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "apps/shell/commands.h"
#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/output.h"
#include "apps/shell/prompt.h"
#include "apps/shell/provenance.h"
#include "engine/generator.h"

namespace sepllm {
namespace {

class GenerateCommand : public Command {
 public:
  GenerateCommand() {
    prompt_.declare(&prompt_options_);
    output_options_.add_int("n", &n_, 0, INT64_MAX, "maximum number of new tokens");
    output_options_.add_strings("stop", &stops_,
                                "end the text before this string; may be given several times", "TEXT");
    output_options_.add_flag("ignore-eos", &ignore_eos_, "continue after an end-of-text token");
    declare_sampling_options(&sampling_options_, &sampling_);
    common_.declare(&common_options_, true);
  }
  std::string name() const override { return "generate"; }
  std::string summary() const override { return "Continue a prompt"; }
  std::string usage() const override {
    return "--model M (--prompt TEXT | --prompt-file F | --prompt-ids 1,2,3) [-n N] [sampling] [policy] "
           "[--json]";
  }
  std::vector<OptionGroup> groups() override {
    return {{"Prompt", &prompt_options_},
            {"Length", &output_options_},
            {"Sampling", &sampling_options_},
            {"What the cache keeps", &policy_.options},
            {"General", &common_options_}};
  }

  int run() override {
    Model model = common_.load(&policy_);
    Runtime runtime(common_, &model.decoder);
    GenerateRequest wanted = request(model);
    const auto n_prompt = static_cast<int64_t>(wanted.prompt.size());
    policy_.settings = settings_for_text(model, policy_.settings, n_prompt);
    const RunLength length{.certain = n_prompt, .possible = n_ < INT64_MAX - n_prompt ? n_prompt + n_ : n_};
    check_cache_fits(model, policy_.settings, length, memory_at_hand());
    Session session(model, policy_.settings, runtime.context());
    Sampler sampler(sampling_, model.config().vocab_size);
    const InterruptGuard guard;
    wanted.go_on = [&] { return !guard.interrupted(); };
    const GenerateResult result = generate(session, sampler, wanted, [&](const std::string& piece) {
      if (!common_.json) print(piece);
      return true;
    });
    if (common_.json) {
      print_json(json(result, session));
    } else {
      print_result(model, result, session);
    }
    if (result.failure) std::rethrow_exception(result.failure);
    return 0;
  }

 private:
  GenerateRequest request(const Model& model) const {
    GenerateRequest request;
    request.prompt = prompt_.ids(model);
    request.max_new_tokens = n_;
    request.stop_strings = stops_;
    // Text is printed as it comes; an endless stream keeps none of it.
    request.keep = common_.json || model.tokenizer == nullptr;
    request.ignore_eos = ignore_eos_;
    request.stop_ids = model.end_tokens();
    return request;
  }

  Json json(const GenerateResult& result, const Session& session) const {
    return {{"text", result.text},
            {"ids", result.ids},
            {"finish_reason", finish_reason_name(result.finish_reason)},
            {"prompt_tokens", result.prompt_tokens},
            {"prefill_tokens_per_second", result.prefill_tokens_per_second()},
            {"decode_tokens_per_second", result.decode_tokens_per_second()},
            {"program", provenance(common_.n_threads(), sampling_.seed)},
            {"policy", policy_json(policy_.settings)},
            {"kv", session.cache().stats().json()}};
  }

  static void print_result(const Model& model, const GenerateResult& result, const Session& session) {
    // A model without a tokenizer has no text, so its ids are the result.
    if (model.tokenizer == nullptr) print(fmt::format("{}\n", fmt::join(result.ids, " ")));
    if (output_is_terminal()) print("\n");
    if (result.failure) return;
    print_note(fmt::format("{} tokens in at {:.1f} tokens/s | {} out at {:.1f} tokens/s | {}",
                           result.prompt_tokens, result.prefill_tokens_per_second(), result.new_tokens,
                           result.decode_tokens_per_second(), kv_figures(session.cache().stats())));
  }

  OptionSet prompt_options_, output_options_, sampling_options_, common_options_;
  PolicyOptions policy_;
  PromptOptions prompt_;
  SamplingSettings sampling_;
  CommonOptions common_;
  int64_t n_ = 256;
  std::vector<std::string> stops_;
  bool ignore_eos_ = false;
};

}  // namespace

std::unique_ptr<Command> make_generate_command() { return std::make_unique<GenerateCommand>(); }

}  // namespace sepllm
