"""Redraw the figure of docs/large_runs.md from a run of a network of a fly brain's size.

    python docs/figures/simulation_figures.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

import sparse_mrnn as sm
from sparse_mrnn.recording import Record
from sparse_mrnn.simulation import simulate
from sparse_mrnn.stimulus import Lesion, OrnsteinUhlenbeck, PulseTrain, Stimulus

HERE = Path(__file__).parent
AREAS, UNITS = 64, 139_255


def ring() -> sm.RegionGraph:
    """Areas of excitatory and inhibitory units on a ring; each reaches its neighbours with a delay."""
    g = sm.RegionGraph(name="ring of 64 areas")
    sizes = np.full(AREAS, UNITS // AREAS)
    sizes[: UNITS % AREAS] += 1
    for k, n in enumerate(sizes.tolist()):
        g.add_region(f"e{k}", n - n // 5, sign="pos", parent_region=f"area{k}")
        g.add_region(f"i{k}", n // 5, sign="neg", parent_region=f"area{k}")
    within = {"ee": (60, 0.75), "ei": (60, 1.0), "ie": (25, -0.5), "ii": (25, -0.3)}  # fan-in, sum of weights
    for k in range(AREAS):
        for (source, target), (fan_in, total) in within.items():
            weight = sm.Constant(total / fan_in)
            g.add_projection(f"{source}{k}", f"{target}{k}", fan_in=fan_in, initializer=weight)
        for hop, fan_in, total in ((1, 10, 0.22), (2, 6, 0.08)):
            away = dict(fan_in=fan_in, initializer=sm.Constant(total / fan_in), delay=8.0 * hop)
            for direction in (-1, 1):
                g.add_projection(f"e{k}", f"e{(k + direction * hop) % AREAS}", **away)
    return g


def main() -> None:
    """Simulate 1.5 s and draw the means of the areas."""
    begin = time.perf_counter()
    net = sm.mRNN(ring(), dt=1.0, tau=10.0, device="cpu", seed=0)
    built = time.perf_counter() - begin
    names = [f"e{k}" for k in range(AREAS)]
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        recording = simulate(
            net,
            duration=1500,
            stimulus=[
                Stimulus("area16", PulseTrain(4.0, period=400, width=40), start=100),
                Stimulus("area48", OrnsteinUhlenbeck(2.0, tau=50, shared=True), start=100, fraction=0.5),
            ],
            interventions=Lesion("area20", start=700),
            record=Record(what=["mean"], regions=names),
            out=Path(folder) / "run.zarr",
            progress=False,
        ).load()
        took = time.perf_counter() - begin
    size = f"{net.graph.n_units:,} units, {net.rec.nnz:,} synapses"
    print(f"{size}: built in {built:.1f} s, 1,500 steps in {took:.1f} s")
    mean = recording.h_mean[0].values.T
    figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
    top = float(np.quantile(mean, 0.995))
    style = dict(norm=matplotlib.colors.PowerNorm(0.5, 0, top), cmap="magma", interpolation="nearest")
    drawn = ax.imshow(mean, aspect="auto", extent=(0, 1500, AREAS, 0), **style)
    arrow = dict(arrowstyle="->", color="w", lw=0.8)
    for area, text in ((16, "pulses into area 16"), (48, "noise into area 48")):
        label = dict(xytext=(12, area - 10), color="w", fontsize=8, arrowprops=arrow)
        ax.annotate(text, (98, area + 0.5), **label)
    ax.axvline(700, color="w", lw=0.8, ls="--")
    ax.text(710, 2.5, "area 20 lesioned", color="w", fontsize=8)
    ax.set(xlabel="time (ms)", ylabel="area on the ring", title=f"{size}: mean activity of 64 areas")
    figure.colorbar(drawn, ax=ax, label="mean h of the excitatory units", extend="max")
    figure.savefig(HERE / "ring_activity.png", dpi=110)
    print("wrote ring_activity.png")


if __name__ == "__main__":
    main()
