#include "train/parameters.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "base/sign_of_life.h"
#include "checkpoint/gguf.h"
#include "checkpoint/weight_store.h"
#include "kernels/formats/rows.h"
#include "model/stored_rows.h"
#include "model/tensor_list.h"

namespace sepllm {
namespace {

// Calls fn(name, shape, decays) for each tensor in order; fn returns the place of the values, which becomes
// the slot of a ModelWeights.
template <typename Fn>
class Visitor {
 public:
  // `type`: the type of matrices.
  Visitor(const ModelSpec& spec, DType type, Fn fn) : spec_(spec), type_(type), fn_(std::move(fn)) {}

  void table(Weight& slot, const std::string& name, int64_t rows, int64_t columns) {
    slot = matrix(place(name, {rows, columns}, true), rows, columns, false);
  }
  void linear(Linear& slot, const std::string& weight, const std::string& bias, int64_t n_out, int64_t n_in) {
    const bool transposed = spec_.names.transposed_linears;
    const auto shape = transposed ? std::vector<int64_t>{n_in, n_out} : std::vector<int64_t>{n_out, n_in};
    slot.weight = matrix(place(weight, shape, true), n_out, n_in, transposed);
    slot.bias = vector(bias, n_out);
  }
  void norm(Norm& slot, const std::string& weight, const std::string& bias, int64_t n) {
    slot = {vector(weight, n), vector(bias, n), n};
  }
  void begin_layer(int64_t) { layer_begins_.push_back(n_tensors_); }
  // How many tensors lie before each layer and, at last, before what follows them.
  const std::vector<size_t>& layer_begins() const { return layer_begins_; }

 private:
  Weight matrix(const void* data, int64_t n_out, int64_t n_in, bool transposed) const {
    return {.type = type_,
            .data = data,
            .n_out = n_out,
            .n_in = n_in,
            .row_stride = transposed ? n_out : n_in,
            .transposed = transposed};
  }
  const float* vector(const std::string& name, int64_t n) {
    return name.empty() ? nullptr : static_cast<const float*>(place(name, {n}, false));
  }
  const void* place(const std::string& name, const std::vector<int64_t>& shape, bool decays) {
    ++n_tensors_;
    return fn_(name, shape, decays);
  }

