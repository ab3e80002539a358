#!/usr/bin/env python3
"""What post_training.py's models can do, next to the model that they began as.

    post_trained.py measure FOLDER [--threads N] [--only books,tasks,long]   FOLDER: the model before; lines of experiments/real/logs/after-*.jsonl
    post_trained.py page                                          docs/results/post-training.md and .svg from the logs

Every model that is finished is measured, and what was measured is not measured again: perplexity on held-out books under all four
policies ($SEPLLM_RUNS/real/books2k.list, which run.sh texts makes), likelihood tasks with five examples and needles (run.sh long makes
their files): the model before and the control under all policies, the others under their own. Needs what real_tasks.py needs.
"""

import argparse
import json
import math
import subprocess
import sys

import post_training as P

sys.path.insert(0, str(P.REPOSITORY / "tools"))

import runs as R
from page_part import mean_and_error, read_lines

TASKS, DOCUMENTS = "arc_easy,sciq,lambada", 100
NEEDLES = "needle_at_1024,needle_between_1024"
BEFORE = "before"
OWN = {"sep-64": "sep n=64", "sink-64": "sink n=64", "sink-keys": "sink, sep's keys", "full": "full"}
LOGS = {what: P.HERE / f"logs/after-{what}.jsonl" for what in ("books", "tasks", "long")}


def policies():
    window = P.sink_window(json.loads((P.RUNS / "sep_share.json").read_text()))
    return {"full": {"policy": "full"}, "sep n=64": {"policy": "sep", "init": P.INIT, "window": 64},
            "sink n=64": {"policy": "sink", "init": P.INIT, "window": 64},
            "sink, sep's keys": {"policy": "sink", "init": P.INIT, "window": window}}


def policy_file(name, labels):
    path = P.RUNS / name
    path.write_text(json.dumps({label: policies()[label] for label in labels}))
    return path


def models(folder):
    """{name: folder whose name is that of the model in the logs} of the model before and of the finished runs."""
    places = {BEFORE: folder, **{name: P.RUNS / name / "model" for name in P.NAMES if (P.RUNS / name / "model").exists()}}
    links = P.RUNS / "after"
    links.mkdir(exist_ok=True)
    for name, place in places.items():
        if not (links / name).exists():
            (links / name).symlink_to(place)
    return {name: links / name for name in places}


def tool(args, script, *command):
    if subprocess.run([sys.executable, str(P.REPOSITORY / "tools" / script), *map(str, command)], check=False).returncode != 0:
        sys.exit(f"{script} failed")


def measure(args):
    for name, model in models(args.model).items():
        everything = policy_file("all_policies.json", policies())
        own = everything if name in (BEFORE, "full") else policy_file(f"{name}_policies.json", [OWN[name]])
        if "books" in args.only:
            tool(args, "real_models.py", "--model", model, "--texts", *(P.RUNS / "books2k.list").read_text().split(), "--results", LOGS["books"],
                 "--name", "held-out books", "--only", "named", "--policies", everything, "--threads", args.threads)
        if "long" in args.only:
            tool(args, "long_context/run.py", P.RUNS / "long", "--model", model, "--out", LOGS["long"], "--policies", own, "--tasks", NEEDLES,
                 "--serve", "--threads", args.threads, "--kv-memory", 1024)
        if "tasks" in args.only:
            tool(args, "real_tasks.py", model, "--tokenizer", args.model, "--results", LOGS["tasks"], "--tasks", TASKS, "--documents", DOCUMENTS,
                 "--policies", own, "--threads", args.threads)


def shown(label):
    """The name of a policy in the page: with its window, as it was measured."""
    windows = (r["policy"]["window"] for r in read_lines(LOGS["books"]) if r["label"] == label)
    return f"sink n={next(windows)}" if label == "sink, sep's keys" else label


def signed(values, digits=4):
    mean, error = mean_and_error(values)
    return f"{mean:+.{digits}f} ± {error:.{digits}f}"


