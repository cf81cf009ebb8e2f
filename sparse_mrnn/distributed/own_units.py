"""From units of the whole network to those that a rank has: currents, held states, recorded units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.distributed.partition import Partition
from sparse_mrnn.distributed.ranks import Ranks
from sparse_mrnn.ops.streaming import HeldStates, Units

Int64 = NDArray[np.int64]


class OwnUnits:
    """Which of some units are a rank's own, and their numbers there.

    Parameters
    ----------
    units : ndarray of int64
        Own units, ascending.
    device : torch.device

    Examples
    --------
    >>> own = OwnUnits(np.array([2, 3, 7]), torch.device("cpu"))
    >>> [(units.tolist(), values.tolist()) for units, values in
    ...  own.currents([(slice(3, 9), torch.arange(6.0)[:, None])])]
    [([1, 2], [[0.0], [4.0]])]
    """

    def __init__(self, units: Int64, device: torch.device) -> None:
        self.units, self.device = units, device
        self._known: dict[int, tuple[Units, Tensor, Tensor]] = {}

    def _of(self, units: Units) -> tuple[Tensor, Tensor]:
        """Numbers among the own units, and which of ``units`` these are."""
        if id(units) not in self._known:
            as_range = range(units.start, units.stop) if isinstance(units, slice) else units.tolist()
            numbers = np.array(as_range, dtype=np.int64)
            chosen = np.flatnonzero(np.isin(numbers, self.units))
            local = np.searchsorted(self.units, numbers[chosen])
            found, which = (torch.from_numpy(part).to(self.device) for part in (local, chosen))
            self._known[id(units)] = units, found, which  # kept, so that no other object gets its id
        return self._known[id(units)][1:]

    def currents(self, currents: Sequence[tuple[Units, Tensor]]) -> list[tuple[Units, Tensor]]:
        """Direct currents into own units."""
        found: list[tuple[Units, Tensor]] = []
        for units, values in currents:
            local, chosen = self._of(units)
            if len(local):
                found.append((local, values if len(values) == 1 else values.index_select(0, chosen)))
        return found

    def held(self, held: HeldStates) -> HeldStates:
        """What interventions hold of own units."""
        x, h = ([(self._of(units)[0], value) for units, value in part] for part in (held.x, held.h))
        return HeldStates(x, h, [self._of(units)[0] for units in held.silent])


class Gathering:
    """Brings states of some units of the network to rank 0.

    Parameters
    ----------
    ranks : Ranks
    partition : Partition
    units : ndarray of int64
        In the order in which they are wanted.
    device : torch.device
    """

    def __init__(self, ranks: Ranks, partition: Partition, units: Int64, device: torch.device) -> None:
        owner = partition.ranks[units]
        by_rank = np.argsort(owner, kind="stable")
        own = units[by_rank][owner[by_rank] == ranks.rank]
        local = np.searchsorted(partition.units(ranks.rank), own)
        self.ranks, self.sizes = ranks, np.bincount(owner, minlength=ranks.size).tolist()
        self._local = torch.from_numpy(local).to(device)
        self._order = torch.from_numpy(np.argsort(by_rank)).to(device)

    def __call__(self, own: Tensor) -> Tensor | None:
        """Of states of the own units, (own units, ...), those wanted of all ranks; on rank 0, else None."""
        found = self.ranks.gather_rows(own.index_select(0, self._local), self.sizes, to=0)
        return found.index_select(0, self._order) if self.ranks.rank == 0 else None
