"""The ways a network is run that are compared: Python step loops as others write them, and this library by backend.

A loop is the plain thing: Dale's law once a forward, a Python ``for`` over the time steps, torch's autograd. It
computes the update of mRNNTorch,

    x[t+1] = x[t] + alpha (-x[t] + W_rec h[t] + W_inp u[t] + b),    h[t+1] = f(x[t+1])

and differs in how the weights are stored and multiplied. The loss of a training run is the mean of h squared.
"""

from __future__ import annotations

import importlib.util
import time
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from sparse_mrnn.benchmark.problem import CaseInputs, CsrWeights, Problem
from sparse_mrnn.errors import BenchmarkError, suggest
from sparse_mrnn.models import base
from sparse_mrnn.ops.backends.torch_sparse import package


class Entry(ABC):
    """One way to run a case. ``build_s`` is the time from the declared graph until it can run."""

    name: ClassVar[str]
    about: ClassVar[str]
    kind: ClassVar[str]
    """"dense" or "sparse": which side of the comparison it is on; "other" for neither."""
    trains: ClassVar[bool] = True

    build_s: float
    given: CaseInputs

    @abstractmethod
    def __init__(self, problem: Problem) -> None:
        """Make what the entry keeps between runs."""

    @classmethod
    def missing(cls, device: str) -> str | None:
        """Why it cannot run here, or None."""
        return None

    @classmethod
    @abstractmethod
    def bytes_needed(cls, units: int, synapses: float, batch: int, steps: int, training: bool) -> float:
        """Roughly how much memory a run takes, so that one which would not fit is never started."""

    @abstractmethod
    def states(self, steps: int) -> Tensor:
        """h over the first ``steps`` steps, shape (batch, time, units)."""

    @abstractmethod
    def parameters(self) -> list[Tensor]:
        """What is differentiated."""

    @abstractmethod
    def gradients(self) -> dict[str, Tensor]:
        """After a training run: the derivative by the effective weight of each entry, "recurrent" and "input".

        NaN where the entry does not differentiate (a frozen projection).
        """

    def run(self, training: bool, steps: int | None = None) -> Tensor:
        """One forward, or one forward and backward of the loss; h, detached."""
        steps = self.given.case.steps if steps is None else steps
        if not training:
            with torch.no_grad():
                return self.states(steps)
        for p in self.parameters():
            p.grad = None
        h = self.states(steps)
        mean_square(h).backward()  # type: ignore[no-untyped-call]
        return h.detach()


def mean_square(h: Tensor) -> Tensor:
    """The loss of a training run, as one pass each way: h.square().mean() takes as long as a sparse network."""
    loss: Tensor = torch.linalg.vector_norm(h).square() / h.numel()
    return loss


def states_bytes(units: int, batch: int, steps: int, copies: int) -> float:
    """Bytes of ``copies`` float32 arrays of every unit, trial and step."""
    return 4.0 * units * batch * steps * copies


class _Loop(Entry):
    """A Python loop over the steps."""

    kind = "other"

    def __init__(self, problem: Problem) -> None:
        self.given = self.problem = problem
        start = time.perf_counter()
        self.build()
        self.build_s = problem.build_s + time.perf_counter() - start

    def build(self) -> None:
        """Make the parameters, and what else the entry keeps between runs."""
        self.weight = {name: s.weight.clone().requires_grad_() for name, s in self._synapses().items()}
        self.bias = self.problem.bias.clone().requires_grad_(self.problem.learns_bias)

    def _synapses(self) -> dict[str, CsrWeights]:
        both = {"recurrent": self.problem.rec, "input": self.problem.inp}
        return {name: s for name, s in both.items() if s.col.numel()}

    def parameters(self) -> list[Tensor]:
        return [*self.weight.values(), self.bias]


class _SparseLoop(_Loop):
    """A loop with state (units, batch), and weights as a flat vector of CSR entries."""

    @abstractmethod
    def matrix(self, synapses: CsrWeights, values: Tensor) -> Any:
        """What ``product`` multiplies with, from effective weights."""

    def product(self, matrix: Any, h: Tensor) -> Tensor:
        result: Tensor = matrix @ h
        return result

    def states(self, steps: int) -> Tensor:
        p = self.problem
        w = {name: self.matrix(s, s.effective(self.weight[name])) for name, s in self._synapses().items()}
        x, h, bias = p.x0.t().contiguous(), p.h0.t().contiguous(), self.bias[:, None]
        drive = p.drive.permute(1, 2, 0).contiguous()
        out = []
        for t in range(steps):
            total = bias
            if "recurrent" in w:
                total = total + self.product(w["recurrent"], h)
            if "input" in w:
                total = total + self.product(w["input"], drive[t])
            x = x + p.alpha * (total - x)
            h = p.activation(x)
            out.append(h)
        return torch.stack(out).permute(2, 0, 1)

    def gradients(self) -> dict[str, Tensor]:
        found = {}
        for name, s in self._synapses().items():
            grad = self.weight[name].grad
            found[name] = torch.zeros_like(s.weight) if grad is None else grad * torch.where(s.sign == 0, 1, s.sign)
        return found

    @classmethod
    def bytes_needed(cls, units: int, synapses: float, batch: int, steps: int, training: bool) -> float:
        return 60.0 * synapses + states_bytes(units, batch, steps, 6 if training else 1)


