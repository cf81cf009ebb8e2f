"""Draw the figures of docs/analysis.md: train the two tasks, or read what an earlier call kept.

    python docs/figures/analysis_figures.py [FOLDER]

FOLDER keeps the two trained networks and their readouts, so that the next call need not train them.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from training import DPI, HERE, TEST_SEED, delayed_response_net, flip_flop_net, train

import sparse_mrnn as sm
from sparse_mrnn.analysis import (
    find_fixed_points,
    flow_field,
    linearize,
    lyapunov_spectrum,
    perturbation,
    principal_plane,
    sample_states,
)
from sparse_mrnn.analysis.fixed_points import LOOKS
from sparse_mrnn.tasks import delayed_response, flip_flop

SIDES = {"left": "#D55E00", "right": "#0072B2"}


def trained(name, make, region, outputs, trials, iterations, folder):
    """A trained network and its readout, from the folder where they are there."""
    net_file, readout_file = folder / f"{name}.safetensors", folder / f"{name}_readout.safetensors"
    if net_file.exists():
        net = sm.load(net_file, device="cpu")
        readout = torch.nn.Linear(net.get_region_size(region), outputs)
        readout.load_state_dict(load_file(readout_file))
        return net, readout
    net = make()
    readout, _ = train(net, region, outputs, trials, iterations)
    folder.mkdir(parents=True, exist_ok=True)
    net.save(net_file)
    save_file(readout.state_dict(), readout_file)
    return net, readout


@torch.no_grad()
def without_noise(net, trials):
    """x over time in some trials."""
    return net(trials.inp, *net.batched_initial_condition(len(trials.inp)))[0]


@torch.no_grad()
def read(readout, net, region, h):
    """Outputs for activities, shape (..., units)."""
    return readout(torch.as_tensor(h)[..., net.unit_indices(region)].float()).numpy()


def flip_flop_figure(folder):
    """The cube of fixed points, and the flow on the plane of the first two principal components."""
    def make_trials(batch, k):
        return flip_flop(batch, 100, seed=k)

    net, readout = trained("flip_flop", flip_flop_net, "exc", 3, make_trials, 900, folder)
    x = without_noise(net, flip_flop(64, 100, seed=TEST_SEED))
    points = find_fixed_points(net, x0=sample_states(x, 256))
    print(points.diagnostics)
    output = read(readout, net, "exc", points.h)
    for k in np.flatnonzero(points.stable):
        print("  stable", output[k].round(2), f"leading eigenvalue {abs(points.eigenvalues[k, 0]):.3f}")
    figure = plt.figure(figsize=(10, 4.3), layout="constrained")
    grid = figure.add_gridspec(1, 2, width_ratios=[1, 1.1], wspace=0.12)
    cube = figure.add_subplot(grid[0], projection="3d")
    paths = read(readout, net, "exc", torch.relu(x[:12]))
    for path in paths:
        cube.plot(*path.T, color="0.7", lw=0.4, zorder=0)
    for kind, look in LOOKS.items():
        chosen = output[points.stability == kind].T
        if chosen.size:
            number = chosen.shape[1]
            style = look | dict(edgecolors="white", linewidths=0.5, depthshade=False)
            cube.scatter(*chosen, label=f"{kind} ({number})", **style)
    cube.set(xlabel="output 1", ylabel="output 2", zlabel="output 3")
    cube.set_box_aspect((1, 1, 1), zoom=0.85)
    for axis in (cube.xaxis, cube.yaxis, cube.zaxis):
        axis.set_ticks([-1, 0, 1])
    cube.legend(fontsize=8, loc="upper left")
    cube.view_init(18, -62)
    field = flow_field(net, x[:3], grid=30, margin=0.1, plane=principal_plane(points.state[points.stable]))
    plane = figure.add_subplot(grid[1])
    field.plot(plane, fixed_points=points)
    plane.legend(fontsize=8, loc="upper left")
    figure.savefig(HERE / "analysis_flip_flop.png", dpi=DPI)


def delayed_response_figure(folder):
    """Fixed points of the delay, lesions of each region in each epoch, and where the leading modes are."""
    def make_trials(batch, k):
        return delayed_response(batch, seed=k)

    name, region = "delayed_response", "ALM_exc"
    net, readout = trained(name, delayed_response_net, region, 1, make_trials, 1200, folder)
    trials = delayed_response(400, seed=TEST_SEED)
    x = without_noise(net, trials)
    first, stop = (edge.tolist() for edge in trials.epochs["delay"])
    delays = [x[k, first[k] : stop[k]] for k in range(len(x))]
    starts = sample_states(torch.cat(delays), 128)
    points = find_fixed_points(net, x0=starts)
    print("all regions:", points.diagnostics)
    held = torch.cat(delays).mean(0)
    for regions in ("S1", "ALM", "thalamus"):
        alone = held.expand_as(starts).clone()
        alone[:, net.unit_indices(regions)] = starts[:, net.unit_indices(regions)]
        print(f"{regions} alone:", find_fixed_points(net, x0=alone, regions=regions).diagnostics)

    def accuracy(h):
        asked = trials.mask & (trials.target != 0)
        right = (readout(net.get_region_activity(h, region)) > 0) == (trials.target > 0)
        return right[asked].float().mean()

    table = {}
    for epoch in ("sample", "delay"):
        with torch.no_grad():
            found = perturbation(
                net, trials.inp, regions=["S1", "ALM", "thalamus"], kind="hold",
                window=trials.epochs[epoch], measures={"accuracy": accuracy},
            )
        table[epoch] = found.value[:, 0]
        print(epoch, found, sep="\n")
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.7), layout="constrained", width_ratios=[1.2, 0.9, 1.2])
    right_side = (trials.target[:, -1, 0] > 0).tolist()
    plane = points.plot(axes[0], trajectories=torch.stack([d[:15] for d in delays[:60]]))
    for line, right in zip(plane.lines, right_side, strict=False):
        line.set(color=SIDES["right" if right else "left"], alpha=0.45, lw=0.7)
    for side, colour in SIDES.items():
        plane.plot([], [], color=colour, lw=1, label=f"delay, cue {side}")
    far = plane.collections[0].get_offsets()[:, 0].max()
    plane.set_xlim(-14, 26)
    plane.annotate(f"a stable point at {far:.0f}", (25.5, 4.6), ha="right", fontsize=7)
    plane.annotate("", (25.5, 4.2), (20, 4.2), arrowprops=dict(arrowstyle="->", color="#0072B2"))
    plane.legend(fontsize=7, loc="lower right")
    plane.set_title("Fixed points of the delay", fontsize=10)
    at = np.arange(3)
    for k, (epoch, values) in enumerate(table.items()):
        colour = ("#56B4E9", "#E69F00")[k]
        axes[1].bar(at + 0.4 * k - 0.2, 100 * values, 0.38, color=colour, label=f"in {epoch}")
    axes[1].axhline(50, color="0.4", ls=":", lw=1)
    axes[1].set_xticks(at, found.target)
    axes[1].set(ylabel="right answers (%)", ylim=(0, 122), yticks=range(0, 101, 25))
    axes[1].legend(fontsize=7, ncols=2, loc="upper center", columnspacing=1)
    axes[1].set_title("Activity held at its mean", fontsize=10)
    saddle = int(np.flatnonzero(points.stability == "unstable")[0])
    for k in range(len(points)):
        modes = linearize(net, points.state[k]).modes(3, "flow")
        shares = ", ".join(
            f"{value:.4f} per ms {dict(zip(modes.region.tolist(), row.round(2).tolist(), strict=True))}"
            for value, row in zip(modes.eigenvalues, modes.participation, strict=True)
        )
        print(k, points.stability[k], shares)
    linearize(net, points.state[saddle]).modes(4, "flow").plot(axes[2])
    axes[2].set_title("Modes of the flow at the saddle", fontsize=10)
    figure.savefig(HERE / "analysis_delayed_response.png", dpi=DPI)


def chaos_figure():
    """The largest exponent against g, and how four of them converge."""
    gains, n = np.array([0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 1.8]), 1000
    g = sm.RegionGraph()
    g.add_region("r", n, sign=None)
    g.add_projection("r", "r", fan_in=100, initializer=sm.Normal(1.0))
    net = sm.mRNN(g, "tanh", seed=0, device="cpu", dt=10, tau=100, spectral_radius=1.0)
    start, largest = net.rec.values.detach().clone(), []
    for gain in gains:
        with torch.no_grad():
            net.rec.values.copy_(gain * start)
        found = lyapunov_spectrum(net, 4 if gain == gains[-1] else 1, steps=6000, transient=2000)
        largest.append((found.exponents[0], found.error[0]))
        value, error = 1000 * found.exponents[0], 1000 * found.error[0]
        print(f"g = {gain:g}: {value:.3f} ± {error:.3f} per s", flush=True)
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.5), layout="constrained")
    value, error = 1000 * np.array(largest).T
    axes[0].errorbar(gains, value, 2 * error, fmt="o-", color="#0072B2", ms=4, lw=1, capsize=2)
    axes[0].axhline(0, color="0.5", lw=0.8, ls="--")
    axes[0].axvline(1, color="0.5", lw=0.8, ls="--")
    axes[0].set(xlabel="spectral radius g", ylabel="largest Lyapunov exponent (1/s)")
    axes[0].set_title(f"{n:,} units, 100 synapses each", fontsize=10)
    found.plot(axes[1])
    axes[1].set_title(f"g = {gains[-1]:g}", fontsize=10)
    figure.savefig(HERE / "analysis_chaos.png", dpi=DPI)


def main():
    """Draw everything beside this file."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    flip_flop_figure(folder)
    delayed_response_figure(folder)
    chaos_figure()


if __name__ == "__main__":
    main()
