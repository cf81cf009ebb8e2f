"""The ways to run a network that are compared: Python loops over the steps, and this library by backend.

A loop applies Dale's law once a forward, steps with a Python ``for``, and leaves gradients to autograd. It
computes the update of mRNNTorch,

    x[t+1] = x[t] + alpha (-x[t] + W_rec h[t] + W_inp u[t] + b),    h[t+1] = f(x[t+1])

and differs in how the weights are stored and multiplied. The loss of a training run is the mean of h squared.
"""

from __future__ import annotations

import importlib.util
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from sparse_mrnn.benchmark.problem import CaseInputs, CsrWeights, Problem
from sparse_mrnn.errors import BenchmarkError, suggest
from sparse_mrnn.models.network import BACKENDS
from sparse_mrnn.ops.products.torch_sparse import package


@dataclass(frozen=True)
class RunSize:
    """What the memory of a run depends on; float32 throughout."""

    units: int
    synapses: float
    batch: int
    steps: int
    training: bool

    def states(self, copies: int) -> float:
        """Bytes of so many values for every unit, trial and step."""
        return 4.0 * self.units * self.batch * self.steps * copies

    def matrices(self, copies: int) -> float:
        """Bytes of so many dense weight matrices."""
        return 4.0 * self.units**2 * copies


class Entry(ABC):
    """One way to run a case. ``build_s`` is the time from the declared graph until it can run."""

    name: ClassVar[str]
    about: ClassVar[str]
    kind: ClassVar[str]
    """"dense" or "sparse", by which the two are compared; "other" for neither."""
    trains: ClassVar[bool] = True

    build_s: float
    inputs: CaseInputs

    @abstractmethod
    def __init__(self, problem: Problem) -> None:
        """Make what the entry keeps between runs."""

    @classmethod
    def missing(cls, device: str) -> str | None:
        """Why it cannot run here, or None."""
        return None

    @classmethod
    @abstractmethod
    def bytes_needed(cls, size: RunSize) -> float:
        """Roughly how much memory a run takes, so that one which would not fit is never started."""

    @abstractmethod
    def states(self, steps: int) -> Tensor:
        """h over the first ``steps`` steps, shape (batch, time, units)."""

    @abstractmethod
    def parameters(self) -> list[Tensor]:
        """What is differentiated."""

    @abstractmethod
    def gradients(self) -> dict[str, Tensor]:
        """After a training run, the derivative by each effective weight, of "recurrent" and "input".

        NaN where the entry does not differentiate (a frozen projection).
        """

    def run(self, training: bool, steps: int | None = None) -> Tensor:
        """One forward, or one forward and backward of the loss; h, detached."""
        steps = self.inputs.case.steps if steps is None else steps
        if not training:
            with torch.no_grad():
                return self.states(steps)
        for p in self.parameters():
            p.grad = None
        h = self.states(steps)
        mean_square(h).backward()  # type: ignore[no-untyped-call]
        return h.detach()


def mean_square(h: Tensor) -> Tensor:
    """The loss of a training run, one pass each way: h.square().mean() takes as long as a sparse network."""
    loss: Tensor = torch.linalg.vector_norm(h).square() / h.numel()
    return loss


class _Loop(Entry):
    """A Python loop over the steps."""

    kind = "other"

    def __init__(self, problem: Problem) -> None:
        self.inputs = self.problem = problem
        start = time.perf_counter()
        self.build()
        self.build_s = problem.build_s + time.perf_counter() - start

    def build(self) -> None:
        """Make the parameters, and what else the entry keeps between runs."""
        self.weight = {name: s.weight.clone().requires_grad_() for name, s in self.problem.synapses.items()}
        self.bias = self.problem.bias.clone().requires_grad_(self.problem.learns_bias)

    def parameters(self) -> list[Tensor]:
        return [*self.weight.values(), self.bias]

    def gradients(self) -> dict[str, Tensor]:
        found = {}
        for kind, s in self.problem.synapses.items():
            grad = self.weight[kind].grad
            grad = torch.zeros_like(self.weight[kind]) if grad is None else grad
            grad = grad if grad.dim() == 1 else grad[s.coordinates()]
            found[kind] = grad * torch.where(s.sign == 0, 1, s.sign)
        return found


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
        w = {name: self.matrix(s, s.effective(self.weight[name])) for name, s in p.synapses.items()}
        x, h, bias = p.x0.t().contiguous(), p.h0.t().contiguous(), self.bias[:, None]
        u = p.u.permute(1, 2, 0).contiguous()
        out = []
        for t in range(steps):
            total = bias
            if "recurrent" in w:
                total = total + self.product(w["recurrent"], h)
            if "input" in w:
                total = total + self.product(w["input"], u[t])
            x = x + p.alpha * (total - x)
            h = p.activation(x)
            out.append(h)
        return torch.stack(out).permute(2, 0, 1)

    @classmethod
    def bytes_needed(cls, size: RunSize) -> float:
        return 60 * size.synapses + size.states(6 if size.training else 1)


