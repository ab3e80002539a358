#!/usr/bin/env python3
"""Trains the same small model with the program and with PyTorch, on the same samples in the same order, and compares
the losses of every step and of the held-out part. With PyTorch: transformers' GPT-NeoX or Llama class in float32 with
autograd, torch.optim.AdamW, clip_grad_norm_, a cosine written here, and the policy as a [T, T] mask.

What the two share: the token file of `sepllm prepare` (read here by numpy, from the form's description), the order of the
samples (`sepllm inspect samples`) and the initial weights (what the program exports after one step of a learning rate of
1e-30, which changes no weight but zeros).

    pytorch_loss.py [--text tinyshakespeare/input.txt ...] [--policy full sep] [--steps 600] [--family gpt_neox]
                    [--out docs/results/train-vs-pytorch.json]

The held-out loss of both must agree within 1 %; exit code 1 otherwise. Needs torch, transformers (see
tests/golden/README.md), one thread and a quarter of an hour per run on a busy core.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers

from program import TEXTS, additive, run, run_json, separators_of, visible

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

LENGTH, BATCH, EVAL_SAMPLES = 256, 8, 64
LR, MIN_LR, WARMUP, WEIGHT_DECAY, CLIP, BETAS, EPS = 2e-3, 2e-4, 0.05, 0.1, 1.0, (0.9, 0.95), 1e-8
POLICIES = {"full": {"policy": "full"}, "sep": {"policy": "sep", "init": 4, "window": 32}}
TOLERANCE = 0.01


def write_settings(folder, family, policy, steps):
    """settings.yaml; JSON is YAML."""
    settings = {
        "family": family, "n_layers": 4, "hidden_size": 128, "n_heads": 4, "tokenizer": f"{folder}/bpe",
        "data": f"{folder}/text", "valid_share": 0.1, "seq_length": LENGTH, "global_batch_size": BATCH,
        "micro_batch_size": 4, "train_steps": steps, "lr": LR, "min_lr": MIN_LR, "warmup": WARMUP,
        "weight_decay": WEIGHT_DECAY, "clip_grad": CLIP, "beta1": BETAS[0], "beta2": BETAS[1], "eps": EPS,
        "policy": POLICIES[policy], "save": f"{folder}/{policy}", "save_interval": 1_000_000, "eval_interval": 100,
        "eval_samples": EVAL_SAMPLES, "spike_z": 0, "threads": 1,
    }
    path = folder / "settings.yaml"
    path.write_text(json.dumps(settings))
    return path


def samples(folder, settings, count, *more):
    """[count, LENGTH + 1] ids."""
    tokens = np.fromfile(folder / "text.bin", dtype=np.uint16).astype(np.int64)
    listed = run_json("inspect", "samples", "--config", settings, "--samples", count, *more)["samples"]
    assert len(listed) == count
    return torch.tensor(np.stack([tokens[s["first"] : s["first"] + LENGTH + 1] for s in listed]))


def learning_rate(step, steps):
    warmup = round(WARMUP * steps)
    if step <= warmup:
        return LR * step / warmup
    return MIN_LR + 0.5 * (LR - MIN_LR) * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


class Reference:
    """The run in PyTorch."""

    def __init__(self, model_folder, policy, separators):
        self.policy, self.separators = policy, separators
        self.model = transformers.AutoModelForCausalLM.from_pretrained(model_folder, attn_implementation="sdpa")
        self.model.train()
        parameters = list(self.model.parameters())
        groups = [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": WEIGHT_DECAY},
                  {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)

    def loss(self, batch):
        ids, targets = batch[:, :-1], batch[:, 1:]
        mask = torch.stack([visible(row.tolist(), self.policy, self.separators) for row in ids])
        logits = self.model(input_ids=ids, attention_mask=additive(mask), use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def step(self, batch, lr):
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimiser.step()
        return loss.item(), norm.item()

    @torch.no_grad()
    def held_out(self, batch):
        return sum(self.loss(part).item() for part in batch.split(1)) / len(batch)


def compare(folder, family, policy, steps):
    settings = write_settings(folder, family, policy, steps)
    begin = folder / "begin"
    run("train", "--config", settings, "--set", f"save={begin}-{policy}", "--set", "train_steps=1", "--set", "lr=1e-30",
        "--set", "min_lr=0", "--set", "warmup=0")
    start = time.time()
    run("train", "--config", settings)
    our_seconds = time.time() - start
    ours = [json.loads(line) for line in (folder / policy / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in ours] == list(range(1, steps + 1))

    model_folder = Path(f"{begin}-{policy}") / "model"
    reference = Reference(model_folder, POLICIES[policy], separators_of(model_folder))
    train = samples(folder, settings, steps * BATCH)
    held_out = samples(folder, settings, EVAL_SAMPLES, "--held-out")
    start = time.time()
    losses, norms, valid = [], [], {}
    for step in range(1, steps + 1):
        loss, norm = reference.step(train[(step - 1) * BATCH : step * BATCH], learning_rate(step, steps))
        losses.append(loss)
        norms.append(norm)
        if step % 100 == 0 or step == steps:
            valid[step] = reference.held_out(held_out)
            print(f"  {policy} step {step}: training {ours[step - 1]['loss']:.4f} and {loss:.4f}, held out "
                  f"{ours[step - 1]['valid_loss']:.4f} and {valid[step]:.4f} (PyTorch)", flush=True)
    difference = [abs(m["loss"] - loss) for m, loss in zip(ours, losses)]
    norm_difference = max(abs(m["gradient_norm"] - n) / n for m, n in zip(ours[:10], norms[:10]))
    return {
        "policy": POLICIES[policy], "parameters": sum(p.numel() for p in reference.model.parameters()), "steps": steps,
        "valid_loss": ours[-1]["valid_loss"], "pytorch_valid_loss": valid[steps],
        "valid_difference": ours[-1]["valid_loss"] / valid[steps] - 1,
        "largest_loss_difference": {str(n): max(difference[:n]) for n in (1, 10, 100, steps) if n <= steps},
        "mean_loss_difference": sum(difference) / steps, "gradient_norm_difference_10": norm_difference,
        "valid": {step: [ours[step - 1]["valid_loss"], loss] for step, loss in valid.items()},
        "seconds": our_seconds, "pytorch_seconds": time.time() - start,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="+", default=["tinyshakespeare/input.txt", "tinystories/tiny_stories.txt"],
                        help="files, looked up in the test data where they are relative")
    parser.add_argument("--policy", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--family", default="gpt_neox", choices=["gpt_neox", "llama", "gpt2", "falcon"])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for text in options.text:
        path = TEXTS / text
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            run("prepare", "--train-tokenizer", "bpe", "--vocab-size", 2048, "--split-on", r"\n\n", "--out", folder / "bpe",
                path)
            facts = run_json("prepare", "--tokenizer", folder / "bpe", "--split-on", r"\n\n", "--out", folder / "text", path)
            print(f"{text}: {facts['tokens']} tokens, {100 * facts['separator_share']:.1f} % separators", flush=True)
            for policy in options.policy:
                row = {"text": text, "family": options.family, **compare(folder, options.family, policy, options.steps)}
                rows.append(row)
                print(f"{text}, {policy}: held-out loss {row['valid_loss']:.4f}, PyTorch's {row['pytorch_valid_loss']:.4f} "
                      f"({100 * row['valid_difference']:+.3f} %)", flush=True)
    if options.out:
        options.out.write_text(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__,
                                           "runs": rows}, indent=1) + "\n")
    sys.exit(0 if all(abs(row["valid_difference"]) < TOLERANCE for row in rows) else 1)


if __name__ == "__main__":
    main()
