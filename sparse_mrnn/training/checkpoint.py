"""Checkpoints of training: what a run needs to go on as if it had never stopped, in one file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from sparse_mrnn.errors import ConfigError, SavedFileError
from sparse_mrnn.files.digest import digest
from sparse_mrnn.files.nested import pack, unpack
from sparse_mrnn.files.tensors import CHECKPOINT, Tensors, read_tensors, write_tensors
from sparse_mrnn.models.network import NoiseState, mRNNBase
from sparse_mrnn.models.state_checks import check_state
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.state.checkpoint import STATE, nothing_changed, pack_state, software_versions, unpack_extra
from sparse_mrnn.state.describe import declared
from sparse_mrnn.state.differences import declared_differences, differences, first_of
from sparse_mrnn.training.random_states import (
    Generators,
    check_generators,
    check_global_states,
    generator_state,
    global_states,
    set_generator,
    set_global_states,
)

Module = nn.Module | Mapping[str, nn.Module]
Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None
Schedulers = torch.optim.lr_scheduler.LRScheduler | Sequence[torch.optim.lr_scheduler.LRScheduler] | None

ORIENTATION = "orientation."
"""What the names of signs at the start of "deepr" rewiring begin with."""
LONGEST = 20
"""Projections that a parameter's name lists."""


