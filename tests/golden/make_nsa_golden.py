"""Native sparse attention (NSA) and its gradients as PyTorch's autograd computes them, in float64. The three branches, the choice of
blocks and the gates are written here from the definition (docs/METHOD.md#native-sparse-attention), with a loop over queries and explicit masks.

Writes nsa/<case>.safetensors: `settings` (int32: heads, kv heads, head_dim, tokens, block size, blocks, window), `document_starts`
(int32, where there are any), `chosen` (int32 [tokens, kv heads, blocks], ascending, -1 after the last), and in float32 `q`,
`compressed`, `selected`, `window`, `out`, `d_out`, `d_q` [tokens, heads, head_dim], `k`, `v`, `d_k`, `d_v` [tokens, kv heads, head_dim],
`gates`, `d_gates` [tokens, 3 * heads] (before the sigmoid). Inputs are float32 numbers before anything is computed from them;
results are rounded from float64 when all is done.

    python tests/golden/make_nsa_golden.py                     # writes the files
    python tests/golden/make_nsa_golden.py --compare-fla       # compares with fla-core's naive functions and writes nothing

The second needs the packages fla-core (0.6.0 was used) and einops, and no GPU: it reads only the file with the naive functions, to which
it gives stand-ins for the two functions of the package that would need Triton."""

import argparse
import importlib.util
import os
import sys
import types

import torch
from safetensors.torch import save_file

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nsa")

#       name             heads kv dim tokens block blocks window document starts
CASES = [
    ("plain",             2,   2,  8,   60,   8,    4,    12,  []),
    ("grouped",           4,   2,  8,   50,   4,    5,    10,  []),
    ("one_kv_head",       6,   1,  8,   45,   5,    4,     7,  []),
    ("three_blocks",      2,   1, 12,   40,   4,    3,     4,  []),
    ("odd",               3,   1,  5,   41,   7,    4,     9,  []),
    ("documents",         4,   2,  8,   64,   4,    4,     6,  [0, 19, 20, 47]),
    ("late_documents",    2,   1,  8,   50,   5,    4,     8,  [11, 30]),
    ("no_whole_block",    2,   1,  8,    6,   8,    3,     3,  []),
    ("window_1",          2,   2,  8,   33,   4,    4,     1,  []),
    ("block_1",           2,   1,  8,   30,   1,    6,     4,  []),
    ("all_chosen",        2,   2,  8,   30,   4,   16,    64,  []),
    ("one_token",         4,   2,  8,    1,   4,    3,     4,  []),
]


def choose(i, scores, size, blocks):
    """The blocks of the query at position i, and how far the last chosen score is from the first that is not."""
    own = i // size
    forced = sorted({0, max(own - 1, 0), own})
    others = sorted((b for b in range(1, own - 1)), key=lambda b: (-scores[b].item(), b))
    n = blocks - len(forced)
    gap = (scores[others[n - 1]] - scores[others[n]]).item() if 0 < n < len(others) else 1.0
    return sorted(forced + others[:max(n, 0)]), gap


def branches(q, k, v, scale, size, blocks, window):
    """The outputs of the three branches for one document [tokens, heads, dim], and what each kv head chose."""
    tokens, heads, dim = q.shape
    kv_heads = k.shape[1]
    group = heads // kv_heads
    whole = tokens // size
    mean = lambda x: x[:whole * size].reshape(whole, size, kv_heads, dim).mean(1)
    mean_k, mean_v = mean(k), mean(v)
    outs = ([], [], [])
    chosen, smallest = [], 1.0
    for i in range(tokens):
        rows = ([], [], [])
        chosen.append([])
        for g in range(kv_heads):
            queries = q[i, g * group:(g + 1) * group]  # [group, dim]
            complete = (i + 1) // size
            if complete > 0:
                weights = torch.softmax(scale * queries @ mean_k[:complete, g].T, -1)  # [group, blocks]
                rows[0].append(weights @ mean_v[:complete, g])
                scores = weights.detach().sum(0)
            else:
                rows[0].append(torch.zeros_like(queries))
                scores = torch.zeros(0)
            mine, gap = choose(i, scores, size, blocks)
            smallest = min(smallest, gap)
            chosen[-1].append(mine)
            keys = [j for b in mine for j in range(b * size, (b + 1) * size) if j <= i]
            near = list(range(max(0, i - window + 1), i + 1))
            for out, seen in ((rows[1], keys), (rows[2], near)):
                out.append(torch.softmax(scale * queries @ k[seen, g].T, -1) @ v[seen, g])
        for out, row in zip(outs, rows):
            out.append(torch.cat(row))
    return [torch.stack(out) for out in outs], chosen, smallest


