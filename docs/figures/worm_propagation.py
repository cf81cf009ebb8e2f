"""The C. elegans connectome against the signal-propagation atlas of Randi et al. 2023.

    pip install wormneuroatlas
    python docs/figures/worm_propagation.py

One neuron is stimulated, the others are seen to respond or not; the connectome predicts the steady state of a
small current into it. Gap junctions are electrical synapses with the conductances of the shipped network. Draws worm_propagation.png and prints the tables of
docs/how_to/recordings.md. The atlas is read from the installed package (GPL-3), which is not
imported: it would ask a server for its version.
"""

import importlib.util
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse as sp
import torch
from scipy.stats import rankdata

import sparse_mrnn as sm
from sparse_mrnn.analysis import linearize
from sparse_mrnn.connectome import read_celegans

HERE = Path(__file__).parent
RADIUS, LARGEST = 0.9, 0.95  # spectral radius; a bound of it while gains are learnt
SIGNIFICANT = 0.05  # q of the atlas
SHUFFLES, FITTED = 20, 3  # null models of each kind; those that gains are fitted to
FOLDS, ITERATIONS, RATE = 5, 300, 0.1
NULLS = {
    "degrees, whole network": ("merged", "degrees"),
    "synapses between classes": ("classes", "blocks"),
    "degrees between classes": ("classes", "degrees"),
}
WIDER = ["degrees, whole network", "degrees between classes"]  # null models that gains are fitted to
GAINS = {"sender": "source", "receiver": "target", "pair of classes": None}


def read_atlas(names, strain="wt"):
    """Responder, stimulated neuron and significance of each measured pair of the connectome.

    ``strain`` is "wt", or "unc31": mutants that release no dense-core vesicles.
    """
    import h5py

    spec = importlib.util.find_spec("wormneuroatlas")
    if spec is None:
        sys.exit("wormneuroatlas is not installed: pip install wormneuroatlas")
    with h5py.File(Path(spec.submodule_search_locations[0]) / "data" / "funatlas.h5") as file:
        atlas = [name.decode() for name in file["neuron_ids"][:]]
        q, change = file[f"{strain}/q"][:], file[f"{strain}/dFF"][:]  # row: responder, column: stimulated
    number = {name: k for k, name in enumerate(names)}
    unit = np.array([number.get(name, -1) for name in atlas])
    both = (unit[:, None] >= 0) & (unit >= 0) & ~np.eye(len(unit), dtype=bool)
    responder, stimulated = np.nonzero(both & np.isfinite(q) & np.isfinite(change))
    return unit[responder], unit[stimulated], q[responder, stimulated] < SIGNIFICANT


def auc(score, positive):
    """Probability that a positive pair has a higher score than another one."""
    ranks, n = rankdata(score), int(positive.sum())
    return (ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(ranks) - n))


def merged(graph, share=None, classes=None, *, electrical=True, signed=True):
    """The same synapses with all neurons in one region; gains by unit or by pair of classes, if asked.

    Without ``signed``, every chemical synapse excites.
    """
    regions, found = list(graph.regions()), sm.RegionGraph(name="C. elegans")
    start = dict(zip((r.name for r in regions), np.cumsum([0, *(r.n for r in regions)]), strict=False))
    sign = np.concatenate([np.asarray(r.sign) for r in regions])
    names = [name for r in regions for name in r.unit_ids]
    weights = {}
    for key in ("chemical", "electrical"):
        parts = [(p, p.weights.tocoo()) for p in graph.projections() if p.key == key]
        row = np.concatenate([w.row + start[p.target] for p, w in parts])
        column = np.concatenate([w.col + start[p.source] for p, w in parts])
        values = np.concatenate([w.data for _, w in parts])
        weights[key] = sp.csr_array((values, (row, column)), shape=(len(sign),) * 2)
        weights[key].sort_indices()
    chemical, gap = weights["chemical"], weights["electrical"]
    gap = sp.csr_array(gap.maximum(gap.T))  # the shipped graph has each pair of regions once, or in both orders
    gap.setdiag(0)
    gap.eliminate_zeros()
    if not signed:
        chemical, sign = abs(chemical), np.ones_like(sign)
    if classes is not None:
        row, column = chemical.tocoo().coords
        kind = np.where(sign[column] < 0, " GABA", "")
        share = [f"{classes[a]}-{classes[b]}{k}" for a, b, k in zip(column, row, kind, strict=True)]
    found.add_region("neurons", len(sign), sign=sign, unit_ids=names)
    more = {} if share is None else dict(share=share)
    found.add_projection("neurons", "neurons", weights=chemical, key="chemical", **more)
    if electrical:
        found.add_projection("neurons", "neurons", weights=gap, key="electrical", kind="electrical")
    return found


