"""A forward pass over whole sequences, as the kernel takes it."""

from __future__ import annotations

import torch

from .._errors import InvalidArgument, Unsupported
from ..torch import Pattern
from ._rules import Rule, StreamRule, with_long_segments


class Pass:
    """The tokens of a pass without cached keys, and the pattern of each rule. is_separator: [batch, tokens]; mask: [batch, tokens],
    false for padding; starts: where the documents of each sequence begin (nothing: one document)."""

    def __init__(self, is_separator: torch.Tensor, mask: torch.Tensor | None, starts: list[list[int]] | None = None) -> None:
        batch, tokens = self.shape = tuple(is_separator.shape)
        self.is_separator = is_separator
        self.lengths, self.starts = [tokens] * batch, starts or [[] for _ in range(batch)]
        if mask is not None and not bool(mask.all()):
            if any(self.starts):
                raise InvalidArgument("packed documents and an attention mask with padding")
            self.lengths, self.starts = [], []
            for row in mask.cpu().bool():
                places = row.nonzero().flatten()
                first, end = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
                if end - first != len(places):
                    raise Unsupported("an attention mask with padding between tokens")
                self.lengths.append(end)
                # Padding on the left is a document of its own, which no token sees.
                self.starts.append([0, first] if first > 0 else [])
        self.patterns: dict[Rule, Pattern] = {}

    def pattern(self, rule: Rule) -> Pattern:
        if rule not in self.patterns:
            self.patterns[rule] = self._pattern(rule)
        return self.patterns[rule]

    def _pattern(self, rule: Rule) -> Pattern:
        if isinstance(rule, StreamRule):
            raise Unsupported("a streaming policy without a SepCache")
        kept: list[list[int]] = []
        if rule.window > 0 and (rule.separators or rule.interval > 0):
            place = torch.arange(self.shape[1])
            for row, (length, starts) in enumerate(zip(self.lengths, self.starts)):
                first = torch.zeros_like(place)
                for start in starts:
                    first[start:] = start
                # The initial ones are the pattern's own, in each document.
                stays = rule.stays(place - first, with_long_segments(rule, place - first, self.is_separator[row]))
                kept.append(stays[:length].nonzero().flatten().tolist())
        return Pattern.of(self.lengths, initial=rule.initial, window=rule.window, kept=kept, document_starts=self.starts)
