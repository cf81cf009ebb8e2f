"""The files of a SONATA network: which they are, HDF5 opened with care, and the CSV of their types."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sparse_mrnn.declaration.projections import PROJECTION_FIELDS
from sparse_mrnn.errors import ConnectomeError, MissingExtraError, SparseMRNNError
from sparse_mrnn.files.atomic import reason
from sparse_mrnn.files.json import read_json

NULL = "NULL"
"""No value, in a types CSV."""
SPARED, RATIO = 1 << 20, 1100
"""A dataset of more bytes than the first may be this many times larger than what the file stores of it."""
DAMAGE = (
    OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError, SystemError,
)  # fmt: skip
"""Exceptions of h5py for damaged files."""
IN_NO_FILE = ("rank", "kind", "rectifies")
EDGE_FIELDS = {name: field for name, field in PROJECTION_FIELDS.items() if name not in IN_NO_FILE}
"""Fields of a projection that a types CSV has; SONATA has no projections of low rank."""
TYPES_AT_ONCE = 2**14
"""Rows of a types CSV that are text at once."""
TYPE_ID = re.compile("[0-9]{1,18}")
LARGEST_CONFIGURATION = 1 << 24
"""Bytes; a larger JSON file of a folder is not looked at for a configuration."""
CONFIGURED = ("manifest", "network", "networks", "version", "components")
"""Entries of a configuration that are read, or are folders of files that are not listed one by one."""
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
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
    """Nodes and edges (HDF5) of `write_sonata`, and the CSV of the types of each, or None."""

    nodes: Path
    edges: Path
    node_types: Path | None
    edge_types: Path | None


@dataclass(frozen=True)
class TypedFile:
    """A file of nodes or edges (HDF5), the CSV of their types, and what a configuration says of it."""

    path: Path
    types: Path | None
    populations: Mapping[str, str] | None = None  # those wanted and their types; None for all


@dataclass(frozen=True)
class Circuit:
    """The files of a network, of one or several populations."""

    name: str
    nodes: tuple[TypedFile, ...]
    edges: tuple[TypedFile, ...]
    synapse_models: Path | None = None  # folder of the parameters of synapses
    not_read: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Entries of the configuration, and files beside those of the network, that are not read."""

    @classmethod
    def find(
        cls, nodes: Name | Sequence[Name], edges: Name | Sequence[Name], node_types: Name | Sequence[Name],
        edge_types: Name | Sequence[Name],
    ) -> Circuit:
        """Find the files of a configuration or a folder, or the types beside files of nodes and edges."""
        (first, *others) = _names(nodes) or (None,)
        if first is None:
            raise ConnectomeError("read_sonata needs a configuration, a folder, or files of nodes and edges.")
        path = Path(first)
        if not others and (path.is_dir() or path.suffix == ".json"):
            for name, given in (("edges", edges), ("node_types", node_types), ("edge_types", edge_types)):
                if given is not None:
                    raise ConnectomeError(f"{path} says which files there are; {name}= cannot be given.")
            return _of_folder(path) if path.is_dir() else _of_configuration(path)
        if edges is None:
            problem = "give the edges file too, or a configuration (.json), or the folder that has it."
            raise ConnectomeError(f"{path}: {problem}")
        of_nodes = _typed(_names(nodes), _names(node_types), "node")
        circuit = cls(path.stem, of_nodes, _typed(_names(edges), _names(edge_types), "edge"))
        return replace(circuit, not_read=_beside(circuit))

    @property
    def pair(self) -> NetworkFiles | None:
        """The one file of nodes and the one of edges, if there are no more, as `write_sonata` makes them."""
        if not len(self.nodes) == len(self.edges) == 1:
            return None
        (nodes,), (edges,) = self.nodes, self.edges
        return NetworkFiles(nodes.path, edges.path, nodes.types, edges.types)


def _names(given: Name | Sequence[Name]) -> list[Name]:
    return [given] if given is None or isinstance(given, (str, os.PathLike)) else list(given)


def _typed(files: Sequence[Name], types: Sequence[Name], what: str) -> tuple[TypedFile, ...]:
    """Pair files with the CSV of their types, those stated or those of a usual name beside them."""
    if types == [None]:
        types = [None] * len(files)
    if len(types) != len(files):
        problem = f"{len(files)} files of {what}s, but {len(types)} of {what}_types; give one for each."
        raise ConnectomeError(f"{Path(str(files[0]))}: {problem}")
    paths = [Path(str(file)) for file in files]
    return tuple(TypedFile(p, _types_of(p, t, what)) for p, t in zip(paths, types, strict=True))


