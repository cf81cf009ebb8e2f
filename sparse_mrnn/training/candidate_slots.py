"""Slots where a projection could have a synapse, and drawing free ones in O(synapses)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.declaration.connectivity import sample_distinct
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.synapse_table import SynapseTable
from sparse_mrnn.models.weights import SparseWeights

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class CandidateSlots:
    """Each projection's possible synapses, numbered row by row, without the diagonal where it is left out.

    Parameters
    ----------
    start, size, columns : ndarray of int64, shape (projections,)
        First slot in a common numbering, slots, and slots in a row.
    no_self : ndarray of bool, shape (projections,)
    row_start, col_start : ndarray of int64, shape (projections,)
        First unit of the target and of the source.
    block : ndarray of int64, shape (synapses,)
        Projection of each synapse.
    """

    start: Int64
    size: Int64
    columns: Int64
    no_self: NDArray[np.bool_]
    row_start: Int64
    col_start: Int64
    block: Int64

    @classmethod
    def of(cls, net: mRNNBase, weights: SparseWeights, table: SynapseTable) -> CandidateSlots:
        """The slots of the projections of a table."""
        by_name = {(p.source, p.target, p.key): p.pair for p in net.graph.projections(weights.kind)}
        pairs = [by_name[name] for name in table.projections]
        targets, sources = weights.targets, weights.sources
        columns = np.array([pair.columns for pair in pairs], dtype=np.int64)
        size = columns * np.array([pair.n_target for pair in pairs], dtype=np.int64)
        return cls(
            start=np.cumsum(size) - size,
            size=size,
            columns=columns,
            no_self=np.array([pair.exclude_self for pair in pairs], dtype=bool),
            row_start=targets.ptr[[targets.index[target] for _, target, _ in table.projections]],
            col_start=sources.ptr[[sources.index[source] for source, _, _ in table.projections]],
            block=np.repeat(np.arange(len(pairs)), table.lengths.numpy()),
        )

    def occupied(self, table: SynapseTable) -> Int64:
        """Slot of each synapse within its projection."""
        row = table.row.cpu().numpy() - self.row_start[self.block]
        col = table.col.cpu().numpy() - self.col_start[self.block]
        slots: Int64 = row * self.columns[self.block] + col - (self.no_self[self.block] & (col > row))
        return slots

    def locate(self, slots: Int64) -> tuple[Int64, Int64, Int64]:
        """Projection, row and column (in the whole matrix) of slots in the common numbering."""
        block = np.searchsorted(self.start, slots, side="right") - 1
        local = slots - self.start[block]
        row = local // self.columns[block]
        col = local - row * self.columns[block]
        col += self.no_self[block] & (col >= row)
        return block, row + self.row_start[block], col + self.col_start[block]

    def draw_free(self, rng: np.random.Generator, kept: Int64, kept_count: Int64, count: Int64) -> Int64:
        """Draw ``count`` different free slots of each projection, uniformly, in the common numbering, sorted.

        A drawn number r stands for the r-th free slot. Before the i-th kept slot a_i there are a_i - i free
        ones, so the slot is r plus the kept ones with a_i - i <= r: no draw fails, however full a projection.

        Parameters
        ----------
        rng : numpy Generator
        kept : ndarray of int64
            Slots that are taken, in the common numbering, sorted.
        kept_count, count : ndarray of int64, shape (projections,)
            How many of them each projection has, and how many to draw.
        """
        free = self.size - kept_count
        free_start = np.cumsum(free) - free
        before = np.cumsum(kept_count) - kept_count
        drawn = sample_distinct(rng, count, free)
        rank = drawn + np.repeat(free_start, count)
        block_of_kept = np.repeat(np.arange(len(free)), kept_count)
        nth = np.arange(len(kept)) - before[block_of_kept]
        free_before = free_start[block_of_kept] + (kept - self.start[block_of_kept]) - nth
        passed = np.searchsorted(free_before, rank, side="right")
        block = np.repeat(np.arange(len(free)), count)
        slots: Int64 = self.start[block] + drawn + passed - before[block]
        return slots
