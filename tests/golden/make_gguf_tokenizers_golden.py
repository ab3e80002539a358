"""Ids that llama.cpp computes with the tokenizers of GGUF files: gguf_tokenizers.json.

`pip install gguf llama-cpp-python tokenizers sentencepiece`, then: python tests/golden/make_gguf_tokenizers_golden.py

Two small vocabularies are trained on the demo's text: byte-level BPE, which llama.cpp then uses under each name of a
pre-tokenizer, and SentencePiece's BPE with byte fallback. The file has the metadata as lists, the texts, and the ids.
"""

import io
import json
import os
import tempfile

import gguf
import llama_cpp
import sentencepiece
import tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
DEMO = os.path.join(HERE, "../../apps/alice.txt")
NAMES = ["default", "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "smollm", "starcoder", "refact",
         "command-r", "codeshell", "exaone", "falcon", "llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "dbrx",
         "smaug-bpe", "qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "tekken", "gpt-4o"]  # fmt: skip
TEXTS = [
    "", " ", "  ", "a", " a", "Alice was beginning to get very tired.", "Hello,   world!  ", "\n\n\n x\r\n\r\n y\t\tz \n",
    "I'm you're WE'LL they'd 'tis it'S don'T", "1 12 123 1234 12345 3.14159 2026-11-30 x1y22z333", "Ünïcödé Größe naïve ÀÉ",
    "日本語のテキスト、中文 한국어", "\U0001F642\U0001F468\u200d\U0001F469\u200d\U0001F467 !?... $+<=>^~|`", "e\u0301 o\u0308 \u0939\u093f\u0928\u094d\u0926\u0940",
    "CamelCaseWord HTTPServer iPhone aB AB ABc", "fn main() { let x = [1, 2]; /* c */ }\n\tprintf(\"%d\\n\", x);", "\u00a0non\u00a0breaking\u3000wide\u2028line",
    "<|begin|>text<|end|> <|user|>hi", "a<|end|> b", "<unk></s>x", "\u0660\u0661\u0662 \u00bd \u2163 \u00b2", "'''\"\"\"``--==__",
    "supercalifragilistic" * 3, "x" * 40 + " " * 17 + "y", "\x00\x01\x7f",
]  # fmt: skip


def bpe():
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=640, show_progress=False, initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    with open(DEMO, encoding="utf-8") as f:
        tokenizer.train_from_iterator([f.read(), " 12 123 1234 ''' ... !!! \n\n\n\t\t 世界 é" * 20], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
    types = [1] * len(tokens)
    for text, kind in [("<|begin|>", 3), ("<|end|>", 3), ("<|user|>", 4)]:
        tokens.append(text)
        types.append(kind)
    return {"tokens": tokens, "types": types, "merges": merges, "bos": len(tokens) - 3, "eos": len(tokens) - 2}


def spm():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        input=DEMO, model_writer=model, vocab_size=600, model_type="bpe", byte_fallback=True, character_coverage=1.0,
        normalization_rule_name="identity", remove_extra_whitespaces=False, num_threads=1, minloglevel=2)
    p = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    kind = lambda i: 2 if p.is_unknown(i) else 3 if p.is_control(i) else 6 if p.is_byte(i) else 1
    n = p.vocab_size()
    return {"tokens": [p.id_to_piece(i) for i in range(n)], "types": [kind(i) for i in range(n)],
            "scores": [p.get_score(i) for i in range(n)], "bos": 1, "eos": 2}


def write(path, model, vocabulary, pre, **flags):
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model(model)
    w.add_tokenizer_pre(pre)
    w.add_token_list(vocabulary["tokens"])
    w.add_token_types(vocabulary["types"])
    if "merges" in vocabulary:
        w.add_token_merges(vocabulary["merges"])
    if "scores" in vocabulary:
        w.add_token_scores(vocabulary["scores"])
    w.add_bos_token_id(vocabulary["bos"])
    w.add_eos_token_id(vocabulary["eos"])
    if model == "llama":
        w.add_unk_token_id(0)
    for key, value in flags.items():
        w.add_bool("tokenizer.ggml." + key, value)
    w.add_context_length(64)
    w.add_embedding_length(32)
    w.add_block_count(1)
    w.add_head_count(1)
    w.add_feed_forward_length(32)
    w.add_layer_norm_rms_eps(1e-5)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def ids(path):
    model = llama_cpp.Llama(path, vocab_only=True, verbose=False)
    plain = [model.tokenize(t.encode(), add_bos=False, special=False) for t in TEXTS]
    special = [model.tokenize(t.encode(), add_bos=True, special=True) for t in TEXTS]
    return {"plain": plain, "special": special}


def main():
    vocabularies = {"gpt2": bpe(), "llama": spm()}
    out = {"texts": TEXTS, "vocabularies": vocabularies, "cases": []}
    cases = [("gpt2", name, {}) for name in NAMES]
    cases += [("gpt2", "gpt-2", {"add_bos_token": True, "add_eos_token": True}),
              ("gpt2", "llama-bpe", {"add_bos_token": False}), ("llama", "default", {}),
              ("llama", "default", {"add_space_prefix": False}),
              ("llama", "default", {"add_bos_token": False, "add_eos_token": True})]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for model, pre, flags in cases:
            path = os.path.join(folder, "x.gguf")
            write(path, model, vocabularies[model], pre, **flags)
            out["cases"].append({"model": model, "pre": pre, "flags": flags, **ids(path)})
    with open(os.path.join(HERE, "gguf_tokenizers.json"), "w") as f:
        json.dump(out, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")
    print(len(out["cases"]), "cases", llama_cpp.__version__)


if __name__ == "__main__":
    main()
