#!/usr/bin/env python3
"""Makes tests/golden/tokenizers/folders.json: folders with a tokenizer in each form that we read, next to it the files
in which the Hub says more about tokenizers, and what transformers makes of a few texts with each.
Needs: transformers 5, tokenizers, sentencepiece, tiktoken.

Three things are asked of another folder that says the same, since transformers does not answer for this one:
add_bos_token and add_eos_token next to a tokenizer.json (it ignores them there, and obeys them with all other forms),
a list in special_tokens_map.json next to SentencePiece's model (it loses it), and everything about llama2.c's files
(which it does not read; SentencePiece's model has the same pieces).
"""

import base64
import io
import json
import os
import struct
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_proto
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from make_tokenizer_cases import TEXTS, byte_level, bpe, document, sequence, train

OUT = Path(__file__).resolve().parents[1] / "tests/golden/tokenizers/folders.json"
USER = "<|user|>"
QUERIES = ["hello", "the<|user|>the", "the <|user|> the", "<|user|>the<|other|> x", "<|endoftext|>the</s>the"]

LIST_IN_MAP, LIST_IN_CONFIG = "special_tokens_map, list", "config, list"

BYTE_FORMS = ("tokenizer.json", "vocab.json", "tiktoken")
PIECE_FORMS = ("sentencepiece", "llama2.c")
CLASSES = {"tokenizer.json": "GPT2Tokenizer", "vocab.json": "GPT2Tokenizer", "tiktoken": "PreTrainedTokenizerFast",
           "sentencepiece": "LlamaTokenizer", "llama2.c": "LlamaTokenizer", "metaspace": "LlamaTokenizer",
           "prepend": "LlamaTokenizer"}
MODEL_TYPES = {"GPT2Tokenizer": "gpt2", "LlamaTokenizer": "llama", "PreTrainedTokenizerFast": "llama"}


def train_sentencepiece():
    """The bytes of a small model of Llama 2's kind."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([t.replace("\n", " ") for t in TEXTS if t.strip()] + ["hello there, the other user"] * 3),
        model_writer=out, model_type="bpe", vocab_size=360, byte_fallback=True, character_coverage=1.0,
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, num_threads=1,
        allow_whitespace_only_pieces=True, minloglevel=2, hard_vocab_limit=False,
    )
    return out.getvalue()


def llama2c_bytes(model):
    """The same pieces as llama2.c's tokenizer.py writes them."""
    proto = model_proto.ModelProto.FromString(model)
    tokens = []
    for k, piece in enumerate(proto.pieces):
        text = {1: "\n<s>\n", 2: "\n</s>\n"}.get(k, piece.piece).replace("\u2581", " ")
        tokens.append((text.encode(), piece.score))
    out = struct.pack("i", max(len(text) for text, _ in tokens))
    return out + b"".join(struct.pack("fi", score, len(text)) + text for text, score in tokens)


def tiktoken_bytes(vocab):
    to_byte = {c: b for b, c in byte_characters().items()}
    lines = []
    for piece, rank in sorted(vocab.items(), key=lambda entry: entry[1]):
        lines.append(f"{base64.b64encode(bytes(to_byte[c] for c in piece)).decode()} {rank}\n")
    return "".join(lines).encode()


def byte_characters():
    step = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    characters = {b: step.pre_tokenize_str(chr(b))[0][0] for b in range(128)}
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in shown]
    characters.update({b: chr(b) for b in shown})
    characters.update({b: chr(256 + k) for k, b in enumerate(hidden)})
    return characters


