"""from_networkx and read_graphml: graphs of neurons."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Unpack
from xml.etree.ElementTree import ParseError

import networkx as nx
import numpy as np

from sparse_mrnn.connectome.assemble import ConnectomeTables, graph_from_tables
from sparse_mrnn.connectome.column_table import ColumnTable, arrow
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import Options, Settings
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.graph import RegionGraph


def from_networkx(graph: nx.Graph, *, weight: str | None = "weight", **options: Unpack[Options]) -> tuple[RegionGraph, ImportReport]:
    """Import a networkx graph of neurons; node and edge attributes are the columns that options name.

    Parameters
    ----------
    graph : networkx graph
        An undirected edge becomes a connection in each direction.
    weight : str, optional
        Edge attribute with the weight; None, or where no edge has it: every edge is one synapse.
    **options
        See `Settings`.

    Returns
    -------
    RegionGraph, ImportReport

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
    return _import(graph, weight, f"networkx graph {graph.name!r}" if graph.name else "a networkx graph", graph.name, options)


def read_graphml(
    path: str | os.PathLike[str], *, weight: str | None = "weight", **options: Unpack[Options]
) -> tuple[RegionGraph, ImportReport]:
    """Import a GraphML file; arguments as `from_networkx`.

    Raises
    ------
    ConnectomeError
        If it is no GraphML, or declares entities (which can expand without end).
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            for piece in iter(lambda: stream.read(1 << 20), b""):
                if b"<!ENTITY" in piece or b"<!DOCTYPE" in piece:
                    raise ConnectomeError(f"{file}: the file declares a document type or entities; GraphML needs none, so it is not read.")
        graph = nx.read_graphml(file)
    except ParseError as error:
        raise ConnectomeError(f"{file}, line {error.position[0]}, column {error.position[1]}: not valid XML: {error.msg}.") from None
    except OSError as error:
        raise ConnectomeError(f"{file}: cannot be read: {error.strerror}.") from None
    except (nx.NetworkXError, KeyError, ValueError) as error:
        if isinstance(error, ConnectomeError):
            raise
        raise ConnectomeError(f"{file}: not valid GraphML: {error}") from None
    return _import(graph, weight, str(file), file.stem, options)


def _import(graph: nx.Graph, weight: str | None, label: str, name: str, options: Options) -> tuple[RegionGraph, ImportReport]:
    pa = arrow()
    settings = Settings.of(options, name=name)
    if not len(graph):
        raise ConnectomeError(f"{label}: there are no nodes.")
    names = [str(node) for node in graph]
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ConnectomeError(f"{label}: two nodes are called {twice!r} as text; rename one.")
    place = {node: k for k, node in enumerate(graph)}
    edges = list(graph.edges(data=True))
    source = np.array([place[u] for u, _, _ in edges], dtype=np.int32)
    target = np.array([place[v] for _, v, _ in edges], dtype=np.int32)
    notes: list[str] = []
    wanted = {weight} if weight else set()
    columns = {
        c: [data.get(c) for _, _, data in edges] for c in (*sorted(wanted), *settings.edge_columns()) if any(c in d for _, _, d in edges)
    }
    if not graph.is_directed():
        both = source != target
        notes.append(f"the graph is undirected: {int(both.sum()):,} edges were taken in both directions")
        source, target = np.concatenate([source, target[both]]), np.concatenate([target, source[both]])
        columns = {c: values + [v for v, b in zip(values, both, strict=True) if b] for c, values in columns.items()}
    if weight in columns:
        bare = next((k for k, v in enumerate(columns[str(weight)]) if v is None), None)
        if bare is not None:
            raise ConnectomeError(f"{label}: edge {names[source[bare]]!r} -> {names[target[bare]]!r} has no {weight!r}, but others do.")
    ends = {c: pa.DictionaryArray.from_arrays(pa.array(v), pa.array(names)) for c, v in (("source", source), ("target", target))}
    data = {**{c: _column(values, c == weight, label, c) for c, values in columns.items()}, **ends}
    nodes = {
        c: _column([d.get(c) for _, d in graph.nodes(data=True)], False, label, c)
        for c in settings.neuron_columns()
        if any(c in d for _, d in graph.nodes(data=True))
    }
    tables = ConnectomeTables(
        label,
        ColumnTable("edges", pa.table(data)),
        "source",
        "target",
        weight if weight in columns else None,
        ColumnTable("nodes", pa.table({**nodes, "neuron": names})),
        "neuron",
        notes=tuple(notes),
    )
    return graph_from_tables(tables, settings)


def _column(values: list[Any], number: bool, label: str, name: str) -> Any:
    pa = arrow()
    try:
        return pa.array([float(v) for v in values] if number else [None if v is None else str(v) for v in values])
    except (TypeError, ValueError) as error:
        raise ConnectomeError(f"{label}, attribute {name!r}: {error}.") from None