def curves(rows):
    """{run: [(tokens, held-out loss)]} of the runs, without the probes."""
    found = {name: P.held_out([r for r in rows if r["run"] == name]) for name in P.NAMES}
    return {name: curve for name, curve in found.items() if len(curve) > 1}


def loss_table(rows, found):
    level = found["full"][0][1] if "full" in found else None  # of full attention, before

    def back(curve):
        """After how many tokens the loss is what full attention's was before."""
        if level is None:
            return ""
        return next((f"{tokens:,}" for tokens, loss in curve if loss <= level), "not reached")

    lines = []
    for name, curve in found.items():
        own = [r for r in rows if r["run"] == name and r.get("lr")]
        lines.append((P.NAMES[name], f"{max(r['lr'] for r in own):.0e}", f"{curve[-1][0]:,}", f"{100 * own[-1]['visible_share']:.0f} %",
                      f"{curve[0][1]:.4f}", f"{curve[-1][1]:.4f}", f"{curve[-1][1] - curve[0][1]:+.4f}", back(curve),
                      f"{sum(r['seconds'] for r in own) / 3600:.2f}"))
    return R.table(["run", "learning rate", "tokens", "visible share", "held-out loss before", "at the end", "change",
                    "tokens until it is full attention's before training", "hours"], lines)


def probe_table(rows):
    lines = []
    for name in P.NAMES:
        ends = {rate: P.held_out([r for r in rows if r["run"] == f"probe-{name}-{rate}"]) for rate in P.RATES}
        if any(ends.values()):
            lines.append((P.NAMES[name], *(f"{ends[rate][-1][1]:.4f}" if len(ends[rate]) > 1 else "" for rate in P.RATES)))
    return R.table(["run", *(f"lr {rate}" for rate in P.RATES)], lines)


def book_blocks(rows, model, label):
    """{(text, block): loss}"""
    return {(r["text"], k): value for r in rows if r["model"] == model and r["label"] == label for k, value in enumerate(r["block_nll"])}


def book_table(rows):
    lines, full = [], book_blocks(rows, "full", "full")
    for model in [BEFORE, *P.NAMES]:
        for label in OWN.values():
            own = book_blocks(rows, model, label)
            if not own:
                continue
            window = book_blocks(rows, model, "sink, sep's keys") if label == "sep n=64" else {}
            trained = book_blocks(rows, "sink-keys", "sink, sep's keys") if (model, label) == ("sep-64", "sep n=64") else {}
            keys = [r["mean_keys"] for r in rows if r["model"] == model and r["label"] == label]
            against = lambda other: signed([own[k] - other[k] for k in own]) if set(other) == set(own) else ""
            lines.append((P.NAMES.get(model, "before"), shown(label), f"{math.exp(sum(own.values()) / len(own)):.3f}", f"{sum(keys) / len(keys):.0f}",
                          "" if (model, label) == ("full", "full") else against(full), against(window), against(trained)))
    return R.table(["model trained under", "measured under", "perplexity", "mean keys", "nats more than the control under full attention",
                    "nats more than the wide window, in the same model", "in the model that was trained under that window"], lines)


