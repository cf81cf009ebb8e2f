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
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, cast

import scipy.sparse as sp
import torch
from torch import Tensor

from sparse_mrnn.benchmark.cases import Case
from sparse_mrnn.benchmark.problem import CsrWeights, Problem
from sparse_mrnn.errors import BenchmarkError, suggest
from sparse_mrnn.models.network import BACKENDS
from sparse_mrnn.ops.products.torch_sparse import package

Product = Callable[[Tensor], Tensor]


class Entry(ABC):
    """One way to run a case. ``build_s`` is the time from the declared graph until it can run."""

    name: ClassVar[str]
    about: ClassVar[str]
    kind: ClassVar[str] = "other"
    """"dense" or "sparse", by which the two are compared; "other" for neither."""
    trains: ClassVar[bool] = True
    needs: ClassVar[tuple[tuple[float, float, float], tuple[float, float, float]]]
    """Roughly the memory of a run forward, and of a training run: copies of the dense weight matrix, copies
    of a state of every unit, trial and step, and bytes a synapse."""

    build_s: float
    problem: Problem

    @abstractmethod
    def __init__(self, problem: Problem) -> None:
        """Make what the entry keeps between runs."""

    @classmethod
    def missing(cls, device: str) -> str | None:
        """Why it cannot run here, or None."""
        return None

    @classmethod
    def bytes_needed(cls, case: Case, units: int, synapses: float, training: bool) -> float:
        """Roughly how much memory a run takes in float32, so that one which would not fit is not started."""
        matrices, states, per_synapse = cls.needs[training and cls.trains]
        return 4.0 * units * (matrices * units + states * case.batch * case.steps) + per_synapse * synapses

    @abstractmethod
    def states(self, steps: int) -> Tensor:
        """h over the first ``steps`` steps, shape (batch, time, units)."""

    @abstractmethod
    def parameters(self) -> list[Tensor]:
        """Tensors that a training run differentiates by."""

    @abstractmethod
    def gradients(self) -> dict[str, Tensor]:
        """After a training run, the derivative by each effective weight, of "recurrent" and "input".

        NaN if the entry does not differentiate by it (a frozen projection).
        """

    def run(self, training: bool, steps: int | None = None) -> Tensor:
        """One forward, or one forward and backward of the loss; h, detached."""
        steps = self.problem.case.steps if steps is None else steps
        if not training:
            with torch.no_grad():
                return self.states(steps)
        for p in self.parameters():
            p.grad = None
        h = self.states(steps)
        # One pass each way: h.square().mean() takes as long as a sparse network.
        (torch.linalg.vector_norm(h).square() / h.numel()).backward()  # type: ignore[no-untyped-call]
        return h.detach()


