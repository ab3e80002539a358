#!/usr/bin/env python3
"""Compares two builds of sepllm: do they give the same bits, and is the new one as fast?

    tools/compare_builds.py bits OLD NEW            # score, generate, train, quantize, states, checkpoints: identical or not
    tools/compare_builds.py speed OLD NEW [--rounds 9] [--threads 1]   # old and new in turns: medians and spread of the ratio

OLD and NEW are programs (build/release/bin/sepllm). `bits` ends with exit code 1 if anything differs; what a line
says is an exact comparison of files or numbers, never a tolerance. The models are those of the repository: the
embedded one and the golden ones with weights.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
OWN_MODEL = REPOSITORY / "models/sepllm-5m"
TEXT = REPOSITORY / "apps/alice.txt"
STATIC = [["full"], ["sep", "--window", "16"], ["sink", "--window", "16"], ["fixed", "--window", "16", "--interval", "4"]]
STREAMS = [
    ["sep-stream", "--seps", "8", "--window", "16", "--capacity", "64"],
    ["sink-stream", "--capacity", "64"],
]
# Fields that are times, memory, or the program's own name.
VOLATILE = {"seconds", "tokens_per_second", "prefill_tokens_per_second", "decode_tokens_per_second", "peak_rss_bytes", "program", "elapsed", "gemm_share", "model"}


def call(program, arguments, check=True):
    done = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise SystemExit(f"{program} {' '.join(map(str, arguments))}\n{done.stderr}")
    return done


def without_volatile(value):
    if isinstance(value, dict):
        return {k: without_volatile(v) for k, v in value.items() if k not in VOLATILE}
    return [without_volatile(v) for v in value] if isinstance(value, list) else value


def result(program, arguments):
    """The JSON of a command; where the command refuses, its error (both builds must refuse the same)."""
    done = call(program, [*arguments, "--json"], check=False)
    return without_volatile(json.loads(done.stdout)) if done.returncode == 0 else "refused"


def digest(path):
    path = Path(path)
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.is_file() and f.suffix in (".safetensors", ".bin", ".idx"))
        return {str(f.relative_to(path)): digest(f) for f in files}
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Comparison:
    def __init__(self, old, new):
        self.programs = {"old": old, "new": new}
        self.failed = 0
        self.passed = 0

    def same(self, name, make):
        """make(program, tag) of both builds must be equal."""
        values = {tag: make(program, tag) for tag, program in self.programs.items()}
        if values["old"] == values["new"]:
            self.passed += 1
        else:
            self.failed += 1
            print(f"differs: {name}\n  old {str(values['old'])[:300]}\n  new {str(values['new'])[:300]}")


def golden_models():
    return [f.parent for f in sorted((REPOSITORY / "tests/golden/models").glob("*/config.json")) if any(f.parent.glob("*.safetensors"))]


def compare_inference(c, work):
    for kind in [*STATIC, *STREAMS]:
        policy = ["--policy", *kind]
        for threads in (1, 2):

            def score(program, tag, policy=policy, threads=threads):
                nll = work / f"nll-{tag}"
                out = result(program, ["score", "--model", OWN_MODEL, "--text", TEXT, "--tokens", 700, "--nll-out", nll, "--threads", threads, *policy])
                return out, nll.read_text()

            c.same(f"score, {kind[0]}, {threads} threads", score)
        c.same(f"generate, {kind[0]}", lambda p, _, policy=policy: result(p, ["generate", "--model", OWN_MODEL, "--prompt", "Alice was tired, so she", "-n", 120, "--temp", 0.9, "--seed", 3, *policy]))
    for kv in ("f16", "bf16", "q8"):
        c.same(f"score, kv {kv}", lambda p, _, kv=kv: result(p, ["score", "--model", OWN_MODEL, "--text", TEXT, "--tokens", 500, "--policy", "sep", "--kv", kv]))
    for weights in ("f32", "bf16", "q8_0", "q4_0"):
        for exact in ([], ["--exact"]):
            c.same(f"score, weights {weights} {exact}", lambda p, _, w=weights, e=exact: result(p, ["score", "--model", OWN_MODEL, "--text", TEXT, "--tokens", 400, "--weights", w, *e]))
    for model in golden_models():
        vocabulary = json.loads((model / "config.json").read_text()).get("vocab_size", 64)
        ids = work / "ids.txt"
        ids.write_text(" ".join(str((7 * i * i + 3 * i + 1) % vocabulary) for i in range(48)))
        for kind in [*STATIC, *STREAMS]:
            if kind[0] in ("sep", "sep-stream"):
                kind = [*kind, "--separators", "ids:1,3,5,8,13,21,34"]

            def score(program, tag, model=model, kind=kind, ids=ids):
                nll = work / f"nll-{tag}"
                nll.unlink(missing_ok=True)
                out = result(program, ["score", "--model", model, "--ids", ids, "--policy", *kind, "--nll-out", nll])
                return out, nll.read_text() if nll.exists() else ""

            c.same(f"golden {model.name}, {kind[0]}", score)


def compare_states(c, work):
    """A score that is interrupted by a state: only old, only new, and old's state continued by new."""
    base = ["score", "--model", OWN_MODEL, "--text", TEXT, "--policy", "sep-stream", "--capacity", 200, "--window", 64, "--seps", 32]
    for tag, program in c.programs.items():
        call(program, [*base, "--tokens", 600, "--state", work / f"state-{tag}"])
    crossed = work / "state-crossed"
    crossed.write_bytes((work / "state-old").read_bytes())
    ends = {}
    for tag, program, state in [("old", c.programs["old"], work / "state-old"), ("new", c.programs["new"], work / "state-new"), ("crossed", c.programs["new"], crossed)]:
        done = call(program, [*base, "--tokens", 1300, "--state", state, "--json"], check=False)
        ends[tag] = without_volatile(json.loads(done.stdout)) if done.returncode == 0 else done.stderr.strip()
    c.same("score --state, resumed", lambda _p, tag: ends[tag])
    if isinstance(ends["crossed"], str):
        print(f"refused: a state of the old build: {ends['crossed']}")
    else:
        c.same("a state of the old build, resumed by the new one", lambda _p, tag: ends["old" if tag == "old" else "crossed"])


