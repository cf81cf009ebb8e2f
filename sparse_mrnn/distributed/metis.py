"""Partition by METIS of a graph whose vertices are units or pieces of regions."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.declaration.graph import Projection, RegionGraph
from sparse_mrnn.errors import MissingExtraError
from sparse_mrnn.lowering.layout import Layout

Float = NDArray[np.float64]
PIECES = 8
"""Pieces that a rank's work is cut into where rules draw the synapses."""
LARGEST_SUM = 2**30
"""METIS adds weights in 32 bits."""


def ranks_by_metis(graph: RegionGraph, layout: Layout, work: Float, size: int) -> NDArray[np.int32]:
    """Choose the rank of every unit, so that few synapses are remote and work is equal within a few percent.

    Vertices are units, except in regions whose synapses a rule draws: these are cut into equal ranges of
    units, up to `PIECES` for the work of a rank. Edges are the synapses between two vertices, either way:
    explicit ones are counted, those of a rule expected. Nothing is drawn. The seed is fixed.

    Parameters
    ----------
    graph : RegionGraph
    layout : Layout
    work : ndarray, shape (units,)
    size : int
        Ranks, no more than units.

    Raises
    ------
    MissingExtraError
        If pymetis is not installed.
    """
    pymetis = _pymetis()
    if size == 1:
        return np.zeros(layout.n, dtype=np.int32)
    vertex = _vertices(graph, layout, work, size)
    between = _synapses(graph, layout, vertex)
    _, found = pymetis.part_graph(
        size,
        pymetis.CSRAdjacency(between.indptr, between.indices),
        vweights=_whole_numbers(np.bincount(vertex, weights=work)),
        eweights=_whole_numbers(between.data),
        options=pymetis.Options(seed=0, ncuts=4),
    )
    return _without_empty(np.asarray(found, dtype=np.int32)[vertex], size)


def _pymetis() -> ModuleType:
    try:
        import pymetis
    except ImportError:
        hint = "install it with: pip install 'sparse-mrnn[metis]', or use partition='balanced'"
        raise MissingExtraError(f"partition='metis' needs pymetis; {hint}.") from None
    module: ModuleType = pymetis
    return module


def _vertices(graph: RegionGraph, layout: Layout, work: Float, size: int) -> NDArray[np.int32]:
    """Return the vertex of every unit."""
    sizes = np.diff(layout.ptr)
    drawn = np.zeros(len(sizes), dtype=bool)
    for projection in graph.projections("recurrent"):
        if projection.synapses is None:
            drawn[[layout.index[projection.source], layout.index[projection.target]]] = True
    shares = np.add.reduceat(work, layout.ptr[:-1]) * size / work.sum()
    pieces = np.minimum(np.where(drawn, np.ceil(shares * PIECES).astype(np.int64), sizes), sizes)
    first = np.cumsum(pieces) - pieces
    of_region = [start + np.arange(n) * k // n for start, k, n in zip(first, pieces, sizes, strict=True)]
    return np.concatenate(of_region).astype(np.int32)


def _synapses(graph: RegionGraph, layout: Layout, vertex: NDArray[np.int32]) -> sp.csr_array:
    """Count the synapses between each two different vertices, either way."""
    n = int(vertex.max()) + 1
    parts = [_between(p, layout, vertex) for p in graph.projections("recurrent")]
    if not parts:
        return sp.csr_array((n, n))
    rows, cols, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
    apart = rows != cols
    one_way = sp.coo_array((counts[apart], (rows[apart], cols[apart])), shape=(n, n)).tocsr()
    return (one_way + one_way.T).tocsr()


def _between(
    projection: Projection, layout: Layout, vertex: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], Float]:
    """Return target and source vertices of a projection, and the number of synapses between them."""
    targets, sources = (vertex[layout.slice(name)] for name in (projection.target, projection.source))
    weights = projection.weights
    if weights is not None:
        rows = np.repeat(targets, np.diff(weights.indptr))
        return rows, sources[weights.indices], np.ones(len(rows))
    (rows, units_onto), (cols, units_from) = (np.unique(v, return_counts=True) for v in (targets, sources))
    pairs = np.outer(units_onto / len(targets), units_from / len(sources))
    counts = projection.expected_synapses * pairs.ravel()
    return np.repeat(rows, len(cols)), np.tile(cols, len(rows)), counts


def _whole_numbers(values: NDArray[Any]) -> NDArray[np.int32]:
    """Scale values to positive whole numbers in the same proportions."""
    scale = LARGEST_SUM / max(float(values.sum()), 1.0)
    return np.maximum(values * scale, 1).astype(np.int32)


def _without_empty(ranks: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """Give a rank that METIS left empty a unit of the largest one."""
    counts = np.bincount(ranks, minlength=size)
    for rank in np.flatnonzero(counts == 0):
        most = counts.argmax()
        ranks[np.flatnonzero(ranks == most)[-1]] = rank
        counts[rank] += 1
        counts[most] -= 1
    return ranks
