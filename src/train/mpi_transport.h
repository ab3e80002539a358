// Several ranks over MPI, if the program was started by mpirun or srun.
#pragma once

#include <memory>

#include "train/transport.h"

namespace sepllm {

// Whether this process was started as one of several ranks (or as the only one, by mpirun).
bool started_by_mpi();

// Loads the MPI module that lies next to the program and starts MPI, on the calling thread. Error
// (kUnsupported) if it is missing, (kIo) if MPI fails.
std::unique_ptr<Transport> start_mpi();

}  // namespace sepllm
