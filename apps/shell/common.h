// Shared by the subcommands: the options of a model, threads and memory for the engine, prompts and texts.
#pragma once

#include <cstdint>
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

// --policy-file, --policy and its settings. `settings` is complete after finish().
struct PolicyOptions {
  OptionSet options;
  PolicySettings settings;

  explicit PolicyOptions(const PolicySettings& defaults = {});
  PolicyOptions(const PolicyOptions&) = delete;
  PolicyOptions& operator=(const PolicyOptions&) = delete;
  // Takes the policy of --policy-file or, without it, the model's own for everything that the flags leave
  // open. Error as for finish_model_policy.
  void finish(const ModelConfig& config, const std::string& model);

 private:
  std::string file_;
};

// Declares --threads; the value stays 0 if it is not given.
void declare_threads_option(OptionSet* options, int64_t* threads, const std::string& help = "threads");
// ThreadPool::default_size() for 0.
int threads_or_default(int64_t threads);

// --model --tokenizer --json, and for commands that run a model also --shape --threads --attention-impl
// --weights --exact.
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
  // taken for weights, `policy` is finished (null for commands without one), and it is checked that the
  // weights, and the cache as far as the run's length is known, fit the memory at hand
  // (apps/shell/memory_check.h).
  Model load(PolicyOptions* policy = nullptr, const RunLength& length = {}) const;
  int n_threads() const;
};

// The type that --weights or --type names; nullopt for "native".
std::optional<DType> weight_type(const std::string& name);
// The names of all types that weights can have.
std::vector<std::string> weight_type_names();

// Threads and scratch memory for one run of a command.
class Runtime {
 public:
  explicit Runtime(const CommonOptions& options);
  // And, where `decoder` is not null, the walks over its weights that are fast here (engine/walk_choice.h):
  // for commands that decode.
  Runtime(const CommonOptions& options, Decoder* decoder);
  Context context();

 private:
  ThreadPool pool_;
  Arena arena_;
  AttentionImpl attention_;
  BlockProducts block_products_;
};

void declare_bos_option(OptionSet* options, std::string* bos);

// Reads a text file; Error (kInvalidArgument) with the byte offset if it is not UTF-8.
std::string read_text(const std::string& path);

// A file or folder of the repository that this program was built in, given as "models/NAME". It is looked for
// in the folders above the program's own, so it does not matter where the program is started. nullopt if it
// does not exist.
std::optional<std::string> repository_file(const std::string& name);

}  // namespace sepllm
