"""The files of a SONATA network: which they are, HDF5 opened with care, and the CSV of their types."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sparse_mrnn.declaration.projections import PROJECTION_FIELDS
from sparse_mrnn.errors import ConnectomeError, MissingExtraError, SparseMRNNError
from sparse_mrnn.files.json import read_json

NULL = "NULL"
"""No value, in a types CSV."""
SPARED, RATIO = 1 << 20, 1100
"""A dataset of more bytes than the first may be this many times larger than what the file stores of it."""
DAMAGE = (
    OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError, SystemError,
)  # fmt: skip
"""Exceptions of h5py for damaged files."""
EDGE_FIELDS = {name: field for name, field in PROJECTION_FIELDS.items() if name != "rank"}
"""Fields of a projection that a types CSV has; SONATA has no projections of low rank."""
TYPES_AT_ONCE = 2**14
"""Rows of a types CSV that are text at once."""
TYPE_ID = re.compile("[0-9]{1,18}")
Row = dict[str, str | None]
Name = str | os.PathLike[str] | None


def h5() -> Any:
    """Return h5py, or raise an error that says how to install it."""
    try:
        import h5py
    except ImportError:
        install = "install it with: pip install 'sparse-mrnn[connectome]'"
        raise MissingExtraError(f"SONATA files need h5py; {install}") from None
    return h5py


@dataclass(frozen=True)
class NetworkFiles:
    """Nodes and edges (HDF5), and the CSV of the types of each, or None."""

    nodes: Path
    edges: Path
    node_types: Path | None
    edge_types: Path | None

    @classmethod
    def find(cls, nodes: Path, edges: Name, node_types: Name, edge_types: Name) -> NetworkFiles:
        """Find the files of a folder with a circuit_config.json, or the types beside two files."""
        if nodes.is_dir():
            return cls.of_circuit(nodes)
        if edges is None:
            problem = "give the edges file too, or the folder with circuit_config.json."
            raise ConnectomeError(f"{nodes}: {problem}")
        edges = Path(edges)
        return cls(nodes, edges, _types_of(nodes, node_types, "node"), _types_of(edges, edge_types, "edge"))

    @classmethod
    def of_circuit(cls, folder: Path) -> NetworkFiles:
        """Find the files that a folder's circuit_config.json names: one pair, inside of the folder."""
        config = folder / "circuit_config.json"
        content = read_json(config, ConnectomeError)
        try:
            nodes, edges = (list(content["networks"][kind]) for kind in ("nodes", "edges"))
            names = {str(name): str(value) for name, value in content.get("manifest", {}).items()}
            single = len(nodes) == len(edges) == 1
            entries = {**nodes[0], **edges[0]} if single else {}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"cannot be read as a SONATA circuit: {type(error).__name__} {error}."
            raise ConnectomeError(f"{config}: {problem}") from None
        if not single:
            count = f"{len(nodes)} nodes files and {len(edges)} edges files"
            raise ConnectomeError(f"{config}: {count}; read one pair at a time, by file.")

        def resolve(key: str) -> Path | None:
            text = entries.get(key)
            if not text or text == NULL:
                return None
            for name in [*sorted(names, key=len, reverse=True)] * len(names):  # variables may hold others
                text = text.replace(name, names[name]) if isinstance(text, str) and len(text) < 4096 else None
            if not isinstance(text, str) or "\0" in text:
                raise ConnectomeError(f"{config}: {key} is {entries[key]!r:.80}, which is not a file name.")
            path: Path = (folder / text).resolve()
            if not path.is_relative_to(folder.resolve()):
                problem = f"{key} {entries[key]!r:.80} leads outside of the folder; it is not opened."
                raise ConnectomeError(f"{config}: {problem}")
            return path

        node_file, edge_file = resolve("nodes_file"), resolve("edges_file")
        if node_file is None or edge_file is None:
            raise ConnectomeError(f"{config}: a nodes_file and an edges_file are needed.")
        return cls(node_file, edge_file, resolve("node_types_file"), resolve("edge_types_file"))


