"""Estimate of what each rank of a divided network will hold, send and receive; nothing is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.filesize import decimal

from sparse_mrnn.declaration.graph import Projection, RegionGraph
from sparse_mrnn.display import SummaryTable
from sparse_mrnn.distributed.partition import Partition, partition
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.models.delays import delay_steps

Float = NDArray[np.float64]
SYNAPSE_INDEX_BYTES = 8
"""Column of a synapse and its order among the values; its value and effective weight come on top."""
STATE_COPIES = 4
"""Arrays over a rank's units in a simulation: x, h, and two for the step."""


@dataclass(frozen=True, eq=False)
class RankEstimate:
    """Expected size of one rank, and its messages of a step.

    Parameters
    ----------
    units : int
    synapses, remote_synapses : float
        Synapses onto its units, inputs included; and those among them from units of other ranks.
    received, sent : float
        Number of units whose activity it receives, and sends (once for each rank that needs it).
    memory : float
        Bytes of a simulation: synapses, states, and the halo's activity.
    """

    units: int
    synapses: float
    remote_synapses: float
    received: float
    sent: float
    memory: float


@dataclass(frozen=True, eq=False)
class Estimate:
    """Estimate of a network on several ranks, before it is drawn.

    Parameters
    ----------
    n_units : int
    ranks : tuple of RankEstimate
    messages : int
        Messages of an exchange: pairs of ranks of which one needs activity of the other.
    steps_per_message : int
        Steps between two exchanges, each with the activity of so many steps: the shortest delay of a
        projection that the partition cuts.
    """

    n_units: int
    ranks: tuple[RankEstimate, ...]
    messages: int
    steps_per_message: int

    @property
    def volume(self) -> float:
        """Units sent in a step, by all ranks."""
        return sum(rank.sent for rank in self.ranks)

    @property
    def all_gather(self) -> int:
        """Units sent in a step if every rank received all others' activity."""
        return self.n_units * (len(self.ranks) - 1)

    def table(self) -> SummaryTable:
        """Make a table with a row for each rank."""
        rows = [
            [
                str(k), f"{r.units:,}", f"{r.synapses:,.0f}", f"{r.remote_synapses / max(r.synapses, 1):.1%}",
                f"{r.received:,.0f}", f"{r.sent:,.0f}", decimal(int(r.memory)),
            ]
            for k, r in enumerate(self.ranks)
        ]  # fmt: skip
        remote = sum(rank.remote_synapses for rank in self.ranks)
        synapses = sum(rank.synapses for rank in self.ranks)
        share = f", {self.all_gather / self.volume:.1f}x less than all-gather" if self.volume else ""
        units, messages, every = f"{self.volume:,.0f} units", f"in {self.messages} messages", "a step"
        if self.steps_per_message > 1:
            units, every = f"{units} a step", f"every {self.steps_per_message} steps"
        title = f"{units} {messages} {every}{share}"
        remotes = f"{remote:,.0f} of {synapses:,.0f} synapses are remote ({remote / max(synapses, 1):.1%})"
        columns = ["rank", "units", "synapses", "remote", "units received", "units sent", "memory"]
        return SummaryTable([title, remotes], columns, rows)


def estimate(
    graph: RegionGraph, size: int, how: str | ArrayLike = "balanced", *, dt: float = 10.0, batch: int = 1,
    itemsize: int = 4,
) -> Estimate:
    """Estimate what each rank of a network will hold and exchange; nothing is drawn.

    Explicit synapses are counted. For a rule, a source unit is expected to be needed by a rank with
    probability 1 - exp(-s), where s is its expected number of synapses onto that rank's units.

    Parameters
    ----------
    graph : RegionGraph
    size : int
        Ranks.
    how : str or array
        As for `partition`.
    dt : float
        Time step in ms, which delays are counted in.
    batch : int
        Trials.
    itemsize : int
        Bytes of a number: 4 or 8.

    Raises
    ------
    DistributedError
        As `partition`.
    ConfigError
        If the shortest delay between ranks is shorter than a time step.

    Examples
    --------
    >>> g = RegionGraph()
    >>> for name in "ab": g.add_region(name, 100); g.add_projection(name, name)
    >>> g.add_projection("a", "b", fan_in=1)
    >>> [round(rank.received) for rank in estimate(g, 2, "regions").ranks]
    [63, 0]
    """
    parts, layout = partition(graph, size, how), Layout.of(graph)
    counted = [_Counted(graph, layout, parts, rank) for rank in range(size)]
    between = np.array([c.needed_of for c in counted])  # (receiver, owner)
    sent = between.sum(axis=0)
    remote = [projection for count in counted for projection in count.remote_projections]
    every = 1
    if remote:
        p = min(remote, key=lambda projection: projection.delay or 0.0)
        delay = np.array([p.delay], dtype=np.float64)
        every = int(delay_steps(delay, dt, lambda _: (p.source, p.target, p.key))[0])
    ranks = []
    for rank, count in enumerate(counted):
        units = len(parts.units(rank))
        received = float(between[rank].sum())
        states = (STATE_COPIES * units + every * (received + sent[rank])) * batch * itemsize
        memory = count.synapses * (2 * itemsize + SYNAPSE_INDEX_BYTES) + 8 * units + states
        synapses = count.synapses, count.remote
        ranks.append(RankEstimate(units, *synapses, received, float(sent[rank]), memory))
    return Estimate(layout.n, tuple(ranks), int((between > 0.5).sum()), every)


class _Counted:
    """Expected synapses onto the units of a rank, and the units it needs of each rank."""

    def __init__(self, graph: RegionGraph, layout: Layout, parts: Partition, rank: int) -> None:
        own, ptr = parts.ranks == rank, layout.ptr
        per_region: Float = np.add.reduceat(own, ptr[:-1], dtype=np.float64)
        self.synapses = self.remote = 0.0
        self.remote_projections: list[Projection] = []
        expected = np.zeros(len(layout.regions))  # synapses of each source unit onto the rank, by region
        certain = np.zeros(layout.n, dtype=bool)
        for projection in graph.projections():
            target, source = layout.index[projection.target], layout.index.get(projection.source)
            if not per_region[target]:
                continue
            rows, weights, remote = own[ptr[target] : ptr[target + 1]], projection.weights, 0.0
            if weights is not None:
                cols = weights[np.flatnonzero(rows)].indices
                synapses: float = len(cols)
                if source is not None:  # an input is whole on every rank
                    certain[ptr[source] + cols] = True
                    remote = int((~own[ptr[source] + cols]).sum())
            else:
                synapses = projection.expected_synapses * rows.mean()
                if source is not None:
                    n = layout.regions[source].n
                    expected[source] += synapses / n
                    remote = synapses * (1 - per_region[source] / n)
            self.synapses += synapses
            self.remote += remote
            if remote > 0:
                self.remote_projections.append(projection)
        of_region = np.repeat(-np.expm1(-expected), np.diff(ptr))
        needed = np.where(certain, 1.0, of_region) * ~own
        by_owner = np.bincount(parts.ranks, weights=needed, minlength=parts.size)
        self.needed_of: Float = by_owner.astype(np.float64)
