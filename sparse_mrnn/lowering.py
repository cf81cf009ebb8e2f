"""Lowering: a RegionGraph becomes unit ranges, blocks and one fused CSR pattern with a flat values vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from sparse_mrnn.connectivity import ConnectionRule, ranges, sample_many
from sparse_mrnn.errors import GraphError, UnknownNameError, WeightError, suggest
from sparse_mrnn.explicit import coordinates
from sparse_mrnn.graph import MOST_UNITS, PROJECTION_SIGNS, Projection, Region, RegionGraph, projection_label
from sparse_mrnn.initializers import Default, Initializer, Synapses
from sparse_mrnn.ops.pattern import Pattern

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
    rng = np.random.default_rng(rng)
    targets, sources = Layout.of(graph), Layout.of(graph, kind)
    for layout in (targets, sources):
        if layout.n >= MOST_UNITS:
            raise GraphError(f"{layout.n:,} units are more than a network can have, {MOST_UNITS - 1:,}.")
    blocks = _declared_order(graph, kind)
    ptr, rows, cols, values = _draw(blocks, rng, dtype)
    lengths = np.diff(ptr)
    gains, group = _share(blocks, ptr, rows, cols)
    target_index = [targets.index[block.target] for block in blocks]
    source_index = [sources.index[block.source] for block in blocks]
    rows += np.repeat(targets.ptr[target_index].astype(np.int32), lengths)
    cols += np.repeat(sources.ptr[source_index].astype(np.int32), lengths)
    unit_signs = sources.unit_signs
    synapse_sign = _overriding_signs(blocks, lengths, unit_signs, cols)
    # What initialisers see; without Dale's law every synapse is free.
    sign = unit_signs[cols] if synapse_sign is None else synapse_sign
    synapses = Synapses(
        rows=rows,
        sign=sign if constrained else np.zeros_like(sign),
        unit_fan_in=np.bincount(rows, minlength=targets.n),
        lengths=lengths,
        source_sizes=np.diff(sources.ptr)[source_index],
        target_sizes=np.diff(targets.ptr)[target_index],
        n_units=targets.n,
        n_inputs=graph.n_inputs,
        inputs=kind == "input",
    )
    _initialize(values, blocks, synapses, rng)
    pattern, order = Pattern.from_coo(torch.from_numpy(rows), torch.from_numpy(cols), (targets.n, sources.n))
    perm = None if order is None else order.numpy()
    return BlockSparse(
        kind=kind,
        constrained=constrained,
        targets=targets,
        sources=sources,
        blocks=blocks,
        ptr=ptr,
        trainable_synapses=int(ptr[sum(_rank_in_values(block) == 0 for block in blocks)]),
        values=values,
        group=group,
        gains=gains,
        crow=pattern.crow.numpy(),
        col=pattern.col.numpy(),
        perm=perm,
        synapse_sign=synapse_sign if synapse_sign is None or perm is None else synapse_sign[perm],
    )


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
    targets, sources = Layout.of(graph), Layout.of(graph, kind)
    blocks = _declared_order(graph, kind)
    nowhere = np.empty(0, dtype=np.int32)
    return BlockSparse(
        kind=kind,
        constrained=constrained,
        targets=targets,
        sources=sources,
        blocks=blocks,
        ptr=np.zeros(len(blocks) + 1, dtype=np.int64),
        trainable_synapses=0,
        values=np.empty(0, dtype=dtype),
        group=nowhere,
        gains=_share(blocks, np.zeros(len(blocks) + 1, dtype=np.int64), nowhere, nowhere)[0],
        crow=np.zeros(targets.n + 1, dtype=np.int32),
        col=nowhere,
        perm=None,
        synapse_sign=None,
    )


def _declared_order(graph: RegionGraph, kind: str) -> tuple[Projection, ...]:
    """Projections with synapses, in the order of the values, else as they are declared."""
    sparse = (p for p in graph.projections(kind) if p.rank is None)
    return tuple(sorted(sparse, key=_rank_in_values))  # stable


def _rank_in_values(block: Projection) -> int:
    """Order of blocks in the values: trained synapse by synapse, shared and trained, shared and fixed,
    fixed."""
    return (1 if block.trainable else 2) if block.share is not None else 0 if block.trainable else 3


def _share(
    blocks: Sequence[Projection], ptr: Int64, rows: NDArray[np.int32], cols: NDArray[np.int32]
) -> tuple[Gains, NDArray[np.int32]]:
    """The gains of the shared blocks, and which one each of their synapses has."""
    names: list[tuple[str, str, str, str]] = []
    parts: list[NDArray[np.int32]] = []
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
            what = [share.name] if share.name else share.gain_names(block.site.n_source, block.site.n_target)
            of_block[k] = slice(len(names), len(names) + len(what))
            names += [(*whose, part) for part in what]
            settings += [own] * len(what)
            if share.name is not None:
                named[share.name] = k
        part = slice(ptr[k], ptr[k + 1])
        parts.append(share.groups(rows[part], cols[part]) + np.int32(of_block[k].start))
    table = np.array(settings, dtype=np.float64).reshape(-1, 4)
    gains = Gains(tuple(names), table[:, 0], table[:, 1], table[:, 2], table[:, 3] > 0, of_block)
    return gains, np.concatenate([np.empty(0, np.int32), *parts])


def _draw(
    blocks: Sequence[Projection], rng: np.random.Generator, dtype: type[np.floating]
) -> tuple[Int64, NDArray[np.int32], NDArray[np.int32], NDArray[np.floating]]:
    """Block bounds, rows and columns within the regions, and explicit weights (0 elsewhere) of all blocks."""
    drawn = [k for k, block in enumerate(blocks) if block.synapses is None]
    rules: list[ConnectionRule] = [blocks[k].rule for k in drawn]  # type: ignore[misc]
    sample = sample_many(rng, rules, [blocks[k].site for k in drawn])
    given = [0 if block.synapses is None else block.synapses.nnz for block in blocks]
    lengths = np.array(given, dtype=np.int64)
    lengths[drawn] = sample.lengths
    ptr = np.concatenate([[0], np.cumsum(lengths)])
    values = np.zeros(int(ptr[-1]), dtype=dtype)
    if len(drawn) == len(blocks):
        return ptr, sample.rows, sample.cols, values
    rows, cols = np.empty((2, len(values)), dtype=np.int32)
    slots = ranges(ptr[:-1][drawn], sample.lengths)
    rows[slots], cols[slots] = sample.rows, sample.cols
    for k, block in enumerate(blocks):
        if block.synapses is not None:
            part = slice(ptr[k], ptr[k + 1])
            rows[part], cols[part], weights = coordinates(block.synapses)
            with np.errstate(over="ignore"):
                values[part] = weights
            if not np.isfinite(values[part]).all():
                label = projection_label(block.source, block.target, block.key)
                size = f"{np.abs(weights).max():g} is too large for {np.dtype(dtype)}"
                raise WeightError(f"{label}: a weight of {size}; scale it, or use dtype=torch.float64.")
    return ptr, rows, cols, values


def _overriding_signs(
    blocks: Sequence[Projection], lengths: Int64, unit_signs: NDArray[np.int8], cols: NDArray[np.int32]
) -> NDArray[np.int8] | None:
    """A sign per synapse, where some projection overrides those of its source units."""
    inherits = np.array([block.sign == "inherit" for block in blocks], dtype=bool)
    if inherits.all():
        return None
    own = np.array([PROJECTION_SIGNS.get(block.sign, 0) for block in blocks], dtype=np.int8)
    return np.where(np.repeat(inherits, lengths), unit_signs[cols], np.repeat(own, lengths))


def _initialize(
    values: NDArray[np.floating], blocks: Sequence[Projection], synapses: Synapses, rng: np.random.Generator
) -> None:
    """Fill ``values`` of the blocks without explicit weights, one call per distinct initialiser."""
    groups: dict[Initializer, list[int]] = {}
    for k, block in enumerate(blocks):
        if block.synapses is None:
            groups.setdefault(block.initializer or Default(), []).append(k)
    for initializer, members in groups.items():
        if len(members) == len(blocks):
            values[:] = initializer(rng, synapses)
        else:
            slots, part = synapses.of_projections(members)
            values[slots] = initializer(rng, part)