def llama_documents():
    """tokenizer.json of Llama 2, with the blank by Metaspace and by Prepend."""
    vocab, merges = train(False, mark=True)
    pieces = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{b:02X}>": b + 3 for b in range(256)}}
    for piece in sorted(vocab, key=vocab.get):
        pieces.setdefault(piece, len(pieces))
    model = bpe(pieces, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": k, "content": name, **flags} for k, name in enumerate(("<unk>", "<s>", "</s>"))]
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    decoder = sequence(
        "decoders", {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    )
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    prepend = sequence("normalizers", {"type": "Prepend", "prepend": "\u2581"}, mark)
    return {
        "metaspace": document(model, None, metaspace, decoder, added=added),
        "prepend": document(model, prepend, None, decoder, added=added),
    }


class Folders:
    """Files of each form, by name; values are text or bytes."""

    def __init__(self):
        vocab, merges = train(True)
        # Oracles number an unlisted end of text as the next token; here it is a piece.
        vocab = {**vocab, "<|endoftext|>": len(vocab)}
        added = [{"id": vocab["<|endoftext|>"], "content": "<|endoftext|>", "single_word": False, "lstrip": False,
                  "rstrip": False, "normalized": False, "special": True}]
        decoder = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        tokenizer = document(bpe(vocab, merges), None, byte_level(), decoder, added=added)
        model = train_sentencepiece()
        plain = {piece: k for piece, k in vocab.items() if piece != "<|endoftext|>"}
        self.files = {
            "tokenizer.json": {"tokenizer.json": json.dumps(tokenizer, separators=(",", ":"))},
            "vocab.json": {"vocab.json": json.dumps(vocab, separators=(",", ":")),
                           "merges.txt": "".join(f"{a} {b}\n" for a, b in merges)},
            "tiktoken": {"tokenizer.model": tiktoken_bytes(plain)},
            "sentencepiece": {"tokenizer.model": model},
            "llama2.c": {"tok.bin": llama2c_bytes(model)},
            **{form: {"tokenizer.json": json.dumps(value, separators=(",", ":"))}
               for form, value in llama_documents().items()},
        }
        pieces = len(model_proto.ModelProto.FromString(model).pieces)
        self.size = {"tokenizer.json": len(vocab), "vocab.json": len(vocab), "tiktoken": len(plain),
                     "sentencepiece": pieces, "llama2.c": pieces}

    def ask(self, form, files):
        with tempfile.TemporaryDirectory() as folder:
            for name, content in {**self.files[form], **files}.items():
                path = Path(folder, name)
                if isinstance(content, bytes):
                    path.write_bytes(content)
                else:
                    path.write_text(content if isinstance(content, str) else json.dumps(content))
            return AutoTokenizer.from_pretrained(folder)


def names(form):
    if form in PIECE_FORMS:
        return "<s>", "</s>"
    return ("<|begin|>", "<|end|>") if form == "tiktoken" else ("<|endoftext|>", "<|endoftext|>")


def places(n):
    """Yields (what, files next to the tokenizer, more of tokenizer_config.json): where a token USER may be named. `n`
    is the size of the vocabulary without it."""
    def token(content=USER, **flags):
        base = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
        return {"content": content, **base, **flags}

    listed = "additional_special_tokens"
    yield "nowhere", {}, {}
    yield "added_tokens", {"added_tokens.json": {USER: n}}, {}
    yield "two added_tokens", {"added_tokens.json": {"<|other|>": n + 1, USER: n}}, {}
    yield "added_tokens, special", {"added_tokens.json": {USER: n}}, {listed: [USER]}
    yield "special_tokens_map, pad", {"special_tokens_map.json": {"pad_token": USER}}, {}
    yield "special_tokens_map, pad with flags", {"special_tokens_map.json": {"pad_token": token(rstrip=True)}}, {}
    yield "special_tokens_map, eos", {"special_tokens_map.json": {"eos_token": USER}}, {}
    yield "special_tokens_map and added_tokens", {
        "special_tokens_map.json": {"pad_token": USER, "sep_token": "<|other|>"},
        "added_tokens.json": {"<|other|>": n, USER: n + 1}}, {}
    yield LIST_IN_MAP, {"special_tokens_map.json": {listed: [USER, "<|other|>"]}}, {}
    yield LIST_IN_CONFIG, {}, {listed: [USER, "<|other|>"]}
    yield "config, extra list", {}, {"extra_special_tokens": [USER]}
    yield "config, extra roles", {}, {"extra_special_tokens": {"image_token": USER}}
    yield "config, pad", {}, {"pad_token": USER}
    yield "config, role of its own", {}, {"image_token": USER}
    yield "config, three roles", {}, {"pad_token": USER, "unk_token": "<|other|>", "mask_token": "<|m|>"}
    for flags in ({}, {"special": False, "normalized": True}, {"lstrip": True}, {"rstrip": True}, {"single_word": True}):
        name = ", ".join(["decoder", *flags])
        yield name, {}, {"added_tokens_decoder": {str(n): token(**flags)}}
    yield "decoder before added_tokens", {"added_tokens.json": {USER: n}}, {
        "added_tokens_decoder": {str(n): token("<|other|>")}}
    yield "decoder before special_tokens_map", {"special_tokens_map.json": {"pad_token": USER}}, {
        "added_tokens_decoder": {str(n): token("<|other|>")}}
    yield "decoder with eos", {}, {"added_tokens_decoder": {str(n): token()}, "eos_token": USER}


def requests(folders):
    """Yields (name, form, form that is asked, files, files that are asked)."""
    def config(form, **more):
        bos, eos = names(form)
        base = {"tokenizer_class": CLASSES[form], "bos_token": bos, "eos_token": eos}
        return {**base, **{k: v for k, v in more.items() if v is not None}}

    def files(form, extra, **more):
        value = config(form, **more)
        model_type = MODEL_TYPES.get(value.get("tokenizer_class"), "llama")
        return {"config.json": {"model_type": more.pop("model_type", model_type)}, "tokenizer_config.json": value, **extra}

    for form in (*BYTE_FORMS[:2], *PIECE_FORMS):
        asked = "sentencepiece" if form == "llama2.c" else form
        for what, extra, more in places(folders.size[form]):
            flags = {"add_bos_token": form in PIECE_FORMS}
            if form == "tokenizer.json":
                flags = {}
            value = files(form, extra, **{**more, **flags})
            other = value
            if what == LIST_IN_MAP and form in PIECE_FORMS:
                other = files(form, {}, **extra["special_tokens_map.json"], **flags)
            yield f"{form}: {what}", form, asked, value, other
    for what, extra, more in places(folders.size["tiktoken"]):
        # Without the file's own list, we know Llama 3's special tokens and transformers none.
        # It takes them all for special.
        if what.startswith("decoder") and "eos" not in what and "special" not in what:
            n = folders.size["tiktoken"]
            known = dict(more["added_tokens_decoder"])
            for k, name in enumerate(names("tiktoken")):
                known[str(n + 2 + k)] = {"content": name, "special": True, "normalized": False}
            more = {"added_tokens_decoder": known, "add_bos_token": True}
            value = files("tiktoken", extra, **more)
            yield f"tiktoken: {what}", "tiktoken", "tiktoken", value, value

    for form in (*BYTE_FORMS[:2], *PIECE_FORMS):
        for bos in (False, True):
            for eos in (False, True):
                asked = {"llama2.c": "sentencepiece", "tokenizer.json": "vocab.json"}.get(form, form)
                value = files(form, {}, add_bos_token=bos, add_eos_token=eos)
                yield f"{form}: bos {bos}, eos {eos}", form, asked, value, value
    for form in ("tokenizer.json", "vocab.json", "sentencepiece", "llama2.c", "metaspace", "prepend"):
        for prefix in (False, True):
            for legacy in (None, False, True):
                if legacy is not None and form != "sentencepiece":
                    continue
                asked = "sentencepiece" if form == "llama2.c" else form
                value = files(form, {}, add_prefix_space=prefix, legacy=legacy,
                              **({"add_bos_token": False} if form in PIECE_FORMS else {}))
                yield f"{form}: prefix {prefix}, legacy {legacy}", form, asked, value, value
    for cls in ("GPTNeoXTokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast", None):
        value = files("tokenizer.json", {}, add_prefix_space=True, tokenizer_class=cls)
        yield f"tokenizer.json: prefix of {cls}", "tokenizer.json", "tokenizer.json", value, value


def main():
    folders = Folders()
    cases = []
    for name, form, asked, files, asked_files in requests(folders):
        tokenizer = folders.ask(asked, asked_files)
        entry = {"name": name, "form": form, "files": files, "bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
        queries = QUERIES
        if form == "prepend":
            # transformers rebuilds it with Metaspace, which puts no blank after added tokens.
            queries = [q for q in QUERIES if "<" not in q]
        if form == "llama2.c" and tokenizer.eos_token != "</s>":
            # Its file does not say that this is a special token.
            queries = [q for q in QUERIES if "</s>" not in q]
        entry["cases"] = []
        for text in queries:
            ids = tokenizer.encode(text, add_special_tokens=False)
            entry["cases"].append({
                "text": text, "ids": ids, "framed": tokenizer.encode(text),
                "decoded": tokenizer.decode(ids), "shown": tokenizer.decode(ids, skip_special_tokens=True)})
        cases.append(entry)
    forms = {
        form: {name: base64.b64encode(content).decode() if isinstance(content, bytes) else content
               for name, content in files.items()}
        for form, files in folders.files.items()
    }
    binary = [form for form, files in folders.files.items() if any(isinstance(c, bytes) for c in files.values())]
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in cases)
    OUT.write_text(
        f'{{"base64":{json.dumps(binary)},\n"forms":{json.dumps(forms, separators=(",", ":"))},\n'
        f'"folders":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
