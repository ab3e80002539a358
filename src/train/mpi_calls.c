#include "train/mpi_calls.h"

#include <limits.h>
#include <mpi.h>
#include <string.h>

_Static_assert(sizeof(MPI_Request) <= sizeof(void*), "a request fits in the caller's pointer");

static int start(int* rank, int* size) {
  int provided = 0;
  /* The thread that calls this makes all later calls but abort(). */
  int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
  if (code == MPI_SUCCESS) code = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (code == MPI_SUCCESS) code = MPI_Comm_rank(MPI_COMM_WORLD, rank);
  if (code == MPI_SUCCESS) code = MPI_Comm_size(MPI_COMM_WORLD, size);
  return code;
}

static void* kept(MPI_Request request) {
  void* out = NULL;
  memcpy(&out, &request, sizeof request);
  return out;
}

static int send_bytes(const void* from, int64_t bytes, int to, int tag, void** request) {
  MPI_Request r;
  if (bytes > INT_MAX) return MPI_ERR_COUNT;
  const int code = MPI_Isend(from, (int)bytes, MPI_BYTE, to, tag, MPI_COMM_WORLD, &r);
  *request = kept(r);
  return code;
}

static int receive_bytes(void* to, int64_t bytes, int from, int tag, void** request) {
  MPI_Request r;
  if (bytes > INT_MAX) return MPI_ERR_COUNT;
  const int code = MPI_Irecv(to, (int)bytes, MPI_BYTE, from, tag, MPI_COMM_WORLD, &r);
  *request = kept(r);
  return code;
}

static int test(void** request, int* done) {
  MPI_Request r;
  memcpy(&r, request, sizeof r);
  const int code = MPI_Test(&r, done, MPI_STATUS_IGNORE);
  *request = kept(r);
  return code;
}

static int leave(void) { return MPI_Finalize(); }

static void abort_all(int exit_code) { MPI_Abort(MPI_COMM_WORLD, exit_code); }

static void text(int code, char* to, int n) {
  char all[MPI_MAX_ERROR_STRING + 1] = "";
  int length = 0;
  MPI_Error_string(code, all, &length);
  strncpy(to, all, (size_t)n - 1);
  to[n - 1] = '\0';
}

const struct sepllm_mpi_calls* sepllm_mpi(void) {
  static const struct sepllm_mpi_calls calls = {start, send_bytes, receive_bytes, test, leave, abort_all, text};
  return &calls;
}
