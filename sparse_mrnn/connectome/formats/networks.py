"""from_networkx and read_graphml: graphs of neurons."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, Unpack

import networkx as nx
import numpy as np

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.column_table import arrow
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, indexed_edges, node_table
from sparse_mrnn.connectome.formats.graphml_check import GraphmlCheck
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError


def from_networkx(
    graph: nx.Graph, *, weight: str | None = "weight", **options: Unpack[ImportOptions]
) -> tuple[RegionGraph, ImportReport]:
    """Import a networkx graph of neurons; node and edge attributes are the columns that options name.

    Parameters
    ----------
    graph : networkx graph
        An undirected edge becomes a connection in each direction.
    weight : str, optional
        Edge attribute with the weight; None, or where no edge has it: every edge is one synapse.
    **options
        See `ImportSettings`.

    Raises
    ------
    ConnectomeError
        If only some edges have the weight, or a value does not fit.

    Examples
    --------
    >>> network, report = from_networkx(nx.DiGraph([("a", "b"), ("b", "c")]))
    >>> network.n_units, report.merged
    (3, 2)
    """
    if not isinstance(graph, nx.Graph):
        raise ConnectomeError(f"a networkx graph is needed, not {type(graph).__name__}; see read_table.")
    label = f"networkx graph {graph.name!r}" if graph.name else "a networkx graph"
    return _import(graph, weight, label, ImportSettings.of(options, name=graph.name))


def read_graphml(
    path: str | os.PathLike[str], *, weight: str | None = "weight", **options: Unpack[ImportOptions]
) -> tuple[RegionGraph, ImportReport]:
    """Import a GraphML file.

    Parameters
    ----------
    path : path
    weight : str or None
        Edge attribute with the synapse count or weight. None: 1 for each edge.
    **options
        As for `from_networkx`.

    Returns
    -------
    RegionGraph, ImportReport

    Raises
    ------
    ConnectomeError
        If it is no GraphML, or declares entities (which can expand without end).
    """
    file = Path(path)
    GraphmlCheck(file).run()
    try:
        graph = nx.read_graphml(file)
    except Exception as error:  # networkx's reader raises many kinds for what is valid XML but no GraphML
        raise ConnectomeError(f"{file}: not valid GraphML: {type(error).__name__}: {error}") from None
    for kind, entries in (("node", graph.nodes(data=True)), ("edge", graph.edges(data=True))):
        for name, value in graph.graph.get(f"{kind}_default", {}).items():
            for *_, data in entries:
                data.setdefault(name, value)
    return _import(graph, weight, str(file), ImportSettings.of(options, name=file.stem))


def _import(
    graph: nx.Graph, weight: str | None, label: str, settings: ImportSettings
) -> tuple[RegionGraph, ImportReport]:
    if not len(graph):
        raise ConnectomeError(f"{label}: there are no nodes.")
    index = {node: k for k, node in enumerate(graph)}
    names = [str(node) for node in graph]
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ConnectomeError(f"{label}: two nodes are called {twice!r} as text; rename one.")
    edges = list(graph.edges(data=True))
    source, target = (np.array([index[edge[end]] for edge in edges], dtype=np.int32) for end in (0, 1))
    attributes = [data for *_, data in edges]
    notes: tuple[str, ...] = ()
    if not graph.is_directed():
        both = np.flatnonzero(source != target)
        notes = (f"the graph is undirected: {len(both):,} edges were taken in both directions",)
        source, target = np.concatenate([source, target[both]]), np.concatenate([target, source[both]])
        attributes += [attributes[k] for k in both.tolist()]
    columns = _columns(settings.edge_columns(), attributes)
    without = [k for k, data in enumerate(attributes) if data.get(weight) is None]
    if weight is None or len(without) == len(attributes):
        weight = None
    elif without:
        edge = f"{names[source[without[0]]]!r} -> {names[target[without[0]]]!r}"
        raise ConnectomeError(f"{label}: edge {edge} has no {weight!r}, but others do.")
    else:
        columns[weight] = _numbers(weight, attributes, label)
    of_nodes = [data for _, data in graph.nodes(data=True)]
    tables = ConnectomeTables(
        label=label,
        edges=indexed_edges("edges", names, source, target, columns),
        weight=weight,
        neurons=node_table("nodes", names, _columns(settings.neuron_columns(), of_nodes)),
        notes=notes,
    )
    return graph_from_tables(tables, settings)


def _columns(wanted: list[str], attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """Attributes as columns of text, null where there is none; those that are there at all."""
    pa = arrow()
    columns = {}
    for name in wanted:
        if any(name in data for data in attributes):
            values = [data.get(name) for data in attributes]
            columns[name] = pa.array([None if value is None else str(value) for value in values], pa.string())
    return columns


def _numbers(name: str, attributes: list[dict[str, Any]], label: str) -> Any:
    try:
        return arrow().array([float(data[name]) for data in attributes])
    except (TypeError, ValueError, OverflowError) as error:
        raise ConnectomeError(f"{label}, attribute {name!r}: {error}.") from None
