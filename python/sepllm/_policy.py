"""Policies: which keys attention keeps (docs/METHOD.md#policies)."""

from __future__ import annotations

import json
from typing import Any

from . import _core


class Policy:
    """A policy with its settings. What is not given is as the model's files say, or the engine's default.

    Settings have the names of the command line with underscores: init, window, seps, capacity, interval, max_segment,
    sep_replace, layer_window, layer_policy, separators, positions, rope_length, kv ("f32", "f16", "bf16", "q8"), prefill_chunk.
    """

    def __init__(self, policy: str | None = None, **settings: Any) -> None:
        self.settings: dict[str, Any] = {} if policy is None else {"policy": policy}
        for name, value in settings.items():
            if value is not None:
                self.settings[name.replace("_", "-")] = value

    def __repr__(self) -> str:
        return f"Policy({', '.join(f'{name}={value!r}' for name, value in self.settings.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self.settings == other.settings

    __hash__ = None  # type: ignore[assignment]

    def resolved(self) -> dict[str, Any]:
        """All settings in force in a model without settings of its own; this also checks them. Model.policy() has those in force
        in a model."""
        return json.loads(_core.policy(json.dumps(self.settings)))

    @classmethod
    def full(cls, **settings: Any) -> Policy:
        """Every key stays: ordinary causal attention."""
        return cls("full", **settings)

    @classmethod
    def sep(cls, window: int | None = None, init: int | None = None, separators: str | None = None,
            **settings: Any) -> Policy:
        """Initial tokens, all separators, and a window of the last `window` tokens (SepLLM)."""
        return cls("sep", window=window, init=init, separators=separators, **settings)

    @classmethod
    def sep_stream(cls, capacity: int | None = None, window: int | None = None, seps: int | str | None = None,
                   init: int | None = None, separators: str | None = None, **settings: Any) -> Policy:
        """A cache of fixed capacity: initial tokens, at most `seps` separators, and a window (SepLLM's streaming)."""
        return cls("sep-stream", capacity=capacity, window=window, seps=seps, init=init, separators=separators, **settings)

    @classmethod
    def sink(cls, window: int | None = None, init: int | None = None, **settings: Any) -> Policy:
        """Initial tokens and a window."""
        return cls("sink", window=window, init=init, **settings)

    @classmethod
    def sink_stream(cls, capacity: int | None = None, init: int | None = None, **settings: Any) -> Policy:
        """StreamingLLM: a cache of fixed capacity with initial tokens and the most recent ones."""
        return cls("sink-stream", capacity=capacity, init=init, **settings)

    @classmethod
    def fixed(cls, window: int | None = None, init: int | None = None, interval: int | None = None,
              **settings: Any) -> Policy:
        """Initial tokens, every `interval`-th token, and a window."""
        return cls("fixed", window=window, init=init, interval=interval, **settings)

    @classmethod
    def moba(cls, block_size: int | None = None, blocks: int | None = None, **settings: Any) -> Policy:
        """Every key stays; each query sees its own block and those earlier ones that it chooses, `blocks` in all (MoBA)."""
        return cls("moba", block_size=block_size, blocks=blocks, **settings)

    @classmethod
    def sep_moba(cls, block_size: int | None = None, blocks: int | None = None, separators: str | None = None,
                 **settings: Any) -> Policy:
        """The same with blocks that end at separators."""
        return cls("sep-moba", block_size=block_size, blocks=blocks, separators=separators, **settings)
