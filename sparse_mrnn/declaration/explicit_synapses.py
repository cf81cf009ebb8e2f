"""Explicit synapses: arrays, scipy arrays and networkx graphs made CSR, or a file read by rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import networkx as nx
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.errors import WeightError, suggest

Ids = Sequence[str] | None
Coordinates = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class SynapseArrays:
    """Synapses of many projections, one after the other, row-major inside each, numbered within regions."""

    rows: NDArray[np.int32]
    cols: NDArray[np.int32]
    values: NDArray[np.floating[Any]]


class Block(Protocol):
    """One projection's synapses, row-major, outside of a matrix of their own; shape is (targets, sources)."""

    __slots__ = ()
    shape: tuple[int, int]

    @property
    def nnz(self) -> int:
        """Number of synapses."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the weights."""

    def entries_onto(self, start: int, stop: int) -> slice:
        """Find the synapses onto target units ``start:stop``."""

    def coordinates(self, entries: slice) -> Coordinates:
        """Rows, columns and values of some synapses."""

    def tocoo(self) -> sp.coo_array:
        """All synapses as a COO array, which shares the memory if they have some."""
        rows, cols, values = self.coordinates(slice(0, self.nnz))
        return sp.coo_array((values, (rows, cols)), shape=self.shape)

    def tocsr(self) -> sp.csr_array:
        """All synapses as a CSR array."""
        return self.tocoo().tocsr()


@dataclass(frozen=True, eq=False, slots=True)
class SynapseBlock(Block):
    """One projection's synapses: a range of a `SynapseArrays`, 100,000 of which are cheap to make."""

    arrays: SynapseArrays
    start: int
    stop: int
    shape: tuple[int, int]

    @property
    def nnz(self) -> int:
        return self.stop - self.start

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.arrays.values.dtype

    def entries_onto(self, start: int, stop: int) -> slice:
        rows = self.arrays.rows[self.start : self.stop]
        first, last = np.searchsorted(rows, [start, stop]).tolist()
        return slice(first, last)

    def coordinates(self, entries: slice) -> Coordinates:
        here = slice(self.start + entries.start, self.start + entries.stop)
        return self.arrays.rows[here], self.arrays.cols[here], self.arrays.values[here]


class StoredSynapses(Protocol):
    """Synapses of many projections in a file, which reads the rows of some target units at a time.

    ``counts``, of shape (projections,), are the synapses of each; ``fan_in``, of shape (units,), those onto
    each unit of the network, of all projections; ``digest`` is that of all that is read.
    """

    counts: NDArray[np.int64]
    fan_in: NDArray[np.int64]
    dtype: np.dtype[Any]
    digest: str

    def entries_onto(self, projection: int, start: int, stop: int) -> slice:
        """Find a projection's synapses onto units ``start:stop`` of its target region, row-major."""

    def coordinates(self, projection: int, entries: slice) -> Coordinates:
        """Rows and columns, numbered within their regions, and values of some synapses of a projection."""


@dataclass(frozen=True, eq=False, slots=True)
class StoredBlock(Block):
    """One projection's synapses, in a file until they are needed."""

    stored: StoredSynapses
    projection: int
    shape: tuple[int, int]

    @property
    def nnz(self) -> int:
        return int(self.stored.counts[self.projection])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.stored.dtype

    def entries_onto(self, start: int, stop: int) -> slice:
        return self.stored.entries_onto(self.projection, start, stop)

    def coordinates(self, entries: slice) -> Coordinates:
        return self.stored.coordinates(self.projection, entries)


ExplicitSynapses: TypeAlias = sp.csr_array | SynapseBlock | StoredBlock
"""Explicit synapses of a projection, shape (target units, source units)."""


def entries_onto(weights: ExplicitSynapses, start: int, stop: int) -> slice:
    """Find the synapses of explicit weights onto target units ``start:stop``, row-major."""
    if start == 0 and stop == weights.shape[0]:
        return slice(0, weights.nnz)
    if isinstance(weights, SynapseBlock | StoredBlock):
        return weights.entries_onto(start, stop)
    return slice(int(weights.indptr[start]), int(weights.indptr[stop]))


def coordinates(weights: ExplicitSynapses, entries: slice) -> Coordinates:
    """Rows, columns and values of some synapses of explicit weights, row-major.

    Examples
    --------
    >>> weights = sp.csr_array(np.array([[0, 2.0], [3.0, 4.0]]))
    >>> [part.tolist() for part in coordinates(weights, entries_onto(weights, 1, 2))]
    [[1, 1], [0, 1], [3.0, 4.0]]
    """
    if isinstance(weights, SynapseBlock | StoredBlock):
        return weights.coordinates(entries)
    lengths = np.diff(np.clip(weights.indptr, entries.start, entries.stop))
    rows = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return rows, weights.indices[entries], weights.data[entries]


class Blocks(NamedTuple):
    """Blocks of a matrix with synapses: regions by number, and the ranges of the synapses of each."""

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    arrays: SynapseArrays
    start: NDArray[np.int64]
    stop: NDArray[np.int64]


