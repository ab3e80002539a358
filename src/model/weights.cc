#include "model/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "checkpoint/model_folder.h"
#include "kernels/formats/format.h"
#include "kernels/formats/panels.h"
#include "kernels/formats/rows.h"
#include "model/convert.h"
#include "model/tensor_list.h"

namespace sepllm {
namespace {

[[noreturn]] void fail_non_finite(const WeightStore& store, const std::string& name, int64_t index) {
  throw Error(ErrorCode::kBadFile, "a NaN or infinite weight",
              {.file = store.tensor(name).file, .place = fmt::format("{}, element {}", name, index)});
}

// Index of the first NaN or infinite element of `n`, or -1; `data` need not be aligned.
int64_t find_non_finite(DType type, const void* data, int64_t n) {
  constexpr int64_t kBlock = 1024;
  float block[kBlock];
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t count = std::min(kBlock, n - start);
    row_to_f32(type, static_cast<const char*>(data) + start * dtype_size(type), count, block);
    for (int64_t i = 0; i < count; ++i) {
      if (!std::isfinite(block[i])) return start + i;
    }
  }
  return -1;
}

Weight as_weight(const TensorView& view, bool transposed) {
  Weight w{.type = view.type, .data = view.data};
  w.n_out = view.shape[transposed ? 1 : 0];
  w.n_in = view.shape[transposed ? 0 : 1];
  w.row_stride = view.shape[1];
  w.transposed = transposed;
  return w;
}

// Fills the slots of a ModelWeights from its store.
class Loader {
 public:
  Loader(ModelWeights* weights, const ModelSpec& spec, const WeightOptions& options)
      : w_(*weights),
        blocks_(spec.blocks),
        options_(options),
        transposed_(spec.names.transposed_linears && !spec.blocks),
        row_orders_(spec.row_orders),
        norm_offset_(static_cast<float>(spec.stored_norm_offset)) {}

  void table(Weight& slot, const std::string& name, int64_t rows, int64_t columns) {
    if (&slot == &w_.position_embedding) return matrix(slot, name, rows, columns, {{}, {}, false});
    const auto of_table = [](std::optional<DType> t) { return t ? std::optional(table_type(*t)) : t; };
    matrix(slot, name, rows, columns, {of_table(blocks_), of_table(options_.type), false});
  }
  void linear(Linear& slot, const std::string& weight, const std::string& bias, int64_t n_out, int64_t n_in) {
    matrix(slot.weight, weight, n_out, n_in, {blocks_, options_.type, transposed_});
    slot.bias = vector(bias, n_out);
  }
  void norm(Norm& slot, const std::string& weight, const std::string& bias, int64_t n) {
    slot = {vector(weight, n, norm_offset_), vector(bias, n), n};
  }

  // Of all tensors, including those that finish() will make.
  const WeightMemory& memory() const { return memory_; }

  // Copies matrices that are not aligned and converts those whose type or layout is not the stored one, one
  // matrix at a time.
  void finish(int n_threads) {
    for (const Copy& c : copies_) *c.slot = as_weight(w_.store.take(c.name, c.shape), c.transposed);
    if (conversions_.empty()) return;
    ThreadPool pool(n_threads);
    SmallRows small;
    for (const Conversion& c : conversions_) {
      *c.slot = convert_matrix(c.from, c.type, pool, &w_.matrices, &small);
      w_.store.forget(c.from.name);
    }
    small.warn(w_.store.folder());
    if (!converted_.empty()) {
      log_info(fmt::format("{}: weights in {} are converted to {}; {} chooses another type",
                           w_.store.folder(), fmt::join(converted_, ", "), dtype_name(converted_to_),
                           option_name("weights")));
    }
  }

 private:
  struct Types {
    std::optional<DType> blocks, wanted;
    bool transposed;
  };
  struct Conversion {
    Weight* slot;
    StoredMatrix from;
    DType type;
  };
  struct Copy {
    Weight* slot;
    std::string name;
    std::vector<int64_t> shape;
    bool transposed;
  };

  // Kernels do not read f64, nor blocks that are only stored: f16 keeps more digits than these have.
  // (Matrices that are only copied keep their type.)
  DType usable(DType stored) const {
    if (options_.unaligned || is_weight_type(stored) || has_panels(stored)) return stored;
    return stored == DType::kF64 ? DType::kF32 : DType::kF16;
  }

  // Of a matrix in a GGUF file, each of which has a type of its own.
  void stored_matrix(Weight& slot, StoredMatrix from, std::optional<DType> wanted) {
    const StoredTensor& stored = w_.store.take_stored(from.name, {from.n_out, from.n_in});
    from.type = *stored.type;
    from.data = stored.data;
    from.file = stored.file;
    from.order = row_order(from.name);
    const DType type = wanted.value_or(usable(from.type));
    const bool is_usable = !is_block_type(type) && !from.order;
    if (type == from.type && (is_usable || options_.unaligned))
      return as_stored(slot, from.name, {type, stored.shape, stored.data}, false);
    if (!wanted && type != from.type) {
      converted_.insert(stored.dtype);
      converted_to_ = type;
    }
    convert(slot, std::move(from), type);
  }

