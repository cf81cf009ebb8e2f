"""The halo of a rank: units of other ranks that its units have synapses from, and the messages about them."""

from __future__ import annotations

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

    def begin(self, h: Tensor) -> Arrival:
        """Send activity to the ranks that need it, and begin to receive the halo's.

        Parameters
        ----------
        h : Tensor, shape (own units, ...)
        """
        sent = h.index_select(0, self.send)
        received = h.new_empty(self.n, *h.shape[1:])
        return Arrival(self.ranks.exchange(received, sent, (self.received, self.sent)), received, self)

    def begin_back(self, gradient: Tensor) -> Return:
        """Send the gradient of the halo's activity back to its owners.

        Parameters
        ----------
        gradient : Tensor, shape (halo units, batch)
        """
        if self._arrival is not None:
            in_order = torch.empty_like(gradient)
            gradient = in_order.index_copy_(0, self._arrival, gradient)
        received = gradient.new_empty(len(self.send), *gradient.shape[1:])
        exchange = self.ranks.exchange(received, gradient.contiguous(), (self.sent, self.received))
        return Return(exchange, received, self.send)

    def in_unit_order(self, received: Tensor) -> Tensor:
        """What arrived, by unit, shape (halo units, ...)."""
        return received if self._arrival is None else received.index_select(0, self._arrival)


class Arrival:
    """Activity of the halo on its way."""

    def __init__(self, exchange: Exchange, received: Tensor, halo: Halo) -> None:
        self._exchange, self._received, self._halo = exchange, received, halo

    def wait(self) -> Tensor:
        """The activity of the halo, shape (halo units, ...)."""
        self._exchange.wait()
        return self._halo.in_unit_order(self._received)


class Return:
    """Gradients of activity on their way back to the owners of the units."""

    def __init__(self, exchange: Exchange, received: Tensor, send: Tensor) -> None:
        self._exchange, self._received, self._send = exchange, received, send

    def add_to(self, gradient: Tensor) -> None:
        """Add them to the gradient of the own units' activity, shape (own units, batch)."""
        self._exchange.wait()
        gradient.index_add_(0, self._send, self._received)
