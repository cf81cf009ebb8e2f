"""Redraw the figures of the shipped example, and those of docs/plotting.md.

    python docs/figures/make_figures.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("agg")

import torch

import sparse_mrnn as sm
from sparse_mrnn import load_config, plot, read_config
from sparse_mrnn.data import example_path
from sparse_mrnn.declaration.config import SimulationConfig
from sparse_mrnn.simulation import build_network, simulate
from sparse_mrnn.tasks import flip_flop

HERE = Path(__file__).parent
CONFIGS = HERE.parents[1] / "configs"
DPI = 110


def celegans() -> dict[str, matplotlib.axes.Axes]:
    """The shipped example: touch neurons stimulated from 200 to 600 ms."""
    config = load_config(example_path("celegans"))
    settings = config.simulation or SimulationConfig()
    graph = read_config(config)
    net = build_network(graph, settings, "cpu")
    run = dict(stimulus=settings.stimuli(), noise=settings.noise, seed=settings.seed or 0)
    recording = simulate(net, settings.duration, **run)
    return {
        "celegans_activity": plot.plot_activity(recording),
        "celegans_weights": plot.plot_weights(net),
        "celegans_regions": plot.plot_regions(graph),
        "celegans_traces": plot.plot_traces(recording, regions=["touch", "layer_1", "ventral_cord_motor"]),
        "celegans_units": plot.plot_traces(recording, units=["ALML", "AVAL", "AVBL", "PVCL"]),
        "celegans_trajectory": plot.plot_trajectory(recording),
        "celegans_degrees": plot.plot_degrees(net),
    }


def cbgtcl() -> dict[str, matplotlib.axes.Axes]:
    """A loop of cortex, basal ganglia and thalamus: few enough regions for a circle."""
    graph = read_config(load_config(CONFIGS / "cbgtcl.json"))
    figures = {"cbgtcl_regions": plot.plot_regions(graph)}
    figures["cbgtcl_density"] = plot.plot_connectivity(graph, "density")
    return figures


def training(iterations: int = 200) -> dict[str, matplotlib.axes.Axes]:
    """A short training run of the flip-flop: its loss, and what it did to the weights."""
    g = sm.RegionGraph(name="flip-flop")
    g.add_region("exc", 160, base_firing=0.2, learnable_bias=True)
    g.add_region("inh", 40, sign="neg", base_firing=0.2, learnable_bias=True)
    g.add_input("pulses", 3, sign=None)
    for target in ("exc", "inh"):
        g.add_projection("pulses", target, density=0.5)
        for source in ("exc", "inh"):
            g.add_projection(source, target, density=0.1)
    net = sm.mRNN(g, "relu", dt=10, tau=50, spectral_radius=1.5, seed=0, device="cpu")
    torch.manual_seed(0)
    readout = torch.nn.Linear(160, 3)
    optimizer = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=3e-3)
    before, curve = net.effective_W_rec.detach().clone(), []
    x0, h0 = net.batched_initial_condition(32)
    for k in range(iterations):
        trials = flip_flop(32, 60, seed=k)
        loss = trials.loss(readout(net.get_region_activity(net(trials.inp, x0, h0)[1], "exc")))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return {
        "training_curve": plot.plot_training({"loss": curve}),
        "training_weights": plot.plot_weight_change(before, net),
    }


def main() -> None:
    """Draw everything beside this file."""
    for name, ax in {**celegans(), **cbgtcl(), **training()}.items():
        ax.figure.savefig(HERE / f"{name}.png", dpi=DPI)
        print(f"wrote {name}.png")


if __name__ == "__main__":
    main()
