"""The state of an optimiser that every rank has of its own parameters, as that of the whole network's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from sparse_mrnn.distributed.entries import WholeTensor
from sparse_mrnn.distributed.ranks import Ranks
from sparse_mrnn.errors import SavedFileError
from sparse_mrnn.files.nested import pack, unpack
from sparse_mrnn.files.tensors import DTYPES
from sparse_mrnn.state.differences import differences

Optimizer = torch.optim.Optimizer
TYPES = {str(dtype): dtype for dtype in DTYPES}


class OptimizerState(BaseModel):
    """Class and groups of an optimiser, and its numbers without the tensors that are like a parameter.

    Parameters of groups are the names of the whole network's; options of groups are as of `pack`. The state
    of a parameter has by entry {"like": type} of a tensor like the parameter, {"number": value, "dtype":
    type} of a tensor of one number, or {"value": as of `pack`}.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: str
    parameters: list[list[str]]
    options: list[Any]
    state: dict[str, dict[str, dict[str, Any]]]

    def identity(self) -> dict[str, Any]:
        """The description that `groups_of` gives of such an optimiser."""
        return {"class": self.kind, "parameters": self.parameters}

    def moments(self, name: str) -> dict[str, torch.dtype]:
        """Types of the tensors like a parameter, by entry; an unknown one is refused."""
        entries = self.state.get(name, {}).items()
        return {key: _type(e["like"], f"entry {key!r} of {name}") for key, e in entries if "like" in e}


def groups_of(ranks: Ranks, optimizer: Optimizer, parameters: Sequence[WholeTensor]) -> dict[str, Any]:
    """Class of an optimiser and the names of the parameters in each group; every rank calls it.

    Every rank refuses an optimiser with parameters of something else, or ranks that differ.
    """
    return _identity(ranks.gather(_own_groups(optimizer, parameters)))


def state_of(ranks: Ranks, optimizer: Optimizer, parameters: Sequence[WholeTensor]) -> OptimizerState:
    """The state that an optimiser has of the whole network's parameters; every rank calls it.

    Every rank refuses it as `groups_of`, if it is of something else than tensors like the parameter and
    numbers, or if numbers differ between ranks.
    """
    every = ranks.gather({**_own_groups(optimizer, parameters), **_own_state(optimizer, parameters)})
    identity = _identity(every)
    merged: dict[str, Any] = {}
    for rank, own in enumerate(every):
        if found := differences(every[0]["options"], own["options"], "options of group"):
            raise SavedFileError(f"rank {rank} and rank 0 differ in the optimiser's {found[0]}.")
        for name, state in own["state"].items():
            if found := differences(merged.setdefault(name, state), state, name):
                raise SavedFileError(f"the optimiser's state differs between ranks: {found[0]}.")
    state = {name: state for name, state in sorted(merged.items()) if state}
    common = {"kind": identity["class"], "parameters": identity["parameters"]}
    return OptimizerState(**common, options=every[0]["options"], state=state)


def load_state(
    optimizer: Optimizer, parameters: Sequence[WholeTensor], saved: OptimizerState,
    moments: Mapping[str, Sequence[Tensor]],
) -> None:
    """Load what an optimiser, with the groups of the saved one, has of this rank's parameters.

    The ``moments`` have by "parameter.entry" a tensor for each of the parameter's parts. A SavedFileError
    says what torch cannot load.
    """
    order = [part for group in optimizer.param_groups for part in group["params"]]
    number = {id(part): k for k, part in enumerate(order)}
    state: dict[int, dict[str, Any]] = {}
    groups = optimizer.state_dict()["param_groups"]
    try:
        for p in parameters:
            entries = saved.state.get(p.name, {})
            for which, part in enumerate(p.parts):
                if part.numel() and entries:
                    own = {key: moments[f"{p.name}.{key}"][which] for key in saved.moments(p.name)}
                    own |= {key: _number(e) for key, e in entries.items() if "like" not in e}
                    state[number[id(part)]] = {key: own[key] for key in entries}
        for group, packed in zip(groups, saved.options, strict=True):
            group |= unpack(packed, {})
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except SavedFileError:
        raise
    except Exception as error:  # torch raises anything for a state that is not its own
        raise SavedFileError(f"its state of a {saved.kind} cannot be loaded: {error!r}") from error