def _types_of(file: Path, stated: Name, what: str) -> Path | None:
    """Return the types CSV stated, or one of a usual name beside a file."""
    if stated is not None:
        return Path(stated)
    renamed = file.stem.replace(f"{what}s", f"{what}_types")
    usual = f"{what}_types.csv", file.stem.removesuffix("s") + "_types.csv", f"{renamed}.csv"
    return next((path for path in map(file.with_name, usual) if path.is_file()), None)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file whose data are all inside of it; damage becomes a ConnectomeError."""
    h5py = h5()
    try:
        if not path.is_file():
            raise ConnectomeError(f"{path} does not exist.")
        with h5py.File(path, "r") as file:
            _refuse_outside(file, path)
            yield file
    except ConnectomeError:
        raise
    except SparseMRNNError as error:
        raise ConnectomeError(f"{path}: {error}") from None
    except DAMAGE as error:
        raise ConnectomeError(f"{path}: cannot be read as SONATA (HDF5): {error}.") from None


def _refuse_outside(file: Any, path: Path) -> None:
    """Refuse links and datasets that may lead out of a file."""
    h5py = h5()

    def link_of(name: bytes | str, link: Any) -> Any:  # what is not None ends the visit
        return None if isinstance(link, h5py.HardLink) else f"{name!r} is a {type(link).__name__}"

    def data_of(name: str, found: Any) -> Any:
        outside = isinstance(found, h5py.Dataset) and (found.external or found.is_virtual)
        return f"the data of {name!r} are in other files" if outside else None

    problem = file.visititems_links(link_of) or file.visititems(data_of)
    if problem:
        raise ConnectomeError(f"{path}: {problem}; what may lead out of the file is not followed.")


def dataset(group: Any, name: str, kinds: str, length: int | None = None) -> Any:
    """Find a dataset of one dimension; check its type (numpy's dtype.kind) and, if given, its length."""
    h5py = h5()
    where = f"{group.file.filename}: {group.name}/{name}"
    data = group.get(name)
    if not isinstance(data, h5py.Dataset) or data.ndim != 1:
        problem = "missing" if data is None else "not a dataset of one dimension"
        raise ConnectomeError(f"{where} is {problem}.")
    if length is not None and len(data) != length:
        raise ConnectomeError(f"{where} has {len(data):,} values; {length:,} are needed.")
    objects = data.dtype.kind == "O" and h5py.check_string_dtype(data.dtype) is None
    if data.dtype.kind not in kinds or objects:
        raise ConnectomeError(f"{where} is of type {data.dtype}, which it cannot be.")
    bounded = length is not None and data.dtype.itemsize <= 8
    if not bounded and data.nbytes > max(SPARED, RATIO * data.id.get_storage_size()):
        raise ConnectomeError(f"{where} promises {len(data):,} values, which the file does not hold.")
    return data


def column(
    group: Any, name: str, kinds: str, length: int | None = None, part: slice = slice(None)
) -> NDArray[Any]:
    """Read a `dataset`, or a part of it."""
    values: NDArray[Any] = dataset(group, name, kinds, length)[part]
    return values


def indices(
    group: Any, name: str, size: int, length: int | None = None, part: slice = slice(None)
) -> NDArray[np.int64]:
    """Read a dataset of integers from 0 to ``size`` - 1, or a part of it."""
    values = column(group, name, "iu", length, part)
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < size:
        where = f"{group.file.filename}: {group.name}/{name}"
        raise ConnectomeError(f"{where} has a value outside of 0..{size - 1}.")
    return values.astype(np.int64)


def texts(group: Any, name: str, length: int | None = None) -> list[str]:
    """Read a dataset of text."""
    return [value.decode("utf-8") for value in column(group, name, "SO", length).tolist()]


@dataclass(frozen=True, eq=False)
class TypeTable:
    """A types CSV in columns: the id of each row, and its other cells by their number among distinct ones."""

    path: Path
    identity: str
    ids: NDArray[np.int64]
    codes: dict[str, NDArray[np.int32]]
    labels: dict[str, list[str | None]]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, which: NDArray[Any]) -> TypeTable:
        """Some of the rows, by number or mask."""
        codes = {name: column[which] for name, column in self.codes.items()}
        return replace(self, ids=self.ids[which], codes=codes)

    def from_labels(self, name: str, read: Callable[[str | None], Any], dtype: DTypeLike) -> NDArray[Any]:
        """Read each cell of a column into an array; once for each distinct cell."""
        return np.array([read(label) for label in self.labels[name]], dtype=dtype)[self.codes[name]]

    def equals(self, name: str, value: str | None) -> NDArray[np.bool_]:
        """Tell which rows have a value in a column."""
        return self.from_labels(name, lambda label: label == value, np.bool_)

    def group(self, names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number rows by their cells in some columns: the first row of each number, and each row's number."""
        number = np.zeros(len(self), dtype=np.int64)
        for name in names:  # numbers stay below rows x labels
            number = np.unique(number * len(self.labels[name]) + self.codes[name], return_inverse=True)[1]
        _, first, number = np.unique(number.reshape(-1), return_index=True, return_inverse=True)
        return first, number.reshape(-1)

    def row(self, k: int) -> Row:
        """The cells of a row."""
        cells = {name: self.labels[name][column[k]] for name, column in self.codes.items()}
        return {**cells, self.identity: str(self.ids[k])}

    def rows(self) -> list[Row]:
        """The cells of all rows."""
        return [self.row(k) for k in range(len(self))]


def read_types(path: Path, identity: str, needed: Sequence[str] = ()) -> TypeTable:
    """Read a types CSV (blanks between columns), sorted by the integer in ``identity``; NULL is None."""
    ids: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    line = 2
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=" ", skipinitialspace=True)
            columns = next(reader, [])
            for name in (identity, *needed):
                if columns.count(name) != 1:
                    listed = ", ".join(map(repr, columns))
                    problem = f"column {name!r} is missing. The columns are {listed}."
                    raise ConnectomeError(f"{path}, line 1: {problem}")
            seen: dict[str, dict[str, int]] = {name: {} for name in columns}
            codes: dict[str, list[NDArray[np.int32]]] = {name: [np.empty(0, np.int32)] for name in columns}
            rows = (row for row in reader if row)
            while chunk := list(islice(rows, TYPES_AT_ONCE)):
                for k in (k for k, row in enumerate(chunk) if len(row) != len(columns)):
                    raise ConnectomeError(f"{path}, line {line + k}: as many cells as in line 1 are needed.")
                line += len(chunk)
                for name, cells in zip(columns, zip(*chunk, strict=True), strict=True):
                    if name == identity:
                        for k in (k for k, cell in enumerate(cells) if not TYPE_ID.fullmatch(cell)):
                            problem = f"{identity} is {cells[k]!r:.80}; use a whole number."
                            raise ConnectomeError(f"{path}, line {line - len(cells) + k}: {problem}")
                        ids.append(np.array(list(map(int, cells)), dtype=np.int64))
                        continue
                    known = seen[name]
                    for cell in dict.fromkeys(cells):
                        known.setdefault(cell, len(known))
                    codes[name].append(np.fromiter(map(known.__getitem__, cells), np.int32, len(cells)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConnectomeError(f"{path}: cannot be read: {error}.") from None
    labels: dict[str, list[str | None]] = {
        name: [None if cell == NULL else cell for cell in known] for name, known in seen.items()
    }
    found = TypeTable(
        path, identity, np.concatenate(ids),
        {name: np.concatenate(parts) for name, parts in codes.items() if name != identity},
        {name: labels[name] for name in labels if name != identity},
    )  # fmt: skip
    by = ("population", "ids") if "population" in found.codes else ("ids",)
    keys = [found.ids if name == "ids" else found.codes[name].astype(np.int64) for name in by]
    order = np.lexsort(keys)
    same = np.logical_and.reduce([np.diff(key[order]) == 0 for key in keys])
    if same.any():
        raise ConnectomeError(f"{path}: a {identity} is there twice.")
    return found.take(np.argsort(found.ids, kind="stable"))
