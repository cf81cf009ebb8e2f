"""mRNNTorch's configurations, whose sparsity is the fraction its code zeroes, not the one it documents."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any, Literal, cast

import numpy as np
import torch

from sparse_mrnn.checks import option
from sparse_mrnn.declaration.config import Connection, NetworkConfig, load_config, read_config
from sparse_mrnn.declaration.graph import Region, RegionGraph, projection_label
from sparse_mrnn.errors import ConfigError, ConversionError, ConversionWarning
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.leaky import mRNN
from sparse_mrnn.models.weights import SparseWeights

Config = str | os.PathLike[str] | dict[str, Any] | NetworkConfig
Meaning = Literal["zeroed", "kept"]
MEANINGS = ("zeroed", "kept")
OTHER_FIELDS = (
    "tau", "learnable_tau", "activation", "noise_level", "learnable_noise", "activation_gain",
    "activation_threshold", "learnable_activation_gain", "learnable_activation_threshold",
)  # fmt: skip
"""Fields of a region that mRNNTorch does not have."""


def graph_from_mrnntorch(config: Config, *, sparsity: Meaning = "zeroed") -> RegionGraph:
    """The graph of an mRNNTorch configuration, whose synapses are drawn as its code draws them.

    Parameters
    ----------
    config : path, dict or NetworkConfig
    sparsity : {"zeroed", "kept"}
        "zeroed": of the n synapses out of a source unit, ceil(sparsity n) are left out, as in mRNNTorch 0.1.
        "kept": each exists with this probability, as it documents.

    Raises
    ------
    ConfigError
        As `read_config`.

    Examples
    --------
    >>> config = {"recurrent_regions": [{"name": "a", "num_units": 50}],
    ...           "recurrent_connections": [{"src_region": "a", "dst_region": "a", "sparsity": 0.9}]}
    >>> next(graph_from_mrnntorch(config).projections()).rule
    FixedFanOut(fan_out=5)
    """
    sparsity = meaning_of(sparsity)
    found = _loaded(config).model_copy(deep=True)
    units = {region.name: region.num_units for region in found.recurrent_regions}
    for connection in _connections(found):
        n = units.get(connection.dst_region)
        if sparsity == "zeroed" and connection.sparsity is not None and n is not None:
            if not 0 <= connection.sparsity <= 1:
                raise ConfigError(f"sparsity is {connection.sparsity!r}; it must be between 0 and 1.")
            connection.rule = {"type": "fixed_fan_out", "fan_out": n - math.ceil(connection.sparsity * n)}
            connection.sparsity = None
    return read_config(found)


def to_mrnntorch_config(net: mRNN | ElmanmRNN, *, sparsity: Meaning = "zeroed") -> dict[str, Any]:
    """A configuration from which mRNNTorch builds a network that takes `to_mrnntorch`'s state dict.

    Tonic inputs and initial states are those of now, as a list where the units of a region differ: mRNNTorch
    takes such a list from its own code only, as ``region.base_firing``.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    sparsity : {"zeroed", "kept"}
        Which fraction to write; mRNNTorch 0.1 zeroes it.

    Raises
    ------
    ConversionError
        As `to_mrnntorch`.
    """
    sparsity = meaning_of(sparsity)
    check_convertible(net)
    graph = net.to_graph()
    found: dict[str, Any] = {}
    for kind in ("recurrent", "input"):
        regions = found[f"{kind}_regions"] = []
        for region in graph.regions(kind):
            entry: dict[str, Any] = {"name": region.name, "num_units": region.n, "sign": _sign_of(region)}
            if kind == "recurrent":
                entry["base_firing"] = np.asarray(region.base_firing).tolist()
                entry["init"] = np.asarray(region.init).tolist()
                entry["parent_region"] = region.parent_region
                entry["learnable_bias"] = bool(region.learnable_bias)
            regions.append(entry)
        connections = found[f"{kind}_connections"] = []
        for p in graph.projections(kind):
            density = p.expected_synapses / (p.pair.n_target * p.pair.n_source)
            fraction = None if density == 1 else density if sparsity == "kept" else 1 - density
            connections.append({"src_region": p.source, "dst_region": p.target, "sparsity": fraction})
    return found


def meaning_of(sparsity: str) -> Meaning:
    """Check which fraction the sparsity of a configuration is."""
    return cast(Meaning, option(sparsity, MEANINGS, "sparsity", ConversionError))


def _loaded(config: Config) -> NetworkConfig:
    return config if isinstance(config, NetworkConfig) else load_config(config)


def _connections(config: NetworkConfig) -> list[Connection]:
    return [*config.recurrent_connections, *config.input_connections]


def warn_of_sparsity(config: Config, graph: RegionGraph, sparsity: Meaning) -> None:
    """Warn where the synapses of a graph are nearer to the other meaning of a configuration's sparsity."""
    for c in _connections(_loaded(config)):
        edges = graph.get_edge_data(c.src_region, c.dst_region)
        if c.sparsity is None or not edges:
            continue
        block = next(iter(edges.values()))["weights"]
        kept = block.nnz / (block.shape[0] * block.shape[1])
        meant, other = c.sparsity, 1 - c.sparsity
        if sparsity == "zeroed":
            meant, other = other, meant
        if abs(kept - meant) > abs(kept - other):
            label, turned = projection_label(c.src_region, c.dst_region), MEANINGS[sparsity == "zeroed"]
            warnings.warn(
                f"{label}: the mask keeps {kept:.0%}, and sparsity {c.sparsity:g} read as {sparsity!r} means "
                f"{meant:.0%}; the mask decides. Pass sparsity={turned!r} if the configuration means that.",
                ConversionWarning,
                stacklevel=3,
            )
            return


