"""What a file says of a network: its class, settings, graph and state; and writing it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sparse_mrnn.errors import FinalizeError, SavedFileError
from sparse_mrnn.files.nested import pack
from sparse_mrnn.files.tensors import NETWORK, Header, Tensors, digest_of, write_tensors
from sparse_mrnn.state.graph_tables import graph_tables

if TYPE_CHECKING:
    from sparse_mrnn.models.network import mRNNBase

CLASSES = ("mRNN", "ElmanmRNN")
NOT_SAVED = ("config", "config_finalize", "device")
"""Arguments of a network that are none of its settings: the graph is kept apart, the device chosen anew."""
STATE, GRAPH, EXTRA = "state.", "graph.", "extra."
"""What the names of tensors in a file begin with."""


def save_network(net: mRNNBase, path: str | os.PathLike[str]) -> None:
    """`mRNNBase.save`."""
    header, tensors = network_parts(net)
    write_tensors(Path(path), NETWORK, header, tensors)


def network_parts(net: mRNNBase) -> tuple[Header, Tensors]:
    """Header and tensors of a network's file.

    Raises
    ------
    FinalizeError
        If it is not finalised.
    SavedFileError
        If it is of a class of the user's own, or its graph holds what a file cannot.
    """
    name = type(net).__name__
    if name not in CLASSES or not type(net).__module__.startswith("sparse_mrnn."):
        raise SavedFileError(
            f"{name} is a class of your own, which a file cannot name. save_checkpoint keeps its parameters; "
            "load_checkpoint loads them into one that your code has made."
        )
    if not (net.rec_finalized and net.inp_finalized):
        raise FinalizeError("save: the network is not finalised; call finalize_connectivity() first.")
    tables, arrays = graph_tables(net.graph)
    tensors = {f"{GRAPH}{key}": torch.from_numpy(array.copy()) for key, array in arrays.items()}
    extra = packed_state(net, tensors)
    header = {
        "versions": software_versions(),
        "class": name,
        "settings": constructor_settings(net),
        "noise_seeds": list(net._noise_seeds),
        "not_trained": [key for key, p in net.named_parameters() if not p.requires_grad],
        "topology": {**topology(net), "digest": topology_digest(net)},
        "order": projection_order(net),
        "graph": tables.model_dump(),
        "extra": extra,
    }
    return header, tensors


def packed_state(module: nn.Module, tensors: Tensors) -> dict[str, Any]:
    """Put the tensors of a module's state into ``tensors``; what is no tensor, as JSON."""
    extra: dict[str, Any] = {}
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            tensors[f"{STATE}{name}"] = value
        else:
            extra[name] = pack(value, f"{EXTRA}{name}", tensors)
    return extra


def constructor_settings(net: mRNNBase) -> dict[str, Any]:
    """Arguments that make a network like this one, apart from its graph and device, as JSON.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> net = sm.mRNN({"recurrent_regions": [{"num_units": 3}]}, activation="tanh", tau=50, device="cpu")
    >>> settings = constructor_settings(net)
    >>> settings["activation"], settings["tau"], settings["dtype"]
    ('tanh', 50, 'float32')
    """
    names = (name for name in inspect.signature(type(net)).parameters if name not in NOT_SAVED)
    found = {name: _plain(getattr(net, name)) for name in names}
    found["dtype"] = str(net.dtype).removeprefix("torch.")
    own = net.activation.slope_into is None
    found["activation"] = {"function": net.activation.name} if own else net.activation.name
    return found


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as those of Python."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return value.item() if isinstance(value, np.generic | Tensor) else value


def description(net: mRNNBase) -> dict[str, Any]:
    """Class, settings, regions and projections of a network by name, as JSON; arrays as their digests.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> net = sm.mRNN({"recurrent_regions": [{"name": "a", "num_units": 3}]}, device="cpu")
    >>> description(net)["regions"]
    {'a': {'n': 3, 'kind': 'recurrent', 'sign': 'pos'}}
    """
    tables, arrays = graph_tables(net.graph)
    digests = {name: digest_of({}, {"array": torch.from_numpy(a.copy())}) for name, a in arrays.items()}

    def plain(value: Any) -> Any:
        return digests[value["array"]] if isinstance(value, dict) else value

    regions = {}
    for entry in tables.regions:
        regions[entry["name"]] = {k: plain(v) for k, v in entry.items() if k != "name"}
    names, edges = list(net.graph), tables.projections
    projections = {}
    for source, target, k in zip(edges.source, edges.target, edges.setting, strict=True):
        settings = dict(edges.settings[k])
        projections[f"{names[source]} -> {names[target]} ({settings.pop('key')})"] = settings
    kind, settings = type(net).__name__, constructor_settings(net)
    return {"class": kind, "settings": settings, "regions": regions, "projections": projections}


def topology(net: mRNNBase) -> dict[str, Any]:
    """Sizes of a network: units, inputs, and of each weight matrix."""
    found: dict[str, Any] = {"units": net.layout().n, "inputs": net.layout("input").n}
    for weights in net.weight_matrices():
        found[weights.kind] = {
            "synapses": weights.nnz,
            "trained_synapses": weights.values.numel(),
            "projections": len(weights.all_projections),
            "gains": len(weights.gain_names),
        }
    return found


def topology_digest(net: mRNNBase) -> str:
    """Digest of which unit reaches which through which projection; values play no part."""
    parts: dict[str, Tensor] = {}
    names = {weights.kind: list(weights.all_projections) for weights in net.weight_matrices()}
    for weights in net.weight_matrices():
        own = {"crow": weights.crow, "col": weights.col, "ptr": weights.ptr, "perm": weights.perm}
        parts |= {f"{weights.kind}.{name}": t for name, t in own.items() if t is not None}
    return digest_of(names, parts)


def projection_order(net: mRNNBase) -> dict[str, list[int]]:
    """Projections of each weight matrix in the order of its values, by their numbers in the graph."""
    number = {edge: k for k, edge in enumerate(net.graph.edges(keys=True))}
    return {weights.kind: [number[name] for name in weights.projections] for weights in net.weight_matrices()}


def weights_digest(net: mRNNBase) -> str:
    """Digest of the effective weights, in the order of their rows and columns."""
    parts = {weights.kind: weights.csr_values() for weights in net.weight_matrices()}
    for weights in net.weight_matrices():
        if weights.low_rank is not None:
            parts[f"{weights.kind} low rank"] = weights.low_rank.stored_values()
    return digest_of({}, parts)


def software_versions() -> dict[str, str]:
    """Of this package and of torch."""
    import sparse_mrnn

    return {"sparse_mrnn": sparse_mrnn.__version__, "torch": torch.__version__}