class LoopCSR(_SparseLoop):
    name, about = "loop-csr", "torch.sparse CSR product a step"

    def matrix(self, synapses: CsrWeights, values: Tensor) -> Tensor:
        return synapses.pattern.matrix(values)


class LoopCOO(_SparseLoop):
    name, about = "loop-coo", "torch.sparse COO product a step"

    def build(self) -> None:
        super().build()
        self.index = {name: torch.stack(s.coordinates()) for name, s in self.problem.synapses.items()}

    def matrix(self, synapses: CsrWeights, values: Tensor) -> Tensor:
        index = self.index["recurrent" if synapses is self.problem.rec else "input"]
        shape = synapses.pattern.shape
        return torch.sparse_coo_tensor(index, values, shape, is_coalesced=True, check_invariants=False)

    def product(self, matrix: Any, h: Tensor) -> Tensor:
        result: Tensor = torch.sparse.mm(matrix, h)
        return result

    @classmethod
    def bytes_needed(cls, size: RunSize) -> float:
        dense = size.matrices(1) if size.training else 0  # a COO product's gradient is made dense first
        return dense + super().bytes_needed(size)


class LoopTorchSparse(_SparseLoop):
    name, about = "loop-torch-sparse", "torch_sparse product a step"

    @classmethod
    def missing(cls, device: str) -> str | None:
        return None if importlib.util.find_spec("torch_sparse") else "torch_sparse is not installed"

    def build(self) -> None:
        super().build()
        synapses = self.problem.synapses.items()
        self.index = {name: (s.pattern.crow.long(), *s.coordinates()) for name, s in synapses}

    def matrix(self, synapses: CsrWeights, values: Tensor) -> Any:
        ptr, row, col = self.index["recurrent" if synapses is self.problem.rec else "input"]
        known = dict(sparse_sizes=synapses.pattern.shape, is_sorted=True, trust_data=True)
        return package().SparseTensor(row=row, rowptr=ptr, col=col, value=values, **known)


class LoopScipy(_SparseLoop):
    name, about, trains = "loop-scipy", "scipy CSR product a step, no gradient", False

    @classmethod
    def missing(cls, device: str) -> str | None:
        return None if torch.device(device).type == "cpu" else "scipy runs on the CPU only"

    def matrix(self, synapses: CsrWeights, values: Tensor) -> Any:
        pattern = synapses.pattern
        arrays = (values.detach().numpy(), pattern.col.numpy(), pattern.crow.numpy())
        return sp.csr_array(arrays, shape=pattern.shape)

    def product(self, matrix: Any, h: Tensor) -> Tensor:
        return torch.from_numpy(matrix @ h.numpy())


