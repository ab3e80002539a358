#!/usr/bin/env python3
"""Compares `sepllm score` on a GGUF file with transformers on the numbers that the gguf package de-quantises from it.

    compare_gguf_model.py MODEL.gguf [--text FILE] [--tokens 2000] [--folder DIR] [--only full,sep,sink,sep-stream]

Negative log-likelihoods of the first tokens of a text with --exact, from the weights as they are stored (native) and with --weights
f32, under full attention, sep (4 initial tokens, window 64) and sink by transformers with the masks of their definition, and under
sep-stream by the plain reference of tests/golden/streaming_reference.py (slow). --folder keeps the de-quantised model. Exit code
1 where a token differs by more than 1e-3, in either form. Needs: torch, transformers, gguf.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
import transformers

from program import REPOSITORY, TEXTS, layer_masks, run, run_json, separators_of

sys.path.insert(0, str(REPOSITORY / "tests/golden"))
torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

POLICIES = {
    "full": {"policy": "full"},
    "sep": {"policy": "sep", "init": 4, "window": 64},
    "sink": {"policy": "sink", "init": 4, "window": 64},
    "sep-stream": {"policy": "sep-stream", "init": 4, "seps": 64, "window": 256, "capacity": 512, "positions": "cache"},
}
TOLERANCE = 1e-3


def dequantised(model, folder):
    if not (folder / "model.safetensors").exists():
        loaded = transformers.AutoModelForCausalLM.from_pretrained(model.parent, gguf_file=model.name, dtype=torch.float32)
        loaded.hf_quantizer = None  # the weights are floats now
        loaded.is_quantized = False
        loaded.config.__dict__.pop("quantization_config", None)
        loaded.save_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def losses(logits, ids):
    """[T - 1] in double, some rows at a time: a large vocabulary takes gigabytes."""
    pieces = zip(logits[:-1].split(100), torch.tensor(ids[1:]).split(100))
    return torch.cat([torch.nn.functional.cross_entropy(rows.double(), next, reduction="none") for rows, next in pieces])


def by_mask(model, ids, settings, separators):
    mask = layer_masks(model.config, ids, settings, separators)
    return losses(model(torch.tensor([ids]), attention_mask=mask, use_cache=False).logits[0], ids)


def by_stream(folder, ids, settings, separators):
    import streaming_reference
    from plain_models import PlainModel

    streaming_reference.SEPARATORS = set(separators)
    nll = lambda t, logits: -torch.log_softmax(logits, -1)[ids[t + 1]] if t + 1 < len(ids) else logits.new_zeros(())
    return streaming_reference.run_model(PlainModel(str(folder)), settings, ids, nll)[:-1]


def ours(model, ids_file, settings, weights):
    options = [part for key, value in settings.items() for part in (f"--{key}", value)]
    with tempfile.NamedTemporaryFile() as out:
        run("score", "--model", model, "--ids", ids_file, "--exact", "--weights", weights, "--nll-out", out.name, *options)
        return torch.tensor([float(line) for line in Path(out.name).read_text().split()], dtype=torch.float64)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, default=TEXTS / "pg19/test/10146.txt")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", default=",".join(POLICIES))
    a = parser.parse_args()
    ids = run_json("tokenize", "--model", a.model, "--file", a.text)["ids"][: a.tokens]
    separators = separators_of(a.model)
    bad = False
    with tempfile.TemporaryDirectory() as work:
        folder = a.folder or Path(work) / "model"
        hf = dequantised(a.model.resolve(), folder)
        ids_file = Path(work) / "ids"
        ids_file.write_text(" ".join(map(str, ids)))
        for name in a.only.split(","):
            settings = POLICIES[name]
            stream = name.endswith("stream")
            theirs = by_stream(folder, ids, settings, separators) if stream else by_mask(hf, ids, settings, separators)
            row = f"{name}: {len(ids)} tokens, mean {theirs.mean():.6f}"
            for weights in ("f32", "native"):
                nll = ours(a.model, ids_file, settings, weights)
                assert len(nll) == len(theirs), (len(nll), len(theirs))
                difference = (nll - theirs).abs().max().item()
                row += f"; --weights {weights}: largest difference {difference:.2e}, of the means {(nll.mean() - theirs.mean()).abs():.2e}"
                bad |= not difference <= TOLERANCE
            print(row, flush=True)
    sys.exit(bad)


if __name__ == "__main__":
    main()
