"""sepllm.transformers: tiny random models of many families, next to the same models under the policy's mask written out."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5.0")

import sepllm  # noqa: E402
import sepllm.transformers as st  # noqa: E402
from sepllm import Policy  # noqa: E402

VOCAB, SEPARATORS = 50, [7, 11]
COMMON = {"vocab_size": VOCAB, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
CONFIGS = {
    "llama": ("LlamaConfig", {**SIZES, "num_key_value_heads": 2}),
    "gpt_neox": ("GPTNeoXConfig", {**SIZES, "rotary_pct": 0.5}),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, "attn_pdrop": 0.0, "resid_pdrop": 0.0,
                            "embd_pdrop": 0.0}),
    "qwen2": ("Qwen2Config", {**SIZES, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3Config", {**SIZES, "num_key_value_heads": 2, "head_dim": 8}),
    "gemma3": ("Gemma3TextConfig", {**SIZES, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 6,
                                    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
    "mistral": ("MistralConfig", {**SIZES, "num_key_value_heads": 2, "sliding_window": None}),
}
POLICY = Policy.sep(init=2, window=5)


def tiny(family, attention):
    """The same random model for every call, with an attention implementation."""
    kind, settings = CONFIGS[family] if family in CONFIGS else ("FalconConfig", {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "alibi": False, "new_decoder_architecture": True,
        "num_kv_heads": 2, "attention_dropout": 0.0, "hidden_dropout": 0.0})
    config = getattr(transformers, kind)(**COMMON, **settings)
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape) * 0.3 if p.dim() > 1 else p)  # so that attention matters
    return model


def texts(length=40, padding=(0, 9), seed=1):
    """ids and mask [2, length], padded on the left."""
    ids = torch.randint(2, VOCAB, (len(padding), length), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    for row, n in enumerate(padding):
        ids[row, :n], mask[row, :n] = 0, 0
    return ids, mask


def positions_of(mask):
    return (mask.cumsum(1) - 1).clamp(min=0)


def rule_written_out(ids, mask, init=2, window=5, separators=SEPARATORS):
    """bool [batch, 1, tokens, tokens]"""
    batch, n = ids.shape
    out = torch.zeros(batch, 1, n, n, dtype=torch.bool)
    for b in range(batch):
        first = int((mask[b] == 0).sum())
        for i in range(n):
            for j in range(n):
                kept = j - first < init or int(ids[b, j]) in separators or i - j < window
                out[b, 0, i, j] = i == j or (first <= j <= i and kept)
    return out


def explicit(model, ids, mask, **rule):
    """The model's logits under the mask written out; `model` computes attention by itself."""
    def additive(seen):
        return torch.where(seen, 0.0, torch.finfo(torch.float32).min)

    seen = additive(rule_written_out(ids, mask, **rule))
    if getattr(model.config, "layer_types", None) and "sliding_attention" in model.config.layer_types:
        sliding = additive(rule_written_out(ids, mask, 0, model.config.sliding_window, []))
        seen = {"full_attention": seen, "sliding_attention": sliding}
    return model(ids, attention_mask=seen, position_ids=positions_of(mask), use_cache=False).logits


@pytest.mark.parametrize("family", CONFIGS)
def test_logits_and_gradients_are_those_under_the_mask(family):
    ids, mask = texts()
    real = mask.bool()
    model, reference = tiny(family, "sepllm"), tiny(family, "eager")
    with st.enable(model, POLICY, SEPARATORS):
        logits = model(ids, attention_mask=mask, position_ids=positions_of(mask)).logits
        logits[real].square().mean().backward()
    expected = explicit(reference, ids, mask)
    expected[real].square().mean().backward()
    torch.testing.assert_close(logits[real], expected[real], atol=2e-4, rtol=1e-4)
    causal = reference(ids, attention_mask=mask, position_ids=positions_of(mask)).logits
    assert (causal[real] - expected[real]).abs().max() > 0.01  # the policy matters
    for (name, p), e in zip(model.named_parameters(), reference.parameters()):
        if e.grad is not None:
            torch.testing.assert_close(p.grad, e.grad, atol=2e-4, rtol=2e-3, msg=lambda m: f"{name}: {m}")


def greedy(model, ids, mask, n):
    """Greedy texts under the mask written out, everything computed anew for each token."""
    for _ in range(n):
        token = explicit(model, ids, mask)[:, -1].argmax(-1, keepdim=True)
        ids, mask = torch.cat([ids, token], 1), torch.cat([mask, torch.ones_like(token)], 1)
    return ids


