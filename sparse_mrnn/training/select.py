"""Selection of projections by source, target and key, and the owners of each parameter's entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.errors import TrainingError, UnknownNameError, suggest
from sparse_mrnn.models.learnt_values import LEARNT_VALUES
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.models.weights import SparseWeights


def select(
    net: mRNNBase, source: str | None, target: str | None, key: str | None = None, *, optional: bool = False
) -> tuple[SparseWeights, list[ProjectionKey]]:
    """Select the weights, and the projections from ``source`` to ``target`` (None: all recurrent, any key).

    They are those of chemical synapses; with ``optional``, there may be none.

    Raises
    ------
    UnknownNameError
        If a region does not exist, or nothing connects the two.
    """
    kind, numbers = net.projections(source, target, key)
    weights = net.weights(kind)
    found = [weights.all_projections[k] for k in numbers]
    if not found and not optional and (source, target, key) != (None, None, None):
        start, end = ("any region" if name is None else repr(name) for name in (source, target))
        known = [f"{s} -> {t}" + ("" if k == "default" else f" ({k})") for s, t, k in weights.all_projections]
        wanted = f"{source or ''} -> {target or ''}" + (f" ({key})" if key else "")
        hint = suggest(wanted, known, what="projections")
        raise UnknownNameError(f"no projection {start} -> {end}{f' with key {key!r}' if key else ''}. {hint}")
    return weights, found


def trainable_only(weights: SparseWeights, names: list[ProjectionKey], what: str) -> list[ProjectionKey]:
    """Keep the projections that have a trained parameter per synapse, in the order of the values.

    Raises
    ------
    TrainingError
        If projections were chosen, and none has one.
    """
    inside = set(names)
    kept = [name for name in weights.projections[: weights.trainable_projections] if name in inside]
    if names and not kept:
        raise nothing_to_change(weights, names, what)
    return kept


def labels(names: Sequence[ProjectionKey]) -> str:
    """The first three of some projections, as messages name them, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(projection_label(*name) for name in names[:3]) + more


def nothing_to_change(weights: SparseWeights, names: list[ProjectionKey], what: str) -> TrainingError:
    """The error that says why none of some projections can be changed synapse by synapse."""
    shown = labels(names)
    one = len(names) == 1
    if any(weights.is_shared(name) and weights.is_trainable(name) for name in names):
        has = "has gains that its" if one else "have gains that their"
        return TrainingError(f"{what}: {shown} {has} synapses share, not a parameter each.")
    if any(name not in weights.projections for name in names):
        return TrainingError(f"{what}: {shown} {'has' if one else 'have'} low rank, and no synapses.")
    return TrainingError(f"{what}: {shown} {'is' if one else 'are'} frozen; call unfreeze first.")


def slices(weights: SparseWeights, names: list[ProjectionKey]) -> Iterator[tuple[ProjectionKey, slice]]:
    """Ranges of the values of trainable projections."""
    inside = set(names)
    ptr = weights.ptr.tolist()
    for k, name in enumerate(weights.projections[: weights.trainable_projections]):
        if name in inside:
            yield name, slice(ptr[k], ptr[k + 1])


@dataclass(frozen=True, eq=False)
class OwnedParameter:
    """A parameter, and the projection or region that owns each of its entries.

    ``what`` names it in messages. Entry k belongs to ``owners[index[k]]``: a projection, or (region,).
    """

    what: str
    parameter: nn.Parameter
    owners: list[ProjectionKey] | list[tuple[str]]
    index: Tensor


def owned_parameters(net: mRNNBase, *, synapses: bool = True) -> Iterator[OwnedParameter]:
    """Yield every parameter that has entries; without ``synapses``, all but one value per synapse."""
    for part in net.weight_matrices():
        device = part.values.device
        if synapses and part.values.numel():
            names = list(part.projections[: part.trainable_projections])
            lengths = torch.diff(part.ptr)[: len(names)]
            index = torch.repeat_interleave(torch.arange(len(names), device=device), lengths)
            yield OwnedParameter("weights", part.values, names, index)
        if part.gains is not None and part.gains.numel():
            trained = torch.nonzero(part.trained_gains)[:, 0].tolist()
            owners = [part.gain_names[k][:3] for k in trained]
            yield OwnedParameter("gains", part.gains, owners, torch.arange(len(owners), device=device))
        if part.low_rank is not None:
            factors = zip(part.low_rank.names, part.low_rank.left, part.low_rank.right, strict=True)
            for name, left, right in factors:
                for what, factor in (("U", left), ("V", right)):
                    index = torch.zeros(factor.numel(), dtype=torch.int64, device=device)
                    yield OwnedParameter(what, factor, [name], index)
    if net.electrical is not None:
        for name, own in zip(net.electrical.names, net.electrical.conductances, strict=True):
            if own.numel():
                index = torch.zeros(own.numel(), dtype=torch.int64, device=own.device)
                yield OwnedParameter("conductances", own, [name], index)
    regions = [(name,) for name in net.hid_regions]
    for value in LEARNT_VALUES:
        if (parameter := getattr(net, value.parameter)) is not None:
            yield OwnedParameter(value.what, parameter, regions, getattr(net, f"{value.index}_region"))
