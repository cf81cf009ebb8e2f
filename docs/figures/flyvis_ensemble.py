"""Tuning of the 50 trained networks of flyvis, and the figures of docs/connectome_constrained.md.

    python docs/figures/flyvis_ensemble.py PATH/fib25-fib19_v2.2.json PATH/ensemble_0000.npz

Under a minute of one core. What it prints is in the page, too.
"""

import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

import sparse_mrnn as sm
from sparse_mrnn.fly_vision import (
    POLARITY,
    PREFERRED_DIRECTIONS,
    ensemble_responses,
    load_flyvis_parameters,
    motion_responses,
    plot_tuning,
    read_flyvis,
)

HERE = Path(__file__).parent
DPI = 100
EXTENT, DT = 8, 10.0
KINDS = {"T4": 1, "T5": 0}  # to bright edges, to dark ones


def draw_tuning(found):
    """Distance from the published direction, and selectivity, by rank of task error."""
    errors = found.direction_errors()
    rank = np.arange(1, len(found.flash_index) + 1)
    figure, axes = plt.subplots(2, 2, figsize=(10, 6), sharex=True, sharey="row", layout="constrained")
    for (kind, level), (above, below) in zip(KINDS.items(), axes.T, strict=True):
        own = np.array([errors[kind + x] for x in "abcd"])
        index = np.array([found.selectivity[:, found.regions.index(kind + x), level] for x in "abcd"])
        for ax, values in ((above, own), (below, index)):
            for x, value in zip("abcd", values, strict=True):
                ax.plot(rank, value, ".", ms=5, label=kind + x)
            ax.plot(rank, np.nanmedian(values, axis=0), "k-", lw=0.8, label="median")
        above.set_title(f"{kind}, {'bright' if level else 'dark'} edges")
        above.axhline(90, color="0.7", lw=0.8, ls=":", zorder=0)
        above.legend(frameon=False, fontsize=7, ncols=5, loc="upper left")
        above.set(ylim=(0, 205), yticks=(0, 45, 90, 135, 180))
        below.set(xlabel="network, by task error (1: least)", ylim=(0, 1))
    axes[0, 0].set_ylabel("from published direction (degrees)")
    axes[1, 0].set_ylabel("direction selectivity")
    return figure


def draw_best(net):
    """Tuning curves of the network of least task error, over speeds; triangles are published directions."""
    polar = {"projection": "polar"}
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), subplot_kw=polar, layout="constrained")
    for ax, (kind, level) in zip(axes, KINDS.items(), strict=True):
        types = [kind + x for x in "abcd"]
        curves = motion_responses(net, types).peaks[:, level].sum(axis=1)
        known = {name: PREFERRED_DIRECTIONS[name] for name in types}
        shown = dict(zip(types, curves / curves.max(axis=1, keepdims=True), strict=True))
        plot_tuning(range(0, 360, 30), shown, ax, preferred=known, label="peak response / largest")
        ax.set_title(f"{kind}, {'bright' if level else 'dark'} edges", fontsize=10)
    return figure


def draw_flashes(found):
    """Flash response index of the types of known polarity, the ten networks of least error in colour."""
    names = [name for name in POLARITY if name in found.regions]
    figure, ax = plt.subplots(figsize=(10, 3.6), layout="constrained")
    spread = np.linspace(-0.25, 0.25, len(found.flash_index))
    for k, name in enumerate(names):
        index = found.flash_index[:, found.regions.index(name)]
        ax.plot(k + spread[10:], index[10:], ".", color="0.75", ms=4)
        ax.plot(k + spread[:10], index[:10], ".", color="C1" if POLARITY[name] > 0 else "C0", ms=5)
        ax.plot([k - 0.35, k + 0.35], [np.median(index)] * 2, "k-", lw=1.2)
    ax.axhline(0, color="0.6", lw=0.8, zorder=0)
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    for tick, name in zip(ax.get_xticklabels(), names, strict=True):
        tick.set_color("C1" if POLARITY[name] > 0 else "C0")
    ax.set(ylabel="flash response index", ylim=(-1.05, 1.05), xlim=(-0.7, len(names) - 0.3))
    ax.set_title("known as ON (orange) and OFF (blue)", fontsize=10)
    return figure


def main(connectome, ensemble):
    torch.set_num_threads(1)
    graph, _ = read_flyvis(connectome, EXTENT, share=True, inputs=True)
    net = sm.mRNN(graph, "relu", dt=DT, seed=0, device="cpu")
    begin = time.process_time()
    found = ensemble_responses(net, ensemble)
    print(f"{len(found.flash_index)} networks: {time.process_time() - begin:.0f} s of one core")
    errors = found.direction_errors()
    print("the best network:", ", ".join(f"{name} {error[0]:.0f}" for name, error in errors.items()))
    print("| networks by task error | T4 off by | T5 off by | polarity as known |\n|---|---|---|---|")
    for first in range(0, 50, 10):
        ten = slice(first, first + 10)
        off = [np.nanmedian([errors[kind + x][ten] for x in "abcd"]) for kind in KINDS]
        share = found.right_polarity()[ten].mean()
        print(f"| {first + 1} to {first + 10} | {off[0]:.0f} | {off[1]:.0f} | {share:.0%} |")
    index = {name: found.flash_index[:, found.regions.index(name)] * sign for name, sign in POLARITY.items()}
    wrong = [name for name, own in index.items() if np.median(own) <= 0]
    print("median flash index of the wrong sign:", ", ".join(wrong) or "none")
    load_flyvis_parameters(net, ensemble, 0)
    figures = {"tuning": draw_tuning(found), "best": draw_best(net), "flashes": draw_flashes(found)}
    for name, figure in figures.items():
        figure.savefig(HERE / f"flyvis_ensemble_{name}.png", dpi=DPI)
        print(f"wrote flyvis_ensemble_{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
