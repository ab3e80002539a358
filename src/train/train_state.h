// Checkpoints of a training run: all that a run needs to continue as if it had never stopped, one file for
// each, FOLDER/step-000000123.ckpt, there whole or not at all (checkpoint/state_file.h).
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

// All but the arrays. It is the header of the file, so that a checkpoint explains itself.
struct TrainState {
  int64_t step = 0;  // steps done
  TokenData::Position position;
  uint64_t data_fingerprint = 0;
  Json model_config;  // of the model
  Json settings;      // train_config_json of the run that wrote it
  Json progress;      // the trainer's own: statistics of gradients, tokens, FLOPs
};

std::string checkpoint_path(const std::string& folder, int64_t step);
// Steps of the checkpoints that lie in `folder`, ascending; only their names are read.
std::vector<int64_t> checkpoint_steps(const std::string& folder);

// Removes the unfinished files and folders that a killed run has left there. Nobody else may be at work in
// it.
void remove_leftovers(const std::string& folder);

// Writes parameters, moments and state. All ranks; rank 0 writes. Error (kIo), e.g. disk full: what was there
// stays.
void save_checkpoint(const std::string& path, const TrainState& state, Learner& learner);

// A checkpoint of this learner's model, whole, before it is read.
class OpenCheckpoint {
 public:
  // `check` may refuse what it says by an Error. Error (kBadFile) for a file that is cut off or changed
  // anywhere, (kUnsupported) for one of another version, (kInvalidArgument) for another model's.
  OpenCheckpoint(const std::string& path, const Learner& learner,
                 const std::function<void(const TrainState&)>& check = {});
  const TrainState& state() const { return state_; }
  const Json& header() const { return file_.header(); }

 private:
  friend void load_checkpoint(const OpenCheckpoint* checkpoint, Learner* learner);
  StateFile file_;
  TrainState state_;
};
TrainState parse_checkpoint_header(const Json& header, const std::string& file);

// Takes over parameters (on rank 0) and moments. All ranks; null on all but rank 0.
void load_checkpoint(const OpenCheckpoint* checkpoint, Learner* learner);

// Reads only the parameters. Error as OpenCheckpoint.
TrainState load_checkpoint_parameters(const std::string& path, Parameters* parameters);

// Checks a whole file and reads only its state.
TrainState read_checkpoint_state(const std::string& path);

}  // namespace sepllm