class _Loop(Entry):
    """A Python loop over the steps."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        start = time.perf_counter()
        self.bias = problem.bias.clone().requires_grad_(problem.learns_bias)
        self.build()
        self.build_s = problem.build_s + time.perf_counter() - start

    def build(self) -> None:
        """Make the weights, and what else the entry keeps between runs."""
        self.weight = {name: s.weight.clone().requires_grad_() for name, s in self.problem.synapses.items()}

    def parameters(self) -> list[Tensor]:
        return [*self.weight.values(), self.bias]

    def gradients(self) -> dict[str, Tensor]:
        found = {}
        for kind, s in self.problem.synapses.items():
            grad = cast(Tensor, self.weight[kind].grad)
            grad = grad if grad.dim() == 1 else grad[s.coordinates]
            found[kind] = grad * torch.where(s.sign == 0, 1, s.sign)
        return found


class _SparseLoop(_Loop):
    """A loop with state (units, batch), and weights as a flat vector of CSR entries."""

    needs = (0, 1, 60), (0, 6, 60)

    @abstractmethod
    def product(self, weights: CsrWeights, values: Tensor) -> Product:
        """Make the function that multiplies a state by the weights of these effective values."""

    def states(self, steps: int) -> Tensor:
        p = self.problem
        w = {name: self.product(s, s.effective(self.weight[name])) for name, s in p.synapses.items()}
        x, h, bias = p.x0.t().contiguous(), p.h0.t().contiguous(), self.bias[:, None]
        u = p.u.permute(1, 2, 0).contiguous()
        out = []
        for t in range(steps):
            total = bias
            if "recurrent" in w:
                total = total + w["recurrent"](h)
            if "input" in w:
                total = total + w["input"](u[t])
            x = x + p.alpha * (total - x)
            h = p.activations.apply(x)
            out.append(h)
        return torch.stack(out).permute(2, 0, 1)


class LoopCSR(_SparseLoop):
    name, about = "loop-csr", "torch.sparse CSR product a step"

    def product(self, weights: CsrWeights, values: Tensor) -> Product:
        return weights.pattern.matrix(values).matmul


class LoopCOO(_SparseLoop):
    name, about = "loop-coo", "torch.sparse COO product a step"
    needs = (0, 1, 60), (1, 6, 60)  # a COO product's gradient is made dense first

    def build(self) -> None:
        super().build()
        self.index = {id(s): torch.stack(s.coordinates) for s in self.problem.synapses.values()}

    def product(self, weights: CsrWeights, values: Tensor) -> Product:
        known: dict[str, Any] = dict(is_coalesced=True, check_invariants=False)
        index, shape = self.index[id(weights)], weights.pattern.shape
        return partial(torch.sparse.mm, torch.sparse_coo_tensor(index, values, shape, **known))


class LoopTorchSparse(_SparseLoop):
    name, about = "loop-torch-sparse", "torch_sparse product a step"

    @classmethod
    def missing(cls, device: str) -> str | None:
        return None if importlib.util.find_spec("torch_sparse") else "torch_sparse is not installed"

    def build(self) -> None:
        super().build()
        synapses = self.problem.synapses.values()
        self.index = {id(s): (s.pattern.crow.long(), *s.coordinates) for s in synapses}

    def product(self, weights: CsrWeights, values: Tensor) -> Product:
        ptr, row, col = self.index[id(weights)]
        known = dict(sparse_sizes=weights.pattern.shape, is_sorted=True, trust_data=True)
        matrix = package().SparseTensor(row=row, rowptr=ptr, col=col, value=values, **known)
        return lambda h: matrix @ h


class LoopScipy(_SparseLoop):
    name, about, trains = "loop-scipy", "scipy CSR product a step, no gradient", False

    @classmethod
    def missing(cls, device: str) -> str | None:
        return None if torch.device(device).type == "cpu" else "scipy runs on the CPU only"

    def product(self, weights: CsrWeights, values: Tensor) -> Product:
        arrays = values.detach().numpy(), weights.pattern.col.numpy(), weights.pattern.crow.numpy()
        matrix = sp.csr_array(arrays, shape=weights.pattern.shape)
        return lambda h: torch.from_numpy(matrix @ h.numpy())


class LoopDense(_Loop):
    """mRNNTorch's masked loop: weight, mask and sign are dense, and mask * |W| * sign is made once a forward.

    State is (batch, units) and a product ``(W @ h.T).T``, as there.
    """

    name, about, kind = "loop-dense", "mRNNTorch's masked dense loop, states stacked at the end", "dense"
    needs = (5, 1, 0), (10, 6, 0)

    def build(self) -> None:
        self.alpha = self.problem.alpha.t()
        self.weight, self.mask, self.sign = {}, {}, {}
        for name, s in self.problem.synapses.items():
            w, mask, sign = (s.weight.new_zeros(s.pattern.shape) for _ in range(3))
            at = s.coordinates
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
        total, f = -x, self.problem.activations
        if "recurrent" in w:
            total = total + (w["recurrent"] @ h.T).T
        if "input" in w:
            total = total + (w["input"] @ u.T).T
        x = x + self.alpha * (total + self.bias)
        return x, f.apply(x) if len(f.parts) == 1 else f.apply(x.t()).t()

    def run_steps(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """x and h after each step."""
        w, x, h = self._effective(), self.problem.x0, self.problem.h0
        for t in range(steps):
            x, h = self.step(w, x, h, self.problem.u[:, t])
            yield x, h

    def states(self, steps: int) -> Tensor:
        return torch.stack([h for _, h in self.run_steps(steps)], 1)


class MRNNTorch(LoopDense):
    """The same loop, but x and h are written into arrays made beforehand, as mRNNTorch 0.1 does."""

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

    def __init__(self, problem: Problem) -> None:
        self.problem, graph = problem, problem.case.make()
        start = time.perf_counter()
        self.net = problem.case.network(self.backend, graph)
        self.build_s = time.perf_counter() - start

    def states(self, steps: int) -> Tensor:
        result = self.net(self.problem.u[:, :steps], self.problem.x0)
        h: Tensor = result if self.problem.case.model == "elman" else result[1]
        return h

    def parameters(self) -> list[Tensor]:
        return list(self.net.parameters())

    def gradients(self) -> dict[str, Tensor]:
        found = {}
        for kind, s in self.problem.synapses.items():
            weights = self.net.weights(kind)
            grad = weights.values.grad
            grad = torch.zeros_like(weights.values) if grad is None else grad
            grad = torch.cat([grad, torch.full_like(weights.frozen, torch.nan)])
            grad = grad if weights.perm is None else grad[weights.perm.long()]
            sign, raw = weights.csr_signs(), weights.csr_values(effective_weights=False).detach()
            grad = grad * torch.where(sign == 0, 1, torch.where(raw < 0, -sign, sign))
            found[kind] = grad if s.first is None else grad[s.first]
        return found


def _library_entry(backend: str) -> type[LibraryEntry]:
    name = "sparse-mrnn" if backend == "auto" else f"backend-{backend}"
    kind = {"auto": "other", "dense": "dense"}.get(backend, "sparse")
    about = "sparse-mrnn, " + ("the backend it chooses" if backend == "auto" else f"backend={backend!r}")
    needs = ((2, 2, 0), (5, 4, 0)) if kind == "dense" else ((0, 2, 40), (0, 4, 80))
    fields = dict(name=name, about=about, kind=kind, backend=backend, needs=needs, __doc__=about)
    return type(f"LibraryEntry_{backend}", (LibraryEntry,), {**fields, "__module__": __name__})


LOOPS: tuple[type[Entry], ...] = (MRNNTorch, LoopDense, LoopCOO, LoopCSR, LoopTorchSparse, LoopScipy)


def entries() -> dict[str, type[Entry]]:
    """Every entry by name: this library's backends first."""
    return {e.name: e for e in [*map(_library_entry, BACKENDS), *LOOPS]}


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
        If no entry has one of the names.

    Examples
    --------
    >>> [entry.name for entry in select_entries(["backend-csr"])]
    ['backend-csr']
    """
    known = entries()
    for name in names or ():
        if name not in known:
            raise BenchmarkError(f"no entry {name!r}; there are {', '.join(known)}. {suggest(name, known)}")
    return [known[n] for n in dict.fromkeys(names or known)]
