#!/usr/bin/env python3
"""Makes models/sepllm-5m from the run of `run.sh own` (`run.sh ship` calls it): weights in bf16, tokenizer, config.json with the policy,
training.json, the settings file, scores.json (what the program says of the demo's text, for the tests), samples.md and
the card. Every figure is read from what the program says.

    ship_model.py --program build/release/bin/sepllm --run build/experiments/own HELD_OUT.txt...

HELD_OUT: the texts that the run's valid_data was made from. Takes some minutes; the folder is replaced whole."""

import argparse
import json
import lzma
import math
import os
import re
import shutil
import subprocess
import tempfile

from runs import machine

HERE = os.path.dirname(os.path.abspath(__file__))
DEMO_TEXT = os.path.join(HERE, "../apps/alice.txt")
LARGEST = 12_000_000  # bytes of the weights
PROMPTS = ["The old man looked at the sea", "It was a dark night, and", "CHAPTER II.\n\n", "The King of France said to the",
           "KING RICHARD:\n", "In the year 1850 the city had"]
WAYS = [("greedy", ["--temp", "0"]), ("sampled, temperature 0.8, seed 1", ["--temp", "0.8", "--seed", "1"])]
SAMPLE_TOKENS = 100


def policies(settings):
    """[(name, options, whether a book is one stream)]: what the model was trained under, and others of its sizes. The
    streams' caches are those of the demo."""
    own, seps = settings["policy"], settings["seq_length"] // 16
    init, window = ["--init", str(own["init"])], ["--window", str(own["window"])]
    stream = ["--capacity", str(own["init"] + seps + 2 * own["window"])]
    return [("full", [], False), ("sep", [*init, *window], False), ("sink", [*init, *window], False),
            ("sep-stream", [*init, *window, *stream, "--seps", str(seps)], True),
            ("sink-stream", [*init, *stream], True)]


class Program:
    def __init__(self, path):
        self.path = os.path.abspath(path)

    def __call__(self, *arguments, cwd=None):
        done = subprocess.run([self.path, *arguments, "--json"], cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"ship_model.py: {' '.join(arguments)}: {done.stderr.strip()}")
        return json.loads(done.stdout)


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def value_of(text):
    """A plain value, or {group} of such, of the settings file."""
    if text.startswith("{"):
        return {key: value_of(value) for key, value in re.findall(r"([\w-]+): *([^,}]+)", text)}
    try:
        return float(text)
    except ValueError:
        return {"true": True, "false": False}.get(text, text.strip('"'))


def check_settings(path, settings):
    """Checks that the run used the settings file, except for paths and settings that do not change the weights."""
    aside = {"data", "valid_data", "tokenizer", "save"}
    with open(path, encoding="utf-8") as file:
        for key, text in re.findall(r"^(\w+): *(.*?) *(?:#.*)?$", file.read(), re.MULTILINE):
            said, done = value_of(text), settings.get(key)
            same = said.items() <= done.items() if isinstance(said, dict) else said == done
            if key not in aside and not same:
                raise SystemExit(f"ship_model.py: {path}: {key} is {said}, the run's is {done}")


def book_score(program, model, book, options, piece, folder):
    """(sum of NLL, tokens scored, bytes of them, sum of the mean keys over them) of all of a book but its first token,
    in pieces of this many tokens."""
    tokens = program("tokenize", "--model", model, "--file", book)
    ids, losses, keys = tokens["ids"], [], 0.0
    n_bytes = os.path.getsize(book) - len(tokens["pieces"][0])  # a character of a piece stands for a byte
    files = [os.path.join(folder, name) for name in ("ids", "nll")]
    # Pieces share a token: the last that the one predicts is what the next begins with.
    for at in range(0, len(ids) - 1, piece - 1):
        with open(files[0], "w", encoding="utf-8") as file:
            file.write(" ".join(map(str, ids[at:at + piece])))
        result = program("score", "--model", model, "--ids", files[0], "--nll-out", files[1], *options)
        with open(files[1], encoding="utf-8") as file:
            new = [float(line) for line in file]
        losses += new
        keys += result["kv"]["mean_keys"] * len(new)
    assert len(losses) == len(ids) - 1, (len(losses), len(ids))
    return math.fsum(losses), len(losses), n_bytes, keys