def compare_training(c, work):
    for tag, program in c.programs.items():
        call(program, ["prepare", "--tokenizer", OWN_MODEL / "tokenizer.json", "--out", work / f"data-{tag}", TEXT])
    c.same("prepare", lambda _p, tag: (digest(work / f"data-{tag}.bin"), digest(work / f"data-{tag}.idx")))
    families = {"llama": "sep", "gpt_neox": "full", "gpt2": "fixed", "falcon": "sink"}
    for family, policy in families.items():
        for tag, program in c.programs.items():
            run = work / f"run-{family}-{tag}"
            settings = {
                "family": family, "n_layers": 2, "hidden_size": 64, "n_heads": 4, "tokenizer": str(OWN_MODEL / "tokenizer.json"),
                "policy": {"policy": policy, "init": 2, "window": 16} if policy != "full" else "full", "data": str(work / "data-old"),
                "valid_share": 0.1, "seq_length": 64, "document_mask": False, "train_steps": 30, "global_batch_size": 4, "lr": 2e-3,
                "save": str(run), "save_interval": 15, "seed": 5,
            }  # fmt: skip
            config = work / f"{family}-{tag}.yaml"
            config.write_text(json.dumps(settings))
            call(program, ["train", "--config", config])
        metrics = ("loss", "valid_loss", "gradient_norm", "tokens")
        c.same(
            f"train, 30 steps, {family}: losses",
            lambda _p, tag, f=family: [[json.loads(line).get(k) for k in metrics] for line in (work / f"run-{f}-{tag}/metrics.jsonl").read_text().splitlines()],
        )
        c.same(f"train, {family}: the exported model", lambda _p, tag, f=family: digest(work / f"run-{f}-{tag}/model"))
    # The new build continues a run of the old one.
    for tag, starter in (("old", "old"), ("new", "old")):
        run = work / f"continued-{tag}"
        config = json.loads((work / "llama-old.yaml").read_text()) | {"save": str(run), "train_steps": 20, "lr_decay_steps": 40}
        file = work / f"continued-{tag}.yaml"
        file.write_text(json.dumps(config))
        call(c.programs[starter], ["train", "--config", file])
        file.write_text(json.dumps(config | {"train_steps": 40}))
        done = call(c.programs[tag], ["train", "--config", file], check=False)
        if done.returncode != 0:
            print(f"refused: a checkpoint of the old build: {done.stderr.strip()}")
            return
    c.same("a run of the old build, continued", lambda _p, tag: digest(work / f"continued-{tag}/model"))


