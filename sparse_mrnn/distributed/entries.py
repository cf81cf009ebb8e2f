"""Numbers that ranks have of their units, as one array in unit order: gathered, and divided anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.declaration.connectivity import ranges
from sparse_mrnn.distributed.partition import Partition
from sparse_mrnn.distributed.ranks import Ranks

Int64 = NDArray[np.int64]
PIECE = 2**22
"""Numbers that ranks send at once."""


@dataclass(frozen=True)
class _Piece:
    """A range of the whole array: where it is there and here, and how it comes from the ranks."""

    whole: slice
    own: slice
    sizes: list[int]
    slots: Tensor


class Entries:
    """Entries of an array that ranks share out: some of each unit, in the order of all units.

    Parameters
    ----------
    ranks : Ranks
    partition : Partition
    counts : ndarray of int64, shape (own units,)
        Entries of each own unit.
    order : ndarray of int64, shape (own entries,)
        Where each own entry, unit by unit, is among those of this rank's tensors one after another; several
        may be one number there.
    lengths : sequence of int
        Sizes of these tensors.

    Attributes
    ----------
    shape : tuple of int
        Of the whole array.
    """

    def __init__(
        self, ranks: Ranks, partition: Partition, counts: Int64, order: Int64, lengths: Sequence[int]
    ) -> None:
        self.ranks, self.lengths = ranks, list(lengths)
        self._owner, self._units = partition.ranks, partition.units(ranks.rank)
        self._order = torch.from_numpy(order)
        sizes = np.bincount(partition.ranks, minlength=ranks.size).tolist()
        gathered = ranks.gather_rows(torch.from_numpy(counts).to(ranks.device), sizes)
        self._counts = np.empty(len(partition.ranks), dtype=np.int64)
        self._counts[np.argsort(partition.ranks, kind="stable")] = gathered.cpu().numpy()
        self._start = np.concatenate([[0], np.cumsum(self._counts)])
        self._own_start = np.concatenate([[0], np.cumsum(counts)])
        self.shape = (int(self._start[-1]),)

    def gather(self, tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor | None:
        """The whole array on rank 0, which has a piece of it more at a time; None on the others.

        Parameters
        ----------
        tensors : sequence of Tensor
            This rank's, of the ``lengths``.
        dtype : torch.dtype
            The same on all ranks.
        """
        flat = torch.cat([torch.empty(0, dtype=dtype), *(t.detach().cpu().to(dtype) for t in tensors)])
        whole = torch.empty(self.shape, dtype=dtype) if self.ranks.rank == 0 else None
        for piece in self._pieces():
            sent = flat.index_select(0, self._order[piece.own]).to(self.ranks.device)
            received = self.ranks.gather_rows(sent, piece.sizes, to=0)
            if whole is not None:
                whole[piece.whole][piece.slots] = received.cpu()
        return whole

    def scatter(self, whole: Tensor | None, dtype: torch.dtype) -> list[Tensor]:
        """This rank's tensors, on the CPU, of the whole array, which rank 0 gives."""
        flat = torch.empty(sum(self.lengths), dtype=dtype)
        nothing = [0] * self.ranks.size
        for piece in self._pieces():
            own = self._order[piece.own]
            received = torch.empty(len(own), dtype=dtype, device=self.ranks.device)
            here, sizes = received[:0], nothing
            if whole is not None:
                here = whole[piece.whole][piece.slots].to(self.ranks.device)
                sizes = piece.sizes
            self.ranks.exchange(received, here, ([len(own), *nothing[1:]], sizes)).wait()
            flat[own] = received.cpu()
        return list(torch.split(flat, self.lengths))

    def _pieces(self) -> Iterator[_Piece]:
        ends = np.searchsorted(self._start, np.arange(PIECE, self.shape[0], PIECE))
        bounds = np.unique([0, *ends, len(self._counts)])
        for first, last in pairwise(bounds):
            owner, counts = self._owner[first:last], self._counts[first:last]
            sizes = np.bincount(owner, weights=counts, minlength=self.ranks.size).astype(np.int64)
            by_rank = np.argsort(owner, kind="stable")
            begin = self._start[first]
            slots = ranges(self._start[first:last][by_rank] - begin, counts[by_rank])
            own = self._own_start[np.searchsorted(self._units, [first, last])]
            whole = slice(int(begin), int(self._start[last]))
            yield _Piece(whole, slice(*own.tolist()), sizes.tolist(), torch.from_numpy(slots))


class Alike:
    """An array that all ranks have alike, used as `Entries`; gathering it takes no messages."""

    def __init__(self, ranks: Ranks, shape: tuple[int, ...]) -> None:
        self.ranks, self.shape = ranks, shape

    def gather(self, tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor | None:
        """The array of rank 0, there."""
        return tensors[0].detach().cpu().to(dtype) if self.ranks.rank == 0 else None

    def scatter(self, whole: Tensor | None, dtype: torch.dtype) -> list[Tensor]:
        """The array that rank 0 gives, on the CPU."""
        found = self.ranks.broadcast_tensors(None if whole is None else {"it": whole})["it"]
        return [found.to(dtype)]
