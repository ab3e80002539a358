#!/usr/bin/env python3
"""This program compared with llama.cpp on the same shapes, bits and threads, in one run on one machine, as one table.

    llama_cpp.py --cache DIR [--only decode-q8_0,prefill-q4_0,...] [--threads 1,2] [--rounds 3] [--quick] [--save F]
    llama_cpp.py --cache DIR --file X.gguf   decode and prefill of 512 of one file, which both sides read
    llama_cpp.py --list                 the measures by name
    llama_cpp.py --load F [F...]        the table of saved runs again, as one

GGUF files of the shapes with random weights are made in DIR, which must lie outside the repository, and stay there (7 GB for
all measures). Matrices have the same types on both sides: q4_0 is with the embedding and the head in q8_0, as ours is.

llama.cpp gets its best: flash attention (on, off) and its repacked weights (AMX and interleaved rows, on, off) are tried
once per row, the fastest choice is measured, named in the table, and remembered in DIR (--retune forgets it). The last
column is the share of all cores that other processes took meanwhile: rows with much of it are worth nothing. Batches of 512,
KV in f16 on both sides. Figures are medians over rounds in which each side runs once, one after the other. A decode at a
depth starts from a state that is made, not computed: the rows of a short context repeated through llama.cpp's own save and
restore (ours: `sepllm bench` fills its cache). A prompt longer than --whole is measured in pieces only by llama.cpp (batches
of 512 on such states, at five depths) and summed by Simpson's rule, as the time of a batch is linear in its depth; ours is
read whole. `--check-states` measures both shortcuts against real runs.

Needs llama-cpp-python (0.3.36 was used), built for the machine, gguf and numpy. Built by GCC 12, its AMX kernels end in a
segmentation fault, because that compiler's intrinsics hide which memory they touch: build it with
CMAKE_ARGS="-DCMAKE_CXX_FLAGS='-include $PWD/oracles/peers/gcc12_amx.h'" pip install --no-binary :all: llama-cpp-python, or
rebuild only libggml-cpu.so in this way and point LLAMA_CPP_LIB_PATH at a folder with it and the other libraries.
"""

import argparse
import ctypes
import json
import os
import re
import resource
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path = [p for p in sys.path if Path(p or ".").resolve() != HERE]  # this file has the name of the module that it needs

BATCH = 512
CONTEXT_ROOM = 512
MIN_SECONDS = 1.0
TOKENS = 32  # of one decode
CYCLE = 477  # tokens between two compressions of sep-stream's defaults: a decode over whole cycles sees the mean cache
# hidden, layers, heads, kv heads, mlp width, vocabulary; all of the llama architecture with an untied head.
SHAPES = {
    "llama-160m": (768, 12, 12, 12, 3072, 32000),
    "tinyllama-1.1b": (2048, 22, 32, 4, 5632, 32000),
    "llama-3-8b": (4096, 32, 32, 8, 14336, 128256),
}
BITS = ("bf16", "f16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k")
FULL, SEP, STREAM = "--policy full", "--policy sep --window 256", "--policy sep-stream"
# name -> shape, bits, test (ppN: a prompt of N tokens; tg@D: a decode after D), our policies.
MEASURES = {f"decode-{bits}": ("tinyllama-1.1b", bits, "tg@0", [FULL]) for bits in BITS}
MEASURES |= {f"prefill-{bits}": ("llama-160m", bits, "pp512", [FULL]) for bits in BITS}
MEASURES |= {f"prefill-1.1b-{bits}": ("tinyllama-1.1b", bits, "pp512", [FULL]) for bits in BITS}
MEASURES |= {"prefill-8k": ("llama-160m", "q8_0", "pp8192", [FULL, SEP]),
             "prefill-32k": ("llama-160m", "q8_0", "pp32768", [SEP]),
             "decode-64k": ("llama-160m", "q8_0", "tg@65536", [FULL, STREAM])}

# Of a file, whose shape and bits are its own.
FILE_MEASURES = {"decode": (None, "file", "tg@0", [FULL]), "prefill": (None, "file", "pp512", [FULL])}


# --- Checkpoints with random weights ---


