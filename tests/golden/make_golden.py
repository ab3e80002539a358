"""Makes models/<case>/: a tiny random checkpoint of each family and variant, and what transformers computes from it
under every static policy (spec of the masks: section 2; here written as the formula, with nothing shared with the
program under test). Run:  python tests/golden/make_golden.py [case ...]
"""

import json
import os
import sys

import torch
import transformers
from safetensors.torch import save_file

from cases import CASES, save_case
from plain_models import PlainModel

torch.set_grad_enabled(False)
torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

HERE = os.path.dirname(os.path.abspath(__file__))
SEPARATORS = (5, 11, 17)
LENGTH = 96
PROMPT = 16
NEW_TOKENS = 64
ROWS = [0, 1, 2, 5, 9, 14, 20, 33, 50, 64, 81, 95]
SMALLEST_GAP = 1e-3  # between the two best logits at every greedy step: far above the tolerance of the comparison


def policies(index, windows):
    """Settings in the names of the program's options; a little different from case to case. `windows`: the layers'
    own; only layers without one can be given another."""
    a = 2 + index % 3
    free = [layer for layer, own in enumerate(windows) if own == 0]
    layered = {"layer-window": "0=full,-1=full" if len(free) == len(windows) else f"{free[0]}=full"} if free else {}
    return {
        "full": {"policy": "full"},
        "sep": {"policy": "sep", "init": a, "window": 8 + index % 9},
        "sink": {"policy": "sink", "init": a, "window": 16 - index % 7},
        "fixed": {"policy": "fixed", "init": 2 + (index + 1) % 3, "window": 8 + index % 5, "interval": 3 + index % 4},
        "layered": {"policy": "sep", "init": a, "window": 8 + index % 3, **layered},
    }


def within(window, mask):
    """What a layer with its own window of so many tokens sees (0: none): that window, and nothing of the policy."""
    if window == 0:
        return mask
    i, j = torch.arange(len(mask))[:, None], torch.arange(len(mask))[None, :]
    return (j <= i) & (i - j < window)


def visible(settings, ids, layer, layers):
    """Section 2: bool [T, T], row = query i, column = key j."""
    total = len(ids)
    kind = settings["policy"]
    named = [int(entry.split("=")[0]) % layers for entry in settings.get("layer-window", "").split(",") if entry]
    whole = kind == "full" or layer in named
    mask = torch.zeros(total, total, dtype=torch.bool)
    for i in range(total):
        for j in range(i + 1):
            if whole:
                mask[i, j] = True
                continue
            a = settings["init"]
            kept = j < a or i - j < settings["window"]
            if kind == "sep":
                kept = kept or ids[j] in SEPARATORS
            if kind == "fixed":
                kept = kept or (j >= a and (j - a + 1) % settings["interval"] == 0)
            mask[i, j] = kept
    return mask


def additive(mask):
    """As transformers takes it: [1, 1, T, T], 0 where visible."""
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)[None, None]


class HuggingFace:
    """The saved checkpoint as transformers reads it, in float32, with a mask of its own in each layer."""

    def __init__(self, folder):
        load = lambda kind: transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=kind).eval()
        self.model = load("eager")
        self.layers = self.model.config.num_hidden_layers
        self.alibi = bool(getattr(self.model.config, "alibi", False))
        # Without the hooks, transformers' eager attention adds Falcon's ALiBi twice (in the mask and to the scores),
        # its sdpa attention once.
        self.usual = load("sdpa" if self.alibi else "eager")
        self.masks = None
        for index, module in enumerate(self._attention_modules()):
            module.register_forward_pre_hook(self._hook(index), with_kwargs=True)

    def _attention_modules(self):
        names = ("self_attn", "attention", "attn", "self_attention")
        found = [m for n, m in self.model.named_modules() if n.split(".")[-1] in names]
        assert len(found) == self.layers, len(found)
        return found

    def _hook(self, index):
        def replace(module, args, kwargs):
            if self.masks is None:
                return None
            assert "attention_mask" in kwargs
            kwargs["attention_mask"] = additive(self.masks[index])
            if self.alibi:  # the bias unrounded; the slopes are the plain model's
                total = self.masks[index].shape[0]
                bias = self.slopes.float()[:, None, None] * torch.arange(total, dtype=torch.float32)
                kwargs["alibi"] = bias
            return args, kwargs

        return replace

    def logits(self, ids, masks):
        """One mask for all layers goes in as the 4-D attention_mask, unless ALiBi refuses it; masks that differ, by
        the hooks."""
        same = all(torch.equal(masks[0], m) for m in masks)
        if same and not self.alibi:
            self.masks = None
            return self.model(torch.tensor([ids]), attention_mask=additive(masks[0]), use_cache=False).logits[0]
        self.masks = masks
        out = self.model(torch.tensor([ids]), use_cache=False).logits[0]
        self.masks = None
        return out

    def plain_full(self, ids):
        """As anyone calls it: no mask given."""
        return self.usual(torch.tensor([ids]), use_cache=False).logits[0]


