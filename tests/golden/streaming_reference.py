"""The streaming policies (docs/METHOD.md#streaming), token by token, in the plainest way: a list of slots, each holding a text
position and, per layer, the key as it left the projection (never rotated) and the value. Every step rotates all keys
again, by the positions that they have now, in float64, so that no error of an incremental rotation can hide.

Run:  python tests/golden/streaming_reference.py      after make_golden.py, whose checkpoints it uses.

How each sentence of the section is read here:
 - "The token attends to all L cached slots and itself; then it is appended: L+1." Nothing is dropped before the query
   has seen it: a query sees at most c + 1 keys, its own included.
 - "Compression fires iff L > c after appending": right after the append, before the next token.
 - "past = slots [a + m, L - w)": by slot number. The first a tokens of the stream are never in it, be they separators
   or not, and do not count towards s.
 - "the newest s stay (FIFO)": of the old block followed by the past's separators, the last s.
 - unbounded, "s and c grow by the excess": if the block has m > s separators after a compression, nothing is dropped,
   c grows by m - s and s becomes m. So the number of tokens between two compressions stays c + 1 - (a + s + w) of the
   start, once s is full.
 - replace, "keep only the newest batch": the block becomes the (newest s) separators of this compression's past, and
   is empty if it had none.
 - positions "cache": the key in slot k has position k, the query position L (the number of cached slots). Nothing else
   enters: the text position is forgotten. "original": text positions for both.
 - ALiBi: the distance is the difference of these positions. Learned positions: the token gets the embedding of its own
   query position when it enters and keeps it (a key carries it inside; moving to another slot does not change it).
 - sink-stream: at L > c the first a and the last c - a slots stay.
"""

import json
import os

import torch
from safetensors.torch import save_file

from make_golden import HERE, HuggingFace, within
from plain_models import PlainModel

torch.set_grad_enabled(False)
torch.set_num_threads(1)

SEPARATORS = (5, 11, 17)
MODELS = ("llama_gqa", "neox_parallel", "gpt2", "falcon_7b", "falcon_rw", "neox_rope_yarn", "gemma3", "smollm3")
SMALL = {"init": 2, "seps": 3, "window": 5, "capacity": 16}
SETTINGS = {  # in the names of the program's options
    "sep": {"policy": "sep-stream", **SMALL, "positions": "cache"},
    "sep_original": {"policy": "sep-stream", **SMALL, "positions": "original"},
    "sep_unbounded": {"policy": "sep-stream", **SMALL, "seps": "unbounded", "positions": "cache"},
    "sep_replace": {"policy": "sep-stream", **SMALL, "sep-replace": True, "positions": "cache"},
    "sep_no_initial": {"policy": "sep-stream", **SMALL, "init": 0, "positions": "cache"},
    "sink": {"policy": "sink-stream", "init": 2, "capacity": 16, "positions": "cache"},
    "sink_original": {"policy": "sink-stream", "init": 2, "capacity": 16, "positions": "original"},
}
LARGE = {"init": 4, "seps": 64, "window": 256, "capacity": 800}
UNBOUNDED_START = {"small": 3, "large": 64}  # what "seps": "unbounded" starts from


class Stream:
    """Which text positions the cache holds. `slots` in order; the separator block is slots[a : a + m]."""

    def __init__(self, settings, s):
        self.sink = settings["policy"] == "sink-stream"
        self.a, self.c = settings["init"], settings["capacity"]
        self.w = self.c - self.a if self.sink else settings["window"]
        self.s = s
        self.unbounded = settings.get("seps") == "unbounded"
        self.replace = settings.get("sep-replace", False)
        self.slots, self.m, self.seen = [], 0, 0
        self.compressions = []  # (tokens seen, separators in the past, dropped from the block)
        assert self.sink or self.a + self.s + self.w < self.c

    def append(self, is_separator):
        """The next token joins. Returns the old slot numbers that stay, in order, if a compression fired; else
        None. is_separator(text position)."""
        self.slots.append(self.seen)
        self.seen += 1
        if len(self.slots) <= self.c:
            return None
        if self.sink:
            keep = list(range(self.a)) + list(range(len(self.slots) - self.w, len(self.slots)))
        else:
            keep = self._compress(is_separator)
        self.slots = [self.slots[k] for k in keep]
        return keep

    def _compress(self, is_separator):
        total = len(self.slots)
        past = range(self.a + self.m, total - self.w)
        batch = [k for k in past if is_separator(self.slots[k])]
        block = batch if self.replace else list(range(self.a, self.a + self.m)) + batch
        excess = max(0, len(block) - self.s)
        if self.unbounded:
            self.s += excess
            self.c += excess
        else:
            block = block[excess:]
        self.m = len(block)
        self.compressions.append((self.seen, len(batch), 0 if self.unbounded else excess))
        return list(range(self.a)) + block + list(range(total - self.w, total))