def compare_quantize(c, work):
    for type_name in ("q8_0", "q4_0", "bf16", "f16", "f32"):
        for tag, program in c.programs.items():
            call(program, ["quantize", "--model", OWN_MODEL, "--type", type_name, "--out", work / f"{type_name}-{tag}"])
        c.same(f"quantize {type_name}", lambda _p, tag, t=type_name: digest(work / f"{t}-{tag}"))


def bits(args):
    c = Comparison(args.old, args.new)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for part in (compare_inference, compare_states, compare_quantize, compare_training):
            part(c, work)
            print(f"{part.__name__}: {c.passed} the same so far, {c.failed} differ", flush=True)
    print(f"{c.passed} the same, {c.failed} differ")
    return 1 if c.failed else 0


# name, arguments, field of the JSON rows, whether more is better
MEASURES = [
    ("decode, sepllm-5m, f32", ["bench", "decode", "--shape", "sepllm-5m", "-d", "512", "-n", "64", "-r", "1"], "avg_ts", True),
    ("decode, pythia-160m q8_0, depth 2K, sep", ["bench", "decode", "--shape", "pythia-160m", "--weights", "q8_0", "-d", "2048", "-n", "32", "-r", "1", "--policy", "sep"], "avg_ts", True),
    ("decode, pythia-160m bf16, depth 4K, f16 KV", ["bench", "decode", "--shape", "pythia-160m", "--weights", "bf16", "-d", "4096", "-n", "32", "-r", "1", "--kv", "f16"], "avg_ts", True),
    ("prefill 512, pythia-160m q8_0", ["bench", "prefill", "--shape", "pythia-160m", "--weights", "q8_0", "-p", "512", "-r", "1"], "avg_ts", True),
    ("prefill 2048, pythia-160m f32, sep", ["bench", "prefill", "--shape", "pythia-160m", "-p", "2048", "-r", "1", "--policy", "sep"], "avg_ts", True),
    ("attention forward, 2K, n = 64", ["bench", "attention", "--tokens", "2048", "--pass", "forward", "--no-dense", "--repeats", "3"], "seconds", False),
    ("attention forward+backward, 2K, n = 64", ["bench", "attention", "--tokens", "2048", "--pass", "backward", "--no-dense", "--repeats", "3"], "seconds", False),
    ("training step, sepllm-5m, T = 512, sep", ["bench", "train", "--shape", "sepllm-5m", "--tokens", "512", "--policy", "sep", "--window", "64", "--repeats", "3"], "seconds", False),
]


def speed(args):
    worse = 0
    print("| measure | old, median | new, median | new : old in speed, median | quartiles |\n|---|---:|---:|---:|---:|")
    for name, arguments, field, more_is_better in MEASURES:
        values = {"old": [], "new": []}
        for _ in range(args.rounds):
            for tag, program in (("old", args.old), ("new", args.new)):
                rows = json.loads(call(program, [*arguments, "--threads", args.threads, "--json"]).stdout)
                values[tag].append(rows[0][field])
        ratios = sorted((n / o) if more_is_better else (o / n) for o, n in zip(values["old"], values["new"]))
        low, _, high = statistics.quantiles(ratios, n=4)
        median = statistics.median(ratios)
        ok = median >= 0.98 or high >= 1
        worse += not ok
        print(f"| {name} | {statistics.median(values['old']):.4g} | {statistics.median(values['new']):.4g} | {median:.3f}{'' if ok else ' (slower)'} | {low:.3f} to {high:.3f} |", flush=True)
    return 1 if worse else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["bits", "speed"])
    parser.add_argument("old", type=os.path.abspath)
    parser.add_argument("new", type=os.path.abspath)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    sys.exit(bits(args) if args.what == "bits" else speed(args))


if __name__ == "__main__":
    main()
