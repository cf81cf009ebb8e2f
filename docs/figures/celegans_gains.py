"""Fit C. elegans' gains to a made recording and draw the figure of docs/connectome_constrained.md.

    python docs/figures/celegans_gains.py

A minute or two of one core. What it prints is in the page, too.
"""

import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import spearmanr

import sparse_mrnn as sm
from sparse_mrnn.connectome import read_celegans

HERE = Path(__file__).parent
DPI = 100

DT, STEPS = 10.0, 300  # 3 s
TRIALS, NEW = 32, 16  # that are fitted; that are not
BATCH, ITERATIONS = 8, 1500
NOISE = 0.02  # of the recording; rates lie between 0 and 1
RATES = {"gains": 0.02, "values": 0.002, "types": 0.01}  # of Adam; they fall to a tenth, linearly


def network(shared):
    """C. elegans with a gain for each pair of classes and transmitter, or with a weight for each synapse.

    Conductances of gap junctions are fixed.
    """
    counts, _ = read_celegans(spectral_radius=4.0)  # sigmoids have a slope of at most 1/4
    g = sm.RegionGraph(name="C. elegans")
    signs = {}
    for r in counts.regions():
        signs[r.name] = np.asarray(r.sign)
        learnt = dict(learnable_bias="region", learnable_tau=True, tau=60.0, tau_bounds=(20.0, 300.0))
        own = dict(sign=r.sign, parent_region=r.parent_region, unit_ids=list(r.unit_ids), base_firing=-1.5)
        g.add_region(r.name, r.n, **own, **learnt)
    for p in counts.projections():
        weights, more = p.weights.tocsr(), dict(kind=p.kind, key=p.key, trainable=p.kind == "chemical")
        if p.kind == "chemical" and shared:
            labels = np.where(signs[p.source] < 0, "GABA", "excitatory")[weights.indices]
            more |= dict(share=labels, bounds=(0.0, None))
        g.add_projection(p.source, p.target, weights=weights, **more)
    return sm.mRNN(g, "sigmoid", dt=DT, seed=0, device="cpu")


def currents(net, trials, seed):
    """Smooth random currents into sensory neurons, mostly those of their class: (trials, steps, units)."""
    rng, stim = np.random.default_rng(seed), torch.zeros(trials, STEPS, net.graph.n_units)
    for name in net.graph.members("sensory"):
        units = net.unit_indices(name)
        signal = rng.normal(size=(trials, STEPS, len(units) + 1))
        for t in range(1, STEPS):
            signal[:, t] = 0.97 * signal[:, t - 1] + np.sqrt(1 - 0.97**2) * signal[:, t]
        stim[..., units] = torch.from_numpy(3.0 * signal[..., :1] + signal[..., 1:]).float()
    return stim


def true_network():
    """Gains, biases and time constants that are to be found."""
    net = network(shared=True)
    torch.manual_seed(1)
    with torch.no_grad():
        net.rec.gains.mul_(torch.exp(0.8 * torch.randn_like(net.rec.gains)))
        net.bias.add_(0.7 * torch.randn_like(net.bias))
        net.tau_logit.add_(0.7 * torch.randn_like(net.tau_logit))
    return net


def run(net, stim):
    """Rates, shape (trials, steps, units)."""
    x0, h0 = net.batched_initial_condition(len(stim))
    return net(torch.zeros(*stim.shape[:2], 0), x0, h0, stim)[1]


def quality(found, wanted):
    """Root mean square error of rates, and the median over neurons of their correlation."""
    error = (found - wanted).square().mean().sqrt().item()
    a, b = (part - part.mean(dim=(0, 1)) for part in (found, wanted))
    size = (a.square().sum(dim=(0, 1)) * b.square().sum(dim=(0, 1))).sqrt()
    same = (a * b).sum(dim=(0, 1)) / size.clamp(min=1e-12)
    return f"{error:.3f} | {same.median():.3f}"


def fit(net, stim, recording, seen):
    """Adam on the squared error of the neurons that are seen; the loss of each iteration."""
    weights = ("gains", net.rec.gains) if net.rec.gains is not None else ("values", net.rec.values)
    groups = [{"params": [weights[1]], "lr": RATES[weights[0]]}]
    groups.append({"params": [net.bias, net.tau_logit], "lr": RATES["types"]})
    optimizer = torch.optim.Adam(groups)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, ITERATIONS)
    rng, losses = np.random.default_rng(0), []
    for _ in range(ITERATIONS):
        trials = rng.choice(TRIALS, BATCH, replace=False)
        loss = (run(net, stim[trials]) - recording[trials])[..., seen].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
        losses.append(loss.item())
    return losses


