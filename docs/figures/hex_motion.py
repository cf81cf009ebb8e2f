"""Train the fly's visual system on optic flow and draw the figures of docs/connectome_constrained.md.

    python docs/figures/hex_motion.py PATH/fib25-fib19_v2.2.json

Seven minutes of one core. What it prints is in the page, too.
"""

import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.utils.data import DataLoader

import sparse_mrnn as sm
from sparse_mrnn.fly_vision import (
    FlowDecoder,
    HexMotion,
    adapted_state,
    edge_responses,
    plot_hex,
    plot_tuning,
    read_flyvis,
)
from sparse_mrnn.plot import plot_training

HERE = Path(__file__).parent
DPI = 100

EXTENT, DT, BATCH, ITERATIONS = 5, 20.0, 8, 10_000
UNIT = 10.0  # columns per second in which flow is decoded
SKIP = 5  # steps before the first that counts: the network is adapted to grey, the pattern appears
FLOOR = 0.1  # mean x that no type should fall below, or it falls silent and learns no more
RATES = {"gains": 1e-4, "types": 1e-3, "decoder": 1e-2}  # of Adam; they fall to a tenth, linearly
SHOWN = dict(extent=EXTENT, duration=400, dt=DT, speeds=(5, 15), contrasts=(0.5, 1), wavelengths=(6, 24))
TEST_SEED = 10**6

PREFERRED = {"a": 180.0, "b": 0.0, "c": 90.0, "d": 270.0}
"""Published preferred directions of T4a-d and T5a-d: front to back, back to front, up and down (Maisak et al.
2013, Nature 500:212), as degrees of the lattice (Lappalainen et al. 2024)."""
INPUTS = {"T4": ("Mi9", "Mi4"), "T5": ("Tm9", "CT1(Lo1)")}
"""Inputs of T4 and T5 where motion in the preferred direction comes from, and where it goes (Takemura et al.
2017, eLife 6:e24394; Shinomiya et al. 2019, eLife 8:e40025)."""
LEVELS = {"T4": 1.0, "T5": 0.0}
"""Edges to which T4 and T5 are known to respond: bright and dark."""
POLARITY = {
    "R1": "ON", "L1": "OFF", "L2": "OFF", "L3": "OFF", "Mi1": "ON", "Tm3": "ON", "Mi4": "ON", "Mi9": "OFF",
    "Tm1": "OFF", "Tm2": "OFF", "Tm9": "OFF", "CT1(M10)": "ON",
}  # fmt: skip
"""Main types of the motion pathways, and what depolarises them (the table in Lappalainen et al. 2024)."""


def learning(net, decoder):
    """Adam, with rates for gains, for what types have (resting potential, time constant), for the decoder."""
    parts = {"gains": [net.rec.gains], "types": [net.bias, net.tau_logit], "decoder": decoder.parameters()}
    optimizer = torch.optim.Adam([{"params": part, "lr": RATES[name]} for name, part in parts.items()])
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, ITERATIONS)
    return optimizer, falling


