"""A product by U V^T on a range of rows and columns, and the sum of such products with a matrix.

2 N R parameters and 4 N R flops a column for R columns of U and V; nothing of N x N is made (Mastrogiuseppe &
Ostojic 2018, Neuron 99:609).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_mrnn.ops.products.base import Operator, Product


@dataclass(frozen=True)
class LowRankBlock:
    """Rows and columns that U V^T acts on, and the number of columns of U and V."""

    rows: slice
    cols: slice
    rank: int

    @property
    def sizes(self) -> tuple[int, int]:
        """Entries of U and of V."""
        return (self.rows.stop - self.rows.start) * self.rank, (self.cols.stop - self.cols.start) * self.rank


class LowRankSum(Operator):
    """A matrix on another backend, of ``stored`` values, plus low-rank blocks.

    Stored values are those of the matrix, then U, V, U, V, ....

    Examples
    --------
    >>> from sparse_mrnn.ops.products.dense import DenseOperator
    >>> block = LowRankBlock(slice(0, 2), slice(0, 1), 1)
    >>> operator = LowRankSum(DenseOperator((2, 1)), 2, [block])
    >>> stored = torch.tensor([0.0, 0.0, 2.0, 3.0, 5.0])  # zeros, U = (2, 3), V = (5)
    >>> operator.bind(stored).rmatmul(torch.ones(2, 1)).tolist()
    [[25.0]]
    """

    name = "low_rank"

    def __init__(self, matrix: Operator, stored: int, blocks: Sequence[LowRankBlock]) -> None:
        self.matrix, self.stored, self.blocks, self.shape = matrix, stored, tuple(blocks), matrix.shape

    def bind(self, stored: Tensor) -> LowRankSumProduct:
        return LowRankSumProduct(self, stored.detach())


class LowRankSumProduct(Product):
    """A `LowRankSum` with values."""

    def __init__(self, operator: LowRankSum, stored: Tensor) -> None:
        self.operator, self.values = operator, stored
        matrix = operator.matrix
        own = stored[: operator.stored]
        self.matrix = matrix.bind(own.view(matrix.shape) if matrix.name == "dense" else own)
        self.factors: list[tuple[LowRankBlock, Tensor, Tensor]] = []  # block, U, V
        start = operator.stored
        for block in operator.blocks:
            left, right = (stored[a:b].view(-1, block.rank) for a, b in _bounds(block, start))
            self.factors.append((block, left, right))
            start += sum(block.sizes)
        self._grad = torch.zeros_like(stored[operator.stored :])
        self._inner: dict[tuple[int, int], Tensor] = {}  # V^T h, by rank and columns

    def _projected(self, factor: Tensor, given: Tensor) -> Tensor:
        """Return factor^T times what is given; valid until the next call."""
        key = factor.shape[1], given.shape[1]
        if key not in self._inner:
            self._inner[key] = given.new_empty(key)
        return torch.mm(factor.t(), given, out=self._inner[key])

    def addmm(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        self.matrix.addmm(y, h, beta=beta, alpha=alpha, out=out)
        for block, left, right in self.factors:
            out[block.rows].addmm_(left, self._projected(right, h[block.cols]), alpha=alpha)

    def rmatmul(self, g: Tensor, out: Tensor | None = None) -> Tensor:
        out = self.matrix.rmatmul(g, out)
        for block, left, right in self.factors:
            out[block.cols].addmm_(right, self._projected(left, g[block.rows]))
        return out

    def sddmm(self, g: Tensor, h: Tensor) -> None:
        """dU += g (h^T V), dV += h (g^T U), beside the matrix's own."""
        self.matrix.sddmm(g, h)
        start = 0
        for block, left, right in self.factors:
            (a, b), (_, c) = _bounds(block, start)
            gs, hs = g[block.rows], h[block.cols]
            self._grad[a:b].view_as(left).addmm_(gs, hs.t() @ right)
            self._grad[b:c].view_as(right).addmm_(hs, gs.t() @ left)
            start = c

    def grad(self) -> Tensor:
        return torch.cat([self.matrix.grad().reshape(-1), self._grad])


def _bounds(block: LowRankBlock, start: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Ranges of U and of V in the stored values."""
    left, right = block.sizes
    return (start, start + left), (start + left, start + left + right)
