"""Sampling: the synapses and initial values of a weight matrix, one band of target rows after another.

Each band has a random stream of its own, so that it is drawn alike if the others are drawn or not
(docs/decisions/0024). All projections of a band are drawn together, in a few vectorised calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.declaration.connectivity import GivenPairs, IndependentRows, ranges, sample_many
from sparse_mrnn.declaration.explicit_synapses import coordinates, entries_onto
from sparse_mrnn.declaration.graph import Projection, RegionGraph, projection_label
from sparse_mrnn.declaration.initializers import Default, Initializer, Synapses
from sparse_mrnn.declaration.projection_columns import INHERITED, Projections
from sparse_mrnn.errors import WeightError
from sparse_mrnn.lowering.block_sparse import Gains, order_in_values, unit_ranges
from sparse_mrnn.lowering.layout import Int64, Layout
from sparse_mrnn.lowering.random_streams import SynapseStreams
from sparse_mrnn.ops.csr_order import csr_order

BAND_ROWS = 2**14
"""Target units of a band. A network of no more units is drawn from one stream."""

Int32 = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class SamplingPlan:
    """A weight matrix as it is declared, before its synapses are drawn.

    ``blocks`` are all projections of chemical synapses, in the order of the values; ``n_units`` and
    ``n_inputs`` are those of the network. Without ``constrained``, Dale's law does not apply.
    """

    kind: str
    constrained: bool
    dtype: type[np.floating]
    targets: Layout
    sources: Layout
    blocks: Projections
    gains: Gains
    n_units: int
    n_inputs: int

    @classmethod
    def of(cls, graph: RegionGraph, kind: str, constrained: bool, dtype: type[np.floating]) -> SamplingPlan:
        """Plan the weight matrix of a graph's "recurrent" or "input" sources."""
        targets, sources = Layout.of(graph), Layout.of(graph, kind)
        every = graph.projection_columns(kind)
        sparse = every.take(every.has_synapses)
        order = np.argsort(sparse.columns.from_settings(order_in_values, np.int8), kind="stable")
        blocks = sparse if (np.diff(order) == 1).all() else sparse.take(order)
        gains = Gains.of(blocks)
        return cls(kind, constrained, dtype, targets, sources, blocks, gains, targets.n, graph.n_inputs)

    @cached_property
    def _ranges(self) -> tuple[Int64, Int64]:
        return unit_ranges(self.blocks, self.targets, self.sources)

    @property
    def rows(self) -> Int64:
        """First unit, and last unit + 1, of each block's target region, shape (blocks, 2)."""
        return self._ranges[0]

    @property
    def cols(self) -> Int64:
        """First unit, and last unit + 1, of each block's source region, shape (blocks, 2)."""
        return self._ranges[1]

    @cached_property
    def own_signs(self) -> NDArray[np.int8] | None:
        """Sign that each block gives its synapses, or `INHERITED`; None if all inherit those of sources."""
        signs = self.blocks.own_signs()
        return signs if (signs != INHERITED).any() else None

    @cached_property
    def source_signs(self) -> NDArray[np.int8]:
        """Sign of each source unit."""
        return self.sources.unit_signs


@dataclass(frozen=True, eq=False)
class CsrRows:
    """The rows of a CSR matrix that a band of target units is.

    Parameters
    ----------
    members, lengths : ndarray of int64
        Numbers of the blocks with rows in the band, and how many synapses of each are in it.
    values : ndarray of float, shape (synapses,)
        Block after block, row-major inside each.
    gain : ndarray of int32, shape (shared synapses,)
        Gain of each synapse that shares one, in the order of the values.
    crow : ndarray of int, shape (rows + 1,)
    col : ndarray of int, shape (synapses,)
        In CSR order.
    order : ndarray of int, shape (synapses,), or None
        Entry e has the value ``values[order[e]]``; None if that is ``values[e]``.
    sign : ndarray of int8, shape (synapses,), or None
        In CSR order; only if a block of the matrix overrides the sign of its source.
    """

    members: Int64
    lengths: Int64
    values: NDArray[np.floating]
    gain: Int32
    crow: NDArray[np.integer]
    col: NDArray[np.integer]
    order: NDArray[np.integer] | None
    sign: NDArray[np.int8] | None


