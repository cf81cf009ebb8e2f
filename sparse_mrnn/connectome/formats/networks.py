"""from_networkx and read_graphml: graphs of neurons."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, Unpack

import networkx as nx
import numpy as np

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.column_names import WEIGHTS
from sparse_mrnn.connectome.column_table import arrow
from sparse_mrnn.connectome.delimited_text import is_number
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, indexed_edges, node_table
from sparse_mrnn.connectome.formats.graphml_files import AttributedGraph, Attributes, read_graphml_file
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings
from sparse_mrnn.connectome.table_files import TableSource
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError

NAMES = ("name", "shared name", "label")
"""Attributes in which other software keeps the names of nodes whose ids are numbers."""
REAL: dict[str, Any] = dict(counts=False, scale="none", mixed="free")
"""Options for weights that are not counts, unless others are given."""


def from_networkx(
    graph: nx.Graph, *, weight: str | None = "weight", neuron: str | None = None,
    **options: Unpack[ImportOptions],
) -> tuple[RegionGraph, ImportReport]:
    """Import a networkx graph of neurons; node and edge attributes are the columns that options name.

    Parameters
    ----------
    graph : networkx graph
        An undirected edge becomes a connection in each direction.
    weight : str, optional
        Edge attribute with the weight. Without a "weight" it is recognised by other common names (such as
        syn_count), as `read_table` does. None, or no edge with any of these: every edge is one synapse.
    neuron : str, optional
        Node attribute with the names of the neurons. Default: the nodes themselves.
    **options
        See `ImportSettings`. If a weight is not a count (0.5, or negative), ``counts`` is False, ``scale``
        "none" and ``mixed`` "free" unless given.

    Raises
    ------
    ConnectomeError
        If no edge or only some edges have the weight, or a value does not fit.

    Examples
    --------
    >>> network, report = from_networkx(nx.DiGraph([("a", "b"), ("b", "c")]))
    >>> network.n_units, report.merged
    (3, 2)
    """
    if not isinstance(graph, nx.Graph):
        raise ConnectomeError(f"a networkx graph is needed, not {type(graph).__name__}; see read_table.")
    label = f"networkx graph {graph.name!r}" if graph.name else "a networkx graph"
    index = {node: k for k, node in enumerate(graph)}
    edges = list(graph.edges(data=True))
    found = AttributedGraph(
        names=[str(node) for node in graph], nodes=[data for _, data in graph.nodes(data=True)],
        ends=[(index[source], index[target]) for source, target, _ in edges],
        edges=[data for *_, data in edges], undirected=[] if graph.is_directed() else list(range(len(edges))),
    )  # fmt: skip
    return _import(found, weight, neuron, label, options, str(graph.name))


def read_graphml(
    path: str | os.PathLike[str], *, weight: str | None = "weight", neuron: str | None = None,
    **options: Unpack[ImportOptions],
) -> tuple[RegionGraph, ImportReport]:
    """Import a GraphML file of networkx, igraph, yEd, Cytoscape, Gephi and others.

    Text that yEd draws at a node or an edge is its attribute "label", and the group of a node its "group".

    Parameters
    ----------
    path : path
        Also compressed (.gz).
    weight : str or None
        Edge attribute with the synapse count or weight, as for `from_networkx`.
    neuron : str, optional
        Node attribute with the names of the neurons, such as "name" (igraph, Cytoscape) or "label" (yEd,
        Gephi). Default: the ids of the nodes.
    **options
        As for `from_networkx`.

    Returns
    -------
    RegionGraph, ImportReport

    Raises
    ------
    ConnectomeError
        If it is not GraphML, or declares entities (which can expand without end); or as `from_networkx`.
    """
    file = Path(path)
    return _import(read_graphml_file(file), weight, neuron, str(file), options, file.name.split(".")[0])


def _import(
    graph: AttributedGraph, weight: str | None, neuron: str | None, label: str, options: Any, name: str
) -> tuple[RegionGraph, ImportReport]:
    if not graph.names:
        raise ConnectomeError(f"{label}: the graph has no nodes.")
    notes = list(graph.notes)
    names = _names(graph, neuron, label, notes)
    source, target = np.array(graph.ends, dtype=np.int32).reshape(-1, 2).T
    attributes = graph.edges
    if graph.undirected:
        both = np.array(graph.undirected)[(source != target)[graph.undirected]]
        kind = "the graph is" if len(graph.undirected) == len(attributes) else "some edges are"
        notes.append(f"{kind} undirected: {len(both):,} edges were taken in both directions")
        source, target = np.concatenate([source, target[both]]), np.concatenate([target, source[both]])
        attributes = attributes + [attributes[k] for k in both.tolist()]
    weight = _weight_of(weight, graph.edges, label, notes)
    numbers = None
    if weight is not None:
        ends = [(names[s], names[t]) for s, t in zip(source.tolist(), target.tolist(), strict=True)]
        numbers = _numbers(weight, attributes, ends, label)
    defaults: dict[str, Any] = {"name": name}
    real = numbers is not None and bool(((numbers < 0) | (numbers != np.floor(numbers))).any())
    if real and not options.get("counts"):
        defaults |= REAL
        notes.append("weights are real numbers, not counts, so they are not scaled unless you say so")
    settings = ImportSettings.of(options, **defaults)
    columns = _columns(settings.edge_columns(), attributes)
    if weight is not None:
        columns[weight] = arrow().array(numbers)
    tables = ConnectomeTables(
        label=label, edges=indexed_edges("edges", names, source, target, columns, _known(graph.edges)),
        weight=weight, notes=tuple(notes),
        neurons=node_table(
            "nodes", names, _columns(_plain_columns(graph.nodes), graph.nodes), _known(graph.nodes)
        ),
    )  # fmt: skip
    return graph_from_tables(tables, settings)


def _known(attributes: list[Attributes]) -> tuple[str, ...]:
    """Names of all attributes that any entry has."""
    return tuple(dict.fromkeys(str(name) for data in attributes for name in data))


def _plain_columns(attributes: list[Attributes]) -> list[str]:
    """Names of the attributes whose values are text or numbers."""
    plain = str | int | float | np.generic | None
    values = {name: [data.get(name) for data in attributes] for name in _known(attributes)}
    return [name for name, of_all in values.items() if all(isinstance(value, plain) for value in of_all)]


def _names(graph: AttributedGraph, neuron: str | None, label: str, notes: list[str]) -> list[str]:
    """Name every neuron, by an attribute or its node's id; names differ."""
    names = graph.names
    if neuron is not None:
        TableSource({}, f"nodes of {label}", _known(graph.nodes)).pick(neuron, (), "neuron")
        for name, data in zip(names, graph.nodes, strict=True):
            if data.get(neuron) is None:
                raise ConnectomeError(f"{label}: node {name!r:.80} has no {neuron!r}, but others do.")
        names = [str(data[neuron]) for data in graph.nodes]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ConnectomeError(f"{label}: two nodes are called {twice!r:.80} as text; rename one.")
    usual = [] if neuron is not None else [name for name in NAMES if all(name in d for d in graph.nodes)]
    for attribute in usual:
        others = [str(data[attribute]) for data in graph.nodes]
        if others != names and len(set(others)) == len(names):
            notes.append(f"neurons have the ids of their nodes; neuron={attribute!r} takes that attribute")
    return names


