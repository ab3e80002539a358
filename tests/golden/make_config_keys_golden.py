"""The keys of every family's configuration class in transformers, with their defaults, and the older keys that such a
class converts: config_keys.json. config_keys_test.cc asks of each key whether the program reads it; one that it does
not read must be known to change no number. Run:  python tests/golden/make_config_keys_golden.py
"""

import json
import os

import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
CLASSES = {
    "llama": transformers.LlamaConfig,
    "gpt_neox": transformers.GPTNeoXConfig,
    "gpt2": transformers.GPT2Config,
    "falcon": transformers.FalconConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "gemma3": transformers.Gemma3TextConfig,
    "phi3": transformers.Phi3Config,
    "smollm3": transformers.SmolLM3Config,
    "olmo2": transformers.Olmo2Config,
}
# What transformers takes from a config.json without a field of that name.
OLDER = {
    "": ["rope_scaling", "rope_theta"],
    "gpt2": [],
    "gpt_neox": ["rope_scaling", "rotary_emb_base", "rotary_pct"],
    "gemma3": ["rope_scaling", "rope_theta", "rope_local_base_freq", "sliding_window_pattern"],
    "phi3": ["rope_scaling", "rope_theta", "partial_rotary_factor"],
}


def plain(value):
    return value if isinstance(value, (int, float, str, bool, list, dict, type(None))) else None


if __name__ == "__main__":
    general = set(transformers.PreTrainedConfig.__dataclass_fields__)
    out = {"transformers": transformers.__version__, "families": {}}
    for family, config_class in CLASSES.items():
        fields = config_class.__dataclass_fields__
        keys = {name: plain(field.default) for name, field in fields.items() if name not in general}
        for name in OLDER.get(family, OLDER[""]):
            keys[name] = None
        out["families"][family] = keys
    with open(os.path.join(HERE, "config_keys.json"), "w") as f:
        json.dump(out, f, indent=1)
        f.write("\n")
