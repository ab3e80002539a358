#include "apps/train_ranks.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "apps/shell/output.h"
#include "base/error.h"
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

// Until all ranks have connected there are no heartbeats by which a missing one could be found.
class StartWatch {
 public:
  explicit StartWatch(double seconds) : thread_([this, seconds] { run(seconds); }) {}
  ~StartWatch() {
    {
      const std::lock_guard lock(mutex_);
      met_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  StartWatch(const StartWatch&) = delete;
  StartWatch& operator=(const StartWatch&) = delete;

 private:
  void run(double seconds) {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return met_; })) return;
    print_note(
        fmt::format("sepllm: error: not all ranks have connected within {:.0f} seconds of the start: one "
                    "hangs, or cannot be reached",
                    seconds));
    std::_Exit(1);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool met_ = false;
  std::thread thread_;
};

}  // namespace

bool asked_to_save() { return save_seen != 0; }

int with_ranks(double start_limit, const std::function<int(Comm&)>& train) {
  if (!started_by_mpi()) {
    Comm alone;
    return train(alone);
  }
  std::signal(SIGUSR1, [](int) { save_seen = 1; });
  std::atomic<bool> lost = false;
  std::optional<StartWatch> watch(start_limit);
  Comm comm(start_mpi, {.on_lost = [&lost](const std::string& what) {
              if (lost.exchange(true)) return;
              end_soon();  // first, because writing the line may have to wait for what hangs
              print_note("sepllm: error: " + what);
            }});
  watch.reset();
  try {
    const int code = train(comm);
    comm.leave();
    return code;
  } catch (const SharedFailure& e) {
    if (comm.is_root()) print_note(fmt::format("sepllm: error: {}", e.what()));
    comm.leave();
    return 1;
  } catch (const std::exception& e) {
    const auto* error = dynamic_cast<const Error*>(&e);
    // The others wait for this rank, so they must be ended.
    end_soon();
    if (!lost.exchange(true))
      print_note(fmt::format("sepllm: error: {}: {}", comm.name(comm.rank()),
                             error != nullptr ? error->marked_text() : e.what()));
    comm.abort(1);
    std::_Exit(1);
  }
}

}  // namespace sepllm
