"""Redraw the figures of docs/spectral.md from real runs (some minutes, most of them one dense `eigvals`).

    python docs/figures/spectral_figures.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

import sparse_mrnn as sm
from sparse_mrnn.plot import plot_spectrum
from sparse_mrnn.spectral import disc_radius

HERE = Path(__file__).parent
DPI = 100
UNITS = 5000


def random_graph(n: int = UNITS) -> sm.RegionGraph:
    """One region without signs, 100 synapses onto every unit, standard deviation 1 / sqrt(100)."""
    g = sm.RegionGraph()
    g.add_region("r", n, sign=None)
    g.add_projection("r", "r", fan_in=100, initializer=sm.Normal(1.0))
    return g


def circular_law() -> None:
    """All eigenvalues of a sparse net (LAPACK, once) and the leading ones (sparse)."""
    net = sm.mRNN(random_graph(), "tanh", seed=0, device="cpu", dtype=torch.float64)
    values, _ = sm.leading_eigenpairs(net, 60, vectors=False)
    every = np.linalg.eigvals(net.effective_W_rec.detach().to_dense().numpy())
    _, axes = plt.subplots(1, 2, figsize=(9.5, 4.9), layout="constrained")
    axes[0].plot(every.real, every.imag, ".", ms=1, color="0.5", label="all, by LAPACK", zorder=1)
    plot_spectrum(values, disc_radius(net), ax=axes[0])
    axes[0].legend(loc="upper center", ncols=2, fontsize=7, frameon=False)
    axes[0].set_title(f"{UNITS:,} units, 100 synapses each")
    modulus = np.sort(np.abs(every))
    axes[1].plot(modulus, np.arange(1, UNITS + 1) / UNITS, color="#2c6fbb", label="measured")
    r = np.linspace(0, 1, 100)
    axes[1].plot(r, r**2, "--", color="0.3", label="circular law, $r^2$")
    axes[1].set(xlabel="modulus r", ylabel="fraction of eigenvalues within r", title="radial distribution")
    axes[1].legend(frameon=False)
    plt.savefig(HERE / "spectral_circular_law.png", dpi=DPI)
    print("leading by sparse search", np.abs(values[:2]), "by LAPACK", modulus[-2:][::-1])


def transition() -> None:
    """Activity after a long time: silence below g = 1, chaos above (Sompolinsky, Crisanti & Sommers 1988)."""
    gains = np.array([0.6, 0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.4, 1.6])
    net = sm.mRNN(random_graph(), "tanh", seed=0, device="cpu", dt=10, tau=100, spectral_radius=1.0)
    x0 = torch.randn(1, UNITS, generator=torch.Generator().manual_seed(0))
    rms, traces = [], {}
    start = net.rec.values.detach().clone()
    with torch.no_grad():
        for gain in gains:
            net.rec.values.copy_(gain * start)
            x, kept = x0, []
            for _ in range(20):
                out, h = net(torch.zeros(1, 100, 0), x)
                kept.append(h[0, :, :6])
                x = out[:, -1]
            rms.append(float(out.square().mean().sqrt()))
            traces[gain] = torch.cat(kept).numpy()
            print(f"g = {gain:g}: rms of x {rms[-1]:.4g}", flush=True)
    _, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    axes[0].plot(gains, rms, "o-", color="#2c6fbb")
    axes[0].axvline(1, ls="--", color="0.4")
    axes[0].set(xlabel="spectral radius g", ylabel="rms of x after 200 tau")
    axes[0].set_title(f"{UNITS:,} units, 100 synapses each")
    for ax, gain in zip(axes[1:], (0.8, 1.6), strict=True):
        ax.plot(np.arange(len(traces[gain])) / 10, traces[gain], lw=0.8)
        ax.set(xlabel="time (tau)", ylabel="h of six units", title=f"g = {gain}", ylim=(-1, 1), xlim=(0, 100))
    plt.savefig(HERE / "spectral_transition.png", dpi=DPI)


def outlier() -> None:
    """A Dale net with and without balanced rows (Rajan & Abbott 2006)."""
    _, axes = plt.subplots(1, 2, figsize=(9.5, 4.9), layout="constrained")
    for ax, init, title in (
        (axes[0], sm.Gamma(0.03), "80 % excitatory, magnitudes alike"),
        (axes[1], sm.BalancedEI(1.0), "balanced: rows sum to zero"),
    ):
        g = sm.RegionGraph()
        g.add_region("e", 1600)
        g.add_region("i", 400, sign="neg")
        for s in "ei":
            for t in "ei":
                g.add_projection(s, t, density=0.1, initializer=init)
        net = sm.mRNN(g, seed=0, device="cpu")
        values, _ = sm.leading_eigenpairs(net, 60, vectors=False)
        disc = disc_radius(net, net.layout().ptr)
        plot_spectrum(values, disc, float(np.abs(values[0])), ax=ax)
        ax.set_title(title)
        print(title, "radius", abs(values[0]), "disc", disc)
    plt.savefig(HERE / "spectral_outlier.png", dpi=DPI)


if __name__ == "__main__":
    outlier()
    transition()
    circular_law()
