"""How transformers reads the rotary settings of a config.json, over a matrix of the places and forms in which they may
stand (transformers 4 and 5, rope_scaling and rope_parameters, the top level, old and new names) and of the types, for
every family with rotary positions. Run:  python tests/golden/make_rope_golden.py

Writes rope.json: `base`, a tiny config of each family, and `cases`: `family`, `config` (what is added to the base),
`length` of the text, and what the family's own rotary embedding makes of it: `inv_freq` and `attention_factor`, or `fails`: transformers refuses the
config, or cannot rotate its heads by it.
"""

import json
import os
import random

import torch
import transformers
from transformers.models.falcon import modeling_falcon
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama

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


def reading(family, changes, length):
    config_class, embedding_class, apply = CLASSES[family]
    try:
        config = config_class.from_dict(json.loads(json.dumps({**BASE[family], **changes})))
        embedding = embedding_class(config)
        head = torch.zeros(1, 1, length, config.hidden_size // config.num_attention_heads)
        cos, sin = embedding(head, torch.arange(length)[None])
        apply(head, head, cos, sin)
    except Exception:  # whatever it is: no model of this config runs
        return {"fails": True}
    values = [float(f"{x:.8g}") for x in embedding.inv_freq.tolist()]
    if not all(map(lambda x: x == x, values)):
        return {"fails": True}
    return {"inv_freq": values, "attention_factor": float(f"{embedding.attention_scaling:.10g}")}


def cases():
    rng = random.Random(17)
    for family in BASE:
        for length in (1, 64, 65, 150, 4000):
            for factor in (0.5, 1.0, 4.0):
                yield family, {"rope_scaling": {"type": "dynamic", "factor": factor}}, length
        for more in YARN:
            yield family, {"rope_parameters": {"rope_type": "yarn", **TYPES["yarn"], **more}}, 96
        for _ in range(150):
            yield family, random_case(rng), rng.choice((40, 200))


if __name__ == "__main__":
    out = [{"family": f, "config": c, "length": n, **reading(f, c, n)} for f, c, n in cases()]
    with open(os.path.join(HERE, "rope.json"), "w") as file:
        lines = ",\n".join(json.dumps(entry) for entry in out)
        file.write('{"base": ' + json.dumps(BASE) + ',\n"cases": [\n' + lines + "\n]}\n")
    print(len(out), "cases,", sum("fails" in entry for entry in out), "refused by transformers", transformers.__version__)
