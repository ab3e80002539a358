#!/usr/bin/env python3
"""A training step: this program compared with PyTorch, in one run on one machine, as one table.

    pytorch_train.py [--only gpt2-124m:1024:1:full,...] [--compute f32,bf16] [--threads 1,2] [--rounds 3] [--save F]
    pytorch_train.py --load F [F...]        prints one table of the rounds of several saved runs

A measure is SHAPE:TOKENS:BATCH:POLICY with the shapes and policies (full, sep) of `sepllm bench train`. A step is
forward, cross-entropy, backward, clipping of the gradient's norm and AdamW. f32: both sides compute in it; bf16: our
`--compute bf16` compared with PyTorch under torch.autocast("cpu", dtype=torch.bfloat16), what its users write for mixed
precision. Rounds take turns: one step of
PyTorch, and a run of `sepllm bench train` (the median of a few steps, after one that does not count, because a first
step finds out how much memory it needs); figures are medians over the rounds.

PyTorch's model is made of plain modules (nn.Linear, LayerNorm, GELU), eager, as fast as eager mode goes: attention is
F.scaled_dot_product_attention, with is_causal for full attention. Under `sep` it is timed both with the pattern as a
boolean mask, which computes the same as ours, and causal, the fastest that it has. AdamW is the faster one of fused
and foreach, tried before the rounds. Needs torch (2.13 was used). Exit code 1 where sepllm fails.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from attention import REPOSITORY, hardware, separators  # noqa: E402

MEASURES = ["gpt2-124m:1024:1:full", "gpt2-124m:1024:4:full", "pythia-160m:1024:1:full", "pythia-160m:2048:1:sep",
            "pythia-160m:4096:1:sep"]
SHAPES = {  # vocabulary, width, layers, heads, rotary dimensions of a head (0: learned positions)
    "gpt2-124m": (50257, 768, 12, 12, 0),
    "pythia-160m": (50304, 768, 12, 12, 16),
    "pythia-14m": (50304, 128, 6, 4, 8),
}
INITIAL, WINDOW = 4, 64


def make_model(shape, n_tokens):
    import torch
    import torch.nn.functional as functional
    from torch import nn

    vocabulary, width, n_layers, n_heads, rotary = SHAPES[shape]
    head = width // n_heads
    is_gpt2 = rotary == 0

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def rotate(self, x, angles):
            turned, rest = x[..., :rotary], x[..., rotary:]
            low, high = turned.chunk(2, -1)
            return torch.cat((turned * angles[0] + torch.cat((-high, low), -1) * angles[1], rest), -1)

        def attend(self, x, angles, mask):
            b, t, _ = x.shape
            q, k, v = self.qkv(x).view(b, t, 3, n_heads, head).permute(2, 0, 3, 1, 4)
            if not is_gpt2:
                q, k = self.rotate(q, angles), self.rotate(k, angles)
            y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
            return self.out(y.transpose(1, 2).reshape(b, t, width))

        def mlp(self, x):
            return self.down(functional.gelu(self.up(x), approximate="tanh" if is_gpt2 else "none"))

        def forward(self, x, angles, mask):
            if is_gpt2:
                x = x + self.attend(self.norm1(x), angles, mask)
                return x + self.mlp(self.norm2(x))
            return x + self.attend(self.norm1(x), angles, mask) + self.mlp(self.norm2(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(vocabulary, width)
            if is_gpt2:
                self.positions = nn.Embedding(n_tokens, width)
            self.blocks = nn.ModuleList(Block() for _ in range(n_layers))
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocabulary, bias=False)
            for p in self.parameters():
                if p.dim() > 1:
                    nn.init.normal_(p, std=0.02)
            if is_gpt2:
                self.head.weight = self.tokens.weight

        def forward(self, ids, targets, mask):
            x, angles, t = self.tokens(ids), None, ids.shape[1]
            if is_gpt2:
                x = x + self.positions.weight[:t]
            else:
                rates = 10000 ** (-torch.arange(0, rotary, 2) / rotary)
                turns = torch.outer(torch.arange(t), rates).repeat(1, 2)
                angles = (turns.cos(), turns.sin())
            for block in self.blocks:
                x = block(x, angles, mask)
            return functional.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())

    return Model()


class Torch:
    """Training of one shape by PyTorch."""

    def __init__(self, shape, n_tokens, batch, threads, compute):
        import torch

        self.torch = torch
        self.is_mixed = compute == "bf16"
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        self.model = make_model(shape, n_tokens)
        ids = torch.randint(SHAPES[shape][0], (batch, n_tokens + 1))
        self.ids, self.targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
        self.choose_optimizer()

    def pattern(self):
        """What `sepllm bench train --policy sep` sees of the first sample (the book's separators)."""
        torch, n = self.torch, self.ids.shape[1]
        i = torch.arange(n)
        kept = torch.tensor(separators("text", n)) | (i < INITIAL)
        return ((i[:, None] - i[None, :] < WINDOW) | kept[None, :]) & (i[None, :] <= i[:, None])

    def choose_optimizer(self):
        torch = self.torch
        for p in self.model.parameters():
            p.grad = torch.zeros_like(p)
        best = None
        for kind in ("fused", "foreach"):
            optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1,
                                          **{kind: True})
            optimizer.step()
            start = time.perf_counter()
            optimizer.step()
            seconds = time.perf_counter() - start
            if best is None or seconds < best:
                best, self.optimizer, self.kind = seconds, optimizer, kind

    def step(self, mask):
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        with self.torch.autocast("cpu", dtype=self.torch.bfloat16, enabled=self.is_mixed):
            loss = self.model(self.ids, self.targets, mask)
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        return time.perf_counter() - start


