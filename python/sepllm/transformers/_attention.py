"""The attention implementation "sepllm", registered with transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from .._errors import Unsupported
from ._enable import enabled_of


def sepllm_attention(module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                     attention_mask: torch.Tensor | None, dropout: float = 0.0, scaling: float | None = None,
                     is_causal: bool | None = None, position_bias: torch.Tensor | None = None,
                     **kwargs: Any) -> tuple[torch.Tensor, None]:
    """Attention over the keys that the model's policy lets a query see (enable()). query: [batch, heads, tokens, dim]; key, value:
    [batch, kv heads, kept + tokens, dim]. Returns ([batch, tokens, heads, dim], None)."""
    if is_causal is False or getattr(module, "is_causal", True) is False:
        raise Unsupported("attention that is not causal with attn_implementation='sepllm'")
    if dropout:
        raise Unsupported("dropout of attention weights with attn_implementation='sepllm': set it to 0 in the model's config")
    for name, given in (("a position bias", position_bias), ("softcap", kwargs.get("softcap")), ("sinks", kwargs.get("s_aux"))):
        if given is not None:
            raise Unsupported(f"{name} with attn_implementation='sepllm'")
    out = enabled_of(module).attend(module.layer_idx, query, key, value, scaling)
    return out.transpose(1, 2).contiguous(), None


def sepllm_mask(*_: Any, **__: Any) -> None:
    """No mask is made: the hook of enable() reads padding from the same mask that this would be made of."""


AttentionInterface.register("sepllm", sepllm_attention)
AttentionMaskInterface.register("sepllm", sepllm_mask)
