"""What every entry is checked against: float64, scipy products, the gradient written out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.benchmark.entries import Entry, as_numpy
from sparse_mrnn.benchmark.problem import CsrWeights, Problem
from sparse_mrnn.errors import BenchmarkError

SAMPLED, TOLERANCE = 20_000, 1e-3
"""Gradients of this many synapses, drawn at random, may differ by this part of the largest."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reference:
    """h (batch, time, units), and the derivative of the loss by some effective weights."""

    h: Array
    entries: dict[str, NDArray[np.int64]]
    gradient: dict[str, Array]


def reference(problem: Problem, training: bool) -> Reference:
    """Run a case, and differentiate the mean of h squared where asked, in float64."""
    case = problem.case
    rec, inp = _scipy(problem.rec), _scipy(problem.inp)
    alpha, bias = as_numpy(problem.alpha), as_numpy(problem.bias)[:, None]
    u = as_numpy(problem.u).transpose(1, 2, 0)
    x = as_numpy(problem.x0).T
    h_before = [as_numpy(problem.h0).T]
    slopes = []
    for t in range(case.steps):
        x = x + alpha * (rec @ h_before[-1] + inp @ u[t] + bias - x)
        h, slope = _activation(problem, x)
        h_before.append(h)
        slopes.append(slope)
    h_after = np.stack(h_before[1:])
    states = h_after.transpose(2, 0, 1)
    if not training:
        return Reference(states, {}, {})
    grad_total = [np.empty(0)] * case.steps  # by the sum of all that a unit receives in a step
    grad_x, grad_h = np.zeros_like(x), np.zeros_like(x)
    for t in reversed(range(case.steps)):
        grad_x = (2 / h_after.size * h_after[t] + grad_h) * slopes[t] + (1 - alpha) * grad_x
        grad_total[t] = alpha * grad_x
        grad_h = rec.T @ grad_total[t]
    rng = np.random.default_rng(case.seed)
    entries, gradient = {}, {}
    sources = {"recurrent": h_before[:-1], "input": list(u)}
    for kind, synapses in problem.synapses.items():
        total = synapses.pattern.nnz
        entries[kind] = chosen = np.sort(rng.choice(total, min(total, SAMPLED), replace=False))
        row, col = (index.cpu().numpy()[chosen] for index in synapses.coordinates())
        steps = zip(grad_total, sources[kind], strict=True)
        gradient[kind] = sum((np.einsum("sb,sb->s", g[row], h[col]) for g, h in steps), np.zeros(len(chosen)))
    return Reference(states, entries, gradient)


def check(entry: Entry, expected: Reference, training: bool) -> None:
    """Run an entry once and compare.

    Raises
    ------
    BenchmarkError
        If states or gradients differ by more than rounding.
    """
    label = f"{entry.name} on {entry.inputs.case.label}"
    _compare(f"{label}: h", as_numpy(entry.run(training)), expected.h)
    if training:
        found = entry.gradients()
        for kind, entries in expected.entries.items():
            gradient = as_numpy(found[kind])[entries]
            known = ~np.isnan(gradient)
            what = f"{label}: gradient of the {kind} weights"
            _compare(what, gradient[known], expected.gradient[kind][known])


def _compare(what: str, found: Array, expected: Array) -> None:
    if found.shape != expected.shape:
        raise BenchmarkError(f"{what} has shape {found.shape}, the reference {expected.shape}.")
    if not expected.size:
        return
    worst, scale = float(np.abs(found - expected).max()), float(np.abs(expected).max())
    if not np.isfinite(scale):
        what_to_do = "lower its weights (spectral_radius) or the steps"
        raise BenchmarkError(f"{what}: the network's activity is not finite in float64; {what_to_do}.")
    if not worst <= TOLERANCE * scale:  # also where something is not a number
        off = f"by {worst:.3g}, where the largest value is {scale:.3g}"
        raise BenchmarkError(f"{what} differs from the float64 reference {off}.")


def _scipy(synapses: CsrWeights) -> Any:
    pattern = synapses.pattern
    arrays = (as_numpy(synapses.effective()), pattern.col.cpu().numpy(), pattern.crow.cpu().numpy())
    return sp.csr_array(arrays, shape=pattern.shape)


def _activation(problem: Problem, x: Array) -> tuple[Array, Array]:
    """f(x) and its derivative."""
    h, slope = np.empty_like(x), np.empty_like(x)
    for start, stop, activation in problem.activations.parts:
        part = x[start:stop]
        sigmoid, tanh = 0.5 * (1 + np.tanh(part / 2)), np.tanh(part)
        h[start:stop], slope[start:stop] = {
            "tanh": (tanh, 1 - tanh**2),
            "relu": (np.maximum(part, 0), part > 0),
            "linear": (part, np.ones_like(part)),
            "sigmoid": (sigmoid, sigmoid * (1 - sigmoid)),
            "softplus": (np.logaddexp(0, part), sigmoid),
        }[activation.name]
    return h, slope