def network(graph):
    return sm.mRNN(graph, "tanh", dt=5, tau=50, spectral_radius=RADIUS, seed=0, device="cpu")


def responses(net):
    """Steady response of every neuron (row) to a small current into each (column), at rest."""
    n = net.graph.n_units
    return np.abs(linearize(net, np.zeros(n)).transfer_function(0, np.eye(n))[0])


def compared(by_class, names):
    """AUC with and without gap junctions and signs, of wild type and unc-31, and of degree-preserving shuffles.

    Shuffles keep the degrees of each neuron in the whole network, of chemical synapses and of gap junctions.
    """
    strains = {"wild type": read_atlas(names), "unc-31": read_atlas(names, "unc31")}
    for strain, (responder, stimulated, significant) in strains.items():
        neurons = f"{len(np.unique(stimulated))} stimulated, {len(np.unique(responder))} responders"
        print(f"{strain}: {len(significant):,} pairs, {significant.sum():,} significant; {neurons}")
    print("| synapses | signs | wild type | shuffled | unc-31 | shuffled |\n|---|---|---|---|---|---|")
    for electrical in (False, True):
        for signed in (True, False):
            graph = merged(by_class, electrical=electrical, signed=signed)
            sizes = responses(network(graph))
            nulls = [responses(network(graph.shuffled(seed=k))) for k in range(SHUFFLES)]
            cells = []
            for responder, stimulated, significant in strains.values():
                values = np.array([auc(n[responder, stimulated], significant) for n in nulls])
                shuffled = f"{values.mean():.3f} +- {values.std(ddof=1):.3f}"
                cells += [f"{auc(sizes[responder, stimulated], significant):.3f}", shuffled]
            kinds = "chemical and electrical" if electrical else "chemical"
            print(f"| {kinds} | {'yes' if signed else 'no'} | {' | '.join(cells)} |", flush=True)


def exchanged(net):
    """G of tau dx/dt = -x + W f(x) + G x, dense."""
    if net.electrical is None:
        return torch.zeros(net.graph.n_units, net.graph.n_units)
    g = net.electrical.matrix().to_dense().float()
    return g - torch.diag(g.sum(1))


def fit_gains(net, pairs, learnt, held):
    """Fit gains to which of the learnt pairs are significant; keep those that predict the held ones best.

    A logistic regression on the logarithm of the steady state, (1 - W - G)^-1; 302 neurons are few enough for
    a dense one. Gains are scaled down where a bound of the spectral radius of W exceeds LARGEST; conductances
    are not fitted.
    """
    responder, stimulated, significant = pairs
    place = net.effective_W_rec.detach().to_sparse_coo().indices()
    n = net.graph.n_units
    place = place[0] * n + place[1]
    exchange = exchanged(net)
    wanted, one = torch.from_numpy(significant).float(), torch.eye(n)
    curve = torch.tensor([-3.0, 0.5, -5.0], requires_grad=True)  # intercept, slope, log of the floor
    optimizer = torch.optim.Adam([{"params": [net.rec.gains]}, {"params": [curve]}], lr=RATE)
    vector, best, kept = torch.ones(n), np.inf, net.rec.gains.detach().clone()

    def matrix():
        return torch.zeros(n * n).index_add(0, place, net.rec.csr_values()).view(n, n)

    for _ in range(ITERATIONS):
        weights = matrix()
        size = torch.linalg.solve(one - weights - exchange, one)[responder, stimulated]
        logits = curve[0] + curve[1] * (size.square() + curve[2].exp() ** 2).log()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        if (outside := losses[held].mean().item()) < best:
            best, kept = outside, net.rec.gains.detach().clone()
        optimizer.zero_grad()
        losses[learnt].mean().backward()
        optimizer.step()
        with torch.no_grad():
            paths = matrix().abs()
            for _ in range(30):  # of non-negative weights: the largest eigenvalue
                vector = paths @ (vector / vector.norm()) + 1e-6
            net.rec.gains.mul_(min(1.0, LARGEST / vector.norm().item()))
    with torch.no_grad():
        net.rec.gains.copy_(kept)