def make(name, heads, kv_heads, dim, tokens, size, blocks, window, starts, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: (torch.rand(shape, generator=generator) * 2 - 1).double()
    q, k, v = draw(tokens, heads, dim), draw(tokens, kv_heads, dim), draw(tokens, kv_heads, dim)
    q = (q * 8).requires_grad_()  # scores that tell blocks apart; by a power of two, so that it stays a float32
    k.requires_grad_(), v.requires_grad_()
    gates = (draw(tokens, 3 * heads) * 2).requires_grad_()
    d_out = draw(tokens, heads, dim)
    scale = float(torch.tensor(dim ** -0.5))  # the float32 number

    begins = sorted({0, *starts})
    parts, chosen = ([], [], []), []
    for begin, end in zip(begins, begins[1:] + [tokens]):
        outs, mine, gap = branches(q[begin:end], k[begin:end], v[begin:end], scale, size, blocks, window)
        if gap < 1e-4:
            return False  # rounding could change the choice
        for part, out in zip(parts, outs):
            part.append(out)
        chosen += mine
    outs = [torch.cat(part) for part in parts]
    share = torch.sigmoid(gates).view(tokens, heads, 3)
    out = sum(share[:, :, b, None] * outs[b] for b in range(3))
    out.backward(d_out)

    tensors = dict(q=q, k=k, v=v, gates=gates, d_out=d_out, out=out, compressed=outs[0], selected=outs[1], window=outs[2],
                   d_q=q.grad, d_k=k.grad, d_v=v.grad, d_gates=gates.grad)
    tensors = {key: t.detach().float().contiguous() for key, t in tensors.items()}
    ints = dict(settings=[heads, kv_heads, dim, tokens, size, blocks, window],
                chosen=[[mine + [-1] * (blocks - len(mine)) for mine in row] for row in chosen])
    if starts:
        ints["document_starts"] = starts
    tensors.update({key: torch.tensor(values, dtype=torch.int32) for key, values in ints.items()})
    save_file(tensors, os.path.join(FOLDER, name + ".safetensors"))
    print(f"{name:16} seed {seed}")
    return True


def fla_naive():
    """The module fla.ops.nsa.naive, without the imports of its package."""
    package = os.path.dirname(importlib.util.find_spec("fla").origin)

    def chunk_offsets(cu_seqlens, size):
        return torch.cat([torch.zeros(1, dtype=torch.long), -(-cu_seqlens.diff() // size)]).cumsum(0)

    for module, names in (("fla.ops.utils", dict(prepare_chunk_offsets=chunk_offsets)), ("fla.ops.utils.pooling", dict(mean_pooling=None))):
        sys.modules[module] = types.ModuleType(module)
        vars(sys.modules[module]).update(names)
    spec = importlib.util.spec_from_file_location("fla_naive", os.path.join(package, "ops", "nsa", "naive.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare_with_fla(naive):
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.rand(shape, generator=generator) * 2 - 1
    number = lambda low, high: int(torch.randint(low, high + 1, (), generator=generator))
    worst, choices = 0.0, 0
    for _ in range(200):
        kv_heads, group, dim, size, blocks = number(1, 3), number(1, 4), number(1, 12), number(1, 9), number(3, 6)
        tokens = number(1, 60)
        cuts = sorted({0, tokens, *[number(1, tokens) for _ in range(number(0, 3))]})
        q, k, v = draw(tokens, kv_heads * group, dim) * 8, draw(tokens, kv_heads, dim), draw(tokens, kv_heads, dim)
        scale = dim ** -0.5
        outs, chosen = ([], []), []
        means_k, means_v = [], []
        gap = 1.0
        for begin, end in zip(cuts, cuts[1:]):
            # (fla's pooling also gives the mean of what there is of a last block; no query sees it.)
            for means, x in ((means_k, k), (means_v, v)):
                means += [x[b:min(b + size, end)].mean(0) for b in range(begin, end, size)]
            part, mine, own_gap = branches(q[begin:end].double(), k[begin:end].double(), v[begin:end].double(), scale, size, blocks, 1)
            gap = min(gap, own_gap)
            for out, rows in zip(outs, part):
                out.append(rows)
            chosen += mine
        if gap < 1e-5:
            continue
        cu = torch.tensor(cuts)
        args = dict(block_size=size, scale=scale, cu_seqlens=cu)
        one = lambda x: x[None]
        mean_k, mean_v = one(torch.stack(means_k)), one(torch.stack(means_v))
        compressed, _ = naive.naive_nsa_compression(one(q), mean_k, mean_v, **args)
        indices = naive.naive_nsa_topk(one(q), mean_k, blocks, **args)
        # Documents shorter than their number of blocks leave it with entries after its last block; they are -1.
        for i in range(tokens):
            for g in range(kv_heads):
                got = sorted(b for b in indices[0, i, g].tolist() if b >= 0)
                assert got == chosen[i][g], (i, g, got, chosen[i][g])
                choices += 1
        selected = naive.naive_nsa_selection(one(q), one(k), one(v), indices, **args)
        for got, out in ((compressed, outs[0]), (selected, outs[1])):
            worst = max(worst, (got[0].double() - torch.cat(out)).abs().max().item())
    print(f"fla-core's naive functions: {choices} equal choices, largest difference of the outputs {worst:.1e}")
    assert worst < 1e-5


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--compare-fla", action="store_true")
    if parser.parse_args().compare_fla:
        compare_with_fla(fla_naive())
    else:
        os.makedirs(FOLDER, exist_ok=True)
        for number, case in enumerate(CASES):
            seed = 300 + 20 * number
            while not make(*case, seed=seed):
                seed += 1