def make_stream(settings, size):
    return Stream(settings, UNBOUNDED_START[size] if settings.get("seps") == "unbounded" else settings.get("seps", 0))


def run_slots(settings, ids, size):
    """Per step what the query sees, and the state after the last one."""
    stream = make_stream(settings, size)
    lists, counts = [], []
    for _ in ids:
        lists.append(list(stream.slots))
        counts.append(stream.m)
        stream.append(lambda p: ids[p] in SEPARATORS)
    lists.append(list(stream.slots))
    counts.append(stream.m)
    return stream, lists, counts


def positions_of(settings, slots, text_position):
    """(positions of the keys in these slots, position of the query)."""
    if settings["positions"] == "cache":
        return list(range(len(slots))), len(slots)
    return slots, text_position


def run_model(model, settings, ids, of=lambda t, logits: logits):
    """Logits [T, vocab] of a stream; with of(t, logits of step t), what that returns, one for each step."""
    stream = make_stream(settings, "small")
    memory = [[] for _ in model.layers]
    out = []
    for t, token in enumerate(ids):
        keys, query = positions_of(settings, stream.slots, t)
        out.append(of(t, model.step(token, memory, keys, query, t)))
        keep = stream.append(lambda p: ids[p] in SEPARATORS)
        if keep is not None:
            memory = [slots if own else [slots[k] for k in keep] for slots, own in zip(memory, model.windows)]
        assert all(own or len(slots) == len(stream.slots) for slots, own in zip(memory, model.windows))
    return torch.stack(out)


def mask_of(lists, total):
    """What every query saw, as a mask over the text."""
    mask = torch.zeros(total, total, dtype=torch.bool)
    for t in range(total):
        mask[t, lists[t] + [t]] = True
    return mask


def random_ids(seed, length, vocab, share):
    generator = torch.Generator().manual_seed(seed)
    others = [t for t in range(vocab) if t not in SEPARATORS]
    ids = []
    for _ in range(length):
        pool = SEPARATORS if torch.rand((), generator=generator).item() < share else others
        ids.append(pool[torch.randint(len(pool), (), generator=generator).item()])
    return ids


def flat(lists):
    offsets = [0]
    for one in lists:
        offsets.append(offsets[-1] + len(one))
    as_tensor = lambda values: torch.tensor(values, dtype=torch.int32)
    return as_tensor([v for one in lists for v in one]), as_tensor(offsets)


def check_streams(runs):
    """The small streams hold what they are for."""
    for name, (stream, lists, _) in runs.items():
        if stream.sink:
            continue
        batches = [batch for _, batch, _ in stream.compressions]
        assert len(batches) >= 3 and 0 in batches and max(batches) >= 2, (name, batches)
        assert max(len(one) for one in lists) <= stream.c
        if name in ("sep", "sep_original", "sep_no_initial"):
            assert sum(1 for _, _, dropped in stream.compressions if dropped > 0) >= 2, name
        if name == "sep_replace":
            assert any(stream.compressions[i][1] == 0 and stream.compressions[i - 1][1] > 0
                       for i in range(1, len(batches)))


def check_model(model, folder, ids, logits, runs):
    """The stream against whole-sequence attention, where the two must agree."""
    hf = HuggingFace(folder)
    hf.slopes = model.slopes

    def compare(name, mask, count):
        masks = [within(own, mask[:count, :count]) for own in model.windows]
        part = ids[:count]
        for whole in (hf.logits(part, masks).double(), model.logits(part, masks)):
            difference = (logits[name][:count] - whole).abs().max().item()
            assert difference < 5e-5, (name, difference)

    full = torch.tril(torch.ones(len(ids), len(ids), dtype=torch.bool))
    for name in logits:  # nothing is dropped before the (c + 1)st token
        compare(name, full, SMALL["capacity"] + 1)
    for name in ("sep_original", "sink_original"):  # the lists as a mask, at text positions
        compare(name, mask_of(runs[name][1], len(ids)), logits[name].shape[0])
    i, j = torch.arange(len(ids))[:, None], torch.arange(len(ids))[None, :]
    sink_pattern = (j <= i) & ((j < 2) | (i - j < SMALL["capacity"] - 2 + 1))
    compare("sink_original", sink_pattern, logits["sink_original"].shape[0])