def _types_of(file: Path, stated: Name, what: str) -> Path | None:
    """Return the types CSV stated, or one of a usual name beside a file."""
    if stated is not None:
        return Path(stated)
    renamed = file.stem.replace(f"{what}s", f"{what}_types")
    usual = f"{what}_types.csv", file.stem.removesuffix("s") + "_types.csv", f"{renamed}.csv"
    return next((path for path in map(file.with_name, usual[::-1]) if path.is_file()), None)


def _of_folder(folder: Path) -> Circuit:
    """Find the circuit of a folder: by its configuration, or all its files of nodes and edges."""
    if (folder / "circuit_config.json").is_file():
        return _of_configuration(folder / "circuit_config.json")
    found: dict[Path, Circuit] = {}
    for config in sorted(folder.glob("*.json")):
        if config.stat().st_size < LARGEST_CONFIGURATION and is_configuration(config):
            found[config] = _of_configuration(config)
    found = {config: circuit for config, circuit in found.items() if circuit.edges} or found
    if found:
        first, *others = found.values()
        if any((other.nodes, other.edges) != (first.nodes, first.edges) for other in others):
            names = ", ".join(config.name for config in found)
            raise ConnectomeError(f"{folder} has several configurations; name one of them: {names}.")
        return first
    nodes, edges = (sorted(folder.glob(f"*{what}s.h5")) for what in ("node", "edge"))
    if not (nodes and edges):
        problem = "has no SONATA configuration (circuit_config.json) and no *nodes.h5 and *edges.h5"
        raise ConnectomeError(f"{folder} {problem}, so no network; make one with: sparse-mrnn import")
    typed = _typed(nodes, [None], "node"), _typed(edges, [None], "edge")
    circuit = Circuit(folder.resolve().name, *typed)
    return replace(circuit, not_read=_beside(circuit))


def is_configuration(path: Path) -> bool:
    """Tell if a JSON file is a configuration of a circuit, or of a simulation of one."""
    try:
        content = read_json(path, ConnectomeError)
    except ConnectomeError:
        return False
    return isinstance(content, dict) and (
        isinstance(content.get("networks"), dict) or isinstance(content.get("network"), str)
    )


