"""Places where a projection could have synapses, and drawing free ones in time proportional to the synapses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectivity import sample_distinct
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.models.synapses import SynapseTable
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.training.select import parts

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Urns:
    """Each projection's possible places, numbered row by row, without the diagonal where it is left out.

    Parameters
    ----------
    start, size, columns : ndarray of int64, shape (projections,)
        First place in a common numbering, places, and places in a row.
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

    def positions(self, table: SynapseTable) -> Int64:
        """Place of each synapse within its projection."""
        row = table.row.cpu().numpy() - self.row_start[self.block]
        col = table.col.cpu().numpy() - self.col_start[self.block]
        found: Int64 = row * self.columns[self.block] + col - (self.no_self[self.block] & (col > row))
        return found

    def split(self, places: Int64) -> tuple[Int64, Int64, Int64]:
        """Projection, row and column (in the whole matrix) of places in the common numbering."""
        block = np.searchsorted(self.start, places, side="right") - 1
        local = places - self.start[block]
        row = local // self.columns[block]
        col = local - row * self.columns[block]
        col += self.no_self[block] & (col >= row)
        return block, row + self.row_start[block], col + self.col_start[block]


def urns_of(net: mRNNBase, weights: SparseWeights, table: SynapseTable) -> Urns:
    """The places of the projections of a table."""
    kind = "recurrent" if weights is parts(net)[0] else "input"
    sites = {(p.source, p.target, p.key): p.site for p in net.graph.projections(kind)}
    there = [sites[name] for name in table.projections]
    targets, sources = net.layout(), net.layout(kind)
    columns = np.array([site.columns for site in there], dtype=np.int64)
    size = columns * np.array([site.n_target for site in there], dtype=np.int64)
    return Urns(
        np.cumsum(size) - size,
        size,
        columns,
        np.array([site.exclude_self for site in there], dtype=bool),
        np.array([targets.ptr[targets.index[name[1]]] for name in table.projections], dtype=np.int64),
        np.array([sources.ptr[sources.index[name[0]]] for name in table.projections], dtype=np.int64),
        np.repeat(np.arange(len(there)), table.lengths.numpy()),
    )


def free_places(rng: np.random.Generator, kept: Int64, kept_count: Int64, count: Int64, urns: Urns) -> Int64:
    """Draw ``count`` different free places of each projection, uniformly, in the common numbering, sorted.

    A drawn number r stands for the r-th free place. Before kept place a_i, the i-th, there are a_i - i free ones, so
    the place is r plus the kept ones with a_i - i <= r: no redrawing, however full the projection is.
    """
    free = urns.size - kept_count
    free_start = np.cumsum(free) - free
    before = np.cumsum(kept_count) - kept_count
    drawn = sample_distinct(rng, count, free)
    rank = drawn + np.repeat(free_start, count)
    block_of_kept = np.repeat(np.arange(len(free)), kept_count)
    free_before = free_start[block_of_kept] + (kept - urns.start[block_of_kept]) - (np.arange(len(kept)) - before[block_of_kept])
    passed = np.searchsorted(free_before, rank, side="right")
    block = np.repeat(np.arange(len(free)), count)
    places: Int64 = urns.start[block] + drawn + passed - before[block]
    return places
