"""Division of units among ranks: whole regions, balanced ranges, METIS's parts, or the user's choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from sparse_mrnn.checks import option
from sparse_mrnn.declaration.explicit_synapses import StoredBlock, StoredSynapses
from sparse_mrnn.declaration.graph import Projection, RegionGraph
from sparse_mrnn.errors import DistributedError, MissingExtraError
from sparse_mrnn.lowering.layout import Layout

Float = NDArray[np.float64]
METHODS = ("balanced", "metis", "regions")
PIECES = 8
"""Pieces that a rank's work is cut into for METIS if rules draw the synapses."""
LARGEST_SUM = 2**30
"""METIS adds weights in 32 bits."""
UNIT_LOAD = 10.0
"""Work of a unit in a step, in synapses: state, noise and activation beside the synapses onto it."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Rank of every unit.

    Parameters
    ----------
    ranks : ndarray of int32, shape (units,)
    size : int
        Number of ranks; each has at least one unit.

    Examples
    --------
    >>> g = RegionGraph()
    >>> for name in "abc": g.add_region(name, 2)
    >>> g.add_projection("a", "c"); g.add_projection("c", "a")
    >>> partition(g, 2, "regions").ranks.tolist()
    [0, 0, 0, 0, 1, 1]
    """

    ranks: NDArray[np.int32]
    size: int

    def units(self, rank: int) -> NDArray[np.int64]:
        """Return the units of a rank, ascending."""
        return np.flatnonzero(self.ranks == rank)


def partition(graph: RegionGraph, size: int, how: str | ArrayLike = "balanced") -> Partition:
    """Divide the units of a graph among ranks.

    Parameters
    ----------
    graph : RegionGraph
    size : int
        Ranks.
    how : "balanced", "metis", "regions", or array of int, shape (units,)
        "regions": whole regions, the one with most work first, each to the rank with least. "balanced": rank
        by rank, the region with most synapses to and from the units that the rank has already (at first: with
        most work), until it has its share of the work; the last one is cut between two units, and the next
        rank begins with the rest. It keeps together what is connected, and the work is equal; cost is
        O(regions^2). "metis": METIS (Karypis and Kumar 1998, doi 10.1137/S1064827595287997) through pymetis;
        fewer synapses are cut, and the work is equal within a few percent. Its vertices are units where all
        synapses are explicit, elsewhere up to eight pieces for the work of a rank, between which synapses
        are expected; cost is O((8 ranks)^2 + explicit synapses). An array: the rank of every unit.

    Raises
    ------
    DistributedError
        If an array has the wrong length or ranks that do not exist, a rank is left without units, or there
        are fewer regions than ranks.
    MissingExtraError
        If METIS is asked for and pymetis is not installed.
    """
    layout = Layout.of(graph)
    if isinstance(how, str):
        how = option(how, METHODS, "partition", DistributedError)
        if layout.n < size:
            raise DistributedError(f"{size} ranks for {layout.n} units; use at most {layout.n}.")
        if how == "metis":
            return Partition(_by_metis(graph, layout, unit_work(graph, layout), size), size)
        ranks = _by_regions(graph, layout, size) if how == "regions" else _balanced(graph, layout, size)
        return Partition(ranks, size)
    given = np.asarray(how)
    if given.shape != (layout.n,):
        expected = f"a rank for each of {layout.n} units"
        raise DistributedError(f"partition has shape {given.shape}; give {expected}, shape ({layout.n},).")
    if given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= size:
        raise DistributedError(f"partition: ranks must be whole numbers within 0..{size - 1}.")
    empty = np.setdiff1d(np.arange(size), given)
    if len(empty):
        raise DistributedError(f"partition: rank {empty[0]} of {size} has no unit; use fewer ranks.")
    return Partition(given.astype(np.int32), size)


def unit_work(graph: RegionGraph, layout: Layout) -> NDArray[np.float64]:
    """Estimate the work of each unit in a step, in synapses, shape (units,)."""
    work = np.full(layout.n, UNIT_LOAD)
    by_unit = _stored_fan_in(graph, layout)
    for projection in graph.projections():
        target, synapses = layout.slice(projection.target), projection.synapses
        if isinstance(synapses, StoredBlock):
            if synapses.stored not in by_unit:
                work[target] += synapses.nnz / (target.stop - target.start)
        elif synapses is not None:
            work[target] += np.diff(synapses.tocsr().indptr)
        else:
            work[target] += projection.expected_synapses / (target.stop - target.start)
    for stored in by_unit:
        work += stored.fan_in
    return work


def _stored_fan_in(graph: RegionGraph, layout: Layout) -> list[StoredSynapses]:
    """Return the synapses in files that know each unit's fan-in, if the graph has all their projections."""
    found: dict[int, list[StoredSynapses]] = {}
    for projection in graph.projections():
        if isinstance(projection.synapses, StoredBlock):
            stored = projection.synapses.stored
            found.setdefault(id(stored), []).append(stored)
    whole = (same for same in found.values() if len(same) == len(same[0].counts))
    return [same[0] for same in whole if len(same[0].fan_in) == layout.n]