def task_table(rows):
    from real_tasks import loss, right

    found = {}
    for r in rows:
        found.setdefault((r["model"], r["policy"]), {})[r["task"]] = r
    tasks = TASKS.split(",")
    whole = {key: own for key, own in found.items() if all(task in own for task in tasks)}
    joined = lambda own, of: [v for task in tasks for v in of(own[task])]
    lines = []
    for (model, label), own in whole.items():
        other = whole.get((model, "full")) or whole.get(("full", "full"))
        window = whole.get(("sink-keys" if model == "sep-64" else model, "sink, sep's keys")) if label == "sep n=64" else None
        mean, error = mean_and_error(joined(own, right))
        less = lambda other, of, factor, digits: signed([factor * (a - b) for a, b in zip(joined(own, of), joined(other, of))], digits) if other else ""
        same = other is own
        lines.append((P.NAMES.get(model, "before"), shown(label), f"{sum(own[task]['mean_keys'] for task in tasks) / len(tasks):.0f}",
                      f"{100 * mean:.1f} ± {100 * error:.1f}", "" if same else less(other, right, 100, 1), less(window, right, 100, 1),
                      "" if same else less(other, loss, 1, 2), less(window, loss, 1, 2)))
    return R.table(["model trained under", "measured under", "mean keys", "accuracy, %", "compared with full attention", "with the wide window",
                    "loss of the right answer, compared with full attention", "with the wide window"], lines)


def needle_table(rows):
    found = {}
    for r in rows:
        found.setdefault((r["model"], r["policy"]), {}).setdefault(r["task"], []).append(r["score"])
    cell = lambda values: "{:.0f} ± {:.0f}".format(*(100 * v for v in mean_and_error(values))) if len(values or []) == 25 else ""
    return R.table(["model trained under", "measured under", *(f"{task}, %" for task in NEEDLES.split(","))],
                   [(P.NAMES.get(model, "before"), shown(label), *(cell(own.get(task)) for task in NEEDLES.split(","))) for (model, label), own in found.items()])


def page(_):
    rows = read_lines(P.LOGS)
    found = curves(rows)
    if not found:
        sys.exit("no run has two validations yet")
    to = str(P.REPOSITORY / "docs/results")
    R.svg(to, "post-training.svg", [{"title": "Held-out loss by tokens of post-training", "from_zero": False, "x_label": "tokens",
                                     "series": [(P.NAMES[name], *zip(*curve)) for name, curve in found.items()]}])
    page_file = P.REPOSITORY / "docs/results/post-training.md"
    old = page_file.read_text(encoding="utf-8") if page_file.exists() else ""
    mark = "<!-- what follows is made by experiments/real/post_trained.py -->"
    words = old.split(mark)[0] if mark in old else "# Post-training of a pretrained model\n\n"
    books, tasks, needles = (read_lines(LOGS[what]) for what in ("books", "tasks", "long"))
    R.write(to, "post-training.md", f"""{words}{mark}

![Held-out loss by tokens](post-training.svg)

## Runs

{loss_table(rows, found)}

One run a policy, seed 1, all with the same batches of 4 samples of 2,048 tokens ([the settings](../../experiments/real/post_training.yaml), [training and held-out books](../../experiments/real/split.json)).
The held-out loss is that of 16 samples of held-out books, under the policy that the run trains.

Learning rates: the held-out loss of 8 samples after {P.PROBE_STEPS} steps.

{probe_table(rows)}

## Held-out books

{book_table(books)}

The beginning of another part of each of 8 held-out books, 2,048 tokens each. Standard errors are of means over blocks of 64 tokens, paired text by text. The window that is
wide has the number of keys that `sep` has in the books of the training; in these excerpts, with more separators, it has a little fewer.

## Likelihood tasks

{task_table(tasks) if tasks else "Not measured."}

Five examples, {DOCUMENTS} documents of each of {TASKS.replace(",", ", ")}, joined; differences are paired, document by document. The wide window has as many keys as `sep` in books; in these tasks, with
fewer separators, it has more. It is compared with in the same model, and for the model trained under `sep` in the one trained under that window; full attention in the same model, or else in the control.

## Needles

{needle_table(needles) if needles else "Not measured."}

Found, of 25 documents of 1,024 tokens.
""")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("measure")
    command.set_defaults(call=measure)
    command.add_argument("model", type=lambda path: P.Path(path).resolve())
    command.add_argument("--threads", type=int, default=0)
    command.add_argument("--only", default="books,long,tasks", type=lambda text: text.split(","))
    commands.add_parser("page").set_defaults(call=page)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
