"""What must be right with a GraphML file before networkx reads it, since networkx passes over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from sparse_mrnn.errors import ConnectomeError


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
        self.data: set[str] = set()  # keys of the present node's or edge's data
        self.parser.StartDoctypeDeclHandler = self.parser.EntityDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start

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
        for name in {"node": ("id",), "edge": ("source", "target")}.get(tag, ()):
            if not attributes.get(name):
                self._refuse(f"a {tag} has no {name}.")
        if tag == "graph":
            self.graphs += 1
            if self.graphs > 1:
                self._refuse("there is a second or nested graph; only one can be read.")
        elif tag == "key":
            self._once(self.keys, (attributes.get("for", ""), attributes.get("attr.name", "")), tag)
        elif tag == "node":
            self._once(self.nodes, attributes["id"], tag)
            self.data.clear()
        elif tag == "edge":
            self.ends.update(attributes[end] for end in ("source", "target"))
            self.data.clear()
        elif tag == "data":
            self._once(self.data, attributes.get("key", ""), tag)
        elif tag in ("hyperedge", "port"):
            self._refuse(f"{tag} elements are not read.")

    def _once(self, seen: set[Any], name: object, tag: str) -> None:
        if name in seen:
            self._refuse(f"the {tag} {name!r:.80} is there twice.")
        seen.add(name)
