"""Draw the two figures that only docs/gallery.md has: waveforms, and lesions in C. elegans.

    python docs/figures/gallery_figures.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

import sparse_mrnn as sm
from sparse_mrnn.data import example_path
from sparse_mrnn.stimulus import (
    Chirp,
    Function,
    OrnsteinUhlenbeck,
    Poisson,
    PulseTrain,
    Ramp,
    Sine,
    Waveform,
    WhiteNoise,
)

HERE = Path(__file__).parent
DPI = 110
WAVEFORMS: dict[str, Waveform | float] = {
    "1.0": 1.0,
    "PulseTrain(1, period=100, width=30)": PulseTrain(1, period=100, width=30),
    "Ramp(0, 1)": Ramp(0, 1),
    "Sine(1, frequency=8)": Sine(1, frequency=8),
    "Chirp(1, first=2, last=30)": Chirp(1, first=2, last=30),
    "Function(lambda t: exp(-t / 80))": Function(lambda t: float(np.exp(-t / 80))),
    "WhiteNoise(0.5)": WhiteNoise(0.5),
    "OrnsteinUhlenbeck(0.5, tau=40)": OrnsteinUhlenbeck(0.5, tau=40),
    "Poisson(40)": Poisson(40),
}


def waveforms() -> plt.Figure:
    """Every waveform as a unit receives it: the state of a unit whose x is the current of a time step."""
    figure, axes = plt.subplots(3, 3, figsize=(9.5, 5), sharex=True, layout="constrained")
    g = sm.RegionGraph()
    g.add_region("unit", 1, sign=None)
    net = sm.mRNN(g, "linear", dt=1, tau=1, device="cpu")  # alpha = 1: x is the current
    for ax, (name, waveform) in zip(axes.flat, WAVEFORMS.items(), strict=True):
        stimulus = sm.Stimulus("unit", waveform, start=50, stop=450)
        current = sm.simulate(net, 500, stimulus=stimulus, progress=False, seed=0).h[0, :, 0]
        ax.axvspan(50, 450, color="0.94", lw=0)
        ax.plot(current.time, current, lw=0.9, drawstyle="steps-post")
        ax.set_title(name, fontsize=9, family="monospace")
    for ax in axes[-1]:
        ax.set_xlabel("time (ms)")
    figure.supylabel("current", fontsize=10)
    return figure


def lesions(rows: int = 14) -> plt.Figure:
    """Each interneuron of C. elegans lesioned in turn while the touch neurons are stimulated."""
    graph = sm.read_config(example_path("celegans"))
    net = sm.mRNN(graph, dt=2, tau=20, spectral_radius=0.9, device="cpu", seed=0)
    touch = sm.Stimulus("touch", 1.0, start=50, stop=250)

    def activity(*acts: sm.Lesion) -> np.ndarray:
        run = sm.simulate(net, 300, stimulus=touch, interventions=acts, progress=False)
        return np.asarray(run.h[0].mean("time"))

    intact = activity()
    names = list(net.layout().unit_ids)
    candidates = [k for region in graph.members("interneuron") for k in net.unit_indices(region).tolist()]
    change = {names[k]: activity(sm.Lesion(names[k])) - intact for k in candidates}

    def elsewhere(name: str) -> float:
        """Summed effect on all neurons but the lesioned one."""
        return float(np.abs(np.delete(change[name], names.index(name))).sum())

    strongest = sorted(change, key=elsewhere, reverse=True)[:rows]
    motor = [k for region in graph.members("motor") for k in net.unit_indices(region).tolist()]
    motor = sorted(motor, key=lambda k: -max(abs(change[name][k]) for name in strongest))[:30]
    table = -100 * np.array([change[name][motor] for name in strongest]) / intact[motor]
    figure, ax = plt.subplots(figsize=(9.5, 4.6), layout="constrained")
    drawn = ax.imshow(table, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    ax.set_xticks(range(len(motor)), [names[k] for k in motor], rotation=90, fontsize=8)
    ax.set_yticks(range(rows), strongest, fontsize=8)
    ax.set(xlabel="motor neuron", ylabel="lesioned interneuron")
    ax.set_title("C. elegans, touch neurons stimulated: effect of single lesions", fontsize=11)
    figure.colorbar(drawn, ax=ax, label="fall of its mean activity (%)")
    return figure


def main() -> None:
    """Draw both beside this file."""
    for name, figure in {"waveforms": waveforms(), "celegans_lesions": lesions()}.items():
        figure.savefig(HERE / f"{name}.png", dpi=DPI)
        print(f"wrote {name}.png")


if __name__ == "__main__":
    main()
