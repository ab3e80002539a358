"""The first bytes of files of many kinds, as the kinds' own tools write them: xz, bzip2, lz4 and zip of the system, Python's
gzip, zipfile, tarfile, pickle, sqlite3, lzma and codecs, and the packages numpy, pyarrow, h5py, fastavro, pillow, torch,
safetensors, gguf (those that are installed; what cannot be made keeps its old entry).

Writes file_kinds/starts.json: per kind, as src/base/file_kind.h calls it, a list of [what wrote it, hex of the first 512
bytes at most]."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import pickle
import sqlite3
import subprocess
import tarfile
import tempfile
import zipfile

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "file_kinds", "starts.json")
LINES = b'{"text": "one"}\n{"text": "two"}\n'
TEXT = "Plain text, of two lines.\nThe second one.\n"


def piped(*command):
    return subprocess.run(command, input=LINES, capture_output=True, check=True).stdout


def in_file(name, write):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        write(path)
        with open(path, "rb") as f:
            return f.read()


def in_memory(write):
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def zipped(out):
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.jsonl", LINES)


def tarred(out):
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("a.jsonl")
        member.size = len(LINES)
        archive.addfile(member, io.BytesIO(LINES))


def database(path):
    connection = sqlite3.connect(path)
    connection.execute("create table t (text text)")
    connection.commit()
    connection.close()


def feather(out, **options):
    import pyarrow as pa
    import pyarrow.feather

    pa.feather.write_feather(pa.table({"text": ["one", "two"]}), out, **options)


def parquet(out):
    import pyarrow as pa
    import pyarrow.parquet

    pa.parquet.write_table(pa.table({"text": ["one", "two"]}), out)


def arrow_stream(out):
    import pyarrow as pa

    table = pa.table({"text": ["one", "two"]})
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)


def avro(out):
    import fastavro

    schema = {"type": "record", "name": "r", "fields": [{"name": "text", "type": "string"}]}
    fastavro.writer(out, schema, [{"text": "one"}])


def hdf5(path):
    import h5py

    with h5py.File(path, "w") as f:
        f["x"] = [1, 2]


def numpy(out):
    import numpy as np

    np.save(out, np.arange(8))


def torch_file(out, **options):
    import torch

    torch.save({"x": torch.zeros(2)}, out, **options)


def safetensors_file():
    import numpy as np
    import safetensors.numpy

    return safetensors.numpy.save({"x": np.zeros(2, np.float32)})


def gguf_file(path):
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def image(kind):
    from PIL import Image

    return in_memory(lambda out: Image.new("RGB", (4, 4)).save(out, kind))


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 12345\n"
PAGE = b"<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>404</title></head>\n<body></body></html>\n"

MAKERS = {
    "kUnknown": {
        "text": lambda: TEXT.encode(),
        "text with a byte order mark": lambda: codecs.BOM_UTF8 + TEXT.encode(),
        "text of one letter": lambda: b"a",
        "text in Cyrillic": lambda: "Все счастливые семьи похожи друг на друга.".encode(),
        "text in brackets": lambda: b"[1] The first note. {A set.}\n",
        "a dialogue": lambda: b"[INST] Hello [/INST] Hi",
        "a C function body": lambda: b"{\n  return 0;\n}\n",
        "blanks": lambda: b" \n\t\n",
    },
    "kEmpty": {"nothing": lambda: b""},
    "kZeros": {"zeros": lambda: bytes(4096)},
    "kGzip": {"gzip": lambda: gzip.compress(LINES)},
    "kZstd": {"zstd": lambda: piped("zstd", "-c"), "a skippable frame": lambda: b"\x5a\x2a\x4d\x18\4\0\0\0abcd"},
    "kXz": {"xz": lambda: piped("xz", "-c"), "lzma": lambda: lzma.compress(LINES)},
    "kBzip2": {"bzip2": lambda: piped("bzip2", "-c"), "of nothing": lambda: bz2.compress(b"")},
    "kLz4": {"lz4": lambda: piped("lz4", "-c"), "lz4 -l": lambda: piped("lz4", "-l", "-c")},
    "kLzma": {"lzma": lambda: lzma.compress(LINES, lzma.FORMAT_ALONE)},
    "kZip": {
        "zip": lambda: piped("zip", "-q", "-", "-"),
        "zipfile": lambda: in_memory(zipped),
        "of nothing": lambda: in_memory(lambda out: zipfile.ZipFile(out, "w").close()),
        "torch.save": lambda: in_memory(torch_file),
    },
    "kTar": {"tarfile": lambda: in_memory(tarred)},
    "kParquet": {"pyarrow": lambda: in_memory(parquet)},
    "kArrow": {
        "pyarrow feather": lambda: in_memory(feather),
        "pyarrow feather 1": lambda: in_memory(lambda out: feather(out, version=1)),
        "pyarrow stream": lambda: in_memory(arrow_stream),
    },
    "kAvro": {"fastavro": lambda: in_memory(avro)},
    "kHdf5": {"h5py": lambda: in_file("a.h5", hdf5)},
    "kSqlite": {"sqlite3": lambda: in_file("a.db", database)},
    "kNumpy": {"numpy": lambda: in_memory(numpy)},
    "kPickle": {
        **{f"protocol {p}": (lambda p=p: pickle.dumps({"text": "one"}, p)) for p in range(2, 6)},
        "torch.save, the old form": lambda: in_memory(
            lambda out: torch_file(out, _use_new_zipfile_serialization=False)
        ),
    },
    "kSafetensors": {"safetensors": safetensors_file},
    "kGguf": {"gguf": lambda: in_file("a.gguf", gguf_file)},
    "kTokenIndex": {"Megatron's form": lambda: b"MMIDIDX\0\0\1" + bytes(7) + b"\x08" + bytes(16)},
    "kGitLfsPointer": {"git lfs": lambda: LFS},
    "kGitAnnexPointer": {"git-annex": lambda: b"/annex/objects/SHA256E-s12345--4d7a.safetensors\n"},
    "kPdf": {"by hand": lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"},
    "kHtml": {
        "a page": lambda: PAGE,
        "a page in lower case": lambda: b"\n  " + PAGE.lower(),
        "XHTML": lambda: b'<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml">',
    },
    "kXml": {"a server's answer": lambda: b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code></Error>'},
    "kUtf16": {
        "little-endian": lambda: codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        "big-endian": lambda: codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        "little-endian, no mark": lambda: TEXT.encode("utf-16-le"),
        "big-endian, no mark": lambda: TEXT.encode("utf-16-be"),
    },
    "kUtf32": {
        "little-endian": lambda: codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
        "big-endian": lambda: codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
    },
    "kJson": {
        "lines": lambda: LINES,
        "indented": lambda: json.dumps([{"text": "one"}], indent=1).encode(),
        "an array": lambda: json.dumps([{"text": "one"}]).encode(),
        "an object": lambda: json.dumps({"error": "Repository not found"}, indent=1).encode(),
        "with a byte order mark": lambda: codecs.BOM_UTF8 + LINES,
        "of nothing": lambda: b"{}",
    },
    "kMedia": {kind: (lambda kind=kind: image(kind)) for kind in ("PNG", "JPEG", "GIF", "WEBP")},
    "kProgram": {"an ELF header": lambda: b"\x7fELF\2\1\1" + bytes(9)},
}


def main():
    old = {}
    if os.path.exists(OUT):
        with open(OUT) as f:
            old = {(kind, what): start for kind, entries in json.load(f).items() for what, start in entries}
    starts = {}
    for kind, makers in MAKERS.items():
        starts[kind] = []
        for what, make in makers.items():
            try:
                start = make()[:512].hex()
            except (ImportError, FileNotFoundError):
                start = old.get((kind, what))
                print(f"{kind}, {what}: not made here" + ("" if start else ", and not there"))
            if start is not None:
                starts[kind].append([what, start])
    with open(OUT, "w") as f:
        json.dump(starts, f, indent=1)
        f.write("\n")


main()
