"""Checkpoints of training on several ranks, from which any number of ranks goes on."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from sparse_mrnn.distributed.entries import Alike, WholeTensor, description, whole_parameters
from sparse_mrnn.distributed.network import ShardedRNN
from sparse_mrnn.distributed.optimizer_state import OptimizerState, groups_of, load_state, state_of
from sparse_mrnn.distributed.ranks import Ranks
from sparse_mrnn.errors import SavedFileError
from sparse_mrnn.files.digest import digest
from sparse_mrnn.files.tensors import SHARDED_CHECKPOINT, Tensors, read_tensors, write_each
from sparse_mrnn.models.network import NoiseState
from sparse_mrnn.state.checkpoint import damaged_if_malformed, nothing_changed, software_versions
from sparse_mrnn.state.differences import differences, refuse_another
from sparse_mrnn.state.optimizers import all_or_nothing
from sparse_mrnn.training.checkpoint import check_noise

Optimizer = torch.optim.Optimizer | None
VALUE, MOMENT, NOISE = "parameter.", "optimizer.", "noise."
"""Beginnings of the names of tensors in a file."""


class SavedNoise(BaseModel):
    """The place in the noise that all ranks draw alike; the states of its generators are tensors."""

    model_config = ConfigDict(extra="forbid", strict=True)

    device: str
    seeds: tuple[int, int] | None = Field(strict=False)  # JSON has lists


class ShardedCheckpointHeader(BaseModel):
    """The header of a checkpoint of ranks."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    version: int
    versions: dict[str, str]
    step: int
    ranks: int
    network: dict[str, Any]
    noise: SavedNoise
    optimizer: OptimizerState | None


def save_checkpoint(
    path: str | os.PathLike[str], net: nn.Module, optimizer: Optimizer = None, *, step: int = 0
) -> None:
    """Save training between two steps, so that any number of ranks can go on; every rank calls it.

    Rank 0 writes one file, whole or not at all, without pickle. It receives one parameter, or one of its
    moments, of the whole network at a time, in pieces, and keeps none. The file has parameters, the state of
    the optimiser and the network's noise; not the synapses, which ranks draw anew, the global random states,
    nor which parameters require gradients.

    Parameters
    ----------
    path : path
        The same on all ranks; a file of rank 0.
    net : ShardedRNN, or nn.Module that holds one
        What is in it beside the network, such as a decoder, must be alike on all ranks.
    optimizer : torch.optim.Optimizer, optional
        Of parameters of ``net``, in the same groups on all ranks. Its state must be of tensors like the
        parameter and of numbers, as that of SGD, Adam, AdamW, RMSprop, Adagrad and their like is.
    step : int
        Of the training loop; `load_checkpoint` returns it.

    Raises
    ------
    SavedFileError
        On every rank: if the file cannot be written, what ranks should have alike differs, or the optimiser's
        state is of another kind. What was at ``path`` is then as it was.
    DistributedError
        If another rank has ended.

    Examples
    --------
    >>> import tempfile, sparse_mrnn as sm, torch.distributed as dist
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> g = sm.RegionGraph(); g.add_region("a", 4); g.add_projection("a", "a", fan_in=2)
    >>> net = ShardedRNN(g, seed=0, device="cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(f"{folder}/run.safetensors", net, step=100)
    ...     load_checkpoint(f"{folder}/run.safetensors", net)
    100
    >>> dist.destroy_process_group()
    """
    sharded, parameters = _network_of(net), _parameters(net)
    ranks, units = sharded.ranks, sharded.units
    state = None if optimizer is None else state_of(ranks, optimizer, parameters)
    tensors = _tensors(sharded, parameters, optimizer, state)
    _check_alike(ranks, tensors)
    header = {
        "versions": software_versions(),
        "step": int(step),
        "ranks": ranks.size,
        "network": description(sharded),
        "noise": {"device": units.device.type, "seeds": units.noise_state().seeds},
        "optimizer": None if state is None else state.model_dump(),
    }
    waiting = sorted(tensors)

    def whole(name: str) -> Tensor:
        waiting.remove(name)
        found = tensors[name].entries.gather(tensors[name].parts, tensors[name].dtype)
        return torch.empty(0) if found is None else found

    def write() -> None:
        try:
            if ranks.rank == 0:
                sizes = {name: (tensor.dtype, tensor.entries.shape) for name, tensor in tensors.items()}
                write_each(Path(path), SHARDED_CHECKPOINT, header, sizes, whole)
        finally:
            for name in list(waiting):  # on rank 0 after a failure: the others send all the same
                whole(name)

    ranks.run_on_all(write, SavedFileError)


