#include "apps/shell/common.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "model/shapes.h"

namespace sepllm {

std::optional<DType> weight_type(const std::string& name) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0}) {
    if (name == dtype_name(type)) return type;
  }
  return std::nullopt;
}

void CommonOptions::declare(OptionSet* options, bool runs_model) {
  options->add_string("model", &model, "folder of the model: config.json, safetensors, tokenizer", "DIR");
  options->add_string("tokenizer", &tokenizer,
                      "tokenizer file or folder, where it is not in the model's folder", "FILE");
  options->add_flag("json", &json, "one JSON value on standard output and nothing else");
  if (!runs_model) return;
  options->add_choice("shape", &shape, shape_names(),
                      "instead of --model: a model of this shape with random weights, to measure speed");
  options->add_int("threads", &threads, 1, 1024, "threads (default: all cores)");
  options->add_choice("attention-impl", &attention, {"simd", "reference"},
                      "attention kernel: the fast one, or the plain one to compare with");
  options->add_flag("exact", &exact,
                    "multiply 8- and 4-bit weights as f32, without rounding activations to 8 bits");
  options->add_choice("weights", &weights, {"native", "f32", "f16", "bf16", "q8_0", "q4_0"},
                      "type in which weights are multiplied; native: as stored, or bf16 of a --shape; q4_0: "
                      "the token embedding and the head have q8_0");
}

int CommonOptions::n_threads() const {
  return threads > 0 ? static_cast<int>(threads) : ThreadPool::default_size();
}

Model CommonOptions::load() const {
  if (model.empty() == shape.empty()) {
    throw Error(ErrorCode::kInvalidArgument, model.empty() ? "no model given" : "--model and --shape given",
                {.expected = "--model DIR"});
  }
  const WeightOptions options{.type = weight_type(weights), .n_threads = n_threads()};
  return model.empty() ? make_shape_model(shape, tokenizer, options) : load_model(model, tokenizer, options);
}

Runtime::Runtime(const CommonOptions& options)
    : pool_(options.n_threads()),
      attention_(options.attention == "reference" ? AttentionImpl::kReference : AttentionImpl::kSimd),
      block_products_(options.exact ? BlockProducts::kExact : BlockProducts::kInteger) {}

Context Runtime::context() {
  return {.pool = pool_, .arena = arena_, .attention = attention_, .block_products = block_products_};
}

void PolicyOptions::finish(const Model& model) {
  finish_policy_options(&options, &settings, model.config().policy, model.folder + "/config.json");
  settings.policy.validate_layers(model.config().n_layers);
}

void declare_bos_option(OptionSet* options, std::string* bos) {
  options->add_choice("bos", bos, {"auto", "on", "off"},
                      "begin with the BOS token; auto: iff the tokenizer's files say so");
}

void check_ids(const std::vector<int32_t>& ids, int64_t vocab_size, const std::string& source,
               int64_t first) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    throw Error(ErrorCode::kOutOfRange, "token id outside the vocabulary",
                {.file = source,
                 .place = fmt::format("position {}", first + static_cast<int64_t>(i)),
                 .expected = fmt::format("an id from 0 to {}", vocab_size - 1),
                 .got = std::to_string(ids[i])});
  }
}

std::vector<int32_t> parse_ids(const std::string& text, const std::string& source, int64_t first) {
  const std::string blanks = ", \t\r\n";
  std::vector<int32_t> ids;
  size_t at = text.find_first_not_of(blanks);
  while (at != std::string::npos) {
    const size_t end = std::min(text.find_first_of(blanks, at), text.size());
    int32_t id = 0;
    const auto [stop, code] = std::from_chars(text.data() + at, text.data() + end, id);
    if (code != std::errc() || stop != text.data() + end) {
      throw Error(ErrorCode::kInvalidArgument, "not a token id",
                  {.file = source,
                   .place = fmt::format("position {}", first + static_cast<int64_t>(ids.size())),
                   .expected = "integers separated by commas or blanks",
                   .got = "'" + text.substr(at, end - at) + "'"});
    }
    ids.push_back(id);
    at = text.find_first_not_of(blanks, end);
  }
  return ids;
}

std::string read_text(const std::string& path) {
  std::string text = read_file(path);
  if (const auto bad = utf8_find_invalid(text)) {
    throw Error(ErrorCode::kInvalidArgument, "invalid UTF-8",
                {.file = path, .place = fmt::format("byte {}", *bad)});
  }
  return text;
}

std::optional<std::string> repository_file(const std::string& name) {
  for (std::filesystem::path at = program_folder(); at.has_relative_path(); at = at.parent_path()) {
    if (file_exists(at / name)) return at / name;
  }
  return std::nullopt;
}

std::optional<int32_t> bos_of(const Model& model) {
  if (model.tokenizer != nullptr && model.tokenizer->bos_id()) return model.tokenizer->bos_id();
  return model.config().bos_token_id;
}

std::string human_bytes(int64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, units[unit]);
}

std::string kv_figures(const KvStats& kv) {
  const double share = kv.full_bytes > 0
                           ? 100.0 * static_cast<double>(kv.peak_bytes) / static_cast<double>(kv.full_bytes)
                           : 100.0;
  return fmt::format("keys: mean {:.1f}, peak {} | KV: {} at the peak, {:.0f} % of full", kv.mean_keys(),
                     kv.peak_keys, human_bytes(kv.peak_bytes), share);
}

int64_t kv_bytes_held(const KvCache& cache) {
  int64_t slots = 0;
  for (int64_t layer = 0; layer < cache.layout().n_layers; ++layer) slots += cache.n_slots(layer);
  return slots * 2 * cache.layout().n_kv_heads * cache.row_bytes();
}

int64_t peak_rss_bytes() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

int64_t rss_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

}  // namespace sepllm