def _weight_of(
    weight: str | None, edges: list[Attributes], label: str, notes: list[str]
) -> str | None:
    """Find the attribute with the weight; None if every edge is one synapse."""
    known = _known(edges)
    if weight is None or not edges or weight in known:
        return weight if edges else None
    usual = weight == "weight"  # as it is by default
    found = TableSource({}, f"edges of {label}", known).pick(None if usual else weight, WEIGHTS, "weight")
    if found is not None:
        notes.append(f"the weight of an edge is its {found!r}")
    return found


def _columns(wanted: list[str], attributes: list[Attributes]) -> dict[str, Any]:
    """Turn the wanted attributes that any entry has into columns of text, null if an entry lacks it."""
    pa = arrow()
    columns = {}
    for name in wanted:
        if any(name in data for data in attributes):
            values = [data.get(name) for data in attributes]
            columns[name] = pa.array([None if value is None else str(value) for value in values], pa.string())
    return columns


def _numbers(name: str, attributes: list[Attributes], ends: list[tuple[str, str]], label: str) -> Any:
    """Read the weight of every edge as a number."""
    numbers = np.empty(len(attributes))
    for k, data in enumerate(attributes):
        value = data.get(name)
        edge = "edge {!r:.80} -> {!r:.80}".format(*ends[k])
        if value is None:
            raise ConnectomeError(f"{label}: {edge} has no {name!r}, but others do.")
        try:
            if isinstance(value, str) and not is_number(value.strip()):
                raise ValueError(f"{value!r:.80} is not a number")
            numbers[k] = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ConnectomeError(f"{label}, {edge}, attribute {name!r}: {error}.") from None
    return numbers
