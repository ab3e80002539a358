"""E4: text much longer than the training length under full attention, sink-stream and sep-stream; rows are kept under
e4/ of the runs (a row is measured again if its file is removed)."""

import os
import statistics

import runs as R

BOOK = "10146"  # held out; the text of the published streaming demo
# name, runs (of seeds), what it is, options of sep-stream: docs/METHOD.md's for T = 1024, half of them for T = 512.
SMALL = ["--init", "4", "--seps", "32", "--window", "128", "--capacity", "400"]
MODELS = [("llama", ["own"], "Llama style, trained under sep (n = 64)", ["--init", "4", "--seps", "64", "--window", "256", "--capacity", "800"]),
          ("neox", ["e1/full-1", "e1/full-2", "e1/full-3"], "NeoX style, trained with full attention", SMALL),
          ("neox-sep", ["e1/sep-1", "e1/sep-2", "e1/sep-3"], "NeoX style, trained under sep (n = 16)", SMALL),
          ("gpt2", ["e4/gpt2"], "GPT-2 style, trained with full attention", SMALL),
          ("falcon", ["e4/falcon"], "Falcon style, trained with full attention", SMALL)]
ABLATIONS = [("no initial tokens", ["--init", "0"]), ("original positions", ["--positions", "original"]),
             ("separators: full stops only", ["--separators", "strings:."]),
             ("separators: newlines only", ["--separators", "strings:\n"]),
             ("separators: the paper's characters", ["--separators", "strings:.,?!;: \t\n"])]
PIECES = ["--prefill-chunk", "64"]  # a sink-stream holds its piece of text in addition to its slots
POLICIES = [("full", "full attention"), ("sink-stream", "sink-stream, as many slots"),
            ("sink-stream-mean", "sink-stream, as many mean keys"), ("sep-stream", "sep-stream")]


def loss_along(path, *command):
    """(tokens, losses): the means over pieces of 2,048 tokens; the losses of single tokens are kept in `path`."""
    if not os.path.isfile(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _, error = R.call(*command, "--nll-out", path + ".part")
        if error is not None:
            raise SystemExit(error)
        os.replace(path + ".part", path)
    with open(path, encoding="utf-8") as file:
        values = [float(line) for line in file.read().split()]
    ends = range(2048, len(values) + 1, 2048)
    return list(ends), [statistics.mean(values[end - 2048:end]) for end in ends]


def with_option(options, change):
    """`options` with the value of an option of `change` in place of its own, or appended."""
    name, value = change
    if name in options:
        at = options.index(name)
        return options[:at + 1] + [value] + options[at + 2:]
    return options + change


def page(runs, to, program, texts):
    if R.need_runs(runs, [run for _, of, _, _ in MODELS for run in of]) is None:
        return
    text = os.path.join(texts, "pg19", "test", BOOK + ".txt")

    def command(model, policy):
        return [program, "score", "--model", os.path.join(runs, model, "model"), "--text", text, "--json", *policy]

    def score(name, model, policy):
        return R.kept_json(os.path.join(runs, "e4", f"rows/{name}.json"), *command(model, policy))

    blocks, rows, length = [], {}, 0
    for name, of, title, options in MODELS:
        run = of[0]
        sep = score(f"{name}-sep-stream", run, ["--policy", "sep-stream", *options])
        slots = options[options.index("--capacity") + 1]
        mean = str(round(sep["kv"]["mean_keys"]))
        policies = {"sep-stream": ["--policy", "sep-stream", *options],
                    "sink-stream": ["--policy", "sink-stream", "--init", "4", "--capacity", slots, *PIECES],
                    "sink-stream-mean": ["--policy", "sink-stream", "--init", "4", "--capacity", mean, *PIECES]}
        rows[name] = {"full": [score(f"{name}-full", run, ["--policy", "full"])]}
        for key, policy in policies.items():
            rows[name][key] = [score(f"{name}-{key}" + (f"-seed{k + 1}" if k else ""), seed, policy) for k, seed in enumerate(of)]
        if not length:
            along = {"full": ["--policy", "full"], **policies}
            R.svg(to, "e4-streaming.svg", [{
                "title": "Loss along the book, the first model", "x_label": "tokens", "from_zero": False,
                "series": [(key, *loss_along(os.path.join(runs, "e4", "along", key), *command(run, along[key]))) for key, _ in POLICIES]}])
        length = sep["tokens"]
        settings = R.read_run(os.path.join(runs, run))["settings"]
        cells = [cell(label, rows[name][key]) for key, label in POLICIES]
        seeds = f" ({len(of)} seeds: mean and standard deviation; full attention, keys and seconds are those of the first)" if len(of) > 1 else ""
        blocks.append(f"""## {title}{seeds}

Trained at T = {settings['seq_length']}; sep-stream with {setting_text(options)}.

{R.table(COLUMNS, cells)}
""")
    name, (run,), title, options = MODELS[0]
    cells = [cell("sep-stream", rows[name]["sep-stream"])]
    for k, (label, change) in enumerate(ABLATIONS):
        cells.append(cell(label, [score(f"ablation-{k}", run, ["--policy", "sep-stream", *with_option(options, change)])]))
    R.write(to, "e4-streaming.md", f"""# E4: streams

A held-out book (PG19 {BOOK}, {length:,} tokens) is scored as one contiguous text, at least {length // 1024} times as long as the training samples, with small models trained
for these experiments. `full` keeps every key. `sink-stream` has as many slots as `sep-stream`, or as many keys as `sep-stream` has on average. Streams use
slots of the cache as positions. The separators of sep-stream are those of the rule `text`. The machine has {R.machine()}.

![Loss along the book](e4-streaming.svg)

{chr(10).join(blocks)}
## What makes a stream work

Ablations of sep-stream with the first model:

{R.table(COLUMNS, cells)}

Perplexity is per token of the models' vocabulary (5,120), which is the same for all models. Seconds are for the whole text, on all cores.

This is only one book and, except for NeoX style, one seed. Differences as small as those between the seeds mean nothing.

Made by `experiments/run.sh e4` (needs own and e1).
""")


COLUMNS = ["", "perplexity", "mean keys", "peak keys", "KV at its peak", "seconds"]


def setting_text(options):
    a, s, w, c = (options[options.index(o) + 1] for o in ("--init", "--seps", "--window", "--capacity"))
    return f"a = {a}, s = {s}, w = {w}, c = {c}"


def cell(label, of):
    row = of[0]
    if "error" in row:
        return (label, f"refused: {row['error'].removeprefix('sepllm: error: ').split(' (expected')[0]}", "", "", "", "")
    kv = row["kv"]
    return (label, R.spread([one["perplexity"] for one in of], "{:.2f}"), f"{kv['mean_keys']:.1f}", kv["peak_keys"], R.size(kv["peak_bytes"]), f"{row['seconds']:.1f}")