class LoopCSR(_SparseLoop):
    name, about = "loop-csr", "torch.sparse CSR product a step"

    def matrix(self, synapses: CsrWeights, values: Tensor) -> Tensor:
        import warnings

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            return torch.sparse_csr_tensor(synapses.crow, synapses.col, values, synapses.shape, check_invariants=False)


class LoopCOO(_SparseLoop):
    name, about = "loop-coo", "torch.sparse COO product a step"

    def build(self) -> None:
        super().build()
        self.index = {name: torch.stack([s.rows, s.col.long()]) for name, s in self._synapses().items()}

    def matrix(self, synapses: CsrWeights, values: Tensor) -> Tensor:
        index = self.index["recurrent" if synapses is self.problem.rec else "input"]
        return torch.sparse_coo_tensor(index, values, synapses.shape, is_coalesced=True, check_invariants=False)

    def product(self, matrix: Any, h: Tensor) -> Tensor:
        result: Tensor = torch.sparse.mm(matrix, h)
        return result

    @classmethod
    def bytes_needed(cls, units: int, synapses: float, batch: int, steps: int, training: bool) -> float:
        dense = 4.0 * units**2 if training else 0  # the backward of a COO product makes a dense gradient of the matrix
        return dense + super().bytes_needed(units, synapses, batch, steps, training)


class LoopTorchSparse(_SparseLoop):
    name, about = "loop-torch-sparse", "torch_sparse product a step"

    @classmethod
    def missing(cls, device: str) -> str | None:
        return None if importlib.util.find_spec("torch_sparse") else "torch_sparse is not installed"

    def build(self) -> None:
        super().build()
        self.index = {name: (s.crow.long(), s.col.long(), s.rows) for name, s in self._synapses().items()}

    def matrix(self, synapses: CsrWeights, values: Tensor) -> Any:
        ptr, col, row = self.index["recurrent" if synapses is self.problem.rec else "input"]
        known = dict(sparse_sizes=synapses.shape, is_sorted=True, trust_data=True)
        return package().SparseTensor(row=row, rowptr=ptr, col=col, value=values, **known)


class LoopScipy(_SparseLoop):
    name, about, trains = "loop-scipy", "scipy CSR product a step, no gradient", False

    @classmethod
    def missing(cls, device: str) -> str | None:
        return None if torch.device(device).type == "cpu" else "scipy runs on the CPU only"

    def matrix(self, synapses: CsrWeights, values: Tensor) -> Any:
        arrays = (values.detach().numpy(), synapses.col.numpy(), synapses.crow.numpy())
        return sp.csr_array(arrays, shape=synapses.shape)

    def product(self, matrix: Any, h: Tensor) -> Tensor:
        return torch.from_numpy(matrix @ h.numpy())


