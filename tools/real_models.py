#!/usr/bin/env python3
"""Measures policies on a real model and writes the tables of docs/results/real-models.md. Every measurement is a line of a results
file; what is there already is not measured again, so the command can be interrupted and continued, and only what was measured is
in the tables.

    real_models.py --model SmolLM2.gguf --texts BOOK... --results results.jsonl [--tokens 2048] [--tuned policy.json ...]
                   [--page docs/results/real-models.md] [--only-page] [--limit-seconds N]

Perplexity of the first --tokens tokens of each text, each from its beginning, under: full; sep with n = 64, 128 and 256, and after
each of them sink with as many mean keys (its window follows from the measured keys of the sep row); fixed with as many as sep
n = 64; sep-stream with the paper's numbers, and sink-stream with as many mean keys; and every policy of --tuned. Needs Python only.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
BINARY = Path(os.environ.get("SEPLLM", REPOSITORY / "build/release/bin/sepllm"))
INIT = 4
BEGIN, END = "<!-- made by tools/real_models.py: {} -->", "<!-- end -->"


def lines(path):
    if not path.exists():
        return []
    whole = path.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    path.write_bytes(whole)  # without a line that was cut off
    return [json.loads(line) for line in whole.decode().splitlines()]


def sink_window(mean_keys, tokens):
    """The window of sink with about as many mean keys: a query at i sees min(i + 1, INIT + n) keys."""
    mean = lambda n: sum(min(i + 1, INIT + n) for i in range(tokens)) / tokens
    return min(range(1, tokens), key=lambda n: abs(mean(n) - mean_keys))


def fixed_window(mean_keys, tokens, interval):
    def mean(n):
        total = 0
        for i in range(tokens):
            far = max(0, i - n + 1)  # the tokens older than the window
            total += min(i + 1, n) + min(far, INIT) + max(0, far - INIT) // interval
        return total / tokens
    low, high = 1, tokens
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if mean(middle) <= mean_keys else (low, middle - 1)
    return low


class Bench:
    def __init__(self, args):
        self.args = args
        self.rows = lines(args.results)
        self.started = time.monotonic()

    def name(self):
        return Path(self.args.model).name

    def keys_of(self, label):
        """Mean keys over all texts of a policy that was measured."""
        found = [r["mean_keys"] for r in self.rows if r["label"] == label and r["tokens"] == self.args.tokens and r["model"] == self.name()]
        return sum(found) / len(found)

    def score(self, label, *options):
        """Measures what is missing; false when the time is over."""
        for text in self.args.texts:
            key = (self.name(), Path(text).name, label, self.args.tokens)
            if key in {(r["model"], r["text"], r["label"], r["tokens"]) for r in self.rows}:
                continue
            if self.args.limit_seconds and time.monotonic() - self.started > self.args.limit_seconds:
                return False
            nll = self.args.results.with_suffix(".nll")
            started = time.monotonic()
            command = [str(BINARY), "score", "--model", self.args.model, "--text", text, "--tokens", str(self.args.tokens),
                       "--prefill-chunk", "128", "--nll-out", str(nll), "--json", *map(str, options)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(done.stderr)
            result = json.loads(done.stdout)
            kv = result["kv"]
            row = {"model": self.name(), "text": Path(text).name, "label": label, "tokens": self.args.tokens,
                   "nll_mean": result["nll_mean"], "mean_keys": kv["mean_keys"], "share": kv["mean_share"],
                   "peak_bytes": kv["peak_bytes"], "full_bytes": kv["full_bytes"], "score_seconds": result["seconds"],
                   "seconds": round(time.monotonic() - started, 2), "policy": result["policy"], "program": result["program"],
                   "block_nll": block_means(nll)}
            with open(self.args.results, "a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
            self.rows.append(row)
            print(f"{label}, {Path(text).name}: perplexity {math.exp(row['nll_mean']):.3f}, {row['mean_keys']:.0f} keys, "
                  f"{row['score_seconds']:.1f} s", file=sys.stderr, flush=True)
        return True

    def measure(self):
        tokens = self.args.tokens
        if not self.score("full", "--policy", "full"):
            return
        for n in (64, 128, 256):
            if not self.score(f"sep n={n}", "--policy", "sep", "--init", INIT, "--window", n):
                return
            window = sink_window(self.keys_of(f"sep n={n}"), tokens)
            if not self.score(f"sink, keys of sep n={n}", "--policy", "sink", "--init", INIT, "--window", window):
                return
        window = fixed_window(self.keys_of("sep n=64"), tokens, 8)
        if not self.score("fixed k=8, keys of sep n=64", "--policy", "fixed", "--init", INIT, "--window", window, "--interval", 8):
            return
        if not self.score("sep-stream c=800", "--policy", "sep-stream"):
            return
        capacity = sink_window(self.keys_of("sep-stream c=800"), tokens) + INIT - 1
        if not self.score("sink-stream, keys of sep-stream", "--policy", "sink-stream", "--capacity", capacity):
            return
        for file in self.args.tuned:
            if not self.score(f"tuned ({Path(file).stem})", "--policy-file", file):
                return


def block_means(path, block=64):
    values = [float(line) for line in path.read_text().split()]
    path.unlink()
    return [sum(values[i : i + block]) / block for i in range(0, len(values) - block + 1, block)]


def error_of(values):
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)) if len(values) > 1 else float("nan")


def table(rows, model, tokens):
    """A row for each policy that was measured on all texts on which full attention was."""
    rows = [r for r in rows if r["model"] == model and r["tokens"] == tokens]
    full = {r["text"]: r for r in rows if r["label"] == "full"}
    out = ["| policy | perplexity | loss compared with full | mean keys | of full | KV at the peak (with a chunk of 128 tokens), of full | seconds |",
           "|---|---|---|---|---|---|---|"]
    for label in dict.fromkeys(r["label"] for r in rows):
        own = {r["text"]: r for r in rows if r["label"] == label}
        if set(own) != set(full):
            continue
        average = lambda key: sum(r[key] for r in own.values()) / len(own)
        differences = [a - b for text, r in own.items() for a, b in zip(r["block_nll"], full[text]["block_nll"])]
        mean = sum(differences) / len(differences)
        out.append(f"| {label} | {math.exp(average('nll_mean')):.3f} | {mean:+.4f} ± {error_of(differences):.4f} | "
                   f"{average('mean_keys'):.1f} | {100 * average('share'):.1f} % | "
                   f"{100 * average('peak_bytes') / average('full_bytes'):.0f} % | {sum(r['score_seconds'] for r in own.values()):.0f} |")
    return "\n".join(out), sorted(full)


def write_page(path, rows):
    """Replaces the part of the page that belongs to each model and length, or adds it at the end."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Real models\n"
    for model, tokens in dict.fromkeys((r["model"], r["tokens"]) for r in rows):
        body, texts = table(rows, model, tokens)
        if not texts:
            continue
        program = [r for r in rows if (r["model"], r["tokens"]) == (model, tokens)][-1]["program"]
        begin = BEGIN.format(f"{model} {tokens}")
        part = (f"{begin}\n\n### {model}, {tokens} tokens of each text\n\nTexts: {', '.join(texts)}. Standard errors are of means over blocks "
                f"of 64 tokens, paired with full attention.\nProgram: {json.dumps(program)}\n\n{body}\n\n{END}\n")
        if begin in text:
            first = text.index(begin)
            text = text[:first] + part + text[text.index(END, first) + len(END) + 1 :]
        else:
            text += "\n" + part
    path.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", nargs="+", required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--tuned", nargs="*", default=[], help="files that `sepllm tune --policy-out` wrote")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--only-page", action="store_true")
    parser.add_argument("--limit-seconds", type=float, default=0)
    args = parser.parse_args()
    bench = Bench(args)
    if not args.only_page:
        bench.measure()
    print(table(bench.rows, bench.name(), args.tokens)[0])
    if args.page:
        write_page(args.page, bench.rows)


if __name__ == "__main__":
    main()
