"""A network as what it can be turned into: a graph of its synapses, scipy, networkx and torch_geometric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import networkx as nx
import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.declaration.connectivity import IntArray
from sparse_mrnn.declaration.explicit_synapses import SynapseArrays
from sparse_mrnn.declaration.graph import RegionGraph, projection_label
from sparse_mrnn.declaration.projection_columns import ProjectionColumns, Projections
from sparse_mrnn.declaration.regions import LEARNT_FROM
from sparse_mrnn.errors import ConfigError, ConversionError, MissingExtraError, suggest
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.models.delays import refuse_drawn_delays
from sparse_mrnn.models.electrical import ElectricalSynapses, refuse_electrical
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.pattern import to_scipy as matrix_to_scipy
from sparse_mrnn.ops.weights import effective

OF_SYNAPSES = ("self_connections", "sign", "delay", "kind", "rectifies")
"""Settings of a projection that say what its synapses do, besides their weights."""
Matrices = tuple[SparseWeights, SparseWeights]
"""The recurrent and the input weights of a network."""


def explicit_graph(
    declared: RegionGraph, matrices: Matrices, electrical: ElectricalSynapses | None,
    values: Mapping[str, Tensor], tau: Mapping[str, Any],
) -> RegionGraph:
    """`mRNNBase.to_graph`, from a network's graph, weights, conductances, values of its units and time
    constants."""
    refuse_low_rank(matrices, "to_graph")
    graph = RegionGraph()
    graph.graph.update(declared.graph)
    arrays = {name: tensor.detach().cpu().double().numpy() for name, tensor in values.items()}
    learnt = {start: field for field, start in LEARNT_FROM.items()}
    layout = matrices[0].targets
    for name in declared:
        region = declared.region(name)
        if region.kind == "input":
            graph.set_region(region)
            continue
        units = layout.slice(name)
        now: dict[str, Any] = {
            name: _uniform(array[units])
            for name, array in arrays.items()
            if name in ("base_firing", "init") or getattr(region, learnt[name])
        }
        if region.learnable_tau:
            least, largest = region.tau_bounds or (None, None)
            now["tau"] = np.clip(tau[name], least or 0.0, largest or np.inf)  # rounding may leave them
        graph.set_region(replace(region, **now))
    every = declared.projection_columns()
    columns, against = with_synapses(every, matrices, electrical)
    is_trained = np.zeros(len(every), dtype=bool)
    for weights in matrices:
        is_trained[_declared_rows(every, weights)] = weights.are_trained
    if electrical is not None:
        is_trained[every.is_electrical] = electrical.trained.cpu().numpy()
    # Settings as of now: each of those declared, perhaps of either sign, trained or not.
    kinds, setting = np.unique(columns.setting * 4 + against * 2 + is_trained, return_inverse=True)
    settings = []
    for kind in kinds.tolist():
        key, attrs = columns.settings[kind // 4]
        kept = {k: attrs[k] for k in OF_SYNAPSES if k in attrs}
        if kind % 4 >= 2:
            kept["sign"] = "free"  # without Dale's law a weight may have any sign
        settings.append((key, {**kept, "trainable": kind % 2 == 1}))
    numbers = setting.reshape(-1).astype(np.int32)
    graph.add_columns(replace(columns, setting=numbers, settings=tuple(settings)))
    return graph


def with_synapses(
    declared: Projections, matrices: Matrices, electrical: ElectricalSynapses | None, *, base: bool = False
) -> tuple[ProjectionColumns, NDArray[np.bool_]]:
    """Give projections the weights that the dynamics use, and tell which are against their declared sign.

    O(synapses): those of a kind share arrays. With ``base``, the weights of shared synapses are the base
    values, without their gains.
    """
    columns = declared.columns
    against, table = np.zeros((2, len(columns)), dtype=np.int32)
    start, stop = np.zeros((2, len(columns)), dtype=np.int64)
    low_rank, arrays = declared.has("rank"), []
    table[low_rank] = -1
    for number, weights in enumerate(matrices):
        rows, ptr = _declared_rows(declared, weights), weights.ptr.cpu().numpy()
        table[rows], start[rows], stop[rows] = number, ptr[:-1], ptr[1:]
        found, wrong = _arrays(weights, base)
        before = np.append(0, np.cumsum(wrong))
        against[rows] = before[ptr[1:]] > before[ptr[:-1]]
        arrays.append(found)
    if electrical is not None:
        rows, (found, ptr) = np.flatnonzero(declared.is_electrical), electrical.arrays()
        table[rows], start[rows], stop[rows] = len(arrays), ptr[:-1], ptr[1:]
        arrays.append(found)
    found_columns = replace(columns, table=table, start=start, stop=stop, arrays=tuple(arrays))
    return found_columns, against.astype(bool)


def _declared_rows(declared: Projections, weights: SparseWeights) -> NDArray[np.int64]:
    """Place among the declared projections of each one of a matrix, in the order of its values."""
    inputs = np.array([region.kind == "input" for region in declared.regions], dtype=bool)
    kind = inputs[declared.columns.source] == (weights.kind == "input")
    own = np.flatnonzero(kind & declared.has_synapses)
    return own[weights.projection_names.places_in(declared.names.take(own))]


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


def _arrays(weights: SparseWeights, base: bool) -> tuple[SynapseArrays, NDArray[np.bool_]]:
    """All synapses of a matrix, projection after projection, numbered within their regions.

    The mask tells which have another sign than their source, or their projection.
    """
    table = weights.table()
    values, sign = weights.all_values().detach(), weights.csr_signs()
    if base:
        values = table.values
    if weights.perm is not None:
        sign = torch.empty_like(sign).scatter_(0, weights.perm.long(), sign)
    values = effective(values, None, sign if weights.constrained else None).cpu()
    extents, lengths = weights.extent_table(), table.lengths.numpy()

    def local(units: torch.Tensor, first: IntArray) -> NDArray[np.int32]:
        return (units.cpu().numpy() - np.repeat(first, lengths)).astype(np.int32)

    found = SynapseArrays(local(table.row, extents[:, 2]), local(table.col, extents[:, 4]), values.numpy())
    return found, np.sign(found.values) * sign.cpu().numpy() < 0


def _uniform(values: NDArray[np.float64]) -> Any:
    """One number where all are equal."""
    return float(values[0]) if (values == values[0]).all() else values


def to_scipy(weights: SparseWeights, regions: str | Sequence[str] | None) -> sp.csr_array:
    """`mRNNBase.to_scipy`."""
    names = [regions] if isinstance(regions, str) else None if regions is None else list(regions)
    matrix = matrix_to_scipy(weights.matrix())
    if names is None:
        return matrix
    rows = np.sort(weights.targets.indices(*names))
    cols = rows if weights.kind == "recurrent" else np.arange(weights.shape[1])
    return sp.csr_array(matrix[rows][:, cols])


def to_networkx(
    graph: RegionGraph, matrices: Matrices, electrical: ElectricalSynapses | None,
    of: Literal["units", "regions"],
) -> nx.MultiDiGraph:
    """`mRNNBase.to_networkx`."""
    if of == "units":
        why = "an edge between units is a chemical synapse; net.electrical has the pairs"
        refuse_electrical(electrical, "to_networkx of units", why, ConversionError)
        return _of_units(graph.name, matrices)
    if of == "regions":
        return _of_regions(graph, matrices, electrical)
    hint = suggest(of, ("units", "regions"))
    raise ConfigError(f"to_networkx: of is {of!r}; use 'units' or 'regions'. {hint}")


def to_torch_geometric(matrices: Matrices, electrical: ElectricalSynapses | None) -> Any:
    """`mRNNBase.to_torch_geometric`."""
    try:
        from torch_geometric.data import Data
    except ImportError:
        advice = "install it with: pip install torch_geometric"
        raise MissingExtraError(f"to_torch_geometric needs torch_geometric; {advice}") from None
    refuse_low_rank(matrices, "to_torch_geometric")
    why = "an edge of the result is a chemical synapse; net.electrical has the pairs"
    refuse_electrical(electrical, "to_torch_geometric", why, ConversionError)
    n, inputs = (weights.sources for weights in matrices)
    parts: dict[str, list[torch.Tensor]] = {"edge_index": [], "edge_weight": [], "projection": []}
    first = 0
    for weights in matrices:
        offset = 0 if weights.kind == "recurrent" else n.n
        row, col = weights.pattern.row.long(), weights.col.long() + offset
        parts["edge_index"].append(torch.stack([col, row]))
        parts["edge_weight"].append(weights.csr_values().detach())
        parts["projection"].append(weights.projection_of_entry().long() + first)
        first += len(weights.projections)
    joined = {name: torch.cat(part, dim=-1) for name, part in parts.items()}
    sizes = [region.n for layout in (n, inputs) for region in layout.regions]
    device = joined["edge_index"].device
    return Data(
        **joined,
        num_nodes=n.n + inputs.n,
        region=torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(device),
        sign=torch.cat([weights.sign for weights in matrices]),
        is_input=torch.arange(n.n + inputs.n, device=device) >= n.n,
        region_names=[region.name for layout in (n, inputs) for region in layout.regions],
        unit_ids=[*n.unit_ids, *inputs.unit_ids],
        projection_names=[name for weights in matrices for name in weights.projections],
    )


def _of_units(name: str, matrices: Matrices) -> nx.MultiDiGraph:
    refuse_low_rank(matrices, "to_networkx of units")
    graph = nx.MultiDiGraph(name=name)
    layouts = {weights.kind: weights.sources for weights in matrices}
    names = _node_names(layouts)
    for kind, layout in layouts.items():
        region = np.repeat([r.name for r in layout.regions] or [""], [r.n for r in layout.regions] or [0])
        rows = zip(names[kind], region.tolist(), layout.unit_signs.tolist(), strict=True)
        graph.add_nodes_from((name, {"region": r, "kind": kind, "sign": sign}) for name, r, sign in rows)
        for r, first in zip(layout.regions, layout.ptr.tolist(), strict=False):
            for k, where in enumerate([] if r.positions is None else r.positions.tolist()):
                graph.nodes[names[kind][first + k]].update(zip("xyz", where, strict=False))
    for weights in matrices:
        refuse_drawn_delays(weights)
        delays = dict(zip(weights.projections, weights.delays, strict=True))
        more = {name: {} if delay is None else {"delay": delay} for name, delay in delays.items()}
        graph.add_edges_from(
            (names[weights.kind][j], names["recurrent"][i], key, {"weight": value, **more[s, t, key]})
            for (s, t, key), i, j, value in _synapses(weights)
        )
    return graph


def _synapses(weights: SparseWeights) -> Any:
    """(projection, target, source, effective weight) of every synapse, in CSR order."""
    row, col = weights.pattern.row.tolist(), weights.col.tolist()
    projection = weights.projection_of_entry().tolist()
    values = weights.csr_values().detach().cpu().double().tolist()
    for k, i, j, value in zip(projection, row, col, values, strict=True):
        yield weights.projections[k], i, j, value


def _node_names(layouts: dict[str, Layout]) -> dict[str, list[str]]:
    """Unit ids; "region/id" for all units of an id that is used twice."""
    count: dict[str, int] = {}
    for layout in layouts.values():
        for unit in layout.unit_ids:
            count[unit] = count.get(unit, 0) + 1
    return {
        kind: [
            unit if count[unit] == 1 else f"{layout.region_of(k)[0].name}/{unit}"
            for k, unit in enumerate(layout.unit_ids)
        ]
        for kind, layout in layouts.items()
    }


def _of_regions(
    declared: RegionGraph, matrices: Matrices, electrical: ElectricalSynapses | None
) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph(name=declared.name)
    for name in declared:
        region = declared.region(name)
        signs = np.unique(region.unit_signs).tolist()
        sign = {1: "pos", -1: "neg", 0: "none"}[signs[0]] if len(signs) == 1 else "mixed"
        parent = {} if region.parent_region is None else {"parent_region": region.parent_region}
        graph.add_node(name, kind=region.kind, units=region.n, sign=sign, **parent)
    every = declared.projection_columns()
    found, _ = with_synapses(every, matrices, electrical)
    sizes, names = [region.n for region in every.regions], every.names
    rows = [*(_declared_rows(every, weights) for weights in matrices), np.flatnonzero(every.is_electrical)]
    for k in np.concatenate(rows).tolist():
        own = found.attributes(k, sizes)
        block = own["weights"]
        values = block.arrays.values[block.start : block.stop].astype(np.float64)
        attrs = {
            "synapses": block.nnz,
            "density": block.nnz / (block.shape[0] * block.shape[1]),
            "weight": float(values.sum()),
            "mean_weight": float(values.mean()) if len(values) else 0.0,
        }
        source, target, key = names[k]
        delay = {name: own[name] for name in ("delay", "kind", "rectifies") if name in own}
        graph.add_edge(source, target, key, **attrs, **delay)
    for k in np.flatnonzero(every.has("rank")).tolist():
        source, target, key = names[k]
        graph.add_edge(source, target, key, rank=every[k].rank)
    return graph
