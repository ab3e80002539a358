"""A cache of transformers that keeps what a policy keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from .._errors import InvalidArgument, InvalidState, OutOfRange, Unsupported
from ..torch import sep_attention
from ._pass import Pass
from ._rules import Rule, StaticRule, StreamRule, with_long_segments

if TYPE_CHECKING:
    from ._enable import Enabled


class Slots:
    """Which tokens the slots of the layers of one rule hold, for each sequence of the batch: [batch, slots]."""

    def __init__(self, rule: Rule, batch: int, margin: int) -> None:
        self.rule, self.margin = rule, margin
        empty = torch.zeros(batch, 0, dtype=torch.int64)
        self.places = empty  # in the sequence, without its padding; -1: the slot is padding
        self.columns = empty.clone()  # in the batch, with padding
        self.is_separator = empty.bool()
        self.length = torch.zeros(batch, dtype=torch.int64)  # tokens seen, without padding
        self.dropped_at = torch.zeros(batch, dtype=torch.int64)  # the shortest length to which crop() can go back
        self.n_separators = [0] * batch  # in the separator block of a stream
        self.visible: torch.Tensor | None = None  # [batch, queries, slots] of this pass; None: everything
        self.select: torch.Tensor | None = None  # [batch, slots] that stay of this pass; None: all of them
        self.moved: torch.Tensor | None = None  # [batch, slots] how far the place in the cache changed; None: not at all

    def used(self) -> torch.Tensor:
        """[batch] slots that hold a token."""
        return (self.places >= 0).sum(1)

    def room(self) -> int | None:
        """How many tokens a pass may have, so that no sequence is compressed within it; None: any number."""
        if not isinstance(self.rule, StreamRule):
            return None
        return int(min(self._capacity(b) + 1 - n for b, n in enumerate(self.used().tolist())))

    def _capacity(self, row: int) -> int:
        assert isinstance(self.rule, StreamRule)
        return self.rule.capacity + (max(0, self.n_separators[row] - self.rule.separators) if self.rule.unbounded else 0)

    def check(self, real: torch.Tensor) -> None:
        """Error (OutOfRange) for a pass that the cache has no room for. real: [batch, tokens], false for padding."""
        if not isinstance(self.rule, StreamRule):
            return
        for row, n in enumerate((self.used() + real.sum(1)).tolist()):
            if n > self._capacity(row) + 1:
                raise OutOfRange(f"a pass of {int(real[row].sum())} tokens, and the cache has room for {self.room()} before its next "
                                 "compression: SepCache.feed() takes texts in passes that fit")

    def begin(self, new_places: torch.Tensor, new_columns: torch.Tensor, new_separators: torch.Tensor) -> None:
        """Takes the tokens of a pass, [batch, tokens], and decides what they see and what stays after it."""
        if isinstance(self.rule, StaticRule) and self.rule.max_segment > 0:
            # Tokens that stay are never dropped, so the last of them is among the slots.
            held = torch.where(self.is_separator | (self.places < self.rule.initial), self.places, -1)
            last = held.amax(1).tolist() if held.shape[1] else [-1] * len(held)
            rows = zip(new_places, new_separators, last)
            new_separators = torch.stack([with_long_segments(self.rule, p, s, n) for p, s, n in rows])
        self.places = torch.cat([self.places, new_places], 1)
        self.columns = torch.cat([self.columns, new_columns.expand(len(self.length), -1)], 1)
        self.is_separator = torch.cat([self.is_separator, new_separators], 1)
        self.length = self.length + (new_places >= 0).sum(1)
        self._look(new_places)
        self._keep()

    def _look(self, queries: torch.Tensor) -> None:
        i, j = queries[:, :, None], self.places[:, None, :]
        if isinstance(self.rule, StreamRule):
            seen = j <= i
        else:
            seen = self.rule.visible(i, j, self.is_separator[:, None, :])
        seen = seen & (j >= 0)
        if bool(seen.all()):
            self.visible = None
            return
        # A query of padding sees itself: its output is not NaN then.
        n = queries.shape[1]
        itself = torch.zeros(n, self.places.shape[1], dtype=torch.bool)
        itself[:, -n:] = torch.eye(n, dtype=torch.bool)
        self.visible = seen | (itself & (i < 0))

    def _keep(self) -> None:
        real = self.places >= 0
        before = real.cumsum(1) - 1  # the place of each slot in the cache
        if isinstance(self.rule, StreamRule):
            stays = real.clone()
            for row in range(len(stays)):
                self._compress(row, stays[row])
        else:
            recent = self.length[:, None] - self.places < self.rule.window + self.margin
            stays = real & (self.rule.stays(self.places, self.is_separator) | recent)
            lost = (stays != real).any(1)
            self.dropped_at = torch.where(lost, torch.maximum(self.dropped_at, self.length - self.margin), self.dropped_at)
        self.select = self.moved = None
        if bool(stays.all()):
            return
        n = int(stays.sum(1).max())
        self.select = torch.argsort((~stays).to(torch.int8), dim=1, stable=True)[:, :n]
        self.places = torch.where(stays, self.places, -1).gather(1, self.select)
        self.columns = self.columns.gather(1, self.select)
        self.is_separator = self.is_separator.gather(1, self.select)
        after = (self.places >= 0).cumsum(1) - 1
        moved = torch.where(self.places >= 0, after - before.gather(1, self.select), 0)
        self.moved = moved if bool(moved.any()) else None

    def _compress(self, row: int, stays: torch.Tensor) -> None:
        """One sequence of a stream: docs/METHOD.md#streaming, step 3. Changes `stays`, [slots]."""
        rule = self.rule
        assert isinstance(rule, StreamRule)
        slots = stays.nonzero().flatten()
        if len(slots) <= self._capacity(row):
            return
        first, end = rule.initial + self.n_separators[row], len(slots) - rule.window
        past = slots[first:end]
        new = past[self.is_separator[row, past]]
        old = slots[rule.initial:first]
        block = new if rule.replace else torch.cat([old, new])
        if not rule.unbounded:
            block = block[max(0, len(block) - rule.separators):]
        stays[old] = False
        stays[past] = False
        stays[block] = True
        self.n_separators[row] = len(block)

    def take_rows(self, rows: torch.Tensor) -> None:
        """Sequences in this order, any number of times."""
        for name in ("places", "columns", "is_separator", "length", "dropped_at"):
            setattr(self, name, getattr(self, name).index_select(0, rows))
        self.n_separators = [self.n_separators[i] for i in rows.tolist()]
        self.visible = self.select = self.moved = None

    def crop(self, columns: int) -> torch.Tensor:
        """Drops the tokens at this column of the batch and after it. Returns the slots that stay, [slots]."""
        gone = (self.columns >= columns) & (self.places >= 0)
        length = self.length - gone.sum(1)
        if isinstance(self.rule, StreamRule) or bool((length < self.dropped_at).any()):
            raise OutOfRange("keys that this goes back to are dropped already: SepCache(model, margin=N) keeps N more of them")
        stays = (self.columns < columns).any(0).nonzero().flatten()
        self.places = torch.where(gone, -1, self.places)[:, stays]
        self.columns, self.is_separator = self.columns[:, stays], self.is_separator[:, stays]
        self.length = length
        return stays


