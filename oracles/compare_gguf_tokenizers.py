#!/usr/bin/env python3
"""Compares `sepllm tokenize` with a GGUF file's tokenizer in llama.cpp and in transformers, over whole files of real text.

    compare_gguf_tokenizers.py MODEL.gguf [--text FOLDER] [--chat] [--without-llama-cpp]

Ids of every file must be those of llama.cpp. transformers converts the tokenizer from the same file, but loses a part, which it gets back where its
ids differ, and must then give ours: of BPE, what the name tokenizer.ggml.pre stands for (smollm: single digits); of SentencePiece, that runs of
spaces are user-defined tokens, which are taken before all merges, the longest first. With --chat the
prompts of conversations are compared with apply_chat_template, byte for byte. llama.cpp looks for each special token in every piece
between two others, which takes minutes a book where newlines are special tokens (Gemma): --without-llama-cpp. Exit code 1 if anything differs. Needs:
llama-cpp-python, transformers, tokenizers.
"""

import argparse
import copy
import json
import re
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import tokenizers
import transformers

from chat_messages import CONVERSATIONS
from program import TEXTS, run_json

SPACE = "\u2581"  # as SentencePiece writes a space; converters write user-defined tokens with plain ones


def with_digits(tokenizer):
    """encode(text) with single digits."""
    steps = tokenizers.pre_tokenizers
    tokenizer.backend_tokenizer.pre_tokenizer = steps.Sequence(
        [steps.Digits(individual_digits=True), steps.ByteLevel(add_prefix_space=False, use_regex=True)])
    return lambda text: tokenizer(text, add_special_tokens=False).input_ids


def with_runs_of_spaces(tokenizer, runs):
    """encode(text) with these user-defined tokens, {number of spaces: id}: no other token reaches into or out of one."""
    longest = max(runs)

    def encode(text):
        ids = []
        for piece in re.split("( {2,%d})" % longest, text):  # from left to right, as long as possible
            is_run = len(piece) > 1 and not piece.strip(" ")
            ids += [runs[len(piece)]] if is_run else tokenizer(piece, add_special_tokens=False).input_ids
        return ids

    return encode


def user_defined_spaces(model):
    """{number of spaces: id} of the file's user-defined tokens (type 4)."""
    fields = gguf.GGUFReader(model).fields
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    found = {}
    for number, (token, kind) in enumerate(zip(tokens.data, types.data, strict=True)):
        text = bytes(tokens.parts[token]).decode()
        if types.parts[kind][0] == 4 and set(text) <= {SPACE, " "}:
            found[len(text)] = number
    return found


def complete(tokenizer, model):
    """encode(text) of transformers' tokenizer with what its conversion loses."""
    runs = user_defined_spaces(model)
    return with_runs_of_spaces(tokenizer, runs) if runs else with_digits(tokenizer)


def compare_texts(model, folder, with_peer):
    peer = llama_cpp.Llama(str(model), vocab_only=True, verbose=False) if with_peer else None
    plain = transformers.AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name)
    exact = complete(copy.deepcopy(plain), model)
    files, same_peer, same_plain, same_exact = sorted(folder.glob("*.txt")), 0, 0, 0
    for done, path in enumerate(files):
        text = path.read_text(encoding="utf-8")
        ours = run_json("tokenize", "--tokenizer", model, "--file", path)["ids"]
        same_peer += with_peer and peer.tokenize(text.encode(), add_bos=False, special=True) == ours
        is_plain = plain(text, add_special_tokens=False).input_ids == ours
        same_plain += is_plain
        same_exact += is_plain or exact(text) == ours
        print(f"{done + 1} of {len(files)}: {path.name}, {len(ours)} ids", file=sys.stderr, flush=True)
    as_peer = f"{same_peer} as llama.cpp, " if with_peer else ""
    print(f"{len(files)} files: {as_peer}{same_plain} as transformers, {same_exact} with what its conversion loses")
    return same_exact == len(files) and (not with_peer or same_peer == len(files))


def compare_prompts(model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name)
    good = total = 0
    for messages in CONVERSATIONS:
        try:
            expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception:  # the template refuses it
            continue
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(messages, file)
            file.flush()
            ours = run_json("tokenize", "--model", model, "--messages", file.name)
        total += 1
        good += ours["text"] == expected
    print(f"{total} conversations: {good} prompts as apply_chat_template's")
    return good == total > 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, default=TEXTS / "pg19/test")
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--without-llama-cpp", action="store_true")
    a = parser.parse_args()
    good = compare_texts(a.model.resolve(), a.text, not a.without_llama_cpp)
    if a.chat:
        good &= compare_prompts(a.model.resolve())
    sys.exit(not good)


if __name__ == "__main__":
    main()
