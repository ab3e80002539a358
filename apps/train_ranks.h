// A training run as one of several processes: what happens when one of them fails.
#pragma once

#include <functional>

#include "train/comm.h"

namespace sepllm {

// Calls `train` with the ranks that mpirun or srun started, or with this process alone, and returns its exit
// code. What fails on all ranks alike is one line of rank 0's; what fails on one, or a rank that is lost, is
// a line there and ends all others; so does a rank that has not come `start_limit` seconds after the start.
int with_ranks(double start_limit, const std::function<int(Comm&)>& train);

// Whether SIGUSR1 has come, which mpirun hands on to its ranks (where SIGTERM lets them live for a second),
// and which SLURM can send before the time of a job ends. Under mpirun and srun only.
bool asked_to_save();

}  // namespace sepllm
