/* The few calls of MPI that the program needs, as a module of its own that is loaded where a run has several
 * ranks: the program itself starts, and runs on machines without MPI, without it. Every int is an MPI error
 * code, 0: success. Plain C: the two sides share nothing else. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sepllm_mpi_calls {
  int (*start)(int* rank, int* size);
  int (*send)(const void* from, int64_t bytes, int to, int tag, void** request);
  int (*receive)(void* to, int64_t bytes, int from, int tag, void** request);
  int (*test)(void** request, int* done);
  int (*leave)(void);
  void (*abort)(int exit_code);
  /* The text of an error code, at most n bytes with the 0 at its end. */
  void (*text)(int code, char* to, int n);
};

typedef const struct sepllm_mpi_calls* (*sepllm_mpi_calls_function)(void);

/* The module's one name. */
const struct sepllm_mpi_calls* sepllm_mpi(void);

#ifdef __cplusplus
}
#endif