class RandomRows:
    """Rows of a type, cut from one pool of normal values: which ones are multiplied does not change how long it takes. Types
    that the gguf package does not write: blocks of random bits with a small scale."""

    def __init__(self, bits):
        import gguf
        import numpy as np

        names = {"q4_k": "Q4_K", "q5_k": "Q5_K", "q6_k": "Q6_K"}
        self.type = gguf.GGMLQuantizationType[names.get(bits, bits.upper())]
        rng = np.random.default_rng(1)
        if bits in names:
            blocks = rng.integers(0, 256, (32768, gguf.GGML_QUANT_SIZES[self.type][1]), dtype=np.uint8)
            for at, scale in ({208: 2e-5} if bits == "q6_k" else {0: 1e-4, 2: 7e-4}).items():  # f16 scale, minimum
                blocks[:, at:at + 2] = np.array([scale], dtype=np.float16).view(np.uint8)
            self.pool = blocks.reshape(-1)
        else:
            values = rng.standard_normal((4096, 2048), dtype=np.float32) * 0.02
            self.pool = gguf.quants.quantize(values, self.type).view(np.uint8).reshape(-1)
        self.bytes_of = lambda n: n // gguf.GGML_QUANT_SIZES[self.type][0] * gguf.GGML_QUANT_SIZES[self.type][1]
        self.np = np

    def __call__(self, rows, columns):
        np, row_bytes = self.np, self.bytes_of(columns)
        data = np.resize(self.pool, rows * row_bytes).reshape(rows, row_bytes)
        element = {"f32": np.float32, "f16": np.float16}.get(self.type.name.lower())
        return data.view(element) if element else data


def write_gguf(path, shape, bits):
    import gguf
    import numpy as np

    hidden, layers, heads, kv_heads, mlp, vocabulary = SHAPES[shape]
    kv = hidden // heads * kv_heads
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(str(part), "llama", use_temp_file=False)
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(mlp)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("no_vocab")
    of_linears = RandomRows(bits)
    of_tables = RandomRows("q8_0") if bits == "q4_0" else of_linears  # as `sepllm --weights q4_0`

    def matrix(name, n, columns, rows=of_linears):
        writer.add_tensor(name, rows(n, columns), raw_dtype=rows.type)

    def norm(name):
        writer.add_tensor(name, np.ones(hidden, dtype=np.float32))

    matrix("token_embd.weight", vocabulary, hidden, of_tables)
    norm("output_norm.weight")
    matrix("output.weight", vocabulary, hidden, of_tables)
    for i in range(layers):
        norm(f"blk.{i}.attn_norm.weight")
        norm(f"blk.{i}.ffn_norm.weight")
        for name, n, columns in (("attn_q", hidden, hidden), ("attn_k", kv, hidden), ("attn_v", kv, hidden),
                                 ("attn_output", hidden, hidden), ("ffn_gate", mlp, hidden), ("ffn_up", mlp, hidden),
                                 ("ffn_down", hidden, mlp)):
            matrix(f"blk.{i}.{name}.weight", n, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)


# --- llama.cpp ---


class Library:
    """llama.cpp's C functions, and what it logs."""

    def __init__(self):
        import llama_cpp
        import llama_cpp.llama_cpp as api

        self.api, self.version, self.lines = api, llama_cpp.__version__, []
        self.callback = api.llama_log_callback(lambda level, text, data: self.lines.append(text.decode(errors="replace")))
        api.llama_log_set(self.callback, None)
        api.llama_backend_init()

    def features(self):
        return self.api.llama_print_system_info().decode().strip().strip("|").strip()

    def buffers(self):
        return sorted(set(re.findall(r"(\S+) model buffer size =\s+([0-9.]+ \S+)", "".join(self.lines))))


