#!/usr/bin/env python3
"""llama.cpp decoding several sequences in one batch by its library: the figure that tests/clients/load.py --uniform is compared with.

    llama_cpp_batch.py MODEL.gguf [--sequences 8] [--prompt 80] [--tokens 128] [--threads 2] [--rounds 4]
    llama_cpp_batch.py MODEL.gguf --quantize Q8_0.gguf     writes the model again in q8_0, which both sides can read

Every sequence has a prompt of its own; all of them are fed in one batch, then each step decodes one token of every sequence and takes
the most likely one. Prints new tokens a second over the whole run, and over the decoding only, with and without flash attention. Needs
llama-cpp-python.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path = [p for p in sys.path if Path(p or ".").resolve() != HERE]

import llama_cpp.llama_cpp as api


def load(path):
    params = api.llama_model_default_params()
    params.n_gpu_layers = 0
    model = api.llama_model_load_from_file(str(path).encode(), params)
    return model or sys.exit(f"llama.cpp cannot load {path}")


def make_context(model, args, flash):
    params = api.llama_context_default_params()
    per_sequence = (args.prompt + args.tokens + 255) // 256 * 256
    params.n_ctx = per_sequence * args.sequences
    params.n_batch = params.n_ubatch = 512
    params.n_seq_max = args.sequences
    params.n_threads = params.n_threads_batch = args.threads
    params.flash_attn_type = 1 if flash else 0
    params.offload_kqv = False
    params.no_perf = True
    return api.llama_init_from_model(model, params) or sys.exit("llama.cpp cannot make a context")


def fill(batch, rows):
    """rows: (token, position, sequence, whether its logits are wanted)"""
    batch.n_tokens = len(rows)
    for i, (token, position, sequence, wanted) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, wanted
        batch.seq_id[i][0] = sequence


def decode(context, batch):
    if api.llama_decode(context, batch) != 0:
        sys.exit("llama_decode failed")


def one_round(context, batch, sampler, args, vocabulary):
    """(seconds of all, seconds of the decoding)"""
    api.llama_memory_clear(api.llama_get_memory(context), False)
    started = time.perf_counter()
    nexts = []
    rows = [((s * 7919 + i * 104729 + 11) % vocabulary, i, s, i + 1 == args.prompt) for s in range(args.sequences) for i in range(args.prompt)]
    for at in range(0, len(rows), 512):
        piece = rows[at : at + 512]
        fill(batch, piece)
        decode(context, batch)
        nexts += [api.llama_sampler_sample(sampler, context, i) for i, row in enumerate(piece) if row[3]]
    fed = time.perf_counter()
    for step in range(args.tokens - 1):
        fill(batch, [(nexts[s], args.prompt + step, s, True) for s in range(args.sequences)])
        decode(context, batch)
        nexts = [api.llama_sampler_sample(sampler, context, s) for s in range(args.sequences)]
    end = time.perf_counter()
    return end - started, end - fed


def measure(model, args, flash):
    context = make_context(model, args, flash)
    batch = api.llama_batch_init(512, 0, 1)
    sampler = api.llama_sampler_init_greedy()
    vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
    one_round(context, batch, sampler, args, vocabulary)
    rounds = [one_round(context, batch, sampler, args, vocabulary) for _ in range(args.rounds)]
    whole, decoding = (statistics.median(part) for part in zip(*rounds))
    api.llama_batch_free(batch)
    api.llama_free(context)
    new = args.sequences * args.tokens
    print(f"flash attention {'on' if flash else 'off'}: {new / whole:.1f} new tokens/s with prompts of {args.prompt}, "
          f"{(new - args.sequences) / decoding:.1f} in decoding")


def quantize(source, target):
    params = api.llama_model_quantize_default_params()
    params.ftype = 7  # q8_0
    params.allow_requantize = True
    params.nthread = 1
    if api.llama_model_quantize(str(source).encode(), str(target).encode(), params) != 0:
        sys.exit("llama.cpp cannot quantize the model")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path)
    options.add_argument("--quantize", type=Path)
    options.add_argument("--sequences", type=int, default=8)
    options.add_argument("--prompt", type=int, default=80)
    options.add_argument("--tokens", type=int, default=128)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=4)
    args = options.parse_args()
    silent = api.llama_log_callback(lambda level, text, data: None)
    api.llama_log_set(silent, None)
    api.llama_backend_init()
    if args.quantize:
        quantize(args.model, args.quantize)
        return
    model = load(args.model)
    for flash in (True, False):
        measure(model, args, flash)


if __name__ == "__main__":
    main()
