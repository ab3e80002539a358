"""E6: one long prefix, many continuations. The prefix goes through the model once; what the cache keeps of it is saved
(`score --state`) and answers every continuation."""

import json
import math
import os
import shutil
import statistics

import runs as R

CHUNK = 32
CONTINUATION = 128
N = 20
SEEDS = (1, 2, 3)
POLICIES = ("full", "sep", "sink")
# Of each: tokens of the prefix (whole chunks, and the one that the first continuation is predicted from), the window,
# and the runs of every policy. Prefix and continuation fit the length of training.
GROUPS = {"e1": (11 * CHUNK + 1, 16, {name: [f"e1/{name}-{seed}" for seed in SEEDS] for name in POLICIES}),
          "own": (25 * CHUNK + 1, 64, {name: ["own"] for name in POLICIES})}


def ids_file(path, ids):
    with open(path, "w", encoding="utf-8") as file:
        file.write(" ".join(map(str, ids)) + "\n")


def losses(path, n):
    """The mean of the last n lines."""
    with open(path, encoding="utf-8") as file:
        return statistics.mean(float(line) for line in file.read().split()[-n:])


def one_model(program, model, policy, prefix, continuations, folder):
    """{prefix bytes, keys, losses of the continuations with and without the prefix}. The state is checked: one
    continuation must give the bits of a run without it."""
    os.makedirs(folder, exist_ok=True)
    at = lambda name: os.path.join(folder, name)

    def score(*more):
        out, error = R.call(program, "score", "--model", model, "--json", "--prefill-chunk", str(CHUNK), *policy, *more)
        if error is not None:
            raise SystemExit(error)
        return json.loads(out)

    for name in ("state", "nll"):
        if os.path.exists(at(name)):
            os.remove(at(name))
    ids_file(at("ids"), prefix)
    first = score("--ids", at("ids"), "--state", at("state"), "--nll-out", at("nll"))
    result = {"kept_bytes": os.path.getsize(at("state")), "mean_keys": first["kv"]["mean_keys"], "with_prefix": [], "alone": []}
    for k, tokens in enumerate(continuations):
        for name in ("state", "nll"):
            shutil.copy(at(name), at(f"{name}-k"))
        ids_file(at("ids"), prefix + tokens)
        score("--ids", at("ids"), "--state", at("state-k"), "--nll-out", at("nll-k"))
        result["with_prefix"].append(losses(at("nll-k"), CONTINUATION))
        if k == 0:
            score("--ids", at("ids"), "--nll-out", at("nll-whole"))
            with open(at("nll-whole"), encoding="utf-8") as a, open(at("nll-k"), encoding="utf-8") as b:
                if a.read() != b.read():
                    raise SystemExit(f"{model}: the state's continuation is not that of the whole text")
        # Without the prefix: only the token that it is predicted from.
        ids_file(at("ids"), prefix[-1:] + tokens)
        score("--ids", at("ids"), "--nll-out", at("nll-alone"))
        result["alone"].append(losses(at("nll-alone"), CONTINUATION))
    return result


def measure(runs, program, key):
    """{policy: [[result of a prefix] of a run]}, kept in e6/results-KEY.json."""
    path = os.path.join(runs, "e6", f"results-{key}.json")
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    n_prefix, window, models = GROUPS[key]
    books = [d for d in R.documents(os.path.join(runs, "valid")) if len(d) > 20000]
    tasks = []
    for book in books:
        begin = len(book) // 4
        # What follows the prefix itself is the first; the others are later places of the same book.
        step = (len(book) - begin - n_prefix - CONTINUATION) // N
        places = [begin + n_prefix + k * step for k in range(N)]
        tasks.append((book[begin:begin + n_prefix], [book[p:p + CONTINUATION] for p in places]))
    out = {}
    for name, of in models.items():
        policy = ["--policy", name] + ([] if name == "full" else ["--init", "4", "--window", str(window)])
        out[name] = [[one_model(program, os.path.join(runs, run, "model"), policy, prefix, continuations,
                                os.path.join(runs, "e6", "work")) for prefix, continuations in tasks] for run in of]
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(out, file)
    os.replace(path + ".part", path)
    return out


