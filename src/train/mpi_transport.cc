#include "train/mpi_transport.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "train/mpi_calls.h"

namespace sepllm {
namespace {

// The name that CMake gives to the module; it lies in the program's folder.
constexpr const char* kModule = "sepllm_mpi.so";

const sepllm_mpi_calls* load_module() {
  const std::string path = program_folder() + "/" + kModule;
  // Global, because Open MPI loads parts of its own that look for its names.
  void* module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (module == nullptr) {
    const char* why = ::dlerror();
    throw Error(ErrorCode::kUnsupported,
                fmt::format("started by mpirun, but MPI cannot be loaded: {}", why == nullptr ? "" : why),
                {.file = path, .hint = "install Open MPI (openmpi-bin) on every machine"});
  }
  const auto get = reinterpret_cast<sepllm_mpi_calls_function>(::dlsym(module, "sepllm_mpi"));
  if (get == nullptr) throw Error(ErrorCode::kUnsupported, "not the MPI module", {.file = path});
  return get();
}

class MpiTransport : public Transport {
 public:
  MpiTransport() : calls_(*load_module()) { check(calls_.start(&rank_, &size_)); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Request send(const void* from, int64_t bytes, int to, int tag) override {
    Request request = nullptr;
    check(calls_.send(from, bytes, to, tag, &request));
    return request;
  }
  Request receive(void* to, int64_t bytes, int from, int tag) override {
    Request request = nullptr;
    check(calls_.receive(to, bytes, from, tag, &request));
    return request;
  }
  bool test(Request* request) override {
    int done = 0;
    check(calls_.test(request, &done));
    return done != 0;
  }
  void leave() override { check(calls_.leave()); }
  void abort(int exit_code) override { calls_.abort(exit_code); }

 private:
  void check(int code) const {
    if (code == 0) return;
    char text[512] = "";
    calls_.text(code, text, sizeof text);
    throw Error(ErrorCode::kIo, fmt::format("MPI failed: {}", text));
  }

  const sepllm_mpi_calls& calls_;
  int rank_ = 0, size_ = 1;
};

}  // namespace

bool started_by_mpi() {
  // Set by Open MPI's mpirun, and by srun --mpi=pmix.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

std::unique_ptr<Transport> start_mpi() { return std::make_unique<MpiTransport>(); }

}  // namespace sepllm
