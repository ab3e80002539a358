"""Parts of a Markdown page that a script makes, between a line that names the script and what it measured, and an end. Also lines of
results files."""

import json
import math

END = "<!-- end -->"


def replace_part(path, script, name, body):
    """Puts the body in the place of the part of this name, or at the end of the page."""
    begin = f"<!-- made by tools/{script}: {name} -->"
    text = path.read_text(encoding="utf-8") if path.exists() else "# Policies on real models\n"
    part = f"{begin}\n\n{body}\n\n{END}\n"
    if begin in text:
        start = text.index(begin)
        text = text[:start] + part + text[text.index(END, start) + len(END) + 1 :]
    else:
        text += "\n" + part
    path.write_text(text, encoding="utf-8")


def read_lines(path):
    """The complete lines of a file of JSON lines, which may not exist, or may have been cut off in the middle of a line."""
    if not path.exists():
        return []
    whole = path.read_bytes()
    if not whole.endswith(b"\n"):
        whole = whole[: whole.rfind(b"\n") + 1]
        path.write_bytes(whole)
    return [json.loads(line) for line in whole.decode().splitlines()]


def mean_and_error(values):
    """The mean, and its standard error (NaN of one value)."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, float("nan")
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
