#include "apps/train_ranks.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "apps/output.h"
#include "train/mpi_transport.h"

namespace sepllm {
namespace {

volatile std::sig_atomic_t save_seen = 0;

// Ending the others may itself wait for a machine that is gone.
void end_soon() {
  std::thread([] {
    std::this_thread::sleep_for(std::chrono::seconds(10));
    std::_Exit(1);
  }).detach();
}

}  // namespace

bool asked_to_save() { return save_seen != 0; }

int with_ranks(const std::function<int(Comm&)>& train) {
  if (!started_by_mpi()) {
    Comm alone;
    return train(alone);
  }
  std::signal(SIGUSR1, [](int) { save_seen = 1; });
  std::atomic<bool> lost = false;
  Comm comm(start_mpi, {.on_lost = [&lost](const std::string& what) {
              if (lost.exchange(true)) return;
              end_soon();  // first: the line may have to wait for what hangs
              print_note("sepllm: error: " + what);
            }});
  try {
    const int code = train(comm);
    comm.leave();
    return code;
  } catch (const SharedFailure& e) {
    if (comm.first()) print_note(fmt::format("sepllm: error: {}", e.what()));
    comm.leave();
    return 1;
  } catch (const std::exception& e) {
    // The others wait for this rank: they must be ended.
    end_soon();
    if (!lost.exchange(true))
      print_note(fmt::format("sepllm: error: {}: {}", comm.name(comm.rank()), e.what()));
    comm.abort(1);
    std::_Exit(1);
  }
}

}  // namespace sepllm
