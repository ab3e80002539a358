// Checkpoints of a training run: everything that a run needs to continue as if it had never stopped. Each is
// one file, FOLDER/step-000000123.ckpt, written completely or not at all (checkpoint/state_file.h).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/state_file.h"
#include "train/learner.h"

namespace sepllm {

// Everything except the arrays. It is all in one header, so that a checkpoint explains itself.
struct TrainState {
  int64_t step = 0;  // number of steps done
  TokenData::Position position;
  uint64_t data_fingerprint = 0;
  Json model_config;  // config.json of the model
  Json settings;      // train_config_json of the run that wrote it
  Json progress;      // the trainer's own data: statistics of gradients, tokens, FLOPs
};

std::string checkpoint_path(const std::string& folder, int64_t step);
// Steps of the checkpoints in `folder`, ascending, taken only from their names.
std::vector<int64_t> checkpoint_steps(const std::string& folder);

// Removes unfinished files and folders that a killed run has left there. No other process may be working in
// the folder.
void remove_leftovers(const std::string& folder);

// Writes parameters, moments and state. Call on all ranks; rank 0 writes. Error (kIo), for example disk full:
// existing files do not change.
void save_checkpoint(const std::string& path, const TrainState& state, Learner& learner);

// A checkpoint of this learner's model that was checked completely before it is used.
class OpenCheckpoint {
 public:
  // `check` may throw an Error for what the checkpoint says. Error (kBadFile) for a file that is cut off or
  // changed anywhere, (kUnsupported) for another version, (kInvalidArgument) for another model.
  OpenCheckpoint(const std::string& path, Learner& learner,
                 const std::function<void(const TrainState&)>& check = {});
  const TrainState& state() const { return state_; }
  const Json& header() const { return file_.header(); }

 private:
  friend void load_checkpoint(const OpenCheckpoint* checkpoint, Learner* learner);
  StateFile file_;
  TrainState state_;
};
TrainState parse_checkpoint_header(const Json& header, const std::string& file);

// Takes over parameters (on rank 0) and moments. Call on all ranks; `checkpoint` is null on all but rank 0.
void load_checkpoint(const OpenCheckpoint* checkpoint, Learner* learner);

// Reads only the parameters. Error as for OpenCheckpoint.
TrainState load_checkpoint_parameters(const std::string& path, Parameters* parameters);

// Checks a whole file and reads only its state.
TrainState read_checkpoint_state(const std::string& path);

}  // namespace sepllm
