#!/usr/bin/env python3
"""llama.cpp decoding several sequences in one batch by its library: the figure that tests/clients/load.py --uniform is compared with.

    llama_cpp_batch.py MODEL.gguf [--sequences 8] [--prompt 80] [--tokens 128] [--threads 2] [--rounds 4]
    llama_cpp_batch.py MODEL.gguf --depth 8192 [--sequences 8] [--tokens 16]     `sepllm bench batch -b 8 -d 8192 -n 16` has the same test
    llama_cpp_batch.py MODEL.gguf --quantize Q8_0.gguf     writes the model again in q8_0, which both sides can read

Every sequence has a prompt of its own; all of them are fed in one batch, then each step decodes one token of every sequence and takes
the most likely one. Prints new tokens a second over the whole run, and over the decoding only, with and without flash attention. With
--depth, every sequence begins with a cache of so many tokens, made of the rows of a short one (repeat_state in llama_cpp.py), and
only decoding is measured: each round decodes --tokens tokens of every sequence from there. Needs llama-cpp-python.
"""

import argparse
import ctypes
import importlib.util
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path = [p for p in sys.path if Path(p or ".").resolve() != HERE]

import llama_cpp.llama_cpp as api


def peer_functions():
    # By its path: its name is also that of the package.
    spec = importlib.util.spec_from_file_location("llama_cpp_peer", HERE / "llama_cpp.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(path):
    params = api.llama_model_default_params()
    params.n_gpu_layers = 0
    model = api.llama_model_load_from_file(str(path).encode(), params)
    return model or sys.exit(f"llama.cpp cannot load {path}")


def make_context(model, args, flash):
    params = api.llama_context_default_params()
    per_sequence = ((args.depth or args.prompt) + args.tokens + 255) // 256 * 256
    params.n_ctx = per_sequence * args.sequences
    params.n_batch = params.n_ubatch = 512
    params.n_seq_max = args.sequences
    params.n_threads = params.n_threads_batch = args.threads
    params.type_k = params.type_v = 1  # f16
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


def set_depth(context, batch, args):
    """Gives every sequence a cache of args.depth tokens."""
    memory, first = api.llama_get_memory(context), 256
    fill(batch, [(i * 104729 % 30000 + 11, i, 0, False) for i in range(first)])
    decode(context, batch)
    size = api.llama_state_seq_get_size(context, 0)
    state = (ctypes.c_uint8 * size)()
    if api.llama_state_seq_get_data(context, state, size, 0) != size:
        sys.exit("llama.cpp saved another size than it announced")
    longer = peer_functions().repeat_state(bytes(state), args.depth)
    api.llama_memory_clear(memory, False)
    for s in range(args.sequences):
        if api.llama_state_seq_set_data(context, longer.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)), len(longer), s) != len(longer):
            sys.exit("llama.cpp does not take the repeated state")


def measure_depth(model, args, flash):
    context = make_context(model, args, flash)
    batch = api.llama_batch_init(512, 0, 1)
    sampler = api.llama_sampler_init_greedy()
    memory = api.llama_get_memory(context)
    set_depth(context, batch, args)
    rates = []
    for _ in range(args.rounds + 1):  # the first one warms up
        nexts = [11 + s for s in range(args.sequences)]
        started = time.perf_counter()
        for step in range(args.tokens):
            fill(batch, [(nexts[s], args.depth + step, s, True) for s in range(args.sequences)])
            decode(context, batch)
            nexts = [api.llama_sampler_sample(sampler, context, s) for s in range(args.sequences)]
        rates.append(args.sequences * args.tokens / (time.perf_counter() - started))
        for s in range(args.sequences):
            api.llama_memory_seq_rm(memory, s, args.depth, -1)
    api.llama_batch_free(batch)
    api.llama_free(context)
    print(f"flash attention {'on' if flash else 'off'}: {statistics.median(rates[1:]):.2f} new tokens/s of {args.sequences} "
          f"sequences at depth {args.depth}")


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
    options.add_argument("--depth", type=int, default=0)
    options.add_argument("--flash", choices=("on", "off", "both"), default="both")
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
    for flash in {"on": (True,), "off": (False,), "both": (True, False)}[args.flash]:
        (measure_depth if args.depth else measure)(model, args, flash)


if __name__ == "__main__":
    main()
