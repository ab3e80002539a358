import json
import pathlib
import signal
import struct
import subprocess

import numpy as np
import pytest

import sepllm

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "sepllm-5m"
TEXT = (ROOT / "apps" / "alice.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Jobs that a shell starts in the background ignore SIGINT, and Python leaves it so: tests of Ctrl-C would wait for ever."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def path():
    if not MODEL.exists():
        pytest.skip("models/sepllm-5m is not in this checkout")
    return MODEL


@pytest.fixture(scope="session")
def model(path):
    return sepllm.Model.load(path, threads=2)


@pytest.fixture(scope="session")
def ids(model):
    return model.tokenizer.encode(TEXT)[:600]


@pytest.fixture(scope="session")
def program():
    """Runs the program that is in the package."""

    def run(*arguments):
        program = pathlib.Path(sepllm.__file__).parent / "bin" / "sepllm"
        return subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, text=True).stdout

    return run


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A random Llama of 50,000 weights without a tokenizer: quick to load."""
    hidden, heads, inner, vocab, layers = 32, 4, 48, 256, 2
    folder = tmp_path_factory.mktemp("tiny")
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden, "num_attention_heads": heads,
              "num_key_value_heads": heads, "intermediate_size": inner, "num_hidden_layers": layers, "vocab_size": vocab,
              "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
              "tie_word_embeddings": False, "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,), "lm_head.weight": (vocab, hidden)}
    for layer in range(layers):
        name = f"model.layers.{layer}."
        shapes |= {name + f"self_attn.{x}_proj.weight": (hidden, hidden) for x in "qkvo"}
        shapes |= {name + f"mlp.{x}_proj.weight": (inner, hidden) for x in ("gate", "up")}
        shapes |= {name + "mlp.down_proj.weight": (hidden, inner)}
        shapes |= {name + f"{x}_layernorm.weight": (hidden,) for x in ("input", "post_attention")}
    header, data, generator = {}, [], np.random.default_rng(0)
    for name, shape in shapes.items():
        values = np.ones(shape) if len(shape) == 1 else generator.standard_normal(shape) * 0.2
        begin = sum(map(len, data))
        data.append(values.astype(np.float32).tobytes())
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, begin + len(data[-1])]}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
    return folder
