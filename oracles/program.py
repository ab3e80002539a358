"""Shared by the scripts here: running the program, and the masks of its policies by their definition (a token sees
the initial ones, the separators before it, and its window)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[1]
BINARY = Path(os.environ.get("SEPLLM", REPOSITORY / "build/release/bin/sepllm"))
TEXTS = REPOSITORY.parent / "shared/data/text"


def run(*arguments):
    """Standard output of `sepllm ARGUMENTS`; ends this script with the program's error line if it fails."""
    done = subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"sepllm {' '.join(map(str, arguments))}\n{done.stderr}")
    return done.stdout


def run_json(*arguments):
    return json.loads(run(*arguments, "--json"))


def separators_of(model):
    return run_json("inspect", "--model", model)["separators"]["ids"]


def layer_settings(policy, layer, n_layers):
    """The settings of one layer: those of "layer-policy" ("0..2=full,3=sep:128,-1=fixed:64/8") in place of the policy's."""
    for item in filter(None, policy.get("layer-policy", "").split(",")):
        layers, rule = item.split("=")
        first, last = (layers.split("..") * 2)[:2]
        if not any(int(first) <= name <= int(last) for name in (layer, layer - n_layers)):
            continue
        kind, *numbers = rule.replace("/", ":").split(":")
        own = dict(policy, policy=kind)
        own.update(zip(("window", "interval"), map(int, numbers)))
        return own
    return policy


def long_segments(ids, policy, separators):
    """The positions that "max-segment" keeps: so many tokens after the last kept one."""
    kept, last = [], -1
    for j, token in enumerate(ids):
        too_long = policy.get("max-segment", 0) > 0 and j - last >= policy["max-segment"]
        if j < policy["init"] or token in separators or too_long:
            last = j
            kept.append(j)
    return kept


def visible(ids, policy, separators):
    """bool [T, T], row = query i, column = key j, of these ids (list of T) under settings as config.json has them."""
    total = len(ids)
    i, j = torch.arange(total)[:, None], torch.arange(total)[None, :]
    causal = j <= i
    kind = policy["policy"]
    if kind == "full":
        return causal
    kept = (j < policy["init"]) | (i - j < policy["window"])
    if kind == "sep":
        kept = kept | torch.isin(j, torch.tensor(long_segments(ids, policy, set(separators)), dtype=j.dtype))
    elif kind == "fixed":
        kept = kept | ((j >= policy["init"]) & ((j - policy["init"] + 1) % policy["interval"] == 0))
    else:
        assert kind == "sink", kind
    return causal & kept


def additive(mask):
    """The mask as transformers' models take it: 4-D, 0 where visible, else the least float. mask: bool [(B,) T, T]."""
    mask = mask[None] if mask.dim() == 2 else mask
    zero = torch.zeros(mask.shape, dtype=torch.float32)
    return zero.masked_fill(~mask, torch.finfo(torch.float32).min)[:, None]


def layer_masks(config, ids, policy, separators):
    """attention_mask for a model of transformers with this config: the policy's mask, and in layers that have a sliding
    window of their own that window, which they keep under every policy."""
    mask = additive(visible(ids, policy, separators))
    if "sliding_attention" not in (getattr(config, "layer_types", None) or []):
        return mask
    window = {"policy": "sink", "init": 0, "window": config.sliding_window}
    return {"full_attention": mask, "sliding_attention": additive(visible(ids, window, []))}