def cross_validated(score_of, pairs, folds):
    """Mean AUC over folds of stimulated neurons; ``score_of(learnt, held)`` gives scores of all pairs."""
    fold, found = folds[pairs[1]], []
    for k in range(FOLDS):
        test, held = fold == k, fold == (k + 1) % FOLDS
        found.append(auc(score_of(~(test | held), held)[test], pairs[2][test]))
    return np.array(found)


def fitted(graph, share, classes, pairs):
    """The scores of `cross_validated` for a wiring with gains."""

    def score_of(learnt, held):
        net = network(merged(graph, share, classes if share is None else None))
        fit_gains(net, pairs, learnt, held)
        return responses(net)[pairs[0], pairs[1]]

    return score_of


def unfitted(graph, pairs):
    """The scores of `cross_validated` for a wiring as it is."""
    scores = responses(network(merged(graph)))[pairs[0], pairs[1]]
    return lambda *_: scores


def often_responds(pairs):
    """The scores of `cross_validated` without a connectome: how often each neuron responded to others."""

    def score_of(learnt, held):
        seen, n = learnt | held, pairs[0].max() + 1
        count, positive = (np.bincount(pairs[0][seen], of, n) for of in (None, pairs[2][seen]))
        return ((positive + 0.05) / (count + 1))[pairs[0]]

    return score_of


def main():
    torch.set_num_threads(1)
    begin = time.process_time()
    by_class, _ = read_celegans()
    wirings = {"classes": by_class, "merged": merged(by_class)}
    net = network(wirings["merged"])
    compared(by_class, net.unit_ids)
    pairs = read_atlas(net.unit_ids)
    responder, stimulated, significant = pairs
    neurons = f"{len(np.unique(stimulated))} stimulated neurons, {len(np.unique(responder))} responders"
    print(f"{len(significant):,} pairs, {significant.sum():,} significant; {neurons}")
    sizes = responses(net)[responder, stimulated]
    direct = net.effective_W_rec.detach().to_dense().abs().numpy()[responder, stimulated]
    print(f"| wiring | AUC |\n|---|---|\n| connectome | {auc(sizes, significant):.3f} |")
    print(f"| its direct synapses | {auc(direct, significant):.3f} |")
    nulls = {}
    for name, (which, keep) in NULLS.items():
        graphs = (wirings[which].shuffled(keep, seed=k) for k in range(SHUFFLES))
        nets = (network(g if which == "merged" else merged(g)) for g in graphs)
        values = nulls[name] = np.array([auc(responses(n)[responder, stimulated], significant) for n in nets])
        print(f"| shuffled: {name} | {values.mean():.3f} +- {values.std(ddof=1):.3f} |", flush=True)

    classes = np.concatenate([[r.name] * r.n for r in by_class.regions()])
    rng, folds = np.random.default_rng(0), np.full(len(classes), -1)
    folds[rng.permutation(np.unique(stimulated))] = np.arange(len(np.unique(stimulated))) % FOLDS
    often = cross_validated(often_responds(pairs), pairs, folds)
    print(f"| gains | number | connectome | {' | '.join(WIDER)} |\n" + "|---" * (3 + len(WIDER)) + "|")
    graphs = {"connectome": [by_class]}
    graphs |= {name: [wirings[NULLS[name][0]].shuffled(seed=k) for k in range(FITTED)] for name in WIDER}
    rows = {}
    for name, share in {"none": "", **GAINS}.items():
        labels = classes if share is None else None
        found = rows[name] = {}
        for wiring, some in graphs.items():
            scores = [fitted(g, share, labels, pairs) if name != "none" else unfitted(g, pairs) for g in some]
            found[wiring] = np.array([cross_validated(score_of, pairs, folds) for score_of in scores])
        number = network(merged(by_class, share, labels)).rec.gains.numel() if name != "none" else 0
        cells = [f"{fold.mean():.3f} ({fold.min():.3f} to {fold.max():.3f})" for fold in found["connectome"]]
        cells += [f"{v.min():.3f} to {v.max():.3f}" for v in (found[wiring].mean(axis=1) for wiring in WIDER)]
        print(f"| {name} | {number} | {' | '.join(cells)} |", flush=True)
    print(f"how often a neuron responds: {often.mean():.3f} ({often.min():.3f} to {often.max():.3f})")
    draw(sizes, significant, nulls, rows, often)
    print(f"{time.process_time() - begin:.0f} s of one core")


