#!/usr/bin/env python3
"""Compares the program with PyTorch on a model that was trained under policy nsa: the negative log-likelihood of every token of
a text. The decoder is the plain one of tests/golden/plain_models.py, in float64, with the branches of make_nsa_golden.py and the gates of
the folder (docs/METHOD.md#native-sparse-attention).

    check_nsa_model.py MODEL_FOLDER --text FILE [--tokens 300] [--chunk 64]

MODEL_FOLDER: of a Llama-like family, without layers that follow another policy. Exit code 1 if a token differs by more than 2e-3.
Needs torch and safetensors (see tests/golden/README.md).
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from program import REPOSITORY, run, run_json

sys.path.insert(0, str(REPOSITORY / "tests/golden"))
from make_nsa_golden import branches  # noqa: E402
from plain_models import PlainModel, read_tensors  # noqa: E402

TOLERANCE = 2e-3


class NsaModel(PlainModel):
    def __init__(self, folder):
        super().__init__(folder)
        tensors = read_tensors(folder)
        self.gates = [tensors[f"model.layers.{i}.self_attn.g_proj.weight"].double() for i in range(len(self.layers))]
        self.policy = self.config["sepllm"]

    def nll(self, ids):
        """Of ids[1:]; also the smallest distance between a score that was chosen and one that was not."""
        total, smallest = len(ids), 1.0
        x = self.embedding[torch.tensor(ids)]
        for index, layer in enumerate(self.layers):

            def attend(y):
                nonlocal smallest
                q, k, v = (self._heads_of(layer, kind, y) for kind in "qkv")
                q, k = (self.rotaries[index].turn(z, range(total), total) for z in (q, k))
                outs, _, gap = branches(q, k, v, self.head_dim ** -0.5, self.policy["block-size"], self.policy["blocks"],
                                        self.policy["window"])
                smallest = min(smallest, gap)
                share = torch.sigmoid(y @ self.gates[index].T).view(total, self.heads, 3)
                return sum(share[:, :, b, None] * outs[b] for b in range(3)).reshape(total, -1)

            x = self._run_layer(layer, x, attend)
        logits = self._normalise(self.final_norm, x) @ self.head.T
        nll = -torch.log_softmax(logits[:-1], -1)[torch.arange(total - 1), torch.tensor(ids[1:])]
        return nll, smallest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--text", required=True)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--chunk", type=int, default=64)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        ids_file, out = (Path(scratch) / name for name in ("ids", "nll"))
        ids = run_json("tokenize", "--model", args.model, "--file", args.text)["ids"][: args.tokens]
        ids_file.write_text(" ".join(map(str, ids)))
        run("score", "--model", args.model, "--ids", ids_file, "--nll-out", out, "--prefill-chunk", args.chunk)
        ours = torch.tensor([float(line) for line in out.read_text().split()], dtype=torch.float64)
    with torch.no_grad():
        expected, gap = NsaModel(args.model).nll(ids)
    worst = (ours - expected).abs().max().item()
    print(f"{len(ours)} tokens, mean {ours.mean():.5f}, largest difference {worst:.1e} (smallest distance of a choice {gap:.1e})")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
