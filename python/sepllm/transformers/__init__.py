"""Sparse attention for models of transformers 5: an attention implementation and a bounded cache.

    import sepllm.transformers as st
    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="sepllm")
    enabled = st.enable(model, Policy.sep(window=64), separators=tokenizer)
    model(ids).loss.backward()                              # the sparse kernel, forward and backward
    model.generate(ids, cache=st.SepCache(model))           # keeps initial tokens, separators and a window only
    enabled.disable()

Token ids reach neither the attention nor the cache of a model of transformers, so enable() installs a forward pre-hook, which
disable() removes. Nothing is patched. Importing this module registers the attention implementation "sepllm" (and its mask
function) with transformers. It needs PyTorch and transformers, which this package does not install.
"""

from ._attention import sepllm_attention
from ._cache import SepCache, SepLayer
from ._enable import Enabled, enable, separator_ids

__all__ = ["Enabled", "SepCache", "SepLayer", "enable", "separator_ids", "sepllm_attention"]
