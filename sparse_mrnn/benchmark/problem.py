"""What every entry computes with: the synapses, weights, state and input of a case, in plain tensors."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.benchmark.cases import Case
from sparse_mrnn.ops.activations import ActivationSegments
from sparse_mrnn.ops.pattern import Pattern


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
        Which of the network's synapses is the first of each entry; None where every entry has one.
    """

    pattern: Pattern
    weight: Tensor
    sign: Tensor
    first: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, sign: Tensor) -> CsrWeights:
        """From effective weights and signs, CSR tensors of one pattern."""
        shape = (int(weight.shape[0]), int(weight.shape[1]))
        pattern, entry = Pattern(weight.crow_indices(), weight.col_indices(), shape).unique
        values, signs = weight.values().detach(), sign.values().to(weight.dtype)
        first = None
        if entry is not None:
            first = torch.nonzero(torch.diff(entry, prepend=entry.new_tensor([-1])))[:, 0]
            values = values.new_zeros(pattern.nnz).index_add_(0, entry, values)
            empty, index = signs.new_zeros(pattern.nnz), entry.long()
            low = empty.scatter_reduce(0, index, signs, "amin", include_self=False)
            high = empty.scatter_reduce(0, index, signs, "amax", include_self=False)
            signs = torch.where(low == high, low, 0)
        return cls(pattern, torch.where(signs == 0, values, values.abs()), signs, first)

    def coordinates(self) -> tuple[Tensor, Tensor]:
        """Target and source of each entry (int64)."""
        return self.pattern.row.long(), self.pattern.col.long()

    def effective(self, weight: Tensor | None = None) -> Tensor:
        """Dale's law as mRNNTorch applies it, |w| * sign, for the stored entries; differentiable."""
        w = self.weight if weight is None else weight
        return w.abs() * self.sign if self.signed else torch.where(self.sign == 0, w, w.abs() * self.sign)

    @property
    def signed(self) -> bool:
        """Whether every entry has a sign."""
        return bool((self.sign != 0).all())


@dataclass(frozen=True, eq=False)
class CaseInputs:
    """A case, its initial state and its input.

    Parameters
    ----------
    case : Case
    x0 : Tensor, shape (batch, units)
    u : Tensor, shape (batch, time, input channels)
    """

    case: Case
    x0: Tensor
    u: Tensor

    @classmethod
    def draw(cls, case: Case, units: int, channels: int) -> CaseInputs:
        """Drawn uniformly between 0 and 1, from the case's seed."""
        rng = np.random.default_rng(case.seed)
        x0 = rng.random((case.batch, units), dtype=np.float32)
        u = rng.random((case.batch, case.steps, channels), dtype=np.float32)
        return cls(case, torch.from_numpy(x0).to(case.device), torch.from_numpy(u).to(case.device))


@dataclass(frozen=True, eq=False)
class Problem(CaseInputs):
    """One case, ready to be computed by any entry.

    Parameters
    ----------
    rec, inp : CsrWeights
    alpha : Tensor, shape (units or 1, 1)
    bias : Tensor, shape (units,)
    activations : ActivationSegments
    learns_bias : bool
    build_s : float
        Time from the graph to this library's network.
    """

    rec: CsrWeights
    inp: CsrWeights
    alpha: Tensor
    bias: Tensor
    activations: ActivationSegments
    learns_bias: bool
    build_s: float

    @classmethod
    def of(cls, case: Case) -> Problem:
        """Build the network of a case, which draws its synapses, and take everything out of it."""
        graph = case.make()
        start = time.perf_counter()
        net = case.network("csr", graph)
        build_s = time.perf_counter() - start
        with torch.no_grad():
            rec = CsrWeights.of(net.effective_W_rec, net.W_rec_sign_matrix)
            inp = CsrWeights.of(net.effective_W_inp, net.W_inp_sign_matrix)
        inputs = CaseInputs.draw(case, graph.n_units, graph.n_inputs)
        alpha, bias = net.unit_alpha().detach().clone(), net.tonic_inp.detach().clone()
        more = dict(activations=net.activation_segments, learns_bias=net.bias is not None, build_s=build_s)
        return cls(case, inputs.x0, inputs.u, rec, inp, alpha, bias, **more)  # type: ignore[arg-type]

    @property
    def units(self) -> int:
        """Recurrent units."""
        return self.rec.pattern.shape[0]

    @property
    def synapses(self) -> dict[str, CsrWeights]:
        """The "recurrent" and "input" weights, those that have an entry."""
        both = {"recurrent": self.rec, "input": self.inp}
        return {kind: weights for kind, weights in both.items() if weights.pattern.nnz}

    def activation(self, x: Tensor) -> Tensor:
        """h = f(x), for x of shape (units, ...)."""
        return self.activations.apply(x)

    @property
    def h0(self) -> Tensor:
        """Initial activation, (batch, units): of a leaky network f(x0)."""
        return self.x0 if self.case.model == "elman" else self.activation(self.x0.t()).t()
