"""Which projections a call is about: by source, target and key, regions or parents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from sparse_mrnn.errors import FinalizeError, TrainingError, UnknownNameError, suggest
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.models.synapses import Name
from sparse_mrnn.models.weights import SparseWeights


def parts(net: mRNNBase) -> tuple[SparseWeights, SparseWeights]:
    """The recurrent and the input weights.

    Raises
    ------
    FinalizeError
        If they are not built yet.
    """
    if net.rec is None or net.inp is None:
        raise FinalizeError("the network's connectivity is not finalised; call finalize_connectivity() first.")
    return net.rec, net.inp


def label(name: Name) -> str:
    """A projection as messages name it."""
    source, target, key = name
    return f"{source!r} -> {target!r}" + ("" if key == "default" else f" (key {key!r})")


def select(net: mRNNBase, source: str | None, target: str | None, key: str | None = None) -> tuple[SparseWeights, list[Name]]:
    """The weights and the projections from ``source`` to ``target``; None stands for all recurrent ones, and for any key.

    Raises
    ------
    UnknownNameError
        If a region does not exist, or nothing connects the two.
    """
    recurrent, inputs = parts(net)
    if source is not None:
        net.get_region_size(source)  # says so where there is none
    kind = "input" if source in net.inp_dict else "recurrent"
    weights = inputs if kind == "input" else recurrent
    sources = None if source is None else set(net.layout(kind).members(source))
    targets = None if target is None else set(net.layout().members(target))
    found = [
        name
        for name in weights.projections
        if (sources is None or name[0] in sources) and (targets is None or name[1] in targets) and key in (None, name[2])
    ]
    if not found and (source, target, key) != (None, None, None):
        asked = f"{'any region' if source is None else repr(source)} -> {'any region' if target is None else repr(target)}"
        known = [f"{s} -> {t}" + ("" if k == "default" else f" ({k})") for s, t, k in weights.projections]
        wanted = f"{source or ''} -> {target or ''}" + (f" ({key})" if key else "")
        raise UnknownNameError(
            f"no projection {asked}{f' with key {key!r}' if key else ''}. {suggest(wanted, known, what='projections')}"
        )
    return weights, found


def trainable_only(weights: SparseWeights, names: list[Name], what: str) -> list[Name]:
    """Those of ``names`` that are trainable, in the order of the values.

    Raises
    ------
    TrainingError
        If there are projections, and none is trainable.
    """
    inside = set(names)
    kept = [name for name in weights.projections[: weights.n_trainable] if name in inside]
    if names and not kept:
        shown = ", ".join(label(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
        raise TrainingError(f"{what}: {shown} {'is' if len(names) == 1 else 'are'} frozen; call unfreeze first.")
    return kept


def slices(weights: SparseWeights, names: list[Name]) -> Iterator[tuple[Name, slice]]:
    """Where the values of trainable projections are."""
    inside = set(names)
    ptr = weights.ptr.tolist()
    for k, name in enumerate(weights.projections[: weights.n_trainable]):
        if name in inside:
            yield name, slice(ptr[k], ptr[k + 1])


Norm = Literal["l1", "l2"]
