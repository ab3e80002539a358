#include "text/corpus/input_form.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/log.h"

namespace sepllm {
namespace {

constexpr std::array kPackedEndings = {".gz",  ".gzip", ".zst", ".zstd", ".xz", ".bz2",
                                       ".lz4", ".lz",   ".z",   ".lzma", ".zip"};
constexpr std::array kJsonEndings = {".jsonl", ".ndjson", ".jsonlines", ".json"};

// Whether the name, without endings of packed files, has an ending of JSON lines, in any case.
bool has_json_name(std::string_view name) {
  const auto ends = [&](const char* ending) { return has_ending(name, ending); };
  for (;;) {
    const auto* packed = std::find_if(kPackedEndings.begin(), kPackedEndings.end(), ends);
    if (packed == kPackedEndings.end()) break;
    name.remove_suffix(std::string_view(*packed).size());
  }
  return std::any_of(kJsonEndings.begin(), kJsonEndings.end(), ends);
}

// The name of a program that writes the text of such a file to its standard output; empty if there is none.
std::string unpacker_of(FileKind kind) {
  switch (kind) {
    case FileKind::kGzip:
    case FileKind::kCompress:
      return "gzip -dc";
    case FileKind::kZstd:
      return "zstd -dc";
    case FileKind::kXz:
    case FileKind::kLzma:
      return "xz -dc";
    case FileKind::kBzip2:
      return "bzip2 -dc";
    case FileKind::kLz4:
      return "lz4 -dc";
    case FileKind::kLzip:
      return "lzip -dc";
    case FileKind::kSnappy:
      return "snzip -dc";
    case FileKind::kZip:
      return "unzip -p";
    case FileKind::kTar:
      return "tar -xOf";
    case FileKind::k7z:
      return "7z x -so";
    case FileKind::kRar:
      return "unrar p -inul";
    case FileKind::kUtf16:
      return "iconv -f UTF-16 -t UTF-8";
    case FileKind::kUtf32:
      return "iconv -f UTF-32 -t UTF-8";
    default:
      return "";
  }
}

std::string what_to_do(FileKind kind, const std::string& file, bool json) {
  const std::string unpacker = unpacker_of(kind);
  if (kind == FileKind::kGzip || kind == FileKind::kZstd)
    return "it is packed more than once: unpack it first";
  if (!unpacker.empty()) {
    return fmt::format("{} '{}' | sepllm prepare --format {} ... /dev/stdin", unpacker, file,
                       json ? "jsonl" : "text");
  }
  switch (kind) {
    case FileKind::kParquet:
      return fmt::format(
          "make JSON lines of it, e.g. in Python: pandas.read_parquet('{}').to_json('data.jsonl', "
          "orient='records', lines=True)",
          file);
    case FileKind::kArrow:
      return fmt::format(
          "make JSON lines of it, e.g. in Python: datasets.Dataset.from_file('{}').to_json('data.jsonl')",
          file);
    case FileKind::kAvro:
    case FileKind::kHdf5:
    case FileKind::kSqlite:
    case FileKind::kNumpy:
    case FileKind::kPickle:
      return "make JSON lines of it";
    case FileKind::kPdf:
      return fmt::format("pdftotext '{}' - | sepllm prepare --format text ... /dev/stdin", file);
    case FileKind::kOffice:
    case FileKind::kRtf:
      return "save it as plain text (UTF-8)";
    case FileKind::kTokenIndex:
      return "it belongs to data that is prepared already: `sepllm inspect data` shows it";
    default:
      return file_kind_remedy(kind);
  }
}

bool may_be_text(FileKind kind) {
  return kind == FileKind::kUnknown || kind == FileKind::kEmpty || kind == FileKind::kJson ||
         kind == FileKind::kHtml || kind == FileKind::kXml;
}

bool may_be_json(FileKind kind) {
  return kind == FileKind::kUnknown || kind == FileKind::kEmpty || kind == FileKind::kJson;
}

// Whether the bytes are all such as occur in plain text. Zeros are checked separately by the caller.
bool has_plain_letters(std::string_view start) {
  return std::all_of(start.begin(), start.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte >= 0x20 && byte < 0x7f) || c == '\n' || c == '\r' || c == '\t' || c == '\f';
  });
}

}  // namespace

InputForm input_form(const std::string& file, std::string_view start, DocumentFormat format) {
  const FileKind kind = file_kind(start);
  const bool json =
      format == DocumentFormat::kJsonLines || (format == DocumentFormat::kAuto && has_json_name(file));
  const bool is_meant = format == DocumentFormat::kText &&
                        (kind == FileKind::kZeros || has_plain_letters(start.substr(0, kFileKindBytes)));
  if (!is_meant && !(json ? may_be_json(kind) : may_be_text(kind))) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("this is {}, which is not read here", file_kind_name(kind)),
                {.file = file, .hint = what_to_do(kind, file, json)});
  }
  if (json) {
    if (start.starts_with("\xef\xbb\xbf")) start.remove_prefix(3);
    const size_t first = start.find_first_not_of(" \t\r\n");
    return first != std::string_view::npos && start[first] == '[' ? InputForm::kJsonArray
                                                                  : InputForm::kJsonLines;
  }
  if (format == DocumentFormat::kAuto && kind == FileKind::kJson) {
    log_warning(
        fmt::format("{}: looks like JSON and is read as plain text; {} jsonl takes the texts out of it", file,
                    option_name("format")));
  }
  if (format == DocumentFormat::kAuto && (kind == FileKind::kHtml || kind == FileKind::kXml)) {
    log_warning(fmt::format("{}: looks like {} and is read as plain text, with its marks; {}", file,
                            file_kind_name(kind), file_kind_remedy(kind)));
  }
  return InputForm::kText;
}

}  // namespace sepllm
