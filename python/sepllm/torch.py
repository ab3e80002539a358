"""Sparse attention for PyTorch, with gradients: sep_attention(), a registered custom op on the kernels of the engine.

It needs PyTorch, which this package does not install. Nothing is linked with it: tensors are passed by their addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from . import _core
from ._errors import InvalidArgument

__all__ = ["Pattern", "sep_attention"]


@dataclass(frozen=True)
class Pattern:
    """Which keys a query sees: key j is visible to query i if j <= i, both are in the same document, and (j is one of the
    document's first `initial` tokens, or j is in `kept`, or i - j < window).

    lengths: int64 [batch]; the tokens of each sequence, and the rest is padding, whose output and gradients are 0.
    kept: for each sequence its ascending positions; document_starts: the same for where documents begin (nothing: one
    document from 0). window 0: every earlier key of the document is visible.
    """

    lengths: torch.Tensor
    initial: int
    window: int
    kept: torch.Tensor
    kept_offsets: torch.Tensor
    document_starts: torch.Tensor
    document_offsets: torch.Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], *, initial: int = 0, window: int = 0, kept: Sequence[Sequence[int]] = (),
           document_starts: Sequence[Sequence[int]] = ()) -> Pattern:
        """From lists: for each sequence of the batch its length, kept positions and document starts."""

        def flat(lists: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
            each = list(lists) or [()] * len(lengths)
            if len(each) != len(lengths):
                raise InvalidArgument("there is not one list for each sequence")
            offsets = [0]
            for one in each:
                offsets.append(offsets[-1] + len(one))
            values = [int(x) for one in each for x in one]
            return torch.tensor(values, dtype=torch.int64), torch.tensor(offsets, dtype=torch.int64)

        return cls(torch.tensor(list(lengths), dtype=torch.int64), int(initial), int(window), *flat(kept), *flat(document_starts))

    @classmethod
    def from_mask_rule(cls, ids: torch.Tensor, separators: Iterable[int], init: int, window: int,
                       lengths: Sequence[int] | None = None, document_starts: Sequence[Sequence[int]] = ()) -> Pattern:
        """The rule of SepLLM for token ids [batch, tokens]: initial tokens, separators, and a window of `window` tokens with the
        query's own. lengths: for padding on the right."""
        if ids.dim() != 2:
            raise InvalidArgument(f"ids are [batch, tokens], and have {ids.dim()} dimensions")
        table = torch.tensor(sorted(set(int(s) for s in separators)), dtype=ids.dtype)
        lengths = [ids.shape[1]] * ids.shape[0] if lengths is None else list(lengths)
        is_separator = torch.isin(ids.cpu(), table)
        kept = [is_separator[b, :n].nonzero().flatten().tolist() for b, n in enumerate(lengths)]
        return cls.of(lengths, initial=init, window=window, kept=kept, document_starts=document_starts)

    def visible(self, tokens: int) -> torch.Tensor:
        """The same as a mask, bool [batch, tokens, tokens] (query, key): the definition, for tests and small cases."""
        mask = torch.zeros(len(self.lengths), tokens, tokens, dtype=torch.bool)
        i, j = torch.arange(tokens)[:, None], torch.arange(tokens)[None, :]
        for b, n in enumerate(self.lengths.tolist()):
            starts = self.document_starts[self.document_offsets[b]:self.document_offsets[b + 1]].tolist()
            first = torch.zeros(tokens, dtype=torch.int64)
            for start in starts:
                first[start:] = start
            seen = j - first[None, :] < self.initial
            seen = seen | torch.isin(j, self.kept[self.kept_offsets[b]:self.kept_offsets[b + 1]])
            if self.window > 0:
                seen = seen | (i - j < self.window)
            else:
                seen = torch.ones_like(seen)
            mask[b] = seen & (j <= i) & (first[:, None] == first[None, :]) & (i < n)
        return mask


def _patterns(lengths, initial, window, kept, kept_offsets, starts, starts_offsets):
    def parts(flat, offsets):
        edges = offsets.tolist()
        return [flat[a:b].numpy() for a, b in zip(edges, edges[1:])]

    return [(n, initial, window, k, s)
            for n, k, s in zip(lengths.tolist(), parts(kept, kept_offsets), parts(starts, starts_offsets))]


_runtimes: dict[int, _core.Runtime] = {}


def _runtime() -> _core.Runtime:
    """Of as many threads as PyTorch uses."""
    threads = torch.get_num_threads()
    if threads not in _runtimes:
        _runtimes[threads] = _core.Runtime(threads)
    return _runtimes[threads]


def _f32(x: torch.Tensor) -> torch.Tensor:
    """f32 with a contiguous last dimension: `x` itself where it is that."""
    x = x.detach().to(torch.float32)
    return x if x.shape[-1] == 1 or x.stride(-1) == 1 and min(x.stride()) >= 0 else x.contiguous()


def _operands(q, k, v):
    q, k, v = _f32(q), _f32(k), _f32(v)
    if k.stride()[1:] != v.stride()[1:]:
        k, v = k.contiguous(), v.contiguous()
    return q, k, v


@torch.library.custom_op("sepllm::sep_attention", mutates_args=(), device_types="cpu")
def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: torch.Tensor, kept: torch.Tensor,
            kept_offsets: torch.Tensor, starts: torch.Tensor, starts_offsets: torch.Tensor, initial: int, window: int,
            scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    out = torch.empty(q.shape, dtype=torch.float32)
    log_sum_exp = torch.empty((*q.shape[:3], 1), dtype=torch.float32)
    _core.attention_forward(_runtime(), *_operands(q, k, v), out, log_sum_exp, scale,
                            _patterns(lengths, initial, window, kept, kept_offsets, starts, starts_offsets))
    return out.to(q.dtype), log_sum_exp


@_attend.register_fake
def _(q, k, v, lengths, kept, kept_offsets, starts, starts_offsets, initial, window, scale):
    return torch.empty(q.shape, dtype=q.dtype), torch.empty((*q.shape[:3], 1), dtype=torch.float32)


@torch.library.custom_op("sepllm::sep_attention_backward", mutates_args=(), device_types="cpu")
def _attend_backward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, log_sum_exp: torch.Tensor,
                     d_out: torch.Tensor, lengths: torch.Tensor, kept: torch.Tensor, kept_offsets: torch.Tensor,
                     starts: torch.Tensor, starts_offsets: torch.Tensor, initial: int, window: int,
                     scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    gradients = tuple(torch.empty(x.shape, dtype=torch.float32) for x in (q, k, v))
    # The kernel's own result: that of bf16 operands was rounded, so it is contiguous f32 again here.
    _core.attention_backward(_runtime(), *_operands(q, k, v), _f32(out), _f32(log_sum_exp), scale,
                             _patterns(lengths, initial, window, kept, kept_offsets, starts, starts_offsets),
                             (_f32(d_out), *gradients))
    return tuple(g.to(x.dtype) for g, x in zip(gradients, (q, k, v)))


@_attend_backward.register_fake
def _(q, k, v, out, log_sum_exp, d_out, lengths, kept, kept_offsets, starts, starts_offsets, initial, window, scale):
    return tuple(torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v))


