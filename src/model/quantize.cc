#include "model/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/weight_store.h"
#include "checkpoint/weight_writer.h"
#include "model/convert.h"
#include "model/tensor_list.h"
#include "model/weights.h"

namespace sepllm {
namespace {

namespace fs = std::filesystem;

// A matrix that the folder's type is meant for.
struct Matrix {
  int64_t n_out, n_in;
  bool transposed;
  DType type;  // the wanted type
};

// Collects these matrices by name; norms, biases and position embeddings do not change.
class Planner {
 public:
  Planner(ModelWeights* slots, DType type, bool transposed)
      : slots_(*slots), type_(type), transposed_(transposed) {}
  void table(Weight& slot, const std::string& name, int64_t rows, int64_t columns) {
    if (&slot != &slots_.position_embedding) matrices_[name] = {rows, columns, false, table_type(type_)};
  }
  void linear(Linear&, const std::string& name, const std::string&, int64_t n_out, int64_t n_in) {
    matrices_[name] = {n_out, n_in, transposed_, type_};
  }
  void norm(Norm&, const std::string&, const std::string&, int64_t) {}
  std::map<std::string, Matrix> take() { return std::move(matrices_); }

 private:
  ModelWeights& slots_;
  DType type_;
  bool transposed_;
  std::map<std::string, Matrix> matrices_;
};

class Quantizer {
 public:
  Quantizer(const ModelSpec& spec, const StoredNames& names, const WeightStore& store, DType type,
            const std::string& out, ThreadPool& pool)
      : store_(store), out_(out), pool_(pool) {
    ModelWeights slots;
    Planner planner(&slots, type, spec.names.transposed_linears);
    visit_model(spec, names, &slots, planner);
    matrices_ = planner.take();
    if (names.tied && names.head != names.token_embedding) left_out_ = names.head;
    report_.bytes_before = store_.total_bytes();
  }

  QuantizeReport run(const std::function<bool(int64_t, int64_t)>& progress) {
    progress_ = progress;
    std::map<std::string, std::vector<std::string>> files;  // the tensors in each file of the source
    for (const std::string& name : store_.names()) {
      if (name != left_out_) files[store_.tensor(name).file].push_back(name);
    }
    Json weight_map = Json::object();
    for (const auto& [path, names] : files) {
      const std::string file = fs::path(path).filename();
      write_file(file, names);
      for (const std::string& name : names) weight_map[name] = file;
    }
    if (files.size() > 1 || !file_exists(out_ + "/model.safetensors")) {
      const Json index = {{"metadata", {{"total_size", report_.bytes_after}}}, {"weight_map", weight_map}};
      write_file_atomically(out_ + "/model.safetensors.index.json", json_text(index, 1) + "\n");
    }
    small_.warn(store_.folder());
    return report_;
  }

 private:
  // The matrix of this name if its type is to change, else null.
  const Matrix* conversion(const std::string& name) const {
    const auto it = matrices_.find(name);
    if (it == matrices_.end() || store_.tensor(name).type == it->second.type) return nullptr;
    return &it->second;
  }

  void write_file(const std::string& file, const std::vector<std::string>& names) {
    std::vector<StoredTensor> tensors;
    for (const std::string& name : names) {
      StoredTensor t = store_.tensor(name);
      if (const Matrix* m = conversion(name)) {
        t.type = m->type;
        if (is_block_type(m->type)) t.shape = {m->n_out, m->n_in};
      }
      tensors.push_back(std::move(t));
    }
    WeightWriter writer(out_ + "/" + file, tensors);
    for (const std::string& name : writer.order()) write_tensor(writer, name);
    writer.commit();
  }

  void write_tensor(WeightWriter& writer, const std::string& name) {
    const StoredTensor& stored = store_.tensor(name);
    ++report_.n_tensors;
    if (const Matrix* m = conversion(name)) {
      const Buffer rows = convert_to_rows(source(stored, *m), m->type, pool_, &small_);
      writer.write(rows.data());
      ++report_.n_converted;
      if (is_block_type(m->type) && m->n_in % block_elements(m->type) != 0) ++report_.n_padded;
      report_.bytes_after += rows.bytes();
    } else {
      writer.write(stored.data);
      report_.bytes_after += stored.bytes;
    }
    store_.forget(name);
    done_ += stored.bytes;
    if (progress_ && !progress_(done_, report_.bytes_before))
      throw Error(ErrorCode::kInvalidArgument, "interrupted: nothing was written");
  }

