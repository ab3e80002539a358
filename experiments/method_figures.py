#!/usr/bin/env python3
"""The two drawings of the method, docs/figures/visibility.svg and docs/figures/blocks.svg, made from the definitions.

    experiments/method_figures.py [--to docs/figures]
"""

import argparse
import html
import os

# A token of the example a cell; the marks of the text rule (docs/METHOD.md#separators) end segments.
WORDS = ["<s>", "Alice", "was", "tired", ",", "so", "she", "sat", "down", ".", "A", "rabbit", "ran", "by", ":", "late", "again", "!"]
MARKS = set(".,:!?;")
INITIAL = 1
WINDOW = 4

FONT = "font-family='ui-sans-serif,system-ui,sans-serif'"
COLORS = {"initial": "#7a5195", "separator": "#e07b39", "window": "#4c78a8", "past": "#c9ced6", "dropped": "#eef0f3"}
INK = "#1f2430"
QUIET = "#5b6472"


def text(x, y, words, size=12, anchor="start", color=INK, extra=""):
    return f"<text x='{x}' y='{y}' font-size='{size}' text-anchor='{anchor}' fill='{color}' {FONT} {extra}>{html.escape(words)}</text>"


def cell(x, y, width, height, color):
    return f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='2' fill='{color}'/>"


def svg(width, height, title, body):
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' role='img'>"
        f"<title>{html.escape(title)}</title><rect width='{width}' height='{height}' fill='#ffffff'/>" + "".join(body) + "</svg>\n"
    )


def kind_of(query, key):
    """Why a query sees a key, or None: the definition of docs/METHOD.md#visibility."""
    if key > query:
        return None
    if query - key < WINDOW:
        return "window"
    if key < INITIAL:
        return "initial"
    if WORDS[key] in MARKS:
        return "separator"
    return "dropped"


def visibility():
    size, left, top = 20, 74, 84
    n = len(WORDS)
    body = [
        text(left, 26, "Which earlier tokens does each token attend to?", 16, extra="font-weight='600'"),
        text(left, 46, "A row is a token that is read, a column a token before it. Full attention keeps every cell; SepLLM the coloured ones.", 12, color=QUIET),
    ]
    for q in range(n):
        body.append(text(left - 8, top + q * size + 14, WORDS[q], 12, "end"))
        for k in range(q + 1):
            body.append(cell(left + k * size + 1, top + q * size + 1, size - 2, size - 2, COLORS[kind_of(q, k)]))
    for k in range(n):
        x = left + k * size + 13
        # A label stands above the diagonal, where its column begins.
        body.append(text(x + 5, top + k * size - 4, WORDS[k], 11, "start", QUIET, f"transform='rotate(-45 {x} {top + k * size - 4})'"))
    kept = sum(kind_of(n - 1, k) != "dropped" for k in range(n))
    x, y = left + n * size + 60, top + 40
    legend = [
        ("initial", "the first tokens, which all models lean on"),
        ("separator", "separators: each stands for the segment it closes"),
        ("window", f"the neighbouring window (here {WINDOW} tokens)"),
        ("dropped", "no longer needed: leaves the KV cache for good"),
    ]
    for i, (kind, words) in enumerate(legend):
        body.append(cell(x, y + i * 28, 16, 16, COLORS[kind]))
        body.append(text(x + 24, y + i * 28 + 13, words))
    body.append(text(x, y + 4 * 28 + 20, f"The last token sees {kept} of {n} keys.", 12, extra="font-weight='600'"))
    return svg(x + 360, top + n * size + 20, "Visibility under SepLLM", body)


def row_of_blocks(y, blocks, scale, left):
    body, x = [], left
    for name, kind, slots, label in blocks:
        width = slots * scale
        body.append(cell(x + 1, y, width - 2, 34, COLORS[kind]))
        body.append(text(x + width / 2, y + 15, name, 11, "middle", "#ffffff" if kind != "past" else INK, "font-weight='600'"))
        body.append(text(x + width / 2, y + 28, label, 10, "middle", "#ffffff" if kind != "past" else INK))
        x += width
    return body, x


def blocks():
    left = 24
    body = [text(left, 26, "The four blocks of a stream's cache", 16, extra="font-weight='600'")]
    body.append(text(left, 46, "Slots in order, oldest first. Widths are not to scale.", 12, color=QUIET))
    body.append(text(left, 80, "When the cache has grown past its capacity c ...", 12))
    before = [("Initial", "initial", 9, "a"), ("Separators", "separator", 12, "m ≤ s"), ("Past window", "past", 22, "grows"), ("Local window", "window", 18, "w")]
    part, end = row_of_blocks(90, before, 11, left)
    body += part
    body.append(text(end + 10, 112, "L = c + 1", 12))
    # Separators inside the past window, and where they go.
    past = left + 21 * 11
    for offset in (2, 5, 18):
        body.append(cell(past + offset * 11, 90, 6, 34, COLORS["separator"]))
        body.append(
            f"<path d='M {past + offset * 11 + 3} 126 C {past + offset * 11} 160, {left + 18 * 11} 150, {left + 18 * 11} 186' stroke='{COLORS['separator']}' fill='none' stroke-width='1.5'/>"
        )
    body.append(text(left + 280, 172, "... one compression keeps the past window's separators (the newest s) and drops the rest.", 12))
    after = [("Initial", "initial", 9, "a"), ("Separators", "separator", 15, "m ≤ s"), ("Local window", "window", 18, "w")]
    part, end = row_of_blocks(190, after, 11, left)
    body += part
    body.append(text(end + 10, 212, "L = a + m + w, and the past window is empty", 12))
    return svg(880, 244, "The four blocks of a streaming cache", body)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--to", default=os.path.join(here, "../docs/figures"))
    args = parser.parse_args()
    os.makedirs(args.to, exist_ok=True)
    for name, picture in (("visibility", visibility()), ("blocks", blocks())):
        with open(os.path.join(args.to, name + ".svg"), "w", encoding="utf-8") as file:
            file.write(picture)


if __name__ == "__main__":
    main()
