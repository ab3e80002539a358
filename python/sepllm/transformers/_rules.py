"""What a policy comes to in each layer of a model, and which keys a query sees by it (docs/METHOD.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .._errors import InvalidArgument, Unsupported


@dataclass(frozen=True)
class StaticRule:
    """Key j <= i is visible to query i if it is one of the first `initial`, a separator (where `separators`), every
    `interval`-th after the initial ones (0: none), or i - j < window (0: every key is). max_segment: with_long_segments()."""

    initial: int = 0
    window: int = 0
    separators: bool = False
    interval: int = 0
    max_segment: int = 0

    def stays(self, j: torch.Tensor, is_separator: torch.Tensor) -> torch.Tensor:
        """Whether keys at these positions stay visible for ever."""
        if self.window == 0:
            return torch.ones_like(j, dtype=torch.bool)
        out = j < self.initial
        if self.separators:
            out = out | is_separator
        if self.interval > 0:
            out = out | ((j >= self.initial) & ((j - self.initial + 1) % self.interval == 0))
        return out

    def visible(self, i: torch.Tensor, j: torch.Tensor, is_separator: torch.Tensor) -> torch.Tensor:
        """For positions i and j that are broadcast against each other; is_separator: of the keys, as j."""
        return (j <= i) & (self.stays(j, is_separator) | (i - j < self.window))


def with_long_segments(rule: StaticRule, places: torch.Tensor, is_separator: torch.Tensor, last: int = -1) -> torch.Tensor:
    """is_separator [n] and the tokens, in addition, that rule.max_segment keeps (docs/METHOD.md, "Long segments"). places: [n] positions
    in the document of each (-1: padding); last: the last position before them that stays, -1 for none."""
    if rule.max_segment == 0:
        return is_separator
    out = is_separator.clone()
    for i, (place, stays) in enumerate(zip(places.tolist(), is_separator.tolist())):
        if place < 0:
            continue
        if place == 0:
            last = -1
        if stays or place < rule.initial:
            last = place
        elif place - last >= rule.max_segment:
            out[i], last = True, place
    return out


@dataclass(frozen=True)
class StreamRule:
    """The four blocks of a stream (sep-stream): initial tokens, separators, past window, and `window` last tokens, in at most
    `capacity` slots. More than that are compressed (docs/METHOD.md#streaming)."""

    initial: int
    separators: int
    window: int
    capacity: int
    unbounded: bool = False
    replace: bool = False
    cache_positions: bool = False

    @property
    def moves_always(self) -> bool:
        """Whether keys move with each token (sink-stream), and not only in a compression now and then."""
        return self.window + self.initial >= self.capacity


Rule = StaticRule | StreamRule


def _windows_of_layers(text: str, n_layers: int) -> dict[int, int]:
    """"0=full,-1=64" as a window for each layer that it names."""
    out = {}
    for item in filter(None, text.split(",")):
        layer, window = item.split("=")
        index = int(layer) + (n_layers if int(layer) < 0 else 0)
        if not 0 <= index < n_layers:
            raise InvalidArgument(f"layer_window names layer {layer} of {n_layers}")
        out[index] = 0 if window == "full" else int(window)
    return out


def _choices_of_layers(text: str, n_layers: int) -> dict[int, tuple[str, int, int]]:
    """"0..2=full,-1=fixed:64/8" as (kind, window, interval) for each layer that it names; 0: that of the policy."""
    out = {}
    for item in filter(None, text.split(",")):
        layers, choice = item.split("=")
        first, _, last = layers.partition("..")
        kind, _, numbers = choice.partition(":")
        window, _, interval = numbers.partition("/")
        for layer in range(int(first), int(last or first) + 1):
            index = layer + (n_layers if layer < 0 else 0)
            if not 0 <= index < n_layers:
                raise InvalidArgument(f"layer_policy names layer {layer} of {n_layers}")
            if kind in ("moba", "sep-moba"):
                raise Unsupported(f"{kind} in transformers (the engine has it: sepllm.Model)")
            out[index] = (kind, int(window or 0), int(interval or 0))
    return out


def _static(settings: dict[str, Any], kind: str, window: int = 0, interval: int = 0) -> StaticRule:
    """window, interval: 0 for those of the policy."""
    if kind == "full":
        return StaticRule()
    return StaticRule(settings["init"], window or settings["window"], kind == "sep",
                      (interval or settings["interval"]) if kind == "fixed" else 0,
                      settings.get("max-segment", 0) if kind == "sep" else 0)


def own_windows(config: Any) -> list[int]:
    """The sliding window that each layer of the model has by itself; 0: none."""
    n_layers = config.num_hidden_layers
    window = getattr(config, "sliding_window", None) or 0
    types = getattr(config, "layer_types", None)
    if types is None:
        return [window] * n_layers
    known = {"full_attention": 0, "sliding_attention": window}
    strange = sorted(set(types) - set(known))
    if strange:
        raise Unsupported(f"a model with layers of the type {strange[0]}")
    return [known[t] for t in types]


def rules_of(settings: dict[str, Any], config: Any) -> list[Rule]:
    """The rule of each layer. settings: all of a policy's (Policy.resolved()); config: of a model of transformers."""
    windows = own_windows(config)
    kind = settings["policy"]
    rule: Rule
    if kind in ("full", "sep", "sink", "fixed"):
        rule = _static(settings, kind)
    elif kind in ("moba", "sep-moba"):
        raise Unsupported(f"{kind} in transformers (the engine has it: sepllm.Model)")
    elif kind == "sink-stream":
        init, capacity = settings["init"], settings["capacity"]
        # The same keys either way. With cache positions the places of all but the initial ones change with each token.
        rule = (StreamRule(init, 0, capacity - init, capacity, cache_positions=True) if settings["positions"] == "cache" else
                StaticRule(init, capacity - init + 1))
    else:
        if settings.get("max-segment"):
            raise Unsupported("max_segment of a stream in transformers (the engine has it; here it is for Policy.sep)")
        unbounded = settings["seps"] == "unbounded"
        # An unbounded block begins with room for the default number of separators.
        rule = StreamRule(settings["init"], 64 if unbounded else settings["seps"], settings["window"], settings["capacity"],
                          unbounded, settings.get("sep-replace", False), settings["positions"] == "cache")
    if isinstance(rule, StreamRule) and rule.cache_positions and any(windows):
        raise Unsupported("cache positions in a model whose layers have sliding windows of their own: choose positions='original'")
    rules: list[Rule] = [StaticRule(window=w) if w > 0 else rule for w in windows]
    named = _windows_of_layers(settings.get("layer-window", ""), len(rules))
    choices = _choices_of_layers(settings.get("layer-policy", ""), len(rules))
    for layer in sorted({*named, *choices}):
        if windows[layer] > 0:
            raise InvalidArgument(f"the policy names layer {layer}, which has a sliding window of its own")
        own, window, interval = choices.get(layer, (kind, 0, 0))
        if own != "full" and layer in named and window == 0:
            window = named[layer]
            if window == 0:  # every key, as in full attention
                own = "full"
        rules[layer] = _static(settings, own, window, interval)
    return rules
