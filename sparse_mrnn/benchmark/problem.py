"""What every entry is given: the synapses, weights, state and input of one case, without the library's own kernels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.benchmark.cases import Case
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.ops.pattern import Pattern

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "linear": lambda x: x,
}


@dataclass(frozen=True, eq=False)
class CsrWeights:
    """A weight matrix in CSR, one entry a pair of units: parallel synapses are added up.

    Parameters
    ----------
    shape : tuple of int
        (targets, sources).
    crow, col : Tensor of int32
    weight : Tensor, shape (entries,)
        Before Dale's law, which makes ``|weight| * sign`` of it; as it is where the sign is 0.
    sign : Tensor, shape (entries,)
    first : ndarray or None
        Which of the network's synapses is the first of each entry; None where every entry has one.
    """

    shape: tuple[int, int]
    crow: Tensor
    col: Tensor
    weight: Tensor
    sign: Tensor
    first: NDArray[np.int64] | None

    @classmethod
    def of(cls, weight: Tensor, sign: Tensor) -> CsrWeights:
        """From effective weights and signs, CSR tensors of one pattern."""
        crow, col = weight.crow_indices(), weight.col_indices()
        values, signs = weight.values().detach(), sign.values().to(weight.dtype)
        shape = (int(weight.shape[0]), int(weight.shape[1]))
        first = None
        slot = _rows(crow, shape[0]) * shape[1] + col.cpu().numpy()
        if slot.size and not (np.diff(slot) > 0).all():
            distinct, first, inverse = np.unique(slot, return_index=True, return_inverse=True)
            which = torch.from_numpy(inverse).to(values.device)
            values = values.new_zeros(len(distinct)).index_add_(0, which, values)
            empty = signs.new_zeros(len(distinct))
            low, high = (empty.scatter_reduce(0, which, signs, how, include_self=False) for how in ("amin", "amax"))
            signs = torch.where(low == high, low, 0)
            rows, columns = (torch.from_numpy(part).to(values.device) for part in np.divmod(distinct, shape[1]))
            pattern, _ = Pattern.from_coo(rows, columns, shape)
            crow, col = pattern.crow, pattern.col
        return cls(shape, crow, col, torch.where(signs == 0, values, values.abs()), signs, first)

    @property
    def rows(self) -> Tensor:
        """Target of each entry (int64)."""
        return torch.from_numpy(_rows(self.crow, self.shape[0])).to(self.weight.device)

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
    """A case and what its network is given.

    Parameters
    ----------
    case : Case
    x0 : Tensor, shape (batch, units)
    drive : Tensor, shape (batch, time, inputs)
    """

    case: Case
    x0: Tensor
    drive: Tensor

    @classmethod
    def draw(cls, case: Case, units: int, channels: int) -> CaseInputs:
        """Drawn uniformly between 0 and 1, from the case's seed."""
        made = np.random.default_rng(case.seed)
        x0 = made.random((case.batch, units), dtype=np.float32)
        drive = made.random((case.batch, case.steps, channels), dtype=np.float32)
        return cls(case, torch.from_numpy(x0).to(case.device), torch.from_numpy(drive).to(case.device))


@dataclass(frozen=True, eq=False)
class Problem(CaseInputs):
    """One case, ready to be computed by any entry.

    Parameters
    ----------
    rec, inp : CsrWeights
    alpha : Tensor, shape (units or 1, 1)
    bias : Tensor, shape (units,)
    learns_bias : bool
    parts : tuple of (start, stop, activation name)
    build_s : float
        Time from the graph to our network.
    """

    rec: CsrWeights
    inp: CsrWeights
    alpha: Tensor
    bias: Tensor
    learns_bias: bool
    parts: tuple[tuple[int, int, str], ...]
    build_s: float

    @classmethod
    def of(cls, case: Case) -> Problem:
        """Sample the synapses of a case, with the library's own lowering, and take everything out of the network."""
        graph = case.make()
        start = time.perf_counter()
        net = case.network("csr", graph)
        build_s = time.perf_counter() - start
        with torch.no_grad():
            rec = CsrWeights.of(net.effective_W_rec, net.W_rec_sign_matrix)
            inp = CsrWeights.of(net.effective_W_inp, net.W_inp_sign_matrix)
        alpha, bias = net.alpha.detach().clone(), net.tonic_inp.detach().clone()
        given = CaseInputs.draw(case, graph.n_units, graph.n_inputs)
        return cls(case, given.x0, given.drive, rec, inp, alpha, bias, net.bias is not None, _parts(net, case.activation), build_s)

    @property
    def units(self) -> int:
        """Recurrent units."""
        return self.rec.shape[0]

    def activation(self, x: Tensor) -> Tensor:
        """h = f(x), for x of shape (units, ...)."""
        if len(self.parts) == 1:
            return ACTIVATIONS[self.parts[0][2]](x)
        return torch.cat([ACTIVATIONS[name](x[i:j]) for i, j, name in self.parts])

    @property
    def h0(self) -> Tensor:
        """Initial activation, (batch, units): of a leaky network f(x0)."""
        return self.x0 if self.case.model == "elman" else self.activation(self.x0.t()).t()


def _parts(net: mRNNBase, default: str) -> tuple[tuple[int, int, str], ...]:
    parts: list[tuple[int, int, str]] = []
    start = 0
    for region in net.layout().regions:
        name = region.activation or default
        if parts and parts[-1][2] == name:
            parts[-1] = (parts[-1][0], start + region.n, name)
        else:
            parts.append((start, start + region.n, name))
        start += region.n
    return tuple(parts)


def _rows(crow: Tensor, n: int) -> NDArray[Any]:
    counts = np.diff(crow.cpu().numpy())
    return np.repeat(np.arange(n, dtype=np.int64), counts)