@pytest.mark.parametrize("attention", ["sepllm", "sdpa", "eager"])
@pytest.mark.parametrize("family", [*CONFIGS, "falcon"])
def test_generation_with_the_cache_is_that_under_the_mask(family, attention):
    if family == "falcon" and attention == "sepllm":
        pytest.skip("Falcon computes attention by itself")
    ids, mask = texts(24)
    model = tiny(family, attention)
    with st.enable(model, POLICY, SEPARATORS), torch.no_grad():
        cache = st.SepCache(model)
        out = model.generate(ids, attention_mask=mask, cache=cache, max_new_tokens=20, do_sample=False)
    expected = greedy(tiny(family, "eager"), ids, mask, 20)
    assert out.tolist() == expected.tolist()
    layer = 1
    for row, places in enumerate(cache.kept(layer)):
        text = out[row, int((mask[row] == 0).sum()):-1].tolist()  # the last token is never fed
        n = len(text)
        assert places == [j for j in range(n) if j < 2 or text[j] in SEPARATORS or n - j < 5]
    assert cache.kv_bytes() < 0.6 * 2 * 4 * 32 * 3 * out.numel()


def test_several_turns_and_beams():
    ids, mask = texts(20)
    model = tiny("llama", "sepllm")
    with st.enable(model, POLICY, SEPARATORS), torch.no_grad():
        cache = st.SepCache(model)
        first = model.generate(ids, attention_mask=mask, cache=cache, max_new_tokens=6, do_sample=False)
        more = torch.cat([first, texts(8, (0, 0), seed=3)[0]], 1)
        longer = torch.cat([mask, torch.ones(2, more.shape[1] - mask.shape[1], dtype=mask.dtype)], 1)
        out = model.generate(more, attention_mask=longer, cache=cache, max_new_tokens=6, do_sample=False)
        beams = model.generate(ids, attention_mask=mask, cache=st.SepCache(model), max_new_tokens=10, num_beams=3, do_sample=False)
        without = model.generate(ids, attention_mask=mask, use_cache=False, max_new_tokens=10, num_beams=3, do_sample=False)
    assert out.tolist() == greedy(tiny("llama", "eager"), more, longer, 6).tolist()
    assert beams.tolist() == without.tolist()


def engine(model, folder):
    """The engine's model with the same weights."""
    model.save_pretrained(folder)
    return sepllm.Model.load(folder, threads=1)


