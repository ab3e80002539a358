#!/usr/bin/env python3
"""Measures policies on a real model and writes the tables of docs/results/real-models.md. Every measurement is a line of a results
file; what is there already is not measured again, so the command can be interrupted and continued, and only what was measured is
in the tables.

    real_models.py --model SmolLM2.gguf --texts TEXT... --results results.jsonl [--tokens 2048] [--name "books"] [--only streams]
                   [--tuned policy.json ...] [--policies policies.json] [--page docs/results/real-models.md] [--only-page] [--limit-seconds N]

Perplexity of the first --tokens tokens of each text, each from its beginning, under: full; sep with n = 64, 128 and 256, and with
n = 64 and the first (H) or the first and the last (HT) layer full, and after each of them sink and fixed (k = 8) with as many mean
keys (their windows follow from the measured keys of the sep row); sep-stream with the paper's numbers, and sink-stream with as many
mean keys and with as large a cache; and every policy of --tuned. --only streams measures only the last of these, for texts beyond
the model's position limit; what they are compared with is then sep-stream. --only named measures the policies of --policies:
{"name": {the "sepllm" object of config.json}, ...}. Needs Python only.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from page_part import mean_and_error, read_lines, replace_part

REPOSITORY = Path(__file__).resolve().parents[1]
BINARY = Path(os.environ.get("SEPLLM", REPOSITORY / "build/release/bin/sepllm"))
INIT = 4


def sink_window(mean_keys, tokens):
    """The window of sink with about as many mean keys: a query at i sees min(i + 1, INIT + n) keys."""
    mean = lambda n: min(tokens, INIT + n) - min(tokens, INIT + n) * (min(tokens, INIT + n) - 1) / 2 / tokens
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
        self.rows = read_lines(args.results)
        self.started = time.monotonic()

    def name(self):
        return Path(self.args.model).name

    def group(self):
        """What rows of one table have in common."""
        return {"model": self.name(), "texts": self.args.name, "tokens": self.args.tokens}

    def own(self):
        return [r for r in self.rows if all(r.get(k, "") == v for k, v in self.group().items())]

    def keys_of(self, label):
        """Mean keys over all texts of a policy that was measured."""
        found = [r["mean_keys"] for r in self.own() if r["label"] == label]
        return sum(found) / len(found)

    def score(self, label, *options):
        """Measures what is missing; false when the time is over."""
        for text in self.args.texts:
            if (Path(text).name, label) in {(r["text"], r["label"]) for r in self.own()}:
                continue
            if self.args.limit_seconds and time.monotonic() - self.started > self.args.limit_seconds:
                return False
            nll = self.args.results.with_suffix(".nll")
            threads = ["--threads", str(self.args.threads)] if self.args.threads else []
            started, before = time.monotonic(), os.times()
            command = [str(BINARY), "score", "--model", self.args.model, "--text", text, "--tokens", str(self.args.tokens),
                       "--prefill-chunk", "128", *threads, "--nll-out", str(nll), "--json", *map(str, options)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(done.stderr)
            after = os.times()
            result = json.loads(done.stdout)
            kv = result["kv"]
            row = self.group() | {
                "text": Path(text).name, "label": label, "nll_mean": result["nll_mean"], "mean_keys": kv["mean_keys"],
                "share": kv["mean_share"], "peak_bytes": kv["peak_bytes"], "full_bytes": kv["full_bytes"],
                "score_seconds": result["seconds"], "seconds": round(time.monotonic() - started, 2),
                "cpu_seconds": round(after.children_user + after.children_system - before.children_user - before.children_system, 2),
                "policy": result["policy"], "program": result["program"],
                "block_nll": [round(value, 5) for value in block_means(nll)]}
            with open(self.args.results, "a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
            self.rows.append(row)
            print(f"{label}, {row['text']}: perplexity {math.exp(row['nll_mean']):.3f}, {row['mean_keys']:.0f} keys, "
                  f"{row['cpu_seconds']:.1f} s of CPU", file=sys.stderr, flush=True)
        return True

    def with_keys_of(self, label):
        """Measures sink and fixed with the mean keys of this policy."""
        tokens, keys = self.args.tokens, self.keys_of(label)
        return (self.score(f"sink, keys of {label}", "--policy", "sink", "--init", INIT, "--window", sink_window(keys, tokens)) and
                self.score(f"fixed k=8, keys of {label}", "--policy", "fixed", "--init", INIT,
                           "--window", fixed_window(keys, tokens, 8), "--interval", 8))

    def measure_static(self):
        if not self.score("full", "--policy", "full"):
            return False
        for name, n, layers in (("n=64", 64, ""), ("n=128", 128, ""), ("n=256", 256, ""), ("n=64 H", 64, "0=full"),
                                ("n=64 HT", 64, "0=full,-1=full")):
            more = ["--layer-window", layers] if layers else []
            if not (self.score(f"sep {name}", "--policy", "sep", "--init", INIT, "--window", n, *more) and self.with_keys_of(f"sep {name}")):
                return False
        return True

    def measure_streams(self):
        if not self.score("sep-stream c=800", "--policy", "sep-stream"):
            return False
        capacity = sink_window(self.keys_of("sep-stream c=800"), self.args.tokens) + INIT - 1
        return (self.score("sink-stream, keys of sep-stream", "--policy", "sink-stream", "--capacity", capacity) and
                self.score("sink-stream c=800", "--policy", "sink-stream", "--capacity", 800))

    def measure(self):
        if self.args.only in ("all", "static") and not self.measure_static():
            return
        if self.args.only in ("all", "streams") and not self.measure_streams():
            return
        for file in self.args.tuned:
            if not self.score(f"tuned ({Path(file).stem})", "--policy-file", file):
                return
        self.measure_named()

    def measure_named(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "policy.json"
            for label, settings in json.loads(self.args.policies.read_text()).items() if self.args.policies else ():
                file.write_text(json.dumps({"sepllm": settings}))
                if not self.score(label, "--policy-file", file):
                    return


def block_means(path, block=64):
    values = [float(line) for line in path.read_text().split()]
    path.unlink()
    return [sum(values[i : i + block]) / block for i in range(0, len(values) - block + 1, block)]


def difference(own, other):
    """Mean and standard error of the loss of one policy less that of another on the same texts, by blocks."""
    values = [a - b for text, r in own.items() for a, b in zip(r["block_nll"], other[text]["block_nll"])]
    return "{:+.4f} ± {:.4f}".format(*mean_and_error(values))


def rival(label, labels):
    """The plain window that has as many keys as this policy, if it was measured."""
    base = "sep" + label.split("keys of sep", 1)[1] if "keys of sep" in label else label
    names = [f"sink, keys of {base}", "sink-stream, keys of sep-stream" if base.startswith("sep-stream") else None]
    return next((name for name in names if name in labels and name != label), None)


def table(rows):
    """A row for each policy that was measured on all texts on which the first one (full attention, if it was measured) was."""
    labels = list(dict.fromkeys(r["label"] for r in rows))
    by_label = {label: {r["text"]: r for r in rows if r["label"] == label} for label in labels}
    first = "full" if "full" in labels else labels[0]
    out = [f"| policy | perplexity | loss compared with {first} | compared with the plain window with as many keys | mean keys | of full | "
           "KV at the peak (with a chunk of 128 tokens), of full | seconds of CPU |", "|---|---|---|---|---|---|---|---|"]
    for label in labels:
        own = by_label[label]
        if set(own) != set(by_label[first]):
            continue
        average = lambda key: sum(r[key] for r in own.values()) / len(own)
        window = rival(label, [name for name in labels if set(by_label[name]) == set(own)])
        out.append(f"| {label} | {math.exp(average('nll_mean')):.3f} | {difference(own, by_label[first])} | "
                   f"{difference(own, by_label[window]) if window else ''} | "
                   f"{average('mean_keys'):.1f} | {100 * average('share'):.1f} % | "
                   f"{100 * average('peak_bytes') / average('full_bytes'):.0f} % | {sum(r['cpu_seconds'] for r in own.values()):.0f} |")
    return "\n".join(out), sorted(by_label[first])


def write_page(path, rows):
    """Replaces the part of the page that belongs to each model, set of texts and length, or adds it at the end."""
    for group in dict.fromkeys((r["model"], r.get("texts", ""), r["tokens"]) for r in rows):
        model, name, tokens = group
        own = [r for r in rows if (r["model"], r.get("texts", ""), r["tokens"]) == group]
        body, texts = table(own)
        title = ", ".join(filter(None, [model, name, f"{tokens} tokens of each text"]))
        replace_part(path, "real_models.py", " ".join(filter(None, [model, name, str(tokens)])),
                     f"### {title}\n\nTexts: {', '.join(texts)}. Standard errors are of means over blocks of 64 tokens, paired text by text.\n"
                     f"Program: {json.dumps(own[-1]['program'])}\n\n{body}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", nargs="*", default=[], help="files; not needed for the page")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--name", default="", help="of this set of texts, in the page and in the results")
    parser.add_argument("--only", choices=["all", "static", "streams", "tuned", "named"], default="all")
    parser.add_argument("--tuned", nargs="*", default=[], help="files that `sepllm tune --policy-out` wrote")
    parser.add_argument("--policies", type=Path, help="a file of further policies by name")
    parser.add_argument("--threads", type=int, default=0, help="of the program; its default if left out")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--only-page", action="store_true")
    parser.add_argument("--limit-seconds", type=float, default=0)
    args = parser.parse_args()
    bench = Bench(args)
    if not args.only_page:
        bench.measure()
    if bench.own():
        print(table(bench.own())[0])
    if args.page:
        write_page(args.page, bench.rows)


if __name__ == "__main__":
    main()
