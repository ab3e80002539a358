#include "apps/train_plan_text.h"

#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "apps/shell/common.h"
#include "apps/shell/figures.h"
#include "apps/shell/memory_check.h"
#include "apps/shell/output.h"
#include "base/error.h"
#include "base/log.h"

namespace sepllm {
namespace {

Json plan_json(const TrainConfig& config, const TrainPlan& plan, const Surroundings& here) {
  return {{"parameters", plan.parameters},
          {"memory",
           {{"weights", plan.weights},
            {"gradients", plan.gradients},
            {"moments", plan.moments},
            {"activations", plan.pass.activations},
            {"activation_gradients", plan.pass.activation_gradients},
            {"backward", plan.pass.backward},
            {"loss", plan.pass.loss},
            {"workspace", plan.pass.workspace},
            {"pass", plan.pass_total},
            {"total", plan.total()},
            {"program", here.program_bytes},
            {"at_hand", here.at_hand.bytes == MemoryAtHand{}.bytes ? Json() : Json(here.at_hand.bytes)}}},
          {"steps", config.train_steps},
          {"tokens_per_step", plan.tokens_per_step},
          {"dense_flops_per_step", plan.dense_flops},
          {"attention_flops_per_step", plan.attention_flops},
          {"gemm_flops_per_second", here.gemm_rate},
          {"visible_share", plan.visible_share},
          {"epochs", plan.epochs}};
}

std::string line(const char* what, int64_t bytes, const char* remark = "") {
  return fmt::format("  {:<24}{:>12}{}\n", what, human_bytes(bytes), remark);
}

}  // namespace

void check_plan_fits(const TrainPlan& plan, int n_ranks, const MemoryAtHand& at_hand, bool only_planned) {
  const int64_t total = plan.total() * n_ranks;
  if (total <= at_hand.bytes) return;
  const std::string got = fmt::format(
      "{}{}: weights {}, gradients {}, moments {}, activations and scratch {}", human_bytes(total),
      n_ranks == 1 ? "" : fmt::format(" for {} ranks, each", n_ranks), human_bytes(plan.weights),
      human_bytes(plan.gradients), human_bytes(plan.moments), human_bytes(plan.pass_total));
  const std::string hint =
      "a smaller micro_batch_size, activation_checkpointing: true or activation_storage: bf16 take less";
  // The plan agrees with measurements within 5 % (docs/PERFORMANCE.md), so that much may be missing.
  if (only_planned || total - total / 20 <= at_hand.most) {
    log_warning(fmt::format("the run takes more than the available memory ({}): {}; {}", memory_text(at_hand),
                            got, hint));
    return;
  }
  throw Error(
      ErrorCode::kOutOfRange, "the run does not fit into the available memory",
      {.expected = "at most " + memory_text(at_hand), .got = got, .hint = hint + "; " + memory_hint()});
}

void print_train_plan(const TrainConfig& config, const TrainPlan& plan, const Surroundings& here, bool json) {
  if (json) {
    print_json(plan_json(config, plan, here));
    return;
  }
  std::string text = fmt::format("{} parameters, {} steps of {} tokens, {:.3g} epochs of the data\n",
                                 plan.parameters, config.train_steps, plan.tokens_per_step, plan.epochs);
  text += fmt::format(
      "a step: {:.3g} FLOPs in products with weights, {:.3g} in attention ({:.1f} % of its pairs "
      "are visible);\nat this machine's rate of matrix products the former take {:.3g} s\n",
      plan.dense_flops, plan.attention_flops, 100 * plan.visible_share, plan.dense_flops / here.gemm_rate);
  text += "memory at the peak of a step:\n";
  text += line("weights", plan.weights);
  text += line("gradients", plan.gradients);
  text += line("moments", plan.moments);
  text += line("activations", plan.pass.activations, "  kept for the backward pass");
  text += line("their gradients", plan.pass.activation_gradients, "  of a layer, in the backward pass");
  text += line(
      "backward pass", plan.pass.backward,
      config.activation_checkpointing ? "  recomputed activations of a layer, and scratch" : "  scratch");
  text += line("or instead: loss", plan.pass.loss, "  logits of a block of rows, scratch");
  if (plan.pass.workspace > 0)
    text += line("workspace", plan.pass.workspace, "  activations of a layer while they are not packed");
  text += line("total", plan.total());
  text += line("not included: program", here.program_bytes,
               "  and pages of the token files, which can be dropped");
  text += fmt::format("available: {}\n", memory_text(here.at_hand));
  print(text);
}

}  // namespace sepllm