  void convert(Weight& slot, StoredMatrix from, DType type) {
    slot.n_out = from.n_out;
    slot.n_in = from.n_in;
    memory_.owned += matrix_bytes(type, from.n_out, from.n_in);
    conversions_.push_back({&slot, std::move(from), type});
  }

  void matrix(Weight& slot, const std::string& name, int64_t n_out, int64_t n_in, const Types& types) {
    StoredMatrix from{.n_out = n_out, .n_in = n_in, .transposed = types.transposed, .name = name};
    if (w_.store.gguf() != nullptr) return stored_matrix(slot, std::move(from), types.wanted);
    if (types.blocks) {
      from.type = *types.blocks;
      from.data = w_.store.take_blocks(name, from.type, n_out, n_in);
    } else {
      const auto shape =
          types.transposed ? std::vector<int64_t>{n_in, n_out} : std::vector<int64_t>{n_out, n_in};
      const TensorView stored = w_.store.take_unaligned(name, shape);
      from.type = stored.type;
      from.data = stored.data;
      if (types.wanted.value_or(usable(stored.type)) == stored.type)
        return as_stored(slot, name, stored, types.transposed);
    }
    from.file = w_.store.tensor(name).file;
    const DType type = types.wanted.value_or(usable(from.type));
    convert(slot, std::move(from), type);
  }

  void as_stored(Weight& slot, const std::string& name, const TensorView& stored, bool transposed) {
    const int64_t bytes = w_.store.tensor(name).bytes;
    slot = as_weight(stored, transposed);
    if (options_.unaligned || stored.is_aligned()) {
      memory_.mapped += bytes;
    } else {
      memory_.owned += bytes;
      copies_.push_back({&slot, name, stored.shape, transposed});
    }
  }

  const float* vector(const std::string& name, int64_t n, float offset = 0) {
    if (name.empty()) return nullptr;
    const TensorView view = w_.store.take_unaligned(name, {n});
    if (const int64_t bad = find_non_finite(view.type, view.data, n); bad >= 0) {
      fail_non_finite(w_.store, name, bad);
    }
    w_.vectors.emplace_back(n * static_cast<int64_t>(sizeof(float)), "norms and biases");
    memory_.owned += w_.vectors.back().bytes();
    float* out = w_.vectors.back().as<float>();
    row_to_f32(view.type, view.data, n, out);
    for (int64_t k = 0; offset != 0 && k < n; ++k) out[k] -= offset;
    if (const RowOrder order = row_order(name)) {
      const std::vector<float> stored(out, out + n);
      for (int64_t k = 0; k < n; ++k) out[k] = stored[static_cast<size_t>((*order)[static_cast<size_t>(k)])];
    }
    return out;
  }

  RowOrder row_order(const std::string& name) const {
    const auto it = row_orders_.find(name);
    return it == row_orders_.end() ? nullptr : it->second;
  }

  ModelWeights& w_;
  std::optional<DType> blocks_;
  const WeightOptions& options_;
  bool transposed_;
  const std::map<std::string, RowOrder>& row_orders_;
  float norm_offset_;                // ModelSpec::stored_norm_offset
  std::set<std::string> converted_;  // the file's names of types that no kernel reads
  DType converted_to_ = DType::kF32;
  std::vector<Conversion> conversions_;
  std::vector<Copy> copies_;
  WeightMemory memory_;
};

// "3 tensors (a, b, c)", "1,000 tensors (a, b, c, ...)".
std::string listed(const std::vector<std::string>& names) {
  const auto shown = static_cast<std::ptrdiff_t>(std::min<size_t>(names.size(), 3));
  return fmt::format("{} tensor{} ({}{})", names.size(), names.size() == 1 ? "" : "s",
                     fmt::join(names.begin(), names.begin() + shown, ", "), names.size() > 3 ? ", ..." : "");
}

// Tensors that are ignored, as in transformers: the model does not compute with any of them.
void warn_of_spare_tensors(const WeightStore& store, const ModelSpec& spec) {
  std::vector<std::string> spare;
  for (const std::string& name : store.unused_names()) {
    // The dot stands for the start of a name without a prefix.
    const bool ignored =
        std::any_of(spec.ignored_suffixes.begin(), spec.ignored_suffixes.end(),
                    [&](const std::string& suffix) { return ("." + name).ends_with(suffix); }) ||
        std::any_of(spec.ignored_prefixes.begin(), spec.ignored_prefixes.end(),
                    [&](const std::string& prefix) { return name.starts_with(prefix); });
    if (!ignored) spare.push_back(name);
  }
  if (!spare.empty()) {
    log_warning(fmt::format("{}: {} that the model of config.json does not use: ignored", store.folder(),
                            listed(spare)));
  }
  if (!store.stale_names().empty()) {
    log_warning(fmt::format(
        "{}: the index names {} that its shards do not contain; the tensors that they do contain are used",
        store.folder(), listed(store.stale_names())));
  }
  if (has_adapter(store.folder())) {
    log_warning(
        fmt::format("{}: the adapter in the folder (adapter_config.json) is not applied", store.folder()));
  }
}

}  // namespace

