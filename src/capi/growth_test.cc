// A thousand cycles of loading and freeing, and of forks, leave the process as large as it was. (With
// AddressSanitizer freed memory is kept for a while: there its leak detector does this work.)
#include <sepllm/sepllm.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <fstream>

#include "base/function_ref.h"
#include "capi/capi_test_support.h"

namespace sepllm::test {
namespace {

int64_t resident_now() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

// By how many bytes n cycles let the process grow, after some that do not count.
int64_t growth(int n, FunctionRef<void()> cycle) {
  for (int i = 0; i < n / 10; ++i) cycle();
  const int64_t before = resident_now();
  for (int i = 0; i < n; ++i) cycle();
  return resident_now() - before;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kCycles = 50;
constexpr int64_t kMost = int64_t{1} << 40;
#else
constexpr int kCycles = 1000;
constexpr int64_t kMost = 2 << 20;  // a leak of two kilobytes in a cycle is seen
#endif

TEST_F(CApiModel, AThousandLoadsDoNotGrow) {
  const int64_t grown = growth(kCycles, [&] {
    sepllm_model* m = nullptr;
    ok(sepllm_model_load(folder_.path().c_str(), R"({"threads": 1})", &m));
    const Handle<sepllm_model> model(m);
    sepllm_tokenizer* t = nullptr;
    ok(sepllm_model_tokenizer(m, &t));
    const Handle<sepllm_tokenizer> tokenizer(t);
    sepllm_session* s = nullptr;
    ok(sepllm_session_new(m, kSepPolicy, nullptr, &s));
    const Handle<sepllm_session> session(s);
    ok(sepllm_session_feed(s, ids_.data(), 3));
  });
  EXPECT_LT(grown, kMost);
}

TEST_F(CApiModel, AThousandForksAndErrorsDoNotGrow) {
  const auto beginning = session(kSepPolicy);
  fed(beginning, 0, 60);
  const int64_t grown = growth(kCycles, [&] {
    sepllm_session* s = nullptr;
    ok(sepllm_session_fork(beginning.get(), nullptr, &s));
    const Handle<sepllm_session> fork(s);
    fed(fork, 60, 5);
    ok(sepllm_session_rewind(s, 62));
    sepllm_generation* g = nullptr;
    ok(sepllm_session_generate(s, ids_.data(), 2, R"({"n": 2, "ignore-eos": true})", nullptr, nullptr, &g));
    const Handle<sepllm_generation> generation(g);
    ok(sepllm_session_fork(beginning.get(), nullptr, &s));
    const Handle<sepllm_session> second(s);
    const std::array<sepllm_session*, 2> both = {fork.get(), s};
    ok(sepllm_sessions_decode(both.data(), 2, ids_.data()));
    refused(sepllm_sessions_decode(both.data(), 0, ids_.data()), SEPLLM_INVALID_ARGUMENT, "no sessions");
    ok(sepllm_generation_new(s, nullptr, 0, R"({"n": 3, "ignore-eos": true})", &g));
    const Handle<sepllm_generation> text(g);
    sepllm_generation_step step{};
    for (int i = 0; i < 3; ++i) ok(sepllm_generations_next(&g, 1, &step));
    int64_t* positions = nullptr;
    size_t n = 0;
    ok(sepllm_session_kv_slots(s, 0, &positions, nullptr, &n));
    sepllm_free(positions);
    refused(sepllm_session_feed(s, nullptr, 0), SEPLLM_INVALID_ARGUMENT, "no token ids");
  });
  EXPECT_LT(grown, kMost);
}

}  // namespace
}  // namespace sepllm::test