class Peer:
    """One model with one choice of weight buffers."""

    def __init__(self, library, path, threads, repack):
        self.api, self.threads = library.api, threads
        library.lines.clear()
        params = self.api.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = repack
        params.load_mode = self.api.LLAMA_LOAD_MODE_MMAP
        self.model = self.api.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            sys.exit("llama.cpp cannot load " + str(path) + "\n" + "".join(library.lines[-5:]))
        self.buffers = library.buffers()
        self.context, self.settings = None, None
        self.at = None  # the depth that the cache was brought to, and whether really
        vocabulary = self.api.llama_vocab_n_tokens(self.api.llama_model_get_vocab(self.model))
        self.tokens = (self.api.llama_token * BATCH)(*[(i * 7919 + 11) % vocabulary for i in range(BATCH)])

    def close(self):
        self.close_context()
        self.api.llama_model_free(self.model)

    def close_context(self):
        if self.context:
            self.api.llama_free(self.context)
        self.context, self.settings, self.at = None, None, None

    def open_context(self, n_tokens, flash):
        n_context = (n_tokens + CONTEXT_ROOM + 255) // 256 * 256
        if self.settings and self.settings[1] == flash and self.settings[0] >= n_context:
            return
        self.close_context()
        params = self.api.llama_context_default_params()
        params.n_ctx = n_context
        params.n_batch = params.n_ubatch = BATCH
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = self.threads
        params.flash_attn_type = 1 if flash else 0
        params.type_k = params.type_v = 1  # f16
        params.offload_kqv = False
        params.no_perf = True
        self.context = self.api.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit("llama.cpp cannot make a context")
        self.settings = (n_context, flash)

    def clear(self):
        self.at = None
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), False)

    def cut(self, depth):
        """Forgets what is beyond `depth`."""
        self.api.llama_memory_seq_rm(self.api.llama_get_memory(self.context), 0, depth, -1)

    def feed(self, n):
        """n tokens in batches; logits of each batch's last token."""
        done = 0
        while done < n:
            size = min(BATCH, n - done)
            if self.api.llama_decode(self.context, self.api.llama_batch_get_one(self.tokens, size)) != 0:
                sys.exit("llama_decode failed")
            done += size
        self.api.llama_synchronize(self.context)

    def set_depth(self, depth, real=False):
        """A cache of `depth` tokens: computed, or from the rows of a short one."""
        self.clear()
        self.feed(depth if real else min(depth, BATCH))
        if real or depth <= BATCH:
            return
        size = self.api.llama_state_seq_get_size(self.context, 0)
        state = (ctypes.c_uint8 * size)()
        if self.api.llama_state_seq_get_data(self.context, state, size, 0) != size:
            sys.exit("llama.cpp saved another size than it announced")
        longer = repeat_state(bytes(state), depth)
        self.clear()
        buffer = longer.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        if self.api.llama_state_seq_set_data(self.context, buffer, len(longer), 0) != len(longer):
            sys.exit("llama.cpp does not take the repeated state")
        if self.api.llama_memory_seq_pos_max(self.api.llama_get_memory(self.context), 0) != depth - 1:
            sys.exit("the repeated state has another length than meant")

    def time_decode(self, depth, n, real=False):
        """Tokens per second, by repeated runs of n tokens at this depth."""
        if self.at != (depth, real):
            self.set_depth(depth, real)
            self.at = (depth, real)
        self.decode(depth, min(n, 4))  # warms up
        rates, spent = [], 0.0
        while not rates or spent < MIN_SECONDS:
            seconds = self.decode(depth, n)
            rates.append(n / seconds)
            spent += seconds
        return statistics.median(rates)

    def decode(self, depth, n):
        """Seconds of n tokens after `depth`."""
        self.cut(depth)
        start = time.perf_counter()
        for i in range(n):
            one = self.api.llama_batch_get_one(ctypes.cast(ctypes.byref(self.tokens, 4 * (i % BATCH)),
                                                           ctypes.POINTER(self.api.llama_token)), 1)
            if self.api.llama_decode(self.context, one) != 0:
                sys.exit("llama_decode failed")
            self.api.llama_synchronize(self.context)
        return time.perf_counter() - start

    def time_prompt(self, n, whole):
        """Tokens per second."""
        if n > whole:
            return n / (n / BATCH * self.mean_batch_seconds(n))
        start = time.perf_counter()
        runs = 0
        while runs == 0 or time.perf_counter() - start < MIN_SECONDS:
            self.clear()
            self.feed(n)
            runs += 1
        return runs * n / (time.perf_counter() - start)

    def mean_batch_seconds(self, n):
        """Of the batches of a prompt of n tokens: Simpson's rule over batches at five depths."""
        depths = [round(i * (n - BATCH) / 4 / BATCH) * BATCH for i in range(5)]
        seconds = []
        for depth in reversed(depths):
            self.set_depth(depth) if depth > 0 else self.clear()
            start = time.perf_counter()
            self.feed(BATCH)
            seconds.append(time.perf_counter() - start)
        return sum(w * s for w, s in zip((1, 4, 2, 4, 1), seconds)) / 12


