#include "base/file_kind.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"

namespace sepllm {
namespace {

using std::string_view_literals::operator""sv;

struct Magic {
  FileKind kind;
  std::string_view bytes;
  size_t offset = 0;
};

// The bytes that files of a kind begin with, from the specifications of the formats. Those that are only
// ASCII letters (and could begin a text) are long, or are checked further below.
constexpr std::array kMagics = {
    Magic{FileKind::kGzip, "\x1f\x8b"sv},
    Magic{FileKind::kZstd, "\x28\xb5\x2f\xfd"sv},
    Magic{FileKind::kXz, "\xfd\x37zXZ\0"sv},
    Magic{FileKind::kLz4, "\x04\x22\x4d\x18"sv},
    Magic{FileKind::kLz4, "\x02\x21\x4c\x18"sv},  // the legacy frame
    Magic{FileKind::kLzip, "LZIP\1"sv},
    Magic{FileKind::kLzma, "\x5d\0\0"sv},
    Magic{FileKind::kCompress, "\x1f\x9d"sv},
    Magic{FileKind::kSnappy, "\xff\x06\0\0sNaPpY"sv},
    Magic{FileKind::kZip, "PK\3\4"sv},
    Magic{FileKind::kZip, "PK\5\6"sv},  // without files
    Magic{FileKind::kZip, "PK\7\10"sv},
    Magic{FileKind::kTar, "ustar"sv, 257},
    Magic{FileKind::k7z, "7z\xbc\xaf\x27\x1c"sv},
    Magic{FileKind::kRar, "Rar!\x1a\x07"sv},
    Magic{FileKind::kParquet, "PAR1"sv},
    Magic{FileKind::kParquet, "PARE"sv},  // encrypted
    Magic{FileKind::kArrow, "ARROW1"sv},
    Magic{FileKind::kArrow, "FEA1"sv},
    Magic{FileKind::kArrow, "\xff\xff\xff\xff"sv},  // a stream, as Hugging Face's datasets write it
    Magic{FileKind::kAvro, "Obj\1"sv},
    Magic{FileKind::kHdf5, "\x89HDF\r\n\x1a\n"sv},
    Magic{FileKind::kSqlite, "SQLite format 3\0"sv},
    Magic{FileKind::kNumpy, "\x93NUMPY"sv},
    Magic{FileKind::kPickle, "\x80\2"sv},
    Magic{FileKind::kPickle, "\x80\3"sv},
    Magic{FileKind::kPickle, "\x80\4"sv},
    Magic{FileKind::kPickle, "\x80\5"sv},
    Magic{FileKind::kGgml, "lmgg"sv},
    Magic{FileKind::kGgml, "tjgg"sv},
    Magic{FileKind::kGgml, "fmgg"sv},
    Magic{FileKind::kTokenIndex, "MMIDIDX\0"sv},
    Magic{FileKind::kTokenIndex, "TNTIDX\0"sv},
    Magic{FileKind::kGitLfsPointer, "version https://git-lfs.github.com/spec/"sv},
    Magic{FileKind::kGitLfsPointer, "version https://hawser.github.com/spec/"sv},
    Magic{FileKind::kGitAnnexPointer, "/annex/objects/"sv},
    Magic{FileKind::kPdf, "%PDF-"sv},
    Magic{FileKind::kOffice, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"sv},
    Magic{FileKind::kRtf, "{\\rtf"sv},
    Magic{FileKind::kUtf32, "\xff\xfe\0\0"sv},  // must come before UTF-16
    Magic{FileKind::kUtf32, "\0\0\xfe\xff"sv},
    Magic{FileKind::kUtf16, "\xff\xfe"sv},
    Magic{FileKind::kUtf16, "\xfe\xff"sv},
    Magic{FileKind::kMedia, "\x89PNG\r\n\x1a\n"sv},
    Magic{FileKind::kMedia, "\xff\xd8\xff"sv},
    Magic{FileKind::kMedia, "GIF87a"sv},
    Magic{FileKind::kMedia, "GIF89a"sv},
    Magic{FileKind::kMedia, "OggS\0"sv},
    Magic{FileKind::kMedia, "fLaC\0"sv},
    Magic{FileKind::kMedia, "ID3\3"sv},
    Magic{FileKind::kMedia, "ID3\4"sv},
    Magic{FileKind::kMedia, "ftyp"sv, 4},
    Magic{FileKind::kMedia, "WEBP"sv, 8},
    Magic{FileKind::kMedia, "WAVEfmt "sv, 8},
    Magic{FileKind::kProgram,
          "\x7f"
          "ELF"sv},
};

// Names in the order of FileKind.
constexpr std::array kNames = {
    "a file of an unknown kind",                             // kUnknown
    "an empty file",                                         // kEmpty
    "a file that begins with zeros",                         // kZeros
    "a file packed by gzip",                                 // kGzip
    "a file packed by zstd",                                 // kZstd
    "a file packed by xz",                                   // kXz
    "a file packed by bzip2",                                // kBzip2
    "a file packed by lz4",                                  // kLz4
    "a file packed by lzip",                                 // kLzip
    "a file packed by lzma",                                 // kLzma
    "a file packed by compress",                             // kCompress
    "a file packed by Snappy",                               // kSnappy
    "a ZIP archive",                                         // kZip
    "a tar archive",                                         // kTar
    "a 7z archive",                                          // k7z
    "a RAR archive",                                         // kRar
    "a Parquet file",                                        // kParquet
    "an Arrow file",                                         // kArrow
    "an Avro file",                                          // kAvro
    "an HDF5 file",                                          // kHdf5
    "an SQLite database",                                    // kSqlite
    "a NumPy array",                                         // kNumpy
    "a Python pickle",                                       // kPickle
    "a safetensors file",                                    // kSafetensors
    "a GGUF file",                                           // kGguf
    "a GGML file, the form before GGUF",                     // kGgml
    "the index of a token file",                             // kTokenIndex
    "a Git LFS pointer, not the file that it stands for",    // kGitLfsPointer
    "a git-annex pointer, not the file that it stands for",  // kGitAnnexPointer
    "a PDF document",                                        // kPdf
    "a Microsoft Office document",                           // kOffice
    "an RTF document",                                       // kRtf
    "an HTML page",                                          // kHtml
    "an XML file",                                           // kXml
    "text in UTF-16",                                        // kUtf16
    "text in UTF-32",                                        // kUtf32
    "a JSON file",                                           // kJson
    "an image, sound or film",                               // kMedia
    "a program",                                             // kProgram
};
static_assert(kNames.size() == static_cast<size_t>(FileKind::kProgram) + 1);

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

std::string_view without_blanks(std::string_view text) {
  const auto* first = std::find_if_not(text.begin(), text.end(), is_blank);
  return text.substr(static_cast<size_t>(first - text.begin()));
}

bool starts_with_ignoring_case(std::string_view text, std::string_view lower) {
  const auto fold = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return text.size() >= lower.size() &&
         std::equal(lower.begin(), lower.end(), text.begin(), [&](char a, char b) { return a == fold(b); });
}

bool is_bzip2(std::string_view start) {  // "BZh", a digit and pi, or, without content, the root of pi
  return start.starts_with("BZh") && start.size() >= 10 && start[3] >= '1' && start[3] <= '9' &&
         (start.substr(4, 6) == "1AY&SY" || start.substr(4, 6) == "\x17\x72\x45\x38\x50\x90");
}

// A skippable frame, 0x184D2A50 to 0x184D2A5F.
bool is_skippable_zstd(std::string_view start) {
  return start.size() >= 4 && (start[0] & 0xF0) == 0x50 && start.substr(1, 3) == "\x2a\x4d\x18";
}

bool is_gguf(std::string_view start) {  // the mark, and a version of 32 bits whose upper bytes are 0
  return start.starts_with("GGUF") && start.substr(0, 8).find('\0') != std::string_view::npos;
}

bool is_safetensors(std::string_view start) {  // the header's length (u64, below 2^32), then a JSON object
  return start.size() >= 9 && start.substr(4, 4) == "\0\0\0\0"sv && start[8] == '{';
}

// UTF-16 without a byte order mark, for texts that begin with Latin letters, digits or signs: every other
// byte is 0.
bool is_bare_utf16(std::string_view start) {
  const size_t n = std::min<size_t>(start.size() / 2 * 2, 64);
  if (n < 8) return false;
  for (const size_t high : {size_t{0}, size_t{1}}) {
    bool fits = true;
    for (size_t at = 0; fits && at < n; at += 2) fits = start[at + high] == '\0' && start[at + 1 - high] > 0;
    if (fits) return true;
  }
  return false;
}

FileKind kind_of_text(std::string_view start) {
  if (start.starts_with("\xef\xbb\xbf")) start.remove_prefix(3);
  const std::string_view text = without_blanks(start);
  if (text.empty()) return FileKind::kUnknown;
  for (const std::string_view html : {"<!doctype html", "<html"}) {
    if (starts_with_ignoring_case(text, html)) return FileKind::kHtml;
  }
  if (starts_with_ignoring_case(text, "<?xml")) {
    return text.find("<html") != std::string_view::npos ? FileKind::kHtml : FileKind::kXml;
  }
  const std::string_view next = without_blanks(text.substr(1));
  const bool object = text[0] == '{' && next.starts_with('"');
  const bool array = text[0] == '[' && (next.starts_with('{') || next.starts_with('['));
  if (object || array || text == "{}" || text == "[]") return FileKind::kJson;
  return FileKind::kUnknown;
}

}  // namespace

FileKind file_kind(std::string_view start) {
  start = start.substr(0, kFileKindBytes);
  if (start.empty()) return FileKind::kEmpty;
  for (const Magic& magic : kMagics) {
    if (start.size() > magic.offset && start.substr(magic.offset).starts_with(magic.bytes)) return magic.kind;
  }
  if (is_bzip2(start)) return FileKind::kBzip2;
  if (is_skippable_zstd(start)) return FileKind::kZstd;
  if (is_gguf(start)) return FileKind::kGguf;
  if (is_safetensors(start)) return FileKind::kSafetensors;
  if (start.find_first_not_of('\0') == std::string_view::npos) return FileKind::kZeros;
  if (is_bare_utf16(start)) return FileKind::kUtf16;
  return kind_of_text(start);
}

FileKind file_kind_of(const std::string& path) {
  if (file_exists(path) && !is_regular_file(path) && !is_folder(path)) return FileKind::kUnknown;
  FileReader file(path);
  std::string start;
  while (start.size() < kFileKindBytes && file.append(&start, kFileKindBytes - start.size()) > 0) {
  }
  return file_kind(start);
}

bool has_ending(std::string_view name, std::string_view ending) {
  return name.size() >= ending.size() &&
         starts_with_ignoring_case(name.substr(name.size() - ending.size()), ending);
}

std::string file_kind_name(FileKind kind) { return kNames[static_cast<size_t>(kind)]; }

std::string known_kind_name(std::string_view start) {
  const FileKind kind = file_kind(start);
  return kind == FileKind::kUnknown ? "" : file_kind_name(kind);
}

std::string file_kind_remedy(FileKind kind) {
  switch (kind) {
    case FileKind::kGitLfsPointer:
      return "run git lfs pull in its repository (or download the file itself)";
    case FileKind::kGitAnnexPointer:
      return "run git annex get for it in its repository";
    case FileKind::kHtml:
    case FileKind::kXml:
      return "if it was downloaded: a server's page was saved in its place, download the file itself (on the "
             "Hugging Face Hub the link with /resolve/, not /blob/)";
    case FileKind::kEmpty:
    case FileKind::kZeros:
      return "if it was downloaded: the download did not finish, start it again";
    default:
      return "";
  }
}

namespace {

[[noreturn]] void refuse(FileKind kind, const std::string& file, const std::string& expected) {
  throw Error(ErrorCode::kBadFile, "this is " + file_kind_name(kind),
              {.file = file, .expected = expected, .hint = file_kind_remedy(kind)});
}

}  // namespace

void refuse_other_kind(std::string_view start, const std::string& file, const std::string& expected,
                       std::initializer_list<FileKind> wanted) {
  const FileKind kind = file_kind(start);
  if (kind == FileKind::kUnknown || std::find(wanted.begin(), wanted.end(), kind) != wanted.end()) return;
  refuse(kind, file, expected);
}

void refuse_stand_in(const std::string& path, const std::string& expected) {
  if (!is_regular_file(path)) return;
  const FileKind kind = file_kind_of(path);
  if (!file_kind_remedy(kind).empty()) refuse(kind, path, expected);
}

}  // namespace sepllm