DType table_type(DType type) {
  constexpr DType kTableBlocks = DType::kQ8_0;  // the one choice of a block type outside its own file
  const bool few_bits = is_weight_type(type) && is_block_type(type) && format_of(type).panel.bits < 8;
  return few_bits ? kTableBlocks : type;
}

ModelWeights load_weights(WeightStore store, const ModelSpec& spec, const StoredNames& names,
                          const WeightOptions& options) {
  ModelWeights weights(std::move(store));
  Loader loader(&weights, spec, options);
  visit_model(spec, names, &weights, loader);
  weights.store.ignore(names.head);  // of a tied model: the same numbers once more
  if (options.before_memory) options.before_memory(spec.config, loader.memory());
  warn_of_spare_tensors(weights.store, spec);
  loader.finish(options.n_threads);
  if (names.tied) weights.head.weight = weights.token_embedding;
  return weights;
}

ModelWeights load_weights(const std::string& folder, const ModelSpec& spec, const WeightOptions& options) {
  WeightStore store = WeightStore::open(folder);
  const StoredNames names = stored_names(store, spec);
  return load_weights(std::move(store), spec, names, options);
}

int64_t matrix_bytes(DType type, int64_t n_out, int64_t n_in) {
  return is_block_type(type) ? panels_bytes(type, n_out, n_in) : n_out * row_bytes(type, n_in);
}

void check_finite(const ModelWeights& weights) {
  const WeightStore& store = weights.store;
  const std::vector<std::string> unused = store.unused_names();  // sorted: ignored buffers
  for (const std::string& name : store.names()) {
    if (std::binary_search(unused.begin(), unused.end(), name)) continue;
    const StoredTensor& stored = store.tensor(name);
    if (!stored.type || is_block_type(*stored.type)) continue;  // blocks: take() let nothing else pass
    const int64_t bad = find_non_finite(*stored.type, stored.data, stored.bytes / dtype_size(*stored.type));
    if (bad >= 0) fail_non_finite(store, name, bad);
  }
}

namespace {

int64_t matrix_bytes(const Weight& w) {
  return w.data == nullptr ? 0 : matrix_bytes(w.type, w.n_out, w.n_in);
}

// The sum of matrix(Weight) and vector(number of elements) over everything that the model has; a tied head
// counts once.
template <typename Matrix, typename Vector>
int64_t sum_of_all(const ModelWeights& weights, const Matrix& matrix, const Vector& vector) {
  int64_t total = 0;
  const auto add_vector = [&](const float* v, int64_t n) { total += v == nullptr ? 0 : vector(n); };
  const auto add_matrix = [&](const Weight& w) { total += w.data == nullptr ? 0 : matrix(w); };
  for_each_tensor(Overloaded{[&](const Weight& w) { add_matrix(w); },
                             [&](const Norm& norm) {
                               add_vector(norm.weight, norm.n);
                               add_vector(norm.bias, norm.n);
                             },
                             [&](const Linear& linear) {
                               if (&linear == &weights.head && weights.tied()) return;
                               add_matrix(linear.weight);
                               add_vector(linear.bias, linear.weight.n_out);
                             }},
                  weights);
  return total;
}

}  // namespace

int64_t parameter_count(const ModelWeights& weights) {
  return sum_of_all(
      weights, [](const Weight& w) { return w.n_out * w.n_in; }, [](int64_t n) { return n; });
}

int64_t weight_bytes(const ModelWeights& weights) {
  return sum_of_all(
      weights, [](const Weight& w) { return matrix_bytes(w); },
      [](int64_t n) { return n * static_cast<int64_t>(sizeof(float)); });
}

WeightMemory weight_memory(const ModelWeights& weights) {
  WeightMemory out{.owned = weights.store.copied_bytes(), .mapped = 0};
  for (const Buffer& b : weights.matrices) out.owned += b.bytes();
  for (const Buffer& b : weights.vectors) out.owned += b.bytes();
  out.mapped = weight_bytes(weights) - out.owned;
  return out;
}

std::vector<Weight*> multiplied_matrices(ModelWeights* weights) {
  std::vector<Weight*> matrices;
  const auto add = [&](Linear& linear) {
    if (linear.weight.data != nullptr) matrices.push_back(&linear.weight);
  };
  for_each_tensor(Overloaded{add, [](Weight&) {}, [](Norm&) {}}, *weights);
  return matrices;
}

int64_t multiplied_bytes(const ModelWeights& weights) {
  return weight_bytes(weights) - matrix_bytes(weights.position_embedding) -
         (weights.tied() ? 0 : matrix_bytes(weights.token_embedding));
}

}  // namespace sepllm
