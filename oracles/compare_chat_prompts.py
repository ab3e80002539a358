#!/usr/bin/env python3
"""Compares the prompts of `sepllm tokenize --messages` with transformers' apply_chat_template: text and ids.

For each model folder (a tokenizer of transformers, with a chat template or without) the model's own template, and the
templates of tests/golden/chat_templates (or of another folder) with this tokenizer, over conversations with and without system message, of
several turns, with odd characters. Both must be equal byte for byte and id for id. Then special tokens in what the
user writes: none of them may become one.

    compare_chat_prompts.py FOLDER... [--templates DIR] [--program build/release/bin/sepllm]

Exit code 1 if anything differs. Needs: transformers.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from chat_messages import CONVERSATIONS, user
from transformers import AutoTokenizer

REPOSITORY = Path(__file__).resolve().parents[1]
TEMPLATES = REPOSITORY / "tests/golden/chat_templates"


class Program:
    def __init__(self, program, folder):
        self.command = [str(program), "tokenize", "--model", str(folder), "--json"]
        self.scratch = tempfile.TemporaryDirectory()

    def prompt(self, messages, template):
        path = Path(self.scratch.name) / "messages.json"
        path.write_text(json.dumps(messages), encoding="utf-8")
        more = ["--chat-format", str(template)] if template else []
        done = subprocess.run(self.command + ["--messages", str(path)] + more, capture_output=True, text=True)
        if done.returncode != 0:
            return None, done.stderr.strip()
        return json.loads(done.stdout), None


def theirs(tokenizer, messages, template):
    text = {"chat_template": template.read_text(encoding="utf-8")} if template else {}
    try:
        rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **text)
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False, **text)
    except Exception as error:  # the template refuses the conversation
        return None, f"{type(error).__name__}: {error}"
    return {"text": rendered, "ids": ids}, None


def compare(program, tokenizer, template, label):
    wrong = 0
    for k, messages in enumerate(CONVERSATIONS):
        ours, our_error = program.prompt(messages, template)
        expected, error = theirs(tokenizer, messages, template)
        if (ours is None) != (expected is None):
            wrong += 1
            print(f"{label}, conversation {k}: {our_error or 'ours is rendered'}; theirs: {error or 'rendered'}")
        for part in ("text", "ids") if ours and expected else ():
            if ours[part] != expected[part]:
                wrong += 1
                print(f"{label}, conversation {k}: {part}\n  theirs {expected[part]!r}\n  ours   {ours[part]!r}")
    return wrong


def attack(program, tokenizer, template, label):
    """Special tokens that the user spells are text: as many special ids as with an innocent text."""
    special = set(tokenizer.all_special_ids)
    innocent, error = program.prompt([user("x")], template)
    if error:
        return 0
    wrong = 0
    for token in sorted(tokenizer.all_special_tokens):
        for text in (token, f"x{token}{token} y", token[1:], f"{token[:-1]}"):
            attacked, error = program.prompt([user(text)], template)
            if error:
                continue
            count = [sum(id in special for id in prompt["ids"]) for prompt in (innocent, attacked)]
            if count[0] != count[1]:
                wrong += 1
                print(f"{label}: {text!r} of the user's gives {count[1]} special tokens instead of {count[0]}")
    return wrong


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folders", nargs="+", type=Path)
    arguments.add_argument("--program", type=Path, default=REPOSITORY / "build/release/bin/sepllm")
    arguments.add_argument("--templates", type=Path, default=TEMPLATES)
    options = arguments.parse_args()
    wrong = compared = 0
    for folder in options.folders:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        program = Program(options.program, folder)
        templates = ([None] if tokenizer.chat_template else []) + sorted(options.templates.glob("*.jinja"))
        for template in templates:
            label = f"{folder.name}, {template.name if template else 'its own template'}"
            wrong += compare(program, tokenizer, template, label)
            wrong += attack(program, tokenizer, template, label)
            compared += len(CONVERSATIONS)
    print(f"{compared} prompts compared, {wrong} differences")
    sys.exit(1 if wrong else 0)


main()
