"""Redraw the figure of docs/spiking.md from a run of a tenth of Potjans & Diesmann's column.

    python docs/figures/spiking_figures.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import sparse_mrnn as sm
from sparse_mrnn.plot import plot_raster
from sparse_mrnn.presets import potjans_diesmann_2014

HERE = Path(__file__).parent


def main() -> None:
    """Simulate and draw."""
    net = potjans_diesmann_2014(0.1, seed=0, device="cpu")
    run = sm.simulate(net, 900, progress=False)
    ax = plot_raster(run, start=500, stop=900, most=1500)
    ax.figure.savefig(HERE / "spiking_column.png", dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
