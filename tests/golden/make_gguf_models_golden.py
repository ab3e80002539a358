"""GGUF files of some of the tiny checkpoints in models/, as llama.cpp's converter lays them out, written by the gguf package:
gguf_models/CASE.gguf, for which models/CASE/golden.safetensors has what transformers computes from the folder. Where
transformers reads GGUF of that architecture itself, its logits from the file must be the same.

And gguf_models/blocks.gguf, a llama whose matrices have a different type of blocks each, with gguf_models/blocks.safetensors:
ids and the logits of transformers on the weights that the gguf package de-quantises.

`pip install gguf safetensors transformers torch`, then: python tests/golden/make_gguf_models_golden.py
"""

import json
import math
import os

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

torch.set_grad_enabled(False)
torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "gguf_models")
QUANTS = gguf.GGMLQuantizationType


def pairs(w, n_head):
    """convert_hf_to_gguf.py, LlamaModel.permute"""
    return w.reshape(n_head, 2, w.shape[0] // n_head // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def parts(w, n_kv, group, head_dim):
    """FalconModel and GPTNeoXModel: [kv head][its query heads, key, value] -> queries, keys, values"""
    w = w.reshape(n_kv, group + 2, head_dim, *w.shape[1:])
    rest = w.shape[3:]
    q, k, v = w[:, :-2], w[:, -2], w[:, -1]
    return np.concatenate([x.reshape(-1, *rest) for x in (q, k, v)])


def llama3_factors(config):
    """LlamaModel.generate_extra_tensors"""
    rope = config["rope_parameters"]
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    freqs = 1.0 / (rope["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    out = []
    for freq in freqs:
        wave = 2 * math.pi / freq
        if wave < high:
            out.append(1)
        elif wave > low:
            out.append(rope["factor"])
        else:
            smooth = (rope["original_max_position_embeddings"] / wave - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"])
            out.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def write_llama(w, config, tensors):
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    rope = config.get("rope_parameters") or {"rope_theta": config["rope_theta"], **(config["rope_scaling"] or {})}
    dim = config.get("head_dim") or config["hidden_size"] // heads
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_freq_base(rope["rope_theta"])
    w.add_rope_dimension_count(dim)
    w.add_key_length(dim)
    w.add_value_length(dim)
    kind = rope.get("rope_type") or rope.get("type", "default")
    if kind == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    if kind == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(rope["factor"])
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    yield from renamed(tensors, "model.", "embed_tokens", "norm", "lm_head", names,
                       {"attn_q": lambda x: pairs(x, heads), "attn_k": lambda x: pairs(x, kv)})
    if kind == "llama3":
        yield "rope_freqs.weight", llama3_factors(config)


LLAMA_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
               "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
               "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
               "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}


def write_newer(names=LLAMA_NAMES, changes={}, keys=lambda w, config: None, extra=lambda config: []):
    """Families that came after Llama: not permuted, if `changes` does not say so."""

    def write(w, config, tensors):
        rope = config.get("rope_parameters") or {"rope_theta": config["rope_theta"]}
        w.add_context_length(config["max_position_embeddings"])
        w.add_embedding_length(config["hidden_size"])
        w.add_block_count(config["num_hidden_layers"])
        w.add_feed_forward_length(config["intermediate_size"])
        w.add_head_count(config["num_attention_heads"])
        w.add_head_count_kv(config["num_key_value_heads"])
        w.add_layer_norm_rms_eps(config["rms_norm_eps"])
        w.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
        if config.get("head_dim"):
            w.add_key_length(config["head_dim"])
            w.add_value_length(config["head_dim"])
        keys(w, config)
        bound = {part: (lambda x, change=change: change(x, config)) for part, change in changes.items()}
        for name, value in renamed(tensors, "model.", "embed_tokens", "norm", "lm_head", names, bound):
            if name == "output_norm.weight" and "attn_norm" in bound:
                value = bound["attn_norm"](value)
            yield name, value
        yield from extra(config)

    return write


AFTER = {**LLAMA_NAMES, "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
         "post_feedforward_layernorm": "post_ffw_norm"}
FUSED = {**LLAMA_NAMES, "self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}
PLUS_ONE = {n: lambda x, config: x + 1 for n in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm",
                                                 "attn_q_norm", "attn_k_norm")}
PAIRS = {"attn_q": lambda x, config: pairs(x, config["num_attention_heads"]),
         "attn_k": lambda x, config: pairs(x, config["num_key_value_heads"])}


def phi3_keys(w, config):
    """Phi3MiniModel.set_gguf_parameters and generate_extra_tensors"""
    trained = config["original_max_position_embeddings"]
    scale = config["max_position_embeddings"] / trained
    w.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    w.add_rope_scaling_orig_ctx_len(trained)
    w.add_sliding_window(config["sliding_window"] or 0)
    w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(trained)))


def phi3_factors(config):
    for kind in ("long", "short"):
        yield f"rope_factors_{kind}.weight", np.array(config["rope_scaling"][f"{kind}_factor"], dtype=np.float32)


def write_neox(w, config, tensors):
    heads, dim = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_rope_dimension_count(int(config["rope_parameters"]["partial_rotary_factor"] * dim))
    w.add_head_count(heads)
    w.add_parallel_residual(config["use_parallel_residual"])
    w.add_layer_norm_eps(config["layer_norm_eps"])
    names = {"attention.query_key_value": "attn_qkv", "attention.dense": "attn_output",
             "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down", "input_layernorm": "attn_norm",
             "post_attention_layernorm": "ffn_norm"}
    yield from renamed(tensors, "gpt_neox.", "embed_in", "final_layer_norm", "embed_out", names,
                       {"attn_qkv": lambda x: parts(x, heads, 1, dim)})


def write_gpt2(w, config, tensors):
    w.add_block_count(config["n_layer"])
    w.add_context_length(config["n_positions"])
    w.add_embedding_length(config["n_embd"])
    w.add_feed_forward_length(4 * config["n_embd"])
    w.add_head_count(config["n_head"])
    w.add_layer_norm_eps(config["layer_norm_epsilon"])
    names = {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
             "ln_1": "attn_norm", "ln_2": "ffn_norm"}
    turned = lambda x: x.T if x.ndim == 2 else x
    out = dict(renamed(tensors, "transformer.", "wte", "ln_f", "lm_head", names,
                       {n: turned for n in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")}))
    out["position_embd.weight"] = out.pop("wpe.weight")
    out["output.weight"] = out["token_embd.weight"]  # the converter stores the tied head, too
    yield from out.items()


def write_falcon(w, config, tensors):
    heads = config["num_attention_heads"]
    kv = config["num_kv_heads"] if config["new_decoder_architecture"] else 1
    dim = config["hidden_size"] // heads
    w.add_context_length(config["max_position_embeddings"])
    w.add_tensor_data_layout("jploski")
    w.add_embedding_length(config["hidden_size"])
    w.add_feed_forward_length(config["ffn_hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_layer_norm_eps(config["layer_norm_epsilon"])
    names = {"self_attention.query_key_value": "attn_qkv", "self_attention.dense": "attn_output",
             "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down", "input_layernorm": "attn_norm",
             "ln_mlp": "attn_norm", "ln_attn": "attn_norm_2"}
    yield from renamed(tensors, "transformer.", "word_embeddings", "ln_f", "lm_head", names,
                       {"attn_qkv": lambda x: parts(x, kv, heads // kv, dim)})


def renamed(tensors, prefix, embedding, norm, head, names, changes):
    for name, value in tensors.items():
        value = value.float().numpy()
        name = name.removeprefix(prefix)
        base, ending = name.rsplit(".", 1)
        words = base.split(".", 2)
        if base == embedding:
            out = "token_embd"
        elif base == norm:
            out = "output_norm"
        elif base == head:
            out = "output"
        elif words[0] in ("layers", "h"):
            part = names[words[2]]
            out = f"blk.{words[1]}.{part}"
            value = changes.get(part, lambda x: x)(value)
        else:
            out = base
        yield f"{out}.{ending}", np.ascontiguousarray(value)


WRITERS = {"llama": ("llama", write_llama), "gpt_neox": ("gptneox", write_neox), "gpt2": ("gpt2", write_gpt2),
           "falcon": ("falcon", write_falcon), "qwen2": ("qwen2", write_newer()), "qwen3": ("qwen3", write_newer()),
           "olmo2": ("olmo2", write_newer(AFTER)), "phi3": ("phi3", write_newer(FUSED, keys=phi3_keys, extra=phi3_factors)),
           "smollm3": ("smollm3", write_newer(changes=PAIRS)),
           "gemma3_text": ("gemma3", write_newer(AFTER, PLUS_ONE, lambda w, c: w.add_sliding_window(c["sliding_window"])))}
CASES = ["llama_gqa", "llama_bias", "llama_rope_llama3_new", "neox_parallel", "gpt2", "falcon_7b", "falcon_11b", "falcon_40b", "qwen2",
         "qwen3", "olmo2", "phi3"]


def write_file(path, architecture, vocab_size, metadata, tensors):
    w = gguf.GGUFWriter(path, architecture)
    w.add_name("golden")
    w.add_vocab_size(vocab_size)
    listed = list(metadata(w))
    for name, value in listed + tensors:
        if isinstance(value, tuple):  # (raw bytes, type)
            w.add_tensor(name, value[0], raw_dtype=value[1])
        else:
            w.add_tensor(name, value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def logits_of_file(path, ids, config):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        os.path.dirname(path), gguf_file=os.path.basename(path), config=config, dtype=torch.float32,
        attn_implementation="eager")
    return model.eval()(torch.tensor([ids]), use_cache=False).logits[0]


def make_case(case):
    folder = os.path.join(HERE, "models", case)
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    architecture, writer = WRITERS[config["model_type"]]
    tensors = load_file(os.path.join(folder, "model.safetensors"))
    path = os.path.join(OUT, case + ".gguf")
    write_file(path, architecture, config["vocab_size"], lambda w: writer(w, config, tensors), [])
    golden = load_file(os.path.join(folder, "golden.safetensors"))
    if case in ("llama_gqa", "gpt2", "falcon_7b"):
        logits = logits_of_file(path, golden["ids"].tolist(), transformers.AutoConfig.from_pretrained(folder))[golden["rows"].long()]
        print(case, "as transformers reads the file:", (logits - golden["logits_full"]).abs().max().item())


# --- Blocks of many types ---

SCALES = {"Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "Q4_1": [0, 2], "Q5_0": [0],
          "Q5_1": [0, 2], "IQ4_NL": [0], "Q8_0": [0], "Q4_0": [0]}  # fmt: skip
TYPES = {"attn_q": "Q4_K", "attn_k": "Q5_K", "attn_v": "Q6_K", "attn_output": "Q3_K", "ffn_gate": "Q4_1",
         "ffn_up": "Q5_0", "ffn_down": "Q2_K", "token_embd": "Q8_0", "output": "Q6_K"}  # fmt: skip


def random_blocks(name, rows, columns, rng):
    """Blocks whose values have a spread of about .06."""
    elements, size = gguf.GGML_QUANT_SIZES[QUANTS[name]]
    blocks = rng.integers(0, 256, (rows * columns // elements, size)).astype(np.uint8)
    trial = blocks.copy()
    for place in SCALES[name]:
        trial[:, place : place + 2] = np.float16([1.0]).view(np.uint8)
    spread = gguf.quants.dequantize(trial, QUANTS[name]).std()
    scale = 0.06 / spread * (1 + rng.random(len(blocks)))
    for place in SCALES[name]:
        blocks[:, place : place + 2] = scale.astype(np.float16)[:, None].view(np.uint8)
    return blocks.reshape(rows, -1)


def make_new(name, config):
    """A model for which no golden checkpoint has the pattern of layers that GGUF takes for granted."""
    torch.manual_seed(len(name))
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        matrix = parameter.dim() == 2
        mean = 0.0 if matrix or name == "gemma3" else 1.0
        parameter.copy_(mean + torch.randn_like(parameter) * (0.3 if matrix else 0.1))
    tensors = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight" or not config.tie_word_embeddings}
    settings = config.to_dict()
    architecture, writer = WRITERS[settings["model_type"]]
    write_file(os.path.join(OUT, name + ".gguf"), architecture, settings["vocab_size"],
               lambda w: writer(w, settings, tensors), [])
    ids = torch.randint(0, config.vocab_size, (48,))
    logits = model(ids[None], use_cache=False).logits[0]
    print(name, "logits std", logits.std().item())
    save_file({"ids": ids.int(), "logits": logits.contiguous()}, os.path.join(OUT, name + ".safetensors"))


SMALL = dict(vocab_size=64, hidden_size=16, intermediate_size=24, num_attention_heads=2, num_key_value_heads=1,
             max_position_embeddings=128, bos_token_id=None, eos_token_id=None, pad_token_id=None)


def make_new_models():
    make_new("gemma3", transformers.Gemma3TextConfig(
        **SMALL, num_hidden_layers=7, head_dim=12, query_pre_attn_scalar=12, sliding_window=14,
        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}))
    make_new("smollm3", transformers.SmolLM3Config(
        **SMALL, num_hidden_layers=5, rope_parameters={"rope_type": "default", "rope_theta": 5000000.0}))


def make_blocks():
    config = dict(num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, hidden_size=256,
                  num_hidden_layers=1, intermediate_size=256, rms_norm_eps=1e-5, vocab_size=80, head_dim=64,
                  rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                                   "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})
    rng = np.random.default_rng(7)
    rows = {"attn_k": 128, "attn_v": 128, "token_embd": 80, "output": 80}
    tensors, weights = [], {}
    for part, kind in TYPES.items():
        name = part if part in ("token_embd", "output") else f"blk.0.{part}"
        blocks = random_blocks(kind, rows.get(part, 256), 256, rng)
        tensors.append((name + ".weight", (blocks, QUANTS[kind])))
        weights[part] = gguf.quants.dequantize(blocks, QUANTS[kind]).astype(np.float32)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        tensors.append((name + ".weight", (1 + 0.1 * rng.standard_normal(256)).astype(np.float32)))
    path = os.path.join(OUT, "blocks.gguf")
    write_file(path, "llama", config["vocab_size"], lambda w: write_llama(w, config, {}), tensors)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        OUT, gguf_file="blocks.gguf", dtype=torch.float32, attn_implementation="eager").eval()
    hf = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config, tie_word_embeddings=False)).eval()
    hf.load_state_dict(model.state_dict())  # (rope_freqs is not read by transformers: the config has its settings)
    expected = torch.from_numpy(weights["attn_v"])
    assert torch.equal(hf.model.layers[0].self_attn.v_proj.weight, expected)
    ids = torch.from_numpy(rng.integers(0, 80, 48))
    logits = hf(ids[None], use_cache=False).logits[0]
    print("blocks: logits std", logits.std().item(), "without rope_freqs",
          (model(ids[None], use_cache=False).logits[0] - logits).abs().max().item())
    save_file({"ids": ids.int(), "logits": logits.contiguous()}, os.path.join(OUT, "blocks.safetensors"))


def main():
    os.makedirs(OUT, exist_ok=True)
    for case in CASES:
        make_case(case)
    make_blocks()
    make_new_models()


if __name__ == "__main__":
    main()
