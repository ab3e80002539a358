// Several ranks over MPI, where the program was started by mpirun or srun.
#pragma once

#include "train/transport.h"

namespace sepllm {

// Whether this process was started as one of several ranks (or as the only one, by mpirun).
bool started_by_mpi();

// Loads the MPI module next to the program and starts MPI, on the thread that calls it. Error
// (kUnsupported) where it is missing, (kIo) where MPI fails.
std::unique_ptr<Transport> start_mpi();

}  // namespace sepllm
