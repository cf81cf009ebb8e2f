"""The sparsity pattern of a weight matrix (CSR) with its transpose, made once when first needed."""

from __future__ import annotations

import warnings
from functools import cached_property

import torch
from torch import Tensor


class Pattern:
    """A CSR pattern. Invariants: ``crow[0] == 0``, ``crow[-1] == len(col)``, 0 <= col < columns.

    Repeated entries are allowed (parallel projections) and add.

    Parameters
    ----------
    crow : Tensor of int32 or int64, shape (rows + 1,)
    col : Tensor of the same dtype, shape (synapses,)
    shape : (int, int)
        Rows (target units) and columns (source units).

    Examples
    --------
    >>> p = Pattern(torch.tensor([0, 1, 2]), torch.tensor([1, 0]), (2, 2))
    >>> p.matrix(torch.tensor([2.0, 3.0])) @ torch.tensor([[1.0], [1.0]])
    tensor([[2.],
            [3.]])
    """

    def __init__(self, crow: Tensor, col: Tensor, shape: tuple[int, int]) -> None:
        self.crow, self.col, self.shape = crow, col, shape

    @property
    def nnz(self) -> int:
        """Stored synapses."""
        return self.col.numel()

    def matrix(self, values: Tensor) -> Tensor:
        """A torch CSR matrix of this pattern, sharing ``values``."""
        return csr(self.crow, self.col, values, self.shape)

    @property
    def row(self) -> Tensor:
        """Row of every synapse, made anew each time: one more integer per synapse is not kept."""
        return torch.repeat_interleave(
            torch.arange(self.shape[0], dtype=self.col.dtype, device=self.col.device), torch.diff(self.crow).long()
        )

    def select(self, entries: Tensor) -> Pattern:
        """The pattern of some of the entries, given in ascending order."""
        count = torch.bincount(self.row[entries].long(), minlength=self.shape[0])
        crow = torch.zeros_like(self.crow)
        torch.cumsum(count, 0, dtype=crow.dtype, out=crow[1:])
        return Pattern(crow, self.col[entries], self.shape)

    @cached_property
    def unique(self) -> tuple[Pattern, Tensor | None]:
        """The pattern without repeats, and where each of this pattern's entries is in it (None: there are none).

        For sampled products, whose torch kernels merge repeated entries. Entries are sorted within rows.
        """
        if self.nnz < 2:
            return self, None
        row = self.row
        same = (self.col[1:] == self.col[:-1]) & (row[1:] == row[:-1])
        if not same.any():
            return self, None
        first = torch.cat([same.new_ones(1), ~same])
        return self.select(torch.nonzero(first)[:, 0]), (torch.cumsum(first, 0) - 1).to(self.col.dtype)

    @cached_property
    def transposed(self) -> tuple[Pattern, Tensor]:
        """The transposed pattern, and where each of its values is among this pattern's."""
        order = torch.argsort(self.col, stable=True)
        count = torch.bincount(self.col.long(), minlength=self.shape[1])
        crow = torch.zeros(self.shape[1] + 1, dtype=self.crow.dtype, device=self.crow.device)
        torch.cumsum(count, 0, dtype=self.crow.dtype, out=crow[1:])
        return Pattern(crow, self.row[order], (self.shape[1], self.shape[0])), order.to(self.col.dtype)


def csr(crow: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Make a torch CSR matrix without its beta warning, which torch shows once per process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(crow, col, values, size=shape, check_invariants=False)