def masks_for(settings, ids, windows):
    """One for each layer; `windows`: the layers' own."""
    return [within(own, visible(settings, ids, layer, len(windows))) for layer, own in enumerate(windows)]


def greedy(logits_of, settings, prompt, windows):
    """64 tokens, the whole sequence computed again for each; also the smallest gap between the best two logits."""
    ids, gap = list(prompt), float("inf")
    for _ in range(NEW_TOKENS):
        best = torch.topk(logits_of(ids, masks_for(settings, ids, windows))[-1], 2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        if gap < SMALLEST_GAP:
            return None, gap
        ids.append(best.indices[0].item())
    return ids[len(prompt):], gap


def random_ids(seed, vocab):
    generator = torch.Generator().manual_seed(seed)
    others = [t for t in range(vocab) if t not in SEPARATORS]
    ids = []
    for _ in range(LENGTH):
        is_separator = torch.rand((), generator=generator).item() < 0.16
        pool = SEPARATORS if is_separator else others
        ids.append(pool[torch.randint(len(pool), (), generator=generator).item()])
    return ids


def check_oracles(hf, plain, ids, all_masks):
    """Two independent computations must agree before either is called golden."""
    worst = 0.0
    for masks in all_masks.values():
        worst = max(worst, (hf.logits(ids, masks).double() - plain.logits(ids, masks)).abs().max().item())
    assert worst < 2e-5, worst
    # transformers without any mask of ours; with ALiBi it rounds the bias to bf16, which the plain model can imitate.
    usual = plain.logits(ids, all_masks["full"], alibi_as_hf=hf.alibi)
    usual_difference = (hf.plain_full(ids).double() - usual).abs().max().item()
    assert usual_difference < 2e-5, usual_difference
    return worst


def attempt(case, index, seed, folder):
    """One seed: None if a greedy choice is too close to call or the text is dull."""
    save_case(case, seed, folder)
    hf, plain = HuggingFace(folder), PlainModel(folder)
    hf.slopes = plain.slopes
    windows = plain.windows
    assert len(windows) == hf.layers
    ids = random_ids(seed, case.config.vocab_size)
    settings = policies(index, windows)
    all_masks = {name: masks_for(s, ids, windows) for name, s in settings.items()}
    # For ALiBi the plain model is the oracle (transformers rounds the bias); else transformers.
    logits_of = plain.logits if hf.alibi else hf.logits
    difference = check_oracles(hf, plain, ids, all_masks)
    tensors = {"ids": torch.tensor(ids, dtype=torch.int32), "rows": torch.tensor(ROWS, dtype=torch.int32)}
    for name, s in settings.items():
        tokens, gap = greedy(logits_of, s, ids[:PROMPT], windows)
        if tokens is None or len(set(tokens)) < 8:
            return None
        s["smallest_gap"] = round(gap, 6)
        tensors[f"logits_{name}"] = logits_of(ids, all_masks[name])[ROWS].float().contiguous()
        tensors[f"greedy_{name}"] = torch.tensor(tokens, dtype=torch.int32)
    full = tensors["logits_full"]
    effect = " ".join(f"{n} {(tensors['logits_' + n] - full).abs().max():.2f}" for n in settings if n != "full")
    print(f"{case.name}: seed {seed}, logits std {full.std():.2f}, oracles differ by {difference:.1e}, "
          f"effect of the masks {effect}")
    return tensors, settings


def make(case, index):
    folder = os.path.join(HERE, "models", case.name)
    for seed in range(1000 * (index + 1), 1000 * (index + 1) + 200):
        made = attempt(case, index, seed, folder)
        if made is None:
            continue
        tensors, settings = made
        save_file(tensors, os.path.join(folder, "golden.safetensors"))
        golden = {"seed": seed, "separators": list(SEPARATORS), "prompt_tokens": PROMPT, "policies": settings,
                  "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
        with open(os.path.join(folder, "golden.json"), "w") as f:
            json.dump(golden, f, indent=1)
            f.write("\n")
        return
    raise SystemExit(f"{case.name}: no seed gives clear greedy choices")


if __name__ == "__main__":
    for number, entry in enumerate(CASES):
        if len(sys.argv) < 2 or entry.name in sys.argv[1:]:
            make(entry, number)
