"""Parameter groups: learning rates and other options of an optimiser by projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

from torch import nn

from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.errors import TrainingError, UnknownNameError, suggest
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.training.select import select

Key = tuple[str, str] | tuple[str, str, str] | str
T = TypeVar("T")


def parameter_groups(
    net: mRNNBase, options: Mapping[Key, Mapping[str, Any]], **defaults: Any
) -> list[dict[str, Any]]:
    """Groups for a torch optimiser, with options by projection.

    The weights of a network are one flat parameter. The groups hold parameters that share its storage and its
    gradient, so an optimiser that works in place (all of torch's) trains the network through them. Use them
    instead of ``net.parameters()``, with one optimiser or several; a later call replaces the earlier one's
    groups. Clip gradients on ``net.parameters()``. The groups follow when the parameters get other storage
    (``p.data = ...``, ``vector_to_parameters``, ``load_state_dict(assign=True)``).

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    options : mapping
        From (source, target) or (source, target, key), regions or parents, to the options of these
        projections: of their synapses, their gains if they share some, their U and V if they have low rank.
        Without a key, all parallel ones are meant. A string names another parameter, such as "bias".
        Projections that are frozen get their options when they are unfrozen.
    **defaults
        Options of all groups, such as ``lr``.

    Returns
    -------
    list of dict
        The first group has all other parameters; then one per entry, with the key "name".

    Raises
    ------
    UnknownNameError
        If a projection or parameter does not exist.
    TrainingError
        If a projection, or a gain that several share, falls into two groups.

    Examples
    --------
    >>> import torch, sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 4); g.add_region("b", 4)
    >>> g.add_projection("a", "b"); g.add_projection("b", "a")
    >>> net = sm.mRNN(g, device="cpu", seed=0)
    >>> optimizer = torch.optim.Adam(parameter_groups(net, {("a", "b"): {"lr": 1e-4}}, lr=1e-3))
    >>> [(group.get("name"), group["lr"]) for group in optimizer.param_groups]
    [('rest', 0.001), ('a -> b', 0.0001)]
    """
    weights = net.weight_matrices()
    others = _other_parameters(net)
    owner: dict[tuple[int, ProjectionKey], Key] = {}
    conducting: dict[int, Key] = {}
    for key in options:
        if isinstance(key, str):
            if key not in others:
                hint = suggest(key, others, what="other parameters")
                raise UnknownNameError(f"parameter_groups: unknown parameter {key!r}. {hint}")
            continue
        if not (isinstance(key, tuple) and len(key) in (2, 3)):
            form = "(source, target) or (source, target, key)"
            raise TrainingError(f"parameter_groups: {key!r} is not a projection; use {form}.")
        paired = [] if net.electrical is None else net.electrical.between(net.names.members, *key)
        part, found = select(net, *key, optional=bool(paired))
        for name in found:
            before = owner.setdefault((weights.index(part), name), key)
            if before != key:
                both = f"the groups {before} and {key}; leave it out of one"
                raise TrainingError(f"parameter_groups: {projection_label(*name)} is in {both}.")
        for number in paired:
            before = conducting.setdefault(number, key)
            if before != key and net.electrical is not None:
                both = f"the groups {before} and {key}; leave it out of one"
                label = projection_label(*net.electrical.names[number])
                raise TrainingError(f"parameter_groups: {label} is in {both}.")
    groups: dict[Key | None, list[nn.Parameter]] = {None: [], **{key: [] for key in options}}
    for k, part in enumerate(weights):
        owners = {name: key for (matrix, name), key in owner.items() if matrix == k}
        if not owners:
            groups[None].append(part.values)
            continue
        names = part.projections
        runs = _runs([owners.get(name) for name in names], names, part.trainable_projections)
        for (group, _), view in zip(runs, part.split([run for _, run in runs]), strict=True):
            groups[group].append(view)
        prefix = "rec" if part.kind == "recurrent" else "inp"
        gain_keys = _gain_keys(part, owners)
        gain_runs = _runs(gain_keys, range(len(gain_keys)))
        if any(key is not None for key, _ in gain_runs):
            del others[f"{prefix}.gains"]
            for (group, _), view in zip(
                gain_runs, part.split_gains([run for _, run in gain_runs]), strict=True
            ):
                groups[group].append(view)
        if part.low_rank is not None:
            for number, name in enumerate(part.low_rank.names):
                for side in ("left", "right") if name in owners else ():
                    groups[owners[name]].append(others.pop(f"{prefix}.low_rank.{side}.{number}"))
    for number, key in conducting.items():
        groups[key].append(others.pop(f"electrical.conductances.{number}"))
    for other in options:
        if isinstance(other, str) and other not in others:
            what = "belongs to projections that have a group; leave one of them out"
            raise TrainingError(f"parameter_groups: {other!r} {what}.")
    for other, parameter in others.items():
        groups[other if other in options else None].append(parameter)
    return [
        {**defaults, **({} if key is None else options[key]), "params": params, "name": _title(key)}
        for key, params in groups.items()
    ]


def _other_parameters(net: mRNNBase) -> dict[str, nn.Parameter]:
    """Parameters but the values of synapses, by name."""
    values = [part.values for part in net.weight_matrices()]
    return {name: p for name, p in net.named_parameters() if all(p is not v for v in values)}


def _runs(keys: Sequence[Key | None], names: Sequence[T], split: int = 0) -> list[tuple[Key | None, list[T]]]:
    """Runs of neighbours in one group; a run ends before number ``split``, too."""
    runs = groupby(range(len(names)), lambda k: (keys[k], k >= split))
    return [(key, [names[k] for k in numbers]) for (key, _), numbers in runs]


def _gain_keys(weights: SparseWeights, owners: Mapping[ProjectionKey, Key]) -> list[Key | None]:
    """The group of each gain, which is that of the projections that share it."""
    owner: dict[int, tuple[Key | None, ProjectionKey]] = {}
    for name in weights.projections:
        key = owners.get(name)
        for gain in range(len(weights.gain_names))[weights.gain_range(name)]:
            other, first = owner.setdefault(gain, (key, name))
            if other != key:
                both = f"{projection_label(*first)} and {projection_label(*name)}"
                raise TrainingError(f"parameter_groups: {both} share a gain; put them into one group.")
    return [owner[gain][0] for gain in range(len(weights.gain_names))]


def _title(key: Key | None) -> str:
    if key is None or isinstance(key, str):
        return key or "rest"
    return f"{key[0]} -> {key[1]}" + (f" ({key[2]})" if len(key) == 3 else "")
