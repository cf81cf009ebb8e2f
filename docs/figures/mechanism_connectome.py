"""Activity of units that were not recorded, with and without the connectome: Beiran & Litwin-Kumar 2025.

    python docs/figures/mechanism_connectome.py

A teacher of 300 tanh units has gains and biases of its own. Students are fitted to some of its units by
`training.fit`: one knows the teacher's weights and learns a gain and a bias for each unit; the other learns
all weights and biases. Both are tested in new trials. Some minutes of a core; draws mechanism_connectome.png
and prints the table of docs/how_to/recordings.md.
"""

import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

import sparse_mrnn as sm
from sparse_mrnn.training import Recorded, fit

HERE = Path(__file__).parent
N, CHANNELS, STEPS = 300, 8, 60
TRIALS, NEW, BATCH = 30, 20, 8
RECORDED = [10, 30, 60, 100, 200]
EPOCHS, RATES = 300, {"connectome": 0.03, "no connectome": 0.003}
COLORS = {"connectome": "#0072B2", "no connectome": "#D55E00"}


def network(weights, inputs, shared):
    """All units to all, with a gain for each unit or a weight for each synapse."""
    g = sm.RegionGraph()
    g.add_region("units", N, sign=None, learnable_bias="unit")
    g.add_input("inputs", CHANNELS, sign=None)
    more = dict(share="source", gain=1.0, bounds=(0.0, None)) if shared else {}
    g.add_projection("units", "units", weights=weights, **more)
    g.add_projection("inputs", "units", weights=inputs, trainable=False)
    return sm.mRNN(g, "tanh", dt=10, tau=50, seed=0, device="cpu")


def signals(trials, rng):
    """Smooth random inputs, shape (trials, steps, channels)."""
    found = np.zeros((trials, STEPS, CHANNELS))
    for t in range(1, STEPS):
        found[:, t] = 0.9 * found[:, t - 1] + np.sqrt(1 - 0.9**2) * rng.standard_normal((trials, CHANNELS))
    return torch.from_numpy(found).float()


def error(found, wanted, units):
    """Mean squared error of some units over their variance."""
    return float((found - wanted)[..., units].square().mean() / wanted[..., units].var(dim=(0, 1)).mean())


def main():
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    weights = 1.2 / np.sqrt(N) * rng.standard_normal((N, N))
    others = 1.2 / np.sqrt(N) * rng.standard_normal((N, N))
    into = rng.standard_normal((N, CHANNELS)) / np.sqrt(CHANNELS)
    teacher = network(weights, into, shared=True)
    with torch.no_grad():
        teacher.rec.gains.mul_(torch.from_numpy(rng.uniform(0.2, 1.8, N)))
        teacher.bias.copy_(torch.from_numpy(0.5 * rng.standard_normal(N)))
        u, new = signals(TRIALS, rng), signals(NEW, rng)
        h, wanted = teacher(u)[1], teacher(new)[1]
    order, rows, shown = rng.permutation(N), {}, {}
    print("| recorded | network | loss | recorded: error | others: error | time |\n" + "|---" * 6 + "|")
    for count in RECORDED:
        seen, hidden = np.sort(order[:count]), order[count:]
        recorded = Recorded(h[..., seen], [teacher.unit_ids[k] for k in seen], interval=10.0)
        for name in COLORS:
            student = network(*((weights, into, True) if name == "connectome" else (others, into, False)))
            begin = time.process_time()
            history = fit(student, recorded, u, EPOCHS, lr=RATES[name], batch=BATCH, patience=EPOCHS)
            seconds = time.process_time() - begin
            with torch.no_grad():
                found = student(new)[1]
            rows[count, name] = errors = error(found, wanted, seen), error(found, wanted, hidden)
            shown[count, name] = found
            cells = [count, name, f"{history['held_out'].min():.1e}", *(f"{e:.2g}" for e in errors)]
            print(f"| {' | '.join(map(str, cells))} | {seconds:.0f} s |", flush=True)
    draw(rows, shown, wanted, order)


def draw(rows, shown, wanted, order):
    """Errors against the number of units recorded, and some units that were not."""
    figure = plt.figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.3])
    ax = left.subplots()
    for name, color in COLORS.items():
        for which, style in enumerate((":", "-")):
            what = ("recorded", "others")[which]
            values = [rows[count, name][which] for count in RECORDED]
            ax.plot(RECORDED, values, "o" + style, color=color, ms=4, label=f"{name}: {what}")
    ax.axhline(1, color="0.7", lw=0.8, zorder=0)
    ax.set(xscale="log", yscale="log", xlabel=f"units recorded, of {N}", ylabel="error / variance")
    ax.set_xticks(RECORDED, RECORDED, minor=False)
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=8)
    count = RECORDED[-2]
    units = order[RECORDED[-1] :][:4]
    for ax, unit in zip(right.subplots(4, 1, sharex=True), units, strict=True):
        seconds = np.arange(1, STEPS + 1) / 100
        for name, color in COLORS.items():
            ax.plot(seconds, shown[count, name][0, :, unit], color=color, lw=1.2, label=name)
        ax.plot(seconds, wanted[0, :, unit], color="0.1", lw=1, ls="--", label="teacher")
        ax.set_ylim(-1.05, 1.05)
        ax.set_ylabel(f"unit {unit}", fontsize=8)
        ax.tick_params(labelsize=7)
        if unit == units[0]:
            ax.legend(frameon=False, fontsize=7, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    ax.set_xlabel("time (s)")
    right.supylabel(f"units that were not recorded, {count} recorded", fontsize=8)
    figure.savefig(HERE / "mechanism_connectome.png", dpi=100)


if __name__ == "__main__":
    main()
