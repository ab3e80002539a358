"""How transformers reads the rotary settings of a config.json, over a matrix of the places and forms in which they may
stand (transformers 4 and 5, rope_scaling and rope_parameters, the top level, old and new names) and of the types, for
every family with rotary positions. Run:  python tests/golden/make_rope_golden.py

Writes rope.json: `base`, a tiny config of each family, and `cases`: `family`, `config` (what is added to the base),
`length` of the text, and what the family's own rotary embedding makes of it: `inv_freq` and `attention_factor`, or `fails`: transformers refuses the
config, or cannot rotate its heads by it. For Gemma 3 also `rope`: 0 for its global layers, 1 for its local ones.
"""

import json
import os
import random

import torch
import transformers
from transformers.models.falcon import modeling_falcon
from transformers.models.gemma3 import modeling_gemma3
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.olmo2 import modeling_olmo2
from transformers.models.phi3 import modeling_phi3
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3
from transformers.models.smollm3 import modeling_smollm3

transformers.logging.set_verbosity_error()
HERE = os.path.dirname(os.path.abspath(__file__))

TRAINED = 64
BASE = {
    "llama": dict(model_type="llama", vocab_size=32, hidden_size=32, intermediate_size=16, num_hidden_layers=1,
                  num_attention_heads=2, max_position_embeddings=TRAINED),
    "gpt_neox": dict(model_type="gpt_neox", vocab_size=32, hidden_size=32, intermediate_size=16, num_hidden_layers=1,
                     num_attention_heads=2, max_position_embeddings=TRAINED),
    "falcon": dict(model_type="falcon", vocab_size=32, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                   max_position_embeddings=TRAINED),
}
CLASSES = {
    "llama": (transformers.LlamaConfig, modeling_llama.LlamaRotaryEmbedding, modeling_llama.apply_rotary_pos_emb),
    "gpt_neox": (transformers.GPTNeoXConfig, modeling_gpt_neox.GPTNeoXRotaryEmbedding,
                 modeling_gpt_neox.apply_rotary_pos_emb),
    "falcon": (transformers.FalconConfig, modeling_falcon.FalconRotaryEmbedding, modeling_falcon.apply_rotary_pos_emb),
}
for _family in ("mistral", "qwen2", "qwen3", "smollm3", "olmo2", "phi3", "gemma3"):
    BASE[_family] = dict(BASE["llama"], model_type=_family, num_key_value_heads=2)
for _family in ("qwen3", "gemma3"):
    BASE[_family]["head_dim"] = 16
BASE["phi3"]["pad_token_id"] = None
BASE["gemma3"].update(model_type="gemma3_text", num_hidden_layers=2, sliding_window_pattern=2)
for _name, _module, _prefix in (
        ("mistral", modeling_mistral, "Mistral"), ("qwen2", modeling_qwen2, "Qwen2"), ("qwen3", modeling_qwen3, "Qwen3"),
        ("smollm3", modeling_smollm3, "SmolLM3"), ("olmo2", modeling_olmo2, "Olmo2"), ("phi3", modeling_phi3, "Phi3")):
    CLASSES[_name] = (getattr(transformers, _prefix + "Config"), getattr(_module, _prefix + "RotaryEmbedding"),
                      _module.apply_rotary_pos_emb)
CLASSES["gemma3"] = (transformers.Gemma3TextConfig, modeling_gemma3.Gemma3RotaryEmbedding,
                     modeling_gemma3.apply_rotary_pos_emb)
LAYER_TYPES = ("full_attention", "sliding_attention")
TYPES = {
    "default": {},
    "linear": dict(factor=4.0),
    "dynamic": dict(factor=2.5),
    "yarn": dict(factor=4.0),
    "llama3": dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0),
}
YARN = [
    dict(original_max_position_embeddings=16),
    dict(factor=None, original_max_position_embeddings=16),
    dict(attention_factor=1.25),
    dict(attention_factor=None),
    dict(mscale=0.7, mscale_all_dim=1.1),
    dict(mscale=0.7),
    dict(mscale=0.7, mscale_all_dim=0),
    dict(beta_fast=16.0, beta_slow=2.0),
    dict(beta_fast=8, beta_slow=None),
    dict(beta_fast=1.0, beta_slow=1.0),
    dict(truncate=False),
    dict(truncate=None),
    dict(truncate=True),
    dict(truncate=False, beta_fast=4.0, beta_slow=0.5, original_max_position_embeddings=8),
    dict(factor=0.5),
    dict(factor=1.0, mscale=2.0, mscale_all_dim=3.0),
    dict(rope_theta=100.0),
]


def pick(rng, *choices):
    return rng.choice(choices)


def with_settings(rng, changes, parameters, key, top_names, values):
    """Puts a setting at none, one or several of its places, with a value of its own at each."""
    places = [("object", key)] + [("top", name) for name in top_names]
    for place, name in rng.sample(places, min(len(places), pick(rng, 0, 1, 1, 1, 2, 3))):
        (parameters if place == "object" else changes)[name] = rng.choice(values)


def longrope(rng, pairs):
    """The factors of so many pairs, and more settings."""
    grow = rng.choice((1.0, 1.5))
    out = dict(short_factor=[round(1 + grow * i / 10, 3) for i in range(pairs)],
               long_factor=[round(1 + grow * i, 3) for i in range(pairs)])
    for key, values in (("factor", (4.0, 0.5, None)), ("attention_factor", (1.25, None)),
                        ("original_max_position_embeddings", (16, 48))):
        if rng.random() < 0.4:
            out[key] = rng.choice(values)
    return out