def tables(results):
    """(what each policy saves, how it differs from full attention's, savings of the first prefix by continuation)"""
    # By run: every continuation of every prefix.
    def each(name, key):
        return [[v for prefix in run for v in prefix[key]] for run in results[name]]

    cells, gains = [], {}
    for name in POLICIES:
        with_prefix, alone = each(name, "with_prefix"), each(name, "alone")
        gains[name] = [[b - a for a, b in zip(w, o)] for w, o in zip(with_prefix, alone)]
        kept = statistics.mean(p["kept_bytes"] for run in results[name] for p in run)
        helped = [sum(g > 0 for g in run) for run in gains[name]]
        cells.append((name, R.size(kept), R.spread([statistics.mean(s) for s in alone]), R.spread([statistics.mean(s) for s in with_prefix]),
                      R.spread([statistics.mean(s) for s in gains[name]]), f"{statistics.mean(helped):.1f} of {len(gains[name][0])}"))
    # The same continuation under both policies: mean over the runs first.
    mean_gain = {name: [statistics.mean(v) for v in zip(*gains[name])] for name in POLICIES}
    pairs, said = [], []
    for a, b in (("full", "sep"), ("full", "sink"), ("sep", "sink")):
        gap = [x - y for x, y in zip(mean_gain[a], mean_gain[b])]
        mean, error = statistics.mean(gap), statistics.stdev(gap) / math.sqrt(len(gap))
        said.append(f"{a} and {b} are not distinguishable" if abs(mean) <= 2 * error else
                    f"{a} saves more than {b}" if mean > 0 else f"{b} saves more than {a}")
        pairs.append((f"{a} minus {b}", f"{mean:+.4f}", f"{error:.4f}",
                      f"{statistics.stdev(gap):.4f}", f"{correlation(mean_gain[a], mean_gain[b]):.2f}"))
    return (R.table(["policy", "state of the prefix", "loss without", "loss with the prefix", "saved by the prefix", "continuations helped"], cells),
            R.table(["saved", "mean difference", "standard error", "standard deviation over continuations", "correlation"], pairs) +
            f"\n\nWith a threshold of two standard errors: {'; '.join(said)}.",
            [(name, list(range(N)), mean_gain[name][:N]) for name in POLICIES])


def page(runs, to, program, texts):
    del texts
    found = R.need_runs(runs, sorted({run for _, _, models in GROUPS.values() for of in models.values() for run in of}))
    if found is None:
        return
    results = {key: measure(runs, program, key) for key in GROUPS}
    saved, pairs, series = {}, {}, {}
    for key, of in results.items():
        saved[key], pairs[key], series[key] = tables(of)
    R.svg(to, "e6-one-prefix.svg", [{"title": f"What the prefix saves, by continuation of the first book: {label}",
                                     "x_label": "continuation", "from_zero": False, "series": series[key]}
                                    for key, label in (("own", "the embedded model"), ("e1", "E1's models"))], height=200)
    tokens = found["own"]["steps"][-1]["tokens"]
    R.write(to, "e6-one-prefix.md", f"""# E6: one prefix, many continuations

There are {len(results['e1']['full'][0])} long prefixes, each from a held-out book, and for each of them {N} continuations of {CONTINUATION} tokens: the text that follows it, and {N - 1}
places spread over the rest of the book. The prefix goes through the model once, the content of the cache is saved
(`score --state`), and every continuation starts from a copy of it. So the choice of what to keep was made before anything was known about the continuations. The machine has
{R.machine()}.

Losses are means over the continuations. "Loss without" is the loss if only the last token of the prefix comes before the continuation. "Saved" is the difference. Where it is below zero, the prefix
hurts, for one thing because a place elsewhere in the book does not fit after it. The second table compares what
the prefix saves for the same continuation under two policies.

![Saved by the prefix](e6-one-prefix.svg)

## The embedded model under each policy

Trained under sep (n = {GROUPS['own'][1]}) on {tokens:,} tokens; prefixes of {GROUPS['own'][0]} tokens.

{saved['own']}

{pairs['own']}

## The models of E1, each under the policy that it was trained with

{found['e1/full-1']['steps'][-1]['tokens']:,} tokens of training, n = {GROUPS['e1'][1]}; prefixes of {GROUPS['e1'][0]} tokens; mean and standard deviation over {len(SEEDS)} seeds. If the prefix saves nothing under full attention,
models with so little training cannot use it yet, and the other rows say nothing about what is kept of it.

{saved['e1']}

{pairs['e1']}

A check confirmed that continuing from the state gives the same bits as the whole text without a state.

What is known about the policies in a pretrained model is in [Policies on real models](real-models.md).

Made by `experiments/run.sh e6` (needs own and e1).
""")


def correlation(a, b):
    x, y = statistics.mean(a), statistics.mean(b)
    return (sum((p - x) * (q - y) for p, q in zip(a, b)) /
            math.sqrt(sum((p - x) ** 2 for p in a) * sum((q - y) ** 2 for q in b)))