class LoopDense(_Loop):
    """mRNNTorch's masked loop: weight, mask and sign are dense, and mask * |W| * sign is made once a forward.

    State is (batch, units) and a product ``(W @ h.T).T``, as there.
    """

    name, about, kind = "loop-dense", "mRNNTorch's masked dense loop, states stacked at the end", "dense"

    def build(self) -> None:
        self.bias = self.problem.bias.clone().requires_grad_(self.problem.learns_bias)
        self.weight, self.mask, self.sign = {}, {}, {}
        for name, s in self._synapses().items():
            w, mask, sign = (torch.zeros(s.shape, dtype=s.weight.dtype, device=s.weight.device) for _ in range(3))
            row, col = s.rows, s.col.long()
            w[row, col], mask[row, col], sign[row, col] = s.weight, 1.0, s.sign
            self.weight[name], self.mask[name], self.sign[name] = w.requires_grad_(), mask, sign

    def _effective(self) -> dict[str, Tensor]:
        made = {}
        for name, s in self._synapses().items():
            w, mask, sign = self.weight[name], self.mask[name], self.sign[name]
            made[name] = mask * w.abs() * sign if s.signed else mask * torch.where(sign == 0, w, w.abs() * sign)
        return made

    def states(self, steps: int) -> Tensor:
        p = self.problem
        w = self._effective()
        x, h, alpha = p.x0, p.h0, p.alpha.t()
        kept: list[Tensor] = []
        for t in range(steps):
            x, h = self._step(w, x, h, p.drive[:, t], alpha)
            kept.append(h)
        return torch.stack(kept, 1)

    def _step(self, w: dict[str, Tensor], x: Tensor, h: Tensor, u: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        total = -x
        if "recurrent" in w:
            total = total + (w["recurrent"] @ h.T).T
        if "input" in w:
            total = total + (w["input"] @ u.T).T
        x = x + alpha * (total + self.bias)
        f = self.problem.activation
        return x, f(x) if len(self.problem.parts) == 1 else f(x.t()).t()

    def gradients(self) -> dict[str, Tensor]:
        found = {}
        for name, s in self._synapses().items():
            grad = self.weight[name].grad
            at = torch.zeros_like(s.weight) if grad is None else grad[s.rows, s.col.long()]
            found[name] = at * torch.where(s.sign == 0, 1, s.sign)
        return found

    @classmethod
    def bytes_needed(cls, units: int, synapses: float, batch: int, steps: int, training: bool) -> float:
        return (10 if training else 5) * 4.0 * units**2 + states_bytes(units, batch, steps, 6 if training else 1)


class MRNNTorch(LoopDense):
    """As `LoopDense`, and x and h are written into arrays made beforehand, as mRNNTorch 0.1 does."""

    name, about = "mrnntorch", "the same, states written step by step as mRNNTorch 0.1 does"

    def states(self, steps: int) -> Tensor:
        p = self.problem
        w = self._effective()
        x, h, alpha = p.x0, p.h0, p.alpha.t()
        new_h = torch.empty((p.case.batch, steps, p.units), device=x.device)
        new_x = torch.empty_like(new_h)
        for t in range(steps):
            x, h = self._step(w, x, h, p.drive[:, t], alpha)
            new_x[:, t, :] = x
            new_h[:, t, :] = h
        return new_h


class LibraryEntry(Entry):
    """This library on one backend."""

    backend: ClassVar[str]

    def __init__(self, problem: Problem | CaseInputs) -> None:
        self.given = problem
        graph = problem.case.make()
        start = time.perf_counter()
        self.net = problem.case.network(self.backend, graph)
        self.build_s = time.perf_counter() - start

    def states(self, steps: int) -> Tensor:
        case, drive, x0 = self.given.case, self.given.drive[:, :steps], self.given.x0
        h: Tensor = self.net(drive, x0) if case.model == "elman" else self.net(drive, x0)[1]
        return h

    def parameters(self) -> list[Tensor]:
        return list(self.net.parameters())

    def gradients(self) -> dict[str, Tensor]:
        found = {}
        first = (self.given.rec.first, self.given.inp.first) if isinstance(self.given, Problem) else (None, None)
        for weights, entries in zip(self.net.weight_matrices(), first, strict=True):
            if not weights.nnz:
                continue
            grad = weights.values.grad
            grad = torch.zeros_like(weights.values) if grad is None else grad
            every = torch.cat([grad, torch.full_like(weights.frozen, torch.nan)])
            every = every if weights.perm is None else every[weights.perm.long()]
            sign, raw = weights.csr_signs(), weights.csr_values(effective_weights=False).detach()
            every = every * torch.where(sign == 0, 1, torch.where(raw < 0, -sign, sign))
            found[weights.kind] = every if entries is None else every[torch.from_numpy(entries).to(every.device)]
        return found

    @classmethod
    def bytes_needed(cls, units: int, synapses: float, batch: int, steps: int, training: bool) -> float:
        if cls.kind == "dense":
            return (5 if training else 2) * 4.0 * units**2 + states_bytes(units, batch, steps, 4 if training else 2)
        return (80 if training else 40) * synapses + states_bytes(units, batch, steps, 4 if training else 2)


def _library_entry(backend: str) -> type[LibraryEntry]:
    name = "ours" if backend == "auto" else f"ours-{backend}"
    kind = {"auto": "other", "dense": "dense"}.get(backend, "sparse")
    about = "sparse_mrnn, the backend it chooses" if backend == "auto" else f"sparse_mrnn, backend={backend!r}"
    return type(f"Library_{backend}", (LibraryEntry,), dict(name=name, about=about, kind=kind, backend=backend, __doc__=about, __module__=__name__))


LOOPS: tuple[type[Entry], ...] = (MRNNTorch, LoopDense, LoopCOO, LoopCSR, LoopTorchSparse, LoopScipy)


def entries() -> dict[str, type[Entry]]:
    """Every entry by name: this library's backends first."""
    found: list[type[Entry]] = [_library_entry(b) for b in base.BACKENDS]
    return {e.name: e for e in [*found, *LOOPS]}


def chosen(names: list[str] | None) -> list[type[Entry]]:
    """The entries of these names; all that are not missing by default.

    Raises
    ------
    BenchmarkError
        If there is no entry of a name.
    """
    known = entries()
    for name in names or ():
        if name not in known:
            raise BenchmarkError(f"no entry {name!r}; there are {', '.join(known)}. {suggest(name, known)}")
    return [known[n] for n in dict.fromkeys(names)] if names else list(known.values())


def as_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A detached copy on the CPU in float64."""
    return tensor.detach().to("cpu", torch.float64).numpy()
