#!/usr/bin/env python3
"""Compares `sepllm tokenize` with the libraries that define its tokenizers, over whole files of real text.

GPT-2, GPT-NeoX and Falcon with `tokenizers`, Llama-3 with `tiktoken`, Llama-2 with `sentencepiece`: every file must
give the same ids, and decode back to its text (to its NFC form where the tokenizer normalizes).

    compare_tokenizers.py --data DATA [--program build/release/bin/sepllm] [--only gpt2,llama3] [--limit N]

DATA holds tokenizers/ and text/. Exit code 1 if anything differs. Needs: tokenizers, tiktoken, sentencepiece.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def hugging_face(path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def llama3(path):
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    encoding = tiktoken.Encoding(
        name="llama3", pat_str=LLAMA3_PATTERN, mergeable_ranks=load_tiktoken_bpe(str(path)), special_tokens={}
    )
    return lambda text: encoding.encode_ordinary(text)


def llama2(path):
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    special = re.compile("(<unk>|<s>|</s>)")
    newline = model.encode("\n")  # a byte piece, which merges with nothing

    # The library takes special strings for text; in ours, as in Hugging Face's, they are tokens. What follows one
    # gets no blank in front.
    def encode(text):
        ids = []
        for k, part in enumerate(special.split(text)):
            if k % 2 == 1:
                ids.append(model.piece_to_id(part))
            elif part:
                ids += model.encode(part) if k == 0 else model.encode("\n" + part)[len(newline) :]
        return ids

    return encode


# name: (file under tokenizers/, oracle, whether decoding gives the NFC form)
TOKENIZERS = {
    "gpt2": ("gpt2/tokenizer.json", hugging_face, False),
    "gpt2-files": ("gpt2/vocab.json", None, False),  # against gpt2/tokenizer.json
    "gpt-neox-20b": ("gpt-neox-20b/tokenizer.json", hugging_face, True),
    "falcon": ("falcon/tokenizer.json", hugging_face, False),
    "llama3": ("llama3/tokenizer.model", llama3, False),
    "llama2": ("llama2/tokenizer.model", llama2, False),
}


def run(command):
    result = subprocess.run(command, capture_output=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout


def first_difference(ours, theirs):
    for k, (a, b) in enumerate(zip(ours, theirs)):
        if a != b:
            return f"id {k}: {a} instead of {b}, after {ours[max(0, k - 4):k]}"
    return f"{len(ours)} ids instead of {len(theirs)}"


def decode(program, tokenizer, ids):
    with tempfile.NamedTemporaryFile("w", suffix=".ids") as file:
        file.write(" ".join(map(str, ids)))
        file.flush()
        return run([program, "tokenize", "--tokenizer", tokenizer, "--decode", "--file", file.name])


def compare_file(program, tokenizer, oracle, normalizes, path):
    """The differences as a list of lines, and the number of tokens."""
    text = path.read_bytes().decode("utf-8")
    ours = json.loads(run([program, "tokenize", "--tokenizer", tokenizer, "--file", path, "--json"]))["ids"]
    theirs = oracle(text)
    wrong = [] if ours == theirs else [first_difference(ours, theirs)]
    expected = unicodedata.normalize("NFC", text) if normalizes else text
    if decode(program, tokenizer, ours) != expected.encode("utf-8"):
        wrong.append("decoding does not give the text back")
    return wrong, len(ours)


def text_files(folder):
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix in (".txt", ".raw")]
    if not files:
        sys.exit(f"{folder}: no text files")
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_data = os.environ.get("SEPLLM_TEST_DATA")
    default_program = Path(__file__).resolve().parents[1] / "build/release/bin/sepllm"
    parser.add_argument("--data", type=Path, default=default_data, required=default_data is None)
    parser.add_argument("--program", type=Path, default=default_program)
    parser.add_argument("--match", default="", help="only files whose path has this in it")
    parser.add_argument("--only", help="names of tokenizers, separated by commas")
    parser.add_argument("--limit", type=int, help="so many files only")
    options = parser.parse_args()
    data = Path(options.data)
    names = options.only.split(",") if options.only else list(TOKENIZERS)
    files = [p for p in text_files(data / "text") if options.match in str(p)][: options.limit]
    differing = 0
    for name in names:
        path, make_oracle, normalizes = TOKENIZERS[name]
        tokenizer = data / "tokenizers" / path
        oracle = make_oracle(tokenizer) if make_oracle else hugging_face(tokenizer.with_name("tokenizer.json"))
        tokens = 0
        wrong_files = 0
        for file in files:
            wrong, n = compare_file(options.program, tokenizer, oracle, normalizes, file)
            tokens += n
            wrong_files += bool(wrong)
            for line in wrong:
                print(f"{name}: {file.relative_to(data)}: {line}")
        print(f"{name}: {len(files)} files, {tokens} tokens, {wrong_files} files differ", flush=True)
        differing += wrong_files
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
