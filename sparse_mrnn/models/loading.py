"""Networks made from a file: one that `mRNNBase.save` wrote, or a configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.declaration.config import NetworkConfig, SimulationConfig, load_config, read_config
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.declaration.sharing import SynapseLabels
from sparse_mrnn.errors import ConfigError, SavedFileError
from sparse_mrnn.models.devices import chosen_device
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.exports import with_synapses
from sparse_mrnn.models.leaky import mRNN
from sparse_mrnn.models.lif import LIF
from sparse_mrnn.models.state_checks import check_state
from sparse_mrnn.ops.products import torch_sparse
from sparse_mrnn.ops.torch_modes import ordinary_tensors
from sparse_mrnn.state.checkpoint import damaged_if_malformed
from sparse_mrnn.state.describe import LABELS
from sparse_mrnn.state.network_file import EXTRA_STATE, SavedNetwork, read_network

Network: TypeAlias = mRNN | ElmanmRNN | LIF
MODELS: dict[str, type[Network]] = {model.model: model for model in (mRNN, ElmanmRNN, LIF)}
"""Networks by the name that a file and a configuration have for them."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}
COMMON = (
    "activation", "noise_level_act", "noise_level_inp", "rec_constrained", "inp_constrained", "batch_first",
    "spectral_radius", "backend", "seed", "dt",
)  # fmt: skip
"""Settings that are arguments of both classes, under the same name."""


def load(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> Network:
    """Load a network that ``net.save(path)`` wrote. Nothing in the file is executed.

    Parameters
    ----------
    path : path
    device : str or torch.device, optional
        Default: CUDA where there is one, else the CPU, wherever the network was saved.
    dtype : torch.float32 or torch.float64, optional
        Default: as saved.
    activation : callable, optional
        The function or module of a network that was saved with one of the user's: a file holds its name, and
        the state of a module, which is loaded into the one given here.

    Returns
    -------
    mRNN, ElmanmRNN or LIF
        Its noise begins at the seed, as that of a new network; a backend that is not installed is "auto".

    Raises
    ------
    SavedFileError
        If the file is missing, damaged, of another kind or of another version; the message says which.
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
    where, file = chosen_device(device), Path(path)
    with ordinary_tensors():
        saved = read_network(file)
        with damaged_if_malformed(file):
            net = _network(saved, _settings(saved.settings, file, activation))
        return net.to(where, dtype or net.dtype)


def _settings(
    saved: dict[str, Any], path: Path, activation: Callable[[Tensor], Tensor] | None
) -> dict[str, Any]:
    settings = {**saved, "dtype": DTYPES[saved["dtype"]]}
    if settings["backend"] == "torch_sparse" and not torch_sparse.available():
        settings["backend"] = "auto"
    has_one = "activation" in MODELS[settings["model"]].setting_names
    named = settings["activation"] if has_one else None
    if isinstance(named, dict):
        if activation is None:
            name = named["function"]
            raise SavedFileError(
                f"{path}: the activation of this network is a function, {name!r}, which a file cannot hold; "
                f"give it: load(path, activation={name})."
            )
        settings["activation"] = activation
    elif activation is not None:
        what = "this network has no activation" if named is None else f"its activation is {named!r}"
        raise SavedFileError(f"{path}: {what}; leave activation= out.")
    return settings


def _network(saved: SavedNetwork, settings: dict[str, Any]) -> Network:
    """Build the network, on the CPU. The state is checked here, once."""
    model = MODELS[settings.pop("model")]
    net = model(saved.graph, config_finalize=False, device="cpu", **settings)
    net.allocate()
    own: dict[str, Tensor] = {k: v for k, v in net.state_dict(keep_vars=True).items() if k != EXTRA_STATE}
    check_state(net, own, saved.state)
    net.load_state_dict(saved.state, strict=False)  # without the description, which made this network
    _give_synapses(net)
    net.set_noise_seeds(saved.noise_seeds)
    parameters = dict(net.named_parameters())
    for name in saved.not_trained:
        parameters[name].requires_grad_(False)
    return net


def _give_synapses(net: Network) -> None:
    """Give the explicit projections of the network's graph the synapses of its state."""
    every = net.graph.projection_columns()
    declared = every.columns
    if not every.in_arrays.any():
        return
    found, _ = with_synapses(every, net.weight_matrices(), net.electrical, base=True)
    settings, setting, names = list(declared.settings), declared.setting.copy(), every.names
    for k in np.flatnonzero(every.in_arrays & every.has(LABELS)).tolist():
        source, target, key = names[k]
        codes = net.weights(net.kind_of(source)).gain_codes((source, target, key)).cpu().numpy()
        attrs = settings[setting[k]][1]
        setting[k] = len(settings)
        settings.append((key, {**attrs, LABELS: SynapseLabels(codes, attrs[LABELS].names)}))
    table = np.where(every.in_arrays, found.table, -1).astype(np.int32)
    net.graph.replace_columns(replace(found, setting=setting, settings=tuple(settings), table=table))


def from_config(
    source: str | os.PathLike[str] | dict[str, Any] | NetworkConfig, device: str | None = None
) -> Network:
    """Make the network of a configuration, with its ``simulation`` section: `to_config` reversed.

    ``mRNN(config)``, as in mRNNTorch, takes the graph alone; its settings are its arguments.

    Parameters
    ----------
    source : path, dict or NetworkConfig
        A JSON file, the name of a built-in example, or the content of such a file.
    device : str, optional
        Default: CUDA if there is one, else the CPU.

    Returns
    -------
    mRNN, ElmanmRNN or LIF

    Raises
    ------
    ConfigError
        As `read_config`, and if a setting is not possible.

    Examples
    --------
    >>> config = {"recurrent_regions": [{"num_units": 3}], "simulation": {"tau": 50, "activation": "tanh"}}
    >>> net = from_config(config, device="cpu")
    >>> net.tau, net.activation.name
    (50.0, 'tanh')
    """
    config = source if isinstance(source, NetworkConfig) else load_config(source)
    return build_network(read_config(config), config.simulation or SimulationConfig(), device)


def build_network(
    graph: RegionGraph, settings: SimulationConfig, device: str | None = None
) -> Network:
    """Make the network of a graph with the settings of a configuration's ``simulation`` section.

    Parameters
    ----------
    graph : RegionGraph
    settings : SimulationConfig
    device : str, optional
        Default: CUDA if there is one, else the CPU.

    Returns
    -------
    mRNN, ElmanmRNN or LIF

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 3)
    >>> build_network(g, SimulationConfig(model="elman"), "cpu").hid_regions
    ['a']
    """
    return MODELS[settings.model](graph, device=device, **arguments_of(settings))


def arguments_of(settings: SimulationConfig) -> dict[str, Any]:
    """Keyword arguments of a network's class that a ``simulation`` section has."""
    if settings.model == "lif":  # its defaults, such as that of dt, are its own
        given = (name for name in LIF.setting_names if name in settings.model_fields_set)
        own = {name: getattr(settings, name) for name in given}
        return {**own, "dtype": DTYPES[settings.dtype]}
    found: dict[str, Any] = {name: getattr(settings, name) for name in COMMON}
    if settings.model == "leaky":
        found |= {"tau": settings.tau, "integrator": settings.integrator}
    return {**found, "dtype": DTYPES[settings.dtype]}
