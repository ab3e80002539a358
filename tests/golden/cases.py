"""The tiny checkpoints: one per family and variant that the readers must know. Each entry gives a transformers
configuration and what is then changed by hand to look like checkpoints found in the wild."""

import dataclasses
import json
import os
import shutil

import torch
import transformers
from safetensors.torch import load_file, save_file


@dataclasses.dataclass
class Case:
    name: str
    config: object  # transformers configuration
    dtype: torch.dtype = torch.float32  # as stored
    shard_size: str = "5GB"
    base_model: bool = False  # save without the head and without the base model's name prefix
    edit_config: object = None  # function(dict of config.json), in place
    add_tensors: object = None  # function() -> more tensors: buffers that old checkpoints carry
    edit_tensors: object = None  # function(dict of the tensors), in place


def _common(**settings):
    return dict(bos_token_id=None, eos_token_id=None, pad_token_id=None, **settings)


def llama(**changes):
    settings = dict(vocab_size=96, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
                    num_key_value_heads=4, max_position_embeddings=128, rms_norm_eps=1e-5,
                    rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    settings.update(changes)
    return transformers.LlamaConfig(**_common(**settings))


def neox(rotary, **changes):
    settings = dict(vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
                    max_position_embeddings=128, use_parallel_residual=True, tie_word_embeddings=False,
                    rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": rotary})
    settings.update(changes)
    return transformers.GPTNeoXConfig(**_common(**settings))


def gpt2(**changes):
    settings = dict(vocab_size=95, n_embd=32, n_layer=3, n_head=4, n_positions=112, n_inner=None)
    settings.update(changes)
    return transformers.GPT2Config(**_common(**settings))


def falcon(**changes):
    settings = dict(vocab_size=96, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, ffn_hidden_size=64,
                    max_position_embeddings=128, multi_query=True, parallel_attn=True, bias=False, alibi=False,
                    new_decoder_architecture=False)
    if not changes.get("alibi"):
        settings["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}
    settings.update(changes)
    return transformers.FalconConfig(**_common(**settings))


def after_llama(config_class, **changes):
    """A small model of a family that came after Llama."""
    settings = dict(vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
                    num_key_value_heads=1, max_position_embeddings=128, rms_norm_eps=1e-5,
                    rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    settings.update(changes)
    return config_class(**_common(**settings))


LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}


def old_rope(config):
    """The form before transformers 5: rope_theta at the top, rope_scaling next to it, torch_dtype."""
    new = config.pop("rope_parameters")
    config["rope_theta"] = new.pop("rope_theta")
    config["rope_scaling"] = None if new["rope_type"] == "default" else new
    config["torch_dtype"] = config.pop("dtype")


def old_linear_rope(config):
    """The oldest form: "type" instead of "rope_type", head_dim and biases not mentioned."""
    old_rope(config)
    config["rope_scaling"] = {"type": "linear", "factor": config["rope_scaling"]["factor"]}
    for key in ("head_dim", "attention_bias", "mlp_bias"):
        config.pop(key)


def old_neox(config):
    """As Pythia's config.json: rotary_pct and rotary_emb_base."""
    new = config.pop("rope_parameters")
    config["rotary_pct"] = new["partial_rotary_factor"]
    config["rotary_emb_base"] = int(new["rope_theta"])
    config["torch_dtype"] = config.pop("dtype")
    config.pop("attention_bias")


def old_falcon(config):
    """As Falcon-7B's config.json: no ffn_hidden_size (four times the hidden size), no rope settings, no tie flag."""
    config["torch_dtype"] = config.pop("dtype")
    for key in ("ffn_hidden_size", "rope_parameters", "tie_word_embeddings", "num_ln_in_parallel_attn",
                "activation"):
        config.pop(key, None)


def neox_buffers():
    extra = {}
    for i in range(3):
        extra[f"gpt_neox.layers.{i}.attention.bias"] = torch.tril(torch.ones(1, 1, 4, 4, dtype=torch.bool))
        extra[f"gpt_neox.layers.{i}.attention.masked_bias"] = torch.tensor(-1e9)
        extra[f"gpt_neox.layers.{i}.attention.rotary_emb.inv_freq"] = torch.tensor([1.0, 0.1])
    return extra


def gpt2_buffers():
    return {f"h.{i}.attn.bias": torch.tril(torch.ones(1, 1, 4, 4)) for i in range(3)}


def old_gemma(config):
    """As Gemma 3's config.json: a pattern of layers, the two bases at the top level."""
    new = config.pop("rope_parameters")
    config["rope_theta"] = new["full_attention"].pop("rope_theta")
    config["rope_local_base_freq"] = new["sliding_attention"]["rope_theta"]
    config["rope_scaling"] = new["full_attention"] if new["full_attention"]["rope_type"] != "default" else None
    config["sliding_window_pattern"] = 2
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types")


def old_phi(config):
    """As Phi-3's config.json: rope_scaling with the older key "type"."""
    old_rope(config)
    if config["rope_scaling"]:
        config["rope_scaling"]["type"] = config["rope_scaling"].pop("rope_type")


def old_qwen(config):
    """As Qwen2.5's config.json: no layer_types, a window that is not used."""
    old_rope(config)
    config.pop("rope_scaling")
    config.pop("layer_types")
    config["sliding_window"] = 32


def llama_buffers():
    frequencies = torch.tensor([1.0, 0.1, 0.01, 0.001])
    return {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": frequencies.clone() for i in range(3)}


# A smaller one, for what is the same in all sizes.
TINY = dict(vocab_size=64, hidden_size=16, intermediate_size=24, num_attention_heads=2, num_key_value_heads=1)
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32,
        "beta_fast": 16.0, "mscale": 1.5, "mscale_all_dim": 0.5}
PLAIN_YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 3.0}


LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.1, 1.3, 1.6],
            "long_factor": [1.0, 2.0, 4.0, 7.0]}
