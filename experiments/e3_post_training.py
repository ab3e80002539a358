"""The page of E3: training of E1's full-attention model continues under sep."""

import runs as R


def page(runs, to):
    found = R.need_runs(runs, ["e1/full-1", "e1/sep-1", "e1/whole-full-1", "e1/whole-sep-1", "e3/sep", "e3/full", "e1/speed-sep"])
    if found is None:
        return
    post, control = R.held_out(found["e3/sep"]), R.held_out(found["e3/full"])
    full, scratch = ((R.held_out(found[f"e1/{name}"])[-1][0], R.held_out(found[f"e1/whole-{name}"])[0][1]) for name in ("full-1", "sep-1"))
    seconds = R.step_seconds(found["e1/speed-sep"])
    settings = found["e3/sep"]["settings"]
    back = next(((step, loss) for step, loss in post if loss <= full[1]), None)
    beside = next(((step, loss) for step, loss in post if loss <= scratch[1]), None)

    def reached(at, whose):
        if at is None:
            return f"- {whose} is not reached in {post[-1][0]} steps."
        return (f"- {whose} is reached after {at[0]} steps ({at[0] * settings['global_batch_size'] * settings['seq_length']:,} tokens, {at[0] * seconds:.0f} s), "
                f"{100 * at[0] / full[0]:.0f} % of the steps of E1.")

    R.svg(to, "e3-post-training.svg", [{
        "title": "Held-out loss by steps after the change to sep", "from_zero": False, "x_label": "steps",
        "series": [("post-training under sep", *zip(*post)), ("continued under full attention", *zip(*control)),
                   ("E1's full model at its end", [0, post[-1][0]], [full[1]] * 2, True),
                   ("sep from scratch at its end", [0, post[-1][0]], [scratch[1]] * 2, True)]}])
    rows = [("full attention, as trained", full[0], f"{full[1]:.4f}"),
            ("the same model under sep, no training", full[0], f"{post[0][1]:.4f}"),
            *[(f"after {step} steps under sep", full[0] + step, f"{loss:.4f}") for step, loss in post[1:]
              if step in (40, 80, 200) or step == post[-1][0]],
            (f"control: after {control[-1][0]} more steps under full attention", full[0] + control[-1][0], f"{control[-1][1]:.4f}"),
            ("sep from scratch", scratch[0], f"{scratch[1]:.4f}")]
    R.write(to, "e3-post-training.md", f"""# E3: post-training

Training of the full-attention model of [E1](e1-policies.md) (seed 1) continues under sep (a = 4, n = 16): {settings['train_steps']} steps of {settings['global_batch_size']} samples of {settings['seq_length']} tokens, with a learning
rate that falls from {settings['lr']:g} to {settings['min_lr']:g}. As a control, the same steps are run under full attention. The machine has {R.machine()}.

![Held-out loss](e3-post-training.svg)

{R.table(["", "total steps", "held-out loss"], rows)}

{reached(back, "The full model's loss")}
{reached(beside, "The loss of sep from scratch")}

Seconds are computed from the time of a step in E1 (one thread). Using sep without training changes the loss by {post[0][1] - full[1]:+.4f}. The control shows how much of the
rest comes from more training and not from the policy: after {post[-1][0]} steps each, sep's loss minus the control's loss is {post[-1][1] - control[-1][1]:+.4f}.

Made by `experiments/run.sh e3` (needs e1).
""")
