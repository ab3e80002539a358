"""Token files in Megatron's form (MMapIndexedDataset version 1), written here with numpy, only from the form's
description: magic, version (u64), code of the type (u8), numbers of items and of document bounds (u64), sizes of the items
(i32), their first bytes in the .bin (i64), the first item of each document and the number of items (i64).

Writes token_files/NAME.bin and .idx, and token_files/cases.json: of each the documents, and whether they are as GPT-NeoX's
preprocess_data writes them (an item a document; 16 bits where the vocabulary allows), so that our writer must give the
same bytes. Reads every file back, and with --check PREFIX prints the documents of any token file as JSON."""

import json
import os
import sys

import numpy as np

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "token_files")
CODES = {1: "u1", 2: "i1", 3: "i2", 4: "i4", 5: "i8", 8: "u2"}


def write(prefix, documents, code):
    """documents: lists of items, which are lists of ids."""
    items = [np.array(item, dtype="<" + CODES[code]) for document in documents for item in document]
    sizes = np.array([len(item) for item in items], dtype="<i4")
    ends = np.cumsum([item.nbytes for item in items], dtype="<i8")
    bounds = np.cumsum([0] + [len(document) for document in documents], dtype="<i8")
    with open(prefix + ".bin", "wb") as f:
        for item in items:
            f.write(item.tobytes())
    with open(prefix + ".idx", "wb") as f:
        f.write(b"MMIDIDX\0\0")
        f.write(np.array([1], dtype="<u8").tobytes())
        f.write(bytes([code]))
        f.write(np.array([len(items), len(bounds)], dtype="<u8").tobytes())
        f.write(sizes.tobytes())
        f.write(np.concatenate([[0], ends[:-1]]).astype("<i8").tobytes() if items else b"")
        f.write(bounds.tobytes())


def read(prefix):
    index = open(prefix + ".idx", "rb").read()
    assert index[:9] == b"MMIDIDX\0\0" and index[9:17] == b"\1" + 7 * b"\0"
    kind = np.dtype("<" + CODES[index[17]])
    n_items, n_bounds = (int(n) for n in np.frombuffer(index, "<u8", 2, 18))
    sizes = np.frombuffer(index, "<i4", n_items, 34)
    pointers = np.frombuffer(index, "<i8", n_items, 34 + 4 * n_items)
    bounds = np.frombuffer(index, "<i8", n_bounds, 34 + 12 * n_items)
    assert len(index) == 34 + 12 * n_items + 8 * n_bounds
    data = open(prefix + ".bin", "rb").read()
    items = [np.frombuffer(data, kind, size, pointer).tolist() for size, pointer in zip(sizes, pointers)]
    return [sum(items[first:end], []) for first, end in zip(bounds[:-1], bounds[1:])]


#         name        code vocab   documents
CASES = [("neox",      8, 50277, [[[5, 0, 50276, 7, 0]], [[0]], [[1, 2, 3]]]),
         ("llama3",    4, 128256, [[[128000, 9, 128001]], [[128000, 1, 2, 3, 4, 128001]]]),
         ("sentences", 8, None, [[[5, 6], [7], [8, 9, 10]], [[11]], [[12, 13], [14]]]),
         ("int64",     5, None, [[[2**31 - 1, 0]], [[3]]]),
         ("uint8",     1, None, [[[255, 0]], [[128]]]),
         ("int16",     3, None, [[[32767]], [[0, 1]]])]


def main():
    os.makedirs(FOLDER, exist_ok=True)
    cases = []
    for name, code, vocab_size, documents in CASES:
        write(os.path.join(FOLDER, name), documents, code)
        flat = [sum(document, []) for document in documents]
        assert read(os.path.join(FOLDER, name)) == flat
        cases.append({"name": name, "bytes": np.dtype(CODES[code]).itemsize, "vocab_size": vocab_size, "documents": flat})
    with open(os.path.join(FOLDER, "cases.json"), "w") as f:
        json.dump(cases, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        print(json.dumps(read(sys.argv[2])))
    else:
        main()
