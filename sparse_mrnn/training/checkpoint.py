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
from sparse_mrnn.files.tensors import CHECKPOINT, Tensors, read_tensors, under, write_tensors
from sparse_mrnn.models.network import NoiseState, mRNNBase
from sparse_mrnn.models.state_checks import check_state
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.state.checkpoint import STATE, nothing_changed, software_versions
from sparse_mrnn.state.describe import declared
from sparse_mrnn.state.differences import declared_differences, differences, refuse_another
from sparse_mrnn.state.optimizers import all_or_nothing, names_by_group
from sparse_mrnn.training.random_states import Generators, generator_state, global_states, set_states

Module = nn.Module | Mapping[str, nn.Module]
Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None
Schedulers = torch.optim.lr_scheduler.LRScheduler | Sequence[torch.optim.lr_scheduler.LRScheduler] | None

ORIENTATION = "orientation."
"""Beginning of the names of signs at the start of "deepr" rewiring."""
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
    state = root.state_dict(keep_vars=True)
    tensors = {f"{STATE}{name}": value for name, value in state.items() if isinstance(value, Tensor)}
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
        "extra": {
            name: pack(value, f"extra.{name}", tensors)
            for name, value in state.items() if not isinstance(value, Tensor)
        },
    }  # fmt: skip
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
        state: dict[str, Any] = under(tensors, STATE)
        _compare_networks(root, saved.networks, state)
        every = root.state_dict(keep_vars=True)
        own = {name: value for name, value in every.items() if isinstance(value, Tensor)}
        check_state(root, own, state)
        for name, net in _networks(root):
            prefix = f"{name}.".lstrip(".")
            net.check_structure({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        if unlike := saved.extra.keys() ^ (every.keys() - own.keys()):
            raise SavedFileError(f"extra state: {min(unlike)!r} is not in both the file and the network")
        state |= {name: unpack(value, tensors) for name, value in saved.extra.items()}
        orientations = _orientations(root, state, tensors)
        optimizers, schedulers = _listed(optimizer, "optimizer"), _listed(scheduler, "scheduler")
        states = [
            *_compare_optimizers(root, optimizers, saved, state, tensors),
            *_compare("scheduler", schedulers, saved.schedulers, tensors),
        ]
        noise = _noise_states(root, saved, tensors)
        own_states = {name: unpack(value, tensors) for name, value in saved.generators.items()}
        everywhere = unpack(saved.rng, tensors) if rng else None
        with all_or_nothing([*optimizers, *schedulers]):
            for one, its in zip([*optimizers, *schedulers], states, strict=True):
                one.load_state_dict(its)
            set_states(generators or {}, own_states, everywhere)
    root.load_state_dict(state)
    for name, weights in _weights(root):
        weights.orientation = orientations.get(name)
    for name, parameter in root.named_parameters():
        parameter.requires_grad_(name not in saved.not_trained)
    for name, part in _networks(root):
        # Without seeds the noise is that of the global states, which were set or left above
        part.set_noise_state(noise[name]) if noise[name].seeds else part.set_noise_seeds(None)
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
        refuse_another("network", declared_differences(state[own], declared(net.describe())))


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
    article = "an" if what == "optimizer" else "a"
    for one in found:
        if not (hasattr(one, "load_state_dict") and hasattr(one, "param_groups") == (what == "optimizer")):
            raise SavedFileError(f"{what}: {type(one).__name__} is not {article} {what}.")
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
    advice = 'give all modules it trains, as {"net": net, "readout": readout}'
    groups = names_by_group(optimizer, names, "the module", advice)
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
        then = {name: entry[name] for name in ("class", "parameters")}
        refuse_another("optimiser", differences(then, _identity(one, names)))
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
    """Read the states of what is given, which must be of the classes saved."""
    if given and len(given) != len(saved):
        raise SavedFileError(f"it has {len(saved)} {what}s, and {len(given)} are given")
    for one, entry in zip(given, saved, strict=False):
        if type(one).__name__ != entry["class"]:
            raise SavedFileError(f"its {what} is a {entry['class']}, and a {type(one).__name__} is given")
    return [unpack(entry["state"], tensors) for _, entry in zip(given, saved, strict=False)]
