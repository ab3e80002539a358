"""Line figures as SVG files that are legible on light and dark pages; nothing beyond Python's own library."""

import html
import math

WIDTH, LEFT, RIGHT, TOP = 720, 70, 16, 34
# Colours that differ in lightness too: light page, dark page.
COLOURS = [("#1668b8", "#6db3f2"), ("#c04f15", "#f29a6d"), ("#2b8a3e", "#7ed491"), ("#8a3ea8", "#cf9ae3"),
           ("#946c00", "#e0bd55"), ("#b3315f", "#f08db0"), ("#12808a", "#6fd0d8"), ("#666666", "#aaaaaa")]


def style():
    light = " ".join(f".s{k} {{ stroke: {c} }} .k{k} {{ fill: {c} }}" for k, (c, _) in enumerate(COLOURS))
    dark = " ".join(f".s{k} {{ stroke: {c} }} .k{k} {{ fill: {c} }}" for k, (_, c) in enumerate(COLOURS))
    return f"""<style>
  text {{ font: 12px sans-serif; fill: #333 }} .title {{ font-weight: bold }} .grid {{ stroke: #ddd }}
  .frame {{ fill: none; stroke: #999 }} .line {{ fill: none; stroke-width: 1.5 }} .dashed {{ stroke-dasharray: 5 3 }}
  {light}
  @media (prefers-color-scheme: dark) {{ text {{ fill: #ddd }} .grid {{ stroke: #444 }} .frame {{ stroke: #888 }}
  {dark} }}
</style>"""


def ticks(low, high, n=5):
    """Round numbers from low to high."""
    step = 10 ** math.floor(math.log10((high - low) / n))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= n)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def number(v, top):
    """v as an axis on which `top` is the largest writes it."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if top >= size:
            return f"{v / size:.4g}{unit}" if v else "0"
    return f"{v:.4g}"


def panel(top, height, title, series, from_zero=True, x_label="", x_low=0, marks=False):
    """series: [(name, x values, y values[, dashed])]; y values that are None are left out. x_low: the left edge. marks: a dot at each
    value. Names of one panel stand in
    its upper right corner, one below the other if there are many."""
    rows = [(s[0], s[1], s[2], len(s) > 3 and s[3]) for s in series]
    values = [v for _, _, row, _ in rows for v in row if v is not None]
    low, high = min(values), max(values)
    low = 0 if from_zero else low
    spare = 0.15 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = (0 if from_zero else low - spare), high + spare
    x_high = max(x[-1] for _, x, _, _ in rows)
    at_x = lambda v: LEFT + (WIDTH - LEFT - RIGHT) * (v - x_low) / (x_high - x_low)
    at_y = lambda v: top + height * (high - v) / (high - low)
    out = [f'<text x="{LEFT}" y="{top - 8}" class="title">{html.escape(title)}</text>']
    for v in ticks(low, high):
        out.append(f'<path class="grid" d="M{LEFT} {at_y(v):.1f}H{WIDTH - RIGHT}"/>'
                   f'<text x="{LEFT - 6}" y="{at_y(v) + 4:.1f}" text-anchor="end">{v:,.10g}</text>')
    for v in ticks(x_low, x_high, 8):
        out.append(f'<text x="{at_x(v):.1f}" y="{top + height + 15}" text-anchor="middle">{number(v, x_high)}</text>')
    if x_label:
        out.append(f'<text x="{WIDTH - RIGHT}" y="{top + height + 30}" text-anchor="end">{html.escape(x_label)}</text>')
    column = len(rows) > 2
    for k, (name, x, row, dashed) in enumerate(rows):
        points = " ".join(f"{at_x(a):.1f},{at_y(b):.1f}" for a, b in zip(x, row) if b is not None)
        c = k % len(COLOURS)
        out.append(f'<polyline class="line s{c}{" dashed" if dashed else ""}" points="{points}"/>')
        if marks:
            out.extend(f'<circle class="k{c}" cx="{at_x(a):.1f}" cy="{at_y(b):.1f}" r="3"/>' for a, b in zip(x, row) if b is not None)
        if name:
            place = (f'x="{WIDTH - RIGHT - 8}" y="{top + 16 + 15 * k}"' if column
                     else f'x="{WIDTH - RIGHT - 130 * (len(rows) - 1 - k)}" y="{top - 8}"')
            out.append(f'<text {place} text-anchor="end" class="k{c}">{html.escape(name)}</text>')
    out.append(f'<rect class="frame" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{height}"/>')
    return "\n".join(out)


def figure(panels, height=130, gap=50):
    """panels: [{title, series, from_zero, x_label, x_low, marks}], one below the other."""
    total = TOP + len(panels) * (height + gap)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}">', style()]
    for k, p in enumerate(panels):
        parts.append(panel(TOP + k * (height + gap), height, **p))
    return "\n".join(parts + ["</svg>", ""])
