#!/usr/bin/env python3
"""The texts of the measurements on real models, all from PG19's test split.

    texts.py split [--texts FOLDER]                       writes experiments/real/split.json
    texts.py excerpts OUT --model MODEL [--list train|held_out | --file F] [--count 16] [--tokens 2048] [--place 0.3]

split: every fourth book, in the order of their numbers, and the books that older tables used are held out; the others may be trained
and tuned on. excerpts: from some books of a list (or from one file, at even distances) as many tokens as wanted, exactly; each is a
file OUT/BOOK.txt, and the names are printed. `sepllm tune` cuts such texts at their borders, because each is one of its pieces.
Needs Python and the program ($SEPLLM).
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("SEPLLM", REPOSITORY / "build/release/bin/sepllm"))
SPLIT = Path(__file__).with_name("split.json")
TEXTS = Path(os.environ.get("SEPLLM_TEXTS", REPOSITORY.parent / "shared/data/text")) / "pg19/test"
OLDER_TABLES = {"10146", "10321", "29594", "3129"}


def write_split(args):
    books = sorted((path.stem for path in args.texts.glob("*.txt")), key=int)
    held_out = [book for k, book in enumerate(books) if k % 4 == 3 or book in OLDER_TABLES]
    split = {"train": [b for b in books if b not in held_out], "held_out": held_out}
    SPLIT.write_text(json.dumps(split) + "\n")
    print({name: len(some) for name, some in split.items()})


def program(args, text, decode=False):
    """Ids of a text, or the text of ids, by `sepllm tokenize`."""
    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(text.encode())
        file.flush()
        done = subprocess.run([str(BINARY), "tokenize", "--model", args.model, "--file", file.name, "--json", *(["--decode"] if decode else [])],
                              capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["text" if decode else "ids"]


def excerpt(text, args, place):
    """A part of the text, from about this share of it on, that has exactly so many tokens when it is encoded by itself, or None."""
    first = text.find("\n", int(len(text) * place)) + 1
    ids = program(args, text[first : first + 12 * args.tokens])
    for n in range(args.tokens, args.tokens + 9):
        if n > len(ids):
            return None
        part = program(args, ",".join(map(str, ids[:n])), decode=True)
        if text[first:].startswith(part) and len(program(args, part)) == args.tokens:
            return part
    return None


def write_excerpts(args):
    args.out.mkdir(parents=True, exist_ok=True)
    if args.file:
        text = args.file.read_text(encoding="utf-8")
        places = [(f"{args.file.stem}-{k:02}", text, k / args.count) for k in range(args.count)]
    else:
        books = json.loads(SPLIT.read_text())[args.list]
        order = dict.fromkeys([books[k * 7 % len(books)] for k in range(len(books))] + books)
        places = [(book, (args.texts / f"{book}.txt").read_text(encoding="utf-8"), args.place) for book in order]
    found = []
    for name, text, place in places:
        part = excerpt(text, args, place) if len(found) < args.count else None
        if part:
            found.append(args.out / f"{name}.txt")
            found[-1].write_bytes(part.encode())
    print("\n".join(map(str, found)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    split = commands.add_parser("split")
    split.set_defaults(run=write_split)
    parts = commands.add_parser("excerpts")
    parts.set_defaults(run=write_excerpts)
    parts.add_argument("out", type=Path)
    parts.add_argument("--model", required=True, help="its tokenizer counts")
    parts.add_argument("--list", choices=["train", "held_out"], default="held_out")
    parts.add_argument("--file", type=Path, help="one file, at even distances, instead of books")
    parts.add_argument("--count", type=int, default=16)
    parts.add_argument("--place", type=float, default=0.3, help="share of the book that comes before the excerpt")
    parts.add_argument("--tokens", type=int, default=2048)
    for command in (split, parts):
        command.add_argument("--texts", type=Path, default=TEXTS)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
