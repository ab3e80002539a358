"""The page of E1: policies from scratch, same architecture, data and steps."""

import statistics

import runs as R

POLICIES = [("full", 3, "full attention"), ("sep", 3, "sep, n = 16"), ("sep-H", 1, "sep-H: first layer full"),
            ("sep-HT", 1, "sep-HT: first and last layer full"), ("sep-2n", 1, "sep, n = 32"), ("sink", 3, "sink, n = 16"), ("sink-57", 1, "sink, n = 57: as many keys as sep"),
            ("fixed", 1, "fixed, n = 16 and every 6th token: as many keys as sep")]


def difference(final, a, b, deviation):
    gap = statistics.mean(final[b]) - statistics.mean(final[a])
    own = deviation * (1 / len(final[a]) + 1 / len(final[b])) ** 0.5
    claim = (f"{a} is ahead of {b}" if gap > 2 * own else f"{b} is ahead of {a}" if gap < -2 * own else
             f"{a} and {b} cannot be told apart")
    return f"- {claim}: {gap:+.4f} ± {own:.4f}."


def page(runs, to):
    names = [f"e1/{key}-{s}" for key, seeds, _ in POLICIES for s in range(1, seeds + 1)]
    found = R.need_runs(runs, names + [f"e1/speed-{key}" for key, _, _ in POLICIES])
    if found is None:
        return
    rows = [(key, title, [found[f"e1/{key}-{s}"] for s in range(1, seeds + 1)]) for key, seeds, title in POLICIES]
    seconds = {key: R.step_seconds(found[f"e1/speed-{key}"]) for key, _, _ in POLICIES}
    final = {key: [R.held_out(run)[-1][1] for run in of] for key, _, of in rows}
    deviation = R.pooled_deviation(list(final.values()))
    first = found[names[0]]
    settings, steps = first["settings"], first["steps"][-1]["step"]
    panels = [{"title": f"Held-out loss by {label}", "from_zero": False, "x_label": unit,
               "series": [(title, *late(R.curve(of[0], x, seconds[key]))) for key, title, of in rows]}
              for x, label, unit in (("tokens", "tokens", "tokens"), ("flops", "FLOPs", "floating-point operations"),
                                     ("seconds", "time", "seconds of one thread"))]
    R.svg(to, "e1-policies.svg", panels)
    cells = []
    for key, title, of in rows:
        last = of[0]["steps"][-1]
        share = statistics.mean(row["visible_share"] for row in of[0]["steps"])
        cells.append((title, R.spread(final[key]), f"{100 * share:.1f} %", f"{last['dense_flops']:.3g}",
                      f"{last['attention_flops']:.3g}", f"{steps * seconds[key]:.0f}"))
    verdicts = [difference(final, a, b, deviation) for a, b in
                (("sep", "sink"), ("sep", "sink-57"), ("sep", "fixed"), ("fixed", "sink"), ("full", "sep"), ("sep-2n", "sep"), ("sep-H", "sep"),
                 ("sep-HT", "sep"), ("sep-HT", "sep-H"), ("full", "sep-HT"))]
    R.write(to, "e1-policies.md", f"""# E1: policies from scratch

One architecture (GPT-NeoX, {settings['n_layers']} layers, {settings['hidden_size']} wide, {first['parameters']:,} parameters), the same text (PG19 and
tinyshakespeare, own tokens), T = {settings['seq_length']}, n = 16 (the paper's ratio), {steps} steps of {settings['global_batch_size']} samples, {first['steps'][-1]['tokens']:,} tokens. Runs with the
same seed begin from the same weights and see the same samples in the same order. On {R.machine()}.

![Held-out loss](e1-policies.svg)

{R.table(["policy", "held-out loss", "keys seen", "FLOPs, products", "FLOPs, attention", "seconds"], cells)}

Held-out loss: natural log per token, of {settings['eval_samples']} samples from four books that no run has seen; where there are three seeds, mean
and deviation. Curves: seed 1, from the second tenth of the steps on. Keys seen: of those that full attention would see, mean over
queries and layers, counted from the patterns. Seconds: the steps of a run by the median step of a short run of its own (one thread).

## What can be said

A difference counts where it is larger than two of its own deviations; a single run's is {deviation:.4f}, pooled over the policies
with three seeds.

{chr(10).join(verdicts)}

Made by `bench/experiments/run.sh e1`.
""")


def late(points):
    """Where losses can be told apart: without the first tenth."""
    x, y = points
    keep = [k for k in range(len(x)) if x[k] >= 0.1 * x[-1]]
    return [x[k] for k in keep], [y[k] for k in keep]