def train(net, decoder):
    """Mean squared error of each iteration, and every 500 that on sequences not trained on, as shares."""
    optimizer, falling = learning(net, decoder)
    loader = DataLoader(HexMotion(BATCH * ITERATIONS, seed=0, **SHOWN), batch_size=BATCH)
    curve, tests = [], {0: test_error(net, decoder)}
    sizes = np.diff(net.layout().ptr).tolist()
    for k, (light, flow) in enumerate(loader):
        if k % 50 == 0:
            rest = adapted_state(net)
        x, h = net(light, rest.expand(len(light), -1))
        means = torch.stack([of_type.mean() for of_type in x.split(sizes, dim=2)])
        loss = (decoder(h[:, SKIP:]) - flow[:, SKIP:] / UNIT).square().mean()
        optimizer.zero_grad()
        (loss + torch.relu(FLOOR - means).square().sum()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        falling.step()
        curve.append(loss.item() / (flow[:, SKIP:] / UNIT).square().mean().item())
        if (k + 1) % 500 == 0:
            tests[k + 1] = test_error(net, decoder)
            error = f"{np.mean(curve[-500:]):.3f}, on new sequences {tests[k + 1]:.3f}"
            print(f"{k + 1}: error {error}", flush=True)
    return curve, tests


@torch.no_grad()
def decode(net, decoder, light):
    """Flow of columns, columns per second."""
    decoder.eval()
    _, h = net(light, adapted_state(net).expand(len(light), -1))
    flow = UNIT * decoder(h)
    decoder.train()
    return flow


def test_error(net, decoder):
    """Squared error of the flow on 64 new sequences, as a fraction of the squared flow."""
    light, flow = (torch.stack(part) for part in zip(*HexMotion(64, seed=TEST_SEED, **SHOWN), strict=True))
    wrong = (decode(net, decoder, light) - flow)[:, SKIP:].square().sum()
    return (wrong / flow[:, SKIP:].square().sum()).item()


def responses(net):
    """Responses of the central cells of T4a-d and T5a-d, and of the main types to edges of both kinds."""
    cells = {kind: edge_responses(net, [kind + x for x in "abcd"], level=LEVELS[kind]) for kind in LEVELS}
    main = {on: edge_responses(net, list(POLARITY), level=level) for on, level in (("ON", 1.0), ("OFF", 0.0))}
    return cells, main


def wired(graph, name):
    """Degrees of the way from one of the `INPUTS` of the central cell of a type to the other."""
    middle = []
    for source in INPUTS[name[:2]]:
        (projection,) = (p for p in graph.projections() if (p.source, p.target) == (source, name))
        centre = np.flatnonzero((np.abs(graph.region(name).positions) < 0.1).all(axis=1))
        weights = np.abs(projection.weights.tocsr()[centre].toarray()[0])
        middle.append(weights @ graph.region(source).positions / weights.sum())
    x, y = middle[1] - middle[0]
    return np.degrees(np.arctan2(y, x)) % 360


def print_table(graph, before, after):
    """Preferred direction, selectivity and largest response of T4a-d and T5a-d, before and after."""
    print("| type | published | wired | before | index | peak | after | index | peak | off by |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for kind in LEVELS:
        for k, x in enumerate("abcd"):
            row = [kind + x, f"{PREFERRED[x]:.0f}", f"{wired(graph, kind + x):.0f}"]
            for found in (before[kind], after[kind]):
                tuned, peak = found.tuning()[kind + x], found.peaks()[k].max()
                silent = np.isnan(tuned.preferred)
                row += ["none" if silent else f"{tuned.preferred:.0f}"]
                row += [f"{tuned.selectivity:.2f}", f"{peak:.2g}"]
            off = abs((tuned.preferred - PREFERRED[x] + 180) % 360 - 180)
            row.append("" if silent else f"{off:.0f}")
            print("|", " | ".join(row), "|")


def polarity(main):
    """What depolarises each of the main types more: bright or dark edges, on average over directions."""
    size = {on: (found.x - found.rest_x[:, None, None]).mean(axis=(1, 2)) for on, found in main.items()}
    more = size["ON"] > size["OFF"]
    return dict(zip(main["ON"].regions, np.where(more, "ON", "OFF").tolist(), strict=True))


# ---------------------------------------------------------------- figures


def draw_stimuli():
    """An item of each kind in the middle of its time."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    for ax, kind in zip(axes, ("edge", "grating", "scene"), strict=True):
        light, flow = HexMotion(4, kinds=[kind], seed=2, **{**SHOWN, "extent": 8})[1]
        plot_hex(light[10], ax, flow=flow[10], label="light", limits=(0, 1), cmap="gray").set_title(kind)
    return figure


def draw_training(curve, tests, net, decoder):
    """The error over iterations, and flow of a new sequence, as it is and as it is decoded."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), width_ratios=[1.5, 1, 1], layout="constrained")
    ax = plot_training({"error in training": curve}, axes[0])
    ax.plot(list(tests)[1:], list(tests.values())[1:], "k.-", lw=0.8, label="error on new sequences")
    ax.set(ylabel="squared error / squared flow")
    ax.legend(frameon=False, fontsize=8)
    light, flow = HexMotion(64, seed=TEST_SEED, **SHOWN)[1]
    decoded = decode(net, decoder, light[None])[0]
    top = max(float(part[-1].norm(dim=1).max()) for part in (flow, decoded))
    style = dict(label="speed (columns / s)", limits=(0, top), speed=top, cmap="Wistia")
    for ax, part, name in ((axes[1], flow, "shown"), (axes[2], decoded, "decoded")):
        plot_hex(part[-1].norm(dim=1), ax, flow=part[-1], **style).set_title(f"flow {name}, last step")
    return figure


def draw_responses(before, after):
    """Pre-activation of the main types in the central column, as edges cross it to the right."""
    figure, axes = plt.subplots(3, 4, figsize=(12, 7), sharex=True, layout="constrained")
    for k, (ax, (name, known)) in enumerate(zip(axes.flat, POLARITY.items(), strict=True)):
        for on, edge, colour in (("ON", "bright", "C1"), ("OFF", "dark", "C0")):
            for when, main, style in (("before", before, dict(ls=":", lw=1)), ("after", after, dict(lw=1.6))):
                found, label = main[on], f"{edge}, {when}"
                ax.plot(found.times, found.x[k, 0] - found.rest_x[k], color=colour, label=label, **style)
        ax.axhline(0, color="0.8", lw=0.6, zorder=0)
        ax.set_title(f"{name} (known as {known})", fontsize=9)
        ax.tick_params(labelsize=8)
    axes[0, 0].legend(frameon=False, fontsize=7)
    figure.supxlabel("time after the edge crosses the centre (ms)", fontsize=9)
    figure.supylabel("x less x under grey", fontsize=9)
    return figure


def draw_tuning(before, after):
    """Tuning curves, before above and after below; triangles are published preferred directions."""
    polar = {"projection": "polar"}
    figure, axes = plt.subplots(2, 2, figsize=(8.6, 8), subplot_kw=polar, layout="constrained")
    for row, (when, cells) in zip(axes, (("before", before), ("after", after)), strict=True):
        for ax, (kind, found) in zip(row, cells.items(), strict=True):
            peaks = found.peaks()
            largest = np.maximum(peaks.max(axis=1, keepdims=True), 1e-12)
            curves = dict(zip(found.regions, peaks / largest, strict=True))
            known = {kind + x: direction for x, direction in PREFERRED.items()}
            plot_tuning(found.directions, curves, ax, preferred=known, label="peak above grey / largest")
            ax.set_title(f"{kind}, {'bright' if LEVELS[kind] else 'dark'} edges, {when}", fontsize=10)
    return figure


def main(path):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    graph, _ = read_flyvis(path, EXTENT, share=True, inputs=True)
    net = sm.mRNN(graph, "relu", dt=DT, seed=0, device="cpu")
    decoder = FlowDecoder(net, "output", hidden=(8,), radius=2)
    learnt = sum(p.numel() for p in net.parameters())
    print(f"{graph.n_units} neurons, {net.rec.nnz} synapse groups, {learnt} parameters", flush=True)
    untrained = responses(net)
    begin, cpu = time.perf_counter(), time.process_time()
    curve, tests = train(net, decoder)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    each = f"{1000 * cpu / ITERATIONS:.0f} ms of one core each"
    passed = f"{cpu / 60:.1f} minutes ({seconds / 60:.1f} passed)"
    print(f"{ITERATIONS} iterations of {BATCH} sequences, {each}, {passed}")
    cells, types = responses(net)
    print_table(graph, untrained[0], cells)
    for when, found in (("before", untrained[1]), ("after", types)):
        right = [name for name, on in polarity(found).items() if on == POLARITY[name]]
        print(f"polarity as known, {when}: {len(right)} of {len(POLARITY)}: {', '.join(right)}")
    taus = sorted(net.time_constants.items(), key=lambda item: item[1])
    print("time constants, ms:", ", ".join(f"{name} {tau:.0f}" for name, tau in [*taus[:4], *taus[-4:]]))
    figures = {
        "stimuli": draw_stimuli(),
        "training": draw_training(curve, tests, net, decoder),
        "responses": draw_responses(untrained[1], types),
        "tuning": draw_tuning(untrained[0], cells),
    }
    for name, figure in figures.items():
        figure.savefig(HERE / f"hex_motion_{name}.png", dpi=DPI)
        print(f"wrote hex_motion_{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
