"""The page of E1: policies from scratch, same architecture, data and steps."""

import statistics

import runs as R

POLICIES = [("full", 3, "full attention"), ("sep", 3, "sep, n = 16"), ("sep-H", 1, "sep-H: first layer full"),
            ("sep-HT", 1, "sep-HT: first and last layer full"), ("sep-2n", 1, "sep, n = 32"), ("sink", 3, "sink, n = 16"), ("sink-57", 1, "sink, n = 57: as many keys as sep"),
            ("fixed", 1, "fixed, n = 16 and every 6th token: as many keys as sep")]


# In the paper the first of each pair has the lower loss: from scratch, or without training where the paper did not train (equal keys, fixed).
EXPECTED = [("sep", "sink"), ("sep", "sink-57"), ("sep", "fixed"), ("sep-2n", "sep"), ("sep-H", "sep"), ("sep-HT", "sep-H"),
            ("sep-HT", "sep"), ("sep", "full"), ("sep-HT", "full")]
# A multiple of a difference's own standard deviation. By chance a difference is larger once in twenty times (Student's t with the 6 degrees of freedom that
# three policies of three seeds leave).
BEYOND = 2.45


def verdict(final, a, b, deviation):
    gap = statistics.mean(final[a]) - statistics.mean(final[b])
    own = deviation * (1 / len(final[a]) + 1 / len(final[b])) ** 0.5
    found = "not distinguishable" if abs(gap) <= BEYOND * own else "confirmed" if gap < 0 else "the opposite"
    return (f"{a} below {b}", found, f"{gap:+.4f}", f"{own:.4f}")


def page(runs, to):
    names = [f"e1/{key}-{s}" for key, seeds, _ in POLICIES for s in range(1, seeds + 1)]
    found = R.need_runs(runs, names + [name.replace("e1/", "e1/whole-") for name in names] + [f"e1/speed-{key}" for key, _, _ in POLICIES])
    if found is None:
        return
    rows = [(key, title, [found[f"e1/{key}-{s}"] for s in range(1, seeds + 1)]) for key, seeds, title in POLICIES]
    seconds = {key: R.step_seconds(found[f"e1/speed-{key}"]) for key, _, _ in POLICIES}
    final = {key: [R.held_out(found[f"e1/whole-{key}-{s}"])[0][1] for s in range(1, seeds + 1)] for key, seeds, _ in POLICIES}
    deviation = R.pooled_deviation(list(final.values()))
    first = found[names[0]]
    settings, steps = first["settings"], first["steps"][-1]["step"]
    curves = {x: [(key, *late(R.curve(of[0], x, seconds[key]))) for key, _, of in rows] for x in ("tokens", "flops", "seconds")}
    panels = [{"title": f"Held-out loss by {label}", "from_zero": False, "x_label": unit, "series": curves[x],
               "x_low": 0.95 * min(series[1][0] for series in curves[x])}
              for x, label, unit in (("tokens", "tokens", "tokens"), ("flops", "FLOPs", "floating-point operations"),
                                     ("seconds", "time", "seconds of one thread"))]
    R.svg(to, "e1-policies.svg", panels)
    cells = []
    for key, title, of in rows:
        last = of[0]["steps"][-1]
        share = statistics.mean(row["visible_share"] for row in of[0]["steps"])
        cells.append((title, R.spread(final[key]), f"{100 * share:.1f} %", f"{last['dense_flops']:.3g}",
                      f"{last['attention_flops']:.3g}", f"{steps * seconds[key]:.0f}"))
    verdicts = [verdict(final, a, b, deviation) for a, b in EXPECTED]
    paired = []
    for a, b in (("sep", "sink"), ("sep", "full"), ("sink", "full")):
        gaps = [x - y for x, y in zip(final[a], final[b])]
        paired.append((f"{a} minus {b}", *(f"{gap:+.4f}" for gap in gaps), f"{statistics.mean(gaps):+.4f} ± {statistics.stdev(gaps):.4f}"))
    R.write(to, "e1-policies.md", f"""# E1: policies from scratch

All runs have the same architecture (GPT-NeoX, {settings['n_layers']} layers, {settings['hidden_size']} wide, {first['parameters']:,} parameters) and the same text (PG19 and
tinyshakespeare, with a tokenizer trained on them), T = {settings['seq_length']}, n = 16 (the paper's ratio), {steps} steps of {settings['global_batch_size']} samples, {first['steps'][-1]['tokens']:,} tokens. Runs with the
same seed start from the same weights and see the same samples in the same order. The machine has {R.machine()}.

![Held-out loss](e1-policies.svg)

{R.table(["policy", "held-out loss", "keys seen", "FLOPs, products", "FLOPs, attention", "seconds"], cells)}

The held-out loss is in nats per token, over the whole of four books that no run has seen. Where there are three seeds, the table shows mean and standard deviation.
The curves show seed 1 in the last three fifths of the steps, on {settings['eval_samples']} samples of those books. Keys seen are a share of those that full attention would see, averaged over
queries and layers, and counted from the patterns. Seconds are the number of steps times the median step of a separate short run (one thread).

## What these runs show

This table tests the order that the paper found. A difference counts if it is larger than {BEYOND} times its own standard deviation (by chance that happens once in
twenty times). The standard deviation of a single run is {deviation:.4f}, pooled over the policies with three seeds.

{R.table(["lower loss in the paper", "here", "difference", "its standard deviation"], verdicts)}

Runs with the same seed start from the same weights and see the same samples, so they can also be compared one by one:

{R.table(["difference of the losses", "seed 1", "seed 2", "seed 3", "mean and standard deviation"], paired)}

These are small models that were trained under each policy. What the policies do in a pretrained model that was not is in [Policies on real models](real-models.md).

Made by `experiments/run.sh e1`.
""")


def late(points):
    """Where losses can be told apart: the last three fifths."""
    x, y = points
    keep = [k for k in range(len(x)) if x[k] >= 0.4 * x[-1]]
    return [x[k] for k in keep], [y[k] for k in keep]
