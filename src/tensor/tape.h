// What a forward pass writes down so that gradients can flow back through it: for each op one closure, and
// where the gradients of activations and parameters lie. Everything lives in the arena of the pass.
#pragma once

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
  // A part of an activation, whose gradient has memory only while its segment runs backward.
  struct Slot {
    int64_t block = -1;
    int64_t offset = 0;  // elements
    int64_t n_rows = 0, n_cols = 0, stride = 0;
  };

  // `arena` is that of the contexts that ops are called with; `pool` clears gradients.
  Tape(Arena& arena, ThreadPool& pool) : arena_(arena), pool_(pool) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // The gradient of the parameter that begins at `value` (a matrix as it is stored, or a vector), f32 in the
  // parameter's layout without gaps, is added to what `gradient` holds. Two parameters in one place (a tied
  // head) share it.
  void set_parameter(const void* value, float* gradient) { parameters_[value] = gradient; }
  // Null: frozen.
  float* parameter(const void* value) const;

  // Called in the backward pass for what a forward pass has marked, when all that comes after the mark is
  // done: the gradients of its parameters are final.
  void set_on_layer(std::function<void(int64_t layer)> fn) { on_layer_ = std::move(fn); }
  void mark_layer(int64_t layer) {
    if (on_layer_) record([this, layer](const Context&) { on_layer_(layer); });
  }

  // How floats are packed into 16 bits and unpacked: any n.
  struct Packing {
    void (*pack)(const float* from, int64_t n, uint16_t* to);
    void (*unpack)(const uint16_t* from, int64_t n, float* to);
  };
  // From now on what segments keep is packed into half the memory: they compute in f32, in `workspace`, which
  // holds one of them at a time; when one ends it is packed, and unpacked to the same place for its backward.
  // The state that a replayed segment keeps is packed as well. Nullptr: no more.
  void set_packing(const Packing& packing, Arena* workspace);

  // f32 memory for an activation [n_rows, n_cols] (uninitialised) that gets a gradient in the backward pass.
  Matrix activation(int64_t n_rows, int64_t n_cols);
  // The same without a gradient: for what a backward closure will read.
  Matrix keep(int64_t n_rows, int64_t n_cols);
  // The gradient of (a part of) an activation of this pass.
  Slot slot(const Matrix& part) const;
  // Where that gradient lies now; only inside a backward closure. At first it is zero: closures add to it,
  // and turn the gradient of what an op made in place into that of what had been there.
  Matrix gradient(const Slot& slot) const;

  // `backward(ctx)` is called in the backward pass, after those of all later ops. It is kept in the arena.
  template <typename Fn>
  void record(const Fn& backward) {
    static_assert(std::is_trivially_copyable_v<Fn>, "closures lie in the arena and are never destroyed");
    auto* copy = new (arena_.allocate_bytes(sizeof(Fn))) Fn(backward);
    entries_.push_back({[](void* fn, const Context& ctx) { (*static_cast<Fn*>(fn))(ctx); }, copy});
  }

  // Runs forward(), whose activations belong together: their gradients have memory only while the backward
  // pass is inside. Where `replayed`, the activations are released at once, and forward() runs once more in
  // the backward pass, after `state` (which the segment reads and changes in place) has been set back: one
  // copy of the state is all that is kept of the segment.
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

  // Calls what was recorded, last first: the closure that was recorded last sets the gradient that the others
  // carry on. The tape is empty then.
  void backward(const Context& ctx);
  void clear();
  // The most that gradients of activations have held since the last clear().
  int64_t peak_gradient_bytes() const { return peak_gradient_bytes_; }

 private:
  struct Mark {
    size_t entry, block, packed;
  };
  struct Entry {
    void (*call)(void* fn, const Context& ctx);  // null: the end of a segment
    void* fn;
    Mark begin{};  // of that segment
    Mark end{};
  };
  // An array of the workspace, and where it lies packed.
  struct Packed {
    float* data;
    int64_t size;
    uint16_t* bits;
  };
  struct State {
    const float* values;  // one of the two
    const uint16_t* bits;
  };
  struct Block {
    const float* data;
    int64_t size;
    float* gradient;
    bool in_segment;
  };

  // While one lives activations go to the workspace, if there is one.
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
  int depth_ = 0;  // of segments being recorded
  int64_t gradient_bytes_ = 0, peak_gradient_bytes_ = 0;
  std::unordered_map<const void*, float*> parameters_;
  std::vector<Entry> entries_;
  std::vector<Block> blocks_;
  std::function<void(int64_t)> on_layer_;
  Packing packing_{};
  Arena* workspace_ = nullptr;
  std::optional<Arena::Scope> workspace_hold_;  // its blocks stay where they are until the backward pass
  bool in_workspace_ = false;
  std::vector<Packed> packed_;
};

}  // namespace sepllm
