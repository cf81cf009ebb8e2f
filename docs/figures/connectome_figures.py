"""Redraw the figures of docs/connectomes.md from a run of the fly's visual system.

    python docs/figures/connectome_figures.py PATH/fib25-fib19_v2.2.json
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")

from sparse_mrnn import mRNN
from sparse_mrnn.fly_vision import read_flyvis
from sparse_mrnn.plot import plot_activity, plot_weights
from sparse_mrnn.simulation import simulate
from sparse_mrnn.stimulus import Stimulus

HERE = Path(__file__).parent
DPI = 100


def main(path: str) -> None:
    """Import, flash all photoreceptors for 200 ms on top of a constant current into every cell, and draw."""
    graph, report = read_flyvis(path)
    print(report)
    net = mRNN(graph, dt=5, tau=50, seed=0, device="cpu")
    current = [Stimulus(role, 0.5) for role in graph.parents]
    recording = simulate(net, 800, stimulus=[*current, Stimulus("input", 1.0, start=300, stop=500)])
    for name, ax in (("flyvis_activity", plot_activity(recording)), ("flyvis_weights", plot_weights(net))):
        ax.figure.savefig(HERE / f"{name}.png", dpi=DPI)
        print(f"wrote {name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