class SepLayer(CacheLayerMixin):
    """The keys and values of one layer: [batch, kv heads, slots, dim]."""

    is_sliding = False

    def __init__(self, cache: SepCache, rule: Rule) -> None:
        super().__init__()
        self.cache, self.rule = cache, rule
        self.is_croppable = cache.margin > 0 and not isinstance(rule, StreamRule)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.device, self.dtype = key_states.device, key_states.dtype
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any,
               **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns what this pass attends to; afterwards the layer holds what stays."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        slots = self.cache.slots_of(self.rule)
        keys = torch.cat([self.keys, key_states], 2)
        values = torch.cat([self.values, value_states], 2)
        n_seen = slots.visible.shape[2] if slots.visible is not None else None
        if n_seen is not None and keys.shape[2] != n_seen:
            raise InvalidState("the cache was not told of these tokens: it takes one pass of the model after the other")
        self.keys, self.values = self._chosen(slots, keys), self._chosen(slots, values)
        if slots.moved is not None and self.cache.frequencies is not None:
            if isinstance(self.rule, StreamRule) and self.rule.moves_always and self.dtype != torch.float32:
                raise Unsupported(f"sink-stream with cache positions rotates keys with each token, for which {self.dtype} is too coarse: "
                                  "load the model in float32, or choose positions='original'")
            self.keys = rotate(self.keys, slots.moved, self.cache.frequencies)
        return keys, values

    @staticmethod
    def _chosen(slots: Slots, x: torch.Tensor) -> torch.Tensor:
        if slots.select is None:
            return x
        if x.shape[0] == 1:
            return x.index_select(2, slots.select[0].to(x.device))
        index = slots.select.to(x.device)[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])
        return x.gather(2, index)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        held = self.keys.shape[2] if self.is_initialized else 0
        return held + query_length, self.get_seq_length() - held

    def get_seq_length(self) -> int:
        """Tokens seen, with padding: where the next token's column in the batch is."""
        return self.cache.seen

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        self.keys = self.values = None
        self.is_initialized = False

    def take_rows(self, rows: torch.Tensor) -> None:
        if self.is_initialized:
            rows = rows.to(self.keys.device)
            self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)


