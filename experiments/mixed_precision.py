"""The page on mixed precision: the same runs in f32 and in bf16."""

import statistics

import runs as R

TEXTS = [("shakespeare", "tinyshakespeare"), ("stories", "TinyStories")]
SEEDS = (1, 2, 3)
LAST = 50  # steps whose training losses are averaged


def late_loss(run):
    return statistics.mean(row["loss"] for row in run["steps"][-LAST:])


def furthest(a, b):
    """The largest difference of the training losses, smoothed over LAST steps, as a share of f32's."""
    def smooth(run):
        losses = [row["loss"] for row in run["steps"]]
        return [statistics.mean(losses[i - LAST:i]) for i in range(LAST, len(losses) + 1)]
    return max(abs(x - y) / x for x, y in zip(smooth(a), smooth(b)))


def page(runs, to):
    names = [f"mixed/{text}-{compute}-{seed}" for text, _ in TEXTS for compute in ("f32", "bf16") for seed in SEEDS]
    found = R.need_runs(runs, names)
    if found is None:
        return
    first = found[names[0]]
    settings, unit = first["settings"], found["mixed/shakespeare-bf16-1"]["program"]["instruction_sets"]
    rows, panels = [], []
    for text, title in TEXTS:
        of = {c: [found[f"mixed/{text}-{c}-{s}"] for s in SEEDS] for c in ("f32", "bf16")}
        for compute, all_seeds in of.items():
            rows.append((title, compute, R.spread([late_loss(r) for r in all_seeds]),
                         R.spread([R.held_out(r)[-1][1] for r in all_seeds])))
        gaps = [R.held_out(b)[-1][1] - R.held_out(a)[-1][1] for a, b in zip(of["f32"], of["bf16"])]
        apart = max(furthest(a, b) for a, b in zip(of["f32"], of["bf16"]))
        rows.append((title, "bf16 minus f32, same seed", f"at most {100 * apart:.2f} % of a smoothed loss apart",
                     f"{statistics.mean(gaps):+.4f} ± {statistics.stdev(gaps):.4f}"))
        panels.append({"title": f"Held-out loss, {title}", "from_zero": False, "x_label": "tokens",
                       "series": [(c, *R.curve(of[c][0], "tokens")) for c in ("f32", "bf16")]})
    R.svg(to, "mixed-precision.svg", panels)
    R.write(to, "mixed-precision.md", f"""# Mixed precision

Does training with `compute: bf16` (matrix products of operands rounded to bf16, sums in f32, weights and activations kept for the products in bf16) reach the losses of f32? Runs of {first['steps'][-1]['step']} steps
of {settings['global_batch_size']} samples with T = {settings['seq_length']}, {first['parameters']:,} parameters (GPT-NeoX, {settings['n_layers']} layers, {settings['hidden_size']} wide), policy `sep` with
n = 16, on two texts, with three seeds. Runs with the same seed start from the same weights and see the same samples. The machine has {R.machine()} ({unit}).

![Held-out losses of the first seed](mixed-precision.svg)

{R.table(["text", "compute", f"training loss, mean of the last {LAST} steps", "held-out loss at the end"], rows)}

Values are means over the seeds ± their sample deviation (between two seeds, not of the mean). Losses are natural logarithms per token.

`experiments/run.sh mixed` makes this page; [TRAINING.md](../TRAINING.md#mixed-precision) says what the setting does, and [PERFORMANCE.md](../PERFORMANCE.md#training) how fast it is.
""")
