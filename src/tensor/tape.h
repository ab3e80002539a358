// What a forward pass records so that gradients can flow back through it: a closure for each op, and where
// the gradients of activations and parameters lie. Everything lives in the arena of the pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <optional>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/arena.h"
#include "tensor/matrix.h"

namespace sepllm {

struct Context;

class Tape {
 public:
  // A part of an activation; its gradient has memory only while its segment runs backward.
  struct Slot {
    int64_t block = -1;
    int64_t offset = 0;  // elements
    int64_t n_rows = 0, n_cols = 0, stride = 0;
  };

  // `arena` is the one of the contexts that ops are called with; `pool` clears gradients.
  Tape(Arena& arena, ThreadPool& pool) : arena_(arena), pool_(pool) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // The gradient of the parameter that begins at `value` (a matrix as it is stored, or a vector) is added to
  // what `gradient` holds; it is f32 in the parameter's layout without gaps. Two parameters in one place (a
  // tied head) share it.
  void set_parameter(const void* value, float* gradient) { parameters_[value] = gradient; }
  // Null if the parameter is frozen.
  float* parameter(const void* value) const;

  // `fn` is called in the backward pass for each layer that the forward pass has marked, as soon as
  // everything after the mark is done: then the gradients of its parameters are final.
  void set_on_layer(std::function<void(int64_t layer)> fn) { on_layer_ = std::move(fn); }
  // `fn` is called in the forward pass at the mark of each layer, before the layer's parameters are read.
  void set_before_layer(std::function<void(int64_t layer)> fn) { before_layer_ = std::move(fn); }
  void mark_layer(int64_t layer) {
    if (before_layer_) before_layer_(layer);
    if (on_layer_) record([this, layer](const Context&) { on_layer_(layer); });
  }

  // How floats are packed into 16 bits and unpacked: any n.
  struct Packing {
    void (*pack)(const float* from, int64_t n, uint16_t* to);
    void (*unpack)(const uint16_t* from, int64_t n, float* to);
  };
  // From now on, what segments keep is packed into half the memory. A segment computes in f32 in `workspace`,
  // which holds one segment at a time; when it ends, its content is packed, and it is unpacked to the same
  // place for the backward pass. The state that a replayed segment keeps is packed as well. Nullptr ends
  // this.
  void set_packing(const Packing& packing, Arena* workspace);

  // f32 memory for an activation [n_rows, n_cols] (uninitialised) that gets a gradient in the backward pass.
  Matrix activation(int64_t n_rows, int64_t n_cols);
  // The same without a gradient: for values that a backward closure will read.
  Matrix keep(int64_t n_rows, int64_t n_cols);
  // The gradient of an activation of this pass, or of a part of one.
  Slot slot(const Matrix& part) const;
  // Where that gradient lies now; call it only inside a backward closure. At first it is zero. Closures add
  // to it; the closure of an op that works in place replaces the gradient of its result by the gradient of
  // its input.
  Matrix gradient(const Slot& slot) const;

  // `backward(ctx)` is called in the backward pass, after the closures of all later ops. It is kept in the
  // arena.
  template <typename Fn>
  void record(const Fn& backward) {
    static_assert(std::is_trivially_copyable_v<Fn>, "closures lie in the arena and are never destroyed");
    auto* copy = new (arena_.allocate_bytes(sizeof(Fn))) Fn(backward);
    entries_.push_back({[](void* fn, const Context& ctx) { (*static_cast<Fn*>(fn))(ctx); }, copy});
  }

  // Runs forward(), whose activations belong together: their gradients have memory only while the backward
  // pass is inside this segment. If `replayed`, the activations are released at once, and forward() runs
  // again in the backward pass, after `state` (which the segment reads and changes in place) has been
  // restored. Then one copy of the state is all that is kept of the segment.
  template <typename Fn>
  void segment(const Matrix& state, bool replayed, const Fn& forward) {
    static_assert(std::is_trivially_copyable_v<Fn>);
    if (!replayed) {
      const Mark mark = begin_segment();
      {
        const WorkspaceScope scope(*this);
        forward();
        pack_segment(mark);
      }
      end_segment(mark);
      return;
    }
    const State kept = keep_state(state);
    {
      const Arena::Scope scope(arena_);
      const Mark mark = begin_segment();
      forward();
      forget(mark);
    }
    record([this, state, kept, forward](const Context& ctx) {
      set_back(kept, state);
      const Arena::Scope scope(arena_);
      const Mark mark = begin_segment();
      forward();
      run_segment(ctx, mark, this->mark());
      forget(mark);
    });
  }

  // Calls the recorded closures, last one first: the closure that was recorded last sets the gradient that
  // the others carry on. Afterwards the tape is empty.
  void backward(const Context& ctx);
  void clear();
  // The largest number of bytes that gradients of activations have held since the last clear().
  int64_t peak_gradient_bytes() const { return peak_gradient_bytes_; }

 private:
  struct Mark {
    size_t entry, block, packed;
  };
  struct Entry {
    void (*call)(void* fn, const Context& ctx);  // null: the end of a segment
    void* fn;
    Mark begin{};  // of the segment that ends here
    Mark end{};
  };
  // An array of the workspace, and where it lies when it is packed.
  struct Packed {
    float* data;
    int64_t size;
    uint16_t* bits;
  };
  struct State {
    const float* values;  // exactly one of the two is set
    const uint16_t* bits;
  };
  struct Block {
    const float* data;
    int64_t size;
    float* gradient;
    bool in_segment;
  };

  // While one lives, activations go to the workspace, if there is one.
  class WorkspaceScope {
   public:
    explicit WorkspaceScope(Tape& tape);
    ~WorkspaceScope();

   private:
    Tape& tape_;
    std::optional<Arena::Scope> scope_;
  };

  Mark mark() const { return {entries_.size(), blocks_.size(), packed_.size()}; }
  float* allocate(int64_t n);
  void pack_segment(const Mark& begin);
  template <typename Fn>
  void by_pieces(int64_t n, const Fn& fn) const;
  Mark begin_segment();
  void end_segment(const Mark& mark);
  void forget(const Mark& mark);
  void run_segment(const Context& ctx, const Mark& begin, const Mark& end);
  void run_entries(const Context& ctx, size_t begin, size_t end);
  void give_gradient(Block& block);
  State keep_state(const Matrix& m);
  void set_back(const State& kept, const Matrix& m) const;

  Arena& arena_;
  ThreadPool& pool_;
  int depth_ = 0;  // segments being recorded
  int64_t gradient_bytes_ = 0, peak_gradient_bytes_ = 0;
  std::unordered_map<const void*, float*> parameters_;
  std::vector<Entry> entries_;
  std::vector<Block> blocks_;
  std::function<void(int64_t)> on_layer_, before_layer_;
  Packing packing_{};
  Arena* workspace_ = nullptr;
  std::optional<Arena::Scope> workspace_hold_;  // keeps its blocks in place until the backward pass
  bool in_workspace_ = false;
  std::vector<Packed> packed_;
};

}  // namespace sepllm
