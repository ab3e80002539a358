"""Attention by a pattern and its gradients as PyTorch's autograd computes them, in float64 through the explicit
T x T mask. The mask is written here from the sentence that defines it (docs/METHOD.md#visibility: a key is visible if it is not later than
the query, in its document, and initial, a separator or within the window), as a loop over pairs.

Writes attention/<case>.safetensors: `settings` (int32: heads, kv heads, head_dim, tokens, initial, window or -1, ALiBi),
`extra` and `document_starts` (int32, where there are any), and in float32 `q`, `d_out`, `out`, `d_q` [tokens, heads, head_dim],
`k`, `v`, `d_k`, `d_v` [tokens, kv heads, head_dim], `log_sum_exp` [tokens, heads], `slopes` [heads]. Inputs are float32
numbers before anything is computed from them; results are rounded from float64 when all is done."""

import os

import torch
from safetensors.torch import save_file

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "attention")

#       name            heads kv  dim tokens settings
CASES = [
    ("full",             2,   2,   8,  25, dict()),
    ("sep",              2,   2,   8,  48, dict(initial=4, window=12, separators=0.165)),
    ("sink",             1,   1,  16,  50, dict(initial=4, window=9)),
    ("fixed",            2,   2,   8,  37, dict(initial=2, window=7, every=8)),
    ("documents",        2,   1,   8,  50, dict(initial=3, window=6, separators=0.2, starts=[0, 17, 18, 45])),
    ("late_documents",   1,   1,   8,  48, dict(initial=2, window=5, separators=0.1, starts=[11, 30])),
    ("gqa",              6,   2,   8,  30, dict(initial=4, window=9, separators=0.165)),
    ("mqa",              5,   1,   8,  27, dict(initial=4, window=8, separators=0.165)),
    ("alibi",            3,   3,   8,  30, dict(initial=4, window=9, separators=0.165, alibi=True)),
    ("alibi_full",       2,   1,   8,  40, dict(alibi=True)),
    ("window_1",         2,   2,   8,  29, dict(initial=1, window=1, separators=0.3)),
    ("one_token",        4,   2,  24,   1, dict(initial=4, window=64)),
    ("all_separators",   1,   1,  20,  31, dict(window=3, separators=1.0)),
    ("long",             1,   1,   8, 150, dict(initial=4, window=32, separators=0.165)),
]


def document_start(i, starts):
    return max([s for s in starts if s <= i], default=0)


def visible(i, j, initial, window, extra, starts):
    start = document_start(i, starts)
    if j > i or j < start:
        return False
    return j - start < initial or j in extra or window < 0 or i - j < window


def make(name, heads, kv_heads, dim, tokens, settings, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: (torch.rand(shape, generator=generator) * 2 - 1).double()
    q, k, v = draw(tokens, heads, dim), draw(tokens, kv_heads, dim), draw(tokens, kv_heads, dim)
    q = (q * 4).requires_grad_()  # scores that tell keys apart; by a power of two, so that it stays a float32
    k.requires_grad_(), v.requires_grad_()
    d_out = draw(tokens, heads, dim)
    initial, window = settings.get("initial", 0), settings.get("window", -1)
    starts = settings.get("starts", [])
    if "every" in settings:
        extra = list(range(0, tokens, settings["every"]))
    else:
        chosen = torch.rand(tokens, generator=generator) < settings.get("separators", 0.0)
        extra = [j for j in range(tokens) if chosen[j]]
    mask = torch.tensor([[visible(i, j, initial, window, set(extra), starts) for j in range(tokens)]
                         for i in range(tokens)])
    slopes = torch.zeros(heads)
    if settings.get("alibi"):
        slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)  # float32, as the kernel gets them
    distance = (torch.arange(tokens)[None, :] - torch.arange(tokens)[:, None]).double()

    group = heads // kv_heads
    scale = float(torch.tensor(dim ** -0.5))  # the float32 number
    scores = torch.einsum("ihd,jhd->hij", q, k.repeat_interleave(group, 1)) * scale
    scores = (scores + slopes.double()[:, None, None] * distance).masked_fill(~mask, float("-inf"))
    out = torch.einsum("hij,jhd->ihd", torch.softmax(scores, -1), v.repeat_interleave(group, 1))
    out.backward(d_out)

    tensors = dict(q=q, k=k, v=v, d_out=d_out, out=out, d_q=q.grad, d_k=k.grad, d_v=v.grad,
                   log_sum_exp=torch.logsumexp(scores, -1).T, slopes=slopes)
    tensors = {key: t.detach().float().contiguous() for key, t in tensors.items()}
    tensors["settings"] = torch.tensor([heads, kv_heads, dim, tokens, initial, window, int("alibi" in settings)],
                                       dtype=torch.int32)
    for key, values in (("extra", extra), ("document_starts", starts)):
        if values:
            tensors[key] = torch.tensor(values, dtype=torch.int32)
    save_file(tensors, os.path.join(FOLDER, name + ".safetensors"))
    print(f"{name:16} {int(mask.sum())} of {tokens * (tokens + 1) // 2} pairs visible")


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    for number, case in enumerate(CASES):
        make(*case, seed=100 + number)
