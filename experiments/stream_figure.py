#!/usr/bin/env python3
"""Turns a running log of `sepllm score --log` into a markdown table and an SVG figure.

    experiments/stream_figure.py LOG NAME --title TEXT [--note TEXT] [--rows N] [--to docs/results]

writes NAME.md and NAME.svg. The table has N lines at even distances and the last one; the figure has all of
them. The log itself is raw data and is not kept."""

import argparse
import json
import math
import os

import figure as figures


def read(path):
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.strip()]
    if not lines:
        raise SystemExit(f"{path}: no lines")
    return lines


def figure(lines):
    x = [line["tokens"] for line in lines]
    full = len(lines) > 1 and x[-1] - x[-2] < 0.5 * x[0]  # the last interval is a small rest
    window = [line["perplexity_window"] for line in lines]
    speed = [line["tokens_per_second"] for line in lines]
    if full:
        window[-1] = speed[-1] = None
    mib = lambda key: [line[key] / 2**20 for line in lines]
    panels = [("Perplexity", [("of all", [line["perplexity"] for line in lines]), ("of an interval", window)]),
              ("Tokens per second", [("", speed)]),
              ("Memory of the process, MiB", [("", mib("rss_bytes"))]),
              ("Keys and values, MiB", [("", mib("kv_bytes"))])]
    return figures.figure([{"title": title, "series": [(name, x, row) for name, row in series], "from_zero": k > 0}
                           for k, (title, series) in enumerate(panels)])


def table(lines, rows):
    step = max(1, math.ceil(len(lines) / rows))
    chosen = lines[step - 1 :: step]
    if chosen[-1] is not lines[-1]:
        chosen.append(lines[-1])
    out = ["| tokens | perplexity of the interval | of all | tokens/s | memory, MiB | KV, MiB |",
           "|---:|---:|---:|---:|---:|---:|"]
    for line in chosen:
        out.append(f'| {line["tokens"]:,} | {line["perplexity_window"]:.4f} | {line["perplexity"]:.4f} '
                   f'| {line["tokens_per_second"]:.0f} | {line["rss_bytes"] / 2**20:.1f} '
                   f'| {line["kv_bytes"] / 2**20:.2f} |')
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("log")
    parser.add_argument("name")
    parser.add_argument("--title", required=True)
    parser.add_argument("--note", default="", help="command, machine, what the figures mean")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--to", default="docs/results")
    args = parser.parse_args()
    lines = read(args.log)
    os.makedirs(args.to, exist_ok=True)
    with open(os.path.join(args.to, args.name + ".svg"), "w", encoding="utf-8") as file:
        file.write(figure(lines))
    text = f"# {args.title}\n\n" + (args.note + "\n\n" if args.note else "")
    text += f"![{args.title}]({args.name}.svg)\n\n{table(lines, args.rows)}\n\n"
    text += ("An interval is the part since the previous line of the log (65,536 tokens; the last one is the rest); "
             f"the log had {len(lines)} lines.\n")
    with open(os.path.join(args.to, args.name + ".md"), "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