@dataclass(frozen=True, eq=False)
class SampledSynapses:
    """The synapses of a band of target units, block after block, row-major inside each.

    Parameters
    ----------
    n_rows : int
        Units of the band.
    members, lengths : ndarray of int64
        Numbers of the blocks with rows in the band, and how many synapses of each are in it.
    rows, cols : ndarray of int32, shape (synapses,)
        Target units, numbered from the first of the band, and source units.
    values : ndarray of float, shape (synapses,)
    gain : ndarray of int32, shape (synapses,), or None
        Gain of each synapse; -1 if it has a value of its own. None if no block of the band shares gains.
    sign : ndarray of int8, shape (synapses,), or None
        Only if a block of the matrix overrides the sign of its source.
    """

    n_rows: int
    members: Int64
    lengths: Int64
    rows: Int32
    cols: Int32
    values: NDArray[np.floating]
    gain: Int32 | None
    sign: NDArray[np.int8] | None

    def select(self, kept: NDArray[np.bool_]) -> SampledSynapses:
        """Select some of the synapses by a mask, shape (synapses,)."""
        block = np.repeat(np.arange(len(self.lengths)), self.lengths)[kept]
        return replace(
            self,
            lengths=np.bincount(block, minlength=len(self.lengths)),
            rows=self.rows[kept],
            cols=self.cols[kept],
            values=self.values[kept],
            gain=None if self.gain is None else self.gain[kept],
            sign=None if self.sign is None else self.sign[kept],
        )

    def onto(self, rows: Int64) -> SampledSynapses:
        """Select the synapses onto some rows, ascending, and number these anew."""
        if len(rows) == self.n_rows:
            return self
        numbered = numbering(rows, self.n_rows)[self.rows]
        return replace(self, n_rows=len(rows), rows=numbered).select(numbered >= 0)

    def in_csr_order(self, n_columns: int) -> CsrRows:
        """Bring the synapses into the order of a CSR matrix of so many columns."""
        crow, col, order = csr_order(self.rows, self.cols, (self.n_rows, n_columns))
        gain = np.empty(0, np.int32) if self.gain is None else self.gain[self.gain >= 0]
        sign = self.sign if self.sign is None or order is None else self.sign[order]
        return CsrRows(self.members, self.lengths, self.values, gain, crow, col, order, sign)


def numbering(units: Int64, n: int) -> Int32:
    """Position of each of n units among some of them; -1 of the others.

    >>> numbering(np.array([1, 3]), 4).tolist()
    [-1, 0, -1, 1]
    """
    number = np.full(n, -1, dtype=np.int32)
    number[units] = np.arange(len(units), dtype=np.int32)
    return number


