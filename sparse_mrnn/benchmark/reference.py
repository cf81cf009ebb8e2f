"""What every entry is checked against before it is timed: float64, scipy products, the gradient written out by hand."""

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
"""Gradients of this many synapses, drawn at random, are compared; a difference may be this part of the largest value."""

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
    drive = as_numpy(problem.drive).transpose(1, 2, 0)
    x = as_numpy(problem.x0).T
    before = [as_numpy(problem.h0).T]
    slopes = []
    for t in range(case.steps):
        x = x + alpha * (rec @ before[-1] + inp @ drive[t] + bias - x)
        h, slope = _activation(problem, x)
        before.append(h)
        slopes.append(slope)
    after = np.stack(before[1:])
    if not training:
        return Reference(after.transpose(2, 0, 1), {}, {})
    towards = [np.empty(0)] * case.steps
    by_x = np.zeros_like(x)
    by_h = np.zeros_like(x)
    for t in reversed(range(case.steps)):
        by_x = (2 / after.size * after[t] + by_h) * slopes[t] + (1 - alpha) * by_x
        towards[t] = alpha * by_x
        by_h = rec.T @ towards[t]
    rng = np.random.default_rng(case.seed)
    entries, gradient = {}, {}
    for name, synapses, source in (("recurrent", problem.rec, before[:-1]), ("input", problem.inp, list(drive))):
        total = synapses.col.numel()
        if total:
            chosen = np.sort(rng.choice(total, min(total, SAMPLED), replace=False))
            row, col = synapses.rows.cpu().numpy()[chosen], synapses.col.cpu().numpy()[chosen]
            entries[name] = chosen
            steps = zip(towards, source, strict=True)
            gradient[name] = sum((np.einsum("sb,sb->s", g[row], h[col]) for g, h in steps), np.zeros(len(chosen)))
    return Reference(after.transpose(2, 0, 1), entries, gradient)


def check(entry: Entry, want: Reference, training: bool) -> None:
    """Run an entry once and compare.

    Raises
    ------
    BenchmarkError
        If states or gradients differ by more than rounding.
    """
    label = entry.given.case.label
    _compare(f"{entry.name} on {label}: h", as_numpy(entry.run(training)), want.h)
    if training:
        found = entry.gradients()
        for name, entries in want.entries.items():
            got = as_numpy(found[name])[entries]
            known = ~np.isnan(got)
            _compare(f"{entry.name} on {label}: gradient of the {name} weights", got[known], want.gradient[name][known])


def _compare(what: str, got: Array, want: Array) -> None:
    if got.shape != want.shape:
        raise BenchmarkError(f"{what} has shape {got.shape}, the reference {want.shape}.")
    if not want.size:
        return
    worst, scale = float(np.abs(got - want).max()), float(np.abs(want).max())
    if not np.isfinite(scale):
        raise BenchmarkError(f"{what}: the network's activity is not finite in float64; lower its weights (spectral_radius) or the steps.")
    if not worst <= TOLERANCE * scale:  # also where something is not a number
        raise BenchmarkError(f"{what} differs from the float64 reference by {worst:.3g}, where the largest value is {scale:.3g}.")


def _scipy(synapses: CsrWeights) -> Any:
    arrays = (as_numpy(synapses.effective()), synapses.col.cpu().numpy(), synapses.crow.cpu().numpy())
    return sp.csr_array(arrays, shape=synapses.shape)


def _activation(problem: Problem, x: Array) -> tuple[Array, Array]:
    h, slope = np.empty_like(x), np.empty_like(x)
    for i, j, name in problem.parts:
        part = x[i:j]
        if name == "tanh":
            h[i:j] = np.tanh(part)
            slope[i:j] = 1 - h[i:j] ** 2
        elif name == "relu":
            h[i:j], slope[i:j] = np.maximum(part, 0), part > 0
        elif name == "linear":
            h[i:j], slope[i:j] = part, 1
        else:
            sigmoid = 0.5 * (1 + np.tanh(part / 2))
            h[i:j], slope[i:j] = (sigmoid, sigmoid * (1 - sigmoid)) if name == "sigmoid" else (np.logaddexp(0, part), sigmoid)
    return h, slope
