// What the subcommands share: the options of a model, threads and memory for the engine, prompts and texts.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/shell/cli.h"
#include "apps/shell/memory_check.h"
#include "attention/policy.h"
#include "base/options.h"
#include "base/thread_pool.h"
#include "cache/kv_cache.h"
#include "engine/model.h"
#include "tensor/arena.h"
#include "tensor/context.h"

namespace sepllm {

// --policy and what belongs to it. `settings` is complete after finish().
struct PolicyOptions {
  OptionSet options;
  PolicySettings settings;

  PolicyOptions() { declare_policy_options(&options, &settings); }
  PolicyOptions(const PolicyOptions&) = delete;
  PolicyOptions& operator=(const PolicyOptions&) = delete;
  // Takes the model's own policy where the flags leave it open. Error as finish_policy_options and
  // Policy::validate_layers.
  void finish(const ModelConfig& config, const std::string& model);
};

// --threads; 0 stays where it is not given.
void declare_threads_option(OptionSet* options, int64_t* threads, const std::string& help = "threads");
// ThreadPool::default_size() for 0.
int threads_or_default(int64_t threads);

// --model --tokenizer --json, and where a model runs --shape --threads --attention-impl --weights
// --exact.
struct CommonOptions {
  std::string model;
  std::string shape;  // instead of a model
  std::string tokenizer;
  bool json = false;
  int64_t threads = 0;  // 0: all
  std::string attention = "simd";
  std::string weights = "native";
  bool exact = false;
  bool runs_model = false;

  void declare(OptionSet* options, bool runs_model);
  // The model of --model or --shape. Error (kInvalidArgument) without either or with both. Before memory is
  // taken for weights `policy` is finished (not for commands without one), and it is checked that they and
  // the cache of what is known of the run fit the memory at hand (apps/shell/memory_check.h).
  Model load(PolicyOptions* policy = nullptr, const RunLength& length = {}) const;
  int n_threads() const;
};

// The type that --weights or --type names; none: "native".
std::optional<DType> weight_type(const std::string& name);
// The names of all types that weights can have.
std::vector<std::string> weight_type_names();

// Threads and scratch memory for one run of a command.
class Runtime {
 public:
  explicit Runtime(const CommonOptions& options);
  Context context();

 private:
  ThreadPool pool_;
  Arena arena_;
  AttentionImpl attention_;
  BlockProducts block_products_;
};

void declare_bos_option(OptionSet* options, std::string* bos);

// A text file; Error (kInvalidArgument) with the byte offset if it is not UTF-8.
std::string read_text(const std::string& path);

// A file or folder of the repository that this program was built in, given as "models/NAME": looked for in
// the folders above the program's own, so that it does not matter where it is started. nullopt: it is not
// there.
std::optional<std::string> repository_file(const std::string& name);

}  // namespace sepllm