def chosen_steps(stream, total):
    """Steps whose logits are kept: around the first compressions, and the end."""
    first = [seen for seen, _, _ in stream.compressions[:4]] or [SMALL["capacity"] + 1, SMALL["capacity"] + 2]
    steps = {0, 7, SMALL["capacity"], total // 2, total * 3 // 4, total - 2, total - 1}
    for seen in first:
        steps |= {seen - 1, seen}  # the query that filled the cache and the first after the compression
    return sorted(t for t in steps if t < total)


def make_small(folder):
    total = 160
    ids = random_ids(7, total, 95, 0.2)
    runs = {name: run_slots(settings, ids, "small") for name, settings in SETTINGS.items()}
    check_streams(runs)
    tensors = {"ids": torch.tensor(ids, dtype=torch.int32)}
    for name, (stream, lists, counts) in runs.items():
        settings = SETTINGS[name]
        seen_from = [positions_of(settings, slots, t) for t, slots in enumerate(lists)]
        tensors[f"{name}/slots"], tensors[f"{name}/offsets"] = flat(lists)
        tensors[f"{name}/key_positions"] = flat([keys for keys, _ in seen_from])[0]
        tensors[f"{name}/query_positions"] = torch.tensor([q for _, q in seen_from], dtype=torch.int32)
        tensors[f"{name}/separators"] = torch.tensor(counts, dtype=torch.int32)
    save_file(tensors, os.path.join(folder, "slots.safetensors"))
    for model_name in MODELS:
        make_model(folder, model_name, ids, runs)


def make_model(folder, model_name, ids, runs):
    model_folder = os.path.join(HERE, "models", model_name)
    model = PlainModel(model_folder)
    logits, tensors = {}, {}
    for name, settings in SETTINGS.items():
        limit = len(ids)
        if model.position_table is not None and settings["positions"] == "original":
            limit = model.position_table.shape[0]  # learned positions end there
        logits[name] = run_model(model, settings, ids[:limit])
        steps = chosen_steps(runs[name][0], limit)
        tensors[f"{name}/steps"] = torch.tensor(steps, dtype=torch.int32)
        tensors[f"{name}/logits"] = logits[name][steps].float().contiguous()
    check_model(model, model_folder, ids, logits, runs)
    save_file(tensors, os.path.join(folder, model_name + ".safetensors"))
    base = logits["sep_original"][:100]
    effect = " ".join(f"{name} {(one[:100] - base).abs().max():.2f}" for name, one in logits.items())
    print(f"{model_name}: differences from sep_original: {effect}")


def large_settings():
    base = {"policy": "sep-stream", **LARGE, "positions": "cache"}
    return {"bounded": base, "unbounded": {**base, "seps": "unbounded"}, "replace": {**base, "sep-replace": True},
            "sink": {"policy": "sink-stream", "init": 4, "capacity": 800, "positions": "cache"}}


def make_large(folder):
    """Only slot lists, at the sizes people use, right after each compression."""
    tensors = {}
    for stream_name, seed, share in (("dense", 11, 0.16), ("sparse", 12, 0.02)):
        ids = random_ids(seed, 4000, 95, share)
        tensors[f"{stream_name}/ids"] = torch.tensor(ids, dtype=torch.int32)
        for name, settings in large_settings().items():
            stream, lists, _ = run_slots(settings, ids, "large")
            if name == "sink":
                tensors[f"{stream_name}/sink/last"] = torch.tensor(lists[-1], dtype=torch.int32)
                continue
            times = [seen for seen, _, _ in stream.compressions]
            if name == "bounded":
                assert times[0] == 801
                full_from = next(k for k, t in enumerate(times) if len(lists[t]) == 4 + 64 + 256)
                assert all(b - a == 477 for a, b in zip(times[full_from:], times[full_from + 1:]))
                assert full_from == 0 or stream_name == "sparse"
            prefix = f"{stream_name}/{name}/"
            tensors[prefix + "times"] = torch.tensor(times, dtype=torch.int32)
            tensors[prefix + "slots"], tensors[prefix + "offsets"] = flat([lists[t] for t in times])
            print(f"{stream_name} {name}: compressions after {times} tokens")
    save_file(tensors, os.path.join(folder, "large_slots.safetensors"))


def main():
    folder = os.path.join(HERE, "streaming")
    os.makedirs(folder, exist_ok=True)
    make_small(folder)
    make_large(folder)
    description = {"separators": list(SEPARATORS), "models": list(MODELS), "small": SETTINGS, "large": large_settings(),
                   "unbounded_start": UNBOUNDED_START}
    with open(os.path.join(folder, "streaming.json"), "w") as f:
        json.dump(description, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
