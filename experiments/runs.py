"""Shared by the experiments: runs of `sepllm train`, calls of the program, numbers for people."""

import json
import math
import os
import statistics
import struct
import subprocess
import sys

import figure  # noqa: E402


def machine():
    """The processor's name and the number of cores, as the pages say it."""
    name = "an unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                name = " ".join(line.split(":", 1)[1].split())
                break
    return f"{len(os.sched_getaffinity(0))} cores of {name}"


def read_run(folder):
    """{settings, parameters, steps: [metrics of a step]}, or None if the run is not finished."""
    if not os.path.isdir(os.path.join(folder, "model")):
        return None
    with open(os.path.join(folder, "run.json"), encoding="utf-8") as file:
        facts = json.load(file)
    steps = {}
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            steps[row["step"]] = row
    return {**facts, "steps": [steps[k] for k in sorted(steps)]}


def need_runs(runs, names):
    """The runs of these names; None (and a line that says which is missing) if one is not finished."""
    found = {name: read_run(os.path.join(runs, name)) for name in names}
    for name, run in found.items():
        if run is None:
            print(f"no page: the run {name} is not finished", file=sys.stderr)
            return None
    return found


def held_out(run):
    """[(step, held-out loss)]"""
    return [(row["step"], row["valid_loss"]) for row in run["steps"] if row.get("valid_loss") is not None]


def step_seconds(run):
    """The median over the steps without the first ones, in which memory is allocated."""
    return statistics.median(row["seconds"] for row in run["steps"] if row["step"] > 2)


def curve(run, x, seconds_a_step=0.0):
    """(x values, held-out losses) over "tokens", "flops" or "seconds" (that many a step)."""
    rows = [row for row in run["steps"] if row.get("valid_loss") is not None]
    at = {"tokens": lambda r: r["tokens"], "flops": lambda r: r["dense_flops"] + r["attention_flops"],
          "seconds": lambda r: r["step"] * seconds_a_step}[x]
    return [at(row) for row in rows], [row["valid_loss"] for row in rows]


def spread(values, form="{:.4f}"):
    """The mean and, if there are several values, the sample deviation."""
    text = form.format(statistics.mean(values))
    return text if len(values) == 1 else f"{text} ± {form.format(statistics.stdev(values))}"


def pooled_deviation(groups):
    """The deviation of single runs from their policy's mean, over the policies with several seeds."""
    several = [g for g in groups if len(g) > 1]
    return math.sqrt(sum(statistics.variance(g) * (len(g) - 1) for g in several) / sum(len(g) - 1 for g in several))


def call(*command):
    """Standard output of a command; (None, its last line of errors) if it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None, done.stderr.strip().splitlines()[-1]
    return done.stdout, None


def kept_json(path, *command):
    """What `command` prints as JSON, kept in `path`: computed again if that file is removed. A failure of the program
    is kept as {"error": its line}."""
    if not os.path.isfile(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        out, error = call(*command)
        with open(path + ".part", "w", encoding="utf-8") as file:
            file.write(out if error is None else json.dumps({"error": error}) + "\n")
        os.replace(path + ".part", path)
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def documents(prefix):
    """The token ids of each document of PREFIX.bin/.idx (Megatron's form, see docs/DATA.md)."""
    with open(prefix + ".idx", "rb") as file:
        head = file.read()
    kind, n = head[17], struct.unpack_from("<Q", head, 18)[0]
    size, code = {8: (2, "H"), 4: (4, "i")}[kind]
    sizes = struct.unpack_from(f"<{n}i", head, 34)
    starts = struct.unpack_from(f"<{n}q", head, 34 + 4 * n)
    with open(prefix + ".bin", "rb") as file:
        data = file.read()
    return [list(struct.unpack_from(f"<{count}{code}", data, at)) for count, at in zip(sizes, starts)]


def table(columns, rows):
    """A Markdown table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def size(n):
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.2f} GiB"


def write(to, name, text):
    path = os.path.join(to, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    print(path)


def svg(to, name, panels, height=240):
    write(to, name, figure.figure(panels, height=height))
