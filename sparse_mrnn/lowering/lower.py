"""Lowering: a RegionGraph becomes unit ranges, blocks and one fused CSR pattern with a flat values vector."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray

from sparse_mrnn.declaration.connectivity import ranges
from sparse_mrnn.declaration.graph import MOST_UNITS, Projection, Region, RegionGraph, projection_label
from sparse_mrnn.errors import GraphError, UnknownNameError, suggest
from sparse_mrnn.lowering.random_streams import SynapseStreams
from sparse_mrnn.lowering.sampling import Band, Drawing, draw_bands
from sparse_mrnn.ops.pattern import index_dtype

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layout:
    """Which units belong to which region: region after region, in insertion order.

    Parameters
    ----------
    regions : tuple of Region
    groups : dict of str to tuple of str
        The regions behind each region's and parent's name.

    Examples
    --------
    >>> g = RegionGraph()
    >>> g.add_region("a", 2, parent_region="all"); g.add_region("b", 3, parent_region="all")
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
        groups: dict[str, tuple[str, ...]] = {name: (name,) for name in names}
        for parent in graph.parents if kind == "recurrent" else ():
            groups[parent] = tuple(member for member in graph.members(parent) if member in known)
        return cls(regions, groups)

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
        regions = [self.index[member] for member in self.members(name)]
        if regions != list(range(regions[0], regions[-1] + 1)):
            raise GraphError(
                f"parent {name!r} groups regions that are not neighbours ({', '.join(self.members(name))}), "
                "so it has no single unit range; use unit_indices or get_region_activity."
            )
        return slice(int(self.ptr[regions[0]]), int(self.ptr[regions[-1] + 1]))

    def indices(self, *names: str) -> Int64:
        """Units of regions or parents: names in the order given, each in unit order, without repeats."""
        members = dict.fromkeys(member for name in names for member in self.members(name))
        parts = [np.arange(self.ptr[k], self.ptr[k + 1]) for k in map(self.index.__getitem__, members)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def cut(self, units: Int64) -> Layout:
        """The regions cut to some units, ascending; a region may be left without any."""
        ends = np.searchsorted(units, self.ptr)
        parts = (
            region.cut(units[ends[k] : ends[k + 1]] - self.ptr[k]) for k, region in enumerate(self.regions)
        )
        return Layout(tuple(parts), self.groups)

    def region_of(self, unit: int) -> tuple[Region, int]:
        """The region of a unit, and its index there, from its number."""
        k = int(np.searchsorted(self.ptr, unit, side="right")) - 1
        return self.regions[k], unit - int(self.ptr[k])

    @cached_property
    def unit_ids(self) -> tuple[str, ...]:
        """Name of every unit, in unit order; one without an id is called ``region[k]``."""
        ids = (r.unit_ids or [f"{r.name}[{k}]" for k in range(r.n)] for r in self.regions)
        return tuple(unit for part in ids for unit in part)

    @cached_property
    def units_by_id(self) -> dict[str, list[int]]:
        """Numbers of the units of each name; ids are unique within a region, not among regions."""
        found: dict[str, list[int]] = {}
        for k, unit in enumerate(self.unit_ids):
            found.setdefault(unit, []).append(k)
        return found

    @property
    def unit_signs(self) -> NDArray[np.int8]:
        """Sign of every unit: +1, -1, or 0 without one."""
        return np.concatenate([np.empty(0, np.int8), *(region.unit_signs for region in self.regions)])


@dataclass(frozen=True, eq=False)
class Gains:
    """The gains that the shared synapses of a weight matrix have in common (see `sharing`).

    Parameters
    ----------
    names : tuple of (source, target, key, what)
        What each gain is for: the projection (of several, the first one), and the unit, label or name.
    initial : ndarray of float, shape (gains,)
    low, high : ndarray of float, shape (gains,)
        Bounds; infinite where there is none.
    trainable : ndarray of bool, shape (gains,)
    of_block : dict of block to slice
        The gains of each shared block.
    """

    names: tuple[tuple[str, str, str, str], ...]
    initial: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    trainable: NDArray[np.bool_]
    of_block: dict[int, slice]


@dataclass(frozen=True, eq=False, kw_only=True)
class BlockSparse:
    """A weight matrix of projections with its initial values, in numpy.

    ``values`` holds projection after projection (trainable ones first), row-major inside each; block k is
    ``values[ptr[k]:ptr[k + 1]]``. The fused matrix is CSR: entry e of row i is ``values[perm[e]]`` in column
    ``col[e]``. Parallel projections keep separate entries in the same row and column.

    Parameters
    ----------
    kind : {"recurrent", "input"}
        What the sources are.
    constrained : bool
        Whether Dale's law applies.
    targets, sources : Layout
    blocks : tuple of Projection
        One per block, in the order of ``values``.
    ptr : ndarray of int64, shape (blocks + 1,)
    trainable_synapses : int
        How many leading values are parameters of their own.
    values : ndarray of float, shape (synapses,)
        Of shared synapses, which follow the trainable ones, the base values.
    group : ndarray of int32, shape (shared synapses,)
        Which gain each shared synapse has.
    gains : Gains
    crow, col : ndarray of int32 (int64 from 2^31 synapses), shapes (targets + 1,), (synapses,)
    perm : ndarray or None
        None where it is the identity.
    synapse_sign : ndarray of int8, shape (synapses,), or None
        In CSR order; only where a projection overrides the sign of its source.
    """

    kind: str
    constrained: bool
    targets: Layout
    sources: Layout
    blocks: tuple[Projection, ...]
    ptr: Int64
    trainable_synapses: int
    values: NDArray[np.floating]
    group: NDArray[np.int32]
    gains: Gains
    crow: NDArray[np.integer]
    col: NDArray[np.integer]
    perm: NDArray[np.integer] | None
    synapse_sign: NDArray[np.int8] | None

    @property
    def shape(self) -> tuple[int, int]:
        """(target units, source units)."""
        return self.targets.n, self.sources.n

    def extents(self) -> Int64:
        """First row, rows (targets), first column and columns (sources) of each block, shape (blocks, 4)."""
        rows = [self.targets.index[block.target] for block in self.blocks]
        cols = [self.sources.index[block.source] for block in self.blocks]
        bounds = (layout.ptr[:-1][index] for layout, index in ((self.targets, rows), (self.sources, cols)))
        sizes = (np.diff(layout.ptr)[index] for layout, index in ((self.targets, rows), (self.sources, cols)))
        (first_row, first_col), (n_rows, n_cols) = bounds, sizes
        return np.stack([first_row, n_rows, first_col, n_cols], axis=1)

    def effective_values(self) -> NDArray[np.floating]:
        """Weights in CSR order as the dynamics use them: with Dale's law where it applies."""
        values = self.values
        if len(self.group):
            shared = slice(self.trainable_synapses, self.trainable_synapses + len(self.group))
            values = values.copy()
            values[shared] *= self.gains.initial[self.group].astype(values.dtype)
        values = values if self.perm is None else values[self.perm]
        if not self.constrained:
            return values
        sign = self.sources.unit_signs[self.col] if self.synapse_sign is None else self.synapse_sign
        return np.where(sign == 0, values, np.abs(values) * sign)

    def to_scipy(self) -> sp.csr_array:
        """The effective weights as a scipy matrix, shape (targets, sources); parallel synapses stay apart."""
        return sp.csr_array((self.effective_values(), self.col, self.crow), shape=self.shape)


def lower(
    graph: RegionGraph,
    kind: str = "recurrent",
    rng: np.random.Generator | int | None = None,
    *,
    constrained: bool = True,
    dtype: type[np.floating] = np.float32,
    rows: ArrayLike | None = None,
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
    rows : array of int, optional
        Target units, ascending: only the synapses onto these, which are the same as in the whole matrix. The
        rows of the result are then these, and its ``targets`` the regions cut to them. Time is that of the
        bands of 16,384 units they lie in, memory that of their synapses.

    Raises
    ------
    GraphError
        If rows are no units.

    Returns
    -------
    BlockSparse

    Raises
    ------
    GraphError
        If there are more units than numbers of 32 bits.
    WeightError
        If a rule, an initialiser or explicit weights cannot be drawn as declared.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 4); g.add_projection("a", "a", fan_in=2)
    >>> block_sparse = lower(g, rng=0)
    >>> block_sparse.crow.tolist()
    [0, 2, 4, 6, 8]
    """
    matrix = _declared(graph, kind, constrained, dtype)
    units = None if rows is None else _check_rows(rows, matrix.targets.n)
    n_columns = matrix.sources.n
    bands = deque(d.in_csr_order(n_columns) for d in draw_bands(matrix.drawing, SynapseStreams(rng), units))
    return matrix.lowered(bands, matrix.targets if units is None else matrix.targets.cut(units))


@dataclass(frozen=True, eq=False)
class Shard:
    """Rows of a recurrent matrix, apart by their sources.

    Parameters
    ----------
    own : BlockSparse
        Synapses from the units that the rows are, shape (rows, rows).
    halo : BlockSparse
        Synapses from other units, shape (rows, halo units).
    halo_units : ndarray of int64, shape (halo units,)
        Units that some of these rows have synapses from, without the rows themselves, ascending.
    """

    own: BlockSparse
    halo: BlockSparse
    halo_units: Int64


def lower_shard(
    graph: RegionGraph,
    rng: np.random.Generator | int | None,
    rows: ArrayLike,
    *,
    constrained: bool = True,
    dtype: type[np.floating] = np.float32,
) -> Shard:
    """Lower some rows of the recurrent matrix, as `lower` with ``rows`` does, apart by their sources.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a", weights=[[1, 0, 2]] * 3)
    >>> shard = lower_shard(g, 0, [0, 1])
    >>> shard.own.col.tolist(), shard.halo.col.tolist(), shard.halo_units.tolist()
    ([0, 0], [0, 0], [2])
    """
    matrix = _declared(graph, "recurrent", constrained, dtype)
    n = matrix.targets.n
    units = _check_rows(rows, n)
    number = np.full(n, -1, dtype=np.int32)
    number[units] = np.arange(len(units), dtype=np.int32)
    used = np.zeros(n, dtype=bool)
    own: deque[Band] = deque()
    halo: deque[Band] = deque()
    for drawn in draw_bands(matrix.drawing, SynapseStreams(rng), units):
        local = number[drawn.cols]
        inside = local >= 0
        own.append(replace(drawn, cols=local).select(inside).in_csr_order(len(units)))
        halo.append(drawn.select(~inside).in_csr_order(n))
        used[halo[-1].col] = True
    halo_units = np.flatnonzero(used)
    number[halo_units] = np.arange(len(halo_units), dtype=np.int32)
    numbered = (replace(band, col=number[band.col].astype(band.col.dtype)) for band in halo)
    targets = matrix.targets.cut(units)
    mine = replace(matrix, sources=targets).lowered(own, targets)
    others = replace(matrix, sources=matrix.sources.cut(halo_units)).lowered(deque(numbered), targets)
    return Shard(mine, others, halo_units)


@dataclass(frozen=True, eq=False)
class _Declared:
    """A weight matrix before its synapses are drawn."""

    kind: str
    constrained: bool
    targets: Layout
    sources: Layout
    blocks: tuple[Projection, ...]
    drawing: Drawing

    def lowered(self, bands: deque[Band], targets: Layout) -> BlockSparse:
        """With the synapses of some bands, onto these targets."""
        gains = _gains(self.blocks)
        return BlockSparse(
            kind=self.kind,
            constrained=self.constrained,
            targets=targets,
            sources=self.sources,
            blocks=self.blocks,
            gains=gains,
            **_joined(bands, targets.n, self.blocks, gains, self.drawing.dtype),
        )


def _declared(graph: RegionGraph, kind: str, constrained: bool, dtype: type[np.floating]) -> _Declared:
    targets, sources = Layout.of(graph), Layout.of(graph, kind)
    for layout in (targets, sources):
        if layout.n >= MOST_UNITS:
            raise GraphError(f"{layout.n:,} units are more than a network can have, {MOST_UNITS - 1:,}.")
    sparse = (p for p in graph.projections(kind) if p.rank is None)
    blocks = tuple(sorted(sparse, key=_rank_in_values))  # stable: else as they are declared
    drawing = Drawing(
        blocks=blocks,
        rows=_unit_ranges(targets, [block.target for block in blocks]),
        cols=_unit_ranges(sources, [block.source for block in blocks]),
        shape=(targets.n, sources.n),
        source_signs=sources.unit_signs,
        n_units=targets.n,
        n_inputs=graph.n_inputs,
        inputs=kind == "input",
        constrained=constrained,
        dtype=dtype,
    )
    return _Declared(kind, constrained, targets, sources, blocks, drawing)


def _check_rows(rows: ArrayLike, n: int) -> Int64:
    units = np.asarray(rows, dtype=np.int64)
    inside = units.ndim == 1 and (len(units) == 0 or (units[0] >= 0 and units[-1] < n))
    if not inside or (np.diff(units) <= 0).any():
        raise GraphError(f"rows must be numbers of target units, ascending, within 0..{n - 1}.")
    return units


def _unit_ranges(layout: Layout, names: Sequence[str]) -> Int64:
    """First unit, and last unit + 1, of each of these regions, shape (names, 2)."""
    index = np.array([layout.index[name] for name in names], dtype=np.int64)
    return np.stack([layout.ptr[index], layout.ptr[index + 1]], axis=1)


def _joined(
    bands: deque[Band], n_rows: int, blocks: Sequence[Projection], gains: Gains, dtype: type[np.floating]
) -> dict[str, Any]:
    """The fields of a `BlockSparse` that its synapses fill; ``bands`` are released one by one."""
    lengths = np.zeros(len(blocks), dtype=np.int64)
    for band in bands:
        lengths[band.members] += band.lengths
    ptr = np.concatenate([[0], np.cumsum(lengths)])
    nnz = int(ptr[-1])
    index = np.int32 if index_dtype(nnz) == torch.int32 else np.int64
    ranks = np.array([_rank_in_values(block) for block in blocks], dtype=np.int64)
    trainable, own = (int(ptr[(ranks < rank).sum()]) for rank in (1, 3))
    shared = (ranks == 1) | (ranks == 2)
    first_gain = np.zeros(len(blocks), dtype=np.int32)
    for k, part in gains.of_block.items():
        first_gain[k] = part.start

    values, group = np.empty(nnz, dtype), np.empty(own - trainable, np.int32)
    crow, col = np.zeros(n_rows + 1, index), np.empty(nnz, index)
    perm: NDArray[np.integer] | None = None
    sign = np.empty(nnz, np.int8) if any(band.sign is not None for band in bands) else None
    next_slot, row, entry = ptr[:-1].copy(), 0, 0
    while bands:
        band = bands.popleft()
        slots = ranges(next_slot[band.members], band.lengths)
        next_slot[band.members] += band.lengths
        here = slice(entry, entry + len(slots))
        values[slots], col[here] = band.values, band.col
        crow[row + 1 : row + len(band.crow)] = band.crow[1:] + index(entry)
        if len(band.group):
            of_shared = shared[band.members]
            first = np.repeat(first_gain[band.members][of_shared], band.lengths[of_shared])
            group[slots[np.repeat(of_shared, band.lengths)] - trainable] = band.group + first
        if sign is not None and band.sign is not None:
            sign[here] = band.sign
        in_order = band.order is None and bool((slots[:1] == entry).all() and (slots[-1:] < here.stop).all())
        if perm is None and not in_order:
            perm = np.empty(nnz, index)
            perm[:entry] = np.arange(entry)
        if perm is not None:
            perm[here] = slots if band.order is None else slots[band.order]
        row, entry = row + len(band.crow) - 1, here.stop
    return {
        "ptr": ptr,
        "trainable_synapses": trainable,
        "values": values,
        "group": group,
        "crow": crow,
        "col": col,
        "perm": perm,
        "synapse_sign": sign,
    }


def without_synapses(
    graph: RegionGraph,
    kind: str = "recurrent",
    *,
    constrained: bool = True,
    dtype: type[np.floating] = np.float32,
) -> BlockSparse:
    """The weight matrix of ``graph`` before anything is drawn: all its projections, and no synapse.

    Arguments as `lower`. A network of it takes its synapses from a ``state_dict``.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 4); g.add_projection("a", "a", fan_in=2)
    >>> block_sparse = without_synapses(g)
    >>> len(block_sparse.blocks), len(block_sparse.values)
    (1, 0)
    """
    matrix = _declared(graph, kind, constrained, dtype)
    return matrix.lowered(deque(), matrix.targets)


def _rank_in_values(block: Projection) -> int:
    """Order of blocks in the values: trained synapse by synapse, shared and trained, shared and fixed,
    fixed."""
    return (1 if block.trainable else 2) if block.share is not None else 0 if block.trainable else 3


def _gains(blocks: Sequence[Projection]) -> Gains:
    """The gains of the shared blocks."""
    names: list[tuple[str, str, str, str]] = []
    of_block: dict[int, slice] = {}
    named: dict[str, int] = {}  # first block of each name
    settings: list[tuple[float, float, float, bool]] = []
    for k, block in enumerate(blocks):
        share = block.share
        if share is None:
            continue
        low, high = share.bounds
        own = (share.gain, -np.inf if low is None else low, np.inf if high is None else high, block.trainable)
        if share.name in named:
            of_block[k] = of_block[named[share.name]]
            if own != settings[of_block[k].start]:
                label = projection_label(block.source, block.target, block.key)
                raise GraphError(
                    f"{label}: gain, bounds or trainable differ among the projections of {share.name!r}."
                )
        else:
            whose = block.source, block.target, block.key
            what = [share.name] if share.name else share.gain_names(block.pair.n_source, block.pair.n_target)
            of_block[k] = slice(len(names), len(names) + len(what))
            names += [(*whose, part) for part in what]
            settings += [own] * len(what)
            if share.name is not None:
                named[share.name] = k
    table = np.array(settings, dtype=np.float64).reshape(-1, 4)
    return Gains(tuple(names), table[:, 0], table[:, 1], table[:, 2], table[:, 3] > 0, of_block)
