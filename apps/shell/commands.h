// The subcommands, one file each.
#pragma once

#include <memory>

#include "apps/shell/cli.h"

namespace sepllm {

std::unique_ptr<Command> make_generate_command();
std::unique_ptr<Command> make_chat_command();
std::unique_ptr<Command> make_serve_command();
std::unique_ptr<Command> make_score_command();
std::unique_ptr<Command> make_tokenize_command();
std::unique_ptr<Command> make_inspect_command();
std::unique_ptr<Command> make_inspect_attention_command();
std::unique_ptr<Command> make_inspect_cpu_command();
std::unique_ptr<Command> make_inspect_data_command();
std::unique_ptr<Command> make_inspect_samples_command();
std::unique_ptr<Command> make_prepare_command();
std::unique_ptr<Command> make_bench_attention_command();
std::unique_ptr<Command> make_quantize_command();
std::unique_ptr<Command> make_bench_decode_command();
std::unique_ptr<Command> make_bench_prefill_command();
std::unique_ptr<Command> make_bench_batch_command();
std::unique_ptr<Command> make_bench_memory_command();
std::unique_ptr<Command> make_bench_train_command();
std::unique_ptr<Command> make_train_command();
std::unique_ptr<Command> make_export_command();
std::unique_ptr<Command> make_report_command();
std::unique_ptr<Command> make_tune_command();
std::unique_ptr<Command> make_demo_command();

// All commands, in the order in which `sepllm --help` lists them.
Commands all_commands();

}  // namespace sepllm