def our_step(args, compute, shape, n_tokens, batch, policy, threads):
    command = [args.sepllm, "bench", "train", "--shape", shape, "--tokens", str(n_tokens), "--batch", str(batch),
               "--threads", str(threads), "--policy", policy, "--repeats", str(args.repeats), "--compute", compute, "--json"]
    if policy == "sep":
        command += ["--init", str(INITIAL), "--window", str(WINDOW)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)[0]


def measure(args, name, threads, compute):
    shape, n_tokens, batch, policy = name.split(":")
    n_tokens, batch = int(n_tokens), int(batch)
    peer = Torch(shape, n_tokens, batch, threads, compute)
    masks = {"causal": None}
    if policy == "sep":
        masks["mask"] = peer.pattern()
    row = {"name": name, "threads": threads, "compute": compute, "adamw": peer.kind, "ours": [], "gemm_share": [], "kept": 0,
           "torch": {kind: [] for kind in masks}}
    for mask in masks.values():
        peer.step(mask)
    for _ in range(args.rounds):
        for kind, mask in masks.items():
            row["torch"][kind].append(peer.step(mask))
        ours = our_step(args, compute, shape, n_tokens, batch, policy, threads)
        row["ours"].append(ours["seconds"])
        row["gemm_share"].append(ours["gemm_share"])
        row["kept"] = ours["kept"]
        print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def merge(rows):
    """Rounds of the same measure as one row."""
    merged = {}
    for row in rows:
        key = (row["name"], row["threads"], row.setdefault("compute", "f32"))
        if key not in merged:
            merged[key] = row
            continue
        to = merged[key]
        to["ours"] += row["ours"]
        to["gemm_share"] += row["gemm_share"]
        for kind, seconds in row["torch"].items():
            to["torch"][kind] += seconds
    return list(merged.values())


def print_table(results):
    print(f"{results[0]['hardware']}; torch {results[0]['version']}\n")
    print("| shape | tokens | batch | policy | kept | compute | threads | rounds | ours, s | tokens/s | of sgemm "
          "| PyTorch causal, s | ratio | PyTorch mask, s | ratio | AdamW |")
    print("|---|---:|---:|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|")
    for row in merge([r for result in results for r in result["rows"]]):
        shape, n_tokens, batch, policy = row["name"].split(":")
        ours = statistics.median(row["ours"])
        cells = [shape, n_tokens, batch, policy, f"{row['kept']:.3f}", row["compute"], row["threads"], len(row["ours"]), f"{ours:.3f}",
                 f"{int(n_tokens) * int(batch) / ours:.0f}", f"{statistics.median(row['gemm_share']):.2f}"]
        for kind in ("causal", "mask"):
            seconds = row["torch"].get(kind)
            cells += [f"{statistics.median(seconds):.3f}", f"{statistics.median(seconds) / ours:.2f}"] if seconds else ["-"] * 2
        print("| " + " | ".join(str(c) for c in cells + [row["adamw"]]) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sepllm", default=str(REPOSITORY / "build/release/bin/sepllm"))
    parser.add_argument("--only", help="measures with commas between; default: " + ",".join(MEASURES))
    parser.add_argument("--compute", default="f32,bf16")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="our steps of a round; their median counts")
    parser.add_argument("--save", help="the figures as JSON in this file too")
    parser.add_argument("--load", nargs="+", metavar="F")
    args = parser.parse_args()
    if args.load:
        print_table([json.loads(Path(f).read_text()) for f in args.load])
        return
    import torch

    rows = []
    for name in args.only.split(",") if args.only else MEASURES:
        for compute in args.compute.split(","):
            for threads in args.threads.split(","):
                try:
                    rows.append(measure(args, name, int(threads), compute))
                except subprocess.CalledProcessError:
                    sys.exit(f"sepllm failed on {name}")
    result = {"hardware": hardware(), "version": torch.__version__, "rows": rows}
    if args.save:
        Path(args.save).write_text(json.dumps(result, indent=1))
    print_table([result])


if __name__ == "__main__":
    main()