def _of_configuration(config: Path, depth: int = 0) -> Circuit:
    """Find the files that a configuration of a circuit, or of a simulation of one, names."""
    content = read_json(config, ConnectomeError)
    variables = _variables(config, content)
    try:
        if isinstance(content.get("network"), str):
            if depth > 8:
                raise ConnectomeError(f"{config}: its network is a configuration of itself.")
            network = _resolved(config, "network", content["network"], variables)
            circuit = _of_configuration(network, depth + 1)
            return replace(circuit, not_read={**circuit.not_read, **_unread(config, content)})
        if "networks" not in content:
            problem = "has neither networks nor the configuration of a network"
            raise ConnectomeError(f"{config} {problem}; name the configuration of its circuit.")
        networks = content["networks"]
        entries = {w: [dict(entry) for entry in networks.get(f"{w}s") or ()] for w in ("node", "edge")}
        components = dict(content.get("components") or {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"cannot be read as a SONATA circuit: {type(error).__name__} {error}."
        raise ConnectomeError(f"{config}: {problem}") from None
    files: dict[str, list[TypedFile]] = {"node": [], "edge": []}
    for what, listed in entries.items():
        for entry in listed:
            named = [entry.get(name) for name in (f"{what}s_file", f"{what}_types_file")]
            path, types = (
                None if text in (None, "", NULL) else _resolved(config, f"{what}s_file", text, variables)
                for text in named
            )
            if path is not None and entry.get("enabled") is not False:
                files[what].append(TypedFile(path, types, _populations(config, entry)))
    if not files["node"]:
        raise ConnectomeError(f"{config}: a nodes_file is needed.")
    models = components.get("synaptic_models_dir")
    models = None if not models else _resolved(config, "synaptic_models_dir", models, variables, False)
    name = config.resolve().parent.name if config.name == "circuit_config.json" else config.stem
    circuit = Circuit(name, tuple(files["node"]), tuple(files["edge"]), models)
    return replace(circuit, not_read={**_unread(config, content), **_beside(circuit)})


def _unread(config: Path, content: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """List the entries of a configuration that nothing reads."""
    names = [name for name in content if name not in CONFIGURED]
    names += [f"networks.{name}" for name in content.get("networks", ()) if name not in ("nodes", "edges")]
    return {config.name: tuple(names)} if names else {}


def _populations(config: Path, entry: Mapping[str, Any]) -> dict[str, str] | None:
    """Read which populations of a file are wanted, and their types, as libsonata does."""
    listed = entry.get("populations")
    if not listed:
        return None
    if not isinstance(listed, dict) or not all(isinstance(own, dict) for own in listed.values()):
        raise ConnectomeError(f"{config}: populations is {listed!r:.80}; an object of objects is needed.")
    return {str(name): str(own.get("type", "")) for name, own in listed.items()}


def _variables(config: Path, content: Any) -> dict[str, str]:
    """Resolve the variables of a configuration's manifest, and those that BMTK always has."""
    manifest = content.get("manifest") or {} if isinstance(content, dict) else None
    if not isinstance(manifest, dict) or not all(isinstance(value, str) for value in manifest.values()):
        raise ConnectomeError(f"{config}: cannot be read as a SONATA circuit: its manifest is not an object.")
    given = {name.strip("${}"): value for name, value in manifest.items()}
    folder = str(config.resolve().parent)
    known = {"configdir": folder, "configfname": str(config.resolve()), "workingdir": os.getcwd()}
    return {name: _substituted(config, value, {**known, **given}) for name, value in (known | given).items()}


def _substituted(config: Path, text: str, variables: Mapping[str, str]) -> str:
    """Replace $NAME and ${NAME} by values, which may have variables themselves."""
    full = text
    for _ in range(len(variables) + 1):
        found = VARIABLE.search(full)
        if found is None:
            return full

        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            if name not in variables:
                known = ", ".join(sorted(variables))
                raise ConnectomeError(f"{config}: the variable ${name} is not in its manifest, only {known}.")
            return variables[name]

        full = VARIABLE.sub(value, full)
        if len(full) > 4096:
            break
    raise ConnectomeError(f"{config}: the variables of {text!r:.80} refer to each other without end.")


def _resolved(
    config: Path, key: str, text: object, variables: Mapping[str, str], must_exist: bool = True
) -> Path:
    """Find the file that an entry of a configuration names, from the folder of the configuration."""
    if not isinstance(text, str) or "\0" in text:
        raise ConnectomeError(f"{config}: {key} is {text!r:.80}, which is not a file name.")
    folder = config.parent
    path = (folder / _substituted(config, text, variables)).resolve()
    outside = not path.is_relative_to(folder.resolve())
    if must_exist and outside and not path.is_file():
        problem = f"{key} {text!r:.80} leads outside of the folder, to {path}, which is not a file."
        raise ConnectomeError(f"{config}: {problem}")
    return path


def _beside(circuit: Circuit) -> dict[str, tuple[str, ...]]:
    """List the HDF5 and CSV files beside those of a circuit, which nothing reads."""
    files = (*circuit.nodes, *circuit.edges)
    read = {path.resolve() for file in files for path in (file.path, file.types) if path is not None}
    folders = sorted({path.parent for path in read})
    beside = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    return {path.name: () for path in beside if path.suffix in (".h5", ".csv") and path not in read}


@contextmanager
def opened(path: Path, what: str = "SONATA", *, soft_links: bool = False) -> Iterator[Any]:
    """Open an HDF5 file whose data are all inside of it; damage becomes a ConnectomeError.

    ``what`` is the format, for messages; ``soft_links`` allows links that stay in the file.
    """
    h5py = h5()
    try:
        if not path.is_file():
            raise ConnectomeError(f"{path} does not exist.")
        with h5py.File(path, "r") as file:
            _refuse_outside(file, path, soft_links)
            yield file
    except ConnectomeError:
        raise
    except SparseMRNNError as error:
        raise ConnectomeError(f"{path}: {error}") from None
    except DAMAGE as error:
        raise ConnectomeError(f"{path}: cannot be read as {what} (HDF5): {error}.") from None


def _refuse_outside(file: Any, path: Path, soft_links: bool) -> None:
    """Refuse links and datasets that may lead out of a file."""
    h5py = h5()
    inside = (h5py.HardLink, h5py.SoftLink) if soft_links else h5py.HardLink

    def link_of(name: bytes | str, link: Any) -> Any:  # what is not None ends the visit
        return None if isinstance(link, inside) else f"{name!r} is a {type(link).__name__}"

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
        return {self.identity: str(self.ids[k]), **cells}

    def rows(self) -> list[Row]:
        """The cells of all rows."""
        return [self.row(k) for k in range(len(self))]


def read_types(path: Path, identity: str, needed: Sequence[str] = ()) -> TypeTable:
    """Read a types CSV (blanks, tabs or commas between columns), sorted by ``identity``; NULL is None."""
    try:
        found = _type_table(path, identity, needed, merge=False)
        if found is None:  # columns may be aligned by several blanks
            found = _type_table(path, identity, needed, merge=True)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConnectomeError(f"{path}: cannot be read: {reason(error)}.") from None
    if found is None:  # which it is not: lines are merged
        raise ConnectomeError(f"{path}: the columns of its lines differ.")
    by = ("population", "ids") if "population" in found.codes else ("ids",)
    keys = [found.ids if name == "ids" else found.codes[name].astype(np.int64) for name in by]
    order = np.lexsort(keys)
    same = np.logical_and.reduce([np.diff(key[order]) == 0 for key in keys])
    if same.any():
        raise ConnectomeError(f"{path}: a {identity} is there twice.")
    return found.take(np.argsort(found.ids, kind="stable"))


def _type_table(path: Path, identity: str, needed: Sequence[str], *, merge: bool) -> TypeTable | None:
    """Read a types CSV; ``merge`` takes several blanks as one. None: it should be read so."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        head = file.readline()
        file.seek(0)
        match = re.search(rf'(?:^|([ \t,;]))"?{identity}"?(?:([ \t,;])|$)', head.strip())
        mark = next(filter(None, match.groups()), " ") if match else " "
        rows = (row for row in csv.reader(file, delimiter=mark, skipinitialspace=merge) if row)
        columns = next(rows, [])
        if columns and columns[-1] == "":  # a blank at the end of the line
            columns.pop()
        if not merge and "" in columns:
            return None
        for name in (identity, *needed):
            if columns.count(name) != 1:
                listed = ", ".join(map(repr, columns))
                problem = f"column {name!r} is missing. The columns are {listed}."
                raise ConnectomeError(f"{path}, line 1: {problem}")
        place = {name: k for k, name in enumerate(columns) if name}
        ids: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        seen: dict[str, dict[str, int]] = {name: {} for name in place}
        codes: dict[str, list[NDArray[np.int32]]] = {name: [np.empty(0, np.int32)] for name in place}
        line = 2
        while chunk := list(islice(rows, TYPES_AT_ONCE)):
            other = {len(row) for row in chunk} != {len(columns)}
            for k, row in enumerate(chunk if other else ()):
                if len(row) < len(columns) or any(row[len(columns) :]):
                    if not merge:
                        return None
                    problem = f"a {identity} and as many columns as in line 1 are needed."
                    raise ConnectomeError(f"{path}, line {line + k}: {problem}")
            line += len(chunk)
            by_column = list(zip(*chunk, strict=False))  # longer rows end in blanks
            for name, at in place.items():
                cells = by_column[at]
                if name == identity:
                    if not all(map(TYPE_ID.fullmatch, cells)):
                        k = next(k for k, cell in enumerate(cells) if not TYPE_ID.fullmatch(cell))
                        problem = f"{identity} is {cells[k]!r:.80}; use a whole number."
                        raise ConnectomeError(f"{path}, line {line - len(cells) + k}: {problem}")
                    ids.append(np.array(list(map(int, cells)), dtype=np.int64))
                    continue
                known = seen[name]
                for cell in dict.fromkeys(cells):
                    known.setdefault(cell, len(known))
                codes[name].append(np.fromiter(map(known.__getitem__, cells), np.int32, len(cells)))
    labels: dict[str, list[str | None]] = {
        name: [None if cell == NULL else cell for cell in known] for name, known in seen.items()
    }
    return TypeTable(
        path, identity, np.concatenate(ids),
        {name: np.concatenate(parts) for name, parts in codes.items() if name != identity},
        {name: labels[name] for name in labels if name != identity},
    )  # fmt: skip
