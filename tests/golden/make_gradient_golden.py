"""Gradients of the mean loss of every tiny checkpoint by PyTorch's autograd, through the plain decoder in float64 and
the explicit masks of make_golden.py, and the losses of ten AdamW steps. Run after make_golden.py:
python tests/golden/make_gradient_golden.py

models/<case>/gradients.safetensors: per policy P and tensor N, `P/N` = the gradient's norm, then up to 24 of its elements
at equal distances (i * size // count); `losses_P`: the loss before each of ten steps of torch.optim.AdamW (lr 3e-3,
betas 0.9 0.95, eps 1e-8, weight decay 0.1 only on matrices and embeddings), for the policies of LOSSES.
"""

import json
import os
import sys

import torch
from safetensors.torch import load_file, save_file

from make_golden import CASES, HERE, masks_for
from plain_models import PlainModel

ELEMENTS = 24
STEPS = 10
LOSSES = ("full", "sep")


class Trainable(PlainModel):
    """The plain decoder with leaves for parameters: what it reads is rebuilt from them for each loss."""

    def __init__(self, folder):
        with torch.no_grad():
            super().__init__(folder)
        used = {}
        for name, value in self.tensors.items():
            used[name] = value.clone().requires_grad_(True)
        self.tensors = used

    def loss(self, ids, masks):
        getattr(self, "_load_" + self.family)()
        own = [m[:-1, :-1] for m in masks]  # the last token is only a target
        return torch.nn.functional.cross_entropy(self.logits(ids[:-1], own), torch.tensor(ids[1:]))


def gradient_rows(model):
    rows = {}
    for name, tensor in model.tensors.items():
        if tensor.grad is None:
            continue  # a buffer
        flat = tensor.grad.reshape(-1)
        count = min(ELEMENTS, flat.numel())
        places = [i * flat.numel() // count for i in range(count)]
        rows[name] = torch.cat([flat.norm()[None], flat[places]])
        tensor.grad = None
    return rows


def losses_of_steps(model, ids, masks):
    used = list(model.tensors.values())
    decays = [t for t in used if t.dim() > 1]
    others = [t for t in used if t.dim() <= 1]
    optimiser = torch.optim.AdamW([{"params": decays, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  lr=3e-3, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for _ in range(STEPS):
        optimiser.zero_grad(set_to_none=True)
        loss = model.loss(ids, masks)
        losses.append(loss.item())
        loss.backward()
        optimiser.step()
    return torch.tensor(losses, dtype=torch.float32)


def make(case):
    folder = os.path.join(HERE, "models", case.name)
    with open(os.path.join(folder, "golden.json")) as f:
        policies = json.load(f)["policies"]
    ids = load_file(os.path.join(folder, "golden.safetensors"))["ids"].tolist()
    out = {}
    for name, settings in policies.items():
        model = Trainable(folder)
        masks = masks_for(settings, ids, model.windows)
        model.loss(ids, masks).backward()
        for tensor, row in gradient_rows(model).items():
            out[f"{name}/{tensor}"] = row.float().contiguous()
        if name in LOSSES:
            out[f"losses_{name}"] = losses_of_steps(Trainable(folder), ids, masks)
    save_file(out, os.path.join(folder, "gradients.safetensors"))
    print(case.name, len(out), "arrays; losses", [round(x, 4) for x in out["losses_sep"].tolist()[::3]])


if __name__ == "__main__":
    torch.set_grad_enabled(True)
    for entry in CASES:
        if len(sys.argv) < 2 or entry.name in sys.argv[1:]:
            make(entry)