  const ModelSpec& spec_;
  DType type_;
  Fn fn_;
  size_t n_tensors_ = 0;
  std::vector<size_t> layer_begins_;
};

// Returns Visitor::layer_begins().
template <typename Fn>
std::vector<size_t> visit(const ModelSpec& spec, DType type, ModelWeights* weights, const Fn& fn) {
  Visitor<Fn> visitor(spec, type, fn);
  visit_model(spec, usual_names(spec), weights, visitor);
  if (spec.config.tied_embeddings) weights->head.weight = weights->token_embedding;
  return visitor.layer_begins();
}

}  // namespace

Parameters::Parameters(const ModelSpec& spec, Memory memory) : spec_(spec), memory_(memory) {
  spec_.blocks.reset();
  ModelWeights unused;
  const std::vector<size_t> begins =
      visit(spec_, DType::kF32, &unused,
            [this](const std::string& name, std::vector<int64_t> shape, bool decays) -> const void* {
              constexpr int64_t kAlignment = 16;  // elements: 64 bytes
              int64_t n = 1;
              for (const int64_t d : shape) n *= d;
              list_.push_back({name, std::move(shape), size_, n, decays});
              size_ += (n + kAlignment - 1) / kAlignment * kAlignment;
              return nullptr;
            });
  for (const size_t k : begins) layer_begins_.push_back(list_[k].offset);
  buffer_ = Buffer(size_ * static_cast<int64_t>(sizeof(float)), "the parameters", memory);
}

std::set<std::string> gate_names(const ModelSpec& spec) {
  std::set<std::string> names;
  for (size_t l = 0; l < spec.names.layers.size(); ++l) {
    if (spec.config.layers[l].nsa_gates) names.insert(spec.prefix + spec.names.layers[l].gates.weight());
  }
  return names;
}

int64_t Parameters::count() const {
  int64_t n = 0;
  for (const ParameterInfo& p : list_) n += p.size;
  return n;
}

namespace {

bool has_gates(const std::string& folder) {
  const HeldWarnings said;  // by those who read the config first
  return read_model_spec(folder).config.has_nsa_gates();
}

}  // namespace

ModelWeights Parameters::open_weights(const std::string& folder, const ModelSpec& spec) {
  if (spec.blocks) {
    throw Error(ErrorCode::kUnsupported, "quantised weights cannot be trained",
                {.file = folder, .hint = "start from the checkpoint that they were made from"});
  }
  // A model that has no gates yet gets them.
  if (!is_gguf_file(folder))  // checks every tensor
    return load_weights(folder, has_gates(folder) ? spec : without_nsa_gates(spec));
  return load_weights(folder, read_model_spec(folder), {.unaligned = true});
}

namespace {

// From a file of other names, types and orders than the family's.
void load_converted(const std::string& file, const ModelWeights& weights, const ModelSpec& spec,
                    const std::function<float*(const std::string&)>& place) {
  const ModelSpec stored_spec = read_model_spec(file);
  const auto from = list_tensors(stored_spec, stored_names(weights.store, stored_spec));
  const ModelSpec own = without_nsa_gates(spec);  // GGUF files have none
  const auto to = list_tensors(own, usual_names(own));
  SEPLLM_CHECK(from.size() == to.size());
  ThreadPool pool(1);
  for (size_t k = 0; k < from.size(); ++k) {
    sign_of_life();
    const StoredMatrix matrix = stored_matrix(weights.store, from[k], stored_spec.blocks);
    const Buffer rows = moved_rows(matrix, from[k], to[k], DType::kF32, pool);
    std::copy_n(rows.as<float>(), to[k].n_out * to[k].n_in, place(to[k].name));
    weights.store.forget(from[k].name);
  }
}

}  // namespace

void Parameters::load(const std::string& folder, const ModelSpec& spec) {
  const ModelWeights weights = open_weights(folder, spec);
  const WeightStore& store = weights.store;
  const std::set<std::string> gates = gate_names(spec);
  for (const ParameterInfo& p : list_) {
    if (gates.contains(p.name)) std::fill_n(values(p), p.size, 0.0F);
  }
  if (store.gguf() != nullptr) {
    return load_converted(folder, weights, spec, [this](const std::string& name) {
      const auto p = std::find_if(list_.begin(), list_.end(), [&](const auto& p) { return p.name == name; });
      SEPLLM_CHECK(p != list_.end());
      return values(*p);
    });
  }
  const bool gates_are_stored = has_gates(folder);
  const StoredNames usual = usual_names(spec), stored = stored_names(store, spec);
  SEPLLM_CHECK(stored.tied == usual.tied);
  for (const ParameterInfo& p : list_) {
    if (gates.contains(p.name) && !gates_are_stored) continue;
    const std::string name = p.name == usual.head ? stored.head
                             : p.name == usual.token_embedding
                                 ? stored.token_embedding
                                 : stored.prefix + p.name.substr(spec.prefix.size());
    const StoredTensor& stored_tensor = store.tensor(name);
    const auto type = stored_tensor.type;
    SEPLLM_CHECK(type && stored_tensor.bytes == p.size * dtype_size(*type));
    constexpr int64_t kPiece = int64_t{1} << 20;
    for (int64_t from = 0; from < p.size; from += kPiece) {
      sign_of_life();
      row_to_f32(*type, stored_tensor.data + from * dtype_size(*type), std::min(kPiece, p.size - from),
                 values(p) + from);
    }
    store.forget(name);  // releases its pages: the file need not be in memory in addition to its copy
  }
}

void Parameters::set_storage(DType type) {
  SEPLLM_CHECK(type == DType::kF32 || type == DType::kBF16);
  rounded_ = type == DType::kF32 ? Buffer() : Buffer(size_ * 2, "the weights in bf16", memory_);
  rounded_until_ = 0;
}

void Parameters::refresh(ThreadPool& pool, int64_t end) {
  if (rounded_.bytes() == 0 || rounded_until_ >= end) return;
  constexpr int64_t kPiece = 64 * 1024;
  const float* from = buffer_.as<float>();
  auto* to = rounded_.as<uint16_t>();
  const int64_t first = rounded_until_;
  pool.parallel_for((end - first + kPiece - 1) / kPiece, [&](int64_t piece, int) {
    const int64_t begin = first + piece * kPiece;
    row_from_f32(DType::kBF16, from + begin, std::min(kPiece, end - begin), to + begin);
  });
  rounded_until_ = end;
}

const void* Parameters::view(const ParameterInfo& p) const {
  if (rounded_.bytes() == 0 || p.shape.size() != 2) return data() + p.offset;
  return rounded_.as<uint16_t>() + p.offset;
}

ModelWeights Parameters::views() const {
  ModelWeights weights;
  size_t next = 0;
  visit(spec_, rounded_.bytes() == 0 ? DType::kF32 : DType::kBF16, &weights,
        [&](const std::string&, const std::vector<int64_t>&, bool) { return view(list_[next++]); });
  return weights;
}

void Parameters::name_gradients(Tape& tape, float* gradients) const {
  for (const ParameterInfo& p : list_) tape.set_parameter(view(p), gradients + p.offset);
}

}  // namespace sepllm
