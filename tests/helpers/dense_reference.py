"""A dense float64 numpy network, written independently of the library, and random networks to compare with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

import sparse_mrnn as sm

FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0),
    "linear": lambda x: x,
}


@dataclass
class Case:
    """A declared network with its dense effective weights."""

    graph: sm.RegionGraph
    w_rec: np.ndarray
    w_inp: np.ndarray
    base: np.ndarray
    tau: list[float | None]
    names: list[str | None]
    projections: list[tuple] = field(default_factory=list)
    gain: np.ndarray | float = 1.0
    threshold: np.ndarray | float = 0.0


def run_dense(case: Case, activation: str, u, x0, h0, stim, dt=10.0, tau=100.0, elman=False):
    """The equations of the design, one unit vector per trial; arrays are (batch, time, features)."""
    alpha = np.ones(len(case.base)) if elman else np.array([dt / (t or tau) for t in case.tau])
    names = [n or activation for n in case.names]
    xs, hs = [], []
    x, h = x0, h0
    for t in range(u.shape[1]):
        current = h @ case.w_rec.T + u[:, t] @ case.w_inp.T + case.base
        x = x + alpha * (-x + current) + alpha * stim[:, t]
        within = case.gain * (x - case.threshold)
        h = np.stack([FUNCTIONS[n](within[:, k]) for k, n in enumerate(names)], axis=1)
        xs.append(x)
        hs.append(h)
    return np.stack(xs, 1), np.stack(hs, 1)


def apply_sign(v: np.ndarray, sign: np.ndarray) -> np.ndarray:
    return np.where(sign == 0, v, np.abs(v) * sign)


@st.composite
def networks(draw) -> Case:
    """Random graphs: parents, parallel, empty and self projections, per-unit signs, own tau and activation."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    graph = sm.RegionGraph()
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    taus, names, bases, signs, gains, thresholds = [], [], [], [], [], []
    for k, n in enumerate(sizes):
        kind = draw(st.sampled_from(["pos", "neg", None, "array"]))
        sign = rng.integers(-1, 2, n) if kind == "array" else kind
        base = draw(st.sampled_from([0.0, 0.3])) if draw(st.booleans()) else rng.normal(size=n)
        tau = draw(st.sampled_from([None, None, 40.0, rng.uniform(30, 90, n)]))
        each = isinstance(tau, np.ndarray)
        own = draw(st.sampled_from([None, None, "tanh", "softplus"]))
        gain = draw(st.sampled_from([None, None, 1.5, rng.uniform(0.5, 2, n)]))
        threshold = draw(st.sampled_from([None, None, 0.2, rng.normal(size=n)]))
        learnt = {
            f"learnable_activation_{name}": draw(st.sampled_from([False, True])) if value is not None else False
            for name, value in (("gain", gain), ("threshold", threshold))
        }
        graph.add_region(
            f"r{k}", n, sign=sign, base_firing=base, tau=tau, activation=own, learnable_bias=draw(st.booleans()), learnable_tau=draw(st.sampled_from([False, "unit", *([] if each else [True])])),
            parent_region=draw(st.sampled_from([None, "group"])), init=float(rng.normal()),
            activation_gain=gain, activation_threshold=threshold, **learnt,
        )
        gains.append(np.broadcast_to(1.0 if gain is None else gain, n))
        thresholds.append(np.broadcast_to(0.0 if threshold is None else threshold, n))
        signs.append(np.asarray(sign) if kind == "array" else np.full(n, {"pos": 1, "neg": -1, None: 0}[kind]))
        bases.append(np.broadcast_to(base, n))
        taus += tau.tolist() if each else [tau] * n
        names += [own] * n
    n_inputs = draw(st.integers(0, 2))
    for k in range(n_inputs):
        graph.add_input(f"i{k}", 2, sign=draw(st.sampled_from(["pos", "neg", None])))
    start = np.concatenate([[0], np.cumsum(sizes)])
    n, total_in = int(start[-1]), 2 * n_inputs
    values = {"gain": np.concatenate(gains), "threshold": np.concatenate(thresholds)}
    case = Case(graph, np.zeros((n, n)), np.zeros((n, total_in)), np.concatenate(bases), taus, names, **values)
    for number in range(draw(st.integers(0, 8))):
        from_input = n_inputs > 0 and draw(st.booleans())
        dst = draw(st.integers(0, len(sizes) - 1))
        src = draw(st.integers(0, (n_inputs if from_input else len(sizes)) - 1))
        source = f"i{src}" if from_input else f"r{src}"
        width = 2 if from_input else sizes[src]
        mask = rng.random((sizes[dst], width)) < draw(st.sampled_from([0.0, 0.4, 1.0]))
        own = signs[src] if not from_input else np.full(2, {"pos": 1, "neg": -1, None: 0}[graph.region(source).sign])
        override = draw(st.sampled_from(["inherit", "inherit", "pos", "free"]))
        own = own if override == "inherit" else np.full(width, 1 if override == "pos" else 0)
        w = apply_sign(rng.normal(size=mask.shape), own) * mask
        graph.add_projection(
            source, f"r{dst}", weights=w, key=f"k{number}", sign=override, trainable=draw(st.booleans())
        )
        # parameters of either sign: Dale's law has to hold for what an optimiser makes of them
        v = np.where(mask, rng.normal(size=mask.shape), 0)
        case.projections.append((source, f"r{dst}", f"k{number}", v[w != 0]))
        effective = np.where(w != 0, apply_sign(v, own), 0)
        rows = slice(start[dst], start[dst + 1])
        if from_input:
            case.w_inp[rows, 2 * src : 2 * src + 2] += effective
        else:
            case.w_rec[rows, start[src] : start[src + 1]] += effective
    return case
