"""Lowering: a RegionGraph becomes unit ranges, blocks and one fused CSR pattern with a flat values vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.connectivity import ConnectionRule, sample_many
from sparse_mrnn.errors import GraphError, UnknownNameError, suggest
from sparse_mrnn.explicit import coordinates
from sparse_mrnn.graph import SIGNS, Projection, Region, RegionGraph
from sparse_mrnn.initializers import Default, Initializer, Synapses

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layout:
    """Which units belong to which region: region after region, in insertion order.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 2, parent_region="all"); g.add_region("b", 3, parent_region="all")
    >>> layout = Layout.of(g)
    >>> layout.slice("b"), layout.indices("all").tolist()
    (slice(2, 5, None), [0, 1, 2, 3, 4])
    """

    regions: tuple[Region, ...]
    groups: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, graph: RegionGraph, kind: str = "recurrent") -> Layout:
        """The layout of a graph's "recurrent" or "input" regions."""
        regions = tuple(graph.regions(kind))
        names = [r.name for r in regions]
        known = set(names)
        children = {name: (name,) for name in names}
        groups = {
            parent: tuple(m for m in graph.members(parent) if m in known) for parent in graph.parents
        } if kind == "recurrent" else {}
        return cls(regions, {**children, **groups})

    @cached_property
    def ptr(self) -> Int64:
        """First unit of each region, and the total at the end."""
        return np.concatenate([[0], np.cumsum([r.n for r in self.regions], dtype=np.int64)]).astype(np.int64)

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each region."""
        return {region.name: k for k, region in enumerate(self.regions)}

    @property
    def n(self) -> int:
        """Units in all."""
        return int(self.ptr[-1])

    def members(self, name: str) -> tuple[str, ...]:
        """Regions behind a region or parent name, in unit order."""
        if name not in self.groups:
            raise UnknownNameError(f"unknown region {name!r}. {suggest(name, self.groups, what='regions')}")
        return self.groups[name]

    def slice(self, name: str) -> slice:
        """Unit range of a region, or of a parent whose regions are neighbours."""
        places = [self.index[member] for member in self.members(name)]
        if places != list(range(places[0], places[-1] + 1)):
            raise GraphError(
                f"parent {name!r} groups regions that are not neighbours ({', '.join(self.members(name))}), "
                "so it has no single unit range; use unit_indices or get_region_activity."
            )
        return slice(int(self.ptr[places[0]]), int(self.ptr[places[-1] + 1]))

    def indices(self, *names: str) -> Int64:
        """Units of regions or parents: names in the order given, each in unit order, without repeats."""
        members = dict.fromkeys(member for name in names for member in self.members(name))
        parts = [np.arange(self.ptr[k], self.ptr[k + 1]) for k in map(self.index.__getitem__, members)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class BlockSparse:
    """A weight matrix of projections: facts and initial values, in numpy.

    ``values`` holds projection after projection (trainable ones first), row-major inside each; block k is
    ``values[ptr[k]:ptr[k + 1]]``. The fused matrix is CSR: entry e of row i is ``values[perm[e]]`` in column
    ``col[e]``. Parallel projections keep separate entries in the same place.

    Parameters
    ----------
    shape : tuple of int
        (target units, source units).
    blocks : tuple of Projection
        One per block, in the order of ``values``.
    ptr : ndarray of int64, shape (blocks + 1,)
    n_trainable : int
        How many leading values belong to trainable projections.
    extent : ndarray of int64, shape (blocks, 4)
        First row and number of rows (targets), first column and number of columns (sources) of each block.
    values : ndarray of float, shape (synapses,)
    crow, col : ndarray of int32 (int64 from 2^31 synapses), shapes (targets + 1,), (synapses,)
    perm : ndarray or None
        None where it is the identity.
    sign : ndarray of int8, shape (sources,)
    synapse_sign : ndarray of int8, shape (synapses,), or None
        In CSR order; only where a projection overrides the sign of its source.
    """

    shape: tuple[int, int]
    blocks: tuple[Projection, ...]
    ptr: Int64
    n_trainable: int
    extent: Int64
    values: NDArray[np.floating]
    crow: NDArray[np.integer]
    col: NDArray[np.integer]
    perm: NDArray[np.integer] | None
    sign: NDArray[np.int8]
    synapse_sign: NDArray[np.int8] | None


def lower(
    graph: RegionGraph,
    kind: str = "recurrent",
    rng: np.random.Generator | int | None = None,
    *,
    constrained: bool = True,
    dtype: type[np.floating] = np.float32,
) -> BlockSparse:
    """Lower the projections of ``graph`` whose sources are "recurrent" or "input" regions.

    O(synapses) time and memory.

    Parameters
    ----------
    graph : RegionGraph
    kind : {"recurrent", "input"}
    rng : numpy Generator, int or None
        Source of randomness, or its seed.
    constrained : bool
        Whether Dale's law applies; it decides the default initial values.
    dtype : numpy floating type
        Of the values. Random values are drawn in float32 either way, so both precisions give the same net.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 4); g.add_projection("a", "a", fan_in=2)
    >>> block_sparse = lower(g, rng=0)
    >>> block_sparse.crow.tolist()
    [0, 2, 4, 6, 8]
    """
    rng = np.random.default_rng(rng)
    targets, sources = Layout.of(graph), Layout.of(graph, kind)
    blocks = sorted(graph.projections(kind), key=lambda p: not p.trainable)  # stable: trainable first
    sampled = [k for k, block in enumerate(blocks) if block.synapses is None]
    rules: list[ConnectionRule] = [blocks[k].rule for k in sampled]  # type: ignore[misc]
    sample = sample_many(rng, rules, [blocks[k].site for k in sampled])

    lengths = np.zeros(len(blocks), dtype=np.int64)
    lengths[sampled] = sample.lengths
    for k, block in enumerate(blocks):
        if block.synapses is not None:
            lengths[k] = block.synapses.nnz
    ptr = np.concatenate([[0], np.cumsum(lengths)])
    nnz = int(ptr[-1])
    values = np.zeros(nnz, dtype=dtype)
    if len(sampled) == len(blocks):
        rows, cols = sample.rows, sample.cols
    else:
        rows, cols = np.empty((2, nnz), dtype=np.int32)
        begin = np.concatenate([[0], np.cumsum(sample.lengths)])
        for at, k in enumerate(sampled):
            rows[ptr[k] : ptr[k + 1]] = sample.rows[begin[at] : begin[at + 1]]
            cols[ptr[k] : ptr[k + 1]] = sample.cols[begin[at] : begin[at + 1]]
        for k, block in enumerate(blocks):
            if block.synapses is not None:
                here = slice(ptr[k], ptr[k + 1])
                rows[here], cols[here], values[here] = coordinates(block.synapses)
    row_start = np.array([targets.ptr[targets.index[b.target]] for b in blocks], dtype=np.int32)
    col_start = np.array([sources.ptr[sources.index[b.source]] for b in blocks], dtype=np.int32)
    n_rows = [targets.regions[targets.index[b.target]].n for b in blocks]
    n_cols = [sources.regions[sources.index[b.source]].n for b in blocks]
    rows += np.repeat(row_start, lengths)
    cols += np.repeat(col_start, lengths)

    sign = np.concatenate([np.empty(0, np.int8), *(region.unit_signs for region in sources.regions)])
    synapse_sign = _override(blocks, lengths, sign, cols)
    _initialise(rng, blocks, sampled, ptr, values, rows, cols, sign, synapse_sign, graph, kind, constrained)
    crow, perm = _fuse(rows, cols, targets.n, max(sources.n, 1))
    n_trainable = int(ptr[sum(block.trainable for block in blocks)])
    return BlockSparse(
        (targets.n, sources.n),
        tuple(blocks),
        ptr,
        n_trainable,
        np.array([row_start, n_rows, col_start, n_cols], dtype=np.int64).T,
        values,
        crow,
        cols if perm is None else cols[perm],
        perm,
        sign,
        synapse_sign if synapse_sign is None or perm is None else synapse_sign[perm],
    )


def _override(
    blocks: Sequence[Projection], lengths: Int64, sign: NDArray[np.int8], cols: NDArray[np.int32]
) -> NDArray[np.int8] | None:
    """A sign per synapse, where some projection has one of its own."""
    inherits = np.array([block.sign == "inherit" for block in blocks], dtype=bool)
    if inherits.all():
        return None
    own = np.array([0 if block.sign == "inherit" else SIGNS[block.sign] for block in blocks], dtype=np.int8)
    return np.where(np.repeat(inherits, lengths), sign[cols], np.repeat(own, lengths))


def _initialise(
    rng: np.random.Generator,
    blocks: Sequence[Projection],
    sampled: Sequence[int],
    ptr: Int64,
    values: NDArray[np.floating],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    sign: NDArray[np.int8],
    synapse_sign: NDArray[np.int8] | None,
    graph: RegionGraph,
    kind: str,
    constrained: bool,
) -> None:
    """Fill ``values`` of the blocks without explicit weights, one call per distinct initialiser."""
    groups: dict[Initializer, list[int]] = {}
    for k in sampled:
        groups.setdefault(blocks[k].init or Default(), []).append(k)
    n_units, n_inputs = graph.n_units, graph.n_inputs
    fan_in = np.bincount(rows, minlength=n_units)
    for initializer, members in groups.items():
        lengths = np.diff(ptr)[members]
        if len(members) == len(blocks):
            where: slice | Int64 = slice(None)
        else:
            before = np.cumsum(lengths) - lengths
            where = np.arange(lengths.sum()) + np.repeat(ptr[:-1][members] - before, lengths)
        here = rows[where]
        if not constrained:
            signs = np.zeros(len(here), dtype=np.int8)
        else:
            signs = sign[cols[where]] if synapse_sign is None else synapse_sign[where]
        values[where] = initializer(
            rng,
            Synapses(
                here,
                signs,
                fan_in[here],
                np.repeat([blocks[k].site.n_source for k in members], lengths),
                np.repeat([blocks[k].site.n_target for k in members], lengths),
                n_units,
                n_inputs,
                kind == "input",
            ),
        )


def _fuse(
    rows: NDArray[np.int32], cols: NDArray[np.int32], n_rows: int, n_cols: int
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Row pointers, and the permutation that sorts synapses by row and then column (None: sorted already)."""
    dtype = np.int32 if len(rows) < 2**31 else np.int64
    crow = np.zeros(n_rows + 1, dtype=dtype)
    np.cumsum(np.bincount(rows, minlength=n_rows), out=crow[1:])
    step = np.diff(rows)
    if not ((step < 0) | ((step == 0) & (np.diff(cols) < 0))).any():
        return crow, None
    by_col = counting_sort(cols, n_cols)
    return crow, by_col[counting_sort(rows[by_col], n_rows)]


def counting_sort(keys: NDArray[np.integer], n: int) -> NDArray[np.integer]:
    """Stable argsort of integers below n in O(len + n): the conversion of a one-row CSR matrix to CSC.

    Examples
    --------
    >>> counting_sort(np.array([2, 0, 2, 1], dtype=np.int32), 3).tolist()
    [1, 3, 0, 2]
    """
    dtype = np.int32 if len(keys) < 2**31 else np.int64
    order = np.arange(len(keys), dtype=dtype)
    one_row = sp.csr_array((order, keys, np.array([0, len(keys)], dtype=dtype)), shape=(1, max(n, 1)))
    sorted_order: NDArray[np.integer] = one_row.tocsc().data
    return sorted_order