def check_convertible(net: mRNN | ElmanmRNN) -> None:
    """Refuse a network that mRNNTorch cannot be; the message names all that it does not have."""
    found = []
    for region in net.layout().regions:
        given = ((name, getattr(region, name)) for name in OTHER_FIELDS)
        own = [name for name, value in given if value is not None and value is not False]
        if own:
            found.append(f"{' or '.join(own)} of a region ({region.name!r})")
    if isinstance(net, mRNN) and net.integrator != "euler":
        found.append(f"integrator {net.integrator!r}")
    if net.activation.slope_into is None:
        found.append(f"activation {net.activation.name!r}")
    if net.electrical is not None:
        found.append(f"electrical synapses ({projection_label(*net.electrical.names[0])})")
    for weights in net.weight_matrices():
        found += _reasons_of(weights)
    if found:
        raise ConversionError(f"mRNNTorch has no {'; no '.join(found)}.")


def _reasons_of(weights: SparseWeights) -> list[str]:
    low_rank = () if weights.low_rank is None else weights.low_rank.names
    found = [f"projection of low rank ({projection_label(*name)})" for name in low_rank]
    for name, delay in zip(weights.projections, weights.delays, strict=True):
        if delay is not None:
            found.append(f"delay ({projection_label(*name)})")
    row, col, projection = weights.pattern.row, weights.col, weights.projection_of_entry()
    again = torch.nonzero((torch.diff(row) == 0) & (torch.diff(col) == 0))
    if len(again):
        label = projection_label(*weights.projections[int(projection[again[0] + 1])])
        found.append(f"two synapses from one unit to another ({label})")
    free = torch.nonzero(weights.csr_signs() == 0)
    if len(free) and weights.constrained:
        label = projection_label(*weights.projections[int(projection[free[0]])])
        found.append(f"synapse without a sign under Dale's law ({label})")
    return found


def _sign_of(region: Region) -> str:
    kinds = set(region.unit_signs.tolist()) - {0}
    if len(kinds) > 1:
        raise ConversionError(f"mRNNTorch has no region of both signs, as {region.name!r} is; split it.")
    return "neg" if kinds == {-1} else "pos"