def _by_regions(graph: RegionGraph, layout: Layout, size: int) -> NDArray[np.int32]:
    n = len(layout.regions)
    if n < size:
        raise DistributedError(f"{n} regions for {size} ranks; use partition='balanced', which cuts them.")
    work = np.add.reduceat(unit_work(graph, layout), layout.ptr[:-1])
    total, ranks = np.zeros(size), np.zeros(n, dtype=np.int32)
    for region in np.argsort(-work, kind="stable"):
        ranks[region] = np.argmin(total)
        total[ranks[region]] += work[region]
    return np.repeat(ranks, np.diff(layout.ptr))


def _balanced(graph: RegionGraph, layout: Layout, size: int) -> NDArray[np.int32]:
    work = unit_work(graph, layout)
    by_region = np.add.reduceat(work, layout.ptr[:-1])
    between = _between_regions(graph, layout)
    order: list[int] = []  # regions as the ranks take them
    free = np.ones(len(by_region), dtype=bool)
    near = np.zeros(len(by_region))  # synapses to and from the units of the rank being filled
    filled, share = 0.0, work.sum() / size
    while free.any():
        connected = bool((near[free] > 0).any())
        wanted = np.where(free, near if connected else by_region, -1.0)
        region = int(np.argmax(wanted))
        free[region] = False
        order.append(region)
        filled += by_region[region]
        if filled >= share:  # the rest of this region is what the next rank begins with
            filled, near = filled % share, np.zeros_like(near)
        row = slice(between.indptr[region], between.indptr[region + 1])
        near[between.indices[row]] += between.data[row]
    ptr = layout.ptr
    units = np.concatenate([np.arange(ptr[region], ptr[region + 1]) for region in order])
    before = np.cumsum(work[units]) - work[units] / 2
    ranks = np.empty(layout.n, dtype=np.int32)
    cut = np.minimum((before / share).astype(np.int32), size - 1)
    ranks[units] = _without_gaps(cut, size)
    return ranks


def _without_gaps(ranks: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """Return ascending ranks with every rank present; if units are few, some are moved by one."""
    n = len(ranks)
    least = np.searchsorted(ranks, np.arange(size))  # first unit of each rank
    for rank in range(1, size):
        least[rank] = max(least[rank], least[rank - 1] + 1)
    for rank in reversed(range(size)):
        least[rank] = min(least[rank], n - (size - rank))
    return (np.searchsorted(least, np.arange(n), side="right") - 1).astype(np.int32)


def _between_regions(graph: RegionGraph, layout: Layout) -> sp.csr_array:
    """Estimate the synapses between each two regions, either way, shape (regions, regions)."""
    found = [
        (layout.index[p.target], layout.index[p.source], p.expected_synapses)
        for p in graph.projections("recurrent")
    ]
    rows, cols, counts = (np.array(part) for part in zip(*found, strict=True)) if found else ([], [], [])
    return _either_way(rows, cols, counts, len(layout.regions))


def _either_way(rows: Any, cols: Any, counts: Any, n: int) -> sp.csr_array:
    """Add the synapses between each two of ``n`` regions or vertices, from either to the other."""
    one_way = sp.coo_array((counts, (rows, cols)), shape=(n, n)).tocsr()
    return (one_way + one_way.T).tocsr()


def _by_metis(graph: RegionGraph, layout: Layout, work: Float, size: int) -> NDArray[np.int32]:
    """Choose the rank of every unit, so that few synapses are remote and work is equal within a few percent.

    Vertices are units, except in regions whose synapses a rule draws: these are cut into equal ranges of
    units, up to `PIECES` for the work of a rank. Edges are the synapses between two vertices, either way:
    explicit ones are counted, those of a rule expected. Nothing is drawn. The seed is fixed.
    """
    try:
        import pymetis
    except ImportError:
        hint = "install it with: pip install 'sparse-mrnn[metis]', or use partition='balanced'"
        raise MissingExtraError(f"partition='metis' needs pymetis; {hint}.") from None
    if size == 1:
        return np.zeros(layout.n, dtype=np.int32)
    vertex = _vertices(graph, layout, work, size)
    between = _between_vertices(graph, layout, vertex)
    of_vertices, of_edges = _whole_numbers(np.bincount(vertex, weights=work)), _whole_numbers(between.data)
    edges, options = pymetis.CSRAdjacency(between.indptr, between.indices), pymetis.Options(seed=0, ncuts=4)
    _, found = pymetis.part_graph(size, edges, vweights=of_vertices, eweights=of_edges, options=options)
    return _without_empty(np.asarray(found, dtype=np.int32)[vertex], size)


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


def _between_vertices(graph: RegionGraph, layout: Layout, vertex: NDArray[np.int32]) -> sp.csr_array:
    """Count the synapses between each two different vertices, either way."""
    n = int(vertex.max()) + 1
    parts = [_between(p, layout, vertex) for p in graph.projections("recurrent")]
    if not parts:
        return sp.csr_array((n, n))
    rows, cols, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
    apart = rows != cols
    return _either_way(rows[apart], cols[apart], counts[apart], n)


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
