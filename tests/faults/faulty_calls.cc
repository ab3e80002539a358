// Loaded before the C library (LD_PRELOAD) to let one call of the system fail, or the process die there.
// SEPLLM_FAULT=CALL:N:WHAT with CALL write, fsync, rename, remove, mkdir, ftruncate, create (an open() for
// writing), open (for reading) or MPI_Isend (of data), N from 1 (standard output and error not counted) and
// WHAT
//   kill   SIGKILL instead of the call
//   hang   the call never returns; the process's other threads continue
//   half   half of a write is done, then SIGKILL
//   term   SIGTERM, then the call is done
//   short  this write and all later ones take half of what they are given
//   a number: the call fails with this errno, as do all later ones of it
// or main:0:WHAT, only for the thread of main(), with WHAT
//   hang   it stops for ever when the process gets SIGUSR2
//   slow   it sleeps 0.5 s of every 0.51 s from then on
//   never  it does not begin
// SEPLLM_FAULT_RANK: only in this rank of mpirun. SEPLLM_FAULT_PATH: only an open() of a path that ends so.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

struct Fault {
  char call[16] = "";
  long n = 0;
  char what[16] = "";

  Fault() {
    const char* text = std::getenv("SEPLLM_FAULT");
    const char* chosen = std::getenv("SEPLLM_FAULT_RANK");
    const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
    if (chosen != nullptr && (rank == nullptr || std::strcmp(chosen, rank) != 0)) return;
    if (text != nullptr) std::sscanf(text, "%15[^:]:%ld:%15s", call, &n, what);
  }
};

const Fault& the_fault() {
  static const Fault fault;
  return fault;
}

[[noreturn]] void stand_still() {
  for (;;) ::pause();
}

void arm_slowness() {
  const itimerval soon{{0, 0}, {0, 10'000}};
  ::setitimer(ITIMER_REAL, &soon, nullptr);
}

// The system hands a signal for a process to its first thread, where that takes it.
__attribute__((constructor)) void prepare_main() {
  const Fault& fault = the_fault();
  if (std::strcmp(fault.call, "main") != 0) return;
  struct sigaction action {};
  action.sa_flags = SA_RESTART;
  if (std::strcmp(fault.what, "hang") == 0) {
    action.sa_handler = [](int) { stand_still(); };
    ::sigaction(SIGUSR2, &action, nullptr);
    return;
  }
  if (std::strcmp(fault.what, "never") == 0) stand_still();
  action.sa_handler = [](int) {
    const int before = errno;
    const timespec half{0, 500'000'000};
    ::nanosleep(&half, nullptr);
    errno = before;
    arm_slowness();
  };
  ::sigaction(SIGALRM, &action, nullptr);
  action.sa_handler = [](int) { arm_slowness(); };
  ::sigaction(SIGUSR2, &action, nullptr);
}

enum class Action { kNone, kHalf, kShort, kFail };

Action next(const char* call) {
  const Fault& fault = the_fault();
  static long count = 0;
  if (std::strcmp(fault.call, call) != 0 || ++count < fault.n) return Action::kNone;
  if (std::strcmp(fault.what, "kill") == 0) ::kill(::getpid(), SIGKILL);
  if (std::strcmp(fault.what, "hang") == 0) stand_still();
  if (std::strcmp(fault.what, "half") == 0) return Action::kHalf;
  if (std::strcmp(fault.what, "short") == 0) return Action::kShort;
  if (std::strcmp(fault.what, "term") == 0) {
    if (count == fault.n) ::kill(::getpid(), SIGTERM);
    return Action::kNone;
  }
  errno = std::atoi(fault.what);
  return Action::kFail;
}

template <typename F>
F real(const char* name) {
  return reinterpret_cast<F>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) ssize_t write(int fd, const void* from, size_t n) {
  static const auto call = real<ssize_t (*)(int, const void*, size_t)>("write");
  const Action action = fd <= 2 ? Action::kNone : next("write");
  if (action == Action::kFail) return -1;
  if (action == Action::kHalf) {
    call(fd, from, n / 2);
    ::kill(::getpid(), SIGKILL);
  }
  return call(fd, from, action == Action::kShort ? (n + 1) / 2 : n);
}

__attribute__((visibility("default"))) int fsync(int fd) {
  static const auto call = real<int (*)(int)>("fsync");
  return next("fsync") == Action::kFail ? -1 : call(fd);
}

__attribute__((visibility("default"))) int rename(const char* from, const char* to) {
  static const auto call = real<int (*)(const char*, const char*)>("rename");
  return next("rename") == Action::kFail ? -1 : call(from, to);
}

// Open MPI's handles are pointers.
__attribute__((visibility("default"))) int MPI_Isend(const void* from, int n, void* type, int to, int tag,
                                                     void* comm, void* request) {
  static const auto call = real<int (*)(const void*, int, void*, int, int, void*, void*)>("MPI_Isend");
  constexpr int kErrOther = 16;  // MPI_ERR_OTHER
  constexpr int kData = 1;       // as in train/comm.cc; heartbeats come at any time
  return tag == kData && next("MPI_Isend") == Action::kFail ? kErrOther
                                                            : call(from, n, type, to, tag, comm, request);
}

__attribute__((visibility("default"))) int remove(const char* path) {
  static const auto call = real<int (*)(const char*)>("remove");
  return next("remove") == Action::kFail ? -1 : call(path);
}

__attribute__((visibility("default"))) int mkdir(const char* path, mode_t mode) {
  static const auto call = real<int (*)(const char*, mode_t)>("mkdir");
  return next("mkdir") == Action::kFail ? -1 : call(path, mode);
}

__attribute__((visibility("default"))) int ftruncate(int fd, off_t size) {
  static const auto call = real<int (*)(int, off_t)>("ftruncate");
  return next("ftruncate") == Action::kFail ? -1 : call(fd, size);
}

__attribute__((visibility("default"))) int open(const char* path, int flags, ...) {
  static const auto call = real<int (*)(const char*, int, mode_t)>("open");
  va_list more;
  va_start(more, flags);
  const auto mode = (flags & O_CREAT) != 0 ? static_cast<mode_t>(va_arg(more, int)) : mode_t{0};
  va_end(more);
  const bool writes = (flags & (O_WRONLY | O_RDWR)) != 0;
  static const char* chosen = std::getenv("SEPLLM_FAULT_PATH");
  const size_t n = std::strlen(path), n_chosen = chosen == nullptr ? 0 : std::strlen(chosen);
  if (n < n_chosen || (n_chosen > 0 && std::strcmp(path + n - n_chosen, chosen) != 0))
    return call(path, flags, mode);
  return next(writes ? "create" : "open") == Action::kFail ? -1 : call(path, flags, mode);
}
}
