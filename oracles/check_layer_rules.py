#!/usr/bin/env python3
"""Compares the program with transformers on a model whose layers have different rules: the negative log-likelihood of
every token of a text, under masks that program.py writes out from docs/METHOD.md (layer-policy, max-segment, the
special tokens as separators).

    check_layer_rules.py MODEL_FOLDER --text FILE [--tokens 400]

MODEL_FOLDER: a Llama-like folder as Hugging Face has it (its decoder layers take `attention_mask`). Exit code 1 if a
token differs by more than 2e-3. Needs torch and transformers (see tests/golden/README.md).
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
import transformers

from program import additive, layer_settings, run, run_json, visible

transformers.logging.set_verbosity_error()
TOLERANCE = 2e-3
POLICIES = [
    {"policy": "sep", "init": 4, "window": 32},
    {"policy": "sep", "init": 3, "window": 16, "max-segment": 9, "separators": "text+special"},
    {"policy": "sink", "init": 4, "window": 24, "layer-policy": "0..2=full,3=sep:16,5=fixed:12/7,-1=sink:60"},
    {"policy": "full", "init": 2, "interval": 5, "layer-policy": "4..7=fixed:20,8=sep:8,-2..-1=sink:9",
     "max-segment": 21},
    {"policy": "sep", "init": 4, "window": 40, "separators": "special"},
]


def masked_nll(model, ids, masks):
    """Of ids[1:], in float64 from float32 logits."""
    hooks = []
    for layer, mask in zip(model.model.layers, masks):
        def replace(module, args, kwargs, mask=mask):
            kwargs["attention_mask"] = additive(mask)
            return args, kwargs
        hooks.append(layer.register_forward_pre_hook(replace, with_kwargs=True))
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, :-1].double()
    for hook in hooks:
        hook.remove()
    return -torch.log_softmax(logits, -1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--text", required=True)
    parser.add_argument("--tokens", type=int, default=400)
    args = parser.parse_args()
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32,
                                                              attn_implementation="eager")
    n_layers = model.config.num_hidden_layers
    worst = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        text, ids_file, out = (Path(scratch) / name for name in ("text", "ids", "nll"))
        text.write_text(Path(args.text).read_text()[: 8 * args.tokens])
        # (A turn of a chat, so that special tokens occur.)
        tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
        begin, end = tokenizer.all_special_ids[:2]
        ids = tokenizer(text.read_text(), add_special_tokens=False)["input_ids"][: args.tokens]
        ids[50], ids[51], ids[120] = end, begin, end
        ids_file.write_text(" ".join(map(str, ids)))
        for policy in POLICIES:
            flags = [part for key, value in policy.items() for part in (f"--{key}", value)]
            separators = run_json("inspect", "--model", args.model, *flags)["separators"]["ids"]
            run("score", "--model", args.model, "--ids", ids_file, "--nll-out", out, *flags)
            own = torch.tensor([float(line) for line in out.read_text().split()], dtype=torch.float64)
            masks = [visible(ids, layer_settings(policy, layer, n_layers), separators) for layer in range(n_layers)]
            theirs = masked_nll(model, ids, masks)
            difference = (own - theirs).abs().max().item()
            worst = max(worst, difference)
            print(f"{difference:.2e}  mean NLL {own.mean().item():.4f}  {policy}")
    print(f"largest difference {worst:.2e}, allowed {TOLERANCE}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