def score_table(program, model, settings, books, folder):
    length = settings["seq_length"]
    rows = []
    for policy, options, whole in policies(settings):
        piece = 1 << 40 if whole else length
        scores = [book_score(program, model, book, ["--policy", policy, *options], piece, folder) for book in books]
        nll, tokens, n_bytes, keys = map(sum, zip(*scores))
        how = "one stream a book" if whole else f"pieces of {length} tokens"
        rows.append(f"| {policy} | {' '.join(options) or '-'} | {how} | {keys / tokens:.1f} | {nll / tokens:.4f} | "
                    f"{nll / math.log(2) / n_bytes:.4f} |")
    head = "| policy | options | read in | mean keys | loss a token | bits per byte |\n|---|---|---|---:|---:|---:|\n"
    return head + "\n".join(rows), tokens, n_bytes


def demo_scores(program, model, settings):
    """The loss of the demo's text, which the tests recompute: of the training length, or, under streams, of all of it."""
    rows = []
    for policy, options, whole in policies(settings):
        arguments = ["--policy", policy, *options, *([] if whole else ["--tokens", str(settings["seq_length"])])]
        result = program("score", "--model", model, "--text", DEMO_TEXT, *arguments)
        rows.append({"arguments": arguments, "nll_mean": result["nll_mean"], "mean_keys": result["kv"]["mean_keys"]})
    return rows


def samples(program, model):
    out = [f"# Samples\n\nThe first continuation of each prompt, {SAMPLE_TOKENS} tokens, under the policy of `config.json`. Nothing was selected or cut. "
           "Each sample begins with its prompt.\n"]
    for prompt in PROMPTS:
        for way, options in WAYS:
            text = prompt + program("generate", "--model", model, "--prompt", prompt, "-n", str(SAMPLE_TOKENS), *options)["text"]
            fence = "`" * (3 + max(map(len, re.findall("`+", text)), default=0))
            out.append(f"## {json.dumps(prompt)}, {way}\n\n{fence}text\n{text}\n{fence}\n")
    return "\n".join(out)


def last_metrics(run, step):
    with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as file:
        return [row for row in map(json.loads, file) if row["step"] == step][0]


