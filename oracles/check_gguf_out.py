#!/usr/bin/env python3
"""Writes small models of every family as GGUF with `sepllm export` and runs them in llama.cpp: logits under full attention must be those
of transformers on the folder.

    check_gguf_out.py [--tokenizer FOLDER] [--types f32,q8_0]

The tokenizer (models/sepllm-5m) gives the models their vocabulary. The gguf package must read each file. What is printed is the largest difference
as a share of the logits' standard deviation. With f32 weights it must be at most 1e-4, or 5e-3 in families with GELU, which llama.cpp takes
from a table in f16. Exit code 1 if a model differs by more. Needs: torch, transformers, gguf, llama-cpp-python.
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

from program import REPOSITORY, run

torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
T = transformers


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


def peer_logits(path, ids):
    model = llama_cpp.Llama(str(path), n_ctx=len(ids), n_threads=1, n_gpu_layers=0, logits_all=True, flash_attn=False,
                            type_k=0, type_v=0, verbose=False)  # keys and values in f32
    model.eval(ids)
    return torch.from_numpy(np.array(model.scores[: len(ids)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, default=REPOSITORY / "models/sepllm-5m")
    parser.add_argument("--types", default="f32,f16")
    a = parser.parse_args()
    vocab = T.AutoConfig.from_pretrained(a.tokenizer).vocab_size
    ids = np.random.default_rng(1).integers(0, vocab, 48).tolist()
    bad = False
    for name, config in configs(vocab):
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / "model"
            model = make(config, a.tokenizer, folder)
            theirs = model(torch.tensor([ids]), use_cache=False).logits[0]
            row = f"{name}: logits std {theirs.std():.2f}"
            for kind in a.types.split(","):
                path = Path(work) / f"{kind}.gguf"
                run("export", "--model", folder, "--format", "gguf", "--type", kind, "--out", path)
                gguf.GGUFReader(path)
                difference = ((peer_logits(path, ids) - theirs).abs().max() / theirs.std()).item()
                row += f"; {kind} {difference:.1e}"
                if kind == "f32":
                    bad |= not difference < (5e-3 if name.startswith(("gemma3", "gpt", "falcon")) else 1e-4)
            print(row, flush=True)
    sys.exit(bad)


if __name__ == "__main__":
    main()
