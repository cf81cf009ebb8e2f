"""Draw the figure of currents in docs/analysis.md: `python docs/figures/currents.py`.

The nervous system of C. elegans after a touch (the shipped example, without noise): the mean currents between
classes of neurons, and those into layer 1, the command interneurons' class, against shuffled wirings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

import sparse_mrnn as sm
from sparse_mrnn.analysis import currents
from sparse_mrnn.data import example_path
from sparse_mrnn.declaration.config import load_config, read_config
from sparse_mrnn.plot import plot_currents

HERE = Path(__file__).parent
TARGET, NULLS = "layer_1", 20
CLASSES = ["touch", "amphid", "layer_1", "layer_2", "layer_3", "head_motor", "ventral_cord_motor"]


def received(graph: sm.RegionGraph, settings: Any, factor: float) -> Any:
    """Mean currents into each class over a run of the example, its synapse counts times a factor."""
    net = sm.mRNN(graph, settings.activation, dt=settings.dt, tau=settings.tau, device="cpu", seed=0)
    net.weights().scale_(torch.tensor(factor))
    run = sm.simulate(net, settings.duration, stimulus=settings.stimuli(), progress=False)
    return currents(net, run, what="mean")


def main() -> None:
    """Draw and print what the caption says."""
    config = load_config(str(example_path("celegans")))
    graph, settings = read_config(config).without_electrical(), config.simulation
    assert settings is not None
    # One factor for all: shuffled wirings have other spectral radii.
    factor = settings.spectral_radius / sm.spectral_radius(sm.mRNN(graph, device="cpu"))
    found = received(graph, settings, factor)
    layout: dict[str, Any] = dict(figsize=(12.5, 4.6), width_ratios=[1.6, 1], layout="constrained")
    figure, (left, right) = plt.subplots(1, 2, **layout)
    shown = [name in CLASSES for name in found.source.values]
    plot_currents(found[shown].sel(region=CLASSES), left)
    left.set_title("mean current into a neuron, touched from 200 to 600 ms")

    def peak(one: Any) -> dict[str, float]:
        """Largest mean current from each source into the target."""
        top = one.sel(region=TARGET).max(("trial", "time"))
        return dict(zip(top.source.values.tolist(), top.values.tolist(), strict=True))

    own = peak(found)
    names = sorted(own, key=lambda name: -own[name])[:8]
    for k, (keep, colour) in enumerate({"degrees": "#0072B2", "weights": "#D55E00"}.items()):
        null = [peak(received(graph.shuffled(keep, seed), settings, factor)) for seed in range(NULLS)]
        style: dict[str, Any] = dict(ms=3, alpha=0.5, color=colour, ls="none", marker="o")
        for row, name in enumerate(names):
            values = np.array([one.get(name, 0.0) for one in null])
            label = f"{NULLS} shuffles that keep {keep}" if row == 0 else None
            right.plot(values, np.full(NULLS, row + 0.15 + 0.15 * k), label=label, **style)
            z = (own[name] - values.mean()) / max(float(values.std()), 1e-12)
            print(f"{name} -> {TARGET}, {keep}: {own[name]:.4f}, shuffled {values.mean():.4f}, z = {z:.1f}")
    right.plot([own[name] for name in names], range(len(names)), "k|", ms=12, mew=2, label="connectome")
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.set(xlabel=f"largest mean current into {TARGET}", xlim=(0, None))
    right.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(HERE / "currents.png", dpi=110)


if __name__ == "__main__":
    main()
