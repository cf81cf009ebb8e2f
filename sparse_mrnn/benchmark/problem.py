"""A case in plain tensors, which every entry computes with, and the float64 reference for its states."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.benchmark.cases import Case
from sparse_mrnn.ops.pattern import Pattern

SAMPLED = 20_000
"""Synapses, drawn at random, whose gradients are compared with the reference."""
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CsrWeights:
    """A weight matrix in CSR, one entry a pair of units: parallel synapses are added up.

    Parameters
    ----------
    pattern : Pattern
        Of shape (targets, sources).
    weight : Tensor, shape (entries,)
        Before Dale's law, which makes ``|weight| * sign`` of it; as it is where the sign is 0.
    sign : Tensor, shape (entries,)
    first : Tensor of int, shape (entries,), or None
        The first of the network's synapses of each entry; None if every entry has one.
    """

    pattern: Pattern
    weight: Tensor
    sign: Tensor
    first: Tensor | None = None

    @classmethod
    def of(cls, weight: Tensor, sign: Tensor) -> CsrWeights:
        """From effective weights and signs, CSR tensors of one pattern."""
        shape = (int(weight.shape[0]), int(weight.shape[1]))
        pattern, entry = Pattern(weight.crow_indices(), weight.col_indices(), shape).unique
        values, signs = weight.values().detach(), sign.values().to(weight.dtype)
        first = None
        if entry is not None:
            first = torch.nonzero(torch.diff(entry, prepend=entry.new_tensor([-1])))[:, 0]
            none = values.new_zeros(pattern.nnz)
            parallel = none.index_add(0, entry, torch.ones_like(values))
            values, signs = (none.index_add(0, entry, each) for each in (values, signs))
            signs = torch.where(signs.abs() == parallel, signs.sign(), 0)  # 0 unless all have one sign
        return cls(pattern, torch.where(signs == 0, values, values.abs()), signs, first)

    @property
    def coordinates(self) -> tuple[Tensor, Tensor]:
        """Target and source of each entry (int64)."""
        return self.pattern.row.long(), self.pattern.col.long()

    @cached_property
    def signed(self) -> bool:
        """True if every entry has a sign."""
        return bool((self.sign != 0).all())

    def effective(self, weight: Tensor) -> Tensor:
        """Dale's law as mRNNTorch applies it, |w| * sign, for the stored entries; differentiable."""
        constrained = weight.abs() * self.sign
        return constrained if self.signed else torch.where(self.sign == 0, weight, constrained)


class Problem:
    """One case, ready to be computed by any entry.

    Parameters
    ----------
    case : Case
    inputs_only : bool
        Make state and input only, for an entry that builds the network itself and is not compared.

    Attributes
    ----------
    x0, h0 : Tensor, shape (batch, units)
    u : Tensor, shape (batch, time, input channels)
        Initial state and input, uniform between 0 and 1, drawn from the case's seed.
    synapses : dict
        The "recurrent" and "input" weights, those that have an entry.
    alpha : Tensor, shape (units or 1, 1)
    bias : Tensor, shape (units,)
    build_s : float
        Time from the graph to this library's network.
    """

    def __init__(self, case: Case, *, inputs_only: bool = False) -> None:
        self.case, graph = case, case.make()
        self.units, rng = graph.n_units, np.random.default_rng(case.seed)
        x0 = rng.random((case.batch, graph.n_units), dtype=np.float32)
        u = rng.random((case.batch, case.steps, graph.n_inputs), dtype=np.float32)
        self.x0, self.u = (torch.from_numpy(each).to(case.device) for each in (x0, u))
        if inputs_only:
            return
        start = time.perf_counter()
        net = case.network("csr", graph)
        self.build_s = time.perf_counter() - start
        with torch.no_grad():
            found = {"recurrent": CsrWeights.of(net.effective_W_rec, net.W_rec_sign_matrix)}
            found["input"] = CsrWeights.of(net.effective_W_inp, net.W_inp_sign_matrix)
        self.synapses = {kind: weights for kind, weights in found.items() if weights.pattern.nnz}
        self.alpha, self.bias = net.unit_alpha().detach().clone(), net.tonic_inp.detach().clone()
        self.learns_bias, self.activations = net.bias is not None, net.activation_segments
        self.h0 = self.x0 if case.model == "elman" else self.activations.apply(self.x0.t()).t()


@dataclass(frozen=True, eq=False)
class Reference:
    """h (batch, time, units), and the derivative of the loss by some effective weights."""

    h: Array
    entries: dict[str, NDArray[np.int64]]
    gradient: dict[str, Array]


def reference(problem: Problem, training: bool) -> Reference:
    """Run a case with scipy in float64 and, if asked, differentiate the mean of h squared by hand."""
    case, synapses = problem.case, problem.synapses
    w = {kind: _scipy(s) for kind, s in synapses.items()}
    alpha, bias = as_numpy(problem.alpha), as_numpy(problem.bias)[:, None]
    sources = {"recurrent": [as_numpy(problem.h0).T], "input": list(as_numpy(problem.u).transpose(1, 2, 0))}
    h, x, slopes = sources["recurrent"], as_numpy(problem.x0).T, []
    for t in range(case.steps):
        x = x + alpha * (sum((w[kind] @ sources[kind][t] for kind in w), bias) - x)
        at = torch.from_numpy(x).to(case.device).requires_grad_()
        after = problem.activations.apply(at)
        slopes.append(as_numpy(torch.autograd.grad(after.sum(), at)[0]))
        h.append(as_numpy(after))
    states = np.stack(h[1:])
    if not training:
        return Reference(states.transpose(2, 0, 1), {}, {})
    grad_total = [np.empty(0)] * case.steps  # by the sum of all that a unit receives in a step
    grad_x, grad_h = np.zeros_like(x), np.zeros_like(x)
    for t in reversed(range(case.steps)):
        grad_x = (2 / states.size * states[t] + grad_h) * slopes[t] + (1 - alpha) * grad_x
        grad_total[t] = alpha * grad_x
        grad_h = w["recurrent"].T @ grad_total[t] if "recurrent" in w else np.zeros_like(x)
    rng = np.random.default_rng(case.seed)
    entries, gradient = {}, {}
    for kind, s in synapses.items():
        chosen = np.sort(rng.choice(s.pattern.nnz, min(s.pattern.nnz, SAMPLED), replace=False))
        row, col = (index.cpu().numpy()[chosen] for index in s.coordinates)
        steps = zip(grad_total, sources[kind], strict=False)
        entries[kind] = chosen
        gradient[kind] = sum((np.einsum("sb,sb->s", g[row], h[col]) for g, h in steps), np.zeros(len(chosen)))
    return Reference(states.transpose(2, 0, 1), entries, gradient)


def as_numpy(tensor: Tensor) -> Array:
    """A detached copy on the CPU in float64."""
    return tensor.detach().to("cpu", torch.float64).numpy()


def _scipy(s: CsrWeights) -> Any:
    arrays = as_numpy(s.effective(s.weight)), s.pattern.col.cpu().numpy(), s.pattern.crow.cpu().numpy()
    return sp.csr_array(arrays, shape=s.pattern.shape)
