"""The file of a saved network: its description, seeds and state, read without building anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import SavedFileError
from sparse_mrnn.files.tensors import NETWORK, Tensors, read_tensors, under, write_tensors
from sparse_mrnn.state.checkpoint import STATE, damaged_if_malformed, software_versions
from sparse_mrnn.state.describe import Arrays, DescriptionModel, describe, graph_of

GRAPH = "graph."
"""Beginning of the names of arrays of regions."""
EXTRA_STATE = "_extra_state"
PARTS = {"recurrent": "rec", "input": "inp"}
"""Beginning of the names of a weight matrix' tensors in a state dict."""


class NetworkHeader(BaseModel):
    """The header of a saved network."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    version: int
    versions: dict[str, str]
    network: DescriptionModel
    noise_seeds: tuple[int, int] | None = Field(strict=False)  # JSON has lists
    not_trained: list[str]
    topology: dict[str, Any]


@dataclass(frozen=True, eq=False)
class SavedNetwork:
    """The content of the file of a network."""

    graph: RegionGraph
    """Its explicit projections have no synapses: these are in the state."""
    settings: dict[str, Any]
    state: Tensors
    """The state dict without ``_extra_state``, for which the graph and the settings stand."""
    noise_seeds: tuple[int, int] | None
    """None: noise of torch's global generator."""
    not_trained: list[str]
    """Parameters that do not require gradients."""


def write_network(
    path: Path,
    graph: RegionGraph,
    settings: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    noise_seeds: tuple[int, int] | None,
    not_trained: Iterable[str],
) -> None:
    """Write a network; arguments as the fields of `SavedNetwork`.

    Raises
    ------
    SavedFileError
        If it cannot be written, or the graph holds what a file cannot.
    """
    arrays: Arrays = {}
    header = {
        "versions": software_versions(),
        "network": describe(graph, settings, arrays),
        "noise_seeds": noise_seeds,
        "not_trained": list(not_trained),
        "topology": topology(graph, state),
    }
    tensors = {f"{GRAPH}{name}": torch.from_numpy(array.copy()) for name, array in arrays.items()}
    tensors |= {f"{STATE}{name}": tensor for name, tensor in state.items() if name != EXTRA_STATE}
    write_tensors(path, NETWORK, header, tensors)


def read_network(path: Path) -> SavedNetwork:
    """Read what `write_network` wrote.

    Raises
    ------
    SavedFileError
        If the file is missing, damaged, of another kind or of another version.
    """
    header, tensors = read_tensors(path, NETWORK)
    with damaged_if_malformed(path):
        found = NetworkHeader.model_validate(header)
        state = under(tensors, STATE)
        arrays = {name: tensor.numpy().copy() for name, tensor in under(tensors, GRAPH).items()}
        _check_sizes(found.network, state)
        return SavedNetwork(
            graph=graph_of(found.network, arrays),
            settings=found.network.settings,
            state=state,
            noise_seeds=found.noise_seeds,
            not_trained=found.not_trained,
        )


def topology(graph: RegionGraph, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Sizes of a network: units, inputs, and of each weight matrix."""
    found: dict[str, Any] = {"units": graph.n_units, "inputs": graph.n_inputs}
    for kind, part in PARTS.items():
        gains = state.get(f"{part}.gain_index")
        found[kind] = {
            "synapses": state[f"{part}.col"].numel(),
            "trained_synapses": state[f"{part}.values"].numel(),
            "projections": int((~graph.projection_columns(kind).is_electrical).sum()),
            "gains": 0 if gains is None else gains.numel(),
        }
    if "electrical.rows" in state:
        trained = int(state["electrical.trained"].sum())
        found["electrical"] = {
            "pairs": state["electrical.rows"].numel(),
            "projections": len(state["electrical.trained"]),
            "trained_projections": trained,
        }
    return found


def _check_sizes(network: DescriptionModel, state: Tensors) -> None:
    """Refuse a header whose sizes are not those of the tensors, before anything is made of its size."""
    regions, table = network.regions, network.projections
    ranks_given = enumerate(settings.get("rank") for settings in table.settings)
    rank_of = {k: rank for k, rank in ranks_given if rank is not None}
    electrical = {k for k, settings in enumerate(table.settings) if settings.get("kind") == "electrical"}
    kinds = [entry["kind"] for entry in regions]
    edges = zip(table.source, table.target, table.setting, strict=True)
    low_rank = [edge for edge in edges if edge[2] in rank_of]
    for kind, part in PARTS.items():
        own = sum(
            kinds[source] == kind and setting not in electrical
            for source, setting in zip(table.source, table.setting, strict=True)
        )
        ranks = [(s, t, rank_of[k]) for s, t, k in low_rank if kinds[s] == kind]
        units = sum(entry["n"] for entry in regions if entry["kind"] == kind)
        sizes: dict[str, tuple[int, ...]] = {f"{part}.sign": (units,)}
        sizes[f"{part}.ptr"] = (own - len(ranks) + 1,)
        for k, (source, target, rank) in enumerate(ranks):
            sizes[f"{part}.low_rank.left.{k}"] = (regions[target]["n"], rank)
            sizes[f"{part}.low_rank.right.{k}"] = (regions[source]["n"], rank)
        for name, size in sizes.items():
            if name not in state:
                raise SavedFileError(f"the file lacks {name}")
            if (found := tuple(state[name].shape)) != size:
                raise SavedFileError(f"{name} has shape {found}, but the graph makes it {size}")
