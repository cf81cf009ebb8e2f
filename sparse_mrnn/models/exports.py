"""A network as what other software takes: scipy, networkx and torch_geometric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import networkx as nx
import numpy as np
import scipy.sparse as sp
import torch

from sparse_mrnn.errors import ConfigError, MissingExtraError, suggest
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.models.explicit_graph import refuse_low_rank, synapse_blocks
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.pattern import to_scipy as matrix_to_scipy

if TYPE_CHECKING:
    from sparse_mrnn.models.network import mRNNBase


def to_scipy(net: mRNNBase, regions: str | Sequence[str] | None, kind: str) -> sp.csr_array:
    """`mRNNBase.to_scipy`."""
    weights = net.weights(kind)
    names = [regions] if isinstance(regions, str) else None if regions is None else list(regions)
    matrix = matrix_to_scipy(weights.matrix())
    if names is None:
        return matrix
    rows = np.sort(weights.targets.indices(*names))
    cols = rows if kind == "recurrent" else np.arange(weights.shape[1])
    return sp.csr_array(matrix[rows][:, cols])


def to_networkx(net: mRNNBase, of: Literal["units", "regions"]) -> nx.MultiDiGraph:
    """`mRNNBase.to_networkx`."""
    if of == "units":
        return _of_units(net)
    if of == "regions":
        return _of_regions(net)
    hint = suggest(of, ("units", "regions"))
    raise ConfigError(f"to_networkx: of is {of!r}; use 'units' or 'regions'. {hint}")


def to_torch_geometric(net: mRNNBase) -> Any:
    """`mRNNBase.to_torch_geometric`."""
    try:
        from torch_geometric.data import Data
    except ImportError:
        advice = "install it with: pip install torch_geometric"
        raise MissingExtraError(f"to_torch_geometric needs torch_geometric; {advice}") from None
    refuse_low_rank(net, "to_torch_geometric")
    n, inputs = net.layout(), net.layout("input")
    parts: dict[str, list[torch.Tensor]] = {"edge_index": [], "edge_weight": [], "projection": []}
    first = 0
    for weights in net.weight_matrices():
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
        sign=torch.cat([weights.sign for weights in net.weight_matrices()]),
        is_input=torch.arange(n.n + inputs.n, device=device) >= n.n,
        region_names=[*net.hid_regions, *net.inp_regions],
        unit_ids=[*n.unit_ids, *inputs.unit_ids],
        projection_names=[name for weights in net.weight_matrices() for name in weights.projections],
    )


def _of_units(net: mRNNBase) -> nx.MultiDiGraph:
    refuse_low_rank(net, "to_networkx of units")
    graph = nx.MultiDiGraph(name=net.graph.name)
    names = _node_names(net)
    for kind in ("recurrent", "input"):
        layout = net.layout(kind)
        region = np.repeat([r.name for r in layout.regions] or [""], [r.n for r in layout.regions] or [0])
        rows = zip(names[kind], region.tolist(), layout.unit_signs.tolist(), strict=True)
        graph.add_nodes_from((name, {"region": r, "kind": kind, "sign": sign}) for name, r, sign in rows)
        for r, first in zip(layout.regions, layout.ptr.tolist(), strict=False):
            for k, where in enumerate([] if r.positions is None else r.positions.tolist()):
                graph.nodes[names[kind][first + k]].update(zip("xyz", where, strict=False))
    for weights in net.weight_matrices():
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


def _node_names(net: mRNNBase) -> dict[str, list[str]]:
    """Unit ids; where one is used twice, "region/id" for all units of that id."""
    layouts: dict[str, Layout] = {kind: net.layout(kind) for kind in ("recurrent", "input")}
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


def _of_regions(net: mRNNBase) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph(name=net.graph.name)
    for name in net.graph:
        region = net.graph.region(name)
        signs = np.unique(region.unit_signs).tolist()
        sign = {1: "pos", -1: "neg", 0: "none"}[signs[0]] if len(signs) == 1 else "mixed"
        parent = {} if region.parent_region is None else {"parent_region": region.parent_region}
        graph.add_node(name, kind=region.kind, units=region.n, sign=sign, **parent)
    for (source, target, key), block in synapse_blocks(net).items():
        values = block.arrays.values[block.start : block.stop].astype(np.float64)
        attrs = {
            "synapses": block.nnz,
            "density": block.nnz / (block.shape[0] * block.shape[1]),
            "weight": float(values.sum()),
            "mean_weight": float(values.mean()) if len(values) else 0.0,
        }
        declared = net.graph.edges[source, target, key]
        delay = {"delay": declared["delay"]} if "delay" in declared else {}
        graph.add_edge(source, target, key, **attrs, **delay)
    for source, target, key, rank in net.graph.edges(keys=True, data="rank"):
        if rank is not None:
            graph.add_edge(source, target, key, rank=rank)
    return graph
