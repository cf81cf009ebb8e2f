"""Own units of a rank among those of the network: currents, held states, recorded units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.distributed.partition import Partition
from sparse_mrnn.distributed.ranks import Ranks
from sparse_mrnn.ops.step import Units
from sparse_mrnn.ops.stream import HeldStates

Int64 = NDArray[np.int64]


class OwnUnits:
    """Selection of a rank's own ``units``, ascending, and their numbers on the rank.

    >>> own = OwnUnits(np.array([2, 3, 7]), torch.device("cpu"))
    >>> [(units.tolist(), values.tolist()) for units, values in
    ...  own.currents([(slice(3, 9), torch.arange(6.0)[:, None])])]
    [([1, 2], [[0.0], [4.0]])]
    """

    def __init__(self, units: Int64, device: torch.device) -> None:
        self.units, self.device = units, device
        self._known: dict[int, tuple[Units, Tensor, Tensor]] = {}

    def _of(self, units: Units) -> tuple[Tensor, Tensor]:
        """Return the numbers among the own units, and the positions within ``units``."""
        if id(units) not in self._known:
            as_range = range(units.start, units.stop) if isinstance(units, slice) else units.tolist()
            numbers = np.array(as_range, dtype=np.int64)
            chosen = np.flatnonzero(np.isin(numbers, self.units))
            local = np.searchsorted(self.units, numbers[chosen])
            found, which = (torch.from_numpy(part).to(self.device) for part in (local, chosen))
            self._known[id(units)] = units, found, which  # kept, so that no other object gets its id
        return self._known[id(units)][1:]

    def currents(self, currents: Sequence[tuple[Units, Tensor]]) -> list[tuple[Units, Tensor]]:
        """Select the direct currents into own units."""
        found: list[tuple[Units, Tensor]] = []
        for units, values in currents:
            local, chosen = self._of(units)
            if len(local):
                found.append((local, values if len(values) == 1 else values.index_select(0, chosen)))
        return found

    def held(self, held: HeldStates) -> HeldStates:
        """Select the held states of own units."""
        x, h = ([(self._of(units)[0], value) for units, value in part] for part in (held.x, held.h))
        return HeldStates(x, h, [self._of(units)[0] for units in held.silent])


class Gathering:
    """Exchange that brings states of units to the ranks that want them: of each, in their order there."""

    def __init__(
        self, ranks: Ranks, partition: Partition, wanted: Sequence[Int64], device: torch.device
    ) -> None:
        units, rank = partition.units(ranks.rank), ranks.rank
        sent = [those[partition.ranks[those] == rank] for those in wanted]
        owner = partition.ranks[wanted[rank]]
        order = np.argsort(np.argsort(owner, kind="stable"))  # they arrive rank after rank
        self.ranks, self.wanted = ranks, len(owner) > 0
        self._counts = np.bincount(owner, minlength=ranks.size).tolist(), [len(those) for those in sent]
        local = np.searchsorted(units, np.concatenate(sent))
        self._local, self._order = (torch.from_numpy(index).to(device) for index in (local, order))

    def __call__(self, own: Tensor) -> Tensor | None:
        """Send states of own units, (own units, ...); return the states this rank wants, None without any."""
        received = own.new_empty(len(self._order), *own.shape[1:])
        arrived = self.ranks.exchange(received, own.index_select(0, self._local), self._counts).wait()
        return arrived.index_select(0, self._order) if self.wanted else None
