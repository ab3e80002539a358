"""E5: where attention goes in models trained with full attention."""

import os
import statistics

import runs as R

MODELS = [("NeoX style", ["e1/full-1", "e1/full-2", "e1/full-3"]), ("GPT-2 style", ["e4/gpt2"]), ("Falcon style", ["e4/falcon"])]
BOOKS = ("10146", "4128", "41607", "31974")  # held out
PASSAGES = 4  # of each book, spread over it
TOKENS = 512
KINDS = ("initial", "separator", "neighbouring", "other")


def passages(texts, folder):
    """Files with pieces of the books that begin with a paragraph and are long enough for TOKENS tokens."""
    os.makedirs(folder, exist_ok=True)
    out = []
    for book in BOOKS:
        with open(os.path.join(texts, "pg19", "test", book + ".txt"), encoding="utf-8") as file:
            text = file.read()
        for k in range(PASSAGES):
            # At least six characters a token are left.
            begin = text.find("\n\n", (len(text) - 6 * TOKENS) * k // PASSAGES) + 2
            path = os.path.join(folder, f"{book}-{k}.txt")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text[begin:begin + 6 * TOKENS])
            out.append(path)
    return out


def mean_shares(rows):
    """[layer][kind] of attention, and [kind] of the visible keys, over several answers of inspect attention."""
    n_layers = len(rows[0]["layers"])
    layers = [{kind: statistics.mean(row["layers"][layer]["attention"][kind] for row in rows) for kind in KINDS}
              for layer in range(n_layers)]
    return layers, {kind: statistics.mean(row["layers"][0]["tokens"][kind] for row in rows) for kind in KINDS}


def page(runs, to, program, texts):
    if R.need_runs(runs, [run for _, of in MODELS for run in of]) is None:
        return
    files = passages(texts, os.path.join(runs, "e5"))
    blocks, series, lifts = [], [], {}
    for title, of in MODELS:
        per_run = []
        for run in of:
            rows = [R.kept_json(os.path.join(runs, "e5", f"{run.replace('/', '-')}-{os.path.basename(path)}.json"), program, "inspect",
                                "attention", "--model", os.path.join(runs, run, "model"), "--text", path, "--json", "--share-tokens",
                                str(TOKENS), "--window", "16", "--init", "4", "--out",
                                os.path.join(runs, "e5", "page.html")) for path in files]
            per_run.append(mean_shares(rows))
        keys = per_run[0][1]
        n_layers = len(per_run[0][0])
        cells = [("share of the visible keys", *(f"{100 * keys[k]:.1f} %" for k in KINDS), "", "")]
        for layer in range(n_layers):
            shares = {k: [100 * one[0][layer][k] for one in per_run] for k in KINDS}
            lift = [one[0][layer]["separator"] / one[1]["separator"] for one in per_run]
            others = [one[0][layer]["other"] / one[1]["other"] for one in per_run]
            lifts.setdefault(title, []).append(statistics.mean(lift))
            cells.append((f"layer {layer}", *(R.spread(shares[k], "{:.1f}") + " %" for k in KINDS), R.spread(lift, "{:.2f}"),
                          R.spread([a / b for a, b in zip(lift, others)], "{:.2f}")))
        series.append((title, list(range(n_layers)), lifts[title]))
        seeds = f" ({len(of)} seeds: mean and standard deviation)" if len(of) > 1 else ""
        blocks.append(f"""## {title}{seeds}

{R.table(["attention on", "initial", "separators", "neighbours", "other", "separators: attention / keys", "relative to others"], cells)}
""")
    R.svg(to, "e5-where-attention-goes.svg", [{"title": "Separators: share of attention / share of the keys", "x_label": "layer",
                                               "series": series}], height=180)
    said = []
    for title, lift in lifts.items():
        above = [layer for layer, v in enumerate(lift) if v > 1]
        said.append(f"- {title}: " + (f"more than their share in layer {', '.join(map(str, above))}" if above else "more than their share in no layer")
                    + f"; from {min(lift):.2f} to {max(lift):.2f} times their share.")
    R.write(to, "e5-where-attention-goes.md", f"""# E5: where attention goes

The tables show, for models trained with full attention, the share of attention that goes to the first 4 tokens, to separators, to the 16 nearest tokens (including the query itself) and to all
others. It is measured with `sepllm inspect attention`, as the mean over heads, queries and {len(files)} passages of {TOKENS} tokens from {len(BOOKS)} held-out books.
A token counts only once, in this order: initial, separator, neighbour. The first row is the share of the visible keys
that are of each kind; attention would have these shares if it made no difference between keys. The last column divides
the separators' attention per key by that of the others (which are far away, while a separator may also be a neighbour). The machine has {R.machine()}.

![Separators](e5-where-attention-goes.svg)

{chr(10).join(blocks)}
## Does this confirm the paper's observation?

The paper finds that separators draw much more attention than their number would suggest. These models give, as attention on separators divided by their share of the keys:

{chr(10).join(said)}

Made by `experiments/run.sh e5` (needs e1 and e4).
""")
