"""Backend "dense": one dense matrix, for nets that are small or mostly full, and for a user's dense
weights."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse_mrnn.ops.products.base import Operator, Product
from sparse_mrnn.ops.products.csr import Factor

COPIED_AFTER = 8
"""Transposed products after which the matrix is copied transposed: each then takes a third less time."""


class DenseOperator(Operator):
    """A dense matrix; stored values are the matrix itself.

    Examples
    --------
    >>> DenseOperator((1, 2)).bind(torch.tensor([[2.0, 3.0]])).rmatmul(torch.ones(1, 1)).tolist()
    [[2.0], [3.0]]
    """

    name = "dense"

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape

    def bind(self, stored: Tensor) -> DenseProduct:
        return DenseProduct(stored)


class DenseProduct(Product):
    """A dense matrix."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix.detach()
        self.factor = Factor(self.matrix)
        self._grad: Tensor | None = None
        self._transposed, self._calls = self.matrix.t(), 0

    def addmm(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        self.factor.multiply_add(y, h, beta=beta, alpha=alpha, out=out)

    def rmatmul(self, g: Tensor, out: Tensor | None = None) -> Tensor:
        self._calls += 1
        if self._calls == COPIED_AFTER and g.shape[1] > 1:
            self._transposed = self._transposed.contiguous()
        return torch.mm(self._transposed, g) if out is None else torch.mm(self._transposed, g, out=out)

    def sddmm(self, g: Tensor, h: Tensor) -> None:
        if self._grad is None:
            self._grad = torch.mm(g, h.t())
        else:
            self._grad.addmm_(g, h.t())

    def grad(self) -> Tensor:
        return torch.zeros_like(self.matrix) if self._grad is None else self._grad
