"""The parameters of a sharded network as those of the whole: of synapses by target, of biases by unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.distributed.declared import bits, graph_digests, hash_sum, unit_sum
from sparse_mrnn.distributed.entries import Alike, Entries, Int64
from sparse_mrnn.distributed.network import ShardedRNN
from sparse_mrnn.models.saving import constructor_settings
from sparse_mrnn.models.weights import SparseWeights

MAY_DIFFER = ("backend", "batch_first", "spectral_radius")
"""Settings that change nothing in what a network computes."""
Matrix = Sequence[tuple[SparseWeights, Int64]]
"""The parts of a weight matrix that a rank has, and the numbers of their sources in the network."""


@dataclass(frozen=True, eq=False)
class WholeParameter:
    """A parameter of the whole network, and what this rank has of it.

    Parameters
    ----------
    name : str
    parts : list of Tensor
        This rank's; there may be none.
    entries : Entries or Alike
        Which entries of the whole these are.
    dtype : torch.dtype
        That of the parts, on all ranks.
    """

    name: str
    parts: list[Tensor]
    entries: Entries | Alike
    dtype: torch.dtype


def whole_parameters(net: ShardedRNN) -> Iterator[WholeParameter]:
    """Every parameter of the network, in the same order on all ranks, which work it out together.

    Values of synapses come by target unit, then by source unit, then by projection; biases, initial states
    and time constants by unit, those of a region once for each of its units; gains as they are.
    """
    for kind, matrix in _matrices(net).items():
        values: list[Tensor] = [weights.values for weights, _ in matrix]
        yield WholeParameter(f"{kind}.values", values, _synapses(net, matrix), values[0].dtype)
        gains = matrix[0][0].gains
        if gains is not None:
            yield WholeParameter(f"{kind}.gains", [gains], Alike(net.ranks, tuple(gains.shape)), gains.dtype)
    units = net.units
    for name, indices in (("bias", "bias"), ("init", "init"), ("tau_logit", "alpha")):
        parameter, own_units = getattr(units, name), getattr(units, f"{indices}_units").cpu().numpy()
        parts = [] if parameter is None else [parameter]
        counts = np.bincount(own_units, minlength=len(net.own_units))
        order = getattr(units, f"{indices}_of").cpu().numpy()
        lengths = [part.numel() for part in parts]
        entries = Entries(net.ranks, net.partition, counts, order, lengths)
        yield WholeParameter(name, parts, entries, units.dtype)


def synapse_sums(net: ShardedRNN) -> dict[str, int]:
    """Sums over all ranks of hashes of what a network has beside its parameters."""
    own = torch.from_numpy(net.own_units)
    units = net.units
    fixed = unit_sum(own, [units.base_firing, units.initial_x, units.base_alpha[:, 0]])
    sums = {"fixed values of units": fixed}
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
    lengths = [weights.values.numel() for weights, _ in matrix]
    return Entries(net.ranks, net.partition, counts, order, lengths)


def description(net: ShardedRNN) -> dict[str, Any]:
    """What a network must have alike to go on from another's parameters; every rank calls it."""
    settings = constructor_settings(net.declared)
    return {
        "class": type(net.declared).__name__,
        "settings": {name: value for name, value in settings.items() if name not in MAY_DIFFER},
        **{f"declared {name}": value for name, value in graph_digests(net.graph).items()},
        **synapse_sums(net),
    }
