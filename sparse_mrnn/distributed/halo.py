"""The halo of a rank: units of other ranks that its units have synapses from, and the messages about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.distributed.partition import Partition
from sparse_mrnn.distributed.ranks import Exchange, Ranks

Int64 = NDArray[np.int64]


class Halo:
    """The units that a rank receives and sends in each step, from the sources of its synapses.

    The units ``needed``, ascending, are those of other ranks that own units have synapses from. ``received``
    and ``sent`` count units by rank; ``send`` has the own units sent, rank after rank: once for each rank
    that needs it.
    """

    def __init__(self, ranks: Ranks, partition: Partition, needed: Int64, device: torch.device) -> None:
        self.ranks, self.n = ranks, len(needed)
        owner = partition.ranks[needed]
        order = np.argsort(owner, kind="stable")  # rank after rank, as messages arrive
        in_order = bool((order == np.arange(len(order))).all())
        arrival = np.argsort(order)
        self._arrival = None if in_order else torch.from_numpy(arrival).to(device)
        self.received = np.bincount(owner, minlength=ranks.size).tolist()
        counts = torch.tensor(self.received, dtype=torch.int64, device=ranks.device)
        ones = [1] * ranks.size
        self.sent = ranks.exchange(torch.zeros_like(counts), counts, (ones, ones)).wait().tolist()
        asked = torch.from_numpy(needed[order]).to(ranks.device)
        wanted = ranks.exchange(asked.new_empty(sum(self.sent)), asked, (self.sent, self.received)).wait()
        own = partition.units(ranks.rank)
        self.send = torch.from_numpy(np.searchsorted(own, wanted.cpu().numpy())).to(device)

    @property
    def volume(self) -> int:
        """Units whose activity this rank sends in a step, counted once for each rank that needs it."""
        return len(self.send)

    def begin(self, activities: Sequence[Tensor]) -> Exchange:
        """Send activity of some steps, each (own units, batch), to the ranks that need it: a message to each.

        The halo's activity arrives with shape (steps, halo units, batch).
        """
        sent = torch.stack([activity.index_select(0, self.send) for activity in activities], dim=1)
        received = sent.new_empty(self.n, *sent.shape[1:])
        return self.ranks.exchange(received, sent, (self.received, self.sent), self._by_step)

    def begin_back(self, gradients: Tensor) -> Exchange:
        """Send gradients of the halo's activity, (steps, halo units, batch), back to its owners.

        Those of the activity that was sent arrive with shape (sent units, steps, batch); see ``send``.
        """
        by_unit = gradients.transpose(0, 1)
        if self._arrival is not None:
            in_order = by_unit.new_empty(by_unit.shape)
            by_unit = in_order.index_copy_(0, self._arrival, by_unit)
        received = by_unit.new_empty(len(self.send), *by_unit.shape[1:])
        return self.ranks.exchange(received, by_unit.contiguous(), (self.sent, self.received))

    def _by_step(self, received: Tensor) -> Tensor:
        """Order what arrived, (halo units, steps, batch), as (steps, halo units, batch)."""
        found = received if self._arrival is None else received.index_select(0, self._arrival)
        return found.transpose(0, 1).contiguous()
