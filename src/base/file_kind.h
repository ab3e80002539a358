// What a file is, by its first bytes. Names are no proof: a file that was downloaded, packed or renamed
// wrongly is to be called by its kind, with what to do about it, and not to be read as something else.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>

namespace sepllm {

enum class FileKind {
  kUnknown,  // none of those below: plain text, or something that is not known here
  kEmpty,
  kZeros,  // only zeros where it begins
  // Packed: one file within.
  kGzip,
  kZstd,
  kXz,
  kBzip2,
  kLz4,
  kLzip,
  kLzma,
  kCompress,  // .Z
  kSnappy,
  // Archives: several files within.
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
  kGgml,  // what came before GGUF
  kTokenIndex,
  // Stand-ins for a file that is not there.
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

// As many of a file's first bytes as file_kind() may look at.
inline constexpr size_t kFileKindBytes = 512;

// The kind of the file that begins with these bytes. Give the first kFileKindBytes, or all where it has
// fewer; with less, kinds that are told further on are missed.
FileKind file_kind(std::string_view start);

// The kind of a regular file; kUnknown for pipes and devices, of which nothing is taken. Error as FileReader.
FileKind file_kind_of(const std::string& path);

// Whether a file's name has this ending (".gz", in lower case), in letters of either case.
bool has_ending(std::string_view name, std::string_view ending);

// With an article, to stand behind "this is": "a Parquet file", "a file packed by xz".
std::string file_kind_name(FileKind kind);

// The same for the kind of the file that begins with these bytes; empty where it is not known. For messages
// about a file that is no text.
std::string known_kind_name(std::string_view start);

// What to do about a file that is not what it stands for, whatever it was to be ("run git lfs pull"); empty
// where that depends on its use.
std::string file_kind_remedy(FileKind kind);

// Throws the Error (kBadFile) that says what `file` is and what to do about it, where the bytes it begins
// with tell a kind; returns where they tell none, or one of `wanted`. `expected`: what it should be, "a JSON
// file". To be asked once a reader has failed: a sound file of a format without a mark may begin like another
// one.
void refuse_other_kind(std::string_view start, const std::string& file, const std::string& expected,
                       std::initializer_list<FileKind> wanted = {});

// The same for a regular file at hand, and only for kinds that stand for a file which is not there (a
// pointer, a saved page, a download that did not finish): where a file's own format may begin with any bytes.
void refuse_stand_in(const std::string& path, const std::string& expected);

}  // namespace sepllm
