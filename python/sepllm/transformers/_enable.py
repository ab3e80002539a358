"""What knows token ids: a forward pre-hook on a model."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterable
from typing import Any

import torch

from .._errors import InvalidArgument, InvalidState, Unsupported
from .._policy import Policy
from ..torch import sep_attention
from ._cache import SepCache
from ._pass import Pass
from ._rules import Rule, rules_of

# Of each module of a model on which enable() was called.
_enabled: weakref.WeakKeyDictionary[torch.nn.Module, Enabled] = weakref.WeakKeyDictionary()


def enabled_of(module: torch.nn.Module) -> Enabled:
    """Error (InvalidState) if enable() was not called on the model that this module belongs to."""
    found = _enabled.get(module)
    if found is None:
        raise InvalidState("the attention 'sepllm' needs token ids: call sepllm.transformers.enable(model, policy) first")
    return found


_MARKS = ".,?!;:…。，、？！；：．،؛؟۔।॥"
_BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
_CLOSERS = "\"')]}’”»」』）】》"


def separator_ids(tokenizer: Any) -> list[int]:
    """The ids of a tokenizer of transformers that are separators by the text rule (docs/METHOD.md#separators): tokens of nothing but
    blanks, and tokens that end in a mark, where blanks and then closing quotes and brackets behind it do not count."""
    special = set(tokenizer.all_special_ids)
    out = []
    for i in range(len(tokenizer)):
        text = tokenizer.decode([i], clean_up_tokenization_spaces=False) if i not in special else ""
        if text == "" or "\ufffd" in text:
            continue
        rest = text.rstrip(_BLANKS)
        if rest == "" or rest.rstrip(_CLOSERS)[-1:] in tuple(_MARKS):
            out.append(i)
    return out


class Enabled:
    """What enable() returns: the policy in force in a model. disable() ends it."""

    def __init__(self, model: Any, policy: Policy, separators: Iterable[int]) -> None:
        self.settings = policy.resolved()
        self.config = model.config.get_text_config(decoder=True)
        self.rules = rules_of(self.settings, self.config)
        rule = self.settings.get("separators", "")
        separators = list(separators) or ([int(i) for i in rule[4:].split(",")] if rule.startswith("ids:") else [])
        self.separators = torch.tensor(sorted({int(i) for i in separators}), dtype=torch.int64)
        if len(self.separators) == 0 and any(getattr(r, "separators", 0) for r in self.rules):
            raise InvalidArgument("the policy has separators: give their ids, or a tokenizer, as `separators`")
        decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
        self._signature = inspect.signature(decoder.forward)
        self._modules = list(decoder.modules())
        for module in self._modules:
            if module in _enabled:
                raise InvalidState("a policy is enabled in this model already: disable() it first")
        for module in (model, *self._modules):
            _enabled[module] = self
        self._model = weakref.ref(model)
        self._hook = decoder.register_forward_pre_hook(self._before, with_kwargs=True)
        self.current: Pass | SepCache | None = None

    def disable(self) -> None:
        """Removes the hook."""
        self._hook.remove()
        for module in [m for m, e in _enabled.items() if e is self]:
            del _enabled[module]

    def __enter__(self) -> Enabled:
        return self

    def __exit__(self, *_: object) -> None:
        self.disable()

    def _before(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        bound = self._signature.bind(*args, **kwargs).arguments
        given = {**{k: v for k, v in bound.items() if k != "kwargs"}, **bound.get("kwargs", {})}
        ids, mask, positions = given.get("input_ids"), given.get("attention_mask"), given.get("position_ids")
        cache = given.get("cache", given.get("past_key_values"))
        if ids is None:
            raise Unsupported("a model that is given inputs_embeds: the policy needs input_ids")
        if mask is not None and (isinstance(mask, dict) or mask.dim() != 2):
            raise Unsupported("an attention mask that is not [batch, tokens]: the policy makes the mask")
        if isinstance(cache, SepCache):
            if cache.enabled is not self:
                raise InvalidState("the SepCache belongs to another model or policy")
            own_positions = cache.begin(ids, mask)
            self.current = cache
            if own_positions is not None:
                given["position_ids"] = own_positions
        else:
            if cache is not None and cache.get_seq_length() > 0:
                raise Unsupported("a cache that is not a SepCache holds keys: pass cache=sepllm.transformers.SepCache(model)")
            starts = _documents(positions, ids) if mask is None and cache is None else [[]] * ids.shape[0]
            self.current = Pass(torch.isin(ids.cpu(), self.separators), mask, starts)
        if self.config._attn_implementation != "sepllm":
            given["attention_mask"] = self._explicit(next(module.parameters()).dtype, ids.device)
        return (), given

    def _explicit(self, dtype: torch.dtype, device: torch.device) -> Any:
        """The mask as models take it that compute attention themselves: one, or one for each type of layer."""
        def mask(rule: Rule) -> torch.Tensor:
            seen = self.current.visible(rule) if isinstance(self.current, SepCache) else _dense(self.current, rule)
            return torch.where(seen[:, None], 0.0, torch.finfo(dtype).min).to(device, dtype)

        types = getattr(self.config, "layer_types", None)
        if len(set(self.rules)) == 1:
            one = mask(self.rules[0])
            return {t: one for t in types} if types is not None and len(set(types)) > 1 else one
        by_type: dict[str, Rule] = dict(zip(types or [], self.rules))
        if types is None or any(by_type[t] != r for t, r in zip(types, self.rules)):
            raise Unsupported("layers with windows of their own under another attention than attn_implementation='sepllm'")
        return {t: mask(r) for t, r in by_type.items()}

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
               scale: float | None) -> torch.Tensor:
        """[batch, heads, tokens, dim]"""
        rule = self.rules[layer]
        if isinstance(self.current, SepCache):
            return self.current.attend(rule, query, key, value, scale)
        if self.current is None or self.current.shape != (query.shape[0], query.shape[2]) or key.shape[2] != query.shape[2]:
            raise InvalidState("queries and keys that are not those of the model's token ids")
        return sep_attention(query, key, value, self.current.pattern(rule), scale=scale)


def _documents(positions: torch.Tensor | None, ids: torch.Tensor) -> list[list[int]]:
    """Where packed documents begin: where the positions of a row do not go up by one (as transformers finds them)."""
    if positions is None:
        return [[]] * ids.shape[0]
    rows = positions.cpu().expand(ids.shape[0], -1)
    starts = [((row[1:] - row[:-1]) != 1).nonzero().flatten() + 1 for row in rows]
    return [[0, *s.tolist()] if len(s) else [] for s in starts]


def _dense(current: Pass | None, rule: Rule) -> torch.Tensor:
    assert current is not None
    seen = current.pattern(rule).visible(current.shape[1])
    return seen | torch.eye(seen.shape[1], dtype=torch.bool)  # a row of padding sees itself: it is not NaN then


def enable(model: Any, policy: Policy, separators: Any = ()) -> Enabled:
    """Puts a policy in force in a model of transformers: a forward pre-hook learns the token ids of each call.

    model: a causal language model. With attn_implementation="sepllm" prefill, training and scoring run on the sparse kernel (static
    policies); with another one, the hook gives the model the policy's mask, which costs as much as full attention. separators: token
    ids, or a tokenizer (separator_ids() of it). Generation keeps what the policy keeps if it is given cache=SepCache(model).
    """
    if hasattr(separators, "decode"):
        separators = separator_ids(separators)
    return Enabled(model, policy, separators)
