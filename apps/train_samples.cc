#include "apps/train_samples.h"

#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/sign_of_life.h"
#include "engine/generator.h"

namespace sepllm {
namespace {

// The trainer's model as the engine's Model type; it reads the trainer's parameters.
Model model_of(Trainer& trainer) {
  const TrainConfig& c = trainer.config();
  return {.name = "the model in training",
          .config_file = "",
          .decoder = Decoder(trainer.learner().spec().config, trainer.learner().parameters().views()),
          .tokenizer = load_tokenizer(c.tokenizer.empty() ? c.init_from : c.tokenizer)};
}

// The token that a text without a prompt starts after: BOS, otherwise EOS.
int32_t first_token(const Model& model) {
  if (const auto bos = model.tokenizer->bos_id()) return *bos;
  if (const auto eos = model.tokenizer->eos_id()) return *eos;
  return model.start_token();
}

}  // namespace

TextSampler::TextSampler(Trainer& trainer, ThreadPool& pool)
    : trainer_(trainer), pool_(pool), model_(model_of(trainer)) {
  prompt_ = model_.encode(trainer.config().sample_prompt, "auto");
  if (prompt_.empty()) prompt_ = {first_token(model_)};
}

std::string TextSampler::text() {
  const TrainConfig& c = trainer_.config();
  GenerateRequest request{.prompt = prompt_, .max_new_tokens = c.sample_tokens};
  request.ignore_eos = true;
  Session session(model_, trainer_.policy(), {.pool = pool_, .arena = arena_});
  Sampler sampler({.temperature = c.sample_temp, .seed = c.seed}, model_.config().vocab_size);
  std::string out = c.sample_prompt;
  try {
    out += generate(session, sampler, request, [](const std::string&) {
             sign_of_life();
             return true;
           }).text;
  } catch (const Error& e) {
    return fmt::format("[no text: {}]", e.what());
  }
  return out;
}

}  // namespace sepllm