STREAMS = {
    "stream": Policy.sep_stream(init=2, window=6, seps=3, capacity=16, separators="ids:7,11"),
    "original": Policy.sep_stream(init=2, window=6, seps=3, capacity=16, separators="ids:7,11", positions="original"),
    "unbounded": Policy.sep_stream(init=2, window=6, seps="unbounded", capacity=90, separators="ids:7,11"),
    "replace": Policy.sep_stream(init=2, window=6, seps=3, capacity=16, separators="ids:7,11", sep_replace=True),
    "sinks": Policy.sink_stream(init=2, capacity=12, positions="original"),
    "fixed": Policy.fixed(init=2, window=5, interval=4),
    "cache sinks": Policy.sink_stream(init=2, capacity=12),
    "segments": Policy.sep(init=2, window=5, separators="ids:7,11", max_segment=4),
    "rules": Policy.sep(init=2, window=5, separators="ids:7,11", layer_policy="0=full,1=fixed:6/3", layer_window="-1=9"),
    "sinks in full": Policy.full(layer_policy="0..1=sink:6"),
    "layers": Policy.sep(init=2, window=5, separators="ids:7,11", layer_window="0=full,-1=9"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_every_policy_is_the_engines(name, tmp_path):
    length = 300 if name == "unbounded" else 120
    ids = texts(length, (0,))[0]
    if name == "unbounded":
        ids[:, ::3] = 7
    model = tiny("llama", "sepllm")
    session = engine(model, tmp_path).session(STREAMS[name])
    with st.enable(model, STREAMS[name], SEPARATORS), torch.no_grad():
        cache = st.SepCache(model)
        for begin, end in ((0, 50), (50, 51), (51, length)):
            logits = cache.feed(model, ids[:, begin:end], chunk=13).logits[0, -1]
            session.feed(ids[0, begin:end].numpy())
            np.testing.assert_allclose(logits.numpy(), session.logits, atol=2e-3)
            for layer in range(3):
                held, ours = session.kept(layer)[0].tolist(), cache.kept(layer)[0]
                # The engine drops what has left a window when the next tokens come.
                exact = "stream" in STREAMS[name].settings["policy"] and "sinks" not in name
                assert ours == held if exact else set(ours) <= set(held)


def test_sequences_of_a_stream_have_their_own_separators():
    policy = STREAMS["stream"]
    ids, mask = texts(60, (0, 13))
    ids[1, 20:50:3] = 7
    model = tiny("llama", "sepllm")
    with st.enable(model, policy, SEPARATORS), torch.no_grad():
        both = st.SepCache(model)
        logits = both.feed(model, ids, mask).logits[:, -1]
        for row, n in enumerate((0, 13)):
            single = st.SepCache(model)
            expected = single.feed(model, ids[row:row + 1, n:]).logits[0, -1]
            torch.testing.assert_close(logits[row], expected, atol=1e-3, rtol=1e-3)
            assert both.kept()[row] == single.kept()[0]
        with pytest.raises(sepllm.OutOfRange, match="feed"):
            model(ids, cache=both)


def test_crop_goes_back_within_the_margin():
    ids = texts(40, (0,))[0]
    model = tiny("llama", "sepllm")
    with st.enable(model, POLICY, SEPARATORS), torch.no_grad():
        cache, other = st.SepCache(model, margin=4), st.SepCache(model)
        assert cache.is_croppable and not other.is_croppable
        cache.feed(model, ids[:, :30])
        cache.crop(-4)
        out = cache.feed(model, ids[:, 26:]).logits
        torch.testing.assert_close(out, other.feed(model, ids).logits, atol=1e-4, rtol=1e-4)
        with pytest.raises(sepllm.OutOfRange, match="margin"):
            other.crop(-1)
        assert cache.get_seq_length() == 40
        cache.reset()
        torch.testing.assert_close(cache.feed(model, ids).logits, out, atol=1e-4, rtol=1e-4)


def test_packed_documents():
    ids = texts(30, (0,))[0]
    positions = torch.cat([torch.arange(13), torch.arange(17)])[None]
    model = tiny("llama", "sepllm")
    with st.enable(model, POLICY, SEPARATORS), torch.no_grad():
        packed = model(ids, position_ids=positions, use_cache=False).logits
        for part in (slice(0, 13), slice(13, 30)):
            torch.testing.assert_close(packed[:, part], model(ids[:, part], use_cache=False).logits, atol=1e-4, rtol=1e-4)


def test_errors_say_what_to_do():
    ids, mask = texts(20)
    model = tiny("llama", "sepllm")
    with pytest.raises(sepllm.InvalidState, match="enable"):
        model(ids)
    with pytest.raises(sepllm.InvalidState, match="enable"):
        st.SepCache(model)
    with pytest.raises(sepllm.InvalidArgument, match="separators"):
        st.enable(model, POLICY)
    with st.enable(model, POLICY, SEPARATORS) as enabled:
        with pytest.raises(sepllm.InvalidState, match="already"):
            st.enable(model, POLICY, SEPARATORS)
        with pytest.raises(sepllm.Unsupported, match="input_ids"):
            model(inputs_embeds=torch.zeros(1, 3, 32))
        with pytest.raises(sepllm.Unsupported, match="SepCache"):
            model.generate(ids, max_new_tokens=3)
        with pytest.raises(sepllm.Unsupported, match="between"):
            model(ids, attention_mask=torch.tensor([[1] * 5 + [0] + [1] * 14] * 2))
        assert enabled.settings["window"] == 5
    with st.enable(model, Policy.sep_stream(), SEPARATORS):
        with pytest.raises(sepllm.Unsupported, match="SepCache"):
            model(ids)
    with pytest.raises(sepllm.Unsupported, match="max_segment"):
        st.enable(model, Policy.sep_stream(max_segment=5), SEPARATORS)
    with pytest.raises(sepllm.InvalidArgument, match="layer 3 of 3"):
        st.enable(model, Policy.sep(layer_policy="3=full"), SEPARATORS)
    with st.enable(model.to(torch.bfloat16), Policy.sink_stream(init=2, capacity=12), SEPARATORS), torch.no_grad():
        with pytest.raises(sepllm.Unsupported, match="float32"):
            st.SepCache(model).feed(model, ids)
    with pytest.raises(sepllm.Unsupported, match="original"):
        st.enable(tiny("gemma3", "sepllm"), Policy.sep_stream(), SEPARATORS)
    with pytest.raises(KeyError, match="sepllm"):  # Falcon does not ask the attention interface; this error is transformers' own
        tiny("falcon", "sepllm")


def test_separators_of_a_tokenizer_are_the_engines(path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    assert st.separator_ids(tokenizer) == sepllm.Tokenizer.load(path).separators().tolist()
