"""Backend "hybrid": dense blocks by batched GEMM, everything else as one CSR matrix.

A full projection costs 4 bytes a synapse and runs at GEMM speed; in CSR it costs 8 bytes and about a quarter
of that speed. Blocks of one shape are multiplied by one ``bmm`` over gathered source rows; blocks whose shape
is rare are joined side by side, one matrix per target range. The results, one row per block and target, are
summed into the targets by a CSR matrix of ones, which is faster than ``index_add`` (docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.products.base import Operator, Product
from sparse_mrnn.ops.products.csr import CsrOperator, csr_factor

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


def are_dense(extents: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which projections are worth a dense block, from their `Extent` as rows."""
    start, stop, _, n_rows, _, n_cols = extents.T
    entries = n_rows * n_cols
    found: NDArray[np.bool_] = (entries >= BLOCK_ENTRIES) & (stop - start >= BLOCK_FILL * entries)
    return found


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

    Entry e of the pattern, that of the whole matrix, is ``values[perm[e]]``, or ``values[e]`` without perm.
    The extents are multiplied densely. Of ``n_values``, the first ``n_trained`` need a gradient. Stored value
    e is ``values[index[e]]``, or a zero, which fills a block, where index[e] is n_values.

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
            group = _Group(
                store=slice(stored, stored + n * m * k),
                shape=shape,
                trained=first.start < n_trained,
                rows=slice(gathered_rows, gathered_rows + n * m),
                cols=slice(gathered_cols, gathered_cols + n * k),
            )
            self.groups.append(group)
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
    """Number the value of each entry of a dense block; ``filler`` where it has no synapse."""
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


def _summing(index: Tensor, n: int) -> Pattern:
    """The pattern of a matrix of ones, shape (n, len(index)), that adds row k to row index[k]."""
    number = torch.arange(len(index), dtype=index.dtype, device=index.device)
    return Pattern.from_coo(index, number, (n, len(index)))[0]


class HybridProduct(Product):
    """Dense blocks and a CSR rest, with values."""

    def __init__(self, operator: HybridOperator, values: Tensor) -> None:
        self.operator, self.values = operator, values.detach()
        nnz = operator.rest.pattern.nnz
        self.rest = operator.rest.bind(self.values[:nnz])
        self.blocks = [self.values[g.store].view(g.shape) for g in operator.groups]
        self.kernel = kernels.load("products") if values.device.type == "cpu" else None
        self.sum_rows, self.sum_cols = (
            csr_factor(pattern, self.values.new_ones(pattern.nnz))
            for pattern in (operator.sum_rows, operator.sum_cols)
        )
        self._buffers: dict[tuple[str, int], Tensor] = {}

    def addmm(self, y: Tensor, h: Tensor, *, beta: float, alpha: float, out: Tensor) -> None:
        self.rest.addmm(y, h, beta=beta, alpha=alpha, out=out)
        self._add_blocks(h, out, alpha, transposed=False)

    def rmatmul(self, g: Tensor, out: Tensor | None = None) -> Tensor:
        out = self.rest.rmatmul(g, out)
        self._add_blocks(g, out, 1.0, transposed=True)
        return out

    def _add_blocks(self, given: Tensor, out: Tensor, alpha: float, *, transposed: bool) -> None:
        """out += alpha times the product of the blocks, or of their transposes, with what is given."""
        if not self.blocks:
            return
        width = given.shape[1]
        sources = self._taken("rows" if transposed else "cols", given)
        result = self._buffer("cols" if transposed else "rows", given)
        for group, block in zip(self.operator.groups, self.blocks, strict=True):
            read, write = (group.rows, group.cols) if transposed else (group.cols, group.rows)
            x, y = sources[read].view(len(block), -1, width), result[write].view(len(block), -1, width)
            if self.kernel is not None and width == 1:  # bmm takes twice as long for one column
                multiply = self.kernel.multiply_transposed if transposed else self.kernel.multiply
                multiply(block, x[..., 0], y[..., 0])
            else:
                torch.bmm(block.transpose(1, 2) if transposed else block, x, out=y)
        sums = self.sum_cols if transposed else self.sum_rows
        sums.multiply_add(out, result, beta=1.0, alpha=alpha, out=out)

    def sddmm(self, g: Tensor, h: Tensor) -> None:
        self.rest.sddmm(g, h)
        if not self.blocks:
            return
        targets, sources = self._taken("rows", g), self._taken("cols", h)
        for group in self.operator.groups:
            if group.trained:
                n, m, k = group.shape
                grad = self._grad[group.store].view(group.shape)
                g_block, h_block = targets[group.rows].view(n, m, -1), sources[group.cols].view(n, k, -1)
                torch.baddbmm(grad, g_block, h_block.transpose(1, 2), out=grad)

    @cached_property
    def _grad(self) -> Tensor:
        return torch.zeros_like(self.values)

    def grad(self) -> Tensor:
        self._grad[: self.rest.pattern.nnz] = self.rest.grad()
        return self._grad

    def _buffer(self, side: str, like: Tensor) -> Tensor:
        key = side, like.shape[1]
        if key not in self._buffers:
            rows = len(getattr(self.operator, side))
            self._buffers[key] = like.new_empty(rows, like.shape[1])
        return self._buffers[key]

    def _taken(self, side: str, given: Tensor) -> Tensor:
        """The rows that the blocks read on one side, in a buffer; by the faster way for one column."""
        index, out = getattr(self.operator, side), self._buffer(side, given)
        if given.shape[1] == 1:
            torch.index_select(given[:, 0], 0, index, out=out[:, 0])
        else:
            torch.index_select(given, 0, index, out=out)
        return out
