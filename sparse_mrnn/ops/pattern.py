"""The sparsity pattern of a weight matrix (CSR): made from coordinates, cut, transposed, converted.

Here and in `csr_order` every row pointer of the package is counted.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from sparse_mrnn.errors import ShapeError
from sparse_mrnn.ops.csr_order import counting_sort, csr_order, index_type
from sparse_mrnn.ops.torch_modes import ordinary_tensors


class Pattern:
    """A CSR pattern. Invariants: ``crow[0] == 0``, ``crow[-1] == len(col)``, 0 <= col < columns.

    Repeated entries are allowed (parallel projections) and add. The shape is rows (target units) by columns
    (source units); crow has shape (rows + 1,) and col (synapses,), both of int32 or both of int64.

    Examples
    --------
    >>> p = Pattern(torch.tensor([0, 1, 2]), torch.tensor([1, 0]), (2, 2))
    >>> p.matrix(torch.tensor([2.0, 3.0])) @ torch.tensor([[1.0], [1.0]])
    tensor([[2.],
            [3.]])
    """

    def __init__(self, crow: Tensor, col: Tensor, shape: tuple[int, int]) -> None:
        self.crow, self.col, self.shape = crow, col, shape

    @classmethod
    def from_coo(cls, row: Tensor, col: Tensor, shape: tuple[int, int]) -> tuple[Pattern, Tensor | None]:
        """The pattern of some coordinates, by row and then column, and the order of them in it.

        Entry e of the pattern is coordinate ``order[e]``; the order is None where they are sorted already.
        Repeats stay apart, in the order given. O(entries + rows + columns) on the CPU.

        Examples
        --------
        >>> pattern, order = Pattern.from_coo(torch.tensor([1, 0, 0]), torch.tensor([0, 1, 0]), (2, 2))
        >>> pattern.crow.tolist(), pattern.col.tolist(), order.tolist()
        ([0, 2, 3], [0, 1, 0], [2, 1, 0])
        """
        if row.device.type == "cpu":
            ptr, columns, place = csr_order(row.numpy(), col.numpy(), shape)
            order = None if place is None else torch.from_numpy(place)
            return cls(torch.from_numpy(ptr), torch.from_numpy(columns), shape), order
        index = index_dtype(row.numel())
        order = torch.argsort(row.long() * shape[1] + col, stable=True).to(index)
        pattern = cls(row_pointers(row, shape[0]), col[order].to(index), shape)
        return pattern, None if bool((order[1:] > order[:-1]).all()) else order

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
        rows = torch.arange(self.shape[0], dtype=self.col.dtype, device=self.col.device)
        return torch.repeat_interleave(rows, torch.diff(self.crow).long(), output_size=self.nnz)

    def select(self, entries: Tensor) -> Pattern:
        """The pattern of some of the entries, given in ascending order."""
        return Pattern(row_pointers(self.row[entries], self.shape[0]), self.col[entries], self.shape)

    def submatrix(self, rows: Tensor, cols: Tensor) -> tuple[Pattern, Tensor]:
        """Some rows and columns, in the order given, and which of these entries each of theirs is.
        O(synapses)."""
        new_row, new_col = (
            self._numbered(units, size) for units, size in zip((rows, cols), self.shape, strict=True)
        )
        row, col = new_row[self.row.long()], new_col[self.col.long()]
        entries = torch.nonzero((row >= 0) & (col >= 0))[:, 0]
        pattern, order = Pattern.from_coo(row[entries], col[entries], (len(rows), len(cols)))
        return pattern, entries if order is None else entries[order.long()]

    def _numbered(self, units: Tensor, size: int) -> Tensor:
        """Number of each row or column among ``units``; -1 of the others."""
        numbers = torch.full((size,), -1, dtype=torch.int64, device=self.col.device)
        numbers[units.to(numbers.device)] = torch.arange(len(units), device=numbers.device)
        return numbers

    @cached_property
    @ordinary_tensors()
    def unique(self) -> tuple[Pattern, Tensor | None]:
        """The pattern without repeats, and which of its entries each of this pattern's is (None: no repeats).

        For SDDMM, whose torch kernels merge repeated entries. Entries are sorted within rows.
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
    @ordinary_tensors()
    def transposed(self) -> tuple[Pattern, Tensor]:
        """The transposed pattern, and which entry of this pattern each of its entries is."""
        order = stable_order(self.col, self.shape[1])
        crow = row_pointers(self.col, self.shape[1])
        pattern = Pattern(crow, self.row[order], (self.shape[1], self.shape[0]))
        return pattern, order.to(self.col.dtype)