def sample_bands(
    plan: SamplingPlan, streams: SynapseStreams, rows: Int64 | None = None
) -> Iterator[SampledSynapses]:
    """Draw every band that has some of the rows (target units, ascending; default: all), and keep those."""
    cuts = np.append(np.arange(0, plan.n_units, BAND_ROWS), plan.n_units)
    numbers = range(len(cuts) - 1) if rows is None else np.unique(rows // BAND_ROWS).tolist()
    for k in np.flatnonzero(~plan.blocks.is_explicit).tolist():
        block = plan.blocks[k]
        if block.rule is not None:
            block.rule.check(block.pair)
    first, last = plan.rows[:, 0] // BAND_ROWS, (plan.rows[:, 1] - 1) // BAND_ROWS
    cut = {int(k): _cut_to_bands(plan, int(k), cuts, numbers, streams) for k in np.flatnonzero(first < last)}
    for number in numbers:
        band = range(int(cuts[number]), int(cuts[number + 1]))
        members = np.flatnonzero((first <= number) & (number <= last))
        here = {k: next(cut[k]) for k in members[first[members] < last[members]].tolist()}
        sampled = _sample(plan, members, here, band, streams.band(number))
        if rows is not None:
            kept = rows[np.searchsorted(rows, band.start) : np.searchsorted(rows, band.stop)]
            sampled = sampled.onto(kept - band.start)
        yield sampled


def _cut_to_bands(
    plan: SamplingPlan, block: int, cuts: Int64, numbers: Sequence[int], streams: SynapseStreams
) -> Iterator[Projection]:
    """Cut a block to each band of these that has rows of it."""
    projection, (start, stop) = plan.blocks[block], plan.rows[block].tolist()
    first, last = start // BAND_ROWS, (stop - 1) // BAND_ROWS
    own = [0, *(cuts[first + 1 : last + 1] - start).tolist(), stop - start]
    wanted = [number - first for number in numbers if first <= number <= last]
    rule = projection.rule or IndependentRows()  # explicit synapses are cut as rows are
    for part, pair in rule.bands(projection.pair, own, wanted, partial(streams.projection, block)):
        yield replace(projection, rule=projection.rule and part, pair=pair)


def _sample(
    plan: SamplingPlan, members: Int64, cut: Mapping[int, Projection], band: range, rng: np.random.Generator
) -> SampledSynapses:
    """Draw all synapses of a band; blocks that have rows of other bands are ``cut`` to it."""
    # Most blocks may be ranges of arrays, which are copied together; each of the others is looked at.
    whole = plan.blocks.in_arrays[members] & ~np.isin(members, list(cut))
    each = np.flatnonzero(~whole)
    numbers = zip(each.tolist(), members[each].tolist(), strict=True)
    blocks = {k: cut.get(member) or plan.blocks[member] for k, member in numbers}
    entries = {k: _entries(block) for k, block in blocks.items() if block.rule is None}
    given = {k: coordinates(blocks[k].synapses, here) for k, here in entries.items()}
    first_rows = np.zeros(len(members), dtype=np.int32)
    first_rows[each] = [block.pair.first_row for block in blocks.values()]
    rules = [
        block.rule or GivenPairs(given[k][0] - first_rows[k], given[k][1]) for k, block in blocks.items()
    ]
    columns = plan.blocks.columns.take(members)
    lengths = columns.stop - columns.start
    own_lengths, own_rows, own_cols = sample_many(rng, rules, [block.pair for block in blocks.values()])
    lengths[each] = own_lengths
    begin = np.cumsum(lengths) - lengths
    rows, cols = np.empty((2, int(lengths.sum())), dtype=np.int32)
    values = np.zeros(len(rows), dtype=plan.dtype)
    slots = ranges(begin[each], lengths[each]) if whole.any() else slice(None)
    rows[slots], cols[slots] = own_rows, own_cols
    for number, arrays in enumerate(columns.arrays):
        here = np.flatnonzero(whole & (columns.table == number))
        to, from_ = (_slots(start[here], lengths[here]) for start in (begin, columns.start))
        rows[to], cols[to] = arrays.rows[from_], arrays.cols[from_]
        values[to] = _in_dtype(plan, members[here], lengths[here], arrays.values[from_])
    for k, (_, _, weights) in given.items():
        part = slice(begin[k], begin[k] + lengths[k])
        values[part] = _in_dtype(plan, members[k : k + 1], lengths[k : k + 1], weights)

    gain = _gains(plan, members, lengths, rows, cols, first_rows, entries)
    # Rows and columns were numbered within their regions until here.
    first_units = plan.rows[members, 0] + first_rows - band.start
    rows += np.repeat(first_units.astype(np.int32), lengths)
    cols += np.repeat(plan.cols[members, 0].astype(np.int32), lengths)

    sign = plan.source_signs[cols]
    own_sign = None
    if plan.own_signs is not None:
        own = np.repeat(plan.own_signs[members], lengths)
        sign = own_sign = np.where(own == INHERITED, sign, own)
    synapses = Synapses(
        rows=rows,
        sign=sign if plan.constrained else np.zeros_like(sign),  # without Dale's law every synapse is free
        unit_fan_in=np.bincount(rows, minlength=len(band)),
        lengths=lengths,
        source_sizes=np.diff(plan.cols[members])[:, 0],
        target_sizes=np.diff(plan.rows[members])[:, 0],
        first_unit=band.start,
        n_units=plan.n_units,
        n_inputs=plan.n_inputs,
        inputs=plan.kind == "input",
    )
    _initialize(values, blocks, synapses, rng)
    return SampledSynapses(len(band), members, lengths, rows, cols, values, gain, own_sign)


def _slots(start: Int64, lengths: Int64) -> slice | Int64:
    """Places of ranges one after another: a slice if there is nothing between them."""
    if len(start) and (start[1:] == start[:-1] + lengths[:-1]).all():
        return slice(int(start[0]), int(start[-1] + lengths[-1]))
    return ranges(start, lengths)


def _gains(
    plan: SamplingPlan, members: Int64, lengths: Int64, rows: Int32, cols: Int32, first_rows: Int32,
    entries: Mapping[int, slice],
) -> Int32 | None:
    """Number the gain of each synapse, as `SampledSynapses.gain`; rows and columns are those of regions."""
    first_gain = plan.gains.of_block[members, 0]
    shared = np.flatnonzero(first_gain >= 0)
    if not len(shared):
        return None
    gain = np.full(len(rows), -1, dtype=np.int32)
    begin = np.cumsum(lengths) - lengths
    for k in shared.tolist():
        here, share = slice(begin[k], begin[k] + lengths[k]), plan.blocks[int(members[k])].share
        if share is not None:
            own = share.groups(rows[here] + first_rows[k], cols[here], entries.get(k))
            gain[here] = own + np.int32(first_gain[k])
    return gain


def _entries(block: Projection) -> slice:
    """Find the explicit synapses onto the rows of a block."""
    pair = block.pair
    return entries_onto(block.synapses, pair.first_row, pair.first_row + pair.n_target)


def _in_dtype(
    plan: SamplingPlan, members: Int64, lengths: Int64, weights: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Convert explicit weights of some blocks, which must stay finite."""
    with np.errstate(over="ignore"):
        values = weights.astype(plan.dtype, copy=False)
    for entry in np.flatnonzero(~np.isfinite(values))[:1]:
        member = np.searchsorted(np.cumsum(lengths), entry, side="right")
        own = weights[lengths[:member].sum() :][: lengths[member]]
        label = projection_label(*plan.blocks.names[int(members[member])])
        size = f"{np.abs(own).max():g} is too large for {np.dtype(plan.dtype)}"
        raise WeightError(f"{label}: a weight of {size}; scale it, or use dtype=torch.float64.")
    return values


def _initialize(
    values: NDArray[np.floating], blocks: Mapping[int, Projection], synapses: Synapses,
    rng: np.random.Generator,
) -> None:
    """Fill ``values`` of the blocks without explicit weights, one call per distinct initialiser."""
    groups: dict[Initializer, list[int]] = {}
    for k, block in blocks.items():
        if block.synapses is None:
            groups.setdefault(block.initializer or Default(), []).append(k)
    for initializer, members in groups.items():
        if len(members) == len(synapses.lengths):
            values[:] = initializer(rng, synapses)
        else:
            slots, part = synapses.of_projections(members)
            values[slots] = initializer(rng, part)


def draw_factors(
    projection: Projection, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the factors of W = U V^T (Mastrogiuseppe & Ostojic 2018): U, shape (target units,
    rank), and V, shape (source units, rank).

    Entries are normal, of standard deviation 1 / sqrt(rank) and 1 / (source units), so that an input of order
    1 to every source unit gives one of order 1 or less to the target units.
    """
    rank, n_source, n_target = projection.rank or 0, projection.pair.n_source, projection.pair.n_target
    left = rank**-0.5 * rng.standard_normal((n_target, rank))
    return left, 1 / n_source * rng.standard_normal((n_source, rank))
