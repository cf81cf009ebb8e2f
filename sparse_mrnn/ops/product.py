"""Weight matrix times activity: one small interface, a CSR and a dense backend.

A product holds the values of one forward pass. Activity is (units, batch), so a row is contiguous and one
time step is one sparse-dense product (SpMM); a batch of one goes through the matrix-vector kernel, which
takes half the time on the CPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sparse_mrnn.ops.compiled import sampled_product
from sparse_mrnn.ops.pattern import Pattern


class Product(ABC):
    """y = W h, its transpose, and the gradient of the values of W."""

    @abstractmethod
    def add_to(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        """out = beta * y + alpha * W h. y may be out; h is (sources, batch), out (targets, batch)."""

    @abstractmethod
    def transposed(self, g: Tensor) -> Tensor:
        """W^T g for g of shape (targets, batch)."""

    @abstractmethod
    def accumulate_grad(self, g: Tensor, h: Tensor) -> None:
        """Add sum_k g[i, k] h[j, k] to the gradient of every synapse (i, j): a sampled product (SDDMM); both contiguous."""

    @abstractmethod
    def grad(self) -> Tensor:
        """The gradient gathered so far, of the shape of the values."""


class CsrProduct(Product):
    """torch CSR matrices: MKL on the CPU, cuSPARSE on CUDA; the sampled product compiled where numba is installed."""

    def __init__(self, pattern: Pattern, values: Tensor) -> None:
        self.pattern, self.values = pattern, values.detach()
        self.matrix = pattern.matrix(self.values)
        self.compiled = sampled_product() if values.device.type == "cpu" else None
        self._transposed: Tensor | None = None
        self._grad: Tensor | None = None  # one entry per synapse where compiled, else a matrix without repeats

    def add_to(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        if self.pattern.nnz == 0:  # MKL refuses an empty matrix
            torch.mul(y, beta, out=out)
        elif h.shape[1] == 1:
            torch.addmv(y[:, 0], self.matrix, h[:, 0], beta=beta, alpha=alpha, out=out[:, 0])
        else:
            torch.addmm(y, self.matrix, h, beta=beta, alpha=alpha, out=out)

    def transposed(self, g: Tensor) -> Tensor:
        if self.pattern.nnz == 0:
            return g.new_zeros(self.pattern.shape[1], g.shape[1])
        if self._transposed is None:
            pattern, order = self.pattern.transposed
            self._transposed = pattern.matrix(self.values.index_select(0, order))
        return torch.mm(self._transposed, g)

    def accumulate_grad(self, g: Tensor, h: Tensor) -> None:
        if self.pattern.nnz == 0:
            return
        if self.compiled is not None:
            if self._grad is None:
                self._grad = torch.zeros_like(self.values)
            self.compiled(self.pattern.crow, self.pattern.col, g, h, self._grad)
            return
        if self._grad is None:
            once = self.pattern.unique[0]
            self._grad = once.matrix(self.values.new_zeros(once.nnz))
        torch.sparse.sampled_addmm(self._grad, g, h.t(), beta=1.0, alpha=1.0, out=self._grad)

    def grad(self) -> Tensor:
        if self._grad is None:
            return torch.zeros_like(self.values)
        if self.compiled is not None:
            return self._grad
        place = self.pattern.unique[1]
        return self._grad.values() if place is None else self._grad.values().index_select(0, place)


class DenseProduct(Product):
    """A dense matrix: for small or nearly full nets, and for dense weights a user passes in."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix.detach()
        self._grad = torch.zeros_like(self.matrix)

    def add_to(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        torch.addmm(y, self.matrix, h, beta=beta, alpha=alpha, out=out)

    def transposed(self, g: Tensor) -> Tensor:
        return torch.mm(self.matrix.t(), g)

    def accumulate_grad(self, g: Tensor, h: Tensor) -> None:
        self._grad.addmm_(g, h.t())

    def grad(self) -> Tensor:
        return self._grad


def make_product(pattern: Pattern | None, values: Tensor) -> Product:
    """A CSR product of ``values`` on ``pattern``, or a dense one where there is no pattern."""
    return DenseProduct(values) if pattern is None else CsrProduct(pattern, values)
