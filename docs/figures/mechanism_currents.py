"""Currents between regions from a recording, with and without the anatomy: after Perich et al. 2020 (CURBD).

    python docs/figures/mechanism_currents.py

Three chaotic regions of 100 units are coupled weakly, one unit to one unit; a sequence drives the second,
two fixed patterns the third. All weights are fitted to the activity by `training.regress_weights`, and the
currents between regions are compared with the true ones. Four minutes of a core; draws mechanism_currents.png
and prints the numbers of docs/how_to/recordings.md.
"""

import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

import sparse_mrnn as sm
from sparse_mrnn.analysis import currents
from sparse_mrnn.training import Recorded, regress_weights

HERE = Path(__file__).parent
REGIONS, N = "ABC", 100
GAINS = {"A": 1.8, "B": 1.5, "C": 1.5}
DT, TAU, STEPS, LEAD = 10.0, 100.0, 1200, 200  # 12 s, of which 2 s before the sequence begins
COUPLED, COUPLING = 5, 0.02  # units of 100, and their weight
RIDGES = [1e-10, 1e-8, 1e-6, 1e-4]
TESTED = 240  # last steps, on which the ridge is chosen
PAIRS = [(s, t) for t in REGIONS for s in REGIONS if s != t]
NOISES, SHARES = [0.0, 1e-4, 1e-3, 1e-2], [1.0, 0.9, 0.5]
SEEDS, CURBD_RUNS = 2, 50
LARGEST = 1 - 1e-9  # of a rate, so that it tells a current
COLORS = {"with": "#0072B2", "without": "#D55E00"}


def graph(weights=None, anatomy=True):
    """The three regions, with their true weights, or as what is known of them."""
    g = sm.RegionGraph(name="three regions")
    for name in REGIONS:
        g.add_region(name, N, sign=None)
    for name in ("sequence", "patterns"):
        g.add_input(name, N, sign=None)
    for source in REGIONS:
        for target in REGIONS:
            known = anatomy and source != target
            value = weights[target, source] if weights and (known or source == target) else None
            if value is None:
                g.add_projection(source, target, initializer=sm.Constant(0.0))
            else:
                g.add_projection(source, target, weights=value)
    for source, target in (("sequence", "B"), ("patterns", "C")):
        g.add_projection(source, target, weights=weights[target, source])
    return g


