#include "apps/shell/commands.h"

namespace sepllm {

Commands all_commands() {
  Commands commands;
  commands.push_back(make_generate_command());
  commands.push_back(make_chat_command());
  commands.push_back(make_serve_command());
  commands.push_back(make_score_command());
  commands.push_back(make_tokenize_command());
  commands.push_back(make_inspect_command());
  commands.push_back(make_inspect_attention_command());
  commands.push_back(make_inspect_cpu_command());
  commands.push_back(make_inspect_data_command());
  commands.push_back(make_inspect_samples_command());
  commands.push_back(make_bench_decode_command());
  commands.push_back(make_bench_prefill_command());
  commands.push_back(make_bench_batch_command());
  commands.push_back(make_bench_memory_command());
  commands.push_back(make_bench_attention_command());
  commands.push_back(make_bench_train_command());
  commands.push_back(make_quantize_command());
  commands.push_back(make_prepare_command());
  commands.push_back(make_train_command());
  commands.push_back(make_export_command());
  commands.push_back(make_report_command());
  commands.push_back(make_tune_command());
  commands.push_back(make_demo_command());
  return commands;
}

}  // namespace sepllm
