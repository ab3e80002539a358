#!/usr/bin/env python3
"""Scores tasks with lm-evaluation-harness twice, by its own `hf` backend and by `sepllm serve`, and compares them.

    compare_with_hf.py hf FOLDER -o hf.json                    transformers, float32
    compare_with_hf.py server FOLDER -o ours.json              starts `sepllm serve --exact --weights f32` on the same folder
    compare_with_hf.py compare hf.json ours.json               exit code 1 if they differ

FOLDER: a Hugging Face folder of a model. Options of the first two: --policy full|sep|sink|fixed, --init, --window, --interval,
--tasks FOLDER (made by make_tasks.py; default: a temporary one), --only NAME,..., --limit N (documents of a task),
--batch N (hf: sequences in a batch; server: prompts in a request), --concurrent N, --tokenizer remote|FOLDER. Under a policy the
`hf` side gets the 4-D mask of its definition. Log-likelihoods of every document must agree to 1e-3 (and 2e-6 of their own size, for
long texts), and all metrics that are counts must be equal. Needs: lm-eval[api]==0.4.13, torch, transformers; see tests/clients/run.sh for an environment.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

TOLERANCE = 1e-3
RELATIVE = 2e-6  # of a sum of many scores, which float32 rounds: transformers in float64 (--dtype float64) agrees to 5e-5
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/clients"))


def policy_of(args):
    policy = {"policy": args.policy}
    if args.policy != "full":
        policy |= {"init": args.init, "window": args.window}
    if args.policy == "fixed":
        policy["interval"] = args.interval
    return policy


def options_of(policy):
    return [text for key, value in policy.items() for text in (f"--{key}", str(value))]


def with_tasks(args, run):
    """run(folder of tasks, their names)."""
    from make_tasks import write_tasks

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.tasks or Path(temporary)
        names = write_tasks(folder)
        if args.only:
            names = [f"local_{name}" for name in args.only.split(",")]
        return run(folder, names)


def save(args, policy, found):
    result = {"policy": policy, "limit": args.limit, "tasks": found, "seconds": sum(task["seconds"] for task in found.values())}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result) + "\n")
    print(f"{args.output}: {result['seconds']:.1f} s in the model")


def run_hf(args):
    import harness
    from program import separators_of

    policy = policy_of(args)
    separators = separators_of(args.folder) if policy["policy"] == "sep" else []
    model = harness.hf_model(args.folder, policy, separators, args.batch or 16, args.dtype)
    save(args, policy, with_tasks(args, lambda folder, names: harness.evaluate(model, folder, names, args.limit)))


def run_server(args):
    import harness
    from server_process import Server

    policy = policy_of(args)
    options = ["--exact", "--weights", "f32", "--parallel", args.concurrent, *options_of(policy), *args.serve]
    with Server(args.folder, *options) as server:
        model = harness.server_model(server.url, server.model_id(), args.tokenizer or str(args.folder), args.concurrent,
                                     args.batch or 1)
        save(args, policy, with_tasks(args, lambda folder, names: harness.evaluate(model, folder, names, args.limit)))


def compare_task(name, one, other):
    """Prints a line; true: equal as promised."""
    if len(one["documents"]) != len(other["documents"]):
        print(f"{name}: {len(one['documents'])} and {len(other['documents'])} documents")
        return False
    largest, greedy, scores, far = 0.0, 0, 0, 0
    for mine, theirs in zip(one["documents"], other["documents"], strict=True):
        for (a, said), (b, also) in zip(mine, theirs, strict=True):
            largest = max(largest, abs(a - b))
            far += abs(a - b) > TOLERANCE + RELATIVE * abs(a)
            greedy += said != also
            scores += 1
    counts = {key: (value, other["metrics"][key]) for key, value in one["metrics"].items() if key.startswith("acc")}
    same = all(a == b for a, b in counts.values())
    values = ", ".join(f"{key} {a:.4f} {b:.4f}" for key, (a, b) in counts.items())
    print(f"{name}: {scores} scores, largest difference {largest:.1e}, greedy differs {greedy}, {values}, "
          f"seconds {one['seconds']:.1f} {other['seconds']:.1f}")
    return far == 0 and same and greedy == 0


def run_compare(args):
    one, other = (json.loads(path.read_text()) for path in (args.one, args.other))
    if one["policy"] != other["policy"]:
        sys.exit(f"{one['policy']} cannot be compared with {other['policy']}")
    common = [name for name in one["tasks"] if name in other["tasks"]]
    good = all([compare_task(name, one["tasks"][name], other["tasks"][name]) for name in common])
    seconds = [sum(side["tasks"][name]["seconds"] for name in common) for side in (one, other)]
    print(f"all: {seconds[0]:.1f} s and {seconds[1]:.1f} s: the second is {seconds[0] / seconds[1]:.2f} x as fast")
    print("equal" if good else "NOT EQUAL")
    return 0 if good and common else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, run in (("hf", run_hf), ("server", run_server)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("folder", type=Path)
        command.add_argument("-o", "--output", type=Path, required=True)
        command.add_argument("--policy", choices=["full", "sep", "sink", "fixed"], default="full")
        command.add_argument("--init", type=int, default=4)
        command.add_argument("--window", type=int, default=32)
        command.add_argument("--interval", type=int, default=8)
        command.add_argument("--tasks", type=Path)
        command.add_argument("--only")
        command.add_argument("--limit", type=int)
        command.add_argument("--batch", type=int)
        command.add_argument("--concurrent", type=int, default=8)
        command.add_argument("--tokenizer")
        command.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="hf: what it computes in")
        command.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="last: further options of sepllm serve")
    command = commands.add_parser("compare")
    command.set_defaults(run=run_compare)
    command.add_argument("one", type=Path)
    command.add_argument("other", type=Path)
    args = parser.parse_args()
    sys.exit(args.run(args))


if __name__ == "__main__":
    main()
