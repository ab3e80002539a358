#!/usr/bin/env python3
"""Compares `sepllm tokenize` with a GGUF file's tokenizer in llama.cpp and in transformers, over whole files of real text.

    compare_gguf_tokenizers.py MODEL.gguf [--text FOLDER] [--chat] [--without-llama-cpp]

Ids of every file must be those of llama.cpp. transformers converts the tokenizer from the same file, but not tokenizer.ggml.pre: where
its ids differ, it gets the splitting that the name stands for (smollm: single digits) and must then give ours. With --chat the
prompts of conversations are compared with apply_chat_template, byte for byte. llama.cpp looks for each special token in every piece
between two others, which takes minutes a book where newlines are special tokens (Gemma): --without-llama-cpp. Exit code 1 if anything differs. Needs:
llama-cpp-python, transformers, tokenizers.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import llama_cpp
import tokenizers
import transformers

from chat_messages import CONVERSATIONS
from program import TEXTS, run, run_json


def with_digits(tokenizer):
    steps = tokenizers.pre_tokenizers
    tokenizer.backend_tokenizer.pre_tokenizer = steps.Sequence(
        [steps.Digits(individual_digits=True), steps.ByteLevel(add_prefix_space=False, use_regex=True)])
    return tokenizer


def compare_texts(model, folder, with_peer):
    peer = llama_cpp.Llama(str(model), vocab_only=True, verbose=False) if with_peer else None
    plain, exact = transformers.AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name), None
    files, same_peer, same_plain, same_exact = sorted(folder.glob("*.txt")), 0, 0, 0
    for done, path in enumerate(files):
        text = path.read_text(encoding="utf-8")
        ours = run_json("tokenize", "--tokenizer", model, "--file", path)["ids"]
        same_peer += with_peer and peer.tokenize(text.encode(), add_bos=False, special=True) == ours
        is_plain = plain(text, add_special_tokens=False).input_ids == ours
        same_plain += is_plain
        if not is_plain:  # converting takes long, so it is done only where it is needed
            exact = exact or with_digits(transformers.AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name))
            is_plain = exact(text, add_special_tokens=False).input_ids == ours
        same_exact += is_plain
        print(f"{done + 1} of {len(files)}: {path.name}, {len(ours)} ids", file=sys.stderr, flush=True)
    as_peer = f"{same_peer} as llama.cpp, " if with_peer else ""
    print(f"{len(files)} files: {as_peer}{same_plain} as transformers, {same_exact} with its digits split")
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
