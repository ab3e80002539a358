#include "engine/model_files.h"

#include <cstdint>
#include <string>

#include "base/file.h"
#include "base/file_kind.h"
#include "model/config.h"
#include "text/formats/gguf_tokenizer_fields.h"
#include "text/tokenizer.h"

namespace sepllm {

QuantizeReport write_folder_of(const std::string& model, const CopyOptions& options, const std::string& out,
                               ThreadPool& pool) {
  AtomicFolder folder(out);
  const QuantizeReport report = copy_model_to_folder(model, options, folder.path(), pool);
  for (const StoredTokenizerFile& file : tokenizer_files(model))
    write_file_atomically(folder.path() + "/" + file.name, file.read());
  folder.commit();
  return report;
}

QuantizeReport write_gguf_of(const std::string& model, const CopyOptions& options,
                             const std::string& tokenizer, const std::string& out, ThreadPool& pool) {
  const std::string& source = tokenizer.empty() ? model : tokenizer;
  const int64_t n_tokens = read_model_spec(model).config.vocab_size;
  return copy_model_to_gguf(model, options, gguf_tokenizer_fields(source, n_tokens), out, pool);
}

bool is_gguf_name(const std::string& path) { return has_ending(path, ".gguf"); }

}  // namespace sepllm
