#!/usr/bin/env python3
"""Writes where the separators of a real text lie: the positions that the attention benchmarks run on.

Tokenizes the beginning of a book (PG19, test split, book 30754) with the GPT-NeoX/Pythia tokenizer by `sepllm tokenize`
and writes one bit per token, set where the token is a separator, as pg19_paper.inc (the nine ids that the paper trains
with) and pg19_text.inc (the text rule, written again here, so that the two can be compared). Only bits are written,
none of the text. Four tokens a hexadecimal digit, the first one in its highest bit.

    make_separators.py --data DATA [--program build/release/bin/sepllm] [--out bench/data]

DATA holds tokenizers/gpt-neox-20b/tokenizer.json and text/pg19/test/30754.txt. Needs no Python packages.
"""

import argparse
import json
import subprocess
from pathlib import Path

BOOK = "text/pg19/test/30754.txt"
TOKENIZER = "tokenizers/gpt-neox-20b/tokenizer.json"
TOKENS = 128 * 1024
DIGITS_A_LINE = 128
PAPER_IDS = {15, 13, 32, 2, 28, 27, 209, 186, 187}

MARKS = ".,?!;:…。，、？！；：．،؛؟۔।॥"
CLOSERS = "\"')]}’”»」』）】》"
# Unicode White_Space; str.isspace() differs from it by four control characters.
BLANKS = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"


def byte_alphabet():
    """The characters by which byte-level BPE writes bytes: printable ones stand for themselves."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def separates(piece, alphabet):
    """The text rule for one token, given as its file writes it. Added tokens (runs of blanks) stand for themselves."""
    if all(c in alphabet for c in piece):
        try:
            piece = bytes(alphabet[c] for c in piece).decode("utf-8")
        except UnicodeDecodeError:
            return False
    rest = piece.strip(BLANKS)
    if not rest:
        return bool(piece)
    return rest.rstrip(CLOSERS)[-1:] in tuple(MARKS)


def write(path, rule, bits):
    number = int("".join("1" if b else "0" for b in bits), 2)
    digits = f"{number:0{len(bits) // 4}x}"
    lines = [digits[i : i + DIGITS_A_LINE] for i in range(0, len(digits), DIGITS_A_LINE)]
    head = f"// Written by make_separators.py: PG19 test 30754, GPT-NeoX tokenizer, separators by the rule '{rule}'.\n"
    path.write_text(head + "".join(f'"{line}"\n' for line in lines))
    print(f"{path}: {len(bits)} tokens, {sum(bits)} separators ({sum(bits) / len(bits):.4f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--program", default="build/release/bin/sepllm")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    command = [arguments.program, "tokenize", "--tokenizer", arguments.data / TOKENIZER]
    command += ["--file", arguments.data / BOOK, "--json"]
    tokens = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    ids, pieces = tokens["ids"][:TOKENS], tokens["pieces"][:TOKENS]
    if len(ids) < TOKENS:
        raise SystemExit(f"the book has {len(ids)} tokens, needed are {TOKENS}")
    alphabet = byte_alphabet()
    rule = {piece: separates(piece, alphabet) for piece in set(pieces)}
    write(arguments.out / "pg19_paper.inc", "paper", [i in PAPER_IDS for i in ids])
    write(arguments.out / "pg19_text.inc", "text", [rule[p] for p in pieces])


if __name__ == "__main__":
    main()
