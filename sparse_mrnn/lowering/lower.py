"""Lowering: the projections of a RegionGraph become one fused CSR matrix with a flat vector of values."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparse_mrnn.checks import Seed
from sparse_mrnn.declaration.connectivity import ranges
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import GraphError
from sparse_mrnn.lowering.block_sparse import BlockSparse, order_in_values
from sparse_mrnn.lowering.layout import Int64, Layout
from sparse_mrnn.lowering.random_streams import SynapseStreams
from sparse_mrnn.lowering.sampling import CsrRows, SamplingPlan, numbering, sample_bands
from sparse_mrnn.ops.csr_order import index_type


def lower(
    graph: RegionGraph, kind: str = "recurrent", seed: Seed | None = None, *, constrained: bool = True,
    dtype: type[np.floating] = np.float32, rows: ArrayLike | None = None,
) -> BlockSparse:
    """Lower the projections of ``graph`` whose sources are "recurrent" or "input" regions.

    O(synapses) time and memory.

    Parameters
    ----------
    graph : RegionGraph
    kind : {"recurrent", "input"}
    seed : int, numpy SeedSequence or Generator, or None
    constrained : bool
        If Dale's law applies; it decides the default initial values.
    dtype : numpy floating type
        Of the values. Random values are drawn in float32 either way, so both precisions give the same net.
    rows : array of int, optional
        Target units, ascending: lower only the synapses onto these, which are the same as in the whole
        matrix. The rows of the result are then these, and its ``targets`` the regions cut to them. Time grows
        with the bands of 16,384 units they lie in, memory with their synapses.

    Returns
    -------
    BlockSparse

    Raises
    ------
    GraphError
        If ``rows`` are not units, or there are more units than numbers of 32 bits.
    WeightError
        If a rule, an initialiser or explicit weights cannot be drawn as declared.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 4); g.add_projection("a", "a", fan_in=2)
    >>> block_sparse = lower(g, seed=0)
    >>> block_sparse.crow.tolist()
    [0, 2, 4, 6, 8]
    """
    plan = SamplingPlan.of(graph, kind, constrained, dtype)
    units = None if rows is None else _check_rows(rows, plan.targets.n)
    bands = sample_bands(plan, SynapseStreams(seed), units)
    in_order = deque(sampled.in_csr_order(plan.sources.n) for sampled in bands)
    return _joined(plan, in_order, plan.targets if units is None else plan.targets.cut(units))


class Shard(NamedTuple):
    """Rows of a recurrent matrix, divided by their sources.

    Attributes
    ----------
    own : BlockSparse
        Synapses from the units that the rows are, shape (rows, rows).
    halo : BlockSparse
        Synapses from other units, shape (rows, halo units).
    halo_units : ndarray of int64, shape (halo units,)
        Units outside the rows with synapses onto some of these rows, ascending.
    """

    own: BlockSparse
    halo: BlockSparse
    halo_units: Int64


def lower_shard(
    graph: RegionGraph, seed: Seed | None, rows: ArrayLike, *, constrained: bool = True,
    dtype: type[np.floating] = np.float32,
) -> Shard:
    """Lower some rows of the recurrent matrix, as `lower` with ``rows`` does, divided by their sources.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 3); g.add_projection("a", "a", weights=[[1, 0, 2]] * 3)
    >>> shard = lower_shard(g, 0, [0, 1])
    >>> shard.own.col.tolist(), shard.halo.col.tolist(), shard.halo_units.tolist()
    ([0, 0], [0, 0], [2])
    """
    plan = SamplingPlan.of(graph, "recurrent", constrained, dtype)
    n = plan.targets.n
    units = _check_rows(rows, n)
    number = numbering(units, n)
    own: deque[CsrRows] = deque()
    halo: deque[CsrRows] = deque()
    used = np.zeros(n, dtype=bool)
    for sampled in sample_bands(plan, SynapseStreams(seed), units):
        local = number[sampled.cols]
        inside = local >= 0
        own.append(replace(sampled, cols=local).select(inside).in_csr_order(len(units)))
        halo.append(sampled.select(~inside).in_csr_order(n))
        used[halo[-1].col] = True
    halo_units = np.flatnonzero(used)
    number = numbering(halo_units, n)
    numbered = deque(replace(band, col=number[band.col].astype(band.col.dtype)) for band in halo)
    halo.clear()  # each band is then released as soon as it is joined
    targets = plan.targets.cut(units)
    mine = _joined(replace(plan, sources=targets), own, targets)
    others = _joined(replace(plan, sources=plan.sources.cut(halo_units)), numbered, targets)
    return Shard(mine, others, halo_units)


def without_synapses(
    graph: RegionGraph, kind: str = "recurrent", *, constrained: bool = True,
    dtype: type[np.floating] = np.float32,
) -> BlockSparse:
    """Lower ``graph`` with all its projections, but without drawing any synapse.

    The arguments are those of `lower`. A network made of the result takes its synapses from a ``state_dict``.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 4); g.add_projection("a", "a", fan_in=2)
    >>> block_sparse = without_synapses(g)
    >>> len(block_sparse.blocks), len(block_sparse.values)
    (1, 0)
    """
    plan = SamplingPlan.of(graph, kind, constrained, dtype)
    return _joined(plan, deque(), plan.targets)


def _check_rows(rows: ArrayLike, n: int) -> Int64:
    units = np.asarray(rows, dtype=np.int64)
    inside = units.ndim == 1 and (len(units) == 0 or (units[0] >= 0 and units[-1] < n))
    if not inside or (np.diff(units) <= 0).any():
        raise GraphError(f"rows must be numbers of target units, ascending, within 0..{n - 1}.")
    return units


def _joined(plan: SamplingPlan, bands: deque[CsrRows], targets: Layout) -> BlockSparse:
    """Join the bands of a matrix onto these targets; each band is released as soon as it is copied."""
    lengths = np.zeros(len(plan.blocks), dtype=np.int64)
    for band in bands:
        lengths[band.members] += band.lengths
    ptr = np.concatenate([[0], np.cumsum(lengths)])
    nnz = int(ptr[-1])
    index = index_type(nnz)
    order = plan.blocks.columns.from_settings(order_in_values, np.int8)
    trainable, own = (int(ptr[(order < place).sum()]) for place in (1, 3))

    values, group = np.empty(nnz, plan.dtype), np.empty(own - trainable, np.int32)
    crow, col = np.zeros(targets.n + 1, index), np.empty(nnz, index)
    perm: NDArray[np.integer] | None = None
    sign = np.empty(nnz, np.int8) if any(band.sign is not None for band in bands) else None
    next_slot, row, entry = ptr[:-1].copy(), 0, 0
    while bands:
        band = bands.popleft()
        slots = ranges(next_slot[band.members], band.lengths)  # ascending: blocks come in their order
        next_slot[band.members] += band.lengths
        here = slice(entry, entry + len(slots))
        values[slots], col[here] = band.values, band.col
        crow[row + 1 : row + len(band.crow)] = band.crow[1:] + index(entry)
        shared = slice(*np.searchsorted(slots, [trainable, own]))
        group[slots[shared] - trainable] = band.gain
        if sign is not None and band.sign is not None:
            sign[here] = band.sign
        in_order = band.order is None and bool((slots[:1] == entry).all() and (slots[-1:] < here.stop).all())
        if perm is None and not in_order:
            perm = np.empty(nnz, index)
            perm[:entry] = np.arange(entry)
        if perm is not None:
            perm[here] = slots if band.order is None else slots[band.order]
        row, entry = row + len(band.crow) - 1, here.stop
    return BlockSparse(
        kind=plan.kind,
        constrained=plan.constrained,
        targets=targets,
        sources=plan.sources,
        blocks=plan.blocks,
        ptr=ptr,
        trainable_synapses=trainable,
        values=values,
        group=group,
        gains=plan.gains,
        crow=crow,
        col=col,
        perm=perm,
        synapse_sign=sign,
    )
