#!/usr/bin/env python3
"""Post-training of a pretrained model: under sep (n = 64), sink (n = 64), sink with sep's mean keys, and full attention as control,
with the same batches. 753,664 tokens a run.

    post_training.py prepare MODEL      token files: the training books of split.json, wikitext-2 (valid) and TinyStories; held-out books
    post_training.py probe MODEL        8 steps under each policy with each of some learning rates
    post_training.py run MODEL [NAME...]   the runs, each with the learning rate whose probe ended lowest; a finished run is left as it is,
                                        an interrupted one continues
    post_training.py time MODEL         how many seconds two steps of each run take, and so how many hours a run
    post_training.py logs               copies the metrics of what has been run to logs/post_training.jsonl

post_trained.py measures what comes out of it, and writes the page.
The runs are kept in $SEPLLM_RUNS/real (default build/experiments/real); the texts come from $SEPLLM_TEXTS (default
../shared/data/text); $SEPLLM is the program. --set KEY=VALUE changes settings of all runs (compute=f32, threads=1).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
BINARY = Path(os.environ.get("SEPLLM", REPOSITORY / "build/release/bin/sepllm"))
TEXTS = Path(os.environ.get("SEPLLM_TEXTS", REPOSITORY.parent / "shared/data/text"))
RUNS = Path(os.environ.get("SEPLLM_RUNS", REPOSITORY / "build/experiments")) / "real"
CONFIG, SPLIT, LOGS = HERE / "post_training.yaml", HERE / "split.json", HERE / "logs/post_training.jsonl"
INIT, TOKENS, RATES, PROBE_STEPS = 4, 2048, ("1e-5", "3e-5", "1e-4", "3e-4"), 8
NAMES = {"sep-64": "sep n=64", "sink-64": "sink n=64", "sink-keys": "sink with sep's mean keys", "full": "full (control)"}


def program(*command):
    done = subprocess.run([str(BINARY), *map(str, command)], cwd=RUNS, text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout + done.stderr


def prepare(args):
    RUNS.mkdir(parents=True, exist_ok=True)
    split = json.loads(SPLIT.read_text())
    books = lambda name: [TEXTS / f"pg19/test/{book}.txt" for book in split[name]]
    for name, files in {"books": books("train"), "held_out": books("held_out"), "wikitext": [TEXTS / "wikitext-2/valid.txt"],
                        "stories": [TEXTS / "tinystories/tiny_stories.txt"]}.items():
        if not (RUNS / f"{name}.idx").exists():
            print(program("prepare", "--tokenizer", args.model, "--out", name, *files), end="")


def sink_window(share):
    """The window of sink whose visible share of the causal triangle is this one."""
    keys = share * (TOKENS + 1) / 2
    mean = lambda n: sum(min(i + 1, INIT + n) for i in range(TOKENS)) / TOKENS
    return min(range(1, TOKENS), key=lambda n: abs(mean(n) - keys))


def settings(args, name, save, **changes):
    """The options of `sepllm train` for a run."""
    window = sink_window(visible_share(args)) if name == "sink-keys" else 64
    policy = {"policy": "full"} if name == "full" else {"policy": name.split("-")[0], "init": INIT, "window": window}
    own = {"init_from": args.model, "save": save, **{f"policy.{k}": v for k, v in policy.items()}, **changes}
    return ["--config", CONFIG, *(part for k, v in own.items() for part in ("--set", f"{k}={v}")),
            *(part for change in args.set for part in ("--set", change))]


def visible_share(args):
    """Of the causal triangle, under sep: what the program's own plan says."""
    kept = RUNS / "sep_share.json"
    if not kept.exists():
        plan = program("train", *settings(args, "sep-64", "plan"), "--dry-run")
        share = float(plan.split("% of its pairs are visible")[0].rsplit("(", 1)[1]) / 100
        kept.write_text(json.dumps(share))
    return json.loads(kept.read_text())


def train(args, name, save, **changes):
    if not (RUNS / save / "model").exists():
        print(save, flush=True)
        program("train", *settings(args, name, save, **changes))


def metrics(save):
    file = RUNS / save / "metrics.jsonl"
    steps = {row["step"]: row for row in map(json.loads, file.read_text().splitlines())} if file.exists() else {}
    return [steps[k] for k in sorted(steps)]


def probe(args):
    for name in args.names or NAMES:
        for rate in args.rates.split(","):
            train(args, name, f"probe-{name}-{rate}", lr=rate, train_steps=PROBE_STEPS, warmup=2, eval_interval=PROBE_STEPS, eval_samples=8)


def rate_of(name):
    """The learning rate whose probe ended with the lowest held-out loss."""
    ends = {rate: held_out(metrics(f"probe-{name}-{rate}")) for rate in RATES if (RUNS / f"probe-{name}-{rate}/model").exists()}
    if len(ends) < 2:
        sys.exit(f"{name}: post_training.py probe comes first")
    return min(ends, key=lambda rate: ends[rate][-1][1])


def held_out(rows):
    return [(row["tokens"], row["valid_loss"]) for row in rows if row.get("valid_loss") is not None]


def run(args):
    for name in args.names or NAMES:
        train(args, name, name, lr=args.rate or rate_of(name))


def time_steps(args):
    steps = next(int(line.split()[1]) for line in CONFIG.read_text().splitlines() if line.startswith("train_steps:"))
    for name in args.names or NAMES:
        save = f"time-{name}"
        train(args, name, save, train_steps=3, eval_interval=1000, save_interval=1000, warmup=1)
        seconds = statistics.median(row["seconds"] for row in metrics(save) if row["step"] > 1)
        print(f"{NAMES[name]}: {seconds:.1f} s a step of 8,192 tokens, {seconds * steps / 3600:.1f} h for a run of {steps} steps")


def logs(_):
    LOGS.parent.mkdir(exist_ok=True)
    with open(LOGS, "w", encoding="utf-8") as out:
        for folder in sorted(path.parent for path in RUNS.glob("*/metrics.jsonl")):
            facts = json.loads((folder / "run.json").read_text())
            for row in metrics(folder.name):
                keep = ("step", "loss", "lr", "gradient_norm", "tokens", "visible_share", "seconds", "valid_loss")
                out.write(json.dumps({"run": folder.name, "policy": facts["settings"]["policy"], "compute": facts["settings"]["compute"],
                                      **{k: row[k] for k in keep if k in row}}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, call in (("prepare", prepare), ("probe", probe), ("run", run), ("time", time_steps), ("logs", logs)):
        command = commands.add_parser(name)
        command.set_defaults(call=call)
        if name == "logs":
            continue
        command.add_argument("model", type=lambda path: str(Path(path).resolve()))
        command.add_argument("names", nargs="*", choices=[*NAMES, []], default=[])
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
        command.add_argument("--rates", default=",".join(RATES), help="probe: these learning rates")
        command.add_argument("--rate", help="run: this learning rate, without a probe")
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
