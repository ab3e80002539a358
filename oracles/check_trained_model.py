#!/usr/bin/env python3
"""Trains a tiny model of every family with the program, under full attention and under sep, and loads what it exports
with transformers: AutoModelForCausalLM and AutoTokenizer, nothing told to them but the folder. Checked for each:

  weights    no tensor is missing, none unexpected, each is bit for bit that of model.safetensors
  tokenizer  AutoTokenizer gives the ids of `sepllm tokenize`
  logits     under the policy's [T, T] mask, given as a 4-D mask (local layers keep their own window): the negative
             log-likelihood of every token of a text, and of 32 tokens of the vocabulary after it, against
             `sepllm score --nll-out`, to 1e-4

    check_trained_model.py [--text F] [--steps 60] [--model DIR]

--model: checks that folder, a Llama (models/sepllm-5m), and trains nothing; both sides compute in f32.

Needs torch, transformers, safetensors (see tests/golden/README.md). Exit code 1 where something differs.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

from program import TEXTS, layer_masks, run, run_json, separators_of, visible

torch.set_grad_enabled(False)
torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

VOCABULARY = 320
LENGTH = 96  # tokens scored; as many as a sample has
TOLERANCE = 1e-4
FAMILIES = {
    "gpt_neox": "GPTNeoXForCausalLM",
    "llama": "LlamaForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "falcon": "FalconForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
}
POLICIES = {"full": "{policy: full}", "sep": "{policy: sep, init: 3, window: 8}"}
LAYERS = {"gemma3": 6, "smollm3": 4}  # so that one is global, and one does not rotate; the others: 3
WITHOUT_GROUPS = ("gpt_neox", "gpt2")  # the others have two key heads for four query heads


def train(folder, family, policy, steps):
    save = folder / f"{family}-{policy}"
    settings = folder / "run.yaml"
    more = "n_kv_heads: 2\n"
    settings.write_text(
        f"family: {family}\nn_layers: {LAYERS.get(family, 3)}\nhidden_size: 64\nn_heads: 4\n{'' if family in WITHOUT_GROUPS else more}tokenizer: {folder}/bpe\n"
        f"data: {folder}/text\nvalid_share: 0.05\nseq_length: {LENGTH}\nglobal_batch_size: 8\nmicro_batch_size: 4\n"
        f"train_steps: {steps}\nlr: 3e-3\nmin_lr: 3e-4\npolicy: {POLICIES[policy]}\nsave: {save}\neval_samples: 16\n")
    run("train", "--config", settings)
    return save / "model"


def our_nll(folder, model, ids):
    """[T - 1] losses: of each id from the second on."""
    (folder / "ids").write_text(" ".join(map(str, ids)))
    run("score", "--model", model, "--weights", "f32", "--ids", folder / "ids", "--nll-out", folder / "nll")
    return torch.tensor([float(x) for x in (folder / "nll").read_text().split()])


def differing_weights(model, folder):
    theirs = model.state_dict()
    head = model.get_output_embeddings().weight  # whatever this version of transformers calls it
    stored = load_file(folder / "model.safetensors")
    return [name for name, tensor in stored.items() if not torch.equal(theirs.get(name, head), tensor.float())]


def check(folder, model_folder, family, policy, text, length=LENGTH):
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        model_folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    model.eval()
    assert type(model).__name__ == FAMILIES[family], type(model).__name__
    wrong = [f"{key}: {sorted(names)[:3]}" for key, names in loading.items() if names]
    wrong += [f"weights of {name} differ" for name in differing_weights(model, model_folder)]

    (folder / "line").write_text(text)
    ids = run_json("tokenize", "--model", model_folder, "--file", folder / "line")["ids"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    if tokenizer(text)["input_ids"] != ids:
        wrong.append("AutoTokenizer gives other ids")

    ids = ids[:length]
    settings = model.config.to_dict()["sepllm"]
    assert settings["policy"] == policy, settings
    separators = separators_of(model_folder)
    masks = layer_masks(model.config, ids, settings, separators)
    logits = model(input_ids=torch.tensor([ids]), attention_mask=masks, use_cache=False).logits[0]
    theirs = -torch.log_softmax(logits.double(), -1)
    worst = (our_nll(folder, model_folder, ids) - theirs[torch.arange(length - 1), ids[1:]]).abs().max().item()
    for token in range(0, model.config.vocab_size, model.config.vocab_size // 32):
        ours = our_nll(folder, model_folder, ids[:-1] + [token])[-1]
        worst = max(worst, abs(ours.item() - theirs[length - 2, token].item()))
    if worst > TOLERANCE:
        wrong.append(f"logits differ by {worst:.2e}")
    share = visible(ids, settings, separators).sum().item() / (length * (length + 1) / 2)
    print(f"{FAMILIES[family]:<20} {policy:<5} {100 * share:5.1f} % visible, loss "
          f"{theirs[torch.arange(length - 1), ids[1:]].mean():.3f}, largest difference {worst:.1e}"
          + "".join(f"\n  WRONG: {w}" for w in wrong), flush=True)
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=TEXTS / "tinyshakespeare/input.txt")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--model", type=Path)
    parser.add_argument("family", nargs="*", default=list(FAMILIES))
    options = parser.parse_args()
    text = options.text.read_text()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.model:
            sys.exit(0 if check(folder, options.model, "llama", "sep", text[:4000], 800) else 1)
        run("prepare", "--train-tokenizer", "bpe", "--vocab-size", VOCABULARY, "--out", folder / "bpe", options.text)
        run("prepare", "--tokenizer", folder / "bpe", "--out", folder / "text", "--split-on", r"\n\n", options.text)
        good = [check(folder, train(folder, family, policy, options.steps), family, policy, text[:1000])
                for family in options.family for policy in POLICIES]
    print(f"{sum(good)} of {len(good)} as transformers has them")
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
