#!/usr/bin/env python3
"""A training step of a model of transformers: attn_implementation="sepllm" next to "sdpa", in one run, as a table.

    transformers_train.py [--tokens 4096] [--window 64] [--threads 1,2] [--rounds 3] [--save FILE]

The model has the shape of GPT-NeoX 160M (Pythia): 12 layers, 768, 12 heads, a vocabulary of 50304; random weights in float32. A step is
forward, loss, backward, clipping of the gradient's norm and AdamW (fused). The same model takes turns between the two attentions;
figures are medians over the rounds, after a short step of each that does not count. "sdpa" is causal, the fastest that PyTorch has;
"sepllm" keeps 4 initial tokens, the separators of the paper's frequency (`sepllm bench`), and a window. "attention": the time within
attention in such a step, forward and backward, measured apart on the same shapes, times the number of layers.

Needs torch, transformers 5 and the Python package (torch 2.13 and transformers 5.24 were used).
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent))
from attention import hardware, integers, separators  # noqa: E402

import sepllm.transformers as st  # noqa: E402
from sepllm import Policy  # noqa: E402
from sepllm.torch import Pattern, sep_attention  # noqa: E402

VOCABULARY, SEPARATOR, INITIAL = 50304, 7, 4
LAYERS, HEADS, HEAD = 12, 12, 64
KINDS = ("sdpa", "sepllm")


def make_model(tokens):
    config = transformers.GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=HEADS * HEAD, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=4 * HEADS * HEAD, max_position_embeddings=tokens, attention_dropout=0.0, hidden_dropout=0.0, use_cache=False)
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()


def make_ids(tokens):
    """Random ids, with the separator where `sepllm bench` has separators."""
    ids = torch.randint(10, VOCABULARY, (1, tokens), generator=torch.Generator().manual_seed(1))
    ids[0, torch.tensor(separators("paper", tokens)[:tokens], dtype=torch.bool)] = SEPARATOR
    return ids


def step(model, optimizer, ids, kind, window):
    """(seconds, loss)"""
    model.set_attn_implementation(kind)
    enabled = st.enable(model, Policy.sep(init=INITIAL, window=window), [SEPARATOR]) if kind == "sepllm" else None
    begin = time.perf_counter()
    loss = model(ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - begin
    if enabled is not None:
        enabled.disable()
    return seconds, loss.item()


def attention_seconds(ids, window, rounds):
    """{kind: seconds of all layers}, forward and backward."""
    tokens = ids.shape[1]
    q, k, v = (torch.randn(1, HEADS, tokens, HEAD, requires_grad=True) for _ in range(3))
    d_out = torch.randn(1, HEADS, tokens, HEAD)
    pattern = Pattern.from_mask_rule(ids, [SEPARATOR], INITIAL, window)
    calls = {"sdpa": lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
             "sepllm": lambda: sep_attention(q, k, v, pattern)}
    samples = {kind: [] for kind in calls}
    for turn in range(rounds + 1):
        for kind, call in calls.items():
            begin = time.perf_counter()
            torch.autograd.grad(call(), (q, k, v), d_out)
            if turn > 0:
                samples[kind].append(time.perf_counter() - begin)
    kept = pattern.visible(tokens).sum().item() / (tokens * (tokens + 1) / 2)
    return {kind: LAYERS * statistics.median(values) for kind, values in samples.items()}, kept


def measure(tokens, window, threads, rounds):
    torch.set_num_threads(threads)
    model, ids = make_model(tokens), make_ids(tokens)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    for kind in KINDS:
        step(model, optimizer, ids[:, :256], kind, window)
    samples = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            seconds, loss = step(model, optimizer, ids, kind, window)
            samples[kind].append(seconds)
            print(f"{threads} threads, {kind}: {seconds:.2f} s, loss {loss:.3f}", file=sys.stderr)
    of_attention, kept = attention_seconds(ids, window, rounds)
    return {"tokens": tokens, "window": window, "threads": threads, "rounds": rounds, "kept": kept, "samples": samples,
            "seconds": {kind: statistics.median(values) for kind, values in samples.items()}, "attention_seconds": of_attention}


def table(result):
    out = [f"{result['hardware']}; PyTorch {result['torch']}, transformers {result['transformers']}.", "",
           "| T | n | kept | threads | sdpa, s | of it attention, s | sepllm, s | of it attention, s | sdpa : sepllm |", "|" + "---:|" * 9]
    for r in result["rows"]:
        s, a = r["seconds"], r["attention_seconds"]
        out.append(f"| {r['tokens']} | {r['window']} | {r['kept']:.3f} | {r['threads']} | {s['sdpa']:.2f} | {a['sdpa']:.2f} | "
                   f"{s['sepllm']:.2f} | {a['sepllm']:.2f} | {s['sdpa'] / s['sepllm']:.2f} x |")
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--threads", type=integers, default=[2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", type=Path, help="write the figures to this file too, as JSON")
    arguments = parser.parse_args()
    result = {"hardware": hardware(), "torch": torch.__version__, "transformers": transformers.__version__,
              "rows": [measure(arguments.tokens, arguments.window, n, arguments.rounds) for n in arguments.threads]}
    if arguments.save:
        arguments.save.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
