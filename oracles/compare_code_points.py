#!/usr/bin/env python3
"""Compares `sepllm prepare` with the libraries that define its tokenizers for every code point that Unicode assigns
(and as many that it does not), each in several contexts: the ids must be equal.

    compare_code_points.py --data DATA [--program build/release/bin/sepllm] [--only gpt2,llama3]

DATA holds tokenizers/. Exit code 1 if anything differs. Needs: tokenizers, tiktoken, sentencepiece, numpy.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from compare_tokenizers import LLAMA3_PATTERN

# Where the character stands. Between letters, blanks and digits patterns cut in different places; marks and the
# halves of a Hangul syllable show what joins it in a normal form.
CONTEXTS = ["{}", "a{}a", " {}. ", "e{}\u0301 ", "1{}{}\n", "\u1100{}\u11a8", "\u0345{}'s\n {}"]

# All planes that have characters, with their gaps; the others hold nothing.
CODE_POINTS = [
    c for first, last in ((0, 0xD7FF), (0xE000, 0x33FFF), (0xE0000, 0xE0FFF), (0xF0000, 0x10FFFF))
    for c in range(first, last + 1)
]


def hugging_face(path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return lambda texts: [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def llama3(path):
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    encoding = tiktoken.Encoding(
        name="llama3", pat_str=LLAMA3_PATTERN, mergeable_ranks=load_tiktoken_bpe(str(path)), special_tokens={}
    )
    return encoding.encode_ordinary_batch


def llama2(path):
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(path)).encode


TOKENIZERS = {
    "gpt2": ("gpt2/tokenizer.json", hugging_face),
    "gpt-neox-20b": ("gpt-neox-20b/tokenizer.json", hugging_face),
    "falcon": ("falcon/tokenizer.json", hugging_face),
    "llama3": ("llama3/tokenizer.model", llama3),
    "llama2": ("llama2/tokenizer.model", llama2),
}


def read_documents(prefix):
    """The documents of PREFIX.bin and PREFIX.idx, as lists of ids."""
    index = Path(f"{prefix}.idx").read_bytes()
    assert index[:9] == b"MMIDIDX\0\0", index[:9]
    width = {8: numpy.uint16, 4: numpy.int32}[index[17]]
    count = int.from_bytes(index[18:26], "little")
    sizes = numpy.frombuffer(index, numpy.int32, count, 34)
    ids = numpy.fromfile(f"{prefix}.bin", width)
    ends = numpy.cumsum(sizes)
    assert ends[-1] == len(ids)
    return [ids[end - size : end].tolist() for size, end in zip(sizes, ends)]


def encode(program, tokenizer, texts, folder):
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    command = [program, "prepare", "--tokenizer", tokenizer, "--out", folder / "out", path, "--append-eod", "off",
               "--bos", "off", "--no-special", "--json"]
    done = subprocess.run(command, capture_output=True)
    if done.returncode != 0:
        sys.exit(done.stderr.decode(errors="replace"))
    return read_documents(folder / "out")


def compare(program, tokenizer, oracle, context):
    """Number of differences; prints the first ones."""
    texts = [context.replace("{}", chr(c)) for c in CODE_POINTS]
    with tempfile.TemporaryDirectory() as folder:
        ours = encode(program, tokenizer, texts, Path(folder))
    # `prepare` leaves documents without a token out: characters that Falcon's vocabulary does not have.
    theirs = [(text, ids) for text, ids in zip(texts, oracle(texts)) if ids]
    if len(ours) != len(theirs):
        print(f"  {context!r}: {len(ours)} texts with tokens instead of {len(theirs)}")
        return abs(len(ours) - len(theirs))
    wrong = [(text, ids, mine) for (text, ids), mine in zip(theirs, ours) if ids != mine]
    for text, ids, mine in wrong[:5]:
        print(f"  {ascii(text)}: {mine} instead of {ids}")
    return len(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_data = os.environ.get("SEPLLM_TEST_DATA")
    default_program = Path(__file__).resolve().parents[1] / "build/release/bin/sepllm"
    parser.add_argument("--data", type=Path, default=default_data, required=default_data is None)
    parser.add_argument("--program", type=Path, default=default_program)
    parser.add_argument("--only", help="names of tokenizers, separated by commas")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(TOKENIZERS)
    differing = 0
    for name in names:
        file, make_oracle = TOKENIZERS[name]
        path = Path(options.data) / "tokenizers" / file
        oracle = make_oracle(path)
        wrong = sum(compare(options.program, path, oracle, context) for context in CONTEXTS)
        print(f"{name}: {len(CODE_POINTS)} code points in {len(CONTEXTS)} contexts, {wrong} differ", flush=True)
        differing += wrong
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
