#include "capi/runtime.h"

#include <sepllm/sepllm.h>

#include <memory>

#include "capi/guard.h"

using namespace sepllm::capi;  // NOLINT(google-build-using-namespace)

sepllm_status sepllm_runtime_new(int n_threads, sepllm_runtime** out) {
  return guarded([&] {
    given(out, "out");
    require(n_threads >= 0 && n_threads <= 1024, "n_threads is not in 0 to 1024");
    *out = new sepllm_runtime{std::make_shared<Runtime>(n_threads)};
  });
}

void sepllm_runtime_free(sepllm_runtime* runtime) { delete runtime; }

int sepllm_runtime_threads(const sepllm_runtime* runtime) {
  return runtime == nullptr ? 0 : runtime->shared->size();
}