def index_dtype(entries: int) -> torch.dtype:
    """The integer type of a matrix of so many entries: MKL and cuSPARSE are fastest with int32."""
    return torch.int32 if index_type(entries) is np.int32 else torch.int64


def row_pointers(row: Tensor, n_rows: int) -> Tensor:
    """Begin of each row among entries sorted by row, and their number at the end: shape (n_rows + 1,)."""
    crow = torch.zeros(n_rows + 1, dtype=index_dtype(row.numel()), device=row.device)
    torch.cumsum(torch.bincount(row, minlength=n_rows), 0, dtype=crow.dtype, out=crow[1:])
    return crow


def stable_order(keys: Tensor, n: int) -> Tensor:
    """Stable argsort of integers below n; on the CPU by counting, in O(len + n).

    Examples
    --------
    >>> stable_order(torch.tensor([2, 0, 2, 1], dtype=torch.int32), 3).tolist()
    [1, 3, 0, 2]
    """
    if keys.device.type != "cpu":
        return torch.argsort(keys, stable=True)
    return torch.from_numpy(counting_sort(keys.numpy(), n)[1])


_past_warning = False


def csr(crow: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Make a torch CSR matrix without its beta warning, which torch shows once per process."""
    global _past_warning
    if _past_warning:  # changing the filters takes longer than making a matrix
        return torch.sparse_csr_tensor(crow, col, values, size=shape, check_invariants=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        found = torch.sparse_csr_tensor(crow, col, values, size=shape, check_invariants=False)
    _past_warning = True
    return found


def scatter_dense(pattern: Pattern, values: Tensor) -> Tensor:
    """A dense matrix with parallel entries added; differentiable."""
    rows, columns = pattern.shape
    offset = pattern.row.long() * columns + pattern.col
    return values.new_zeros(rows * columns).index_add(0, offset, values).view(rows, columns)


def split_sparse(weight: Tensor) -> tuple[Pattern | None, Tensor]:
    """Pattern and values of a torch matrix (COO or CSR); (None, matrix) for a dense one. Differentiable."""
    shape = (weight.shape[0], weight.shape[1])
    if weight.layout == torch.strided:
        return None, weight
    if weight.layout == torch.sparse_csr:
        return Pattern(weight.crow_indices(), weight.col_indices(), shape), weight.values()
    if weight.layout == torch.sparse_coo:
        weight = weight.coalesce()  # sorted by row and column
        row, col = weight.indices()
        return Pattern.from_coo(row, col, shape)[0], weight.values()
    raise ShapeError(f"a weight matrix of layout {weight.layout} is not supported; use dense, COO or CSR.")


def to_scipy(weight: Any) -> sp.csr_array:
    """A torch (any layout), numpy or scipy matrix as scipy CSR; parallel entries are added."""
    if not isinstance(weight, Tensor):
        return sp.csr_array(weight) if sp.issparse(weight) else sp.csr_array(np.asarray(weight))
    pattern, values = split_sparse(weight.detach().cpu())
    if pattern is None:
        return sp.csr_array(values.numpy())
    arrays = values.numpy(), pattern.col.numpy(), pattern.crow.numpy()
    matrix = sp.csr_array(arrays, shape=pattern.shape, copy=True)
    matrix.sum_duplicates()
    return matrix
