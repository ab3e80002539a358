#!/usr/bin/env python3
"""Markdown tables of docs/PERFORMANCE.md from saved results.

    tables.py attention F [F...]   F: output of `sepllm bench attention --json`
    tables.py decode F [F...]      F: --benchmark_out of attention_decode_bench (JSON)
"""

import json
import sys
from pathlib import Path


def row(cells):
    print("| " + " | ".join(str(c) for c in cells) + " |")


def header(names, n_text):
    row(names)
    print("|" + "---|" * n_text + "---:|" * (len(names) - n_text))


def short(tokens):
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else str(tokens)


def attention(files):
    names = ["heads", "threads", "pass", "n", "T", "seconds", "dense, s", "times faster", "kept", "efficiency", "GFLOP/s",
             "of sgemm", "dense of sgemm", "MiB"]
    header(names, 3)
    for f in files:
        for r in json.loads(Path(f).read_text()):
            dense = r["dense_seconds"]
            training = r["pass"] != "forward"
            heads = f"{r['heads']}/{r['kv_heads']}" if r["heads"] != r["kv_heads"] else r["heads"]
            # The dense kernel's own share of sgemm: its pairs are all causal ones.
            share = r["gemm_share"] * r["seconds"] / (r["kept"] * dense) if dense else None
            row([f"{heads} x {r['head_dim']}", r["threads"], "fwd+bwd" if training else "fwd", r["window"],
                 short(r["tokens"]), f"{r['seconds']:.4f}", f"{dense:.4f}" if dense else "-",
                 f"{dense / r['seconds']:.2f}" if dense else "-", f"{r['kept']:.3f}",
                 f"{r['efficiency']:.2f}" if dense else "-", f"{r['gflops']:.0f}", f"{r['gemm_share']:.2f}",
                 f"{share:.2f}" if share else "-", round(r["peak_bytes"] / 2**20)])


def decode(files):
    names = ["type", "heads", "head_dim", "sequences", "threads", "GB/s", "share of the read bandwidth"]
    header(names, 1)
    types = {"0": "f32", "1": "f16", "2": "bf16", "3": "int8"}
    for f in files:
        for b in json.loads(Path(f).read_text())["benchmarks"]:
            field = dict(part.split(":") for part in b["name"].split("/") if ":" in part)
            rate = next(v for k, v in b.items() if k.startswith("GB/s"))
            row([types[field["type"]], f"32/{field['kv_heads']}", field["head_dim"], field["sequences"], field["threads"],
                 f"{rate:.1f}", f"{b['bandwidth_share']:.2f}"])


def main():
    kinds = {"attention": attention, "decode": decode}
    if len(sys.argv) < 3 or sys.argv[1] not in kinds:
        sys.exit(__doc__)
    kinds[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    main()