def _number(entry: Mapping[str, Any]) -> Any:
    if "dtype" not in entry:
        return unpack(entry["value"], {})
    return torch.tensor(unpack(entry["number"], {}), dtype=_type(entry["dtype"], "a number"))


def _type(name: Any, what: str) -> torch.dtype:
    if str(name) not in TYPES:
        raise SavedFileError(f"{what} of the optimiser's state is of unknown type {name!r}")
    return TYPES[str(name)]


def _identity(every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    for own in every:
        if own["failure"] is not None:
            raise SavedFileError(own["failure"])
    kinds, sizes = {own["class"] for own in every}, {len(own["parameters"]) for own in every}
    if len(kinds) > 1 or len(sizes) > 1:
        raise SavedFileError("the ranks' optimisers are of other classes or have other numbers of groups.")
    groups = [set().union(*names) for names in zip(*(own["parameters"] for own in every), strict=True)]
    where: dict[str, int] = {}
    for k, names in enumerate(groups):
        for name in sorted(names):
            if where.setdefault(name, k) != k:
                what = f"parts of {name} are in groups {where[name]} and {k} of the optimiser"
                raise SavedFileError(f"{what}; put them into one, on all ranks.")
    return {"class": kinds.pop(), "parameters": [sorted(names) for names in groups]}


def _own_groups(optimizer: Optimizer, parameters: Sequence[WholeTensor]) -> dict[str, Any]:
    """Class, names of this rank's parameters in each group, and what is wrong."""
    names = {id(part): p.name for p in parameters for part in p.parts}
    kind, groups, failure = type(optimizer).__name__, [], None
    for k, group in enumerate(optimizer.param_groups):
        known = [names.get(id(part)) for part in group["params"]]
        groups.append(sorted({name for name in known if name is not None}))
        unknown = [n for n, (name, part) in enumerate(zip(known, group["params"], strict=True))
                   if name is None and part.numel()]  # fmt: skip
        if unknown:
            failure = f"parameter {unknown[0]} in group {k} of {kind} is not in net; give all it trains"
            failure += " as one module"
    return {"class": kind, "parameters": groups, "failure": failure}


def _own_state(optimizer: Optimizer, parameters: Sequence[WholeTensor]) -> dict[str, Any]:
    """Options of groups, and entries of each parameter of which this rank has something."""
    of_a_rank = "params", "param_names"  # of the rank's own parameters
    try:
        options = [
            _packed({name: value for name, value in group.items() if name not in of_a_rank}, f"group {k}")
            for k, group in enumerate(optimizer.param_groups)
        ]
        state = {}
        for p in parameters:
            here = [_entries(p.name, part, optimizer.state.get(part, {})) for part in p.parts if part.numel()]
            if here:
                state[p.name] = here[0]
                if found := [text for other in here for text in differences(here[0], other, p.name)]:
                    raise SavedFileError(f"the optimiser's state differs within a rank: {found[0]}")
    except SavedFileError as error:
        return {"failure": str(error)}
    return {"options": options, "state": state}


def _entries(name: str, part: Tensor, state: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in state.items():
        where = f"entry {key!r} of the optimiser's state of {name}"
        if not isinstance(value, Tensor):
            found[key] = {"value": _packed(value, where)}
        elif value.dim() == 0:
            found[key] = {"number": pack(value.item(), where, {}), "dtype": str(value.dtype)}
        elif value.shape == part.shape:
            found[key] = {"like": str(value.dtype)}
        else:
            what = f"{where} has shape {tuple(value.shape)} for a parameter of {tuple(part.shape)}"
            raise SavedFileError(f"{what}; only tensors like the parameter and numbers can be saved")
    return found


def _packed(value: Any, where: str) -> Any:
    tensors: dict[str, Tensor] = {}
    found = pack(value, where, tensors)
    if tensors:
        raise SavedFileError(f"{where} holds a tensor ({next(iter(tensors))}), which a file of ranks cannot")
    return found