def rotate(keys: torch.Tensor, distance: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """Rotary positions moved on by distance [batch, slots]: pairs (i, i + n) of the first 2 n elements, n frequencies."""
    n = len(frequencies)
    angle = distance[:, None, :, None].to(keys.device).double() * frequencies.to(keys.device).double()
    cos, sin = angle.cos(), angle.sin()
    a, b = keys[..., :n].double(), keys[..., n:2 * n].double()
    turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(keys.dtype)
    return torch.cat([turned, keys[..., 2 * n:]], -1)


def _frequencies(model: Any) -> torch.Tensor | None:
    """Of a model's rotary positions; None if it has none. Unsupported for positions that cannot be moved."""
    config = model.config.get_text_config(decoder=True)
    if getattr(config, "alibi", False) or getattr(config, "position_embedding_type", "") == "alibi":
        raise Unsupported("cache positions with ALiBi")
    for module in model.modules():
        found = getattr(module, "inv_freq", None)
        if not isinstance(found, torch.Tensor):
            continue
        kind = getattr(module, "rope_type", "default")
        if kind not in ("default", "linear", "llama3", "yarn"):
            raise Unsupported(f"cache positions with rotary positions of the type {kind}, which depend on the text's length")
        return found.detach()
    return None


class SepCache(Cache):
    """A cache that keeps initial tokens, separators and a window, or what else the policy of enable() keeps; each sequence of a
    batch by its own separators, with padding on the left or anywhere.

    model: on which enable() was called. margin: for static policies, how many more tokens of each window are kept, so that crop()
    can go back by as many (assisted decoding). With a streaming policy a pass may have as many tokens as fit before the next
    compression; feed() takes a text of any length in such passes, and generate() continues from there.
    """

    def __init__(self, model: Any, margin: int = 0) -> None:
        from ._enable import enabled_of

        if margin < 0:
            raise InvalidArgument("margin is negative")
        self.enabled: Enabled = enabled_of(model)
        self.margin, self.seen = margin, 0
        self._slots: dict[Rule, Slots] = {}
        rules = self.enabled.rules
        self.cache_positions = any(isinstance(r, StreamRule) and r.cache_positions for r in rules)
        self.frequencies = _frequencies(model) if self.cache_positions else None
        self._first: Pass | None = None  # of the first pass, which the kernel takes
        self._n_queries = 0
        super().__init__(layers=[SepLayer(self, rule) for rule in rules])

    # --- Of a pass, called by the hook before it ---

    def begin(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | None:
        """Takes the ids of a pass [batch, tokens] and the mask of all tokens seen (its last columns are these tokens'). Returns
        positions, [batch, tokens], if they are not those in the text."""
        batch, n = ids.shape
        if not self._slots:
            self._slots = {rule: Slots(rule, batch, self.margin) for rule in set(self.enabled.rules)}
        one = next(iter(self._slots.values()))
        if len(one.length) != batch:
            raise InvalidArgument(f"a batch of {batch}, and the cache has one of {len(one.length)}")
        real = torch.ones(batch, n, dtype=torch.bool) if mask is None else mask[:, -n:].cpu().bool()
        count = real.cumsum(1)
        places = torch.where(real, one.length[:, None] + count - 1, -1)
        columns = torch.arange(self.seen, self.seen + n)[None, :]
        is_separator = torch.isin(ids.cpu(), self.enabled.separators) & real
        positions = None
        if self.cache_positions:
            stream = next(s for r, s in self._slots.items() if isinstance(r, StreamRule))
            positions = (stream.used()[:, None] + count - 1).clamp(min=0).to(ids.device)
        for slots in self._slots.values():
            slots.check(real)
        self._first = Pass(is_separator, real) if self.seen == 0 and n > 1 else None
        for slots in self._slots.values():
            slots.begin(places, columns, is_separator)
        self._n_queries = n
        self.seen += n
        return positions

    def slots_of(self, rule: Rule) -> Slots:
        if rule not in self._slots:
            raise InvalidState("a SepCache needs the model's token ids: pass it to the model on which enable() was called")
        return self._slots[rule]

    def visible(self, rule: Rule) -> torch.Tensor:
        """bool [batch, tokens of this pass, slots]"""
        slots = self.slots_of(rule)
        if slots.visible is not None:
            return slots.visible
        held = self.layers[self.enabled.rules.index(rule)].get_mask_sizes(self._n_queries)[0]
        return torch.ones(len(slots.length), self._n_queries, held, dtype=torch.bool)

    def attend(self, rule: Rule, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
               scale: float | None) -> torch.Tensor:
        """The attention of this pass, [batch, heads, tokens, dim]."""
        slots = self.slots_of(rule)
        if self._first is not None:
            # A stream is not compressed within a pass: each query sees everything before it.
            return sep_attention(query, key, value, self._first.pattern(StaticRule() if isinstance(rule, StreamRule) else rule),
                                 scale=scale)
        mask = slots.visible
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=None if mask is None else mask[:, None].to(query.device), scale=scale,
            enable_gqa=query.shape[1] != key.shape[1])

    # --- What a user calls ---

    def room(self) -> int | None:
        """How many tokens the next pass may have; None: any number."""
        rooms = [r for s in self._slots.values() if (r := s.room()) is not None]
        if not self._slots:
            rooms = [r.capacity + 1 for r in self.enabled.rules if isinstance(r, StreamRule)]
        return min(rooms) if rooms else None

    @torch.no_grad()
    def feed(self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, chunk: int = 512) -> Any:
        """Feeds texts [batch, tokens] in passes of at most `chunk` tokens that fit the cache; returns the last pass' output.
        attention_mask: of all tokens seen, these included. generate() takes the same ids and more, and continues behind them."""
        out, done, seen = None, 0, self.seen
        total = input_ids.shape[1]
        mask = attention_mask if attention_mask is not None else torch.ones(input_ids.shape[0], seen + total, dtype=torch.int64)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        while done < total:
            room = self.room()
            end = min(total, done + min(chunk, room if room is not None else chunk))
            out = model(input_ids[:, done:end], attention_mask=mask[:, :seen + end],
                        position_ids=positions[:, seen + done:seen + end].to(input_ids.device), cache=self, use_cache=True,
                        logits_to_keep=1)
            done = end
        return out

    def kept(self, layer: int = 0) -> list[list[int]]:
        """The positions, in each sequence, of the tokens whose keys a layer holds."""
        if not self._slots:
            return []
        return [row[row >= 0].tolist() for row in self.slots_of(self.enabled.rules[layer]).places]

    def kv_bytes(self) -> int:
        """The bytes of the keys and values that are held."""
        return sum(x.numel() * x.element_size() for layer in self.layers if layer.is_initialized for x in (layer.keys, layer.values))

    # --- What generate() calls ---

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self.seen

    def reset(self) -> None:
        super().reset()
        self._slots, self.seen = {}, 0

    def _take_rows(self, rows: torch.Tensor) -> None:
        rows = rows.cpu().long()
        for slots in self._slots.values():
            slots.take_rows(rows)
        for layer in self.layers:
            layer.take_rows(rows)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self._take_rows(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self._slots:
            n = len(next(iter(self._slots.values())).length)
            self._take_rows(torch.arange(n).repeat_interleave(repeats))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        rows = indices.cpu()
        self._take_rows(rows.nonzero().flatten() if rows.dtype == torch.bool else rows)

    def crop(self, tokens_to_remove: int) -> None:
        """Goes back by -tokens_to_remove tokens. OutOfRange if keys that are then needed are dropped already."""
        if tokens_to_remove > 0 or self.seen + tokens_to_remove < 0:
            raise InvalidArgument(f"crop({tokens_to_remove}) of a cache that has seen {self.seen} tokens")
        if tokens_to_remove == 0 or not self._slots:
            return
        stays = {rule: slots.crop(self.seen + tokens_to_remove) for rule, slots in self._slots.items()}
        for layer in self.layers:
            if layer.is_initialized:
                index = stays[layer.rule].to(layer.keys.device)
                layer.keys, layer.values = layer.keys.index_select(2, index), layer.values.index_select(2, index)
        self.seen += tokens_to_remove