def _setup_context(ctx, inputs, output):
    q, k, v, *pattern, initial, window, scale = inputs
    out, log_sum_exp = output
    ctx.mark_non_differentiable(log_sum_exp)
    ctx.save_for_backward(q, k, v, out, log_sum_exp, *pattern)
    ctx.rule = (initial, window, scale)


def _backward(ctx, d_out, _d_log_sum_exp):
    q, k, v, out, log_sum_exp, *pattern = ctx.saved_tensors
    return (*_attend_backward(q, k, v, out, log_sum_exp, d_out, *pattern, *ctx.rule), *[None] * 8)


_attend.register_autograd(_backward, setup_context=_setup_context)


def sep_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pattern: Pattern, *,
                  scale: float | None = None) -> torch.Tensor:
    """softmax(scale * q k^T) v over the keys that the pattern lets a query see, with gradients of q, k and v.

    q: [batch, heads, tokens, dim]; k, v: [batch, kv_heads, tokens, dim], where kv_heads divides heads; float32 or bfloat16 on
    the CPU, any strides (a last dimension that is not contiguous is copied). Returns [batch, heads, tokens, dim] of q's type.
    Work and memory are proportional to the visible pairs; sums are in float32. scale: None for 1 / sqrt(dim).
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.dim() != 4:
            raise InvalidArgument(f"{name} is [batch, heads, tokens, dim], and has {x.dim()} dimensions")
        if x.dtype not in (torch.float32, torch.bfloat16):
            raise InvalidArgument(f"{name} is float32 or bfloat16, not {x.dtype}")
        if x.device.type != "cpu":
            raise InvalidArgument(f"{name} is on {x.device}, and not on the CPU")
    if k.shape != v.shape or q.shape[0] != k.shape[0] or q.shape[2:] != k.shape[2:]:
        raise InvalidArgument(f"shapes that do not fit: q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}")
    if len(pattern.lengths) != q.shape[0]:
        raise InvalidArgument(f"a pattern for {len(pattern.lengths)} sequences, and a batch of {q.shape[0]}")
    return _attend(q, k, v, pattern.lengths, pattern.kept, pattern.kept_offsets, pattern.document_starts,
                   pattern.document_offsets, pattern.initial, pattern.window,
                   q.shape[-1] ** -0.5 if scale is None else float(scale))[0]
