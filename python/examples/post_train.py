"""Post-trains a full-attention model, so that it works with initial tokens, separators and a window only:

    python post_train.py MODEL TEXT OUT [--window 64] [--init 4] [--tokens 512] [--steps 100] [--rate 5e-5]

MODEL: a folder or name that transformers can load, of a model that uses its attention interface; TEXT: a text file; OUT: the folder for
the result, whose config.json then names the policy for `sepllm` too. Needs torch, transformers and accelerate.
"""

import argparse
import json
import pathlib

import torch
import transformers

import sepllm.transformers as st
from sepllm import Policy


def samples(tokenizer, text, tokens):
    """Pieces of the text of one length; the model learns to predict each next token."""
    ids = torch.tensor(tokenizer.encode(text))
    pieces = ids[:len(ids) // tokens * tokens].reshape(-1, tokens)
    return [{"input_ids": piece, "labels": piece} for piece in pieces]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "text", "out"):
        parser.add_argument(name)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--init", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=5e-5)
    options = parser.parse_args()

    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, attn_implementation="sepllm")
    policy = Policy.sep(window=options.window, init=options.init)
    data = samples(tokenizer, pathlib.Path(options.text).read_text(encoding="utf-8"), options.tokens)
    with st.enable(model, policy, separators=tokenizer):
        trainer = transformers.Trainer(
            model=model, train_dataset=data,
            args=transformers.TrainingArguments(
                output_dir=options.out, max_steps=options.steps, learning_rate=options.rate, per_device_train_batch_size=1,
                logging_steps=1, save_strategy="no", report_to=[], use_cpu=True))
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.3f} at last")
    model.config.sepllm = policy.settings
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    print(json.dumps(policy.settings))


if __name__ == "__main__":
    main()
