#!/usr/bin/env python3
"""The same measures with each instruction set that this machine can imitate, in turns, as one Markdown table.

    instruction_sets.py [--sets avx2,avx512,vnni,bf16,amx] [--only decode,prefill,attention,train] [--threads 1]
                        [--rounds 3] [--sepllm build/release/bin/sepllm]

Each round runs every measure once with every set (SEPLLM_CPU, which limits OpenBLAS too); figures are medians over the
rounds, with their share of the fastest set in parentheses. Sets that the processor does not reach are left out and named.
Decoding and prompts: a model of 1.1 or .16 billion random weights, empty cache. Attention: forward, 12 heads of 64, T = 8192,
sep with n = 64. Training: a step of gpt2-124m, T = 1024. Needs nothing but Python."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

SETS = ("avx2", "avx512", "vnni", "bf16", "amx")
# name -> (unit, whether more is better, arguments, how the figure is found in the JSON)
MEASURES = {}
for bits in ("q8_0", "q4_0", "bf16"):
    MEASURES[f"decode 1.1B {bits}"] = ("tokens/s", True, f"bench decode --shape tinyllama-1.1b --weights {bits} -n 24 -r 1",
                                       lambda rows: rows[0]["median_ts"])
for bits in ("q8_0", "q4_0", "f32"):
    MEASURES[f"prefill 512, 160M {bits}"] = ("tokens/s", True, f"bench prefill --shape llama-160m --weights {bits} -p 512 -r 3",
                                             lambda rows: rows[0]["median_ts"])
MEASURES["attention 8K, sep"] = ("s", False, "bench attention --heads 12 --head-dim 64 --tokens 8192 --window 64 --pass forward",
                                 lambda rows: rows[0]["seconds"])
for compute in ("f32", "bf16"):
    MEASURES[f"train 124M {compute}"] = ("s", False, f"bench train --shape gpt2-124m --tokens 1024 --repeats 2 --compute {compute}",
                                         lambda rows: rows[0]["seconds"])


def run(args, limit, command):
    """The JSON that the program prints, or None with its last line of errors if it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS")} | {"SEPLLM_CPU": limit}
    done = subprocess.run([args.sepllm, *command.split(), "--threads", str(args.threads), "--json"], env=environment,
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None, done.stderr.strip().splitlines()[-1]
    return json.loads(done.stdout), done.stderr


def reached(args):
    sets, left_out = [], []
    for limit in args.sets.split(","):
        _, said = run(args, limit, "inspect cpu")
        (left_out if "has less than that" in said else sets).append(limit)
    if left_out:
        print(f"this processor does not have: {', '.join(left_out)}", file=sys.stderr)
    return sets


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--only", default="", help="measures whose names begin with one of these words")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sepllm", default=str(Path(__file__).resolve().parents[1] / "build/release/bin/sepllm"))
    args = parser.parse_args()
    words = tuple(w for w in args.only.split(",") if w) or ("",)
    measures = {name: m for name, m in MEASURES.items() if name.startswith(words)}
    sets = reached(args)
    found = {(name, limit): [] for name in measures for limit in sets}
    for _ in range(args.rounds):
        for name, (_, _, command, figure) in measures.items():
            for limit in sets:
                rows, said = run(args, limit, command)
                if rows is None:
                    print(f"{name}, {limit}: {said}", file=sys.stderr)
                else:
                    found[name, limit].append(figure(rows))
    about, _ = run(args, sets[-1], "inspect cpu")
    print(f"{about['cpu_info']} ({about['instruction_sets']}), {args.threads} thread{'s' if args.threads > 1 else ''}, "
          f"medians of {args.rounds} rounds\n")
    print("| measure | unit | " + " | ".join(sets) + " |")
    print("|---|---|" + "---:|" * len(sets))
    for name, (unit, more, _, _) in measures.items():
        values = [statistics.median(found[name, limit]) if found[name, limit] else None for limit in sets]
        known = [v for v in values if v is not None]
        best = (max if more else min)(known) if known else None
        cells = ["-" if v is None else f"{v:.3g} ({(v / best if more else best / v):.2f})" for v in values]
        print(f"| {name} | {unit} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
