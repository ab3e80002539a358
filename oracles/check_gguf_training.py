#!/usr/bin/env python3
"""Trains ten steps from a GGUF file and from the folder that transformers de-quantises from it: every figure of every step and
the trained weights must be the same.

    check_gguf_training.py MODEL.gguf [--folder DIR] [--text FILE] [--seq-length 64] [--batch 2]

--folder: that folder, which is made if it is empty. A short length and a batch of 1 suffice for a large vocabulary. Exit code 1 if anything differs. Needs: torch, transformers, gguf.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file

from compare_gguf_model import dequantised
from program import TEXTS, run

TIMES = ("seconds", "elapsed", "gemm_share")


def train(model, tokenizer, work, name, a):
    settings = work / f"{name}.yaml"
    settings.write_text(
        f"init_from: {model}\ntokenizer: {tokenizer}\ndata: {work}/data\nvalid_share: 0.05\nseq_length: {a.seq_length}\n"
        f"global_batch_size: {a.batch}\ntrain_steps: 10\nlr: 1e-4\nmin_lr: 1e-5\npolicy: {{policy: sep, init: 3, window: 16}}\nsave: {work}/{name}\n"
        "eval_samples: 2\nthreads: 1\n")
    run("train", "--config", settings)
    lines = (work / name / "metrics.jsonl").read_text().splitlines()
    steps = [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]
    return steps, load_file(work / name / "model/model.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--text", type=Path, default=TEXTS / "pg19/test/10146.txt")
    parser.add_argument("--seq-length", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = a.folder or work / "folder"
        dequantised(a.model.resolve(), folder)
        (work / "text").write_text(a.text.read_text()[:60000])
        run("prepare", "--tokenizer", a.model, "--out", work / "data", "--split-on", r"\n\n\n", work / "text")
        (from_file, weights), (from_folder, others) = (
            train(model, a.model.resolve(), work, kind, a) for kind, model in (("file", a.model.resolve()), ("folder", folder)))
        for step in from_file:
            print(f"step {step['step']}: " + ", ".join(f"{k} {step[k]}" for k in ("loss", "valid_loss") if step.get(k) is not None))
        same = weights.keys() == others.keys() and all(weights[k].equal(others[k]) for k in weights)
        print(f"steps are {'the same' if from_file == from_folder else 'DIFFERENT'}, "
              f"{len(weights)} trained weights are {'the same' if same else 'DIFFERENT'}")
    sys.exit(not (same and from_file == from_folder))


if __name__ == "__main__":
    main()
