"""Backend "hybrid": dense blocks by batched GEMM, everything else as one CSR matrix.

A full projection costs 4 bytes a synapse and runs at GEMM speed; in CSR it costs 8 bytes and about a quarter
of that speed. Blocks of one shape are multiplied by one ``bmm`` over gathered source rows; blocks whose shape
is rare are joined side by side, one matrix per target range. The results, one row per block and target, are
summed into the targets by a CSR matrix of ones, which is faster than ``index_add`` (docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.pattern import Pattern, csr
from sparse_mrnn.ops.products.base import Operator, Product
from sparse_mrnn.ops.products.csr import CsrOperator, multiply_add

BLOCK_FILL, BLOCK_ENTRIES, RARE = 0.6, 4096, 4
"""A block is dense from this density and this many entries on; shapes with fewer blocks are joined."""


class Extent(NamedTuple):
    """Range of a projection in the values, and its rows (targets) and columns (sources) in the matrix."""

    start: int
    stop: int
    row: int
    n_rows: int
    col: int
    n_cols: int

    @property
    def entries(self) -> int:
        """Possible synapses."""
        return self.n_rows * self.n_cols

    @property
    def is_dense(self) -> bool:
        """Whether it is worth a dense block."""
        return self.entries >= BLOCK_ENTRIES and self.stop - self.start >= BLOCK_FILL * self.entries


@dataclass(frozen=True)
class _Group:
    """Matrices of one shape (matrices, rows, columns): ranges in the store and in the gathered rows."""

    store: slice
    shape: tuple[int, int, int]
    trained: bool
    rows: slice
    cols: slice


class HybridOperator(Operator):
    """Dense blocks and a CSR rest.

    Parameters
    ----------
    pattern : Pattern
        The whole matrix.
    perm : Tensor or None
        Entry e of the pattern is ``values[perm[e]]``; None: identity.
    extents : sequence of Extent
        The blocks to multiply densely.
    n_values, n_trained : int
        Values in all, and how many of the leading ones need a gradient.

    Attributes
    ----------
    index : Tensor of int, shape (stored,)
        Stored value e is ``values[index[e]]``; a zero, which fills a block, where index[e] is n_values.

    Examples
    --------
    >>> crow, col = torch.arange(0, 65 * 64, 64, dtype=torch.int32), torch.arange(64, dtype=torch.int32)
    >>> p = Pattern(crow, col.repeat(64), (64, 64))
    >>> operator = HybridOperator(p, None, [Extent(0, 4096, 0, 64, 0, 64)], 4096, 4096)
    >>> operator.rest.pattern.nnz, operator.bind(torch.ones(4096)).rmatmul(torch.ones(64, 1))[0].tolist()
    (0, [64.0])
    """

    name = "hybrid"

    def __init__(
        self, pattern: Pattern, perm: Tensor | None, extents: Sequence[Extent], n_values: int, n_trained: int
    ) -> None:
        self.shape = pattern.shape
        device, kind = pattern.col.device, pattern.col.dtype
        order = np.arange(n_values) if perm is None else perm.cpu().numpy()
        in_block = np.zeros(n_values, dtype=bool)
        for e in extents:
            in_block[e.start : e.stop] = True
        kept = np.flatnonzero(~in_block[order])
        trained = None
        if n_trained < n_values:
            trained = torch.from_numpy(np.flatnonzero(order[kept] < n_trained)).to(device)
        self.rest = CsrOperator(pattern.select(torch.from_numpy(kept).to(device)), trained)

        offsets = _offsets(pattern, order, extents)
        self.groups: list[_Group] = []
        index, rows, cols = [order[kept]], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        stored, gathered_rows, gathered_cols = len(kept), 0, 0
        for panels in _group(extents, n_trained):
            first = panels[0][0]
            n, m, k = shape = len(panels), first.n_rows, sum(e.n_cols for e in panels[0])
            for panel in panels:
                filled = [_filled(e, offsets[e], n_values) for e in panel]
                index.append(np.concatenate(filled, axis=1).ravel())
                rows.append(np.arange(panel[0].row, panel[0].row + m))
                cols += [np.arange(e.col, e.col + e.n_cols) for e in panel]
            self.groups.append(
                _Group(
                    store=slice(stored, stored + n * m * k),
                    shape=shape,
                    trained=first.start < n_trained,
                    rows=slice(gathered_rows, gathered_rows + n * m),
                    cols=slice(gathered_cols, gathered_cols + n * k),
                )
            )
            group = self.groups[-1]
            stored, gathered_rows, gathered_cols = group.store.stop, group.rows.stop, group.cols.stop
        joined = (torch.from_numpy(np.concatenate(parts)).to(device, kind) for parts in (index, rows, cols))
        self.index, self.rows, self.cols = joined
        self.padded = len(self.index) > n_values
        self.sum_rows, self.sum_cols = _summing(self.rows, self.shape[0]), _summing(self.cols, self.shape[1])

    def bind(self, stored: Tensor) -> HybridProduct:
        return HybridProduct(self, stored)


def _offsets(
    pattern: Pattern, order: NDArray[np.integer], extents: Sequence[Extent]
) -> dict[Extent, NDArray[np.int64] | None]:
    """Offset of each value of a block in its dense form, row-major; None for a full block."""
    offsets: dict[Extent, NDArray[np.int64] | None] = dict.fromkeys(extents)
    partial = [e for e in extents if e.stop - e.start < e.entries]
    if partial:
        entry_of = np.empty(len(order), dtype=np.int64)
        entry_of[order] = np.arange(len(order))
        row, col = pattern.row.cpu().numpy(), pattern.col.cpu().numpy()
    for e in partial:
        entries = entry_of[e.start : e.stop]
        offsets[e] = (row[entries].astype(np.int64) - e.row) * e.n_cols + col[entries] - e.col
    return offsets


def _filled(e: Extent, offsets: NDArray[np.int64] | None, filler: int) -> NDArray[np.int64]:
    """Which value each entry of a dense block is; ``filler`` where it has no synapse."""
    values = np.arange(e.start, e.stop)
    if offsets is not None:
        values, full = np.full(e.entries, filler), values
        values[offsets] = full
    return values.reshape(e.n_rows, e.n_cols)


def _group(extents: Sequence[Extent], n_trained: int) -> list[list[list[Extent]]]:
    """Groups of panels of one shape; a panel is blocks side by side. Trained and fixed blocks do not mix."""
    groups: list[list[list[Extent]]] = []
    for trained in (True, False):
        by_shape: dict[tuple[int, int], list[Extent]] = {}
        for e in extents:
            if (e.start < n_trained) == trained:
                by_shape.setdefault((e.n_rows, e.n_cols), []).append(e)
        rare: dict[tuple[int, int], list[Extent]] = {}
        for same in by_shape.values():
            if len(same) >= RARE:
                groups.append([[e] for e in same])
            else:
                for e in same:
                    rare.setdefault((e.row, e.n_rows), []).append(e)
        groups += [[panel] for panel in rare.values()]
    return groups


def _summing(index: Tensor, n: int) -> Tensor:
    """A CSR matrix of ones, shape (n, len(index)), that adds row k to row index[k]."""
    number = torch.arange(len(index), dtype=index.dtype, device=index.device)
    pattern, _ = Pattern.from_coo(index, number, (n, len(index)))
    return pattern.matrix(torch.ones(len(index), device=index.device))


class HybridProduct(Product):
    """Dense blocks and a CSR rest, with values."""

    def __init__(self, operator: HybridOperator, values: Tensor) -> None:
        self.operator, self.values = operator, values.detach()
        nnz = operator.rest.pattern.nnz
        self.rest = operator.rest.bind(self.values[:nnz])
        self.blocks = [self.values[g.store].view(g.shape) for g in operator.groups]
        self.kernel = kernels.load("products") if values.device.type == "cpu" else None
        ones = operator.sum_rows.values().to(values.dtype)
        self.sum_rows = _revalued(operator.sum_rows, ones)
        self.sum_cols = _revalued(operator.sum_cols, ones.new_ones(len(operator.cols)))
        self._buffers: dict[tuple[str, int], Tensor] = {}
        self._grad: Tensor | None = None

    def addmm(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        self.rest.addmm(y, h, beta=beta, alpha=alpha, out=out)
        if not self.blocks:
            return
        op = self.operator
        sources, result = self._buffer("cols", h), self._buffer("rows", h)
        _take(h, op.cols, sources)
        for group, block in zip(op.groups, self.blocks, strict=True):
            n, m, k = group.shape
            if self.kernel is not None and h.shape[1] == 1:  # bmm takes twice as long for one column
                self.kernel.multiply(block, sources[group.cols].view(n, k), result[group.rows].view(n, m))
            else:
                torch.bmm(block, sources[group.cols].view(n, k, -1), out=result[group.rows].view(n, m, -1))
        multiply_add(self.sum_rows, out, result, beta=1.0, alpha=alpha, out=out)

    def rmatmul(self, g: Tensor, out: Tensor | None = None) -> Tensor:
        out = self.rest.rmatmul(g, out)
        if not self.blocks:
            return out
        op = self.operator
        targets, result = self._buffer("rows", g), self._buffer("cols", g)
        _take(g, op.rows, targets)
        for group, block in zip(op.groups, self.blocks, strict=True):
            n, m, k = group.shape
            if self.kernel is not None and g.shape[1] == 1:
                g_block, h_block = targets[group.rows].view(n, m), result[group.cols].view(n, k)
                self.kernel.multiply_transposed(block, g_block, h_block)
            else:
                out_block = result[group.cols].view(n, k, -1)
                torch.bmm(block.transpose(1, 2), targets[group.rows].view(n, m, -1), out=out_block)
        multiply_add(self.sum_cols, out, result, beta=1.0, alpha=1.0, out=out)
        return out

    def sddmm(self, g: Tensor, h: Tensor) -> None:
        self.rest.sddmm(g, h)
        op = self.operator
        if self._grad is None:
            self._grad = torch.zeros_like(self.values)
        if not self.blocks:
            return
        targets, sources = self._buffer("rows", g), self._buffer("cols", h)
        _take(g, op.rows, targets)
        _take(h, op.cols, sources)
        for group in op.groups:
            if group.trained:
                n, m, k = group.shape
                grad = self._grad[group.store].view(group.shape)
                g_block, h_block = targets[group.rows].view(n, m, -1), sources[group.cols].view(n, k, -1)
                torch.baddbmm(grad, g_block, h_block.transpose(1, 2), out=grad)

    def grad(self) -> Tensor:
        grad = torch.zeros_like(self.values) if self._grad is None else self._grad
        grad[: self.rest.pattern.nnz] = self.rest.grad()
        return grad

    def _buffer(self, side: str, like: Tensor) -> Tensor:
        key = side, like.shape[1]
        if key not in self._buffers:
            rows = len(self.operator.rows if side == "rows" else self.operator.cols)
            self._buffers[key] = like.new_empty(rows, like.shape[1])
        return self._buffers[key]


def _take(h: Tensor, rows: Tensor, out: Tensor) -> None:
    """out = h[rows], by the faster way for one column."""
    if h.shape[1] == 1:
        torch.index_select(h[:, 0], 0, rows, out=out[:, 0])
    else:
        torch.index_select(h, 0, rows, out=out)


def _revalued(matrix: Tensor, values: Tensor) -> Tensor:
    return csr(matrix.crow_indices(), matrix.col_indices(), values, (matrix.shape[0], matrix.shape[1]))
