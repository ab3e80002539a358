#!/usr/bin/env python3
"""Scores likelihood tasks under policies of the same number of keys, by lm-evaluation-harness and the Python package of SepLLM.

    real_tasks.py MODEL --tokenizer FOLDER --results results.jsonl [--data ../shared/data] [--documents 100] [--shots 5]
                  [--tasks piqa,...] [--subjects marketing,...] [--tuned policy.json ...] [--policies policies.json] [--hf] [--threads N]
                  [--page PAGE] [--only-page]

MODEL: a GGUF file or a Hugging Face folder; FOLDER: its tokenizer for transformers. The examples are the same for all documents (the
first ones of each file), so the engine is fed them once and forks. Policies: full; sep with n = 64 and 128; sink and fixed (k = 8)
with as many mean keys as each of these, of the tokens that were fed for this task; and every policy of --tuned. With --policies only
those of that file: {"name": {the "sepllm" object of config.json}, ...}. --subjects: of MMLU, for tasks mmlu_SUBJECT_5shot. --hf: the harness's
own `hf` backend on FOLDER in float32, to compare "full" with. A task under a policy is a line of the results, with the scores of each
document; what is there already is not measured again. Needs lm-eval[api]==0.4.13, torch, transformers and the package sepllm.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from page_part import mean_and_error, read_lines, replace_part

TOOLS = Path(__file__).resolve().parent
sys.path.insert(0, str(TOOLS / "lm_eval"))

INIT, INTERVAL = 4, 8
TASKS = "piqa,arc_easy,arc_challenge,sciq,winogrande,lambada,logiqa"


class Fed:
    """Which tokens the sessions of a task were fed, and the keys that they saw; takes the place of the model's figures."""

    def __init__(self, n_layers):
        self.n_layers, self.keys, self.full_keys, self.peak_bytes, self.fed, self.spans = n_layers, 0, 0, 0, 0, []

    def add(self, before, after, fed):
        keys = after.keys - (before.keys if before else 0)
        full = (after.full_keys - (before.full_keys if before else 0)) // self.n_layers
        first = (full - fed * (fed + 1) // 2) // fed if fed else 0  # of fed tokens from `first` on, token i sees i + 1 keys
        self.spans.append((first, fed))
        self.keys, self.full_keys = self.keys + keys, self.full_keys + full * self.n_layers
        self.peak_bytes, self.fed = max(self.peak_bytes, after.peak_bytes), self.fed + fed

    def mean_keys(self):
        return self.keys / self.fed / self.n_layers

    def window(self, keys, policy):
        """The window of sink or fixed with about as many mean keys over the same tokens."""
        places = [i for first, n in self.spans for i in range(first, first + n)]

        def mean(n):
            if policy == "sink":
                return sum(min(i + 1, INIT + n) for i in places) / len(places)
            far = [max(0, i - n + 1) for i in places]
            return sum(min(i + 1, n) + min(f, INIT) + max(0, f - INIT) // INTERVAL for i, f in zip(places, far)) / len(places)

        low, high = 1, max(places) + 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if mean(middle) >= keys else (middle + 1, high)
        return min((n for n in (low - 1, low) if n > 0), key=lambda n: abs(mean(n) - keys))


def run_task(model, folder, name):
    """The metrics of each document by name, the log-likelihoods of its choices, and which of them is right."""
    import lm_eval
    from harness import pairs_of
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    done = lm_eval.simple_evaluate(model=model, tasks=[name], task_manager=manager, log_samples=True, bootstrap_iters=0)
    samples = sorted(done["samples"][name], key=lambda sample: sample["doc_id"])
    metrics = {key: [float(s[key]) for s in samples] for key in ("acc", "acc_norm") if key in samples[0]}
    scores = [[round(float(score), 4) for score, _ in pairs_of(s)] for s in samples]
    return {"metrics": metrics, "scores": scores, "gold": [s["doc"].get("gold", 0) for s in samples]}


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.rows, self.models = args, folder, read_lines(args.results), {}

    def key(self, label, task):
        return {"model": Path(self.args.model).name, "task": task, "shots": self.args.shots, "documents": self.args.documents, "policy": label}

    def row(self, label, task):
        return next((r for r in self.rows if all(r[k] == v for k, v in self.key(label, task).items())), None)

    def measure(self, label, task, policy):
        if self.row(label, task):
            return self.row(label, task)
        started, cpu = time.monotonic(), time.process_time()
        model, figures = self.model(policy), {}
        if not self.args.hf:
            model.figures = Fed(model.model.info["n_layers"])
        done = run_task(model, self.folder, f"local_{task}")
        if not self.args.hf:
            fed = model.figures
            figures = {"mean_keys": fed.mean_keys(), "share": fed.keys / fed.full_keys, "peak_bytes": fed.peak_bytes, "fed": fed.fed,
                       "settings": model.settings}
            if policy["policy"] == "sep":
                figures["windows"] = {rival: fed.window(fed.mean_keys(), rival) for rival in ("sink", "fixed")}
        row = self.key(label, task) | figures | {"seconds": round(time.monotonic() - started, 1),
                                                 "cpu_seconds": round(time.process_time() - cpu, 1), **done}
        with open(self.args.results, "a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        self.rows.append(row)
        print(f"{task}, {label}: " + ", ".join(f"{k} {sum(v) / len(v):.3f}" for k, v in done["metrics"].items()) +
              f", {row.get('mean_keys', 0):.0f} keys, {row['cpu_seconds']} s", file=sys.stderr, flush=True)
        return row

    def model(self, policy):
        if self.args.hf:
            from harness import hf_model

            self.models["hf"] = self.models.get("hf") or hf_model(self.args.tokenizer, {"policy": "full"}, [], 1)
            return self.models["hf"]
        from sepllm.lm_eval import SepLm

        return SepLm(self.args.model, tokenizer=self.args.tokenizer, threads=self.args.threads, **policy)

    def task(self, task):
        if self.args.hf:
            self.measure("hf", task, {"policy": "full"})
            return
        if self.args.policies:
            for label, policy in json.loads(self.args.policies.read_text()).items():
                self.measure(label, task, policy)
            return
        self.measure("full", task, {"policy": "full"})
        for n in (64, 128):
            windows = self.measure(f"sep n={n}", task, {"policy": "sep", "init": INIT, "window": n})["windows"]
            self.measure(f"sink, keys of sep n={n}", task, {"policy": "sink", "init": INIT, "window": windows["sink"]})
            self.measure(f"fixed k={INTERVAL}, keys of sep n={n}", task,
                         {"policy": "fixed", "init": INIT, "window": windows["fixed"], "interval": INTERVAL})
        for file in self.args.tuned:
            self.measure(f"tuned ({Path(file).stem})", task, json.loads(Path(file).read_text())["sepllm"])


def right(row):
    """1 or 0 for each document, by the metric that is usual for the task."""
    return row["metrics"].get("acc_norm") or row["metrics"].get("acc")


def loss(row):
    """Of each document's right answer, the sum over its tokens."""
    return [-scores[gold] for scores, gold in zip(row["scores"], row["gold"])]


def less(row, other):
    """The paired difference of accuracies in per cent, and its standard error."""
    mean, error = mean_and_error([a - b for a, b in zip(right(row), right(other))])
    return f"{100 * mean:+.1f} ± {100 * error:.1f}"


def less_loss(row, other):
    return "{:+.2f} ± {:.2f}".format(*mean_and_error([a - b for a, b in zip(loss(row), loss(other))]))


def rival(label):
    return f"sink, keys of sep{label.split('sep', 1)[1]}" if "sep" in label and not label.startswith("sink") else None


def table(rows):
    """A row for each task and policy, and for each policy over all tasks that were measured under all of them."""
    out = ["| task | policy | accuracy, % | compared with full | with sink with as many keys | loss of the right answer compared with full | "
           "with sink with as many keys | mean keys | of full | CPU seconds |", "|---|---|---|---|---|---|---|---|---|---|"]
    rows = [r for r in rows if r["policy"] != "hf"]
    labels = list(dict.fromkeys(r["policy"] for r in rows))
    by_task = {}
    for r in rows:
        by_task.setdefault(r["task"], {})[r["policy"]] = r
    whole = [own for own in by_task.values() if set(own) == set(labels)]
    sums = {}
    for label in labels:
        if len(whole) > 1:
            own = [task[label] for task in whole]
            sums[label] = {"policy": label, "scores": [v for r in own for v in r["scores"]], "gold": [v for r in own for v in r["gold"]], "metrics": {"acc": [v for r in own for v in right(r)]},
                           "mean_keys": sum(r["mean_keys"] for r in own) / len(own), "share": sum(r["share"] for r in own) / len(own),
                           "cpu_seconds": sum(r["cpu_seconds"] for r in own)}
    for task, own in [*by_task.items(), *([(f"all {len(whole)}", sums)] if sums else [])]:
        for label in (label for label in labels if label in own):
            r, window = own[label], own.get(rival(label))
            mean, error = mean_and_error(right(r))
            out.append(f"| {task} | {label} | {100 * mean:.1f} ± {100 * error:.1f} | {less(r, own['full']) if label != 'full' else ''} | "
                       f"{less(r, window) if window else ''} | {less_loss(r, own['full']) if label != 'full' else ''} | "
                       f"{less_loss(r, window) if window else ''} | {r['mean_keys']:.0f} | {100 * r['share']:.0f} % | {r['cpu_seconds']:.0f} |")
    return "\n".join(out)


def write_page(path, rows):
    for model, shots, documents in dict.fromkeys((r["model"], r["shots"], r["documents"]) for r in rows if r["policy"] != "hf"):
        own = [r for r in rows if (r["model"], r["shots"], r["documents"]) == (model, shots, documents)]
        replace_part(path, "real_tasks.py", f"{model} {shots} {documents}",
                     f"### {model}, {shots} shots, {documents} documents of each task\n\nAccuracy (normalised by the choice's length where the "
                     f"harness does so) and its standard error; differences are paired, document by document.\n\n{table(own)}")


def compare(rows):
    """Lines: the harness's own backend next to "full", for the tasks that both have."""
    for r in (r for r in rows if r["policy"] == "hf"):
        for full in (f for f in rows if f["policy"] == "full" and all(f[k] == r[k] for k in ("task", "shots", "documents"))):
            largest = max(abs(a - b) for x, y in zip(r["scores"], full["scores"]) for a, b in zip(x, y))
            different = sum(a != b for a, b in zip(right(r), right(full)))
            yield (f"{r['task']}: {r['model']} by hf {100 * mean_and_error(right(r))[0]:.2f} %, {full['model']} by the engine "
                   f"{100 * mean_and_error(right(full))[0]:.2f} %, largest difference of a score {largest:.1e}, "
                   f"{different} of {len(right(r))} documents decided otherwise")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--subjects", default="marketing")
    parser.add_argument("--tuned", nargs="*", default=[])
    parser.add_argument("--policies", type=Path)
    parser.add_argument("--hf", action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--only-page", action="store_true")
    args = parser.parse_args()
    rows = read_lines(args.results)
    if not args.only_page:
        from make_tasks import DATA, write_tasks

        with tempfile.TemporaryDirectory() as folder:
            for subject in args.subjects.split(","):
                write_tasks(Path(folder), args.data or DATA, args.documents, subject, shots=args.shots)
            bench = Bench(args, Path(folder))
            for task in args.tasks.split(","):
                bench.task(task)
            rows = bench.rows
    print(table(rows))
    print("\n".join(compare(rows)))
    if args.page:
        write_page(args.page, rows)


if __name__ == "__main__":
    main()