class CheckpointHeader(BaseModel):
    """The header of a checkpoint; values of optimisers, schedulers and generators are those of `pack`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    version: int
    versions: dict[str, str]
    step: int
    networks: list[str]
    not_trained: list[str]
    noise: dict[str, Any]
    optimizers: list[dict[str, Any]]
    schedulers: list[dict[str, Any]]
    rng: Any
    generators: dict[str, Any]
    extra: dict[str, Any]


def save_checkpoint(
    path: str | os.PathLike[str],
    net: Module,
    optimizer: Optimizers = None,
    scheduler: Schedulers = None,
    *,
    step: int = 0,
    rng: bool = True,
    generators: Generators | None = None,
) -> None:
    """Save training between two steps: safetensors and JSON, whole or not at all, without pickle.

    Parameters
    ----------
    path : path
    net : nn.Module or dict of str to nn.Module
        A network, a module that holds one, or several modules by name.
    optimizer, scheduler : optional
        Of torch, one or several; every parameter of an optimiser must be one of ``net``.
    step : int
        Of the training loop; `load_checkpoint` returns it.
    rng : bool
        Save the global random states of torch (CUDA too), numpy and Python.
    generators : dict of str to numpy Generator, torch Generator or random.Random, optional
        Generators of your own, for batches or rewiring. The noise of networks with a seed is always
        saved; that of the others is among the global states.

    Raises
    ------
    SavedFileError
        If the file cannot be written, or cannot hold a value.

    Examples
    --------
    >>> import tempfile, sparse_mrnn as sm
    >>> net = sm.mRNN({"recurrent_regions": [{"num_units": 3}]}, device="cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(f"{folder}/run.safetensors", net, step=100)
    ...     load_checkpoint(f"{folder}/run.safetensors", net)
    100
    """
    root = _root(net)
    tensors: Tensors = {}
    extra = pack_state(root.state_dict(), tensors)
    for name, weights in _weights(root):
        if weights.orientation is not None:  # no part of the state of a network that is not trained on
            tensors[f"{ORIENTATION}{name}"] = weights.orientation
    networks = dict(_networks(root))
    names = _parameter_names(root)
    header = {
        "versions": software_versions(),
        "step": int(step),
        "networks": list(networks),
        "not_trained": [name for name, p in root.named_parameters() if not p.requires_grad],
        "noise": {name: pack(_noise(part), f"noise.{name}", tensors) for name, part in networks.items()},
        "optimizers": [
            {**_identity(one, names), "state": pack(one.state_dict(), f"optimizer.{k}", tensors)}
            for k, one in enumerate(_listed(optimizer, "optimizer"))
        ],
        "schedulers": [
            {"class": type(one).__name__, "state": pack(one.state_dict(), f"scheduler.{k}", tensors)}
            for k, one in enumerate(_listed(scheduler, "scheduler"))
        ],
        "rng": pack(global_states(), "rng", tensors) if rng else None,
        "generators": {
            name: pack(generator_state(name, g), f"generator.{name}", tensors)
            for name, g in (generators or {}).items()
        },
        "extra": extra,
    }
    write_tensors(Path(path), CHECKPOINT, header, tensors)


def load_checkpoint(
    path: str | os.PathLike[str],
    net: Module,
    optimizer: Optimizers = None,
    scheduler: Schedulers = None,
    *,
    rng: bool = True,
    generators: Generators | None = None,
) -> int:
    """Load a checkpoint into what was made as for `save_checkpoint`; training goes on bit for bit.

    Everything is compared before anything is loaded. Which projections are frozen, which synapses there are
    and where the optimiser's moments belong follows the file; make parameter groups as before.

    Parameters
    ----------
    path, net, optimizer, scheduler, generators
        As for `save_checkpoint`; an optimiser, a scheduler or a generator that is not given is left out.
    rng : bool
        Set the global random states, if the file has them.

    Returns
    -------
    int
        The step.

    Raises
    ------
    SavedFileError
        If the file is damaged or no checkpoint, or ``net``, an optimiser, a scheduler or a generator is not
        the one saved; the message says what differs. Nothing has changed then.
    """
    where, root = Path(path), _root(net)
    header, tensors = read_tensors(where, CHECKPOINT)
    with nothing_changed(where):
        saved = CheckpointHeader.model_validate(header)
        state: dict[str, Any] = tensors.under(STATE)
        _compare_networks(root, saved.networks, state)
        check_state(root, state)
        state |= unpack_extra(saved.extra, tensors)
        orientations = _orientations(root, state, tensors)
        optimizers, schedulers = _listed(optimizer, "optimizer"), _listed(scheduler, "scheduler")
        states = [
            *_compare_optimizers(root, optimizers, saved, state, tensors),
            *_compare("scheduler", schedulers, saved.schedulers, tensors),
        ]
        noise = _noise_states(root, saved, tensors)
        own = {name: unpack(value, tensors) for name, value in saved.generators.items()}
        check_generators(generators or {}, own)
        random_states = unpack(saved.rng, tensors) if rng else None
        if random_states is not None:
            check_global_states(random_states)
        trained = {name: name not in saved.not_trained for name, _ in root.named_parameters()}
        _load_all([*optimizers, *schedulers], states)
    root.load_state_dict(state)
    for name, weights in _weights(root):
        weights.orientation = orientations.get(name)
    for name, parameter in root.named_parameters():
        parameter.requires_grad_(trained[name])
    for name, part in _networks(root):
        # Without seeds the noise is that of the global states, which are set or left below
        part.set_noise_state(noise[name]) if noise[name].seeds else part.set_noise_seeds(None)
    for name, generator in (generators or {}).items():
        set_generator(generator, own[name])
    if random_states is not None:
        set_global_states(random_states)
    return saved.step


# -------------------------------------------------------------------- networks


def _root(net: Module) -> nn.Module:
    """One module that holds all of them."""
    if isinstance(net, nn.Module):
        return net
    try:
        return nn.ModuleDict(net)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SavedFileError(f"net must be a module, or modules by names without dots: {error}.") from None


def _networks(root: nn.Module) -> Iterator[tuple[str, mRNNBase]]:
    return ((name, part) for name, part in root.named_modules() if isinstance(part, mRNNBase))


def _weights(root: nn.Module) -> Iterator[tuple[str, SparseWeights]]:
    return ((name, part) for name, part in root.named_modules() if isinstance(part, SparseWeights))


def _noise(net: mRNNBase) -> dict[str, Any]:
    return {"device": net.device.type, **net.noise_state()._asdict()}


def _compare_networks(root: nn.Module, saved: list[str], state: Mapping[str, Tensor]) -> None:
    """Refuse the state of networks that were declared otherwise."""
    here = dict(_networks(root))
    if here.keys() != set(saved):
        there = ", ".join(map(repr, saved)) or "none"
        raise SavedFileError(f"its networks are {there}, and here {', '.join(map(repr, here)) or 'none'}")
    for name, net in here.items():
        own = f"{name}._extra_state".lstrip(".")
        if own not in state:
            raise SavedFileError(f"the file lacks {own}")
        if found := declared_differences(state[own], declared(net.describe())):
            raise SavedFileError(f"this is another network: {first_of(found)}")


def _orientations(root: nn.Module, state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Tensors:
    found = {}
    for name, weights in _weights(root):
        tensor = tensors.get(f"{ORIENTATION}{name}")
        if tensor is None:
            continue
        if tensor.dtype != torch.int8 or tensor.shape != state[f"{name}.col".lstrip(".")].shape:
            raise SavedFileError(f"{ORIENTATION}{name} is not a sign of each synapse")
        found[name] = tensor.clone().to(weights.values.device)
    return found


def _noise_states(
    root: nn.Module, saved: CheckpointHeader, tensors: Mapping[str, Tensor]
) -> dict[str, NoiseState]:
    found = {}
    for name, net in _networks(root):
        value = unpack(saved.noise[name], tensors)
        device = value.pop("device")
        found[name] = NoiseState(**value)
        check_noise(net, device, found[name])
    return found


def check_noise(net: mRNNBase, device: str, state: NoiseState) -> None:
    """Try whether the noise of a network can go on from a state; it stays where it is.

    Raises
    ------
    SavedFileError
        If the state is of another kind of device or generator.
    """
    if device != net.device.type:
        raise SavedFileError(f"its noise is of a {device} device, and the network is on {net.device}")
    try:
        net.restored_generators(state)
    except ConfigError as error:
        raise SavedFileError(str(error)) from error


# -------------------------------------------------------------------- optimisers and schedulers


def _listed(given: Any, what: str) -> list[Any]:
    found = [] if given is None else list(given) if isinstance(given, Sequence) else [given]
    for one in found:
        if not (hasattr(one, "load_state_dict") and hasattr(one, "param_groups") == (what == "optimizer")):
            raise SavedFileError(f"{what}: {type(one).__name__} is no {what}.")
    return found


def _parameter_names(root: nn.Module) -> dict[int, str]:
    """Name of every parameter, and of every view that `parameter_groups` made: its projections."""
    names = {id(parameter): name for name, parameter in root.named_parameters()}
    for prefix, weights in _weights(root):
        for what, views in (("values", weights.views), ("gains", weights.gain_views)):
            for view, run in zip(views.parameters, views.runs, strict=True) if views is not None else ():
                whose: Any = run if what == "values" else [weights.gain_names[int(str(k))] for k in run]
                labels = [" ".join(name) for name in whose]
                if len(labels) > LONGEST:
                    labels = [f"{len(labels)} of them", digest(labels)]
                names[id(view)] = f"{prefix}.{what} of {', '.join(labels)}".lstrip(".")
    return names


def _identity(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Any]:
    """Class of an optimiser, and the names of its parameters, group by group."""
    groups = []
    for k, group in enumerate(optimizer.param_groups):
        unknown = [n for n, parameter in enumerate(group["params"]) if id(parameter) not in names]
        if unknown:
            raise SavedFileError(
                f"parameter {unknown[0]} in group {k} of {type(optimizer).__name__} is none of the module's; "
                'give all modules it trains, as {"net": net, "readout": readout}'
            )
        groups.append([names[id(parameter)] for parameter in group["params"]])
    return {"class": type(optimizer).__name__, "parameters": groups}


def _compare_optimizers(
    root: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    saved: CheckpointHeader,
    state: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> list[Any]:
    """States of optimisers, after each was found to train the same parameters in the same groups."""
    names = _parameter_names(root)
    for one, entry in zip(optimizers, saved.optimizers, strict=False):
        now, then = _identity(one, names), {name: entry[name] for name in ("class", "parameters")}
        if found := differences(then, now, "optimizer"):
            raise SavedFileError(f"this is another optimiser: {'; '.join(found[:3])}")
    for name, weights in _weights(root) if optimizers else ():
        if weights.views is not None:
            alphabetical, prefix = sorted(weights.projections), f"{name}.".lstrip(".")
            order = [alphabetical[k] for k in state[f"{prefix}order"].tolist()]
            ends, n = state[f"{prefix}ptr"][1:].tolist(), state[f"{prefix}values"].numel()
            if not weights.views.are_neighbours([p for p, end in zip(order, ends, strict=True) if end <= n]):
                raise SavedFileError(f"the parameter groups of {name} are others than in the file")
    return _compare("optimizer", optimizers, saved.optimizers, tensors)


def _compare(
    what: str, given: Sequence[Any], saved: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]
) -> list[Any]:
    """States of what is given, after it was found to be of the classes saved."""
    if given and len(given) != len(saved):
        raise SavedFileError(f"it has {len(saved)} {what}s, and {len(given)} are given")
    for one, entry in zip(given, saved, strict=False):
        if type(one).__name__ != entry["class"]:
            raise SavedFileError(f"its {what} is a {entry['class']}, and a {type(one).__name__} is given")
    states = [unpack(entry["state"], tensors) for _, entry in zip(given, saved, strict=False)]
    for one, state in zip(given, states, strict=True):
        if not _fits(one, state):
            raise SavedFileError(f"its state of a {type(one).__name__} is none")
    return states


def _load_all(given: Sequence[Any], states: Sequence[Any]) -> None:
    """Load the states of optimisers and schedulers; where one cannot be loaded, all are as they were."""
    before = [dict(vars(one)) for one in given]  # torch replaces what is in them, and changes none of it
    try:
        for one, state in zip(given, states, strict=True):
            one.load_state_dict(state)
    except Exception as error:  # an optimiser raises anything for a state that is none of its own
        for one, attributes in zip(given, before, strict=True):
            vars(one).clear()
            vars(one).update(attributes)
        raise SavedFileError(f"a state of its optimisers or schedulers is none: {error!r}") from error


def _fits(one: Any, state: Any) -> bool:
    """Whether an optimiser or a scheduler can load this: torch itself checks while it loads."""
    if not isinstance(state, dict) or not isinstance(one, torch.optim.Optimizer):
        return isinstance(state, dict) and all(isinstance(name, str) for name in state)
    groups, moments = state.get("param_groups"), state.get("state")
    if not isinstance(groups, list) or not isinstance(moments, dict):
        return False
    sizes = [len(group["params"]) for group in one.param_groups]
    if [len(group["params"]) for group in groups] != sizes:
        return False
    return all(k in range(sum(sizes)) and isinstance(own, dict) for k, own in moments.items())
