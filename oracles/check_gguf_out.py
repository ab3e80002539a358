#!/usr/bin/env python3
"""Writes small models of every family as GGUF, and back as folders, and runs the files in llama.cpp: logits under full attention must be
those of transformers on what the file holds.

    check_gguf_out.py [--tokenizer FOLDER] [--types f32,f16,bf16,q8_0,q4_0] [--model FOLDER]

The tokenizer (models/sepllm-5m) gives the models their vocabulary. `sepllm export` writes f32, `sepllm quantize` the other types; the
gguf package reads each file, and `sepllm export` makes a folder of it. The folder's weights must be the model's, rounded to the type: bit for
bit with floats (not Gemma's norms, to which the format adds 1); with blocks, each matrix must be what the gguf package de-quantises from the file. Then llama.cpp's logits of the file are
compared with transformers' of the folder, as a share of their standard deviation. With f32 weights the largest difference may be 1e-4, or 5e-3
in families with GELU, which llama.cpp takes from a table in f16. With other weights llama.cpp also rounds activations, to f16, bf16 or 8 bits; the root of the mean
square may be what ROUNDED says (a matrix in the wrong place or order gives more than 1). --model: that model with a text, in place of the small ones. Exit code 1 where something
differs by more. Needs: torch, transformers, gguf, llama-cpp-python.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import torch
import transformers

from program import REPOSITORY, run, run_json

torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
T = transformers
FLOATS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
ROUNDED = {"f16": 0.02, "bf16": 0.1, "q8_0": 0.1, "q4_0": 0.1}


def configs(vocab):
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    small = dict(vocab_size=vocab, hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2,
                 max_position_embeddings=256, bos_token_id=0, eos_token_id=0, pad_token_id=None)
    few = dict(small, num_hidden_layers=3, rope_parameters=rope)
    llama3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 64}
    yield "llama", T.LlamaConfig(**few)
    yield "llama, rope_freqs", T.LlamaConfig(**dict(few, rope_parameters=llama3))
    yield "mistral", T.MistralConfig(**few, sliding_window=None)
    yield "qwen2", T.Qwen2Config(**few)
    yield "qwen3", T.Qwen3Config(**few, head_dim=32)
    yield "olmo2", T.Olmo2Config(**few)
    yield "smollm3", T.SmolLM3Config(**dict(few, num_hidden_layers=5))
    yield "gemma3", T.Gemma3TextConfig(**dict(small, num_hidden_layers=7), head_dim=16, query_pre_attn_scalar=16, sliding_window=24,
                                       rope_parameters={"full_attention": dict(rope, rope_theta=1e6), "sliding_attention": rope})
    yield "phi3", T.Phi3Config(**dict(few, sliding_window=None))
    yield "gpt_neox", T.GPTNeoXConfig(vocab_size=vocab, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
                                      max_position_embeddings=256, bos_token_id=0, eos_token_id=0)
    yield "gpt2", T.GPT2Config(vocab_size=vocab, n_embd=64, n_layer=3, n_head=4, n_positions=256, bos_token_id=0, eos_token_id=0)
    falcon = dict(vocab_size=vocab, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=256,
                  bos_token_id=0, eos_token_id=0, rope_parameters=rope)
    yield "falcon 7b", T.FalconConfig(**falcon, multi_query=True, new_decoder_architecture=False, bias=False)
    yield "falcon 40b", T.FalconConfig(**falcon, num_kv_heads=2, new_decoder_architecture=True, bias=False)


def make(config, tokenizer, folder):
    torch.manual_seed(3)
    model = T.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for name, p in model.named_parameters():
        gemma = config.model_type.startswith("gemma")
        mean = 1.0 if p.dim() == 1 and name.endswith("weight") and not gemma else 0.0
        p.copy_(mean + torch.randn_like(p) * (0.15 if p.dim() == 2 else 0.1))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)
    return model


def back_as_folder(path, kind, original, folder):
    """transformers' model of the folder that the program makes of a GGUF file, and what is wrong with its weights."""
    run("export", "--model", path, "--out", folder)
    model = T.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ours, wrong = model.state_dict(), []
    if kind in FLOATS:
        for name, weight in original.state_dict().items():
            rounded = weight.to(FLOATS[kind]).float() if weight.dim() == 2 and "wpe" not in name else weight
            plus_one = original.config.model_type.startswith("gemma") and weight.dim() == 1  # as GGUF stores it: rounded
            if not torch.allclose(ours[name], rounded, rtol=0, atol=1e-6 if plus_one else 0):
                wrong.append(name)
    else:  # rows may lie in another order, and gpt2's matrices are transposed: in each the same values occur
        blocks = [t for t in gguf.GGUFReader(path).tensors if t.tensor_type.name not in ("F32", "F16", "BF16")]
        values = lambda x: (np.sort(x, axis=None) + np.float32(0)).tobytes()  # -0 as 0
        there = {values(gguf.quants.dequantize(np.array(t.data), t.tensor_type)) for t in blocks}
        here = {values(weight.numpy()) for weight in ours.values()}
        if not there or there - here:
            wrong.append(f"{len(there - here)} of {len(there)} matrices of blocks")
    return model, wrong


def peer_logits(path, ids):
    model = llama_cpp.Llama(str(path), n_ctx=len(ids), n_threads=1, n_gpu_layers=0, logits_all=True, flash_attn=False,
                            type_k=0, type_v=0, verbose=False)  # keys and values in f32
    model.eval(ids)
    return torch.from_numpy(np.array(model.scores[: len(ids)]))


def check(name, model, folder, ids, kinds, work):
    """True if every type of file is right. Prints a line."""
    row, good = name, True
    for kind in kinds:
        path = work / f"{kind}.gguf"
        command = ("export", "--format", "gguf") if kind == "f32" else ("quantize",)
        run(*command, "--model", folder, "--type", kind, "--out", path)
        same, wrong = back_as_folder(path, kind, model, work / kind)
        theirs = same(torch.tensor([ids]), use_cache=False).logits[0]
        differences = (peer_logits(path, ids) - theirs) / theirs.std()
        difference = (differences.square().mean().sqrt() if kind in ROUNDED else differences.abs().max()).item()
        row += f"; {kind} {difference:.1e}" + (f" WRONG: {', '.join(wrong[:3])}" if wrong else "")
        exact = 5e-3 if name.startswith(("gemma3", "gpt", "falcon")) else 1e-4
        good &= not wrong and difference < ROUNDED.get(kind, exact)
    print(row, flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, default=REPOSITORY / "models/sepllm-5m")
    parser.add_argument("--types", default="f32,f16,bf16,q8_0,q4_0")
    parser.add_argument("--model", type=Path)
    a = parser.parse_args()
    kinds = a.types.split(",")
    if a.model:
        model = T.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32, attn_implementation="eager").eval()
        ids = run_json("tokenize", "--model", a.model, "--file", REPOSITORY / "apps/alice.txt")["ids"][:48]
        with tempfile.TemporaryDirectory() as work:
            sys.exit(not check(a.model.name, model, a.model, ids, kinds, Path(work)))
    vocab = T.AutoConfig.from_pretrained(a.tokenizer).vocab_size
    ids = np.random.default_rng(1).integers(0, vocab, 48).tolist()
    good = True
    for name, config in configs(vocab):
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / "model"
            good &= check(name, make(config, a.tokenizer, folder), folder, ids, kinds, Path(work))
    sys.exit(not good)


if __name__ == "__main__":
    main()
