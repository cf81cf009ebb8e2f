"""Drawing: the synapses and initial values of a weight matrix, band of target rows by band of rows.

Each band has a random stream of its own, so that it is drawn alike whether the others are drawn or not
(docs/decisions/0024). All its projections are drawn together, in a few vectorised calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sparse_mrnn.declaration.connectivity import Sample, ranges, sample_many
from sparse_mrnn.declaration.explicit_synapses import coordinates, entries_onto
from sparse_mrnn.declaration.graph import PROJECTION_SIGNS, Projection, projection_label
from sparse_mrnn.declaration.initializers import Default, Initializer, Synapses
from sparse_mrnn.errors import WeightError
from sparse_mrnn.lowering.random_streams import SynapseStreams
from sparse_mrnn.ops.pattern import Pattern

BAND_ROWS = 2**14
"""Target units of a band. A network of no more units is drawn from one stream."""

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Drawing:
    """What the synapses of a weight matrix are drawn from.

    Parameters
    ----------
    blocks : tuple of Projection
        Without those of low rank.
    rows, cols : ndarray of int64, shape (blocks, 2)
        First and last unit + 1 of each block's target and source region.
    shape : (int, int)
        Target and source units.
    source_signs : ndarray of int8, shape (source units,)
    n_units, n_inputs : int
        Of the network.
    inputs : bool
        Whether the sources are inputs.
    constrained : bool
        Whether Dale's law applies.
    dtype : numpy floating type
    """

    blocks: tuple[Projection, ...]
    rows: Int64
    cols: Int64
    shape: tuple[int, int]
    source_signs: NDArray[np.int8]
    n_units: int
    n_inputs: int
    inputs: bool
    constrained: bool
    dtype: type[np.floating]


@dataclass(frozen=True, eq=False)
class Band:
    """The synapses of a band of rows, projection after projection, and their order in a CSR matrix.

    Parameters
    ----------
    members, lengths : ndarray of int64
        Numbers of the blocks with rows in the band, and how many synapses of each are in it.
    values : ndarray of float
    group : ndarray of int32, shape (shared synapses,)
        Which gain of its block each synapse of a shared block has.
    crow : ndarray of int, shape (rows + 1,)
    col : ndarray of int
        In CSR order.
    order : ndarray of int, or None
        Entry e is synapse ``order[e]``; None where that is e.
    sign : ndarray of int8, or None
        In CSR order; only where a block overrides the sign of its source.
    """

    members: Int64
    lengths: Int64
    values: NDArray[np.floating]
    group: Int32
    crow: NDArray[np.integer]
    col: NDArray[np.integer]
    order: NDArray[np.integer] | None
    sign: NDArray[np.int8] | None


@dataclass(frozen=True, eq=False)
class Drawn:
    """Synapses of a band, projection after projection, row-major inside each.

    Parameters
    ----------
    n_rows : int
    members, lengths, values, group
        As of a `Band`.
    rows, cols : ndarray of int32, shape (synapses,)
        Rows are numbered from the first of the band.
    shared : ndarray of bool, shape (members,)
        Blocks whose synapses share gains.
    sign : ndarray of int8, shape (synapses,), or None
    """

    n_rows: int
    members: Int64
    lengths: Int64
    rows: Int32
    cols: Int32
    values: NDArray[np.floating]
    group: Int32
    shared: NDArray[np.bool_]
    sign: NDArray[np.int8] | None

    def keep(self, rows: Int64) -> Drawn:
        """Synapses onto some of the rows only, ascending; these are numbered anew."""
        if len(rows) == self.n_rows:
            return self
        number = np.full(self.n_rows, -1, dtype=np.int32)
        number[rows] = np.arange(len(rows), dtype=np.int32)
        numbered = number[self.rows]
        return replace(self, n_rows=len(rows), rows=numbered).select(numbered >= 0)

    def select(self, kept: NDArray[np.bool_]) -> Drawn:
        """Some of the synapses, shape (synapses,)."""
        block = np.repeat(np.arange(len(self.lengths)), self.lengths)[kept]
        return replace(
            self,
            lengths=np.bincount(block, minlength=len(self.lengths)),
            rows=self.rows[kept],
            cols=self.cols[kept],
            values=self.values[kept],
            group=self.group[kept[np.repeat(self.shared, self.lengths)]],
            sign=None if self.sign is None else self.sign[kept],
        )

    def in_csr_order(self, n_columns: int) -> Band:
        """The band of a CSR matrix of so many columns."""
        row, col = torch.from_numpy(self.rows), torch.from_numpy(self.cols)
        pattern, order = Pattern.from_coo(row, col, (self.n_rows, n_columns))
        of_entry = None if order is None else order.numpy()
        sign = self.sign if self.sign is None or of_entry is None else self.sign[of_entry]
        arrays = self.values, self.group, pattern.crow.numpy(), pattern.col.numpy(), of_entry
        return Band(self.members, self.lengths, *arrays, sign)


def draw_bands(drawing: Drawing, streams: SynapseStreams, rows: Int64 | None = None) -> Iterator[Drawn]:
    """Draw every band that has some of the rows, in their order, and keep those rows.

    Parameters
    ----------
    drawing : Drawing
    streams : SynapseStreams
    rows : ndarray of int64, optional
        Target units, ascending. Default: all.
    """
    cuts = np.append(np.arange(0, drawing.shape[0], BAND_ROWS), drawing.shape[0])
    numbers = range(len(cuts) - 1) if rows is None else np.unique(rows // BAND_ROWS).tolist()
    for block in drawing.blocks:
        if block.rule is not None:
            block.rule.check(block.pair)
    first, last = drawing.rows[:, 0] // BAND_ROWS, (drawing.rows[:, 1] - 1) // BAND_ROWS
    cut = {int(k): _parts(drawing, int(k), cuts, numbers, streams) for k in np.flatnonzero(first < last)}
    for number in numbers:
        band = range(int(cuts[number]), int(cuts[number + 1]))
        members = np.flatnonzero((first <= number) & (number <= last))
        blocks = [drawing.blocks[k] for k in members.tolist()]
        for k in np.flatnonzero((first < last)[members]).tolist():
            blocks[k] = next(cut[int(members[k])])
        drawn = _draw(drawing, members, blocks, band, streams.band(number))
        if rows is not None:
            kept = rows[np.searchsorted(rows, band.start) : np.searchsorted(rows, band.stop)] - band.start
            drawn = drawn.keep(kept)
        yield drawn


def _parts(
    drawing: Drawing, block: int, cuts: Int64, numbers: Sequence[int], streams: SynapseStreams
) -> Iterator[Projection]:
    """A block cut to each band of these that has rows of it."""
    projection, (start, stop) = drawing.blocks[block], drawing.rows[block].tolist()
    first, last = start // BAND_ROWS, (stop - 1) // BAND_ROWS
    own = [0, *(cuts[first + 1 : last + 1] - start).tolist(), stop - start]
    wanted = [number - first for number in numbers if first <= number <= last]
    if projection.rule is None:
        for k in wanted:
            yield replace(projection, pair=projection.pair.rows(own[k], own[k + 1]))
        return

    def stream(begin: int, end: int) -> np.random.Generator:
        return streams.projection(block, begin, end)

    for rule, pair in projection.rule.bands(projection.pair, own, wanted, stream):
        yield replace(projection, rule=rule, pair=pair)


def _draw(
    drawing: Drawing, members: Int64, blocks: Sequence[Projection], band: range, rng: np.random.Generator
) -> Drawn:
    """All synapses of a band, of the blocks cut to it."""
    sample, values = _sample(blocks, drawing.dtype, rng)
    lengths, rows, cols = sample.lengths, sample.rows, sample.cols
    group = _gains_of_synapses(blocks, sample)
    first_row = np.array([block.pair.first_row for block in blocks], dtype=np.int64)
    rows += np.repeat((drawing.rows[members, 0] + first_row - band.start).astype(np.int32), lengths)
    cols += np.repeat(drawing.cols[members, 0].astype(np.int32), lengths)
    overriding = _overriding_signs(drawing, blocks, lengths, cols)
    # What initialisers see; without Dale's law every synapse is free.
    sign = drawing.source_signs[cols] if overriding is None else overriding
    synapses = Synapses(
        rows=rows,
        sign=sign if drawing.constrained else np.zeros_like(sign),
        unit_fan_in=np.bincount(rows, minlength=len(band)),
        lengths=lengths,
        source_sizes=np.diff(drawing.cols[members])[:, 0],
        target_sizes=np.diff(drawing.rows[members])[:, 0],
        first_unit=band.start,
        n_units=drawing.n_units,
        n_inputs=drawing.n_inputs,
        inputs=drawing.inputs,
    )
    _initialize(values, blocks, synapses, rng)
    shared = np.array([block.share is not None for block in blocks], dtype=bool)
    return Drawn(len(band), members, lengths, rows, cols, values, group, shared, overriding)


def _sample(
    blocks: Sequence[Projection], dtype: type[np.floating], rng: np.random.Generator
) -> tuple[Sample, NDArray[np.floating]]:
    """Synapses within the rows and columns of their blocks, and explicit weights (0 elsewhere)."""
    drawn = [k for k, block in enumerate(blocks) if block.rule is not None]
    rules = [block.rule for block in blocks if block.rule is not None]
    sample = sample_many(rng, rules, [blocks[k].pair for k in drawn])
    if len(drawn) == len(blocks):
        return sample, np.zeros(len(sample.rows), dtype=dtype)
    lengths = np.zeros(len(blocks), dtype=np.int64)
    for k, block in enumerate(blocks):
        if block.synapses is not None:
            entries = _given(block)
            lengths[k] = entries.stop - entries.start
    lengths[drawn] = sample.lengths
    stop = np.cumsum(lengths)
    rows, cols = np.empty((2, int(stop[-1])), dtype=np.int32)
    values = np.zeros(len(rows), dtype=dtype)
    slots = ranges((stop - lengths)[drawn], sample.lengths)
    rows[slots], cols[slots] = sample.rows, sample.cols
    for k, block in enumerate(blocks):
        if block.synapses is not None:
            here = slice(stop[k] - lengths[k], stop[k])
            rows[here], cols[here], weights = coordinates(block.synapses, _given(block))
            rows[here] -= block.pair.first_row
            with np.errstate(over="ignore"):
                values[here] = weights
            if not np.isfinite(values[here]).all():
                label = projection_label(block.source, block.target, block.key)
                size = f"{np.abs(weights).max():g} is too large for {np.dtype(dtype)}"
                raise WeightError(f"{label}: a weight of {size}; scale it, or use dtype=torch.float64.")
    return Sample(lengths, rows, cols), values


def _given(block: Projection) -> slice:
    """Which of its explicit synapses are onto the rows of a block."""
    pair = block.pair
    return entries_onto(block.synapses, pair.first_row, pair.first_row + pair.n_target)


def _gains_of_synapses(blocks: Sequence[Projection], sample: Sample) -> Int32:
    """Which gain of its block each synapse of a shared block has."""
    found, stop = [np.empty(0, dtype=np.int32)], np.cumsum(sample.lengths)
    for k, block in enumerate(blocks):
        if block.share is not None:
            here = slice(stop[k] - sample.lengths[k], stop[k])
            row = sample.rows[here] + np.int32(block.pair.first_row)
            entries = None if block.synapses is None else _given(block)
            found.append(block.share.groups(row, sample.cols[here], entries))
    return np.concatenate(found)


def _overriding_signs(
    drawing: Drawing, blocks: Sequence[Projection], lengths: Int64, cols: Int32
) -> NDArray[np.int8] | None:
    """A sign per synapse, where some projection overrides those of its source units."""
    if all(block.sign == "inherit" for block in drawing.blocks):
        return None
    inherits = np.array([block.sign == "inherit" for block in blocks], dtype=bool)
    own = np.array([PROJECTION_SIGNS.get(block.sign, 0) for block in blocks], dtype=np.int8)
    return np.where(np.repeat(inherits, lengths), drawing.source_signs[cols], np.repeat(own, lengths))


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