class LoopDense(_Loop):
    """mRNNTorch's masked loop: weight, mask and sign are dense, and mask * |W| * sign is made once a forward.

    State is (batch, units) and a product ``(W @ h.T).T``, as there.
    """

    name, about, kind = "loop-dense", "mRNNTorch's masked dense loop, states stacked at the end", "dense"

    def build(self) -> None:
        self.bias = self.problem.bias.clone().requires_grad_(self.problem.learns_bias)
        self.alpha = self.problem.alpha.t()
        self.weight, self.mask, self.sign = {}, {}, {}
        for name, s in self.problem.synapses.items():
            w, mask, sign = (s.weight.new_zeros(s.pattern.shape) for _ in range(3))
            at = s.coordinates()
            w[at], mask[at], sign[at] = s.weight, 1.0, s.sign
            self.weight[name], self.mask[name], self.sign[name] = w.requires_grad_(), mask, sign

    def _effective(self) -> dict[str, Tensor]:
        made = {}
        for name, s in self.problem.synapses.items():
            w, mask, sign = self.weight[name], self.mask[name], self.sign[name]
            constrained = w.abs() * sign
            made[name] = mask * (constrained if s.signed else torch.where(sign == 0, w, constrained))
        return made

    def step(self, w: dict[str, Tensor], x: Tensor, h: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """x and h after one step, with effective weights."""
        total = -x
        if "recurrent" in w:
            total = total + (w["recurrent"] @ h.T).T
        if "input" in w:
            total = total + (w["input"] @ u.T).T
        x, f = x + self.alpha * (total + self.bias), self.problem.activation
        return x, f(x) if len(self.problem.activations.parts) == 1 else f(x.t()).t()

    def run_steps(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """x and h after each step."""
        w, x, h = self._effective(), self.problem.x0, self.problem.h0
        for t in range(steps):
            x, h = self.step(w, x, h, self.problem.u[:, t])
            yield x, h

    def states(self, steps: int) -> Tensor:
        return torch.stack([h for _, h in self.run_steps(steps)], 1)

    @classmethod
    def bytes_needed(cls, size: RunSize) -> float:
        return size.matrices(10 if size.training else 5) + size.states(6 if size.training else 1)


class MRNNTorch(LoopDense):
    """As `LoopDense`, and x and h are written into arrays made beforehand, as mRNNTorch 0.1 does."""

    name, about = "mrnntorch", "the same, states written step by step as mRNNTorch 0.1 does"

    def states(self, steps: int) -> Tensor:
        new_h = self.problem.x0.new_empty(self.problem.case.batch, steps, self.problem.units)
        new_x = torch.empty_like(new_h)
        for t, (x, h) in enumerate(self.run_steps(steps)):
            new_x[:, t, :] = x
            new_h[:, t, :] = h
        return new_h


class LibraryEntry(Entry):
    """This library on one backend."""

    backend: ClassVar[str]

    def __init__(self, problem: Problem | CaseInputs) -> None:
        self.inputs = problem
        graph = problem.case.make()
        start = time.perf_counter()
        self.net = problem.case.network(self.backend, graph)
        self.build_s = time.perf_counter() - start

    def states(self, steps: int) -> Tensor:
        result = self.net(self.inputs.u[:, :steps], self.inputs.x0)
        h: Tensor = result if self.inputs.case.model == "elman" else result[1]
        return h

    def parameters(self) -> list[Tensor]:
        return list(self.net.parameters())

    def gradients(self) -> dict[str, Tensor]:
        found = {}
        synapses = self.inputs.synapses if isinstance(self.inputs, Problem) else {}
        for weights in self.net.weight_matrices():
            if not weights.nnz:
                continue
            grad = weights.values.grad
            grad = torch.zeros_like(weights.values) if grad is None else grad
            grad = torch.cat([grad, torch.full_like(weights.frozen, torch.nan)])
            grad = grad if weights.perm is None else grad[weights.perm.long()]
            sign, raw = weights.csr_signs(), weights.csr_values(effective_weights=False).detach()
            grad = grad * torch.where(sign == 0, 1, torch.where(raw < 0, -sign, sign))
            first = synapses[weights.kind].first if synapses else None
            found[weights.kind] = grad if first is None else grad[first]
        return found

    @classmethod
    def bytes_needed(cls, size: RunSize) -> float:
        states = size.states(4 if size.training else 2)
        if cls.kind == "dense":
            return states + size.matrices(5 if size.training else 2)
        return states + (80 if size.training else 40) * size.synapses


def _library_entry(backend: str) -> type[LibraryEntry]:
    name = "sparse-mrnn" if backend == "auto" else f"backend-{backend}"
    kind = {"auto": "other", "dense": "dense"}.get(backend, "sparse")
    about = "sparse-mrnn, " + ("the backend it chooses" if backend == "auto" else f"backend={backend!r}")
    fields = dict(name=name, about=about, kind=kind, backend=backend, __doc__=about, __module__=__name__)
    return type(f"LibraryEntry_{backend}", (LibraryEntry,), fields)


LOOPS: tuple[type[Entry], ...] = (MRNNTorch, LoopDense, LoopCOO, LoopCSR, LoopTorchSparse, LoopScipy)


def entries() -> dict[str, type[Entry]]:
    """Every entry by name: this library's backends first."""
    found: list[type[Entry]] = [_library_entry(b) for b in BACKENDS]
    return {e.name: e for e in [*found, *LOOPS]}


def select_entries(names: list[str] | None) -> list[type[Entry]]:
    """The entries of these names.

    Parameters
    ----------
    names : list of str or None
        None: all.

    Returns
    -------
    list of subclasses of Entry

    Raises
    ------
    BenchmarkError
        If there is no entry of a name.

    Examples
    --------
    >>> [entry.name for entry in select_entries(["backend-csr"])]
    ['backend-csr']
    """
    known = entries()
    for name in names or ():
        if name not in known:
            raise BenchmarkError(f"no entry {name!r}; there are {', '.join(known)}. {suggest(name, known)}")
    return [known[n] for n in dict.fromkeys(names)] if names else list(known.values())


def as_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A detached copy on the CPU in float64."""
    return tensor.detach().to("cpu", torch.float64).numpy()