GEMMA = dict(num_hidden_layers=4, head_dim=12, sliding_window=14, query_pre_attn_scalar=9)


def another_head(name):
    """A head of its own in addition to the token embedding that config.json ties it to."""
    def edit(tensors):
        embedding = next(n for n in tensors if "embed" in n)
        tensors[name] = tensors[embedding].flip(1).contiguous()
    return edit


def only_the_head(tensors):
    """What torch.save of a tied model may keep."""
    tensors["lm_head.weight"] = tensors.pop("transformer.word_embeddings.weight")


CASES = [
    Case("llama_mha", llama()),
    Case("llama_gqa", llama(num_key_value_heads=2, head_dim=12, intermediate_size=48)),
    Case("llama_tied", llama(num_key_value_heads=1, tie_word_embeddings=True)),
    Case("llama_bias", llama(attention_bias=True, mlp_bias=True, num_key_value_heads=2)),
    Case("llama_rope_llama3_old", llama(rope_parameters=dict(LLAMA3)), edit_config=old_rope),
    Case("llama_rope_llama3_new", llama(rope_parameters=dict(LLAMA3), num_key_value_heads=2)),
    Case("llama_rope_linear_old", llama(rope_parameters=dict(LINEAR)), edit_config=old_linear_rope,
         add_tensors=llama_buffers),
    Case("llama_rope_linear_new", llama(rope_parameters=dict(LINEAR), num_key_value_heads=2)),
    Case("llama_bf16", llama(vocab_size=97), dtype=torch.bfloat16),
    Case("llama_f16", llama(vocab_size=95, num_key_value_heads=2), dtype=torch.float16, edit_config=old_rope),
    Case("llama_sharded", llama(num_key_value_heads=2), shard_size="55KB"),
    Case("neox_parallel", neox(0.25)),
    Case("neox_sequential", neox(0.25, use_parallel_residual=False), edit_config=old_neox,
         add_tensors=neox_buffers),
    Case("neox_full_rotary", neox(1.0, num_attention_heads=4)),
    Case("neox_no_bias", neox(0.25, attention_bias=False)),
    Case("gpt2", gpt2(n_embd=24, n_head=3)),
    Case("gpt2_inner", gpt2(n_inner=56)),
    Case("gpt2_no_prefix", gpt2(n_inner=40), base_model=True, add_tensors=gpt2_buffers),
    Case("falcon_7b", falcon()),
    Case("falcon_7b_old", falcon(hidden_size=24, num_attention_heads=3, ffn_hidden_size=96), edit_config=old_falcon),
    Case("falcon_40b", falcon(new_decoder_architecture=True, num_kv_heads=2)),
    Case("falcon_11b", falcon(new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1,
                              tie_word_embeddings=False, vocab_size=97)),
    Case("falcon_rw", falcon(alibi=True, bias=True, multi_query=False, parallel_attn=False)),
    Case("falcon_rw_6_heads", falcon(alibi=True, bias=True, multi_query=False, parallel_attn=False, hidden_size=36,
                                     num_attention_heads=6, ffn_hidden_size=48, vocab_size=95)),
    Case("llama_rope_yarn", llama(rope_parameters=dict(YARN), **TINY), edit_config=old_rope),
    Case("llama_rope_dynamic", llama(rope_parameters=dict(DYNAMIC), **{**TINY, "max_position_embeddings": 80})),
    Case("llama_f64", llama(**TINY), dtype=torch.float64),
    Case("llama_tied_differs", llama(**TINY, tie_word_embeddings=True), edit_tensors=another_head("lm_head.weight")),
    Case("neox_rope_yarn", neox(0.5, intermediate_size=32, tie_word_embeddings=True,
                                rope_parameters={**PLAIN_YARN, "partial_rotary_factor": 0.5}),
         edit_tensors=another_head("embed_out.weight")),
    Case("gpt2_layer_scale", gpt2(vocab_size=64, n_embd=16, n_head=2, scale_attn_by_inverse_layer_idx=True,
                                  reorder_and_upcast_attn=True)),
    Case("gpt2_no_scale", gpt2(vocab_size=64, n_embd=16, n_head=2, scale_attn_weights=False)),
    Case("falcon_only_head", falcon(vocab_size=64, hidden_size=16, num_attention_heads=2, ffn_hidden_size=24),
         edit_tensors=only_the_head),
    Case("mistral", after_llama(transformers.MistralConfig, sliding_window=20, head_dim=12)),
    Case("mistral_full", after_llama(transformers.MistralConfig, sliding_window=None), edit_config=old_rope),
    Case("qwen2", after_llama(transformers.Qwen2Config, tie_word_embeddings=True), edit_config=old_qwen),
    Case("qwen2_windows", after_llama(transformers.Qwen2Config, use_sliding_window=True, sliding_window=13,
                                      max_window_layers=2, num_key_value_heads=2,
                                      rope_parameters=dict(PLAIN_YARN))),
    Case("qwen3", after_llama(transformers.Qwen3Config, head_dim=12, tie_word_embeddings=True)),
    Case("qwen3_windows", after_llama(transformers.Qwen3Config, head_dim=8, attention_bias=True,
                                      use_sliding_window=True, sliding_window=17,
                                      layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
    Case("gemma3", after_llama(transformers.Gemma3TextConfig, **GEMMA, vocab_size=96,
                               layer_types=["sliding_attention", "full_attention", "full_attention",
                                            "sliding_attention"],
                               rope_parameters={
                                   "full_attention": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                                                      "original_max_position_embeddings": 32},
                                   "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}})),
    Case("gemma3_old", after_llama(transformers.Gemma3TextConfig, **GEMMA, sliding_window_pattern=2,
                                   rope_parameters={
                                       "full_attention": {"rope_type": "linear", "rope_theta": 10000.0,
                                                          "factor": 8.0},
                                       "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}}),
         edit_config=old_gemma),
    Case("phi3", after_llama(transformers.Phi3Config, original_max_position_embeddings=80,
                             rope_parameters=dict(LONGROPE)), edit_config=old_phi),
    Case("phi3_short", after_llama(transformers.Phi3Config, original_max_position_embeddings=100,
                                   max_position_embeddings=400, hidden_size=24, num_attention_heads=3,
                                   num_key_value_heads=3,
                                   rope_parameters={**LONGROPE, "partial_rotary_factor": 0.75, "short_factor":
                                                    [1.0, 1.1, 1.3], "long_factor": [1.0, 2.0, 4.0]})),
    Case("phi3_windows", after_llama(transformers.Phi3Config, sliding_window=25)),
    Case("smollm3", after_llama(transformers.SmolLM3Config, vocab_size=96, no_rope_layers=[1, 0, 1], tie_word_embeddings=True)),
    Case("smollm3_windows", after_llama(transformers.SmolLM3Config, no_rope_layer_interval=2,
                                        use_sliding_window=True, sliding_window=15, attention_bias=True,
                                        mlp_bias=True)),
    Case("olmo2", after_llama(transformers.Olmo2Config, num_attention_heads=4, num_key_value_heads=2)),
    Case("olmo2_bias", after_llama(transformers.Olmo2Config, attention_bias=True, num_key_value_heads=2,
                                   tie_word_embeddings=True, rope_parameters=dict(LLAMA3))),
]


FINAL_NORMS = ("model.norm.weight", "gpt_neox.final_layer_norm.weight", "transformer.ln_f.weight")


def _randomise(model, seed):
    """Weights of a scale at which attention is neither uniform nor one-hot and logits differ by units, yet rounding
    in float32 stays far below 1e-4; with norms and biases that are no identities."""
    linear_std = 0.16 if model.config.model_type == "llama" else 0.2
    offset = 1.0 if model.config.model_type == "gemma3_text" else 0.0  # norms multiply by 1 + their weights
    generator = torch.Generator().manual_seed(seed)
    draw = lambda tensor, std: torch.randn(tensor.shape, generator=generator) * std
    for name, parameter in sorted(model.named_parameters()):
        is_norm = "norm" in name or ".ln_" in name
        if is_norm and name.endswith("weight"):
            parameter.data = 1.0 + draw(parameter, 0.2)
            if name in FINAL_NORMS:  # signs: else a model with tied embeddings says its last token again and again
                parameter.data *= torch.sign(draw(parameter, 1.0))
            parameter.data -= offset
        elif parameter.ndim == 1:
            parameter.data = draw(parameter, 0.2)
        elif "wpe" in name:
            parameter.data = draw(parameter, 0.4)
        elif "embed" in name or "wte" in name or "head" in name:
            parameter.data = draw(parameter, 0.4 if offset == 0 else 0.25)
        else:
            parameter.data = draw(parameter, linear_std)


def save_case(case, seed, folder):
    """Writes config.json and the weights of `case` into `folder`, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    model = transformers.AutoModelForCausalLM.from_config(case.config, attn_implementation="eager")
    _randomise(model, seed)
    model.tie_weights()
    model = model.to(case.dtype)
    (model.base_model if case.base_model else model).save_pretrained(folder, max_shard_size=case.shard_size)
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)
    if case.add_tensors:
        path = os.path.join(folder, "model.safetensors")
        save_file({**load_file(path), **case.add_tensors()}, path, metadata={"format": "pt"})
    if case.edit_tensors:
        path = os.path.join(folder, "model.safetensors")
        tensors = load_file(path)
        case.edit_tensors(tensors)
        save_file(tensors, path, metadata={"format": "pt"})
    if case.edit_config:
        path = os.path.join(folder, "config.json")
        with open(path) as f:
            config = json.load(f)
        case.edit_config(config)
        with open(path, "w") as f:
            json.dump(config, f, indent=2, sort_keys=True)
            f.write("\n")
