// A training run as one of several processes: what happens when one of them fails.
#pragma once

#include <functional>

#include "train/comm.h"

namespace sepllm {

// Calls `train` with the ranks that mpirun or srun started, or with only this process, and returns its exit
// code. A failure on all ranks is reported in one line by rank 0. A failure on one rank, or a lost rank, is
// reported in a line there and ends all others; so does a rank that has not connected `start_limit` seconds
// after the start.
int with_ranks(double start_limit, const std::function<int(Comm&)>& train);

// Whether SIGUSR1 has come. mpirun passes it on to its ranks (after SIGTERM it lets them live only for a
// second), and SLURM can send it before the time of a job ends. Only under mpirun and srun.
bool asked_to_save();

}  // namespace sepllm