def draw(sizes, significant, nulls, rows, often):
    """Significance against the predicted response; AUC of shuffles; AUC after fits."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    groups = np.array_split(np.argsort(sizes), 20)
    share = np.array([significant[g].mean() for g in groups])
    error = np.sqrt(share * (1 - share) / [len(g) for g in groups])
    at = [np.median(sizes[g]) for g in groups]
    left.errorbar(at, 100 * share, 100 * error, fmt="o", ms=4, color="C0", lw=1)
    left.axhline(100 * significant.mean(), color="0.6", ls=":", lw=1)
    left.set(xscale="log", ylim=(0, None), xlabel="predicted steady response (20 groups of pairs)")
    left.set_ylabel("significant responses (%)")
    middle.axvline(auc(sizes, significant), ymax=0.7, color="C3", lw=2, label="connectome")
    colors = {name: f"C{k}" for k, name in enumerate(nulls)}
    for name, values in nulls.items():
        label, bins = f"shuffled: {name}", np.arange(0.5, 0.62, 0.0025)
        middle.hist(values, bins, color=colors[name], alpha=0.7, label=label)
    middle.set(xlabel="AUC, gains not fitted", ylabel="null models", xlim=(0.495, 0.61))
    middle.set_ylim(0, 1.5 * middle.get_ylim()[1])
    middle.legend(frameon=False, fontsize=8, loc="upper left")
    for k, found in enumerate(rows.values()):
        for shift, (name, values) in zip((-0.2, 0, 0.2), found.items(), strict=True):
            if name == "connectome":
                right.plot(np.full(FOLDS, k + shift), values[0], ".", color="C3", alpha=0.4, ms=6)
                right.plot(k + shift, values.mean(), "_", color="C3", ms=14, mew=2.5)
            else:
                at = np.full(len(values), k + shift)
                right.plot(at, values.mean(axis=1), ".", color=colors[name], ms=6)
    label = "without connectome: how often a neuron responds"
    right.axhline(often.mean(), color="0.2", ls="--", lw=1, label=label)
    right.axhline(0.5, color="0.6", ls=":", lw=1)
    right.set_xticks(range(len(rows)), [name.replace("pair of ", "pair of\n") for name in rows])
    right.set(xlabel="gains fitted by", ylabel="AUC, new stimulated neurons", ylim=(0.48, 0.8))
    right.legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(HERE / "worm_propagation.png", dpi=100)
    print("wrote worm_propagation.png")


if __name__ == "__main__":
    main()