def true_weights(rng):
    """Weights by (target, source): full within a region, on a few of the diagonal between two."""
    found = {}
    for source in REGIONS:
        for target in REGIONS:
            if source == target:
                found[target, source] = GAINS[source] / np.sqrt(N) * rng.standard_normal((N, N))
            else:
                found[target, source] = COUPLING * one_to_one(rng, COUPLED)
    found["B", "sequence"], found["C", "patterns"] = one_to_one(rng, N // 2), -one_to_one(rng, N // 2)
    return found


def one_to_one(rng, count):
    weights = np.zeros((N, N))
    units = rng.permutation(N)[:count]
    weights[units, units] = 1
    return weights


def inputs():
    """A bump that moves along the units for half of the time, and two patterns, one after the other."""
    unit, t = np.arange(N)[None], np.arange(STEPS - LEAD)[:, None]
    end = (STEPS - LEAD) // 2
    width = 0.2 * N
    bump = np.exp(-((unit - width - N * np.minimum(t, end - 100) / end) ** 2) / (2 * width**2))
    patterns = np.where(t < end + 100, bump[10], bump[300])
    both = []
    for x in (bump, patterns):
        h = np.log((x + 0.01) / (1.01 - x))
        h = (h - h.min()) / (h.max() - h.min())
        both.append(np.concatenate([np.repeat(h[:1], LEAD, axis=0), h]))
    return torch.from_numpy(np.concatenate(both, axis=1))[None]


def network(g):
    return sm.mRNN(g, "tanh", dt=DT, tau=TAU, seed=0, dtype=torch.float64, device="cpu")


def between(net, h, u):
    """Current between each two regions, shape (time, target units)."""
    found = currents(net, h, inputs=u, h0=torch.zeros(h.shape[-1], dtype=h.dtype)).isel(trial=0)
    found = found.isel(time=slice(1, None))  # of the first step, what came before is not known
    return {(s, t): found.sel(source=s).values[:, net.unit_indices(t)] for s, t in PAIRS}


def masked(h, seen):
    """Activity of the units that are seen, and 0 of the others."""
    hidden = torch.ones(h.shape[-1], dtype=torch.bool)
    hidden[seen] = False
    return h.masked_fill(hidden, 0.0)


@torch.no_grad()
def prediction(net, h, u, seen):
    """Share of the variance of the last steps that is predicted one step ahead, from the units seen."""
    before, after = masked(h, seen)[0, -TESTED - 1 : -1], h[0, -TESTED:, seen]
    _, found = net(u[0, -TESTED:, None], torch.atanh(before))  # each step is a trial
    return float(1 - (found[:, 0, seen] - after).square().mean() / after.var(dim=0).mean())


def fitted(g, h, u, seen):
    """The prediction and the network of the ridge that predicts best what it was not fitted to."""
    found = []
    for ridge in RIDGES:
        net = network(g)
        with torch.no_grad():
            net.rec.values.zero_()  # so that synapses from units that were not recorded send nothing
        names = [net.unit_ids[k] for k in seen]
        recorded = Recorded(h[:, :-TESTED, seen], names, interval=DT)
        regress_weights(net, recorded, u[:, :-TESTED], ridge=ridge, unrecorded="leave out")
        found.append((prediction(net, h, u, seen), net))
    return max(found, key=lambda pair: pair[0])


def agreement(true, net, h, u, seen):
    """Correlation of each current with the true one, over time and the units that are seen."""
    found, r = between(net, masked(h, seen), u), []
    for s, t in PAIRS:
        own = np.isin(net.unit_indices(t), seen)
        a, b = true[s, t][:, own].ravel(), found[s, t][:, own].ravel()
        if a.std() > 0:  # else no unit that is seen receives any
            r.append(np.corrcoef(a, b)[0, 1] if b.std() > 0 else 0.0)
    return np.array(r)


def curbd(h, runs, seed=0):
    """The dense way: CURBD's recursive least squares over a running network of all units by all units.

    Written for this comparison after the equations of Perich et al. 2020 and Sussillo & Abbott 2009: one
    matrix P of all units by all units, updated at every time step of every run. Returns weights, and the
    share of the variance that the last run explains.
    """
    rng = np.random.default_rng(seed)
    steps, n = h.shape
    J, P = 1.5 / np.sqrt(n) * rng.standard_normal((n, n)), np.eye(n)  # noqa: N806
    noise, white = np.zeros((steps, n)), np.sqrt(100 / DT) * rng.standard_normal((steps, n))
    for t in range(1, steps):
        noise[t] = white[t] + (noise[t - 1] - white[t]) * np.exp(-DT / 100)
    model = np.zeros_like(h)
    for _ in range(runs):
        x = np.arctanh(h[0])
        for t in range(1, steps):
            r = model[t] = np.tanh(x)
            current = J @ r + 0.01 * noise[t]
            x = x + DT / TAU * (current - x)
            error = np.tanh(current) - h[t - 1]
            k = P @ r
            c = 1 / (1 + r @ k)
            P -= c * np.outer(k, k)  # noqa: N806
            J -= c * np.outer(error, k)  # noqa: N806
    return J, 1 - np.square(model[1:] - h[:-1]).mean() / h.var()


def simulation(seed):
    """Weights, inputs, and activity after each step."""
    rng = np.random.default_rng(seed)
    weights, u = true_weights(rng), inputs()
    net = network(graph(weights))
    with torch.no_grad():
        _, h = net(u, torch.from_numpy(2 * rng.random((1, 3 * N)) - 1))
    return weights, net, u, h


def sweep(seed):
    """Prediction and agreement, for each noise, share of units recorded, and anatomy."""
    weights, net, u, h = simulation(seed)
    true, rng, rows = between(net, h, u), np.random.default_rng(seed), {}
    for noise in NOISES:
        for share in SHARES if noise <= 1e-4 else SHARES[:1]:
            seen = np.sort(rng.permutation(3 * N)[: round(share * 3 * N)])
            noisy = (h + noise * torch.from_numpy(rng.standard_normal(h.shape))).clamp(-LARGEST, LARGEST)
            for name in COLORS:
                score, found = fitted(graph(weights, name == "with"), noisy, u, seen)
                rows[noise, share, name] = score, agreement(true, found, noisy, u, seen)
            shown = ", ".join(f"{name} {rows[noise, share, name][1].mean():.2f}" for name in COLORS)
            print(f"seed {seed}, noise {noise:g}, {share:.0%} recorded: {shown}", flush=True)
    return rows


def table(sweeps):
    """Markdown: means, and the range over pairs of regions and simulations."""
    heads = "noise | recorded | predicted | currents, with anatomy | predicted | currents, without"
    print(f"| {heads} |\n{'|---' * 6}|")
    for noise, share, _ in dict.fromkeys((*key[:2], "") for key in sweeps[0]):
        cells = [f"{noise:g}", f"{share:.0%}"]
        for name in COLORS:
            found = [rows[noise, share, name] for rows in sweeps]
            r = np.concatenate([part[1] for part in found])
            cells.append(f"{np.mean([part[0] for part in found]):.4f}")
            cells.append(f"{r.mean():.2f} ({r.min():.2f} to {r.max():.2f})")
        print(f"| {' | '.join(cells)} |")


def times(weights, u, h):
    """CPU seconds of a fit with the anatomy and without, and of the dense CURBD; print them."""
    units = network(graph(weights)).unit_ids
    for name in COLORS:
        net = network(graph(weights, name == "with"))
        begin = time.process_time()
        regress_weights(net, Recorded(h, units, interval=DT), u)
        print(f"fit {name} anatomy: {net.rec.nnz:,} weights, {time.process_time() - begin:.1f} s of a core")
    begin = time.process_time()
    J, explained = curbd(h[0].numpy(), CURBD_RUNS)  # noqa: N806
    seconds = time.process_time() - begin
    dense = network(graph(weights, anatomy=False))
    with torch.no_grad():  # values are projection after projection, row by row
        corners = [(N * REGIONS.index(t), N * REGIONS.index(s)) for s, t, _ in dense.rec.projections]
        blocks = [J[row : row + N, col : col + N] for row, col in corners]
        dense.rec.values.copy_(torch.from_numpy(np.concatenate([block.ravel() for block in blocks])))
    r = agreement(between(network(graph(weights)), h, u), dense, h, u, np.arange(3 * N))
    print(f"dense CURBD, {CURBD_RUNS} runs: {seconds:.1f} s of a core, variance explained {explained:.3f}, "
          f"currents {r.mean():.2f} ({r.min():.2f} to {r.max():.2f})")  # fmt: skip


def draw(sweeps):
    """A target of each pair of regions, and how far currents agree as noise grows and units are missing."""
    weights, net, u, h = simulation(0)
    true = between(net, h, u)
    every, found = np.arange(3 * N), {}
    for name in COLORS:
        found[name] = between(fitted(graph(weights, name == "with"), h, u, every)[1], h, u)
    figure = plt.figure(figsize=(12, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[2, 1])
    axes = left.subplots(3, 2, sharex=True)
    seconds = np.arange(1, STEPS) * DT / 1000
    for ax, (s, t) in zip(axes.flat, PAIRS, strict=True):
        unit = true[s, t].std(axis=0).argmax()
        for name, color in COLORS.items():
            current = 1000 * found[name][s, t][:, unit]
            ax.plot(seconds, current, color=color, lw=1.6 if name == "with" else 1, label=f"{name} anatomy")
        ax.plot(seconds, 1000 * true[s, t][:, unit], color="0.1", lw=1, ls="--", label="true")
        ax.set_title(f"{s} to {t}, one unit", fontsize=9)
        ax.tick_params(labelsize=8)
    axes[0, 0].legend(frameon=False, fontsize=8)
    left.supylabel("current (1/1000)", fontsize=9)
    left.supxlabel("time (s)", fontsize=9)
    top, bottom = right.subplots(2, 1)
    for name, color in COLORS.items():
        for ax, keys in (
            (top, [(noise, 1.0) for noise in NOISES]), (bottom, [(0.0, share) for share in SHARES]),
        ):
            r = [np.concatenate([rows[*key, name][1] for rows in sweeps]) for key in keys]
            x = np.arange(len(keys)) + (0.1 if name == "without" else -0.1)
            ax.plot(x, [part.mean() for part in r], "o-", color=color, label=f"{name} anatomy")
            each = np.repeat(x, [len(part) for part in r])
            ax.scatter(each, np.concatenate(r), color=color, s=8, alpha=0.5)
    top.set_xticks(range(len(NOISES)), [f"{noise:g}" for noise in NOISES])
    top.set(xlabel="noise of the recorded rates", ylim=(-1.05, 1.05))
    bottom.set_xticks(range(len(SHARES)), [f"{share:.0%}" for share in SHARES])
    bottom.set(xlabel="units recorded, without noise", ylim=(-1.05, 1.05))
    for ax in (top, bottom):
        ax.axhline(0, color="0.8", lw=0.8, zorder=0)
        ax.set_ylabel("correlation with\nthe true current", fontsize=9)
    top.legend(frameon=False, fontsize=8, loc="lower left")
    figure.savefig(HERE / "mechanism_currents.png", dpi=100)


def main():
    torch.set_num_threads(1)
    weights, _, u, h = simulation(0)
    times(weights, u, h)
    sweeps = [sweep(seed) for seed in range(SEEDS)]
    table(sweeps)
    draw(sweeps)


if __name__ == "__main__":
    main()