def card(facts, run, model, table, tokens, n_bytes, packed_bytes, books):
    settings, step = facts["settings"], facts["step"]
    parts = os.path.dirname(os.path.abspath(run))
    data = [read_json(os.path.join(parts, source["path"] + ".meta.json")) for source in settings["data"]]
    held = [read_json(os.path.join(parts, source["path"] + ".meta.json")) for source in settings["valid_data"]]
    size = os.path.getsize(os.path.join(model, "model.safetensors"))
    last = last_metrics(run, step)
    parameters = read_json(os.path.join(run, "run.json"))["parameters"]
    in_data, documents = sum(d["tokens"] for d in data), sum(d["documents"] for d in data)
    ranks = last.get("ranks", 1)
    names = ", ".join(os.path.basename(book) for book in books)
    return f"""# sepllm-5m

A small language model, trained from scratch with Sep-Attention by this program so that the demo and the tests have a real model.
It continues English prose in the style of the 19th century. It gets the form right, but makes little sense.

| | |
|---|---|
| parameters | {parameters:,}, {settings['family']}: {settings['n_layers']} layers of width {settings['hidden_size']}, {settings['n_heads']} heads, head and embedding share one table |
| weights | bf16, {size:,} bytes |
| policy | sep: {settings['policy']['init']} initial tokens, separators, a window of {settings['policy']['window']}; trained on {settings['seq_length']} tokens at a time |
| tokenizer | {data[0]['tokenizer']['format']}, {data[0]['tokenizer']['vocab_size']:,} tokens, trained on the training texts |
| data | {documents} texts, {in_data:,} tokens: the books of PG19's test split (Project Gutenberg) except the held-out ones, and tinyshakespeare |
| held out | {sum(h['documents'] for h in held)} books, {sum(h['tokens'] for h in held):,} tokens: {names} |
| trained | {step} of {settings['train_steps']} steps of {settings['global_batch_size']} samples: {facts['tokens']:,} tokens, {facts['tokens'] / in_data:.2f} passes over the data |
| work | {facts['dense_flops'] + facts['attention_flops']:.2e} FLOPs, {100 * facts['attention_flops'] / (facts['dense_flops'] + facts['attention_flops']):.1f} % of them in attention |
| time | {last['elapsed'] / 3600:.2f} hours of wall-clock time, including everything else that ran on the machine, {ranks} rank{'s' if ranks > 1 else ''} on {machine()} |
| loss | {facts['loss']:.4f} in the last step, {facts['valid_loss']:.4f} on {settings['eval_samples']} held-out samples |

## On the held-out books

All {tokens:,} tokens except the first one of each book, {n_bytes:,} bytes. Bits per byte are the sum of the losses in bits, divided by the number of bytes of the text
(`xz -9` of the same books: {8 * packed_bytes / n_bytes:.4f}).

{table}

Under `full` the model sees more keys than in training. The streams run through whole books, beyond the {settings['seq_length']} positions of the training.

## What it is not for

It has no reliable knowledge, does not answer questions or follow instructions, and writes only English. Its books are old, and so are
their views. [samples.md](samples.md) shows what it writes.

## Licence of the texts

The books were published before 1919 and are in the public domain in the USA, as are Shakespeare's plays. The texts are not included here.

## How to rebuild it

    experiments/run.sh own ship

[own_model.yaml](own_model.yaml) has the settings; [training.json](training.json) lists all that were in force, defaults included.
[scores.json](scores.json) has the losses of the demo's text (apps/alice.txt, which is not among the training texts); the tests compare the program with them.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=os.path.join(HERE, "../build/release/bin/sepllm"))
    parser.add_argument("--run", required=True)
    parser.add_argument("--config", default=os.path.join(HERE, "own_model.yaml"))
    parser.add_argument("--to", default=os.path.join(HERE, "../models/sepllm-5m"))
    parser.add_argument("books", nargs="+", metavar="HELD_OUT")
    options = parser.parse_args()
    program, run = Program(options.program), os.path.abspath(options.run)
    check_settings(options.config, read_json(os.path.join(run, "run.json"))["settings"])
    packed = lzma.compress(b"".join(open(book, "rb").read() for book in options.books), preset=9)
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "model")
        program("export", "--run", run, "--type", "bf16", "--out", model, cwd=os.path.dirname(run))
        if os.path.getsize(os.path.join(model, "model.safetensors")) > LARGEST:
            raise SystemExit(f"ship_model.py: the weights have more than {LARGEST} bytes")
        facts = read_json(os.path.join(model, "training.json"))
        table, tokens, n_bytes = score_table(program, model, facts["settings"], options.books, folder)
        shutil.copy(options.config, os.path.join(model, "own_model.yaml"))
        with open(os.path.join(model, "scores.json"), "w", encoding="utf-8") as file:
            file.write(json.dumps(demo_scores(program, model, facts["settings"]), indent=1) + "\n")
        with open(os.path.join(model, "samples.md"), "w", encoding="utf-8") as file:
            file.write(samples(program, model))
        with open(os.path.join(model, "README.md"), "w", encoding="utf-8") as file:
            file.write(card(facts, run, model, table, tokens, n_bytes, len(packed), options.books))
        to = os.path.normpath(options.to)
        shutil.copytree(model, to + ".new")
        shutil.rmtree(to, ignore_errors=True)
        os.rename(to + ".new", to)
    print(f"{to}: step {facts['step']}, {sum(entry.stat().st_size for entry in os.scandir(to)):,} bytes")


if __name__ == "__main__":
    main()