def longrope_case(rng, family):
    parameters = {rng.choice(("rope_type", "type")): "longrope"}
    share = rng.choice((1.0, 0.5)) if family in ("phi3", "gpt_neox") else 1.0
    if share != 1 or family == "gpt_neox":
        parameters["partial_rotary_factor"] = share
    parameters.update(longrope(rng, rng.choice((8, 8, 8, 8, 7)) if share == 1 else 4))
    changes = {rng.choice(("rope_scaling", "rope_parameters")): parameters}
    if rng.random() < 0.4:
        changes["original_max_position_embeddings"] = rng.choice((16, 32, 48))
    if family == "phi3" and "type" in parameters and rng.random() < 0.5:
        parameters["type"] = rng.choice(("su", "yarn", "linear"))
    return changes


def gemma_case(rng):
    """Of both types of layers, in the new and the old form."""
    def one():
        kind = rng.choice([*TYPES, "longrope"])
        own = {"rope_type": kind, **(longrope(rng, 8) if kind == "longrope" else TYPES[kind])}
        if rng.random() < 0.5:
            own["rope_theta"] = rng.choice((100.0, 5e5))
        return own

    changes = {}
    if rng.random() < 0.5:
        changes["rope_parameters"] = {name: one() for name in LAYER_TYPES if rng.random() < 0.8}
    else:
        changes["rope_scaling"] = rng.choice((None, one()))
    for key in ("rope_theta", "rope_local_base_freq"):
        if rng.random() < 0.6:
            changes[key] = rng.choice((777.5, 2e4))
    return changes


def random_case(rng):
    changes, parameters = {}, {}
    kind = rng.choice(list(TYPES))
    form = pick(rng, "rope_type", "rope_type", "type", "both", "none")
    if form == "none":
        kind = "default"
    if form in ("rope_type", "both"):
        parameters["rope_type"] = kind
    if form in ("type", "both"):
        parameters["type"] = kind if form == "type" else rng.choice(list(TYPES))
    parameters.update(TYPES[kind])
    with_settings(rng, changes, parameters, "rope_theta", ("rope_theta", "rotary_emb_base"), (100.0, 10000, 5e5, 777.5))
    if rng.random() < 0.5:
        with_settings(rng, changes, parameters, "partial_rotary_factor", ("partial_rotary_factor", "rotary_pct"),
                      (0.25, 0.5, 0.35, 1.0, 0.75))
    if rng.random() < 0.4:
        key = "original_max_position_embeddings"
        with_settings(rng, changes, parameters, key, (key,), (16, 32, 48))
    where = pick(rng, "rope_scaling", "rope_parameters", "rope_scaling", "rope_parameters", "both", "null")
    if where == "null":
        changes[rng.choice(("rope_scaling", "rope_parameters"))] = rng.choice((None, {}))
    elif where == "both":
        other = dict(rope_type="linear", factor=3.0, rope_theta=50.0)
        changes["rope_scaling"] = pick(rng, parameters, other, {})
        changes["rope_parameters"] = other if changes["rope_scaling"] is parameters else parameters
    elif parameters:
        changes[where] = parameters
    return changes


def reading(family, changes, length, rope):
    config_class, embedding_class, apply = CLASSES[family]
    try:
        config = config_class.from_dict(json.loads(json.dumps({**BASE[family], **changes})))
        embedding = embedding_class(config)
        head = torch.zeros(1, 1, length, config.hidden_size // config.num_attention_heads)
        kind = () if rope is None else (LAYER_TYPES[rope],)
        cos, sin = embedding(head, torch.arange(length)[None], *kind)
        apply(head, head, cos, sin)
    except Exception:  # whatever it is: no model of this config runs
        return {"fails": True}
    prefix = "" if rope is None else LAYER_TYPES[rope] + "_"
    values = [float(f"{x:.8g}") for x in getattr(embedding, prefix + "inv_freq").tolist()]
    scaling = getattr(embedding, prefix + "attention_scaling")
    if not all(map(lambda x: x == x, values)):
        return {"fails": True}
    return {"inv_freq": values, "attention_factor": float(f"{scaling:.10g}")}


def cases():
    rng = random.Random(17)
    for family in ("llama", "gpt_neox", "falcon"):
        for length in (1, 64, 65, 150, 4000):
            for factor in (0.5, 1.0, 4.0):
                yield family, {"rope_scaling": {"type": "dynamic", "factor": factor}}, length
        for more in YARN:
            yield family, {"rope_parameters": {"rope_type": "yarn", **TYPES["yarn"], **more}}, 96
        for _ in range(150):
            yield family, random_case(rng), rng.choice((40, 200))
    for family in BASE:
        if family == "gemma3":
            continue
        for _ in range(20):
            yield family, longrope_case(rng, family), rng.choice((10, 33, 60, 200))
        if family in ("llama", "gpt_neox", "falcon"):
            continue
        yield family, {}, 40
        for _ in range(15):
            yield family, random_case(rng), rng.choice((40, 200))
    for _ in range(40):
        changes, length = gemma_case(rng), rng.choice((10, 33, 200))
        for rope in (0, 1):
            yield "gemma3", changes, length, rope


def entry(family, changes, length, rope=None):
    which = {} if rope is None else {"rope": rope}
    return {"family": family, "config": changes, "length": length, **which, **reading(family, changes, length, rope)}


if __name__ == "__main__":
    out = [entry(*case) for case in cases()]
    with open(os.path.join(HERE, "rope.json"), "w") as file:
        lines = ",\n".join(json.dumps(one) for one in out)
        file.write('{"base": ' + json.dumps(BASE) + ',\n"cases": [\n' + lines + "\n]}\n")
    print(len(out), "cases,", sum("fails" in one for one in out), "refused by transformers", transformers.__version__)
