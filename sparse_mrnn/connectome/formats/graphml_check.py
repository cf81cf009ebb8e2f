"""What must be right with a GraphML file before networkx reads it, since networkx passes over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from sparse_mrnn.errors import ConnectomeError

ELEMENTS = ("all", "graphml", "graph", "node", "edge", "hyperedge", "port", "endpoint")
"""What a key may be for."""


class GraphmlCheck:
    """Refuses document types (entities can expand without end), further graphs, repeats and undeclared nodes.

    Works in one pass of any encoding that XML may have, and keeps the names of nodes only.

    Parameters
    ----------
    file : Path
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
