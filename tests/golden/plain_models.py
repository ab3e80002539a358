"""A plain decoder in float64, written from the model papers and the checkpoint layouts, for the oracles here.

It shares no code with transformers and none with the project: it reads config.json and the safetensors files itself,
splits fused QKV matrices into one matrix per role, and works one query at a time or with a mask over the whole
sequence. Slow and meant for reading.
"""

import json
import math
import os

import torch
from safetensors.torch import load_file

torch.set_grad_enabled(False)


def read_tensors(folder):
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index) as f:
            files = sorted(set(json.load(f)["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    tensors = {}
    for name in files:
        tensors.update(load_file(os.path.join(folder, name)))
    return {name: tensor.double() for name, tensor in tensors.items()}


def yarn(frequencies, dim, theta, scaling):
    """YaRN's frequencies and what cos and sin are multiplied by. A frequency that turns beta_fast times over the trained
    length or more often is kept, one that turns beta_slow times or less is divided by the factor; in between goes a
    ramp over their numbers."""
    trained, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    number = lambda turns: dim * math.log(trained / (2 * math.pi * turns)) / (2 * math.log(theta))
    first, last = number(scaling.get("beta_fast", 32)), number(scaling.get("beta_slow", 1))
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    share = ((torch.arange(len(frequencies)).double() - first) / (last - first)).clamp(0, 1)
    grown = lambda weight: 1 + 0.1 * weight * math.log(factor)
    both = scaling.get("mscale") and scaling.get("mscale_all_dim")
    attention = grown(scaling["mscale"]) / grown(scaling["mscale_all_dim"]) if both else grown(1)
    return frequencies * (1 - share) + frequencies / factor * share, scaling.get("attention_factor", attention)


def rope_frequencies(dim, theta, scaling):
    """Radians per position of each rotated pair; `scaling` as in HF's rope_scaling / rope_parameters, or {}."""
    frequencies = torch.tensor([theta ** (-2.0 * i / dim) for i in range(dim // 2)], dtype=torch.float64)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind in ("default", "dynamic", "yarn", "longrope"):  # of the last three: what they begin with
        return frequencies
    if kind == "linear":
        return frequencies / scaling["factor"]
    assert kind == "llama3", kind
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    scaled = []
    for f in frequencies.tolist():
        turns = scaling["original_max_position_embeddings"] * f / (2 * math.pi)  # over the original context
        if turns > high:
            scaled.append(f)
        elif turns < low:
            scaled.append(f / scaling["factor"])
        else:
            blend = (turns - low) / (high - low)
            scaled.append((1 - blend) * f / scaling["factor"] + blend * f)
    return torch.tensor(scaled, dtype=torch.float64)


class Rotary:
    """One rope: radians per position of each rotated pair for a text of some length, and what cos and sin are
    multiplied by. `scaling`: as in HF's rope_scaling / rope_parameters, or {}."""

    def __init__(self, dim, theta, scaling, config):
        self.frequencies, self.factor = rope_frequencies(dim, theta, scaling), 1.0
        self.stretch = None  # dynamic: function(length of the text) -> by how much the frequencies shrink
        self.long = None  # longrope: (trained length, the frequencies of longer texts)
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        if kind == "yarn":
            self.frequencies, self.factor = yarn(self.frequencies, dim, theta, scaling)
        if kind == "dynamic":
            trained, factor = config["max_position_embeddings"], scaling["factor"]
            numbers = torch.arange(dim // 2).double()
            base = lambda n: theta * (factor * n / trained - (factor - 1)) ** (dim / (dim - 2))
            self.stretch = lambda n: (base(max(n, trained)) / theta) ** (-2 * numbers / dim)
        if kind == "longrope":
            trained = config.get("original_max_position_embeddings", scaling.get("original_max_position_embeddings"))
            divide = lambda key: self.frequencies / torch.tensor(scaling[key], dtype=torch.float64)
            self.long = trained, divide("long_factor")
            grown = scaling.get("factor") or config["max_position_embeddings"] / trained
            if grown > 1:
                self.factor = math.sqrt(1 + math.log(grown) / math.log(trained))
            self.factor = scaling.get("attention_factor") or self.factor
            self.frequencies = divide("short_factor")

    def angles(self, positions, length=0):
        """[positions, pairs]; `length`: of the whole text."""
        frequencies = self.frequencies
        if self.stretch is not None:
            frequencies = frequencies * self.stretch(length)
        if self.long is not None and length > self.long[0]:
            frequencies = self.long[1]
        return torch.as_tensor(positions, dtype=torch.float64)[:, None] * frequencies

    def turn(self, x, positions, length=0):
        """x: [n, heads, d], one position for each of the n."""
        return rotate(x, self.angles(positions, length)[:, None, :], self.factor)


def alibi_slopes(heads):
    """The ALiBi paper's slopes; for a number of heads that is no power of two, every other one of twice the power
    below it fills up."""
    power = 2 ** int(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    slopes += [2.0 ** (-8.0 * (i + 1) / (2 * power)) for i in range(0, 2 * (heads - power), 2)]
    return torch.tensor(slopes, dtype=torch.float64)


def rotate(x, angles, factor=1.0):
    """x: [..., d], angles: [..., r/2] broadcast against it: pairs (x_i, x_{i + r/2}) of the first r dims turn, and grow by
    the factor."""
    half = angles.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = factor * torch.cos(angles), factor * torch.sin(angles)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


class PlainModel:
    def __init__(self, folder):
        with open(os.path.join(folder, "config.json")) as f:
            self.config = json.load(f)
        self.tensors = read_tensors(folder)
        self.family = self.config["model_type"]
        self.rotaries = None  # rotary: a Rotary for each layer, or None for a layer that does not rotate
        self.slopes = None  # ALiBi
        self.position_table = None  # learned
        self.rms = False
        self.windows = None  # each layer's own sliding window in tokens, the query's own included; 0: none
        self.norm_offset = 0.0  # norms multiply by their weights plus this
        self.embedding_scale = 1.0
        self.row_norms = False  # norms of queries and keys are of all heads together, not of each head
        self.layer_scales = None  # of the scores in each layer; None: 1 / sqrt(head_dim)
        getattr(self, "_load_" + self.family)()
        self.windows = self.windows or [0] * len(self.layers)
        self.rotaries = self.rotaries or [None] * len(self.layers)

    # -- loading: each family fills the same fields ---------------------------------------------------------------

    def _find(self, prefix, name):
        for full in (prefix + name, name):
            if full in self.tensors:
                return self.tensors[full]
        return None

    def _linear(self, prefix, name, transposed=False):
        weight = self._find(prefix, name + ".weight")
        return (weight.T if transposed else weight), self._find(prefix, name + ".bias")

    def _norm(self, prefix, name):
        return self._find(prefix, name + ".weight"), self._find(prefix, name + ".bias")

    def _rope_settings(self, theta_key):
        """(theta, scaling, partial) from either form of config.json."""
        c = self.config
        new = c.get("rope_parameters") or {}
        old = c.get("rope_scaling") or {}
        theta = new.get("rope_theta", c.get(theta_key, 10000.0))
        return theta, (new if new else old), new.get("partial_rotary_factor", c.get("rotary_pct", 1.0))

    def _set_rotary(self, theta_key, share=False):
        theta, scaling, partial = self._rope_settings(theta_key)
        dim = int(self.head_dim * (partial if share else 1))
        layers = self.config.get("num_hidden_layers", self.config.get("n_layer"))
        self.rotaries = [Rotary(dim, theta, scaling, self.config)] * layers

    def _set_tables(self, embedding, head, tied):
        """The checkpoint counts more than the config: of tied tables one may be missing, and two that differ are both
        used."""
        prefix = embedding.split(".")[0] + "."
        if tied and embedding not in self.tensors and head in self.tensors:
            self.tensors[embedding] = self.tensors.pop(head)
        self.embedding = self._find(prefix, embedding[len(prefix):])
        both = head in self.tensors
        differ = both and not torch.equal(self.tensors[head], self.embedding)
        self.head = self.tensors[head] if differ or not tied else self.embedding

    def _split(self, fused, order):
        """Rows of a fused QKV matrix (weight, bias) by head: order(kind, head) -> number of the block of head_dim
        rows."""
        weight, bias = fused
        d = self.head_dim
        out = {}
        for kind, count in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads)):
            rows = torch.tensor([order(kind, h) * d + i for h in range(count) for i in range(d)])
            out[kind] = (weight[rows], None if bias is None else bias[rows])
        return out

    def _mlp(self, up, down, activation, gate=None):
        def run(x):
            inner = activation(self._apply(gate or up, x))
            return self._apply(down, inner * self._apply(up, x) if gate else inner)

        return run

    def _load_llama(self, norms=("input_layernorm", "post_attention_layernorm", None, None), fused=False,
                    activation=torch.nn.functional.silu):
        """Also the families after it. norms: the names of the norms before attention, before the MLP, after attention,
        after the MLP, or None; fused: one matrix for queries, keys and values, and one for gate and up."""
        c, p = self.config, "model."
        self.hidden, self.heads = c["hidden_size"], c["num_attention_heads"]
        self.kv_heads = c.get("num_key_value_heads") or self.heads
        self.head_dim = c.get("head_dim") or self.hidden // self.heads
        self.eps, self.rms, self.block = c["rms_norm_eps"], True, "sequential"
        self._set_rotary("rope_theta", share=fused)
        self._set_tables("model.embed_tokens.weight", "lm_head.weight", c.get("tie_word_embeddings", False))
        self.final_norm = self._norm(p, "norm")
        self.layers = []
        for i in range(c["num_hidden_layers"]):
            l = f"layers.{i}."
            down = self._linear(p, l + "mlp.down_proj")
            if fused:
                both, _ = self._linear(p, l + "mlp.gate_up_proj")
                gate, up = (both[: len(both) // 2], None), (both[len(both) // 2 :], None)
                order = lambda kind, h: {"q": 0, "k": self.heads, "v": self.heads + self.kv_heads}[kind] + h
                qkv = self._split(self._linear(p, l + "self_attn.qkv_proj"), order)
            else:
                gate, up = (self._linear(p, l + f"mlp.{n}_proj") for n in ("gate", "up"))
                qkv = {k: self._linear(p, l + f"self_attn.{k}_proj") for k in "qkv"}
            layer = {"qkv": qkv, "out": self._linear(p, l + "self_attn.o_proj"),
                     "mlp": self._mlp(up, down, activation, gate)}
            for slot, name in zip(("norm1", "norm2", "post1", "post2"), norms):
                layer[slot] = self._norm(p, l + name) if name else None
            for kind in "qk":
                own = self._norm(p, l + f"self_attn.{kind}_norm")
                layer[kind + "_norm"] = None if own[0] is None else own
            self.layers.append(layer)

    def _load_mistral(self):
        self._load_llama()
        self.windows = [self.config["sliding_window"] or 0] * len(self.layers)

    def _load_qwen2(self):
        self._load_llama()
        c = self.config
        if c["use_sliding_window"]:
            types = c.get("layer_types") or ["sliding_attention" if i >= c["max_window_layers"] else "full_attention"
                                             for i in range(len(self.layers))]
            self.windows = [c["sliding_window"] if t == "sliding_attention" else 0 for t in types]

    _load_qwen3 = _load_qwen2

    def _load_gemma3_text(self):
        c = self.config
        self.norm_offset, self.embedding_scale = 1.0, math.sqrt(c["hidden_size"])
        norms = ("input_layernorm", "pre_feedforward_layernorm", "post_attention_layernorm",
                 "post_feedforward_layernorm")
        self._load_llama(norms, activation=lambda x: torch.nn.functional.gelu(x, approximate="tanh"))
        count, pattern = len(self.layers), c.get("sliding_window_pattern", 6)
        is_local = [(i + 1) % pattern != 0 for i in range(count)]
        if "layer_types" in c:
            is_local = [t == "sliding_attention" for t in c["layer_types"]]
        self.windows = [c["sliding_window"] if local else 0 for local in is_local]
        self.layer_scales = [c["query_pre_attn_scalar"] ** -0.5] * count
        new = c.get("rope_parameters") or {
            "full_attention": {**(c.get("rope_scaling") or {}), "rope_theta": c["rope_theta"]},
            "sliding_attention": {"rope_theta": c["rope_local_base_freq"]}}
        ropes = {kind: Rotary(self.head_dim, own["rope_theta"], own, c) for kind, own in new.items()}
        self.rotaries = [ropes["sliding_attention" if local else "full_attention"] for local in is_local]

    def _load_phi3(self):
        self._load_llama(fused=True)
        self.windows = [self.config.get("sliding_window") or 0] * len(self.layers)

    def _load_smollm3(self):
        self._load_llama()
        c = self.config
        self.rotaries = [r if c["no_rope_layers"][i] else None for i, r in enumerate(self.rotaries)]
        local = [c["use_sliding_window"] and t == "sliding_attention" for t in c["layer_types"]]
        self.windows = [c["sliding_window"] if own else 0 for own in local]

    def _load_olmo2(self):
        self.row_norms = True
        self._load_llama((None, None, "post_attention_layernorm", "post_feedforward_layernorm"))

    def _load_gpt_neox(self):
        c, p = self.config, "gpt_neox."
        self.hidden, self.heads = c["hidden_size"], c["num_attention_heads"]
        self.kv_heads, self.head_dim = self.heads, self.hidden // self.heads
        self.eps = c["layer_norm_eps"]
        self.block = "parallel" if c.get("use_parallel_residual", True) else "sequential"
        self._set_rotary("rotary_emb_base", share=True)
        self._set_tables("gpt_neox.embed_in.weight", "embed_out.weight", c.get("tie_word_embeddings", False))
        self.final_norm = self._norm(p, "final_layer_norm")
        self.layers = []
        for i in range(c["num_hidden_layers"]):
            l = f"layers.{i}."
            fused = self._linear(p, l + "attention.query_key_value")
            up, down = self._linear(p, l + "mlp.dense_h_to_4h"), self._linear(p, l + "mlp.dense_4h_to_h")
            self.layers.append({
                "norm1": self._norm(p, l + "input_layernorm"),
                "norm2": self._norm(p, l + "post_attention_layernorm"),
                "qkv": self._split(fused, lambda kind, h: 3 * h + "qkv".index(kind)),
                "out": self._linear(p, l + "attention.dense"),
                "mlp": self._mlp(up, down, torch.nn.functional.gelu),
            })

    def _load_gpt2(self):
        c, p = self.config, "transformer."
        self.hidden, self.heads = c["n_embd"], c["n_head"]
        self.kv_heads, self.head_dim = self.heads, self.hidden // self.heads
        self.eps, self.block = c["layer_norm_epsilon"], "sequential"
        self.position_table = self._find(p, "wpe.weight")
        self._set_tables("transformer.wte.weight", "lm_head.weight", c.get("tie_word_embeddings", True))
        scale = self.head_dim ** -0.5 if c.get("scale_attn_weights", True) else 1.0
        by_layer = c.get("scale_attn_by_inverse_layer_idx", False)
        self.layer_scales = [scale / (i + 1 if by_layer else 1) for i in range(c["n_layer"])]
        self.final_norm = self._norm(p, "ln_f")
        self.layers = []
        for i in range(c["n_layer"]):
            l = f"h.{i}."
            fused = self._linear(p, l + "attn.c_attn", transposed=True)
            up, down = self._linear(p, l + "mlp.c_fc", True), self._linear(p, l + "mlp.c_proj", True)
            self.layers.append({
                "norm1": self._norm(p, l + "ln_1"),
                "norm2": self._norm(p, l + "ln_2"),
                "qkv": self._split(fused, lambda kind, h: "qkv".index(kind) * self.heads + h),
                "out": self._linear(p, l + "attn.c_proj", True),
                "mlp": self._mlp(up, down, lambda x: torch.nn.functional.gelu(x, approximate="tanh")),
            })

    def _load_falcon(self):
        c, p = self.config, "transformer."
        self.hidden, self.heads = c["hidden_size"], c["num_attention_heads"]
        self.head_dim, self.eps = self.hidden // self.heads, c["layer_norm_epsilon"]
        new, multi_query = c.get("new_decoder_architecture", False), c.get("multi_query", True)
        if new:
            self.kv_heads = c["num_kv_heads"]
            group = self.heads // self.kv_heads
            row = group + 2
            order = lambda kind, h: ((h // group) * row + h % group if kind == "q" else
                                     h * row + group + "kv".index(kind))
        elif multi_query:
            self.kv_heads = 1
            order = lambda kind, h: h if kind == "q" else self.heads + "kv".index(kind)
        else:
            self.kv_heads = self.heads
            order = lambda kind, h: 3 * h + "qkv".index(kind)
        two_norms = new and (c.get("num_ln_in_parallel_attn") or 2) == 2
        parallel = new or c.get("parallel_attn", True)
        self.block = "sequential" if not parallel else ("parallel" if two_norms else "shared")
        if c.get("alibi"):
            self.slopes = alibi_slopes(self.heads)
        else:
            self._set_rotary("rope_theta")
        self._set_tables("transformer.word_embeddings.weight", "lm_head.weight", c.get("tie_word_embeddings", True))
        self.final_norm = self._norm(p, "ln_f")
        self.layers = []
        for i in range(c["num_hidden_layers"]):
            l = f"h.{i}."
            up, down = self._linear(p, l + "mlp.dense_h_to_4h"), self._linear(p, l + "mlp.dense_4h_to_h")
            norm2 = {"sequential": "post_attention_layernorm", "parallel": "ln_mlp",
                     "shared": "input_layernorm"}[self.block]
            self.layers.append({
                "norm1": self._norm(p, l + ("ln_attn" if two_norms else "input_layernorm")),
                "norm2": self._norm(p, l + norm2),
                "qkv": self._split(self._linear(p, l + "self_attention.query_key_value"), order),
                "out": self._linear(p, l + "self_attention.dense"),
                "mlp": self._mlp(up, down, torch.nn.functional.gelu),
            })

    # -- maths ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _apply(linear, x):
        weight, bias = linear
        y = x @ weight.T
        return y if bias is None else y + bias

    def _normalise(self, norm, x):
        weight, bias = norm
        if not self.rms:
            x = x - x.mean(-1, keepdim=True)
        y = x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.eps) * (weight + self.norm_offset)
        return y if bias is None else y + bias

    def _heads_of(self, layer, kind, x):
        count = self.heads if kind == "q" else self.kv_heads
        y, norm = self._apply(layer["qkv"][kind], x), layer.get(kind + "_norm")
        if norm is not None and self.row_norms:
            y = self._normalise(norm, y)
        y = y.view(x.shape[0], count, self.head_dim)
        return self._normalise(norm, y) if norm is not None and not self.row_norms else y

    def _run_layer(self, layer, x, attend):
        """attend(normalised x) -> [rows, heads * head_dim]."""
        maybe = lambda slot, y: y if layer.get(slot) is None else self._normalise(layer[slot], y)
        attention = maybe("post1", self._apply(layer["out"], attend(maybe("norm1", x))))
        if self.block == "sequential":
            x = x + attention
            return x + maybe("post2", layer["mlp"](maybe("norm2", x)))
        return x + attention + layer["mlp"](self._normalise(layer["norm2"], x))

    def _attend(self, layer, q, k, v, visible, distance_bias=None):
        """q: [n, heads, d], k and v: [m, kv_heads, d], visible: [n, m] bool, distance_bias: [heads, n, m] or None,
        added before the scores are scaled as Falcon does."""
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = torch.einsum("nhd,mhd->hnm", q, k)
        if distance_bias is not None:
            scores = scores + distance_bias
        scale = 1 / math.sqrt(self.head_dim) if self.layer_scales is None else self.layer_scales[layer]
        scores = (scores * scale).masked_fill(~visible, -math.inf)
        return torch.einsum("hnm,mhd->nhd", torch.softmax(scores, -1), v).reshape(q.shape[0], -1)

    def logits(self, ids, visible, alibi_as_hf=False):
        """ids: list of T; visible: a [T, T] bool mask per layer; positions are those of the text. With alibi_as_hf
        the bias is rounded to bf16 as transformers rounds it. Returns [T, vocab]."""
        total = len(ids)
        x = self.embedding[torch.tensor(ids)] * self.embedding_scale
        if self.position_table is not None:
            x = x + self.position_table[:total]
        bias = None
        if self.slopes is not None:
            place = torch.arange(total)
            if alibi_as_hf:
                bias = (self.slopes.float().bfloat16()[:, None] * place).double()[:, None, :]
            else:
                bias = self.slopes[:, None, None] * (place[None, :] - place[:, None])
        for index, (layer, mask) in enumerate(zip(self.layers, visible)):

            def attend(y):
                q, k, v = (self._heads_of(layer, kind, y) for kind in "qkv")
                rotary = self.rotaries[index]
                if rotary is not None:
                    q, k = rotary.turn(q, range(total), total), rotary.turn(k, range(total), total)
                return self._attend(index, q, k, v, mask, bias)

            x = self._run_layer(layer, x, attend)
        return self._normalise(self.final_norm, x) @ self.head.T

    def step(self, token, memory, key_positions, query_position, text_position):
        """One token against cached slots. memory: per layer a list of (k, v) in slot order, k not rotated;
        key_positions: position of each slot. Appends the token's own (k, v) to each list of memory; returns its
        logits [vocab]. Layers with their own window cut their lists to it, whatever the slots of the others are."""
        x = self.embedding[token][None] * self.embedding_scale
        if self.position_table is not None:
            x = x + self.position_table[query_position]
        for index, (layer, slots) in enumerate(zip(self.layers, memory)):

            def attend(y):
                q, k, v = (self._heads_of(layer, kind, y) for kind in "qkv")
                slots.append((k[0], v[0]))
                keys = torch.stack([s[0] for s in slots])
                values = torch.stack([s[1] for s in slots])
                bias = None
                places = list(key_positions) + [query_position]
                if self.windows[index]:  # its own window, at text positions
                    del slots[: -self.windows[index]]
                    keys, values = keys[-self.windows[index] :], values[-self.windows[index] :]
                    places = list(range(text_position + 1 - len(slots), text_position + 1))
                rotary = self.rotaries[index]
                if rotary is not None:
                    q, keys = rotary.turn(q, places[-1:]), rotary.turn(keys, places)
                if self.slopes is not None:
                    distance = torch.tensor(places, dtype=torch.float64) - query_position
                    bias = self.slopes[:, None, None] * distance
                return self._attend(index, q, keys, values, torch.ones(1, len(slots), dtype=torch.bool), bias)

            x = self._run_layer(layer, x, attend)
        return (self._normalise(self.final_norm, x) @ self.head.T)[0]
