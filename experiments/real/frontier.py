#!/usr/bin/env python3
"""Writes docs/results/real-models.svg from experiments/real/logs: the loss that each policy adds to full attention's, by the share of the keys
that it looks at; a panel for each set of texts and one for the tasks."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(REPOSITORY / "tools")]

import runs as R
from page_part import read_lines

KINDS = ("sink", "fixed", "sep", "sep H, HT", "sink-stream", "sep-stream", "tuned")


def kind(label):
    if label.startswith("sep n=") and label.endswith(("H", "HT")):
        return "sep H, HT"
    return next((k for k in ("sep-stream", "sink-stream", "sink", "fixed", "sep", "tuned") if label.startswith(k)), None)


def panel(title, points):
    """points: [(kind, share of the keys in per cent, what it adds)]"""
    series = []
    for name in KINDS:
        own = sorted((x, y) for k, x, y in points if k == name)
        series.append((name, [x for x, _ in own], [y for _, y in own]) if own else (name, [0], [None]))
    return {"title": title, "series": series, "x_label": "keys, % of full attention's", "marks": True}


def of_texts(file):
    rows = read_lines(HERE / "logs" / file)
    full = {r["text"]: r for r in rows if r["label"] == "full"}
    for label in dict.fromkeys(r["label"] for r in rows):
        own = {r["text"]: r for r in rows if r["label"] == label}
        if kind(label) and set(own) == set(full):
            yield (kind(label), 100 * sum(r["share"] for r in own.values()) / len(own),
                   sum(r["nll_mean"] - full[t]["nll_mean"] for t, r in own.items()) / len(own))


def of_tasks():
    rows = read_lines(HERE / "logs/tasks.jsonl")
    by_task = {}
    for r in rows:
        by_task.setdefault(r["task"], {})[r["policy"]] = [-s[g] for s, g in zip(r["scores"], r["gold"])], r["share"]
    labels = set.intersection(*(set(own) for own in by_task.values())) if by_task else set()
    for label in labels - {"full"}:
        added = [a - b for own in by_task.values() for a, b in zip(own[label][0], own["full"][0])]
        yield kind(label), 100 * sum(own[label][1] for own in by_task.values()) / len(by_task), sum(added) / len(added)


def main():
    panels = []
    for file, what in (("books2k.jsonl", "held-out books, 2,048 tokens"), ("wiki2k.jsonl", "wikitext-2, 2,048 tokens"),
                       ("books8k.jsonl", "held-out books, 8,192 tokens")):
        points = list(of_texts(file))
        if points:
            panels.append(panel(f"SmolLM2-135M-Instruct, {what}: nats per token above full attention", points))
    points = list(of_tasks())
    if points:
        panels.append(panel("Tasks at 5 shots: nats per right answer above full attention", points))
    if not panels:
        sys.exit("no figure: experiments/real/logs has no results yet")
    R.svg(str(REPOSITORY / "docs/results"), "real-models.svg", panels)


if __name__ == "__main__":
    main()
