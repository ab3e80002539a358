// How bytes get from one process of a run to another: what Comm (comm.h) needs of MPI, or of anything else.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace sepllm {

// All calls come from one thread. Messages between two ranks with one tag arrive in the order in which they
// were sent. Error (kIo) where the system below reports a failure.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Begun and not waited for: the bytes stay where they are until test() says true. At most kMost at once.
  static constexpr int64_t kMost = int64_t{1} << 30;
  using Request = void*;
  virtual Request send(const void* from, int64_t bytes, int to, int tag) = 0;
  virtual Request receive(void* to, int64_t bytes, int from, int tag) = 0;
  // Whether it has ended; asking is also what moves the bytes. The request is gone after a true.
  virtual bool test(Request* request) = 0;

  // Every rank calls it when all its messages have ended: nothing can be sent afterwards.
  virtual void leave() = 0;
  // Ends all ranks, this one included, as far as they can be reached. From any thread.
  virtual void abort(int exit_code) = 0;
};

using TransportMaker = std::function<std::unique_ptr<Transport>()>;

}  // namespace sepllm
