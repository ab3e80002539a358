// Tells what a file is by its first bytes. File names prove nothing: a file that was downloaded, packed or
// renamed wrongly should be called by its true kind, with advice what to do, and not be read as something
// else.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>

namespace sepllm {

enum class FileKind {
  kUnknown,  // none of those below: plain text, or something that is not known here
  kEmpty,
  kZeros,  // begins with zeros only
  // Compressed: one file inside.
  kGzip,
  kZstd,
  kXz,
  kBzip2,
  kLz4,
  kLzip,
  kLzma,
  kCompress,  // .Z
  kSnappy,
  // Archives: several files inside.
  kZip,  // also PyTorch's .bin and .pt, NumPy's .npz, .docx, .epub
  kTar,
  k7z,
  kRar,
  // Tables and arrays.
  kParquet,
  kArrow,  // file, stream or Feather
  kAvro,
  kHdf5,
  kSqlite,
  kNumpy,
  kPickle,
  // Models and token files.
  kSafetensors,
  kGguf,
  kGgml,  // the format before GGUF
  kTokenIndex,
  // Placeholders for a file that is not there.
  kGitLfsPointer,
  kGitAnnexPointer,
  // Documents, pages, other encodings.
  kPdf,
  kOffice,  // .doc, .xls
  kRtf,
  kHtml,
  kXml,
  kUtf16,
  kUtf32,
  kJson,  // an object, or an array of objects or arrays
  // Others.
  kMedia,  // images, sound, film
  kProgram
};

// The number of first bytes that file_kind() may look at.
inline constexpr size_t kFileKindBytes = 512;

// The kind of the file that begins with these bytes. Give the first kFileKindBytes, or the whole file if it
// is shorter; with fewer bytes, kinds whose mark lies further on are missed.
FileKind file_kind(std::string_view start);

// The kind of a regular file; kUnknown for pipes and devices, from which nothing is read. Error as for
// FileReader.
FileKind file_kind_of(const std::string& path);

// Whether a file's name has this ending (".gz", given in lower case), whatever its case.
bool has_ending(std::string_view name, std::string_view ending);

// The name with an article, to follow "this is": "a Parquet file", "a file packed by xz".
std::string file_kind_name(FileKind kind);

// The same for the kind of the file that begins with these bytes; empty if it is not known. For messages
// about a file that is not text.
std::string known_kind_name(std::string_view start);

// What to do about a file that is only a placeholder, whatever it was expected to be ("run git lfs pull");
// empty if that depends on its use.
std::string file_kind_remedy(FileKind kind);

// Throws the Error (kBadFile) that says what `file` is and what to do about it, if its first bytes tell a
// kind; returns if they tell none, or one of `wanted`. `expected`: what it should be, "a JSON file". Call it
// after a reader has failed, because a valid file of a format without a mark may begin like another kind.
void refuse_other_kind(std::string_view start, const std::string& file, const std::string& expected,
                       std::initializer_list<FileKind> wanted = {});

// The same for a regular file, but only for kinds that are placeholders of a missing file (a pointer, a saved
// page, an unfinished download). For formats whose files may begin with any bytes.
void refuse_stand_in(const std::string& path, const std::string& expected);

}  // namespace sepllm
