"""What a policy comes to in each layer of a model, and which keys a query sees by it (docs/METHOD.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .._errors import InvalidArgument, Unsupported


@dataclass(frozen=True)
class StaticRule:
    """Key j <= i is visible to query i if it is one of the first `initial`, a separator (where `separators`), every
    `interval`-th after the initial ones (0: none), or i - j < window (0: every key is)."""

    initial: int = 0
    window: int = 0
    separators: bool = False
    interval: int = 0

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
    for name in ("max-segment", "layer-policy"):
        if settings.get(name):
            raise Unsupported(f"{name} in transformers (the engine has it)")
    rule: Rule
    if kind == "full":
        rule = StaticRule()
    elif kind in ("sep", "sink", "fixed"):
        rule = StaticRule(settings["init"], settings["window"], kind == "sep", settings.get("interval", 0))
    elif kind == "sink-stream":
        if settings["positions"] == "cache":
            raise Unsupported("sink-stream with cache positions in transformers: choose positions='original'")
        rule = StaticRule(settings["init"], settings["capacity"] - settings["init"] + 1)
    else:
        unbounded = settings["seps"] == "unbounded"
        # An unbounded block begins with room for the default number of separators.
        rule = StreamRule(settings["init"], 64 if unbounded else settings["seps"], settings["window"], settings["capacity"],
                          unbounded, settings.get("sep-replace", False), settings["positions"] == "cache")
        if rule.cache_positions and any(windows):
            raise Unsupported("cache positions in a model whose layers have sliding windows of their own: choose "
                              "positions='original'")
    rules: list[Rule] = [StaticRule(window=w) if w > 0 else rule for w in windows]
    for layer, window in _windows_of_layers(settings.get("layer-window", ""), len(rules)).items():
        if windows[layer] > 0:
            raise InvalidArgument(f"layer_window names layer {layer}, which has a sliding window of its own")
        rules[layer] = StaticRule(rule.initial, window, rule.separators, rule.interval)  # type: ignore[union-attr]
    return rules
