"""Redraw the figures of the documentation from a run of the shipped example.

    python docs/figures/make_figures.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("agg")

from sparse_mrnn import load_config, read_config
from sparse_mrnn.config import SimulationConfig
from sparse_mrnn.data import example_path
from sparse_mrnn.plot import plot_activity, plot_regions, plot_weights
from sparse_mrnn.simulation import build_network, simulate

HERE = Path(__file__).parent
DPI = 110


def main() -> None:
    """Simulate once and write the three figures beside this file."""
    config = load_config(example_path("celegans"))
    settings = config.simulation or SimulationConfig()
    graph = read_config(config)
    net = build_network(graph, settings, "cpu")
    run = dict(stimulus=settings.stimuli(), noise=settings.noise, seed=settings.seed or 0)
    recording = simulate(net, settings.duration, **run)
    figures = {
        "celegans_activity": plot_activity(recording),
        "celegans_weights": plot_weights(net),
        "celegans_regions": plot_regions(graph),
    }
    for name, ax in figures.items():
        ax.figure.savefig(HERE / f"{name}.png", dpi=DPI)
        print(f"wrote {name}.png")


if __name__ == "__main__":
    main()
