#!/usr/bin/env python3
"""lm-eval's requests on the engine (`--model sepllm`) next to `--model hf` in float32, in one run, as a table.

    lm_eval_speed.py MODEL --include FOLDER --tasks A,B [--few 5] [--limit 8] [--rounds 1] [--window 256] [--one-by-one] [--save FILE]

MODEL: a Hugging Face folder; FOLDER: tasks in lm-eval's YAML. For each task the same requests are answered, in turns, by hf, by sepllm
under `full` (with and without forks; with --one-by-one instead: with texts generated at once and one by one), and under `sep` with forks;
figures are medians over the rounds. Loading is not part of them.
"difference": the largest one between hf and sepllm under `full`, of a log likelihood (or, of texts, how many differ).

Needs torch, transformers, lm-eval (0.4.13 was used) and the Python package.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from attention import hardware  # noqa: E402

import lm_eval  # noqa: E402
import torch  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from sepllm.lm_eval import SepLm  # noqa: E402


def answers(results, task):
    """{document: numbers and texts of its answers}"""
    def flat(value):
        return [x for item in value for x in flat(item)] if isinstance(value, (list, tuple)) else [value]

    return {s["doc_id"]: flat(s["resps"]) for s in results["samples"][task]}


def difference(ours, theirs):
    largest, texts = 0.0, 0
    for document, values in theirs.items():
        for a, b in zip(ours[document], values, strict=True):
            if isinstance(b, str):
                texts += a != b
            elif not isinstance(b, bool):
                largest = max(largest, abs(float(a) - float(b)))
    return f"{texts} texts" if texts else largest


def measure(arguments, task, models, tasks):
    seconds, outputs, fed = {name: [] for name in models}, {}, {}
    for _ in range(arguments.rounds):
        for name, model in models.items():
            before = model.figures.fed if isinstance(model, SepLm) else 0
            begin = time.perf_counter()
            results = lm_eval.simple_evaluate(model=model, tasks=[task], num_fewshot=arguments.few, limit=arguments.limit,
                                              log_samples=True, bootstrap_iters=0, task_manager=tasks)
            seconds[name].append(time.perf_counter() - begin)
            outputs[name] = answers(results, task)
            fed[name] = model.figures.fed - before if isinstance(model, SepLm) else None
            print(f"{task}, {name}: {seconds[name][-1]:.2f} s", file=sys.stderr)
    return {"task": task, "documents": len(outputs["hf"]), "requests": sum(len(v) for v in outputs["hf"].values()), "fed": fed,
            "seconds": {name: statistics.median(values) for name, values in seconds.items()},
            "difference": difference(outputs["full"], outputs["hf"])}


def table(result):
    names = list(result["rows"][0]["seconds"])
    out = [f"{result['hardware']}; {result['threads']} threads, PyTorch {result['torch']}, {result['few']}-shot.", "",
           "| task | documents | " + " | ".join([f"{n}, s" for n in names] + [f"hf : {n}" for n in names[1:]]) + " | difference |",
           "|---|" + "---:|" * (2 * len(names) + 1)]
    for r in result["rows"]:
        s = r["seconds"]
        ratios = " | ".join(f"{s['hf'] / s[n]:.1f} x" for n in names[1:])
        d = r["difference"]
        out.append(f"| {r['task']} | {r['documents']} | " + " | ".join(f"{s[n]:.1f}" for n in names) +
                   f" | {ratios} | {d if isinstance(d, str) else format(d, '.0e')} |")
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--include", required=True)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--few", type=int, default=5)
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    name, value = ("at_once", 1) if arguments.one_by_one else ("fork", False)
    other = f"full, {name}={value}"
    models = {
        "hf": HFLM(pretrained=arguments.model, dtype="float32", device="cpu", batch_size=1),
        "full": SepLm(arguments.model, policy="full"),
        other: SepLm(arguments.model, policy="full", **{name: value}),
        "sep": SepLm(arguments.model, policy="sep", window=arguments.window),
    }
    tasks = TaskManager(include_path=arguments.include, include_defaults=False)
    result = {"hardware": hardware(), "torch": torch.__version__, "threads": torch.get_num_threads(), "few": arguments.few, "rows": []}
    for task in arguments.tasks.split(","):
        result["rows"].append(measure(arguments, task, models, tasks))
        if arguments.save:
            arguments.save.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
