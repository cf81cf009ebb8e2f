"""The present synapses, weights, tonic inputs and time constants of a network, as a RegionGraph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.declaration.connectivity import IntArray
from sparse_mrnn.declaration.explicit_synapses import SynapseArrays, SynapseBlock
from sparse_mrnn.declaration.graph import PROJECTION_SIGNS, RegionGraph, projection_label
from sparse_mrnn.errors import ConversionError
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.dale import effective

Matrices = tuple[SparseWeights, SparseWeights]
"""The recurrent and the input weights of a network."""


def explicit_graph(
    declared: RegionGraph, matrices: Matrices, tonic_inp: Tensor, initial_x: Tensor, tau: Mapping[str, Any]
) -> RegionGraph:
    """`mRNNBase.to_graph`, from a network's graph, weights, tonic input, initial state and time constants."""
    refuse_low_rank(matrices, "to_graph")
    graph = RegionGraph()
    graph.graph.update(declared.graph)
    tonic, initial = (t.detach().cpu().double().numpy() for t in (tonic_inp, initial_x))
    layout = matrices[0].targets
    for name in declared:
        region = declared.region(name)
        if region.kind == "input":
            graph.set_region(region)
            continue
        units = layout.slice(name)
        now: dict[str, Any] = {"base_firing": _uniform(tonic[units]), "init": _uniform(initial[units])}
        if region.learnable_tau:
            least, largest = region.tau_bounds or (None, None)
            now["tau"] = np.clip(tau[name], least or 0.0, largest or np.inf)  # rounding may leave them
        graph.set_region(replace(region, **now))
    blocks = synapse_blocks(matrices)
    trained = frozenset().union(*(weights.trained_projections for weights in matrices))
    edges = []
    for source, target, key in declared.edges(keys=True):
        name, block = (source, target, key), blocks[source, target, key]
        attrs = declared.edges[name]
        kept = {k: attrs[k] for k in ("self_connections", "sign", "delay") if k in attrs}
        own = PROJECTION_SIGNS.get(kept.get("sign", "inherit"))
        if _against_signs(block, declared.region(source).unit_signs if own is None else own):
            kept["sign"] = "free"  # without Dale's law a weight may have any sign
        edges.append((source, target, key, {**kept, "trainable": name in trained, "weights": block}))
    graph.add_checked(edges)
    return graph


def synapse_blocks(matrices: Matrices, *, base: bool = False) -> dict[ProjectionKey, SynapseBlock]:
    """Weights of every projection as the dynamics use them. O(synapses): those of a kind share arrays.

    With ``base``, those of shared synapses are the base values, without their gains.
    """
    found: dict[ProjectionKey, SynapseBlock] = {}
    for weights in matrices:
        arrays, ptr = _arrays(weights, base), weights.ptr.tolist()
        sizes = [{r.name: r.n for r in layout.regions} for layout in (weights.targets, weights.sources)]
        for k, name in enumerate(weights.projections):
            shape = sizes[0][name[1]], sizes[1][name[0]]
            found[name] = SynapseBlock(arrays, ptr[k], ptr[k + 1], shape)
    return found


def refuse_low_rank(matrices: Matrices, what: str) -> None:
    """Raise an error if a network has projections without synapses.

    Raises
    ------
    ConversionError
        If it has one; the message names it.
    """
    for weights in matrices:
        if weights.low_rank is not None:
            label = projection_label(*weights.low_rank.names[0])
            raise ConversionError(f"{what}: {label} has low rank, and so no synapses; net.save keeps it.")


def _arrays(weights: SparseWeights, base: bool) -> SynapseArrays:
    """All synapses of a matrix, projection after projection, numbered within their regions."""
    table = weights.table()
    values, sign = weights.all_values().detach(), weights.csr_signs()
    if base:
        values = table.values
    if weights.perm is not None:
        sign = torch.empty_like(sign).scatter_(0, weights.perm.long(), sign)
    values = effective(values, None, sign if weights.constrained else None).cpu()
    lengths = table.lengths.numpy()

    def local(units: torch.Tensor, first: IntArray) -> NDArray[np.int32]:
        return (units.cpu().numpy() - np.repeat(first, lengths)).astype(np.int32)

    names, targets, sources = weights.projections, weights.targets, weights.sources
    first_row = targets.ptr[:-1][[targets.index[target] for _, target, _ in names]]
    first_col = sources.ptr[:-1][[sources.index[source] for source, _, _ in names]]
    return SynapseArrays(local(table.row, first_row), local(table.col, first_col), values.numpy())


def _uniform(values: NDArray[np.float64]) -> Any:
    """One number where all are equal."""
    return float(values[0]) if (values == values[0]).all() else values


def _against_signs(block: SynapseBlock, signs: NDArray[np.int8] | int) -> bool:
    """Whether a weight has another sign than its source unit, or the projection."""
    here = slice(block.start, block.stop)
    sign = signs if isinstance(signs, int) else signs[block.arrays.cols[here]]
    return bool((block.arrays.values[here] * sign < 0).any())
