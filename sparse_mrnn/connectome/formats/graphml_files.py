"""GraphML files as networkx, igraph, yEd, Cytoscape and Gephi write them, read in one pass and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from sparse_mrnn.connectome.delimited_text import opened
from sparse_mrnn.errors import ConnectomeError

Attributes = dict[str, Any]
ELEMENTS = ("all", "graphml", "graph", "node", "edge", "hyperedge", "port", "endpoint")
"""Elements that a key may be for."""
PARENTS = {
    "graphml": ("",), "key": ("graphml",), "default": ("key",), "graph": ("graphml", "node"),
    "node": ("graph",), "edge": ("graph",), "port": ("node", "port"),
    "data": ("graphml", "graph", "node", "edge", "port"),
}  # fmt: skip
"""Elements in which an element may be. All others, such as desc, are passed over."""
LABELS = ("NodeLabel", "EdgeLabel", "Label.Text")
"""Elements of yEd and yFiles, within data, with the text that is drawn at a node or an edge."""


@dataclass
class AttributedGraph:
    """A graph as lists: nodes and edges in their order, with the attributes that each has."""

    names: list[str] = field(default_factory=list)
    nodes: list[Attributes] = field(default_factory=list)
    ends: list[tuple[int, int]] = field(default_factory=list)  # source and target, indices into ``names``
    edges: list[Attributes] = field(default_factory=list)
    undirected: list[int] = field(default_factory=list)  # which edges have no direction
    notes: list[str] = field(default_factory=list)


@dataclass
class Key:
    """A declared attribute: its name, its type ("" if none is stated) and its default."""

    name: str
    kind: str
    default: str = ""


@dataclass
class Element:
    """A node or an edge that is being read."""

    tag: str
    name: str  # of a node
    attributes: Attributes = field(default_factory=dict)
    data: set[str] = field(default_factory=set)  # ids of the keys of its data
    label: str = ""  # as yEd draws it
    is_group: bool = False


def read_graphml_file(file: Path) -> AttributedGraph:
    """Read a GraphML file, compressed (.gz) or not; a ConnectomeError says where it is wrong.

    Attributes are text, trimmed; one that is empty, or a number that is NaN, is left out. Keys of the same
    name are one attribute, as networkx needs two for whole and other numbers, and an id may be that of two
    keys, one for nodes and one for edges, as in Cytoscape's files. Text that yEd draws at a node or an edge
    is its "label". A node with a graph of its own is a group: no node, but the "group" of those in it.

    Document types are refused (entities can expand without end), and so are two graphs side by side,
    hyperedges, repeats, undeclared nodes and data in the wrong place.
    """
    return _Parser(file).run()


class _Parser:
    def __init__(self, file: Path) -> None:
        self.file, self.parser = file, expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.graph, self.graphs = AttributedGraph(), 0
        self.keys: dict[tuple[str, str], Key] = {}  # by kind of element and id
        self.index: dict[str, int] = {}  # of the nodes
        self.ends: list[tuple[str, str]] = []  # of the edges
        self.groups: dict[str, str] = {}  # what yEd draws at each group
        self.members: dict[int, str] = {}  # the group of a node, by index
        self.path: list[str] = []  # elements around the present place
        self.open: list[Element] = []  # nodes and edges around it
        self.directed: list[bool] = []  # whether edges of the graphs around it are
        self.data: str | None = None  # id of the key of the data around it
        self.key = Key("", "")  # this key
        self.owner: Element | None = None  # of these data; None if they are not of a node or an edge
        self.depth = 0  # elements within these data that are open
        self.text: list[str] | None = None  # text that is being kept
        self.parser.StartDoctypeDeclHandler = self.parser.EntityDeclHandler = self._doctype
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end
        self.parser.CharacterDataHandler = self._characters

    def run(self) -> AttributedGraph:
        try:
            with opened(self.file, text=False) as stream:
                self.parser.ParseFile(stream)
        except ConnectomeError:
            raise
        except expat.ExpatError as error:
            where = f"{self.file}, line {error.lineno}, column {error.offset}"
            raise ConnectomeError(f"{where}: not valid XML: {expat.ErrorString(error.code)}.") from None
        except (ValueError, LookupError) as error:
            raise ConnectomeError(f"{self.file}: its encoding cannot be read: {error}.") from None
        if not self.graphs:
            raise ConnectomeError(f"{self.file}: not valid GraphML: there is no graph.")
        graph = self.graph
        for name in (name for ends in self.ends for name in ends if name not in self.index):
            problem = f"an edge has the node {name!r:.80}, which is not declared."
            if name in self.groups:
                problem = f"an edge ends at {name!r:.80}, a group of nodes; connect the nodes in it."
            raise ConnectomeError(f"{self.file}: {problem}")
        graph.ends = [(self.index[source], self.index[target]) for source, target in self.ends]
        for k, group in self.members.items():
            graph.nodes[k].setdefault("group", self.groups[group] or group)
        if self.groups:
            groups = f"{len(self.groups):,} nodes with a graph of their own are groups, not neurons"
            graph.notes.append(f"{groups}; attribute 'group' has the group of a neuron")
        for tag, entries in (("node", graph.nodes), ("edge", graph.edges)):
            own = [key for (whose, _), key in self.keys.items() if whose in (tag, "all") and key.default]
            defaults = {key.name: key.default for key in own}
            if defaults:
                entries[:] = [{**defaults, **attributes} for attributes in entries]
        return graph

    def _refuse(self, problem: str) -> NoReturn:
        raise ConnectomeError(f"{self.file}, line {self.parser.CurrentLineNumber}: {problem}")

    def _doctype(self, *_: object) -> None:
        self._refuse("the file declares a document type or entities; GraphML needs none, so it is not read.")

    def _characters(self, text: str) -> None:
        if self.text is not None:
            self.text.append(text)

    def _kept_text(self) -> str:
        """Return the text that was being kept, trimmed, and keep no more."""
        text, self.text = "".join(self.text or ()).strip(), None
        return text

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(" ")[2]  # without its namespace
        if self.data is not None:
            self._start_in_data(tag)
            return
        parent = self.path[-1] if self.path else ""
        if tag in ("hyperedge", "endpoint"):
            self._refuse(f"{tag} elements are not read.")
        if tag == "graph" and (self.graphs if parent == "graphml" else parent != "node"):
            self._refuse("there is a second or nested graph; only one can be read.")
        if parent not in PARENTS.get(tag, (parent,)) or (not parent and tag != "graphml"):
            self._refuse(f"not valid GraphML: a {tag:.80} element within {parent or 'no'} element.")
        for name in {"node": ("id",), "edge": ("source", "target"), "key": ("id",)}.get(tag, ()):
            if not attributes.get(name):
                self._refuse(f"a {tag} has no {name}.")
        self.path.append(tag)
        if tag in PARENTS:
            getattr(self, f"_start_{tag}", lambda _: None)(attributes)

    def _start_key(self, attributes: dict[str, str]) -> None:
        whose, identity = attributes.get("for", "all"), attributes["id"]
        if whose not in ELEMENTS:
            self._refuse(f"a key is for {whose!r:.80}; it must be for one of {', '.join(ELEMENTS)}.")
        if (whose, identity) in self.keys:
            self._refuse(f"the key {identity!r:.80} is there twice.")
        name = attributes.get("attr.name") or identity
        self.key = self.keys[whose, identity] = Key(name, attributes.get("attr.type", ""))

    def _start_default(self, _: dict[str, str]) -> None:
        self.text = []

    def _start_graph(self, attributes: dict[str, str]) -> None:
        self.graphs += 1
        self.directed.append(self._is_true(attributes, "edgedefault", "undirected", "directed"))
        if self.open:
            node = self.open[-1]
            if node.is_group:
                self._refuse("there is a second or nested graph; only one can be read.")
            node.is_group, self.groups[node.name] = True, ""
            k = self.index.pop(node.name)  # the last one so far, as nodes within a node are in its graph
            self.members.pop(k, None)
            del self.graph.names[k:], self.graph.nodes[k:]

    def _is_true(self, attributes: dict[str, str], name: str, no: str, yes: str) -> bool:
        value = attributes.get(name, no)
        if value not in (no, yes):
            self._refuse(f"{name} is {value!r:.80}; it must be {yes!r} or {no!r}.")
        return value == yes

    def _start_node(self, attributes: dict[str, str]) -> None:
        name = attributes["id"]
        if name in self.index or name in self.groups:
            self._refuse(f"the node {name!r:.80} is there twice.")
        k = self.index[name] = len(self.graph.names)
        if self.open:
            self.members[k] = self.open[-1].name
        self.open.append(Element("node", name))
        self.graph.names.append(name)
        self.graph.nodes.append(self.open[-1].attributes)

    def _start_edge(self, attributes: dict[str, str]) -> None:
        directed = self.directed[-1]
        if "directed" in attributes:
            directed = self._is_true(attributes, "directed", "false", "true")
        if not directed:
            self.graph.undirected.append(len(self.graph.edges))
        self.open.append(Element("edge", ""))
        self.ends.append((attributes["source"], attributes["target"]))
        self.graph.edges.append(self.open[-1].attributes)

    def _start_data(self, attributes: dict[str, str]) -> None:
        self.data, tag = attributes.get("key", ""), self.path[-2]
        self.key, self.owner, self.text = Key("", ""), None, []
        if tag not in ("node", "edge"):
            return
        key = self.keys.get((tag, self.data)) or self.keys.get(("all", self.data))
        if key is None:
            whose = [element for element, identity in self.keys if identity == self.data]
            problem = f"for a {whose[0]}, is in an element {tag}" if whose else "which is not declared"
            self._refuse(f"data of key {self.data!r:.80}, {problem}.")
        self.key, self.owner = key, self.open[-1]
        if self.data in self.owner.data:
            self._refuse(f"the data {self.data!r:.80} is there twice.")
        self.owner.data.add(self.data)

    def _start_in_data(self, tag: str) -> None:
        if self.key.kind:  # its text would be passed over
            self._refuse(f"there is a {tag} element within data of key {self.data!r:.80}.")
        self._end_label()
        self.depth += 1
        self.text = [] if tag in LABELS and self.owner is not None else None

    def _end_label(self) -> None:
        text = self._kept_text()
        if self.depth and self.owner is not None:
            self.owner.label = self.owner.label or text

    def _end(self, tag: str) -> None:
        if self.depth:
            self._end_label()
            self.depth -= 1
            return
        tag = self.path.pop()
        if tag == "data":
            self._end_data(self._kept_text())
        elif tag == "default":
            self.key.default = self._kept_text()
        elif tag == "graph":
            self.directed.pop()
        elif tag in ("node", "edge"):
            element = self.open.pop()
            if element.label:
                element.attributes.setdefault("label", element.label)
            if element.is_group:
                self.groups[element.name] = element.attributes.get("label", "")

    def _end_data(self, text: str) -> None:
        key, owner, self.data, self.owner = self.key, self.owner, None, None
        missing = not text or (key.kind in ("float", "double") and text.lower() == "nan")
        if owner is not None and not missing and owner.attributes.setdefault(key.name, text) != text:
            self._refuse(f"attribute {key.name!r:.80} is there twice, with different values.")
