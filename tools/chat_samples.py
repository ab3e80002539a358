#!/usr/bin/env python3
"""Makes the conversations of docs/REAL-MODELS.md again, with the program as it is built: chat_samples.py [MODEL.gguf]

The model is SmolLM2-135M-Instruct, as tools/fetch_model.sh brings it. What stands between the two marks of the page is
replaced. Answers are the first ones, with seed 1.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAM = REPOSITORY / "build/release/bin/sepllm"
PAGE = REPOSITORY / "docs/REAL-MODELS.md"
MARKS = ("<!-- made by tools/chat_samples.py -->\n", "<!-- end of what it makes -->\n")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
MODEL = CACHE / "sepllm/models/SmolLM2-135M-Instruct.Q4_1.gguf"
SAMPLING = ["--temp", ".8", "--top-k", "40", "--top-p", ".95", "--min-p", ".05", "--seed", "1", "--exact"]
WIDTH = 150
CONVERSATIONS = [  # options, and what the user writes
    ([], ["What is the capital of France?", "Name three things to see there."]),
    ([], ["Why is the sky blue? Answer in two sentences.", "And why are sunsets red?"]),
    ([], ["What is 12 + 30?", "Are you sure?"]),
    (["-n", "60"], ["Write a haiku about the sea."]),
    (["-n", "100", "--system", "You are Captain Hook. Answer like a pirate."], ["Who are you?"]),
    (["-n", "200", "--policy", "sep-stream", "--window", "64", "--seps", "32", "--capacity", "128"],
     ["Tell me a story about a fox and a bear."]),
]


def answers(model, options, lines):
    """What the program answers to each line. Prompts are not echoed where standard input is no terminal, so that each
    answer is what a conversation with one line more adds."""
    done, earlier = [], ""
    for count in range(1, len(lines) + 1):
        text = "".join(line + "\n" for line in lines[:count])
        command = [PROGRAM, "chat", "--model", model, *SAMPLING, *options]
        out = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
        if not out.startswith(earlier):
            sys.exit(f"the answers to {lines[:count]} do not begin with those to fewer lines")
        done.append(out[len(earlier):].strip("\n"))
        earlier = out
    return done


def wrapped(text):
    return "\n".join(textwrap.fill(line, WIDTH, break_on_hyphens=False) for line in text.split("\n"))


def section(model, options, lines):
    quoted = " ".join(f"'{part}'" if " " in part else part for part in options)
    intro = f"With `{quoted}`:\n\n" if options else ""
    turns = [f"> {line}\n{wrapped(answer)}" for line, answer in zip(lines, answers(model, options, lines))]
    return f"{intro}```\n" + "\n\n".join(turns) + "\n```\n"


def main():
    model = sys.argv[1] if len(sys.argv) > 1 else MODEL
    page = PAGE.read_text()
    before, rest = page.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    made = "\n".join(section(model, *one) for one in CONVERSATIONS)
    PAGE.write_text(before + MARKS[0] + "\n" + made + "\n" + MARKS[1] + after)


main()
