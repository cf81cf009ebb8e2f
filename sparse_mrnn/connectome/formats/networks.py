"""from_networkx and read_graphml: graphs of neurons, and the check of GraphML files."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn, Unpack
from xml.parsers import expat

import networkx as nx
import numpy as np

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.column_table import arrow, listed
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, indexed_edges, node_table
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
        Edge attribute with the weight. None: every edge is one synapse; so it is if edges have no attribute
        "weight" and no other number.
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
        If it is not GraphML, or declares entities (which can expand without end).
    """
    file = Path(path)
    GraphmlCheck(file).run()
    try:
        graph = nx.read_graphml(file)
    except Exception as error:  # networkx's reader raises many kinds for valid XML that is not GraphML
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
        raise ConnectomeError(f"{label}: the graph has no nodes.")
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
    if weight is not None and attributes and len(without) == len(attributes):
        _refuse_no_weight(weight, attributes, label)
    if weight is None or len(without) == len(attributes):
        weight = None
    elif without:
        edge = f"{names[source[without[0]]]!r} -> {names[target[without[0]]]!r}"
        raise ConnectomeError(f"{label}: edge {edge} has no {weight!r}, but others do.")
    else:
        columns[weight] = _numbers(weight, attributes, label)
    of_nodes = [data for _, data in graph.nodes(data=True)]
    tables = ConnectomeTables(
        label=label, edges=indexed_edges("edges", names, source, target, columns), weight=weight,
        neurons=node_table("nodes", names, _columns(settings.neuron_columns(), of_nodes)), notes=notes,
    )
    return graph_from_tables(tables, settings)


def _refuse_no_weight(weight: str, attributes: list[dict[str, Any]], label: str) -> None:
    """Refuse a weight that no edge has, unless it is the default and edges have no numbers."""
    names = list(dict.fromkeys(name for data in attributes for name in data))
    kinds = {name: {type(data[name]) for data in attributes if name in data} for name in names}
    numbers = [name for name in names if kinds[name] & {int, float} and name.lower() not in ("id", "suid", "key")]
    if weight != "weight" or numbers:
        problem = f"no edge has the attribute {weight!r}. {listed(weight, names)}" if names else (
            f"no edge has the attribute {weight!r}, nor any other."
        )
        raise ConnectomeError(f"{label}: {problem} Name it with weight=, or take each edge as one with weight=None.")


def _columns(wanted: list[str], attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """Turn the wanted attributes that any entry has into columns of text, null if an entry lacks it."""
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


ELEMENTS = ("all", "graphml", "graph", "node", "edge", "hyperedge", "port", "endpoint")
"""Elements that a key may be for."""


class GraphmlCheck:
    """A check of what networkx passes over in a GraphML file, in one pass that keeps names only.

    Refuses document types (entities can expand without end), further graphs, repeats, undeclared nodes and
    data in the wrong place. Any encoding that XML may have is read.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.parser = file, expat.ParserCreate()
        self.graphs = 0
        self.keys: set[tuple[str, str]] = set()
        self.nodes: set[str] = set()
        self.ends: set[str] = set()
        self.whose: dict[str, str] = {}  # kind of element by the id of a key
        self.named: set[str] = set()  # ids of keys whose data are plain text
        self.element = ""  # node or edge that data are in
        self.plain: str | None = None  # key of the present data, if they are plain text
        self.data: set[str] = set()  # keys of the present node's or edge's data
        self.parser.StartDoctypeDeclHandler = self.parser.EntityDeclHandler = self._doctype
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end

    def run(self) -> None:
        """Read the file; a ConnectomeError says what is wrong with it."""
        try:
            with self.file.open("rb") as stream:
                self.parser.ParseFile(stream)
        except ConnectomeError:
            raise
        except expat.ExpatError as error:
            where = f"{self.file}, line {error.lineno}, column {error.offset}"
            raise ConnectomeError(f"{where}: not valid XML: {expat.ErrorString(error.code)}.") from None
        except OSError as error:
            raise ConnectomeError(f"{self.file}: cannot be read: {error.strerror}.") from None
        except (ValueError, LookupError) as error:
            raise ConnectomeError(f"{self.file}: its encoding cannot be read: {error}.") from None
        for name in sorted(self.ends - self.nodes)[:1]:
            raise ConnectomeError(f"{self.file}: an edge has the node {name!r:.80}, which is not declared.")

    def _refuse(self, problem: str) -> NoReturn:
        raise ConnectomeError(f"{self.file}, line {self.parser.CurrentLineNumber}: {problem}")

    def _doctype(self, *_: object) -> None:
        self._refuse("the file declares a document type or entities; GraphML needs none, so it is not read.")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        if self.plain is not None:  # its text would be passed over
            self._refuse(f"there is a {tag} element within data of key {self.plain!r:.80}.")
        for name in {"node": ("id",), "edge": ("source", "target")}.get(tag, ()):
            if not attributes.get(name):
                self._refuse(f"a {tag} has no {name}.")
        if tag == "graph":
            self.graphs += 1
            if self.graphs > 1:
                self._refuse("there is a second or nested graph; only one can be read.")
        elif tag == "key":
            whose = attributes.get("for", "all")
            if whose not in ELEMENTS:
                self._refuse(f"a key is for {whose!r:.80}; it must be for one of {', '.join(ELEMENTS)}.")
            self._once(self.keys, (whose, attributes.get("attr.name", "")), tag)
            self.whose[attributes.get("id", "")] = whose
            if attributes.get("attr.name"):
                self.named.add(attributes.get("id", ""))
        elif tag in ("node", "edge"):
            if tag == "node":
                self._once(self.nodes, attributes["id"], tag)
            else:
                self.ends.update(attributes[end] for end in ("source", "target"))
            self.element = tag
            self.data.clear()
        elif tag == "data":
            key = attributes.get("key", "")
            if self.element and self.whose.get(key, "all") not in ("all", self.element):
                where = f"is in an element {self.element}"
                self._refuse(f"data of key {key!r:.80}, for a {self.whose[key]}, {where}.")
            self._once(self.data, key, tag)
            self.plain = key if key in self.named else None
        elif tag in ("hyperedge", "port"):
            self._refuse(f"{tag} elements are not read.")

    def _end(self, tag: str) -> None:
        if tag.rpartition(":")[2] in ("node", "edge"):
            self.element = ""
        elif tag.rpartition(":")[2] == "data":
            self.plain = None

    def _once(self, seen: set[Any], name: object, tag: str) -> None:
        if name in seen:
            self._refuse(f"the {tag} {name!r:.80} is there twice.")
        seen.add(name)
