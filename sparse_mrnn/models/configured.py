"""Networks made from a configuration: its graph, with the settings of its ``simulation`` section."""

from __future__ import annotations

import os
from typing import Any

import torch

from sparse_mrnn.declaration.config import NetworkConfig, SimulationConfig, load_config, read_config
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.leaky import mRNN

COMMON = (
    "activation", "noise_level_act", "noise_level_inp", "rec_constrained", "inp_constrained", "batch_first",
    "spectral_radius", "backend", "seed", "dt",
)  # fmt: skip
"""Settings that are arguments of both classes, under the same name."""


def from_config(
    source: str | os.PathLike[str] | dict[str, Any] | NetworkConfig, device: str | None = None
) -> mRNN | ElmanmRNN:
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
    mRNN or ElmanmRNN

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
) -> mRNN | ElmanmRNN:
    """Make the network of a graph with the settings of a configuration's ``simulation`` section.

    Parameters
    ----------
    graph : RegionGraph
    settings : SimulationConfig
    device : str, optional
        Default: CUDA if there is one, else the CPU.

    Returns
    -------
    mRNN or ElmanmRNN

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 3)
    >>> build_network(g, SimulationConfig(model="elman"), "cpu").hid_regions
    ['a']
    """
    model = ElmanmRNN if settings.model == "elman" else mRNN
    return model(graph, device=device, **arguments_of(settings))


def arguments_of(settings: SimulationConfig) -> dict[str, Any]:
    """Keyword arguments of a network's class that a ``simulation`` section has."""
    found: dict[str, Any] = {name: getattr(settings, name) for name in COMMON}
    if settings.model == "leaky":
        found |= {"tau": settings.tau, "integrator": settings.integrator}
    return {**found, "dtype": torch.float64 if settings.dtype == "float64" else torch.float32}
