#!/usr/bin/env python3
"""A running log of `sepllm score --log` as a markdown table and an SVG figure.

    bench/stream_figure.py LOG NAME --title TEXT [--note TEXT] [--rows N] [--to docs/results]

writes NAME.md and NAME.svg. The table has N lines at even distances and the last one; the figure has all of
them. The log itself is raw data and is not kept."""

import argparse
import html
import json
import math
import os

WIDTH, PANEL, GAP, LEFT, RIGHT, TOP = 720, 130, 38, 70, 16, 34
STYLE = """<style>
  text { font: 12px sans-serif; fill: #333 } .title { font-weight: bold } .grid { stroke: #ddd }
  .frame { fill: none; stroke: #999 } .a { fill: none; stroke: #1668b8; stroke-width: 1.5 }
  .b { fill: none; stroke: #c04f15; stroke-width: 1.5 } .key-a { fill: #1668b8 } .key-b { fill: #c04f15 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } .grid { stroke: #444 } .frame { stroke: #888 }
    .a { stroke: #6db3f2 } .b { stroke: #f29a6d } .key-a { fill: #6db3f2 } .key-b { fill: #f29a6d } }
</style>"""


def read(path):
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.strip()]
    if not lines:
        raise SystemExit(f"{path}: no lines")
    return lines


def ticks(low, high, n=5):
    """Round numbers from low to high."""
    step = 10 ** math.floor(math.log10((high - low) / n))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= n)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def panel(top, title, x, series, from_zero=True):
    """series: (name, values), of which None is left out."""
    values = [v for _, row in series for v in row if v is not None]
    low, high = min(values), max(values)
    low = 0 if from_zero else low
    spare = 0.15 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = (0 if from_zero else low - spare), high + spare
    at_x = lambda v: LEFT + (WIDTH - LEFT - RIGHT) * v / x[-1]
    at_y = lambda v: top + PANEL * (high - v) / (high - low)
    out = [f'<text x="{LEFT}" y="{top - 8}" class="title">{html.escape(title)}</text>']
    for v in ticks(low, high):
        out.append(f'<path class="grid" d="M{LEFT} {at_y(v):.1f}H{WIDTH - RIGHT}"/>'
                   f'<text x="{LEFT - 6}" y="{at_y(v) + 4:.1f}" text-anchor="end">{v:,.10g}</text>')
    for v in ticks(0, x[-1], 8):
        label = f"{v / 1e6:.10g}M" if x[-1] >= 1e6 else f"{v / 1e3:.10g}K"
        out.append(f'<text x="{at_x(v):.1f}" y="{top + PANEL + 15}" text-anchor="middle">{label}</text>')
    for k, (name, row) in enumerate(series):
        points = " ".join(f"{at_x(a):.1f},{at_y(b):.1f}" for a, b in zip(x, row) if b is not None)
        out.append(f'<polyline class="{"ab"[k]}" points="{points}"/>')
        if name:
            out.append(f'<text x="{WIDTH - RIGHT - 130 * (len(series) - 1 - k)}" y="{top - 8}" '
                       f'text-anchor="end" class="key-{"ab"[k]}">{html.escape(name)}</text>')
    out.append(f'<rect class="frame" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL}"/>')
    return "\n".join(out)


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
    height = TOP + len(panels) * (PANEL + GAP + 12)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}">', STYLE]
    for k, (title, series) in enumerate(panels):
        parts.append(panel(TOP + k * (PANEL + GAP + 12), title, x, series, from_zero=k > 0))
    return "\n".join(parts + ["</svg>", ""])


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
    text += ("An interval is what came since the line before in the log (65,536 tokens; the last one what was left); "
             f"the log had {len(lines)} lines.\n")
    with open(os.path.join(args.to, args.name + ".md"), "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
