"""E6: one long prefix, many continuations. The prefix goes through the model once; what the cache keeps of it is saved
(`score --state`) and answers every continuation."""

import json
import math
import os
import shutil
import statistics

import runs as R

CHUNK = 32
PREFIX = 11 * CHUNK + 1  # tokens: whole chunks, and the one that the first continuation is predicted from
CONTINUATION = 128
N = 20
POLICIES = [("full", ["--policy", "full"]), ("sep", ["--policy", "sep", "--init", "4", "--window", "16"]),
            ("sink", ["--policy", "sink", "--init", "4", "--window", "16"])]
SEEDS = (1, 2, 3)


def ids_file(path, ids):
    with open(path, "w", encoding="utf-8") as file:
        file.write(" ".join(map(str, ids)) + "\n")


def losses(path, n):
    """The mean of the last n lines."""
    with open(path, encoding="utf-8") as file:
        return statistics.mean(float(line) for line in file.read().split()[-n:])


def one_model(program, model, policy, prefix, continuations, folder):
    """{prefix bytes, keys, losses of the continuations with the prefix, and alone}. The state is checked: one
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


def measure(runs, program):
    """{policy: [[result of a prefix] of a seed]}, kept in e6/results.json."""
    path = os.path.join(runs, "e6", "results.json")
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    books = [d for d in R.documents(os.path.join(runs, "valid")) if len(d) > 20000]
    tasks = []
    for book in books:
        begin = len(book) // 4
        # What follows the prefix itself is the first; the others are later places of the same book.
        step = (len(book) - begin - PREFIX - CONTINUATION) // N
        places = [begin + PREFIX + k * step for k in range(N)]
        tasks.append((book[begin:begin + PREFIX], [book[p:p + CONTINUATION] for p in places]))
    out = {}
    for name, policy in POLICIES:
        out[name] = [[one_model(program, os.path.join(runs, "e1", f"{name}-{seed}", "model"), policy, prefix, continuations,
                                os.path.join(runs, "e6", "work")) for prefix, continuations in tasks] for seed in SEEDS]
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(out, file)
    os.replace(path + ".part", path)
    return out


def page(runs, to, program, texts):
    del texts
    found = R.need_runs(runs, [f"e1/{name}-{seed}" for name, _ in POLICIES for seed in SEEDS])
    if found is None:
        return
    results = measure(runs, program)
    n_prefixes = len(results["full"][0])

    # By seed: every continuation of every prefix.
    def each(name, key):
        return [[v for prefix in seed for v in prefix[key]] for seed in results[name]]

    cells, gains = [], {}
    for name, _ in POLICIES:
        with_prefix, alone = each(name, "with_prefix"), each(name, "alone")
        gains[name] = [[b - a for a, b in zip(w, o)] for w, o in zip(with_prefix, alone)]
        kept = statistics.mean(p["kept_bytes"] for seed in results[name] for p in seed)
        helped = [sum(g > 0 for g in seed) for seed in gains[name]]
        cells.append((name, R.size(kept), R.spread([statistics.mean(s) for s in alone]), R.spread([statistics.mean(s) for s in with_prefix]),
                      R.spread([statistics.mean(s) for s in gains[name]]), f"{statistics.mean(helped):.1f} of {len(gains[name][0])}"))
    # The same continuation under both policies: mean over seeds first.
    mean_gain = {name: [statistics.mean(v) for v in zip(*gains[name])] for name, _ in POLICIES}
    pairs = []
    for name in ("sep", "sink"):
        gap = [a - b for a, b in zip(mean_gain["full"], mean_gain[name])]
        pairs.append((f"full - {name}", f"{statistics.mean(gap):+.4f}", f"{statistics.stdev(gap) / math.sqrt(len(gap)):.4f}",
                      f"{statistics.stdev(gap):.4f}", f"{correlation(mean_gain['full'], mean_gain[name]):.2f}"))
    R.svg(to, "e6-one-prefix.svg", [{
        "title": "What the prefix saves, by continuation of the first book", "x_label": "continuation", "from_zero": False,
        "series": [(name, list(range(N)), mean_gain[name][:N]) for name, _ in POLICIES]}], height=200)
    R.write(to, "e6-one-prefix.md", f"""# E6: one prefix, many continuations

{n_prefixes} prefixes of {PREFIX} tokens, each from the middle of a held-out book, and {N} continuations of {CONTINUATION} tokens of each: what follows it, and {N - 1}
places spread over the rest of the book. The prefix goes through the model once, what the cache keeps is saved
(`score --state`), and every continuation begins from a copy of it: what is kept was chosen before anything was known of them. Models
of [E1](e1-policies.md), each under the policy it was trained with, {len(SEEDS)} seeds. On {R.machine()}.

{R.table(["policy", "state of the prefix", "loss alone", "loss behind the prefix", "saved by the prefix", "continuations helped"], cells)}

Loss: mean over the continuations; mean and deviation over the seeds. Alone: behind only the prefix's last token.

![Saved by the prefix](e6-one-prefix.svg)

How differently policies use the prefix for the same continuation (mean over the seeds):

{R.table(["saved", "mean difference", "standard error", "deviation over continuations", "correlation with full"], pairs)}

The state's continuation was checked to be, bit for bit, that of the whole text without a state.

Made by `bench/experiments/run.sh e6` (needs e1).
""")


def correlation(a, b):
    x, y = statistics.mean(a), statistics.mean(b)
    return (sum((p - x) * (q - y) for p, q in zip(a, b)) /
            math.sqrt(sum((p - x) ** 2 for p in a) * sum((q - y) ** 2 for q in b)))
