"""SONATA networks of other software, read by the path that every importer takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.column_table import arrow, listed
from sparse_mrnn.connectome.delimited_text import is_number
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, indexed_edges, node_table
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportSettings
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.files.json import read_json
from sparse_mrnn.interop.sonata_files import (
    NULL,
    Circuit,
    TypedFile,
    column,
    h5,
    indices,
    opened,
    read_types,
)

Numbers = NDArray[np.float64]
Labels = tuple[NDArray[np.int32], list[str]]
"""Index of the label of each node or edge, -1 without one, and the labels, perhaps repeated."""
CONDUCTANCES = ("expsyn", "exp1syn", "exp2syn", "exp1isyn", "exp2isyn", "stp1syn", "stp2syn", "stp5syn")
"""Models of synapses (model_template) whose syn_weight is a conductance, which is never negative."""
INHIBITS = -45.0
"""A synapse whose reversal potential (erev, mV) is lower inhibits: between those of GABA and glutamate."""


@dataclass(frozen=True, eq=False)
class Population:
    """A population of nodes or edges, with the attributes wanted: its own, or else those of its types."""

    name: str
    file: Path
    type: str  # by the configuration
    type_ids: NDArray[Any]
    numbers: dict[str, Numbers]  # NaN without a value
    labels: dict[str, Labels]
    node_ids: NDArray[np.int64] | None = None  # of nodes, if the file has them
    ends: Mapping[str, tuple[str, NDArray[np.int64]]] = field(default_factory=dict)
    """Population and ids of the nodes at the ends of edges, by "source" and "target"."""

    def __len__(self) -> int:
        return len(self.type_ids)


def import_network(
    circuit: Circuit, weight: str | None, options: Mapping[str, Any]
) -> tuple[RegionGraph, ImportReport]:
    """Import the populations of a network; ``options`` are those of every importer."""
    defaults: dict[str, Any] = dict(regions="population", counts=False, scale="none", mixed="free")
    settings = ImportSettings.of(options, **defaults, name=circuit.name, delay="delay")
    nodes = _Reading("node", circuit.nodes, numbers="xyz", labels=None)
    numbers = [name for name in (weight, settings.delay) if name is not None]
    labels = [name for name in settings.edge_columns() if name != settings.delay]
    if weight == "syn_weight":
        numbers.append("conductance")
    models = ["model_template", "dynamics_params"]
    edges = _Reading(
        "edge", circuit.edges, numbers=[*numbers, "nsyns"], labels=[*labels, *models], nodes=nodes
    )
    if not edges.has(settings.delay) and "delay" not in options:
        settings = ImportSettings.of(options, **defaults, name=circuit.name)
    ranges = _numbered(nodes)
    source, target = (_units(edges, end, ranges) for end in ("source", "target"))
    notes: list[str] = []
    weights, used = _weights(edges, weight, notes)
    if settings.sign is None and settings.transmitter is None:
        weights = _signed(edges, weights, circuit, notes)
        used += models
    columns = {"weight": arrow().array(weights)}
    if settings.delay is not None and edges.has(settings.delay):
        columns[settings.delay] = arrow().array(edges.numbers(settings.delay))
    columns |= {name: edges.labels(name) for name in labels if edges.has(name)}
    columns["edge_population"] = edges.names()
    for population in nodes.populations:
        if "virtual" in (population.type, *set(population.labels.get("model_type", ((), []))[1])):
            notes.append(f"population {population.name!r} is virtual; its nodes are units like any other")
    order = _in_order(nodes)
    of_nodes = {name: nodes.labels(name).take(order) for name in nodes.known if nodes.has_labels(name)}
    axes = [axis for axis in "xyz" if nodes.has(axis)]
    named = [axis for axis in axes if axis in settings.neuron_columns()]
    of_nodes |= {axis: arrow().array(nodes.numbers(axis)[order]) for axis in named}
    positions = np.stack([nodes.numbers(axis) for axis in axes], axis=1)[order] if axes else None
    ids = [f"{population}/{k}" for population, units in ranges.items() for k in range(len(units))]
    tables = ConnectomeTables(
        label=f"{circuit.nodes[0].path.parent}: {nodes.name} and {edges.name}", notes=tuple(notes),
        edges=indexed_edges(edges.name, ids, source, target, columns, [*edges.known, "edge_population"]),
        neurons=node_table(
            nodes.name, ids, {**of_nodes, "population": nodes.names()}, [*nodes.known, "population"]
        ),
        positions=positions, not_read={
            **nodes.not_read([*of_nodes, *axes, "model_type"]), **edges.not_read([*columns, *used]),
            **circuit.not_read,
        },
    )  # fmt: skip
    return graph_from_tables(tables, settings)


class _Reading:
    """All populations of nodes or edges, joined one after another, and what of their files was not read.

    ``numbers`` and ``labels`` are the attributes to read; all others are labels if these are None.
    """

    def __init__(
        self, what: str, files: Sequence[TypedFile], *, numbers: Collection[str],
        labels: Collection[str] | None, nodes: _Reading | None = None,
    ) -> None:
        self.what, self.nodes = what, nodes
        self.populations: list[Population] = []
        self.name = ", ".join(file.path.name for file in files) or f"no {what}s"
        self.known: dict[str, None] = {}
        self._of_file: dict[str, list[str]] = {}  # attributes, by file
        self._numbers, self._labels = {*numbers}, None if labels is None else {*labels}
        for file in files:
            self._read(file)

    def has(self, name: str | None) -> bool:
        """Tell if any node or edge has an attribute."""
        numbers = (p.numbers[name] for p in self.populations if name in p.numbers)
        return self.has_labels(name or "") or not all(np.isnan(values).all() for values in numbers)

    def has_labels(self, name: str) -> bool:
        """Tell if any node or edge has an attribute that was read as text."""
        return any(p.labels.get(name, ((), []))[1] for p in self.populations)

    def numbers(self, name: str) -> Numbers:
        """Join an attribute of numbers; NaN without a value."""
        parts = [p.numbers.get(name, np.full(len(p), np.nan)) for p in self.populations]
        return np.concatenate([np.empty(0), *parts])

    def labels(self, name: str) -> Any:
        """Join an attribute of text as a pyarrow dictionary array."""
        codes, values = [np.empty(0, dtype=np.int32)], list[str]()
        for p in self.populations:
            code, own = p.labels.get(name, (np.full(len(p), -1, dtype=np.int32), []))
            codes.append(np.where(code < 0, -1, code + len(values)).astype(np.int32))
            values += own
        return _dictionary(np.concatenate(codes), values)

    def names(self) -> Any:
        """Name the population of every node or edge."""
        codes = np.repeat(np.arange(len(self.populations), dtype=np.int32), list(map(len, self.populations)))
        return _dictionary(codes, [p.name for p in self.populations])

    def not_read(self, used: Collection[str]) -> dict[str, tuple[str, ...]]:
        """List the attributes of every file that are not used."""
        used = {*used, "population", f"{self.what}_type_id"}
        left = {file: tuple(c for c in columns if c not in used) for file, columns in self._of_file.items()}
        return {file: columns for file, columns in left.items() if columns}

    def _read(self, file: TypedFile) -> None:
        """Read the populations of a file."""
        rows, what = [], self.what
        if file.types is not None:
            rows = read_types(file.types, f"{what}_type_id").rows()
            self._of_file[file.types.name] = list(dict.fromkeys(name for row in rows for name in row))
        self._of_file[file.path.name] = of_file = []
        with opened(file.path) as content:
            found = content[f"{what}s"]
            wanted = list(found) if file.populations is None else list(file.populations)
            for name in wanted:
                if name not in found:
                    problem = f"has no population {name!r}, only {', '.join(map(repr, found))}"
                    raise ConnectomeError(f"{file.path}: the file {problem}.")
            of_file += [f"population {name!r}" for name in found if name not in wanted]
            for name in wanted:
                if what == "node" and any(p.name == name for p in self.populations):
                    raise ConnectomeError(f"{file.path}: population {name!r} is in another file, too.")
                own = [row for row in rows if row.get("population") in (None, name)]
                population, present = self._population(found[name], file, name, own)
                self.populations.append(population)
                of_file += [each for each in present if each not in of_file]
        self.known |= dict.fromkeys([*(name for row in rows for name in row), *of_file])

    def _population(
        self, group: Any, file: TypedFile, name: str, rows: list[dict[str, str | None]]
    ) -> tuple[Population, dict[str, None]]:
        what = self.what
        type_ids = column(group, f"{what}_type_id", "iu")
        n = len(type_ids)
        parts, dataset_type = list(_groups(group, what, n)), h5().Dataset
        present = dict.fromkeys(each for part, *_ in parts for each in part if each != "@library")
        distinct, of_type = np.unique(type_ids, return_inverse=True)
        cells = {int(str(row[f"{what}_type_id"])): row for row in rows}
        typed = {each for row in rows for each in row}
        numbers, labels = dict[str, Numbers](), dict[str, Labels]()
        for each in self._numbers & ({*present} | typed):
            of_types = [(k, cells.get(k, {}).get(each)) for k in distinct.tolist()]
            by_type = [_number(cell, f"{file.types}: {each} of {what} type {k}") for k, cell in of_types]
            numbers[each] = np.array(by_type)[of_type] if n else np.empty(0)
            for part, here, index in parts:
                if each in part:
                    numbers[each][here] = _values(part, each, "biuf", index).astype(np.float64)
        every = dict.fromkeys([*present, *(each for row in rows for each in row)])
        others = set(every) - self._numbers - {f"{what}_type_id"}
        for each in [each for each in every if each in (others if self._labels is None else self._labels)]:
            texts = [cells.get(k, {}).get(each) for k in distinct.tolist()]
            words = sorted({text for text in texts if text is not None})
            code = np.array([-1 if text is None else words.index(text) for text in texts], dtype=np.int32)
            code = code[of_type] if n else np.empty(0, dtype=np.int32)
            for part, here, index in parts:
                data = part.get(each)
                if isinstance(data, dataset_type) and (self._labels is not None or _is_column(data)):
                    code[here], own = _labels(part, each, index, len(words))
                    words += own
            labels[each] = code, words
        ids, ends = None, dict[str, tuple[str, NDArray[np.int64]]]()
        if what == "node" and "node_id" in group:
            ids = indices(group, "node_id", n, n)
        if what == "edge":
            ends = {end: self._end(group, file, end, n) for end in ("source", "target")}
        type_ = (file.populations or {}).get(name, "")
        return Population(name, file.path, type_, type_ids, numbers, labels, ids, ends), present


    def _end(self, group: Any, file: TypedFile, end: str, n: int) -> tuple[str, NDArray[np.int64]]:
        """Read the nodes at one end of every edge of a population, and the name of their population."""
        sizes = {p.name: len(p) for p in (self.nodes.populations if self.nodes is not None else ())}
        attributes = group[f"{end}_node_id"].attrs
        only = next(iter(sizes)) if len(sizes) == 1 else None
        name = attributes.get("node_population", attributes.get("network", only))
        name = name.decode() if isinstance(name, bytes) else name
        if name not in sizes:
            there = "" if self.nodes is None else self.nodes.name
            problem = f"{group.name} has {end}s in {name!r}, which {there} does not have"
            raise ConnectomeError(f"{file.path}: {problem}; there are {', '.join(map(repr, sizes))}.")
        return name, indices(group, f"{end}_node_id", sizes[name], n)


def _dictionary(codes: NDArray[np.int32], values: Sequence[str]) -> Any:
    pa = arrow()
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(values, pa.string()))


def _is_column(data: Any) -> bool:
    """Tell if a dataset has one value for each node or edge."""
    return data.ndim == 1 and data.dtype.kind in "biufSO"


def _groups(group: Any, what: str, n: int) -> Iterable[tuple[Any, Any, Any]]:
    """Yield the groups of attributes of a population: which nodes or edges have them, and at which index."""
    if f"{what}_group_id" not in group:
        if "0" in group:
            yield group["0"], slice(None), np.arange(n)
        return
    member = column(group, f"{what}_group_id", "iu", n).astype(np.int64)
    index = column(group, f"{what}_group_index", "iu", n).astype(np.int64)
    for number in np.unique(member).tolist():
        here = np.flatnonzero(member == number)
        yield group[str(number)], here, index[here]


def _values(part: Any, name: str, kinds: str, index: NDArray[np.int64]) -> NDArray[Any]:
    values = column(part, name, kinds)
    if len(index) and not 0 <= index.min() <= index.max() < len(values):
        problem = f"has {len(values)} values, but others are used"
        raise ConnectomeError(f"{part.file.filename}: {part.name}/{name} {problem}.")
    return values[index]


def _labels(part: Any, name: str, index: NDArray[np.int64], first: int) -> Labels:
    """Read an attribute of text, or of numbers as text; codes count from ``first``."""
    values = _values(part, name, "biufSO", index)
    library = part.get("@library")
    if library is not None and name in library:
        labels = column(library, name, "SO")
        if values.dtype.kind not in "iu" or not ((values >= 0) & (values < len(labels))).all():
            where = f"{part.file.filename}: {part.name}/{name}"
            raise ConnectomeError(f"{where} has no label for a value.")
        distinct, code = labels, values
    else:
        distinct, code = np.unique(values, return_inverse=True)
    text = [value.decode() if isinstance(value, bytes) else str(value) for value in distinct.tolist()]
    return code.astype(np.int32) + np.int32(first), text


def _number(cell: str | None, where: str) -> float:
    """Read a number of a types CSV; NaN for none."""
    if cell is None or cell in ("", "NONE", "NaN", "nan"):
        return np.nan
    if not is_number(cell):
        raise ConnectomeError(f"{where} is {cell!r:.80}; a number is needed.")
    return float(cell)


def _numbered(nodes: _Reading) -> dict[str, range]:
    """Number the units of all populations, one after another."""
    ranges, start = {}, 0
    for p in nodes.populations:
        ids = p.node_ids
        if ids is not None and (np.sort(ids) != np.arange(len(p))).any():
            problem = f"the node_ids of population {p.name!r} are not 0..{len(p) - 1}."
            raise ConnectomeError(f"{p.file}: {problem}")
        ranges[p.name] = range(start, start + len(p))
        start += len(p)
    return ranges


def _in_order(nodes: _Reading) -> NDArray[np.int64]:
    """Return the order of rows by node id, within each population."""
    orders, start = [np.empty(0, dtype=np.int64)], 0
    for p in nodes.populations:
        orders.append(start + (np.arange(len(p)) if p.node_ids is None else np.argsort(p.node_ids)))
        start += len(p)
    return np.concatenate(orders)


def _units(edges: _Reading, end: str, ranges: dict[str, range]) -> NDArray[np.int64]:
    """Number the units at one end of every edge."""
    found = [np.empty(0, dtype=np.int64)]
    for p in edges.populations:
        population, ids = p.ends[end]
        found.append(ids + ranges[population].start)
    return np.concatenate(found)


def _weights(edges: _Reading, weight: str | None, notes: list[str]) -> tuple[Numbers, list[str]]:
    """Read the weight of every edge, times its synapses; return it and the names of its attributes."""
    name = weight
    if weight == "syn_weight" and not edges.has(weight):
        name = "conductance" if edges.has("conductance") else None
        how = "the weight of an edge is its conductance" if name else "the weight of every synapse is 1"
        notes.append(f"no edge has a syn_weight, so {how}")
    elif weight is not None and not edges.has(weight):
        hint = listed(weight, list(edges.known))
        raise ConnectomeError(f"{edges.name}: no edge has the weight {weight!r}. {hint}")
    found = []
    for p in edges.populations:
        values, synapses = np.ones(len(p)), p.numbers.get("nsyns", np.ones(len(p)))
        if name is not None:
            values = p.numbers.get(name, np.full(len(p), np.nan))
        for k in np.flatnonzero(np.isnan(values))[:1]:
            edge = f"edge {k} of population {p.name!r} (type {p.type_ids[k]}) has no {name}, but others do"
            advice = "fill it in, or give weight=None to count synapses only"
            raise ConnectomeError(f"{p.file}: {edge} ({int(np.isnan(values).sum()):,} have none); {advice}.")
        for k in np.flatnonzero(synapses < 0)[:1]:
            problem = f"edge {k} of population {p.name!r} has {synapses[k]:g} synapses (nsyns)."
            raise ConnectomeError(f"{p.file}: {problem}")
        found.append(values * np.where(np.isnan(synapses), 1, synapses))
    if edges.has("nsyns"):
        notes.append("the weight of an edge is that of a synapse times its number of synapses, nsyns")
    return np.concatenate([np.empty(0), *found]), ["nsyns", *([name] if name is not None else [])]


def _signed(edges: _Reading, weights: Numbers, circuit: Circuit, notes: list[str]) -> Numbers:
    """Make the weights of inhibiting models of synapses negative; note conductances without a known model."""
    inhibits, conductances, start = 0, 0, 0
    missing: dict[str, None] = {}
    for p in edges.populations:
        of_edges = weights[start : start + len(p)]
        start += len(p)
        code, files = p.labels.get("dynamics_params", (np.full(len(p), -1), []))
        signs = [_sign_of_model(circuit.synapse_models, name) for name in files]
        sign = np.array([*(0 if sign is None else sign for sign in signs), 0])[code]
        missing |= dict.fromkeys(name for name, own in zip(files, signs, strict=True) if own is None)
        inhibits += int((sign < 0).sum())
        of_edges[sign < 0] = -np.abs(of_edges[sign < 0])
        code, models = p.labels.get("model_template", (np.full(len(p), -1), []))
        known = np.array([*(name.lower() in CONDUCTANCES for name in models), False])[code]
        conductances += int((known & (sign == 0) & (of_edges > 0)).sum())
    if inhibits:
        notes.append(f"{inhibits:,} edges inhibit, by the model of their synapses (sign or erev)")
    if conductances:
        what = f"the weights of {conductances:,} edges are conductances, positive whatever their synapses do"
        notes.append(f"{what}; give signs by a column, such as sign='ei', if some inhibit")
    if missing:
        notes.append(f"models of synapses that were not found: {', '.join(missing)}")
    return weights


def _sign_of_model(folder: Path | None, name: str) -> int | None:
    """Read the sign of a model of synapses in their folder; 0 if it says none, None without a file."""
    if name in ("", NULL, "NONE") or folder is None:
        return 0 if name in ("", NULL, "NONE") else None
    path = (folder / name).resolve()
    if "\0" in name or not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    content = read_json(path, ConnectomeError)
    values = content if isinstance(content, dict) else {}
    for key, border in (("sign", 0.0), ("erev", INHIBITS)):
        if isinstance(values.get(key), int | float):
            return -1 if values[key] < border else 1
    return 0
