"""Parameters of ranks as those of the whole network, in unit order: gathered, and divided anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.declaration.connectivity import ranges
from sparse_mrnn.distributed.declared import bits, hash_sum, unit_sum
from sparse_mrnn.distributed.network import ShardedRNN
from sparse_mrnn.distributed.ranks import Ranks
from sparse_mrnn.models.learnt_values import LEARNT_VALUES
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.state.describe import MAY_DIFFER

Int64 = NDArray[np.int64]
Matrix = Sequence[tuple[SparseWeights, Int64]]
"""The parts of a weight matrix that a rank has, and the numbers of their sources in the network."""
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
    """Entries of an array, in the order of all units, of which a rank has some of each of its units.

    Each own unit has so many ``counts``, shape (own units,). The ``order``, shape (own entries,), is where
    each own entry, unit by unit, is among those of this rank's tensors, of these ``lengths``, one after
    another; several may be one number there. The ``shape`` is that of the whole array.
    """

    def __init__(self, net: ShardedRNN, counts: Int64, order: Int64, lengths: Sequence[int]) -> None:
        ranks, partition = net.ranks, net.partition
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
        """The whole array on rank 0, which has a piece of it more at a time; None on the others."""
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
            flat[own] = self.ranks.exchange(received, here, ([len(own), *nothing[1:]], sizes)).wait().cpu()
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
    """Entries of an array that all ranks have alike: `Entries` without messages to gather it."""

    def __init__(self, ranks: Ranks, shape: tuple[int, ...]) -> None:
        self.ranks, self.shape = ranks, shape

    def gather(self, tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor | None:
        """The array of rank 0, there."""
        return tensors[0].detach().cpu().to(dtype) if self.ranks.rank == 0 else None

    def scatter(self, whole: Tensor | None, dtype: torch.dtype) -> list[Tensor]:
        """The array that rank 0 gives, on the CPU."""
        found = self.ranks.broadcast_tensors(None if whole is None else {"it": whole})["it"]
        return [found.to(dtype)]


@dataclass(frozen=True, eq=False)
class WholeTensor:
    """A tensor of the whole network, and the parts of it that this rank has, which may be none.

    The type ``dtype`` is the same on all ranks.
    """

    name: str
    parts: list[Tensor]
    entries: Entries | Alike
    dtype: torch.dtype

    @classmethod
    def alike(cls, ranks: Ranks, name: str, tensor: Tensor) -> WholeTensor:
        """A tensor that all ranks have alike."""
        return cls(name, [tensor], Alike(ranks, tuple(tensor.shape)), tensor.dtype)


def whole_parameters(net: ShardedRNN) -> Iterator[WholeTensor]:
    """Every parameter of the network, in the same order on all ranks, which work it out together.

    Values of synapses come by target unit, then by source unit, then by projection; biases, initial states
    and time constants by unit, those of a region once for each of its units; gains as they are.
    """
    for kind, matrix in _matrices(net).items():
        values: list[Tensor] = [weights.values for weights, _ in matrix]
        yield WholeTensor(f"{kind}.values", values, _synapses(net, matrix), values[0].dtype)
        gains = matrix[0][0].gains
        if gains is not None:
            yield WholeTensor.alike(net.ranks, f"{kind}.gains", gains)
    units = net.units
    for name, indices in ((value.parameter, value.index) for value in LEARNT_VALUES):
        parameter, own_units = getattr(units, name), getattr(units, f"{indices}_units").cpu().numpy()
        parts = [] if parameter is None else [parameter]
        counts = np.bincount(own_units, minlength=len(net.own_units))
        order = getattr(units, f"{indices}_of").cpu().numpy()
        entries = Entries(net, counts, order, [part.numel() for part in parts])
        yield WholeTensor(name, parts, entries, units.dtype)


def synapse_sums(net: ShardedRNN) -> dict[str, int]:
    """Sums over all ranks of hashes of what a network has beside its parameters."""
    own, units = torch.from_numpy(net.own_units), net.units
    fixed = [units.base_firing, units.initial_x, units.base_alpha[:, 0]]
    sums = {"fixed values of units": unit_sum(own, fixed)}
    for kind, matrix in _matrices(net).items():
        sums[f"{kind} synapses"] = sums[f"fixed {kind} weights"] = 0
        for weights, sources in matrix:
            key = _keys(net, weights, sources)
            frozen = [column[weights.values.numel() :] for column in key]
            sums[f"{kind} synapses"] += hash_sum(key)
            sums[f"fixed {kind} weights"] += hash_sum([*frozen, bits(weights.frozen)])
    found = net.ranks.sum(torch.tensor([*sums.values()], device=net.ranks.device)).tolist()
    return dict(zip(sums, found, strict=True))


def _matrices(net: ShardedRNN) -> dict[str, Matrix]:
    shard = net.shard
    recurrent = [(shard.own, net.own_units), (shard.cut, shard.halo_units)]
    return {"recurrent": recurrent, "input": [(shard.inputs, np.arange(net.n_inputs))]}


def _keys(net: ShardedRNN, weights: SparseWeights, sources: Int64) -> list[Int64]:
    """Number of the target, of the source and of the projection of every synapse, in projection order."""
    table = weights.table()
    row, col = net.own_units[table.row.cpu().numpy()], sources[table.col.cpu().numpy()]
    return [row, col, np.repeat(np.arange(len(table.projections)), table.lengths.numpy())]


def _synapses(net: ShardedRNN, matrix: Matrix) -> Entries:
    keys = [[c[: w.values.numel()] for c in _keys(net, w, sources)] for w, sources in matrix]
    row, col, projection = (np.concatenate(column) for column in zip(*keys, strict=True))
    order = np.lexsort((projection, col, row))
    counts = np.bincount(np.searchsorted(net.own_units, row), minlength=len(net.own_units))
    return Entries(net, counts, order, [weights.values.numel() for weights, _ in matrix])


def description(net: ShardedRNN) -> dict[str, Any]:
    """Description that must match before parameters are loaded; every rank calls it.

    Ranks draw the synapses anew, so the seed and the rules are part of it.
    """
    settings = net.declared.settings()
    left_out = set(MAY_DIFFER) - {"seed", "dtype"}
    return {
        "settings": {name: value for name, value in settings.items() if name not in left_out},
        **{f"declared {name}": value for name, value in net.digests.items()},
        **synapse_sums(net),
    }