def repeat_state(state, n_cells):
    """A saved sequence of few cells as one of n_cells at positions 0, 1, ... whose rows are those of the few, repeated.

    Layout (llama.cpp's KV cache): perhaps 8 bytes; streams; cells; per cell position, number of sequences and their ids; whether values are
    transposed; layers; per layer type, row bytes and rows of keys; then the same of values, or, transposed, type, element
    bytes, rows and per row its cells. Streams of other sequences follow, without cells.
    """
    import numpy as np

    view, at, out = memoryview(state), 0, []

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, view, at)
        at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def plain(data):
        out.append((np.frombuffer(data, np.uint8), len(data)))

    def repeated(row_bytes):
        nonlocal at
        out.append((np.frombuffer(view, np.uint8, n * row_bytes, at), n_cells * row_bytes))
        at += n * row_bytes

    head = 0 if struct.unpack_from("<I", view)[0] == 1 else 8  # a magic number and a version, in some releases
    plain(bytes(take(f"{head}B"))) if head else None
    streams, n = take("II")
    if not 1 <= n < n_cells:
        sys.exit("a state of llama.cpp in a form that is not known here")
    first = at
    for i in range(n):
        position, n_ids = take("iI")
        at += 4 * n_ids
        if position != i or n_ids > 1:
            sys.exit("a state of llama.cpp in a form that is not known here")
    ids = bytes(view[first + 4:first + (at - first) // n])
    plain(struct.pack("<II", streams, n_cells))
    plain(b"".join(struct.pack("<i", i) + ids for i in range(n_cells)))
    transposed, layers = take("II")
    plain(struct.pack("<II", transposed, layers))
    for _ in range(layers):
        kind, row_bytes = take("iQ")
        plain(struct.pack("<iQ", kind, row_bytes))
        repeated(row_bytes)
    for _ in range(layers):
        if transposed:
            kind, element, rows = take("iII")
            plain(struct.pack("<iII", kind, element, rows))
            for _ in range(rows):
                repeated(element)
        else:
            kind, row_bytes = take("iQ")
            plain(struct.pack("<iQ", kind, row_bytes))
            repeated(row_bytes)
    for _ in range(streams - 1):  # those of other sequences: no cells
        if take("I") != 0:
            sys.exit("a state of llama.cpp in a form that is not known here")
        plain(struct.pack("<I", 0))
    if at != len(view):
        sys.exit("a state of llama.cpp with more in it than is known here")
    longer = np.empty(sum(size for _, size in out), np.uint8)  # gigabytes: written once
    to = 0
    for data, size in out:
        for begin in range(0, size, max(1, len(data))):
            piece = data[:size - begin]
            longer[to + begin:to + begin + len(piece)] = piece
        to += size
    return longer


# --- This program ---


def ours(args, shape, bits, threads, test, policy):
    """A row of `sepllm bench`."""
    kind, number = parse_test(test)
    model = ["--model", args.file] if args.file else ["--shape", shape, "--weights", bits]
    command = [args.sepllm, "bench", "prefill" if kind == "pp" else "decode", *model, "--threads", str(threads), "--kv", "f16",
               "-r", "1", "--json", *policy.split()]
    tokens = CYCLE if policy == STREAM else TOKENS
    command += ["-p", str(number)] if kind == "pp" else ["-d", str(number), "-n", str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)[0]


# --- Runs ---


def parse_test(test):
    match = re.fullmatch(r"(pp)(\d+)|(tg)@(\d+)", test)
    return (match[1], int(match[2])) if match[1] else (match[3], int(match[4]))


def one(args, peer, test, flash, tokens=TOKENS):
    kind, number = parse_test(test)
    if kind == "pp":
        peer.open_context(number, flash)
        return peer.time_prompt(number, args.whole)
    peer.open_context(number + tokens, flash)
    return peer.time_decode(number, tokens)


class Peers:
    """Models of one file, loaded when they are needed: with repacked weights, and as stored."""

    def __init__(self, library, path, threads):
        self.arguments, self.loaded = (library, path, threads), {}

    def __getitem__(self, repack):
        if repack not in self.loaded:
            self.loaded[repack] = Peer(*self.arguments, repack)
        return self.loaded[repack]

    def close(self):
        for peer in self.loaded.values():
            peer.close()


def best_variant(args, library, peers, key, test):
    """(repacked, flash attention) that is fastest, and what was tried: both weights with flash attention, then the better
    ones without. Figures stay in a file in the cache folder."""
    notes = Path(args.cache) / "tried.json"
    known = json.loads(notes.read_text()) if notes.exists() else {}
    figures = known.setdefault(f"{library.version} {key}", {})
    if args.retune:
        figures.clear()

    def figure(repack, flash):
        name = f"{'repacked' if repack else 'as stored'}, {'flash' if flash else 'no flash'}"
        if name not in figures:
            figures[name] = one(args, peers[repack], test, flash, TOKENS // 2)
            notes.write_text(json.dumps(known, indent=1))
            peers[repack].close_context()
        return figures[name]

    repack = figure(True, True) >= figure(False, True)
    return (repack, figure(repack, True) >= figure(repack, False)), figures


def gguf_file(args, shape, bits):
    if args.file:
        return Path(args.file)
    path = Path(args.cache) / f"{shape}-{bits}{'-q8_0' if bits == 'q4_0' else ''}.gguf"
    if not path.exists():
        print(f"making {path.name}", file=sys.stderr)
        write_gguf(path, shape, bits)
    return path


def measure(args, library, name, threads):
    shape, bits, test, policies = FILE_MEASURES[name] if args.file else MEASURES[name]
    if args.file:
        shape = Path(args.file).name
    peers = Peers(library, gguf_file(args, shape, bits), threads)
    (repack, flash), tried = best_variant(args, library, peers, f"{shape} {bits} {threads} {test}", test)
    samples, theirs = {policy: [] for policy in policies}, []
    others = OthersTime()
    for _ in range(args.rounds):
        for policy in policies:
            samples[policy].append(ours(args, shape, bits, threads, test, policy))
        theirs.append(one(args, peers[repack], test, flash))
    base = {"measure": name, "shape": shape, "bits": bits, "threads": threads, "test": test,
            "llama_cpp": statistics.median(theirs), "llama_cpp_samples": theirs, "flash_attention": flash, "repacked": repack,
            "buffers": peers[repack].buffers, "tried": tried, "hardware": hardware(), "others": others.share()}
    peers.close()
    rows = []
    for policy in policies:
        speeds = [row["avg_ts"] for row in samples[policy]]
        rows.append(dict(base, policy=policy, ours=statistics.median(speeds), ours_samples=speeds,
                         mean_keys=samples[policy][0]["mean_keys"], ratio=statistics.median(speeds) / base["llama_cpp"]))
        if "bandwidth_share_in_turns" in samples[policy][0]:
            rows[-1]["share"] = statistics.median(row["bandwidth_share_in_turns"] for row in samples[policy])
        print_row(rows[-1], sys.stderr)
    return rows


class OthersTime:
    """Which share of all cores other processes (and, as far as the system knows, other machines) took meanwhile."""

    def __init__(self):
        self.start = self.now()

    def now(self):
        own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # all but idle and waiting
        return busy - own, time.time()

    def share(self):
        others, seconds = (now - start for now, start in zip(self.now(), self.start))
        return max(0.0, others / seconds / os.cpu_count())


def hardware():
    def first(path, key):
        lines = Path(path).read_text().splitlines() if Path(path).exists() else []
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "unknown")

    return f"{first('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores, {int(first('/proc/meminfo', 'MemTotal').split()[0]) >> 20} GiB"


NAMES = ["measure", "shape", "bits", "threads", "test", "our policy", "ours, tok/s", "of read rate", "llama.cpp, tok/s", "ratio",
         "llama.cpp's best", "others' CPU"]


def print_row(r, out):
    def number(name, form):
        return f"{r[name]:{form}}" if r.get(name) is not None else "-"

    how = ("flash" if r["flash_attention"] else "no flash") + ", " + ("repacked" if r["repacked"] else "as stored")
    policy = r["policy"].replace("--policy ", "").replace("--", "")
    cells = [r["measure"], r["shape"], r["bits"], r["threads"], r["test"], policy, number("ours", ".1f"), number("share", ".2f"),
             number("llama_cpp", ".1f"), number("ratio", ".2f"), how, number("others", ".0%")]
    print("| " + " | ".join(str(c) for c in cells) + " |", file=out, flush=True)


def print_table(results):
    for line in sorted({f"{row['hardware']}. llama-cpp-python {r['version']}: {r['features']}" for r in results
                        for row in r["rows"]}):
        print(line + "\n")
    print("| " + " | ".join(NAMES) + " |\n|---|---|---|---:|---|---|---:|---:|---:|---:|---|---:|")
    for r in results:
        for row in r["rows"]:
            print_row(row, sys.stdout)


def check_states(args, library, threads):
    """Compares the two shortcuts with what they stand for."""
    peer = Peer(library, gguf_file(args, "llama-160m", "q8_0"), threads, True)
    for flash in (True, False):
        peer.open_context(8192, flash)
        made, real = [], []
        for _ in range(args.rounds):
            real.append(peer.time_decode(4096, TOKENS, True))
            made.append(peer.time_decode(4096, TOKENS, False))
        print(f"flash {flash}: tg@4096 after a real prompt {statistics.median(real):.2f}, "
              f"from a repeated state {statistics.median(made):.2f} tok/s")
        print(f"flash {flash}: pp8192 whole {peer.time_prompt(8192, 8192):.2f}, "
              f"in pieces {peer.time_prompt(8192, 0):.2f} tok/s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", help="folder for the GGUF files")
    parser.add_argument("--file", help="a GGUF file that both sides read, instead of the shapes")
    parser.add_argument("--sepllm", default=str(REPOSITORY / "build/release/bin/sepllm"))
    parser.add_argument("--only", help="measures by name, with commas between (default: all)")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, two threads")
    parser.add_argument("--whole", type=int, default=4096, help="prompts up to this length are read whole by llama.cpp")
    parser.add_argument("--retune", action="store_true", help="try llama.cpp's settings again")
    parser.add_argument("--check-states", action="store_true")
    parser.add_argument("--make-files", action="store_true", help="only make the GGUF files")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--save", help="the figures as JSON in this file too")
    parser.add_argument("--load", nargs="+", metavar="F")
    args = parser.parse_args()
    if args.list:
        for name, (shape, bits, test, policies) in MEASURES.items():
            print(f"{name:20}{shape:16}{bits:6}{test:10}{', '.join(policies)}")
        return
    if args.load:
        print_table([json.loads(Path(f).read_text()) for f in args.load])
        return
    if not args.cache or REPOSITORY in [Path(args.cache).resolve(), *Path(args.cache).resolve().parents]:
        sys.exit("--cache DIR: a folder outside the repository")
    known = FILE_MEASURES if args.file else MEASURES
    names = args.only.split(",") if args.only else list(known)
    for name in names:
        if name not in known:
            sys.exit(f"--only: {name} is none of {', '.join(known)}")
    Path(args.cache).mkdir(parents=True, exist_ok=True)
    if args.make_files:
        for shape, bits, _, _ in (MEASURES[name] for name in names):
            gguf_file(args, shape, bits)
        return
    if args.quick:
        args.rounds, args.threads = 1, "2"
    library = Library()
    print(f"llama-cpp-python {library.version}: {library.features()}", file=sys.stderr)
    thread_counts = [int(n) for n in args.threads.split(",")]
    if args.check_states:
        check_states(args, library, thread_counts[-1])
        return
    rows = [row for name in names for n in thread_counts for row in measure(args, library, name, n)]
    result = {"version": library.version, "features": library.features(), "rows": rows}
    if args.save:
        Path(args.save).write_text(json.dumps(result, indent=1))
    print_table([result])


if __name__ == "__main__":
    main()
