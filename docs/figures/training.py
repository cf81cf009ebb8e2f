"""Train the two tasks of docs/training.md and draw their figures: a few minutes on two cores.

    python docs/figures/training.py
"""

import time
from itertools import product
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import torch

import sparse_mrnn as sm
from sparse_mrnn.tasks import delayed_response, flip_flop

HERE = Path(__file__).parent
DPI = 110
PANELS = {"figsize": (8, 3.4), "width_ratios": [1, 1.4], "layout": "constrained"}
TEST_SEED = 10**6  # of trials no training step has seen


def flip_flop_net():
    """Excitatory and inhibitory units under Dale's law; every tenth possible synapse."""
    g = sm.RegionGraph()
    g.add_region("exc", 240, sign="pos", base_firing=0.2, learnable_bias=True)
    g.add_region("inh", 60, sign="neg", base_firing=0.2, learnable_bias=True)
    g.add_input("pulses", 3, sign=None)
    for target in ("exc", "inh"):
        g.add_projection("pulses", target, density=0.5)
        for source in ("exc", "inh"):
            g.add_projection(source, target, density=0.1, self_connections=source != target)
    return sm.mRNN(g, "relu", dt=10, tau=50, spectral_radius=1.5, seed=0, device="cpu")


def delayed_response_net():
    """Sensory cortex, a frontal area (ALM) with excitatory and inhibitory units, and a thalamic loop."""
    g = sm.RegionGraph()
    for name, n in {"S1": 80, "ALM_exc": 120, "ALM_inh": 40, "thalamus": 60}.items():
        sign, parent = "neg" if name == "ALM_inh" else "pos", "ALM" if "ALM" in name else None
        g.add_region(name, n, sign=sign, base_firing=0.1, learnable_bias=True, parent_region=parent)
    g.add_input("cue", 2)
    g.add_input("go", 1)
    g.add_projection("cue", "S1", density=0.5)
    g.add_projection("go", "thalamus", density=0.5)
    g.add_projection("S1", "ALM_exc", density=0.1)
    for source, target in product(("ALM_exc", "ALM_inh"), repeat=2):
        g.add_projection(source, target, density=0.2, self_connections=source != target)
    g.add_projection("ALM_exc", "thalamus", density=0.1)
    for target in ("ALM_exc", "ALM_inh"):
        g.add_projection("thalamus", target, density=0.1)
    return sm.mRNN(g, "relu", dt=10, tau=50, spectral_radius=1.2, seed=0, device="cpu")


def train(net, region, outputs, make_trials, iterations, batch=64, lr=3e-3):
    """A plain loop with plain Adam; the readout and the loss and accuracy of each iteration."""
    torch.manual_seed(0)
    readout = torch.nn.Linear(net.get_region_size(region), outputs)
    optimizer = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=lr)
    x0, h0 = net.batched_initial_condition(batch)
    curve = []
    for iteration in range(iterations):
        trials = make_trials(batch, iteration)
        _, h = net(trials.inp, x0, h0, noise=True)
        output = readout(net.get_region_activity(h, region))
        loss = trials.loss(output)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        curve.append((loss.item(), accuracy(output, trials)))
    return readout, curve


def accuracy(output, trials):
    """Fraction of the times with an answer to give at which its sign is right."""
    asked = trials.mask & (trials.target != 0)
    return ((output > 0) == (trials.target > 0))[asked].float().mean().item()


@torch.no_grad()
def evaluate(net, readout, region, trials, stim_input=None):
    """Output on new trials, its accuracy, and the activity."""
    x0, h0 = net.batched_initial_condition(len(trials.inp))
    _, h = net(trials.inp, x0, h0, noise=True, stim_input=stim_input)
    output = readout(net.get_region_activity(h, region))
    return output, accuracy(output, trials), h


def silence(net, trials, region, epoch, strength=5.0):
    """A current that holds a region down during an epoch."""
    first, stop = trials.epochs[epoch]
    time_ = torch.arange(trials.inp.shape[1])
    on = (time_ >= first[:, None]) & (time_ < stop[:, None])
    stim = torch.zeros(*trials.inp.shape[:2], net.graph.n_units)
    stim[..., net.unit_indices(region)] = -strength * on[..., None].float()
    return stim


