// How bytes get from one process of a run to another: what Comm (comm.h) needs from MPI, or from anything
// else.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace sepllm {

// All calls come from one thread. Messages between two ranks with one tag arrive in the order in which they
// were sent. Error (kIo) if the underlying system reports a failure.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Starts a message and does not wait: the bytes must stay where they are until test() returns true. At most
  // kMost bytes at once.
  static constexpr int64_t kMost = int64_t{1} << 30;
  using Request = void*;
  virtual Request send(const void* from, int64_t bytes, int to, int tag) = 0;
  virtual Request receive(void* to, int64_t bytes, int from, int tag) = 0;
  // Whether it has ended; calling it is also what moves the bytes. After true, the request no longer exists.
  virtual bool test(Request* request) = 0;

  // Called by every rank when all its messages have ended: nothing can be sent afterwards.
  virtual void leave() = 0;
  // Ends all ranks, including this one, as far as they can be reached. May be called from any thread.
  virtual void abort(int exit_code) = 0;
};

using TransportMaker = std::function<std::unique_ptr<Transport>()>;

}  // namespace sepllm
