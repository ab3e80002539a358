#!/usr/bin/env python3
"""Training on several ranks: time of a step on 1 and 2 ranks with a core each, and on two ranks whose only
connection is a shaped link (two network namespaces joined by a veth pair), compared with what the cost model of
docs/TRAINING-MPI.md predicts. Needs mpirun; the links also root, `ip` and `tc`.

  experiments/train_ranks.py --sepllm build/release/bin/sepllm --text FILE --work FOLDER [--out docs/results/train-ranks.md]
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe"] if os.geteuid() == 0 else ["mpirun", "--oversubscribe"]
NET = "10.77.0"
SPACES = ("sepllm_a", "sepllm_b")


def sh(*command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True)


class Bench:
    def __init__(self, args):
        self.args, self.work = args, Path(args.work).resolve()
        self.sepllm = str(Path(args.sepllm).resolve())
        self.work.mkdir(parents=True, exist_ok=True)

    def prepare(self):
        tokenizer = self.work / "tokenizer"
        if not tokenizer.exists():
            sh(self.sepllm, "prepare", "--train-tokenizer", "bpe", "--vocab-size", "4096", "--out", str(tokenizer), self.args.text)
        sh(self.sepllm, "prepare", "--tokenizer", str(tokenizer), "--out", str(self.work / "text"), self.args.text)
        (self.work / "run.yaml").write_text(
            f"family: gpt_neox\nn_layers: {self.args.layers}\nhidden_size: {self.args.hidden}\nn_heads: {self.args.hidden // 64}\n"
            f"tokenizer: {tokenizer}\ndata: {self.work}/text\nseq_length: 512\nglobal_batch_size: {self.args.batch}\n"
            f"micro_batch_size: {self.args.micro}\ntrain_steps: {self.args.steps}\nlr: 1e-3\nmin_lr: 1e-4\n"
            "policy: {policy: sep, init: 4, window: 64}\nsave_interval: 100000\nthreads: 1\n")

    def run(self, name, ranks, launch, settings=()):
        """The fastest of --times runs, and the seconds of the others."""
        runs = sorted((self.run_once(name, ranks, launch, settings) for _ in range(self.args.times)), key=lambda r: r["seconds"])
        return runs[0] | {"others": [r["seconds"] for r in runs[1:]], "others_waited": [r["waited"] for r in runs[1:]]}

    def run_once(self, name, ranks, launch, settings):
        """Medians over the steps but the first: seconds, seconds waited for other ranks; parameters."""
        run = self.work / name
        shutil.rmtree(run, ignore_errors=True)
        command = [*launch, "-np", str(ranks), self.sepllm, "train", "--config", str(self.work / "run.yaml"), "--set", f"save={run}"]
        for setting in settings:
            command += ["--set", setting]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{name}: {' '.join(command)}\n{done.stderr}")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][1:]
        shutil.rmtree(run)
        return {
            "seconds": statistics.median(m["seconds"] for m in lines),
            "waited": statistics.median(m.get("seconds_waited", 0) for m in lines),
            "parameters": int(re.search(r"(\d+) parameters", done.stderr)[1]),
        }

    def memory(self, ranks):
        """Peak resident bytes of each rank's process, of a model whose parameters are most of what it takes."""
        run = self.work / "memory"
        shutil.rmtree(run, ignore_errors=True)
        settings = ["n_layers=16", "hidden_size=512", "n_heads=8", "seq_length=64", "global_batch_size=4", "micro_batch_size=1", "train_steps=2"]
        command = [*MPIRUN, "--bind-to", "none", "-np", str(ranks), self.sepllm, "train", "--config", str(self.work / "run.yaml"),
                   "--set", f"save={run}"]
        for setting in settings:
            command += ["--set", setting]
        peaks, text = {}, self.work / "memory.txt"
        with text.open("w") as err, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=err) as process:
            while process.poll() is None:
                for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                    try:
                        status = Path(f"/proc/{pid}/status").read_text()
                    except OSError:
                        continue
                    if (peak := re.search(r"VmHWM:\s+(\d+) kB", status)) and "Name:\tsepllm" in status:
                        peaks[pid] = 1024 * int(peak[1])
                time.sleep(0.02)
        shutil.rmtree(run, ignore_errors=True)
        if process.returncode != 0 or len(peaks) != ranks:
            sys.exit(f"memory of {ranks} ranks: {text.read_text()}")
        return {"peaks": list(peaks.values()), "parameters": int(re.search(r"(\d+) parameters", text.read_text())[1])}

    # Two namespaces, a link, and mpirun in the first: its agent starts the daemon of the second.
    def link(self, mbit):
        self.unlink()
        a, b = SPACES
        for space in SPACES:
            sh("ip", "netns", "add", space)
        sh("ip", "link", "add", "veth_a", "netns", a, "type", "veth", "peer", "name", "veth_b", "netns", b)
        for space, device, n in ((a, "veth_a", 1), (b, "veth_b", 2)):
            inside = ["ip", "netns", "exec", space]
            sh(*inside, "ip", "addr", "add", f"{NET}.{n}/24", "dev", device)
            sh(*inside, "ip", "link", "set", device, "up")
            sh(*inside, "ip", "link", "set", "lo", "up")
            sh(*inside, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{mbit}mbit", "burst", "256kb", "latency", "50ms")
        agent = self.work / "agent.sh"
        agent.write_text(f"#!/bin/sh\nshift\nexec ip netns exec {b} unshare --uts sh -c \"hostname nodeb; $*\"\n")
        agent.chmod(0o755)
        return ["ip", "netns", "exec", a, *MPIRUN, "--mca", "plm_rsh_agent", str(agent), "--mca", "btl", "tcp,self", "--mca",
                "btl_tcp_if_include", f"{NET}.0/24", "--mca", "oob_tcp_if_include", f"{NET}.0/24", "--host",
                f"{NET}.1:1,{NET}.2:1", "--map-by", "node", "--bind-to", "none"]

    def unlink(self):
        for space in SPACES:
            sh("ip", "netns", "del", space, check=False)


def predicted(compute, p, embedding, ranks, mbit, micro_steps):
    """Seconds of a step: what a rank computes, the parts of the reduction and of the gather that the passes do not hide.

    compute: a rank's own work in a step without communication. The sum travels during the last of micro_steps backward
    passes (two thirds of the time of each), but for the embedding's part, which is final at its end. The new weights
    travel during the first forward pass, but for the embedding's part, which it needs at once."""
    share = (ranks - 1) / ranks
    rate = mbit * 1e6 / 8 * 0.94  # headers of TCP, IP and Ethernet
    reduce, last, gather = (4 * n * share / rate for n in (p, embedding, p))
    forward = compute / micro_steps / 3
    return compute + max(reduce - last - 2 * forward, 0) + max(gather - last - forward, 0) + 2 * last


def memory_table(memory):
    mib = 1 / (1 << 20)
    p, one = memory["1"]["parameters"], max(memory["1"]["peaks"])
    text = (f"\nPeak resident memory of the ranks' processes, {p:,} parameters (16 layers of 512), 4 samples of 64 tokens per step, one at a time:\n\n"
            "| ranks | moments of a rank (8 bytes per parameter / ranks) | peak of a rank's process | less than with one rank | expected: the moments of the other ranks |\n"
            "|---|---|---|---|---|\n")
    for n, row in memory.items():
        peaks = sorted(peak * mib for peak in row["peaks"])
        among = f"{peaks[0]:.0f}" if len(peaks) == 1 else f"{peaks[0]:.0f} to {peaks[-1]:.0f}"
        less = "" if n == "1" else f"{one * mib - peaks[-1]:.0f} to {one * mib - peaks[0]:.0f} MiB"
        expected = "" if n == "1" else f"{8 * p * (1 - 1 / int(n)) * mib:.0f} MiB"
        text += f"| {n} | {8 * p / int(n) * mib:.0f} MiB | {among} MiB | {less} | {expected} |\n"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sepllm", default="build/release/bin/sepllm")
    parser.add_argument("--text", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--out")
    parser.add_argument("--part", choices=["all", "cores", "links", "memory"], default="all", help="results of parts are kept in --work")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--micro", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--times", type=int, default=3, help="runs of each kind, of which the fastest counts")
    args = parser.parse_args()
    bench = Bench(args)
    kept = Path(args.work) / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    if args.part in ("all", "memory"):
        bench.prepare()
        results["memory"] = {n: bench.memory(int(n)) for n in ("1", "2", "4")}
    if args.part in ("all", "cores"):
        bench.prepare()
        cores = [*MPIRUN, "--bind-to", "core"]
        results["one"] = bench.run("one", 1, cores)
        results["two"] = bench.run("two", 2, cores)
        results["half"] = bench.run("half", 1, cores, [f"global_batch_size={args.batch // 2}"])
    if args.part in ("all", "links"):
        try:
            for mbit in (1000, 100):
                results[str(mbit)] = bench.run(f"net{mbit}", 2, bench.link(mbit))
        except subprocess.CalledProcessError as e:
            results["refusal"] = f"\nNo namespaces here: `{' '.join(e.cmd)}`: {e.stderr.strip()}\n"
        finally:
            bench.unlink()
    kept.write_text(json.dumps(results))
    if "one" not in results:
        sys.exit("first --part cores")
    one, half = results["one"], results["half"]
    p = one["parameters"]
    micro_steps = max(1, args.batch // 2 // args.micro)
    # Two ranks of one machine share its memory, whatever links them.
    compute = results["two"]["seconds"] - results["two"]["waited"]
    rows = [("1 rank, one core", one, None), ("2 ranks, one core each, shared memory", results["two"], None)]
    for mbit, link in ((1000, "1 Gbit/s"), (100, "100 Mbit/s")):
        if str(mbit) in results:
            rows.append((f"2 ranks, two network namespaces, veth at {link}", results[str(mbit)],
                         predicted(compute, p, 4096 * args.hidden, 2, mbit, micro_steps)))
    refusal = results.get("refusal", "")

    def and_others(row, key):
        others = ", ".join(f"{x:.3f}" for x in row["others" if key == "seconds" else "others_waited"])
        return f"{row[key]:.3f} ({others})" if others else f"{row[key]:.3f}"

    text = (
        f"The model has {p:,} parameters ({args.layers} layers of {args.hidden}); a step has {args.batch} samples of 512 tokens in micro-batches of "
        f"{args.micro}, with one thread per rank. Times are medians of {args.steps - 1} steps, from the fastest of {args.times} runs (the others in brackets). "
        f"A rank's half of a step takes {half['seconds']:.3f} s if nothing else runs and {compute:.3f} s while the other rank runs too. The latter "
        "is the input of the model of [TRAINING-MPI.md](../TRAINING-MPI.md).\n\n"
        "| | s/step | waiting (rank 0) | efficiency | predicted s/step | predicted waiting |\n|---|---|---|---|---|---|\n")
    for name, row, model in rows:
        ranks = 1 if name.startswith("1 ") else 2
        prediction = "| |" if model is None else f"{model:.3f} | {model - compute:.3f} |"
        waited = "" if ranks == 1 else and_others(row, "waited")
        text += (f"| {name} | {and_others(row, 'seconds')} | {waited} | {one['seconds'] / row['seconds'] / ranks:.2f} | "
                 f"{prediction}\n")
    text += refusal
    if "memory" in results:
        text += memory_table(results["memory"])
    print(text)
    if args.out:
        Path(args.out).write_text("# Training on several ranks\n\nWritten by `experiments/train_ranks.py`.\n\n" + text)


if __name__ == "__main__":
    main()
