"""Attention of queries that choose among blocks (MoBA, SepMoBA) and its gradients, as PyTorch's autograd computes them, in
float64 through the explicit T x T mask of every query head. Blocks, means, choice and mask are written here from the sentences
that define them (docs/METHOD.md#blocks), as loops over tokens, heads and blocks.

Writes block_attention/<case>.safetensors: `settings` (int32: heads, kv heads, head_dim, tokens, ALiBi, blocks of a query, block
size, largest block or 0), `separators` and `document_starts` (int32 positions, where there are any), `starts` (int32: where the
blocks begin), `chosen` (int32 [tokens, heads, blocks of a query, or all there are - 1], counted from the document's first block, then -1) and in
float32 `q`, `d_out`, `out`, `d_q` [tokens, heads, head_dim], `k`, `v`, `d_k`, `d_v` [tokens, kv heads, head_dim], `log_sum_exp`
[tokens, heads], `slopes` [heads]. A case whose choice hangs on a difference below 1e-4 is refused."""

import os

import torch
from safetensors.torch import save_file

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "block_attention")
SMALLEST_GAP = 1e-4

#       name            heads kv  dim tokens blocks size settings
CASES = [
    ("moba",             2,   2,   8,  48,  3,    8, dict()),
    ("moba_odd",         3,   1,   8,  53,  3,    7, dict()),
    ("moba_gqa",         6,   2,  16,  61,  4,    5, dict()),
    ("moba_documents",   2,   1,   8,  70,  3,    6, dict(starts=[0, 17, 18, 45])),
    ("moba_late",        2,   2,   8,  50,  2,    4, dict(starts=[11, 30])),
    ("moba_alibi",       3,   3,   8,  40,  3,    6, dict(alibi=True)),
    ("moba_own_only",    2,   1,   8,  30,  1,    7, dict()),
    ("moba_all",         2,   1,   8,  30, 40,    4, dict()),
    ("moba_single",      2,   2,   8,  24,  5,    1, dict()),
    ("moba_long_block",  2,   1,   8,  20,  3,   64, dict()),
    ("sep_moba",         2,   1,   8,  80,  4,    6, dict(separators=0.165, most=14)),
    ("sep_moba_rare",    4,   2,  16,  77,  3,    5, dict(separators=0.03, most=9)),
    ("sep_moba_docs",    4,   2,   8,  90,  3,    4, dict(separators=0.25, most=12, starts=[0, 31, 33, 70])),
    ("sep_moba_all",     1,   1,  20,  41,  3,    3, dict(separators=1.0, most=3)),
    ("one_token",        4,   2,  24,   1,  3,    8, dict()),
]


def block_starts(tokens, size, most, separators, document_starts):
    """Where blocks begin: with the first token, with every document, and after the last token of a block."""
    starts, length = [], 0
    for j in range(tokens):
        if j == 0 or j in document_starts or ends:
            starts.append(j)
            length = 0
        length += 1
        ends = length == size if most == 0 else length == most or (length >= size and j in separators)
    return starts


def make(name, heads, kv_heads, dim, tokens, blocks, size, settings, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: (torch.rand(shape, generator=generator) * 2 - 1).double()
    q, k, v = draw(tokens, heads, dim), draw(tokens, kv_heads, dim), draw(tokens, kv_heads, dim)
    q = (q * 4).requires_grad_()  # scores that tell keys apart; by a power of two, so that it stays a float32
    k.requires_grad_(), v.requires_grad_()
    d_out = draw(tokens, heads, dim)
    most = settings.get("most", 0)
    documents = settings.get("starts", [])
    chosen_tokens = torch.rand(tokens, generator=generator) < settings.get("separators", 0.0)
    separators = [j for j in range(tokens) if chosen_tokens[j]]
    starts = block_starts(tokens, size, most, separators, documents)
    block_of = [max(b for b, start in enumerate(starts) if start <= j) for j in range(tokens)]
    document_of = [max([0] + [s for s in documents if s <= j]) for j in range(tokens)]
    group = heads // kv_heads

    mask = torch.zeros(heads, tokens, tokens, dtype=torch.bool)
    blocks_there = min(blocks, len(starts))
    chosen = torch.full((tokens, heads, blocks_there - 1), -1, dtype=torch.int32)
    smallest_gap = float("inf")
    for i in range(tokens):
        first = block_of[document_of[i]]
        past = range(first, block_of[i])  # the blocks of the same document before the query's own: all are complete
        for h in range(heads):
            scores = {b: (q[i, h] @ k[starts[b]:starts[b + 1], h // group].mean(0)).item() for b in past}
            best = sorted(past, key=lambda b: -scores[b])
            if len(best) > blocks - 1 > 0:
                smallest_gap = min(smallest_gap, scores[best[blocks - 2]] - scores[best[blocks - 1]])
            own = sorted(best[:blocks - 1])
            chosen[i, h, :len(own)] = torch.tensor([b - first for b in own], dtype=torch.int32)
            for j in range(i + 1):
                mask[h, i, j] = block_of[j] == block_of[i] or block_of[j] in own
    assert smallest_gap > SMALLEST_GAP, (name, smallest_gap)

    slopes = torch.zeros(heads)
    if settings.get("alibi"):
        slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)  # float32, as the kernel gets them
    distance = (torch.arange(tokens)[None, :] - torch.arange(tokens)[:, None]).double()
    scale = float(torch.tensor(dim ** -0.5))  # the float32 number
    scores = torch.einsum("ihd,jhd->hij", q, k.repeat_interleave(group, 1)) * scale
    scores = (scores + slopes.double()[:, None, None] * distance).masked_fill(~mask, float("-inf"))
    out = torch.einsum("hij,jhd->ihd", torch.softmax(scores, -1), v.repeat_interleave(group, 1))
    out.backward(d_out)

    tensors = dict(q=q, k=k, v=v, d_out=d_out, out=out, d_q=q.grad, d_k=k.grad, d_v=v.grad,
                   log_sum_exp=torch.logsumexp(scores, -1).T, slopes=slopes)
    tensors = {key: t.detach().float().contiguous() for key, t in tensors.items()}
    numbers = [heads, kv_heads, dim, tokens, int("alibi" in settings), blocks, size, most]
    for key, values in (("settings", numbers), ("separators", separators), ("document_starts", documents), ("starts", starts)):
        if values:
            tensors[key] = torch.tensor(values, dtype=torch.int32)
    if blocks_there > 1:
        tensors["chosen"] = chosen
    save_file(tensors, os.path.join(FOLDER, name + ".safetensors"))
    share = int(mask.sum()) / (heads * tokens * (tokens + 1) // 2)
    print(f"{name:16} {len(starts)} blocks, {100 * share:.0f} % of the pairs visible, smallest gap {smallest_gap:.2g}")


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    for number, case in enumerate(CASES):
        make(*case, seed=300 + number)
