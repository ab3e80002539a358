#!/usr/bin/env python3
"""Compares `sepllm prepare` with the `tokenizers` library, over whole files of real text.

Token files of JSON lines and of a long text must hold the library's ids of each whole document (read here with numpy, by
tests/golden/make_token_file_golden.py), and `--train-tokenizer bpe` must find the merges of the library's trainer.

    compare_prepare.py --data DATA [--program build/release/bin/sepllm] [--documents N] [--vocab-size N]

DATA holds tokenizers/NAME/tokenizer.json and text/. Exit code 1 if anything differs. Needs: tokenizers, numpy.
"""

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/golden"))
from make_token_file_golden import read  # noqa: E402

EDGES = ["", "\u00e9\U0001f600\n\n", "<|endoftext|>x<|endoftext|>", "  \n", "\r\n\r\n", "\u0000", "a\n" * 1000]


def documents_of(texts, n):
    rng = random.Random(1)
    documents = list(EDGES)
    for text in texts:
        at = 0
        while at < len(text):
            size = rng.choice([1, 10, 300, 3000, 30000])
            documents.append(text[at : at + size])
            at += size
    return documents[:n]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--program", default="build/release/bin/sepllm")
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--vocab-size", type=int, default=8000)
    options = parser.parse_args()
    texts = [f.read_bytes().decode() for f in sorted((options.data / "text").glob("**/*.txt"))]
    documents = documents_of(texts, options.documents)
    differing = 0

    def report(what, same):
        nonlocal differing
        differing += not same
        print(f"{what}: {'equal' if same else 'DIFFERENT'}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        lines, long_text, out = f"{folder}/documents.jsonl.gz", f"{folder}/long.txt", f"{folder}/out"
        with gzip.open(lines, "wt", encoding="utf-8") as f:
            for i, text in enumerate(documents):
                f.write(json.dumps({"id": i, "text": text}, ensure_ascii=i % 2 == 0) + "\n")
        Path(long_text).write_bytes("".join(texts)[:4_000_000].encode())

        def prepare(*arguments):
            run = [options.program, "prepare", "--json", *arguments]
            return json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout)

        for path in sorted((options.data / "tokenizers").glob("*/tokenizer.json")):
            library = Tokenizer.from_file(str(path))
            for name, inputs in [(lines, documents), (long_text, [Path(long_text).read_bytes().decode()])]:
                facts = prepare("--tokenizer", str(path.parent), "--out", out, name)
                end = [] if facts["eod_id"] is None else [facts["eod_id"]]
                begin = [] if facts["bos_id"] is None else [facts["bos_id"]]
                want = [begin + library.encode(text, add_special_tokens=False).ids + end for text in inputs if text]
                report(f"{path.parent.name}, {Path(name).name}, {facts['tokens']} tokens", read(out) == want)

        plain = [text for text in documents if "<|endoftext|>" not in text]
        with gzip.open(lines, "wt", encoding="utf-8") as f:
            f.writelines(json.dumps({"text": text}) + "\n" for text in plain)
        prepare("--train-tokenizer", "bpe", "--vocab-size", str(options.vocab_size), "--out", f"{folder}/bpe", lines)
        ours = json.loads(Path(f"{folder}/bpe/tokenizer.json").read_text())["model"]
        library = Tokenizer(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=options.vocab_size, min_frequency=2, show_progress=False,
                                      special_tokens=["<|endoftext|>"],
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        library.train_from_iterator(plain, trainer)
        theirs = json.loads(library.to_str())["model"]
        merges = [m if isinstance(m, str) else " ".join(m) for m in theirs["merges"]]
        report(f"trained vocabulary of {len(ours['vocab'])}", ours["vocab"] == theirs["vocab"])
        report(f"{len(merges)} merges", ours["merges"] == merges)
        loaded = Tokenizer.from_file(f"{folder}/bpe/tokenizer.json")
        prepare("--tokenizer", f"{folder}/bpe", "--out", out, lines)
        report("ids of the trained tokenizer", read(out) == [loaded.encode(t).ids + [0] for t in plain if t])
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
