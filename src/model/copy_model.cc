#include "model/copy_model.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoint/gguf.h"
#include "checkpoint/weight_writer.h"
#include "model/gguf/spec.h"
#include "model/gguf/write.h"
#include "model/stored_rows.h"
#include "model/weights.h"

namespace sepllm {
namespace {

using Kind = ModelTensor::Kind;

// A model to be read, all of whose tensors have been found and checked.
struct Source {
  explicit Source(const std::string& model)
      : config(text_model_config(read_config_json(model), config_path(model))), spec(read_model_spec(model)) {
    WeightStore opened = WeightStore::open(model);
    names = stored_names(opened, spec);
    weights = load_weights(std::move(opened), spec, names, {.unaligned = true});
    tensors = list_tensors(spec, names);
    config["tie_word_embeddings"] = names.tied;
    config.erase("quantization_config");
  }

  const WeightStore& store() const { return weights.store; }
  StoredMatrix matrix(size_t k) const { return stored_matrix(store(), tensors[k], spec.blocks); }

  Json config;
  ModelSpec spec;
  StoredNames names;
  ModelWeights weights;
  std::vector<ModelTensor> tensors;
};

// The list of the same model's tensors under other names.
std::vector<ModelTensor> list_targets(const Source& source, const ModelSpec& spec) {
  StoredNames names = usual_names(spec);
  names.tied = source.names.tied;
  std::vector<ModelTensor> targets = list_tensors(spec, names);
  SEPLLM_CHECK(targets.size() == source.tensors.size());
  return targets;
}

StoredTensor as_entry(const ModelTensor& t, DType type) {
  StoredTensor out{.name = t.name, .type = type, .shape = {t.n_out, t.n_in}};
  if (t.kind == Kind::kVector) out.shape = {t.n_out};
  if (t.transposed && !is_block_type(type)) std::swap(out.shape[0], out.shape[1]);
  return out;
}

// Converts a model's tensors one by one.
class Copier {
 public:
  Copier(const Source& source, const std::vector<ModelTensor>& targets, const CopyOptions& options,
         ThreadPool& pool)
      : source_(source), targets_(targets), options_(options), pool_(pool) {
    for (size_t k = 0; k < targets.size(); ++k) at_.emplace(targets[k].name, k);
    report_.bytes_before = source.store().total_bytes();
  }

  // `types` are those of the targets; Writer: WeightWriter or GgufWriter.
  template <typename Writer>
  QuantizeReport run(Writer& writer, const std::vector<std::string>& order, const std::vector<DType>& types) {
    for (const std::string& name : order) {
      const size_t k = at_.at(name);
      const StoredMatrix from = source_.matrix(k);
      const Buffer rows = moved_rows(from, source_.tensors[k], targets_[k], types[k], pool_, &small_);
      writer.write(rows.data());
      count(k, from.type, types[k], rows.bytes());
    }
    writer.commit();
    small_.warn(source_.store().folder());
    return report_;
  }

 private:
  void count(size_t k, DType from, DType to, int64_t bytes) {
    const std::string& name = source_.tensors[k].name;
    ++report_.n_tensors;
    if (from != to) ++report_.n_converted;
    if (is_block_type(to) && targets_[k].n_in % block_elements(to) != 0) ++report_.n_padded;
    report_.bytes_after += bytes;
    done_ += source_.store().tensor(name).bytes;
    source_.store().forget(name);
    if (options_.progress && !options_.progress(done_, report_.bytes_before))
      throw Error(ErrorCode::kInvalidArgument, "interrupted: nothing was written");
  }

  const Source& source_;
  const std::vector<ModelTensor>& targets_;
  const CopyOptions& options_;
  ThreadPool& pool_;
  std::map<std::string, size_t> at_;
  QuantizeReport report_;
  SmallRows small_;
  int64_t done_ = 0;
};

// The type of a tensor where a wanted one is given.
DType wanted_type(const ModelTensor& t, DType stored, DType wanted) {
  if (t.kind == Kind::kLinear) return wanted;
  if (t.kind == Kind::kTable) return table_type(wanted);
  return is_block_type(stored) || stored == DType::kF64 ? DType::kF32 : stored;
}

DType type_in_folder(const ModelTensor& t, DType stored, std::optional<DType> wanted) {
  if (wanted) return wanted_type(t, stored, *wanted);
  return is_block_type(stored) || stored == DType::kF64 ? DType::kF32 : stored;
}

DType type_in_gguf(const ModelTensor& t, DType stored, std::optional<DType> wanted) {
  if (t.kind == Kind::kVector || t.kind == Kind::kPositions) return DType::kF32;
  DType type = wanted ? wanted_type(t, stored, *wanted) : stored;
  if (type == DType::kF64 || !gguf_has_type(type)) type = DType::kF32;
  return t.n_in % block_elements(type) == 0 ? type : DType::kF16;
}

template <typename Choose>
std::vector<DType> choose_types(const Source& source, std::optional<DType> wanted, const Choose& choose) {
  std::vector<DType> types;
  for (size_t k = 0; k < source.tensors.size(); ++k)
    types.push_back(choose(source.tensors[k], source.matrix(k).type, wanted));
  return types;
}

// The type of the first of them.
DType type_of_linears(const Source& source, const std::vector<DType>& types) {
  size_t k = 0;
  while (source.tensors[k].kind != Kind::kLinear) ++k;
  return types[k];
}

std::vector<StoredTensor> entries(const std::vector<ModelTensor>& targets, const std::vector<DType>& types) {
  std::vector<StoredTensor> out;
  for (size_t k = 0; k < targets.size(); ++k) out.push_back(as_entry(targets[k], types[k]));
  return out;
}

}  // namespace

QuantizeReport copy_model_to_folder(const std::string& model, const CopyOptions& options,
                                    const std::string& folder, ThreadPool& pool) {
  const Source source(model);
  const std::vector<DType> types = choose_types(source, options.type, type_in_folder);
  Json config = source.config;
  set_weight_type(&config, options.type.value_or(type_of_linears(source, types)));
  const std::vector<ModelTensor> targets = list_targets(source, parse_model_spec(config, model));
  WeightWriter writer(folder + "/model.safetensors", entries(targets, types));
  const QuantizeReport report = Copier(source, targets, options, pool).run(writer, writer.order(), types);
  write_file_atomically(folder + "/config.json", python_json_text(config, 1) + "\n");
  return report;
}

QuantizeReport copy_model_to_gguf(const std::string& model, const CopyOptions& options,
                                  const GgufFields& fields, const std::string& out, ThreadPool& pool) {
  const Source source(model);
  GgufModel target = gguf_model(parse_model_spec(source.config, model), source.config, model);
  const std::vector<ModelTensor> targets = list_targets(source, target.spec);
  const std::vector<DType> types = choose_types(source, options.type, type_in_gguf);
  target.fields.add(fields);
  std::vector<StoredTensor> tensors;
  for (const GgufExtraTensor& extra : target.extra) {
    tensors.push_back(
        {.name = extra.name, .type = DType::kF32, .shape = {static_cast<int64_t>(extra.values.size())}});
  }
  for (StoredTensor& entry : entries(targets, types)) tensors.push_back(std::move(entry));
  GgufWriter writer(out, target.fields, tensors);
  for (const GgufExtraTensor& extra : target.extra) writer.write(extra.values.data());
  std::vector<std::string> order;
  for (const ModelTensor& t : targets) order.push_back(t.name);
  return Copier(source, targets, options, pool).run(writer, order, types);
}

}  // namespace sepllm
