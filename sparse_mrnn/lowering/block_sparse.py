"""A weight matrix in numpy: one CSR pattern of all its projections and a flat vector of their values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.declaration.projection_columns import Attributes, Projections
from sparse_mrnn.errors import GraphError
from sparse_mrnn.lowering.layout import Int64, Layout


@dataclass(frozen=True, eq=False)
class Gains:
    """Gains that the shared synapses of a weight matrix have in common (see `sharing`).

    ``names`` says what each gain is for: the projection (of several, the first one), and the unit, label or
    name. Arrays have shape (gains,); the bounds, ``low`` and ``high``, are infinite without any.
    ``of_block`` has the first gain of each block and the one after its last, shape (blocks, 2); -1 of a block
    that is not shared.
    """

    names: tuple[tuple[str, str, str, str], ...]
    initial: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    trainable: NDArray[np.bool_]
    of_block: Int64

    @classmethod
    def of(cls, blocks: Projections) -> Gains:
        """Collect the gains of the shared blocks.

        Raises
        ------
        GraphError
            If projections of one name declare different gains, bounds or trainability.
        """
        names: list[tuple[str, str, str, str]] = []
        of_block = np.full((len(blocks), 2), -1, dtype=np.int64)
        named: dict[str, int] = {}  # first block of each name
        settings: list[tuple[float, float, float, bool]] = []
        for k in np.flatnonzero(blocks.has("share")).tolist():
            block = blocks[k]
            share = block.share
            if share is None:
                continue
            low, high = share.bounds
            low, high = -np.inf if low is None else low, np.inf if high is None else high
            own = share.gain, low, high, block.trainable
            whose = block.source, block.target, block.key
            if share.name in named:
                of_block[k] = of_block[named[share.name]]
                if own != settings[of_block[k, 0]]:
                    differ = f"gain, bounds or trainable differ among the projections of {share.name!r}"
                    raise GraphError(f"{projection_label(*whose)}: {differ}.")
                continue
            what = [share.name] if share.name else share.gain_names(block.pair.n_source, block.pair.n_target)
            of_block[k] = len(names), len(names) + len(what)
            names += [(*whose, part) for part in what]
            settings += [own] * len(what)
            if share.name is not None:
                named[share.name] = k
        table = np.array(settings, dtype=np.float64).reshape(-1, 4)
        return cls(tuple(names), table[:, 0], table[:, 1], table[:, 2], table[:, 3] > 0, of_block)


def order_in_values(attrs: Attributes) -> int:
    """Place of a block in the values: trained synapses, shared and trained ones, shared and fixed, fixed."""
    trainable = attrs.get("trainable", True)
    if "share" not in attrs:
        return 0 if trainable else 3
    return 1 if trainable else 2


def unit_ranges(blocks: Projections, targets: Layout, sources: Layout) -> tuple[Int64, Int64]:
    """First unit, and last unit + 1, of each block's target and source region, shape (blocks, 2) each."""
    found = []
    for layout, number in ((targets, blocks.columns.target), (sources, blocks.columns.source)):
        place = np.array([layout.index.get(region.name, -1) for region in blocks.regions], dtype=np.int64)
        at = place[number]
        found.append(np.stack([layout.ptr[at], layout.ptr[at + 1]], axis=1))
    return found[0], found[1]


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
        If Dale's law applies.
    targets, sources : Layout
    blocks : Projections
        One per block, in the order of ``values``.
    ptr : ndarray of int64, shape (blocks + 1,)
    trainable_synapses : int
        How many leading values are parameters of their own.
    values : ndarray of float, shape (synapses,)
        Shared synapses, which follow the trainable ones, have their base values here.
    group : ndarray of int32, shape (shared synapses,)
        Which gain each shared synapse has.
    gains : Gains
    crow, col : ndarray of int32 (int64 from 2^31 synapses), shapes (targets + 1,), (synapses,)
    perm : ndarray or None
        None if it is the identity.
    synapse_sign : ndarray of int8, shape (synapses,), or None
        In CSR order; only if a projection overrides the sign of its source.
    """

    kind: str
    constrained: bool
    targets: Layout
    sources: Layout
    blocks: Projections
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
        rows, cols = unit_ranges(self.blocks, self.targets, self.sources)
        return np.stack([rows[:, 0], np.diff(rows)[:, 0], cols[:, 0], np.diff(cols)[:, 0]], axis=1)

    def effective_values(self) -> NDArray[np.floating]:
        """Compute the weights in CSR order as the dynamics use them, under Dale's law if it applies."""
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
        """Make a scipy matrix of the effective weights, shape (targets, sources), with parallel synapses."""
        return sp.csr_array((self.effective_values(), self.col, self.crow), shape=self.shape)