  // Floats keep the order in which they are stored.
  static StoredMatrix source(const StoredTensor& stored, const Matrix& m) {
    StoredMatrix from{.type = *stored.type,
                      .data = stored.data,
                      .n_out = m.n_out,
                      .n_in = m.n_in,
                      .transposed = m.transposed,
                      .file = stored.file,
                      .name = stored.name};
    if (!m.transposed || is_block_type(m.type)) return from;
    std::swap(from.n_out, from.n_in);
    from.transposed = false;
    return from;
  }

  const WeightStore& store_;
  std::string out_;
  ThreadPool& pool_;
  std::string left_out_;  // the head that a tied model stores needlessly; empty: none
  std::map<std::string, Matrix> matrices_;
  std::function<bool(int64_t, int64_t)> progress_;
  QuantizeReport report_;
  SmallRows small_;
  int64_t done_ = 0;
};

// `tied` is set if the file contradicts config.json, so that the two agree in the new folder.
void write_config(const std::string& model, DType type, std::optional<bool> tied, const std::string& out) {
  const std::string path = model + "/config.json";
  Json config = read_json(path, uint64_t{16} << 20);
  if (tied) config["tie_word_embeddings"] = *tied;
  set_weight_type(&config, type);
  write_file_atomically(out + "/config.json", python_json_text(config, 1) + "\n");
}

// Files that belong to a model in addition to config and weights: tokenizers, generation settings, chat
// templates, licences.
bool is_companion(const std::string& name) {
  constexpr std::array kEndings = {".json", ".txt", ".model", ".jinja", ".tiktoken"};
  constexpr std::array kStarts = {"LICENSE", "LICENCE", "NOTICE", "USE_POLICY"};
  if (name == "config.json" || name.ends_with(".index.json") || name.starts_with(".")) return false;
  return name == "tokenizer.bin" ||
         std::any_of(kEndings.begin(), kEndings.end(), [&](const char* e) { return name.ends_with(e); }) ||
         std::any_of(kStarts.begin(), kStarts.end(), [&](const char* s) { return name.starts_with(s); });
}

void copy_companions(const std::string& model, const std::string& out) {
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(model, code)) {
    const std::string name = entry.path().filename();
    if (!entry.is_regular_file(code) || !is_companion(name))
      continue;  // also links to files, as HF's cache has
    write_file_atomically(out + "/" + name, read_file(entry.path()));
  }
  if (code) throw Error(ErrorCode::kIo, "cannot read the folder: " + code.message(), {.file = model});
}

}  // namespace

void set_weight_type(Json* config, DType type) {
  if (is_block_type(type)) {
    (*config)["quantization_config"] = {
        {"quant_method", "sepllm"}, {"type", dtype_name(type)}, {"block_size", block_elements(type)}};
    return;
  }
  const char* name = type == DType::kF32 ? "float32" : type == DType::kF16 ? "float16" : "bfloat16";
  (*config)[config->contains("dtype") ? "dtype" : "torch_dtype"] = name;
}

QuantizeReport quantize_model(const std::string& model, DType type, const std::string& out, ThreadPool& pool,
                              const std::function<bool(int64_t, int64_t)>& progress) {
  check_model_folder(model);
  const ModelSpec spec = read_model_spec(model);
  if (spec.blocks) {
    throw Error(ErrorCode::kInvalidArgument, "the model is quantised already",
                {.file = model, .got = dtype_name(*spec.blocks), .hint = "start from the original weights"});
  }
  AtomicFolder folder(out);
  WeightStore store = WeightStore::open(model);
  const StoredNames names = stored_names(store, spec);
  const ModelWeights weights = load_weights(std::move(store), spec, names, {.unaligned = true});
  const QuantizeReport report =
      Quantizer(spec, names, weights.store, type, folder.path(), pool).run(progress);
  const bool differs = names.tied != spec.config.tied_embeddings;
  write_config(model, type, differs ? std::optional(names.tied) : std::nullopt, folder.path());
  copy_companions(model, folder.path());
  folder.commit();
  return report;
}

}  // namespace sepllm
