"""The files of a SONATA network: which ones, opened with care, and the CSV of their types."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_mrnn.errors import ConnectomeError, MissingExtraError

NULL = "NULL"
"""No value, in a types CSV."""
Name = str | os.PathLike[str] | None


def h5() -> Any:
    """h5py, or an error that says how to install it."""
    try:
        import h5py
    except ImportError:
        install = "install it with: pip install 'sparse-mrnn[connectome]'"
        raise MissingExtraError(f"SONATA files need h5py; {install}") from None
    return h5py


@dataclass(frozen=True)
class NetworkFiles:
    """Nodes and edges (HDF5), and the CSV of their types where there is one."""

    nodes: Path
    edges: Path
    node_types: Path | None
    edge_types: Path | None

    @classmethod
    def find(cls, nodes: Path, edges: Name, node_types: Name, edge_types: Name) -> NetworkFiles:
        """The files of a folder with a circuit_config.json, or two files and the types beside them."""
        if nodes.is_dir():
            return cls.of_circuit(nodes)
        if edges is None:
            problem = "give the edges file too, or the folder with circuit_config.json."
            raise ConnectomeError(f"{nodes}: {problem}")
        edges = Path(edges)
        return cls(nodes, edges, _types_of(nodes, node_types, "node"), _types_of(edges, edge_types, "edge"))

    @classmethod
    def of_circuit(cls, folder: Path) -> NetworkFiles:
        """The files that a folder's circuit_config.json names: one pair, inside of the folder."""
        config = folder / "circuit_config.json"
        try:
            content = json.loads(config.read_text(encoding="utf-8"))
            nodes, edges = (list(content["networks"][kind]) for kind in ("nodes", "edges"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = f"cannot be read as a SONATA circuit: {type(error).__name__} {error}."
            raise ConnectomeError(f"{config}: {problem}") from None
        if not len(nodes) == len(edges) == 1:
            count = f"{len(nodes)} nodes files and {len(edges)} edges files"
            raise ConnectomeError(f"{config}: {count}; read one pair at a time, by file.")
        names = dict(content.get("manifest", {}))

        def resolve(entry: Any, key: str) -> Path | None:
            text = entry.get(key)
            if not text or text == NULL:
                return None
            for _ in range(len(names) + 1):
                for name, value in names.items():
                    text = text.replace(name, value)
            path: Path = (folder / text).resolve()
            if not path.is_relative_to(folder.resolve()):
                problem = f"{key} {entry[key]!r} leads outside of the folder; it is not opened."
                raise ConnectomeError(f"{config}: {problem}")
            return path

        node_file, edge_file = resolve(nodes[0], "nodes_file"), resolve(edges[0], "edges_file")
        if node_file is None or edge_file is None:
            raise ConnectomeError(f"{config}: a nodes_file and an edges_file are needed.")
        types = resolve(nodes[0], "node_types_file"), resolve(edges[0], "edge_types_file")
        return cls(node_file, edge_file, *types)


def _types_of(file: Path, stated: Name, what: str) -> Path | None:
    """The types CSV stated, or one of a usual name beside a file."""
    if stated is not None:
        return Path(stated)
    renamed = file.stem.replace(f"{what}s", f"{what}_types")
    usual = f"{what}_types.csv", file.stem.removesuffix("s") + "_types.csv", f"{renamed}.csv"
    return next((path for path in map(file.with_name, usual) if path.is_file()), None)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file; damage becomes a ConnectomeError."""
    h5py = h5()
    if not path.is_file():
        raise ConnectomeError(f"{path} does not exist.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except ConnectomeError:
        raise
    except (OSError, RuntimeError, KeyError) as error:
        raise ConnectomeError(f"{path}: cannot be read as SONATA (HDF5): {error}") from None


def read_types(path: Path, identity: str, needed: Sequence[str] = ()) -> list[dict[str, str]]:
    """Rows of a types CSV (blanks between columns), by the integer in column ``identity``."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, delimiter=" ", skipinitialspace=True)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConnectomeError(f"{path}: cannot be read: {error}.") from None
    columns = reader.fieldnames or []
    for column in (identity, *needed):
        if column not in columns:
            listed = ", ".join(map(repr, columns))
            raise ConnectomeError(f"{path}, line 1: there is no column {column!r}. The columns are {listed}.")
    for k, row in enumerate(rows, start=2):
        if None in row or None in row.values() or not str(row[identity]).isdigit():
            problem = f"a {identity} and as many columns as in line 1 are needed."
            raise ConnectomeError(f"{path}, line {k}: {problem}")
    return sorted(rows, key=lambda row: int(row[identity]))
