"""Making a network from a file that `mRNNBase.save` wrote."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from sparse_mrnn.declaration.sharing import SynapseLabels
from sparse_mrnn.errors import ConfigError, SavedFileError, SparseMRNNError
from sparse_mrnn.files.nested import unpack
from sparse_mrnn.files.tensors import NETWORK, Header, Tensors, read_tensors
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.explicit_graph import synapse_blocks
from sparse_mrnn.models.leaky import mRNN
from sparse_mrnn.models.network import chosen_device
from sparse_mrnn.models.saving import GRAPH, STATE, projection_order, topology_digest
from sparse_mrnn.models.state_checks import check_state
from sparse_mrnn.ops.products import torch_sparse
from sparse_mrnn.state.graph_tables import LABELS, GraphTables, graph_of_tables

MALFORMED = (SparseMRNNError, ArithmeticError, LookupError, MemoryError, TypeError, ValueError)
"""What a header that was put together by hand may raise; errors of pydantic are ValueErrors."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class NetworkHeader(BaseModel):
    """The header of a saved network."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    version: int
    versions: dict[str, str]
    class_: Literal["mRNN", "ElmanmRNN"] = Field(alias="class")
    settings: dict[str, Any]
    noise_seeds: list[int] = Field(min_length=2, max_length=2)
    not_trained: list[str]
    topology: dict[str, Any]
    order: dict[str, list[int]]
    graph: GraphTables
    extra: dict[str, Any]


def load(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> mRNN | ElmanmRNN:
    """Load a network that ``net.save(path)`` wrote. Nothing in the file is executed.

    Parameters
    ----------
    path : path
    device : str or torch.device, optional
        Default: CUDA where there is one, else the CPU, wherever the network was saved.
    dtype : torch.float32 or torch.float64, optional
        Default: as saved.
    activation : callable, optional
        The function, of a network that was saved with a function of the user's: a file holds its name only.

    Returns
    -------
    mRNN or ElmanmRNN
        Its noise begins at the seed, as that of a new network; a backend that is not installed is "auto".

    Raises
    ------
    SavedFileError
        If the file is missing, damaged, of another kind or of a newer version; the message says which.
    ConfigError
        If the device or dtype is not available.

    Examples
    --------
    >>> import tempfile, sparse_mrnn as sm
    >>> net = sm.mRNN({"recurrent_regions": [{"name": "a", "num_units": 3}]}, tau=50, device="cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.save(f"{folder}/net.safetensors")
    ...     loaded = sm.load(f"{folder}/net.safetensors", device="cpu", dtype=torch.float64)
    >>> loaded.hid_regions, loaded.tau, loaded.dtype
    (['a'], 50, torch.float64)
    """
    if dtype not in (None, *DTYPES.values()):
        raise ConfigError(f"dtype {dtype} is not supported; use torch.float32 or torch.float64.")
    where = chosen_device(device)
    header, tensors = read_tensors(Path(path), NETWORK)
    net = network_of(header, tensors, Path(path), activation)
    return net.to(where, dtype or net.dtype)


def network_of(
    header: Header, tensors: Tensors, path: Path, activation: Callable[[Tensor], Tensor] | None = None
) -> mRNN | ElmanmRNN:
    """The network, on the CPU, of a header and the tensors of its file.

    Raises
    ------
    SavedFileError
        If they do not fit each other.
    """
    try:
        found = NetworkHeader.model_validate(header)
        settings = _settings(found, path, activation)
        net = _network(found, settings, tensors)
    except MALFORMED as error:
        if isinstance(error, SavedFileError) and str(error).startswith(str(path)):
            raise
        what = _first(error) if isinstance(error, ValidationError) else f"{error}".rstrip(".")
        kind = "" if isinstance(error, SparseMRNNError | ValidationError) else f"{type(error).__name__}: "
        raise SavedFileError(f"{path} is damaged: {kind}{what}. Use a copy.") from error
    if topology_digest(net) != found.topology.get("digest") or projection_order(net) != found.order:
        raise SavedFileError(f"{path} is damaged: its synapses do not agree with their digest. Use a copy.")
    return net


def _settings(
    header: NetworkHeader, path: Path, activation: Callable[[Tensor], Tensor] | None
) -> dict[str, Any]:
    settings = {**header.settings, "dtype": DTYPES[header.settings["dtype"]]}
    if settings["backend"] == "torch_sparse" and not torch_sparse.available():
        settings["backend"] = "auto"
    named = settings["activation"]
    if isinstance(named, dict):
        if activation is None:
            name = named["function"]
            raise SavedFileError(
                f"{path}: the activation of this network is a function, {name!r}, which a file cannot hold; "
                f"give it: load(path, activation={name})."
            )
        settings["activation"] = activation
    elif activation is not None:
        raise SavedFileError(f"{path}: the activation of this network is {named!r}; leave activation= out.")
    return settings


def _network(header: NetworkHeader, settings: dict[str, Any], tensors: Tensors) -> mRNN | ElmanmRNN:
    state: dict[str, Any] = _with_prefix(tensors, STATE)
    arrays = {name: tensor.numpy().copy() for name, tensor in _with_prefix(tensors, GRAPH).items()}
    _check_sizes(header.graph, state)
    graph, explicit = graph_of_tables(header.graph, arrays)
    kind = mRNN if header.class_ == "mRNN" else ElmanmRNN
    net = kind(graph, config_finalize=False, device="cpu", **settings)
    net.allocate()
    check_state(net, state)
    state |= {name: unpack(value, tensors) for name, value in header.extra.items()}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise SavedFileError(str(error).replace("\n\t", " ")) from error
    blocks = synapse_blocks(net, base=True) if explicit else {}
    for source, target, key in explicit:
        edge = net.graph.edges[source, target, key]
        edge["weights"] = blocks[source, target, key]
        if LABELS in edge:
            codes = net.weights(net.kind_of(source)).gain_codes((source, target, key))
            edge[LABELS] = SynapseLabels(codes.cpu().numpy(), edge[LABELS].names)
    net._noise_seeds = (header.noise_seeds[0], header.noise_seeds[1])
    parameters = dict(net.named_parameters())
    for name in header.not_trained:
        parameters[name].requires_grad_(False)
    return net


def _check_sizes(graph: GraphTables, state: Tensors) -> None:
    """Refuse a header whose sizes are not those of the tensors, before anything is made of its size."""
    regions, table = graph.regions, graph.projections
    edges = list(zip(table.source, table.target, table.setting, strict=True))
    for kind, part in (("recurrent", "rec"), ("input", "inp")):
        own = [edge for edge in edges if regions[edge[0]]["kind"] == kind]
        ranks = [(s, t, rank) for s, t, k in own if (rank := table.settings[k].get("rank")) is not None]
        units = sum(entry["n"] for entry in regions if entry["kind"] == kind)
        sizes: dict[str, tuple[int, ...]] = {f"{part}.sign": (units,)}
        sizes[f"{part}.ptr"] = (len(own) - len(ranks) + 1,)
        for k, (source, target, rank) in enumerate(ranks):
            sizes[f"{part}.low_rank.left.{k}"] = (regions[target]["n"], rank)
            sizes[f"{part}.low_rank.right.{k}"] = (regions[source]["n"], rank)
        for name, size in sizes.items():
            if name not in state:
                raise SavedFileError(f"the file lacks {name}")
            if (found := tuple(state[name].shape)) != size:
                raise SavedFileError(f"{name} has shape {found}, where the graph makes it {size}")


def _with_prefix(tensors: Tensors, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