def report(name, net, loss, new, parts, seconds):
    """A line of the table."""
    with torch.no_grad():
        found = run(net, new[0])
    learnt = sum(p.numel() for p in net.parameters() if p.requires_grad)
    cells = [quality(found[..., part], new[1][..., part]) for part in parts]
    print(f"| {name} | {learnt} | {loss} | {' | '.join(cells)} | {seconds} |", flush=True)


def main():
    torch.set_num_threads(1)
    truth = true_network()
    stim, new = currents(truth, TRIALS, seed=2), currents(truth, NEW, seed=3)
    with torch.no_grad():
        rates, new_rates = run(truth, stim), run(truth, new)
    recording = rates + NOISE * torch.randn_like(rates)
    order = np.random.default_rng(4).permutation(truth.graph.n_units)
    seen = np.sort(order[:151])
    inner = np.setdiff1d(order, truth.unit_indices("sensory"))  # that no current goes to
    parts = [np.intersect1d(inner, seen), np.setdiff1d(inner, seen)]
    print(f"recorded: {len(seen)} of {len(order)} neurons, {TRIALS} trials of {STEPS * DT / 1000:g} s")
    inter = "inter- and motor neurons"
    print(f"tested on {NEW} new trials: {len(parts[0])} recorded {inter}, {len(parts[1])} others")
    heads = "loss | recorded: error | correlation | others: error | correlation | time"
    print(f"| network | parameters | {heads} |\n{'|---' * 8}|")
    nets, curves = {}, {}
    for name in ("shared gains", "per synapse"):
        net = nets[name] = network(name == "shared gains")
        if not curves:
            report("before", net, "", (new, new_rates), parts, "")
        begin = time.process_time()
        curves[name] = fit(net, stim, recording, seen)
        loss, seconds = np.mean(curves[name][-50:]), time.process_time() - begin
        report(name, net, f"{loss:.2e}", (new, new_rates), parts, f"{seconds:.0f} s")
    print(f"noise alone has a loss of {NOISE**2:.2e}")
    gains = [net.rec.gain_values().detach() for net in (truth, nets["shared gains"])]
    sizes = torch.bincount(truth.rec.group, minlength=len(gains[0])).numpy()
    for least in (1, 20):
        of = sizes >= least
        r = spearmanr(*(part.numpy()[of] for part in gains)).statistic
        print(f"{of.sum()} gains of {least} synapses or more: rank correlation with the true ones {r:.2f}")
    draw(truth, nets, curves, gains, (new, new_rates), parts[1])


def draw(truth, nets, curves, gains, new, unseen):
    """Loss, gains against true ones, and neurons that were not recorded in a trial that was not fitted."""
    figure = plt.figure(figsize=(12, 6.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.5])
    top, bottom = left.subplots(2, 1)
    for name, curve in curves.items():
        top.plot(curve, lw=0.8, label=name)
    top.axhline(NOISE**2, color="0.4", ls=":", label="noise of the recording")
    top.set(yscale="log", xlabel="iteration", ylabel="mean squared error")
    top.legend(frameon=False, fontsize=8)
    sizes = torch.bincount(truth.rec.group, minlength=len(gains[0]))
    bottom.scatter(*gains, s=4 + sizes, color="C0", alpha=0.5, lw=0)
    ends = (0.05, 20)
    bottom.plot(ends, ends, color="0.6", lw=0.8)
    bottom.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    bottom.set(xlabel="true gain", ylabel="gain found (size: synapses)")
    stim, rates = new
    with torch.no_grad():
        found = {name: run(net, stim[:1])[0] for name, net in nets.items()}
    varied = rates[0, :, unseen].std(dim=0).argsort(descending=True)
    shown = unseen[varied[np.linspace(0, len(unseen) // 2, 6).astype(int)].numpy()]
    time_ = np.arange(STEPS) * DT / 1000
    axes = right.subplots(len(shown), 1, sharex=True)
    for ax, unit in zip(axes, shown, strict=True):
        ax.plot(time_, rates[0, :, unit], color="0.2", lw=2, label="true")
        for k, (name, h) in enumerate(found.items()):
            ax.plot(time_, h[:, unit], lw=1, color=f"C{k}", label=name)
        ax.set_ylabel(truth.unit_ids[unit], rotation=0, ha="right", fontsize=8)
        ax.tick_params(labelsize=7)
    axes[0].legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    axes[-1].set_xlabel("time (s)")
    right.supylabel("rates of neurons that were not recorded, new trial", fontsize=9)
    figure.savefig(HERE / "celegans_gains.png", dpi=DPI)
    print("wrote celegans_gains.png")


if __name__ == "__main__":
    main()