def draw_curve(ax, curve):
    loss, right = zip(*curve, strict=True)
    ax.plot(loss, color="C0", lw=0.8)
    ax.set(xlabel="Iteration", yscale="log", ylim=(0.5 * min(loss), 3))
    ax.set_ylabel("Loss", color="C0")
    twin = ax.twinx()
    twin.plot([100 * r for r in right], color="C1", lw=0.8)
    twin.set_ylabel("Accuracy (%)", color="C1")
    twin.set_ylim(40, 101)


def flip_flop_figure(iterations=900):
    net = flip_flop_net()
    begin = time.perf_counter()
    readout, curve = train(net, "exc", 3, lambda batch, k: flip_flop(batch, 100, seed=k), iterations)
    seconds = time.perf_counter() - begin
    trials = flip_flop(500, 100, seed=TEST_SEED)
    output, right, _ = evaluate(net, readout, "exc", trials)
    print(f"flip-flop: {net.rec.nnz} synapses, {iterations} iterations, {seconds:.0f} s")
    print(f"  accuracy on 500 new trials {100 * right:.1f}%")
    figure, axes = plt.subplot_mosaic([["curve", "0"], ["curve", "1"], ["curve", "2"]], **PANELS)
    draw_curve(axes["curve"], curve)
    for bit in range(3):
        ax = axes[str(bit)]
        ax.plot(trials.inp[0, :, bit], color="0.6", lw=1, label="input")
        ax.plot(trials.target[0, :, bit], "k--", lw=1, label="target")
        ax.plot(output[0, :, bit], color=f"C{bit + 2}", label="output")
        ax.set(ylim=(-1.5, 1.5), yticks=[-1, 1], ylabel=f"Bit {bit + 1}")
        ax.tick_params(labelbottom=bit == 2)
    axes["0"].legend(ncol=3, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, fontsize=8)
    axes["2"].set_xlabel("Time step (10 ms)")
    figure.savefig(HERE / "flip_flop.png", dpi=DPI)


def delayed_response_figure(iterations=1200):
    net = delayed_response_net()
    begin = time.perf_counter()
    readout, curve = train(net, "ALM_exc", 1, lambda batch, k: delayed_response(batch, seed=k), iterations)
    seconds = time.perf_counter() - begin
    trials = delayed_response(1000, seed=TEST_SEED)
    output, right, h = evaluate(net, readout, "ALM_exc", trials)
    print(f"delayed response: {net.rec.nnz} synapses, {iterations} iterations, {seconds:.0f} s")
    print(f"  accuracy on 1000 new trials {100 * right:.1f}%")
    there = trials.epochs["distractor"][1] > trials.epochs["distractor"][0]
    for name, chosen in (("with", there), ("without", ~there)):
        asked = trials.mask & (trials.target != 0) & chosen[:, None, None]
        correct = ((output > 0) == (trials.target > 0))[asked]
        print(f"  {name} distractor: {100 * correct.float().mean():.1f}%")
    for region in ("S1", "ALM_exc", "thalamus"):
        for epoch in ("sample", "delay"):
            held = silence(net, trials, region, epoch)
            _, right, _ = evaluate(net, readout, "ALM_exc", trials, held)
            print(f"  {region} silenced during the {epoch}: {100 * right:.1f}%")
    figure, axes = plt.subplot_mosaic([["curve", "out"], ["curve", "rate"]], **PANELS)
    draw_curve(axes["curve"], curve)
    right_side = trials.target[:, -1, 0] > 0
    go = trials.epochs["delay"][1]
    longest = go == go.max()
    for side, colour, name in ((right_side, "C0", "right"), (~right_side, "C3", "left")):
        shown = torch.nonzero(side & longest & there)[:6, 0]
        for k, trial in enumerate(shown):
            axes["out"].plot(output[trial, :, 0], color=colour, lw=0.8, label=name if k == 0 else None)
    axes["out"].axvspan(5, 15, color="0.9")
    axes["out"].axvline(int(go.max()), color="0.4", ls=":")
    axes["out"].set(ylabel="Output", yticks=[-1, 0, 1])
    axes["out"].legend(loc="upper left", frameon=False, fontsize=8)
    for region in ("S1", "ALM_exc", "thalamus"):
        axes["rate"].plot(net.get_region_activity(h, region)[longest].mean((0, 2)), label=region)
    axes["rate"].set(ylabel="Mean activity", xlabel="Time step (10 ms)")
    axes["rate"].legend(frameon=False, fontsize=8)
    axes["out"].tick_params(labelbottom=False)
    figure.savefig(HERE / "delayed_response.png", dpi=DPI)


if __name__ == "__main__":
    flip_flop_figure()
    delayed_response_figure()
