"""Which tokens may be drawn, and with which probabilities, by the generation_config.json of a model: transformers' own
reading of the file and its own list of logits processors, over small made-up logits.

Writes sampling.json: `inputs`, each with `logits` and `context` (the token ids so far), and `cases`: `file` (the
generation_config.json), `input` (its number), and `chances`, [id, probability] of the tokens that remain. A case that states sampling settings without do_sample is computed
with do_sample (the program reads it so; transformers itself would take the most likely token).
Cases with a token so close to a limit that rounding could decide, or that cut between equally likely tokens, are left
out (`is_clear`)."""

import json
import math
import os
import tempfile
import warnings

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sampling.json")
VOCAB = 97

FILES = [
    {"do_sample": True},
    {"do_sample": True, "temperature": 0.6, "top_p": 0.9},
    {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95},
    {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1},
    {"do_sample": True, "top_k": 64, "top_p": 0.95},
    {"do_sample": True, "temperature": 1.5, "top_k": 0, "min_p": 0.1},
    {"do_sample": True, "temperature": 0.3, "top_k": 0, "repetition_penalty": 1.3},
    {"do_sample": True, "temperature": 1.9, "top_k": 9, "top_p": 0.6, "min_p": 0.25, "repetition_penalty": 0.8},
    {"do_sample": True, "top_k": 3, "top_p": 1.0},
    {"do_sample": True, "top_k": 1},
    {"do_sample": True, "top_k": 0, "top_p": 0.0},
    {"do_sample": True, "top_k": 0, "min_p": 1.0},
    {"do_sample": True, "temperature": None, "top_k": None, "top_p": None, "min_p": None, "repetition_penalty": None},
    {"do_sample": False},
    {"do_sample": False, "repetition_penalty": 1.4},
    {"do_sample": False, "temperature": 0.7, "top_p": 0.8},
    {"temperature": 0.9, "top_p": 0.6},
    {"top_k": 7, "eos_token_id": [1, 2]},
    {"min_p": 0.2},
]


def cases_of_logits():
    generator = torch.Generator().manual_seed(5)
    for scale, n_context in ((1.0, 30), (2.5, 200), (5.0, 3)):
        logits = (torch.randn(VOCAB, generator=generator) * scale * 1024).round() / 1024
        context = torch.randint(0, VOCAB, (n_context,), generator=generator)
        # The most likely tokens occur early in the context, so that a penalty over the last 64 only would differ.
        context[:2] = torch.topk(logits, 2).indices
        yield logits, context
    # Tokens in equally likely pairs: where k is odd, one of a pair is the k-th.
    yield -(torch.arange(VOCAB) // 2).float() / 4, torch.tensor([60, 61])


def chances(model, file, logits, context):
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "generation_config.json"), "w", encoding="utf-8") as f:
            json.dump(file, f)
        model.generation_config = GenerationConfig.from_pretrained(folder)
    more = {} if "do_sample" in file else {"do_sample": True}
    config, _ = model._prepare_generation_config(None, **more)
    model._prepare_special_tokens(config, device="cpu")
    processors = model._get_logits_processor(config, input_ids_seq_length=len(context), device="cpu")
    scores = processors(context[None], logits[None].clone())[0]
    if not config.do_sample:
        return config, [[int(scores.argmax()), 1.0]]
    probabilities = torch.softmax(scores.double(), -1)
    return config, [[k, float(p)] for k, p in enumerate(probabilities) if p > 0]


def is_clear(config, logits, context):
    """Each step again in double precision: does no token lie within 1e-5 of a limit?"""
    scores = logits.double().clone()
    for k in set(context.tolist()):
        penalty = config.repetition_penalty or 1.0
        scores[k] = scores[k] / penalty if scores[k] > 0 else scores[k] * penalty
    if not config.do_sample:
        best = scores.topk(2).values
        return best[0] - best[1] > 1e-5
    scores /= config.temperature or 1.0
    if config.top_k:
        limit = scores.topk(min(config.top_k, VOCAB)).values[-1]
        near = scores[(scores - limit).abs() < 1e-5]
        if not (near == near[0]).all():
            return False
        scores[scores < limit] = -math.inf
    p = torch.softmax(scores, -1).sort(descending=True).values
    if config.top_p is not None and config.top_p < 1:
        sums = p.cumsum(-1)
        cut = max(1, int((sums < config.top_p).sum()) + 1)
        if (sums - config.top_p).abs().min() < 1e-5 or p[cut - 1] == p[cut]:
            return False
    return config.min_p is None or config.min_p == 1 or (p / p[0] - config.min_p).abs().min() > 1e-5


def main():
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                         num_attention_heads=1, bos_token_id=1, eos_token_id=2))
    inputs = list(cases_of_logits())
    cases = []
    for file in FILES:
        for number, (logits, context) in enumerate(inputs):
            config, kept = chances(model, file, logits, context)
            if not is_clear(config, logits, context):
                print("left out:", file, "with input", number)
                continue
            cases.append({"file": file, "input": number, "chances": kept})
    lines = {
        "inputs": [{"logits": logits.tolist(), "context": context.tolist()} for logits, context in inputs],
        "cases": cases,
    }
    with open(OUT, "w", encoding="utf-8") as f:
        rows = [f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in value) + "\n]" for key, value in lines.items()]
        f.write("{" + ",\n".join(rows) + "}\n")


main()
