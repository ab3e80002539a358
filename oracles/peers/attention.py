#!/usr/bin/env python3
"""Attention by the separator pattern: this program compared with PyTorch, in one run on one machine, as one table.

    attention.py [--tokens 1024,2048,4096,8192] [--window 64] [--threads 1,2] [--heads 12 --kv-heads 12 --head-dim 64]
                 [--separators paper|text] [--pass forward|backward|both] [--rounds 5] [--json] [--save F]
    attention.py --policy moba|sep-moba [--block-size 64] [--blocks 8] ...   queries that choose among blocks, compared with SDPA causal
    attention.py --load F [F...]        prints the table of saved runs again

Rows are taken in rounds: each round times every peer once (calls shorter than --min-time are repeated) and runs
`sepllm bench attention --json` on the same shape, threads and separators (the bits in bench/data); figures are medians
over the rounds, after a warm-up of everything. Peers, on contiguous [1, heads, tokens, head_dim] tensors in f32:

  causal  F.scaled_dot_product_attention(is_causal=True), held to its flash kernel: dense attention
  mask    the same kernel with the pattern as a [tokens, tokens] boolean mask; where the flash kernel refuses, the
          math path; which one ran is recorded. What the other paths do on this machine is recorded once a run.
  flex    torch.compile(flex_attention) with a block mask of the pattern; forward only, as it has no backward on CPUs
  op      this program's own op in PyTorch (sepllm.torch.sep_attention), where the Python package is installed

Needs torch (2.13 was used) and, for flex, a C++ compiler. Exit code 1 where sepllm fails.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
INITIAL = 4
FORWARD, TRAINING = "forward", "forward+backward"
# Peers that have the pattern, and how the tables call them.
PATTERN_PEERS = {"mask": "SDPA mask", "flex": "Flex", "op": "sep_attention"}


def separators(rule, n_tokens):
    """The book's separators as a list of booleans (see apps/bench/data/make_separators.py)."""
    text = (REPOSITORY / f"apps/bench/data/pg19_{rule}.inc").read_text()
    digits = "".join(re.findall(r'"([0-9a-f]+)"', text))
    bits = "".join(f"{int(d, 16):04b}" for d in digits[: (n_tokens + 3) // 4])
    return [b == "1" for b in bits[:n_tokens]]


def hardware():
    info = Path("/proc/cpuinfo").read_text()

    def field(name):
        found = re.search(rf"^{name}\s*:\s*(.*)$", info, re.MULTILINE)
        return found.group(1).strip() if found else "?"

    flags = field("flags").split()
    cores = len(re.findall(r"^processor\s*:", info, re.MULTILINE))
    caches = []
    for level in (2, 3):
        size = Path(f"/sys/devices/system/cpu/cpu0/cache/index{level}/size")
        if size.exists():
            caches.append(f"L{level} {size.read_text().strip()}")
    simd = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    machine = ", virtual machine" if "hypervisor" in flags else ""
    name = f"{field('model name')} (family {field('cpu family')}, model {field('model')})"
    return f"{name}, {cores} cores, {simd}, {', '.join(caches)}{machine}"


class Call:
    """Mean seconds of a call, repeated as often as min_time asks for; the first sample is one call."""

    def __init__(self, function, min_time):
        self.function, self.min_time, self.calls = function, min_time, 1

    def __call__(self):
        start = time.perf_counter()
        for _ in range(self.calls):
            self.function()
        one = (time.perf_counter() - start) / self.calls
        self.calls = max(self.calls, min(1000, math.ceil(self.min_time / max(one, 1e-9))))
        return one


def first_line(error):
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"[:200] if str(error) else type(error).__name__


class Torch:
    """PyTorch's calls on the tensors of one shape."""

    def __init__(self, shape, threads):
        import torch

        self.torch, self.shape = torch, shape
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        t, h, g, d = shape["tokens"], shape["heads"], shape["kv_heads"], shape["head_dim"]
        self.q, self.k, self.v = (torch.randn(1, n, t, d) for n in (h, g, g))
        self.d_out = torch.randn(1, h, t, d)
        self.is_grouped = h != g
        self.is_reset = False

    def sgemm(self):
        """Floating-point operations per second of a product of 1024 x 1024 matrices."""
        torch = self.torch
        a, b, c = (torch.randn(1024, 1024) for _ in range(3))
        call = Call(lambda: torch.mm(a, b, out=c), 0.05)
        call()
        return 2 * 1024**3 / call()

    def sdpa(self, backend, step, mask=None):
        import torch.nn.functional as functional
        from torch.nn.attention import SDPBackend, sdpa_kernel

        torch = self.torch
        kind = getattr(SDPBackend, backend)
        options = {"attn_mask": mask} if mask is not None else {"is_causal": True}
        options["enable_gqa"] = self.is_grouped
        if step == FORWARD:

            def run():
                with torch.no_grad(), sdpa_kernel(kind):
                    functional.scaled_dot_product_attention(self.q, self.k, self.v, **options)

            return run
        inputs = [x.clone().requires_grad_(True) for x in (self.q, self.k, self.v)]

        def run_both():
            with sdpa_kernel(kind):
                out = functional.scaled_dot_product_attention(*inputs, **options)
            torch.autograd.grad(out, inputs, self.d_out)

        return run_both

    def mask(self, window, is_separator):
        torch = self.torch
        i = torch.arange(self.shape["tokens"])
        kept = torch.tensor(is_separator) | (i < INITIAL)
        near = i[:, None] - i[None, :] < window
        return near.logical_or_(kept[None, :]).logical_and_(i[None, :] <= i[:, None])[None, None]

    def op(self, window, is_separator, step):
        from sepllm.torch import Pattern, sep_attention

        torch, t = self.torch, self.shape["tokens"]
        kept = [i for i in range(t) if is_separator[i]]
        pattern = Pattern.of([t], initial=INITIAL, window=window, kept=[kept])
        if step == FORWARD:

            def run():
                with torch.no_grad():
                    sep_attention(self.q, self.k, self.v, pattern)

            return run
        inputs = [x.clone().requires_grad_(True) for x in (self.q, self.k, self.v)]
        return lambda: torch.autograd.grad(sep_attention(*inputs, pattern), inputs, self.d_out)

    def flex(self, window, is_separator):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        torch = self.torch
        kept = torch.tensor(is_separator)
        kept[:INITIAL] = True
        n = torch.tensor(window)  # a tensor, so that another window needs no new compilation

        def visible(batch, head, i, j):
            return (j <= i) & (kept[j] | (i - j < n))

        t = self.shape["tokens"]
        # Not compiled: made once per pattern, and not part of what is timed.
        blocks = create_block_mask(visible, None, None, t, t, device="cpu")
        # Compiled for this very shape: with shapes left open, version 2.13 wrote C++ that did not compile.
        if not self.is_reset:
            torch.compiler.reset()  # else the shape before would count as a first one of several
            self.is_reset = True
        compiled = torch.compile(flex_attention, dynamic=False)

        def run():
            with torch.no_grad():
                compiled(self.q, self.k, self.v, block_mask=blocks, enable_gqa=self.is_grouped)

        return run


def usable(call):
    """None if it runs, else the first line of what it says."""
    try:
        call()
    except Exception as error:  # whatever PyTorch throws is the answer
        return first_line(error)
    return None


def paths_with_mask():
    """Which paths of SDPA take a boolean mask on this machine."""
    peer = Torch({"tokens": 64, "heads": 2, "kv_heads": 2, "head_dim": 64}, 1)
    mask = peer.mask(16, separators("paper", 64))
    out = {}
    for backend in ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH"):
        out[backend] = usable(peer.sdpa(backend, TRAINING, mask)) or "runs"
    return out


def ours(arguments, shape, threads, step):
    command = [arguments.program, "bench", "attention", "--json", "--repeats", "1"]
    command += ["--min-time", str(arguments.min_time), "--tokens", str(shape["tokens"])]
    if arguments.policy == "sep":
        command += ["--window", ",".join(map(str, arguments.window)), "--init", str(INITIAL)]
    else:
        command += ["--policy", arguments.policy, "--block-size", str(arguments.block_size), "--blocks", str(arguments.blocks)]
    command += ["--heads", str(shape["heads"]), "--kv-heads", str(shape["kv_heads"])]
    command += ["--head-dim", str(shape["head_dim"]), "--threads", str(threads)]
    command += ["--pass", "forward" if step == FORWARD else "backward"]
    if arguments.policy != "moba":
        command += ["--separators", arguments.separators]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: {result.stderr.strip()}")
    return json.loads(result.stdout)


def make_peers(arguments, shape, threads, step):
    """{name: call}, {name: why there is none}, with names "causal", ("mask", window), ("flex", window), ("op", window)."""
    peer = Torch(shape, threads)
    calls, notes = {"sgemm": peer.sgemm, "causal": peer.sdpa("FLASH_ATTENTION", step)}, {}
    if arguments.policy != "sep":  # what is visible depends on the data: no peer has it
        return calls, notes
    is_separator = separators(arguments.separators, shape["tokens"])
    for window in arguments.window:
        name = ("mask", window)
        if shape["tokens"] > arguments.mask_tokens:
            notes[name] = f"not run above {arguments.mask_tokens} tokens (a mask of tokens x tokens)"
        else:
            mask = peer.mask(window, is_separator)
            for backend in ("FLASH_ATTENTION", "MATH"):
                call = peer.sdpa(backend, step, mask)
                error = usable(call)
                notes[name] = error or backend
                if error is None:
                    calls[name] = call
                    break
        name = ("flex", window)
        if step == TRAINING:
            notes[name] = "no backward on CPUs"
        elif shape["tokens"] > arguments.flex_tokens:
            notes[name] = f"not run above {arguments.flex_tokens} tokens"
        else:
            call = peer.flex(window, is_separator)
            error = usable(call)
            if error is None:
                calls[name] = call
            else:
                notes[name] = error
        name = ("op", window)
        try:
            calls[name] = peer.op(window, is_separator, step)
        except ImportError:
            notes[name] = "the Python package is not installed"
    return calls, notes


def measure(arguments, shape, threads, step):
    calls, notes = make_peers(arguments, shape, threads, step)
    timed = {n: c if n == "sgemm" else Call(c, arguments.min_time) for n, c in calls.items()}
    samples = {n: [] for n in timed}
    own = []
    for turn in range(arguments.rounds + 1):
        for name, call in timed.items():
            value = call()
            if turn > 0:
                samples[name].append(value)
        if turn > 0:  # it warms up by itself
            own.append(ours(arguments, shape, threads, step))
    middle = {n: statistics.median(v) for n, v in samples.items()}
    rows = []
    for w, window in enumerate(arguments.window):
        mine = [rows_of_round[w] for rows_of_round in own]
        row = {k: mine[0][k] for k in ("tokens", "window", "heads", "kv_heads", "head_dim", "threads", "pass", "kept")}
        row["separators"] = arguments.separators
        if arguments.policy != "sep":
            row["window"] = 0
            row["separators"] = f"{arguments.policy}, {arguments.blocks} blocks of {arguments.block_size}"
        row["rounds"] = arguments.rounds
        for key in ("seconds", "dense_seconds", "sgemm_gflops"):
            row[key] = statistics.median(r[key] for r in mine)
        row["peak_bytes"] = max(r["peak_bytes"] for r in mine)
        row["causal_seconds"] = middle["causal"]
        row["torch_sgemm_gflops"] = middle["sgemm"] * 1e-9
        for peer in PATTERN_PEERS:
            row[f"{peer}_seconds"] = middle.get((peer, window))
            row[f"{peer}_note"] = notes.get((peer, window))
        rows.append(finish(row))
    return rows


def finish(row):
    """Adds what follows from the times."""
    flops_a_pair = (4 if row["pass"] == FORWARD else 14) * row["head_dim"] * row["heads"]
    causal = row["tokens"] * (row["tokens"] + 1) / 2 * flops_a_pair
    best_dense = min(row["dense_seconds"], row["causal_seconds"])
    row["dense_gflops"] = causal / row["dense_seconds"] * 1e-9
    row["gflops"] = row["kept"] * causal / row["seconds"] * 1e-9
    row["causal_gflops"] = causal / row["causal_seconds"] * 1e-9
    row["dense_gemm_share"] = row["dense_gflops"] / row["sgemm_gflops"]
    row["gemm_share"] = row["gflops"] / row["sgemm_gflops"]
    row["efficiency"] = row["kept"] * best_dense / row["seconds"]
    row["dense_over_causal"] = row["causal_seconds"] / row["dense_seconds"]
    row["over_best_dense"] = best_dense / row["seconds"]
    for peer in PATTERN_PEERS:
        seconds = row[f"{peer}_seconds"]
        row[f"over_{peer}"] = seconds / row["seconds"] if seconds is not None else None
    return row


COLUMNS = [
    ("T", lambda r: str(r["tokens"])),
    ("n", lambda r: str(r["window"])),
    ("kept", lambda r: f"{r['kept']:.3f}"),
    ("pass", lambda r: "fwd" if r["pass"] == FORWARD else "fwd+bwd"),
    ("dense, s", lambda r: f"{r['dense_seconds']:.4f}"),
    ("sparse, s", lambda r: f"{r['seconds']:.4f}"),
    ("SDPA causal, s", lambda r: f"{r['causal_seconds']:.4f}"),
    ("SDPA mask, s", lambda r: seconds_or_dash(r["mask_seconds"])),
    ("Flex, s", lambda r: seconds_or_dash(r["flex_seconds"])),
    ("sep_attention, s", lambda r: seconds_or_dash(r.get("op_seconds"))),
    ("dense : SDPA causal", lambda r: f"{r['dense_over_causal']:.2f} x"),
    ("sparse : best dense", lambda r: f"{r['over_best_dense']:.2f} x"),
    ("sparse : SDPA mask", lambda r: times_or_dash(r["over_mask"])),
    ("sparse : Flex", lambda r: times_or_dash(r["over_flex"])),
    ("sparse : sep_attention", lambda r: times_or_dash(r.get("over_op"))),
    ("efficiency", lambda r: f"{r['efficiency']:.2f}"),
    ("of sgemm: dense", lambda r: f"{r['dense_gemm_share']:.2f}"),
    ("sparse", lambda r: f"{r['gemm_share']:.2f}"),
    ("sgemm, GFLOP/s", lambda r: f"{r['sgemm_gflops']:.0f}"),
    ("memory, MiB", lambda r: f"{r['peak_bytes'] / 2**20:.0f}"),
]


def seconds_or_dash(value):
    return f"{value:.4f}" if value is not None else "-"


def times_or_dash(value):
    return f"{value:.2f} x" if value is not None else "-"


def table(run):
    """The tables for docs/PERFORMANCE.md: one per head shape, threads and separators."""
    out = [f"{run['hardware']}; PyTorch {run['torch']} ({run['torch_capability']})."]
    paths = ", ".join(f"{k.lower().replace('_attention', '')}: {v}" for k, v in run["paths_with_mask"].items())
    out.append(f"SDPA with a boolean mask, by path: {paths}")
    groups = {}
    for row in run["rows"]:
        key = tuple(row[k] for k in ("heads", "kv_heads", "head_dim", "threads", "separators"))
        groups.setdefault(key, []).append(row)
    for (heads, kv_heads, head_dim, threads, rule), rows in groups.items():
        rows.sort(key=lambda r: (r["pass"], r["window"], r["tokens"]))
        theirs = statistics.median(r["torch_sgemm_gflops"] for r in rows)
        shape = f"{heads} heads x {head_dim}" if heads == kv_heads else f"{heads}/{kv_heads} heads x {head_dim}"
        rounds = ", ".join(str(n) for n in sorted({r["rounds"] for r in rows}))
        what = rule if "blocks" in rule else f"separators `{rule}`"
        title = f"{shape}, {threads} thread{'s' if threads > 1 else ''}, {what}"
        out += ["", f"**{title}**, medians of {rounds} rounds; PyTorch's own sgemm: {theirs:.0f} GFLOP/s", ""]
        out.append("| " + " | ".join(name for name, _ in COLUMNS) + " |")
        out.append("|" + "---:|" * len(COLUMNS))
        out += ["| " + " | ".join(cell(r) for _, cell in COLUMNS) + " |" for r in rows]
        notes = {}
        for row in rows:
            for peer in PATTERN_PEERS:
                if row.get(f"{peer}_note"):
                    notes.setdefault((peer, row[f"{peer}_note"]), []).append(row)
        # Notes that hold for all rows of a pass need no list of rows.
        for (peer, note), noted in sorted(notes.items(), key=str):
            passes = {r["pass"] for r in noted}
            everywhere = all(r in noted for r in rows if r["pass"] in passes)
            where = "" if everywhere else " at T = " + ", ".join(str(t) for t in sorted({r["tokens"] for r in noted}))
            label = PATTERN_PEERS[peer]
            path = note.lower().replace("_attention", "")
            what = f"the {path} path ran" if path in ("flash", "math") else note
            out += ["", f"{label}, {' and '.join(sorted(passes))}{where}: {what}."]
    return "\n".join(out)


def run(arguments):
    import torch

    result = {"hardware": hardware(), "torch": torch.__version__}
    result["torch_capability"] = torch.backends.cpu.get_cpu_capability()
    result["paths_with_mask"] = paths_with_mask()
    result["rows"] = []
    steps = {"forward": [FORWARD], "backward": [TRAINING], "both": [FORWARD, TRAINING]}[arguments.passes]
    for threads in arguments.threads:
        for tokens in arguments.tokens:
            shape = {"tokens": tokens, "heads": arguments.heads, "head_dim": arguments.head_dim}
            shape["kv_heads"] = arguments.kv_heads or arguments.heads
            for step in steps:
                print(f"{tokens} tokens, {threads} threads, {step}", file=sys.stderr)
                result["rows"] += measure(arguments, shape, threads, step)
                if arguments.save:
                    arguments.save.write_text(json.dumps(result, indent=1) + "\n")
    return result


def merged(paths):
    runs = [json.loads(p.read_text()) for p in paths]
    for other in runs[1:]:
        for key in ("hardware", "torch", "torch_capability", "paths_with_mask"):
            if other[key] != runs[0][key]:
                raise SystemExit(f"the runs differ in {key}: {other[key]} and {runs[0][key]}")
        runs[0]["rows"] += other["rows"]
    return runs[0]


def integers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=integers, default=[1024, 2048, 4096, 8192])
    parser.add_argument("--window", type=integers, default=[64])
    parser.add_argument("--threads", type=integers, default=[1])
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--kv-heads", type=int, help="default: as --heads")
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--separators", choices=["paper", "text"], default="paper")
    parser.add_argument("--policy", choices=["sep", "moba", "sep-moba"], default="sep")
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--pass", dest="passes", choices=["forward", "backward", "both"], default="both")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--min-time", type=float, default=0.1)
    parser.add_argument("--mask-tokens", type=int, default=16384, help="no dense mask above this length")
    parser.add_argument("--flex-tokens", type=int, default=16384, help="no FlexAttention above this length")
    parser.add_argument("--program", default=REPOSITORY / "build/release/bin/sepllm")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    parser.add_argument("--save", type=Path, help="write the JSON to this file too, after every length")
    parser.add_argument("--load", type=Path, nargs="+", help="print saved runs, measure nothing")
    arguments = parser.parse_args()
    if arguments.policy != "sep":
        arguments.window = [0]
    result = merged(arguments.load) if arguments.load else run(arguments)
    print(json.dumps(result) if arguments.json else table(result))


if __name__ == "__main__":
    main()
