"""The page of E2: speed of training, full against sep, by length."""

import glob
import json
import os
import sys

import runs as R

SHAPES = [("pythia-160m", "Pythia-160M shape"), ("sepllm-5m", "Shape of the embedded model")]
TOKENS = (1024, 2048, 4096, 8192, 16384)


def attention_share(row):
    parts = row["breakdown"]
    return sum(v for k, v in parts.items() if k.startswith("attention_")) / sum(parts.values())


def page(runs, to):
    rows = {}
    for shape, _ in SHAPES:
        for tokens in TOKENS:
            for policy in ("full", "sep"):
                rounds = []
                for path in sorted(glob.glob(os.path.join(runs, "e2", f"{shape}-{tokens}-{policy}-*.json"))):
                    with open(path, encoding="utf-8") as file:
                        rounds.append(json.load(file)[0])
                if not rounds:
                    print(f"no page: E2 has no {policy} of {shape} at {tokens}", file=sys.stderr)
                    return
                rounds.sort(key=lambda row: row["tokens_per_second"])
                rows[shape, tokens, policy] = rounds[len(rounds) // 2]
    text = []
    for shape, title in SHAPES:
        cells = []
        for tokens in TOKENS:
            full, sep = rows[shape, tokens, "full"], rows[shape, tokens, "sep"]
            cells.append((f"{tokens:,}", f"{full['tokens_per_second']:.0f}", f"{sep['tokens_per_second']:.0f}",
                          f"{sep['tokens_per_second'] / full['tokens_per_second']:.2f}",
                          f"{100 * attention_share(full):.0f} %", f"{100 * attention_share(sep):.0f} %", f"{100 * sep['kept']:.1f} %"))
        one = rows[shape, TOKENS[0], "full"]
        text.append(f"""## {title} ({one['parameters']:,} parameters)

{R.table(["T", "full, tokens/s", "sep, tokens/s", "ratio", "attention in full's step", "in sep's", "keys seen"], cells)}
""")
    ratio = {shape: [rows[shape, t, "sep"]["tokens_per_second"] / rows[shape, t, "full"]["tokens_per_second"] for t in TOKENS]
             for shape, _ in SHAPES}
    R.svg(to, "e2-speed.svg", [
        {"title": "Tokens per second: sep / full", "x_label": "tokens of a sample",
         "series": [(shape, list(TOKENS), ratio[shape]) for shape, _ in SHAPES]},
        {"title": "Attention's share of a step's time", "x_label": "tokens of a sample",
         "series": [(f"{shape}, {policy}", list(TOKENS), [attention_share(rows[shape, t, policy]) for t in TOKENS])
                    for shape, _ in SHAPES for policy in ("full", "sep")]}], height=180)

    def reach(shape, goal):
        found = [t for t, r in zip(TOKENS, ratio[shape]) if r >= goal]
        return f"from T = {found[0]:,} on ({ratio[shape][TOKENS.index(found[0])]:.2f})" if found else "at none of these lengths"

    said = "\n".join(f"- {title}: 1.26 x {reach(shape, 1.26)}; 1.53 x {reach(shape, 1.53)}." for shape, title in SHAPES)
    R.write(to, "e2-speed.md", f"""# E2: speed of training, full attention and sep

`sepllm bench train` measures whole steps (forward, backward, AdamW) of one sample of T random tokens, with separators at the same places as in a book,
random weights, a = 4, n = 64, activation checkpointing and {rows[SHAPES[0][0], TOKENS[0], 'full']['threads']} threads. Each figure is the median over three
processes, full and sep in turns, of the second step of each. There are two exceptions: one process for the Pythia shape from T = 8,192 on, where steps take minutes, and
the median of nine steps of each process for the other shape up to T = 2,048. The machine has {R.machine()}.

![Ratios](e2-speed.svg)

{chr(10).join(text)}
In the paper, sep has 1.53 x the throughput, and reaches the same loss in 1/1.26 of the time, when both policies see the same number of tokens (GPUs, T = 2048). Here the speed reaches

{said}

Where the ratio is small, attention is a small part of the step, because the kernel of full attention is fast and the matrix products take more of the time.
[E1](e1-policies.md) shows whether the same loss takes more or fewer tokens under sep.

Made by `experiments/run.sh e2`, on a machine with nothing else running.
""")
