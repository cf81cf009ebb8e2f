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
    """What a rank receives and sends in each step, worked out once from the sources of its synapses.

    Parameters
    ----------
    ranks : Ranks
    partition : Partition
    needed : ndarray of int64
        Units of other ranks that units of this one have synapses from, ascending.
    device : torch.device

    Attributes
    ----------
    received, sent : list of int
        Units received from, and sent to, each rank.
    send : Tensor of int64
        The own units sent, rank after rank: once for each rank that needs it.
    """

    def __init__(self, ranks: Ranks, partition: Partition, needed: Int64, device: torch.device) -> None:
        self.ranks, self.n = ranks, len(needed)
        owner = partition.ranks[needed]
        order = np.argsort(owner, kind="stable")  # rank after rank, as messages arrive
        in_order = bool((order == np.arange(len(order))).all())
        arrival = np.argsort(order)
        self._arrival = None if in_order else torch.from_numpy(arrival).to(device)
        self.received = np.bincount(owner, minlength=ranks.size).tolist()
        counts = torch.zeros(ranks.size, dtype=torch.int64, device=ranks.device)
        own_counts = torch.tensor(self.received, dtype=torch.int64, device=ranks.device)
        ones = [1] * ranks.size
        ranks.exchange(counts, own_counts, (ones, ones)).wait()
        self.sent = counts.tolist()
        asked = torch.from_numpy(needed[order]).to(ranks.device)
        wanted = asked.new_empty(sum(self.sent))
        ranks.exchange(wanted, asked, (self.sent, self.received)).wait()
        own = partition.units(ranks.rank)
        self.send = torch.from_numpy(np.searchsorted(own, wanted.cpu().numpy())).to(device)

    @property
    def volume(self) -> int:
        """Units whose activity this rank sends in a step, counted once for each rank that needs it."""
        return len(self.send)

    def begin(self, activities: Sequence[Tensor]) -> Arrival:
        """Send activity to the ranks that need it, and begin to receive the halo's: one message to each rank.

        Parameters
        ----------
        activities : sequence of Tensor, each of shape (own units, batch)
            Of some steps.
        """
        sent = torch.stack([activity.index_select(0, self.send) for activity in activities], dim=1)
        received = sent.new_empty(self.n, *sent.shape[1:])
        return Arrival(self.ranks.exchange(received, sent, (self.received, self.sent)), received, self)

    def begin_back(self, gradients: Tensor) -> Return:
        """Send gradients of the halo's activity back to its owners.

        Parameters
        ----------
        gradients : Tensor, shape (steps, halo units, batch)
        """
        by_unit = gradients.transpose(0, 1)
        if self._arrival is not None:
            in_order = by_unit.new_empty(by_unit.shape)
            by_unit = in_order.index_copy_(0, self._arrival, by_unit)
        received = by_unit.new_empty(len(self.send), *by_unit.shape[1:])
        exchange = self.ranks.exchange(received, by_unit.contiguous(), (self.sent, self.received))
        return Return(exchange, received)

    def by_step(self, received: Tensor) -> Tensor:
        """What arrived, (halo units, steps, batch), as (steps, halo units, batch), in the order of units."""
        found = received if self._arrival is None else received.index_select(0, self._arrival)
        return found.transpose(0, 1).contiguous()


class Arrival:
    """Activity of the halo on its way."""

    def __init__(self, exchange: Exchange, received: Tensor, halo: Halo) -> None:
        self._exchange, self._received, self._halo = exchange, received, halo

    def wait(self) -> Tensor:
        """The activity of the halo, shape (steps, halo units, batch)."""
        self._exchange.wait()
        return self._halo.by_step(self._received)


class Return:
    """Gradients of activity on their way back to the owners of the units."""

    def __init__(self, exchange: Exchange, received: Tensor) -> None:
        self._exchange, self._received = exchange, received

    def wait(self) -> Tensor:
        """Gradients of the activity that was sent, shape (sent units, steps, batch); see `Halo.send`."""
        self._exchange.wait()
        return self._received