def blocks_by_region(matrix: sp.csr_array, ptr: NDArray[np.int64]) -> Blocks:
    """Divide a matrix over all units into the blocks of pairs of regions, by source, then target.

    The matrix has no repeats, and columns sorted within rows; ``ptr`` is the first unit of each region, and
    the number of units.

    Examples
    --------
    >>> w = sp.csr_array(np.array([[0, 2.0], [3.0, 4.0]]))
    >>> source, target, arrays, start, stop = blocks_by_region(w, np.array([0, 1, 2]))
    >>> source.tolist(), target.tolist(), arrays.values.tolist()
    ([0, 1, 1], [1, 0, 1], [3.0, 2.0, 4.0])
    """
    sizes, n = np.diff(ptr), len(ptr) - 1
    region = np.repeat(np.arange(n, dtype=np.int32), sizes)
    local = (np.arange(ptr[-1]) - np.repeat(ptr[:-1], sizes)).astype(np.int32)
    row = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
    small = np.int16 if n * n < 2**15 else np.int32 if n * n < 2**31 else np.int64  # of hundreds of millions
    pair = region[matrix.indices].astype(small)
    pair *= n
    pair += region[row].astype(small)
    order = np.argsort(pair, kind="stable")  # rows stay in order inside a block
    pair = pair[order]
    start = np.flatnonzero(np.diff(pair, prepend=-1))
    arrays = SynapseArrays(local[row][order], local[matrix.indices][order], matrix.data[order])
    source, target = np.divmod(pair[start], max(n, 1))
    return Blocks(source, target, arrays, start, np.append(start, len(pair))[1:])


def explicit_weights(
    label: str, weights: Any, *, shape: tuple[int, int], signs: NDArray[np.int8], ids: tuple[Ids, Ids]
) -> sp.csr_array:
    """Check the weights of a projection and make them CSR, without repeats.

    ``label`` is the projection, as errors name it; ``signs``, of shape (source units,), says what weights the
    sources may have: +1, -1, or 0 for either; ``ids`` are those of target and source, which a networkx graph
    needs.

    Raises
    ------
    WeightError
        If the shape is wrong, a weight is not finite, or it conflicts with the sign of its source.

    Examples
    --------
    >>> explicit_weights("a -> b", [[0, 2.0]], shape=(1, 2), signs=np.ones(2, np.int8), ids=(None, None)).nnz
    1
    """
    if isinstance(weights, nx.Graph):
        weights = _from_networkx(label, weights, shape, ids)
    elif not sp.issparse(weights):
        weights = np.asarray(weights)
        if weights.ndim != 2:
            raise WeightError(f"{label}: weights need 2 dimensions (target, source), not {weights.ndim}.")
    if weights.shape != shape:
        hint = " It looks transposed: rows are targets." if weights.shape == shape[::-1] else ""
        expected = f"expected (target, source) = {shape}"
        raise WeightError(f"{label}: weights have shape {weights.shape}, {expected}.{hint}")
    matrix = sp.csr_array(weights, copy=True)
    if not np.issubdtype(matrix.dtype, np.floating):
        matrix = matrix.astype(np.float32)
    matrix.sum_duplicates()
    coo = matrix.tocoo()
    bad = np.flatnonzero(~np.isfinite(coo.data))
    if len(bad):
        i, j = coo.row[bad[0]], coo.col[bad[0]]
        raise WeightError(f"{label}: {len(bad)} weights are not finite, first from unit {j} to unit {i}.")
    bad = np.flatnonzero(coo.data * signs[coo.col] < 0)
    if len(bad):
        i, j, value = coo.row[bad[0]], coo.col[bad[0]], coo.data[bad[0]]
        side = "excitatory" if value < 0 else "inhibitory"
        first = f"first {value:g} from {side} unit {j} to unit {i}"
        advice = "Change the weight or the region's sign, or give the projection its own sign"
        conflict = f"{len(bad)} weights conflict with the source's sign"
        raise WeightError(f"{label}: {conflict}, {first}. {advice}.")
    return matrix


def _from_networkx(label: str, graph: nx.Graph, shape: tuple[int, int], ids: tuple[Ids, Ids]) -> sp.coo_array:
    """Take edges u -> v of unit ids (text or integers), with their ``weight``, or 1 if it is missing."""
    index: list[dict[str, int]] = []
    for side, names in zip(("target", "source"), ids, strict=True):
        if names is None:
            raise WeightError(f"{label}: weights from a networkx graph need unit_ids on the {side} region.")
        index.append({unit: k for k, unit in enumerate(names)})
    edges = list(graph.edges(data="weight", default=1.0))
    if not graph.is_directed():
        edges += [(v, u, w) for u, v, w in edges if u != v]
    for u, v, _ in edges:
        for unit, known, side in ((u, index[1], "source"), (v, index[0], "target")):
            if str(unit) not in known:
                hint = suggest(str(unit), known, what="units")
                what = f"edge {u!r} -> {v!r}: {unit!r} is not a unit of the {side}"
                raise WeightError(f"{label}: {what}. {hint}")
    rows = np.array([index[0][str(v)] for _, v, _ in edges], dtype=np.int64)
    cols = np.array([index[1][str(u)] for u, _, _ in edges], dtype=np.int64)
    values = np.array([w for _, _, w in edges], dtype=np.float64)
    return sp.coo_array((values, (rows, cols)), shape=shape)