def load_checkpoint(path: str | os.PathLike[str], net: nn.Module, optimizer: Optimizer = None) -> int:
    """Load a checkpoint of `save_checkpoint` on any number of ranks; every rank calls it.

    Training goes on with the same numbers to rounding, bit for bit on as many ranks divided alike. Everything
    is compared before anything is loaded, and a rank has its part twice meanwhile. Options of the optimiser,
    such as its learning rate, follow the file.

    Parameters
    ----------
    path, net, optimizer
        As for `save_checkpoint`, with the same ``seed``; an optimiser that is not given is left out.

    Returns
    -------
    int
        The step.

    Raises
    ------
    SavedFileError
        On every rank: if the file is damaged or no such checkpoint, or ``net`` or the optimiser is not the
        one saved; the message says what differs. Nothing has changed then.
    DistributedError
        If another rank has ended.
    """
    sharded, parameters, where = _network_of(net), _parameters(net), Path(path)
    ranks, units = sharded.ranks, sharded.units
    stored: Tensors | None = None

    def read() -> dict[str, Any]:
        nonlocal stored
        if ranks.rank > 0:
            return {}
        header, stored = read_tensors(where, SHARDED_CHECKPOINT)
        with damaged_if_malformed(where):
            return ShardedCheckpointHeader.model_validate(header).model_dump()

    header = ranks.run_on_all(read, SavedFileError)
    saved = ShardedCheckpointHeader.model_validate(ranks.broadcast(lambda: header))
    with nothing_changed(where):
        refuse_another("network", differences(saved.network, json.loads(json.dumps(description(sharded)))))
        if optimizer is not None:
            if saved.optimizer is None:
                raise SavedFileError("it has no optimiser; load it without one")
            now = groups_of(ranks, optimizer, parameters)
            refuse_another("optimiser", differences(saved.optimizer.identity(), now))
        wanted = _tensors(sharded, parameters, optimizer, saved.optimizer)
        ranks.run_on_all(lambda: None if stored is None else _check_stored(stored, wanted), SavedFileError)
        found = {
            name: tensor.entries.scatter(None if stored is None else stored[name], tensor.dtype)
            for name, tensor in sorted(wanted.items())
        }
        noise = NoiseState(saved.noise.seeds, found[f"{NOISE}inputs"][0], found[f"{NOISE}units"][0])
        ranks.run_on_all(lambda: check_noise(units, saved.noise.device, noise), SavedFileError)
        if optimizer is not None and saved.optimizer is not None:
            moments = {n.removeprefix(MOMENT): own for n, own in found.items() if n.startswith(MOMENT)}
            load = partial(load_state, optimizer, parameters, saved.optimizer, moments)
            with all_or_nothing([optimizer]):
                ranks.run_on_all(load, SavedFileError)
    with torch.no_grad():
        for p in parameters:
            for part, values in zip(p.parts, found[f"{VALUE}{p.name}"], strict=True):
                part.copy_(values)
    units.set_noise_state(noise)
    return saved.step


def _tensors(
    net: ShardedRNN, parameters: list[WholeTensor], optimizer: Optimizer, state: OptimizerState | None
) -> dict[str, WholeTensor]:
    """Tensors of the file by name; moments that an optimiser has not yet are of the shapes of parameters."""
    found = {f"{VALUE}{p.name}": p for p in parameters}
    if optimizer is not None and state is not None:
        for p in parameters:
            for key, dtype in state.moments(p.name).items():
                own = [optimizer.state.get(part, {}).get(key, part) for part in p.parts]
                name = f"{MOMENT}{p.name}.{key}"
                found[name] = WholeTensor(name, own, p.entries, dtype)
    noise = net.units.noise_state()
    for name, generator in ((f"{NOISE}inputs", noise.inputs), (f"{NOISE}units", noise.units)):
        found[name] = WholeTensor.alike(net.ranks, name, generator)
    return found


def _network_of(root: nn.Module) -> ShardedRNN:
    found = [part for part in root.modules() if isinstance(part, ShardedRNN)]
    if len(found) != 1:
        what = f"net is a {type(root).__name__} with {len(found)} sharded networks"
        raise SavedFileError(f"{what}; give a ShardedRNN, or a module that holds one.")
    return found[0]


def _parameters(root: nn.Module) -> list[WholeTensor]:
    """Parameters of the network, and all else that is in the state of the module, which ranks have alike."""
    net = _network_of(root)
    prefix = next(name for name, part in root.named_modules() if part is net)
    found = list(whole_parameters(net))
    for name, tensor in root.state_dict(keep_vars=True).items() if prefix else ():
        if not name.startswith(f"{prefix}."):
            if not isinstance(tensor, Tensor):
                raise SavedFileError(f"{name} of net is not a tensor; a file of ranks cannot hold it.")
            found.append(WholeTensor.alike(net.ranks, f"module.{name}", tensor))
    return found


def _check_alike(ranks: Ranks, tensors: dict[str, WholeTensor]) -> None:
    """Refuse what all ranks should have alike and do not."""
    own = {name: digest(t.parts[0]) for name, t in tensors.items() if isinstance(t.entries, Alike)}
    every = ranks.gather(own)
    for rank, other in enumerate(every):
        differing = [name for name, digest in every[0].items() if other.get(name) != digest]
        if differing:
            text = f"{differing[0]} of rank {rank} is not that of rank 0, and should be alike on all ranks"
            raise SavedFileError(f"{text}; give every rank the same, and train with the same gradients.")


def _check_stored(stored: Tensors, wanted: dict[str, WholeTensor]) -> None:
    """Refuse a file without these tensors, or with others of their names."""
    for name, want in wanted.items():
        if name not in stored:
            raise SavedFileError(f"it has no {name}")
        tensor = stored[name]
        if tuple(tensor.shape) != want.entries.shape or tensor.dtype != want.dtype:
            there = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            raise SavedFileError(f"its {name} is {there}, and here {want.dtype} of {want.entries.shape}")
