"""Selection of projections by source, target and key, for tools that train or change them."""

from __future__ import annotations

from collections.abc import Iterator

from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.errors import TrainingError, UnknownNameError, suggest
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.models.weights import SparseWeights


def select(
    net: mRNNBase, source: str | None, target: str | None, key: str | None = None
) -> tuple[SparseWeights, list[ProjectionKey]]:
    """Select the weights, and the projections from ``source`` to ``target`` (None: all recurrent, any key).

    Raises
    ------
    UnknownNameError
        If a region does not exist, or nothing connects the two.
    """
    kind, numbers = net.projections(source, target, key)
    weights = net.weights(kind)
    found = [weights.all_projections[k] for k in numbers]
    if not found and (source, target, key) != (None, None, None):
        start, end = ("any region" if name is None else repr(name) for name in (source, target))
        known = [f"{s} -> {t}" + ("" if k == "default" else f" ({k})") for s, t, k in weights.all_projections]
        wanted = f"{source or ''} -> {target or ''}" + (f" ({key})" if key else "")
        hint = suggest(wanted, known, what="projections")
        raise UnknownNameError(f"no projection {start} -> {end}{f' with key {key!r}' if key else ''}. {hint}")
    return weights, found


def trainable_only(weights: SparseWeights, names: list[ProjectionKey], what: str) -> list[ProjectionKey]:
    """Keep the projections with a trained parameter per synapse, in the order of the values.

    Raises
    ------
    TrainingError
        If there are projections, and none has.
    """
    inside = set(names)
    kept = [name for name in weights.projections[: weights.trainable_projections] if name in inside]
    if names and not kept:
        raise nothing_to_change(weights, names, what)
    return kept


def nothing_to_change(weights: SparseWeights, names: list[ProjectionKey], what: str) -> TrainingError:
    """The error that says why none of some projections can be changed synapse by synapse."""
    shown = ", ".join(projection_label(*name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    one = len(names) == 1
    if any(weights.is_shared(name) and weights.is_trainable(name) for name in names):
        why = (
            f"{'has gains that its' if one else 'have gains that their'} synapses share, not a parameter each"
        )
        return TrainingError(f"{what}: {shown} {why}.")
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
