"""SONATA networks of other software, read by the path that every importer takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.column_table import arrow
from sparse_mrnn.connectome.delimited_text import is_number
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, indexed_edges, node_table
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportSettings
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.interop.sonata_files import NetworkFiles, column, indices, opened, read_types

Columns = dict[str, NDArray[np.object_]]
"""Attributes of all nodes or edges; None if one has no value."""


def import_network(files: NetworkFiles, settings: ImportSettings) -> tuple[RegionGraph, ImportReport]:
    """Import the populations of a network."""
    nodes: list[Columns] = []
    ranges: dict[str, range] = {}
    notes: list[str] = []
    wanted = ["model_type", *settings.neuron_columns()]
    with opened(files.nodes) as file:
        for population, group in file["nodes"].items():
            attributes = _attributes(group, "node", files, population, wanted)
            n = len(group["node_type_id"])
            order = np.argsort(indices(group, "node_id", n, n)) if "node_id" in group else np.arange(n)
            if "node_id" in group and (group["node_id"][:][order] != np.arange(n)).any():
                problem = f"the node_ids of population {population!r} are not 0..{n - 1}."
                raise ConnectomeError(f"{files.nodes}: {problem}")
            start = sum(map(len, ranges.values()))
            ranges[population] = range(start, start + n)
            in_order = {name: values[order] for name, values in attributes.items()}
            nodes.append({**in_order, "population": _filled(n, population)})
            if set(attributes.get("model_type", ())) == {"virtual"}:
                notes.append(f"population {population!r} is virtual; its nodes are units like any other")
    edges: list[Columns] = []
    sources, targets = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    wanted = ["syn_weight", "nsyns", *settings.edge_columns()]
    with opened(files.edges) as file:
        for population, group in file["edges"].items():
            sources.append(_units(group, "source", ranges, files))
            targets.append(_units(group, "target", ranges, files, len(sources[-1])))
            attributes = _attributes(group, "edge", files, population, wanted)
            edges.append({**attributes, "edge_population": _filled(len(sources[-1]), population)})
    columns = _joined(edges, list(map(len, sources[1:])))
    weight = np.ones(sum(map(len, sources)))
    for name, least in (("syn_weight", -np.inf), ("nsyns", 0)):
        if name in columns:
            weight *= _numbers(name, columns.pop(name), files.edges, least)
    ids = [f"{population}/{k}" for population, units in ranges.items() for k in range(len(units))]
    ends = np.concatenate(sources), np.concatenate(targets)
    tables = ConnectomeTables(
        label=f"{files.nodes} and {files.edges.name}",
        edges=indexed_edges(files.edges.name, ids, *ends, {**_as_text(columns), "weight": weight}),
        neurons=node_table(files.nodes.name, ids, _as_text(_joined(nodes, list(map(len, ranges.values()))))),
        notes=tuple(notes),
    )
    return graph_from_tables(tables, settings)


def _filled(n: int, value: object) -> NDArray[np.object_]:
    return np.full(n, value, dtype=object)


def _joined(parts: list[Columns], lengths: list[int]) -> Columns:
    """Join the columns of all populations, one after another."""
    names = dict.fromkeys(name for part in parts for name in part)
    empty = [(part, _filled(n, None)) for part, n in zip(parts, lengths, strict=True)]
    return {name: np.concatenate([part.get(name, none) for part, none in empty]) for name in names}


def _as_text(columns: Columns) -> dict[str, Any]:
    pa, text = arrow(), {}
    for name, values in columns.items():
        text[name] = pa.array([None if v is None else str(v) for v in values.tolist()], pa.string())
    return text


def _numbers(name: str, values: NDArray[np.object_], file: Path, least: float) -> NDArray[np.float64]:
    """Convert an attribute of every edge to numbers."""
    for k, value in enumerate(values.tolist()):
        if value is None or not is_number(str(value)) or not float(value) >= least:
            raise ConnectomeError(f"{file}: edge {k} has the {name} {value!r:.80}; a number is needed.")
    return values.astype(np.float64)


def _units(
    group: Any, end: str, ranges: dict[str, range], files: NetworkFiles, length: int | None = None
) -> NDArray[np.int64]:
    """Number the units at one end of every edge of a population."""
    name = f"{end}_node_id"
    attributes = group[name].attrs
    population = attributes.get("node_population", next(iter(ranges)) if len(ranges) == 1 else None)
    population = population.decode() if isinstance(population, bytes) else population
    if population is None or population not in ranges:
        problem = f"{group.name} has {end}s in {population!r}, which {files.nodes.name} does not have"
        raise ConnectomeError(f"{files.edges}: {problem}; there are {', '.join(map(repr, ranges))}.")
    units = ranges[population]
    return indices(group, name, len(units), length) + units.start


def _attributes(group: Any, what: str, files: NetworkFiles, population: str, wanted: list[str]) -> Columns:
    """Read the attributes of every node or edge of a population; its own go over those of its type."""
    kind = column(group, f"{what}_type_id", "iu")
    n = len(kind)
    types = files.node_types if what == "node" else files.edge_types
    columns = {} if types is None else _of_types(types, what, population, wanted, kind)
    member, index = np.zeros(n, dtype=np.int64), np.arange(n)
    if f"{what}_group_id" in group:
        member = column(group, f"{what}_group_id", "iu", n).astype(np.int64)
        index = column(group, f"{what}_group_index", "iu", n).astype(np.int64)
    for number in np.unique(member).tolist() if f"{what}_group_id" in group or "0" in group else ():
        here = np.flatnonzero(member == number)
        part = group[str(number)]
        for name in set(part) & set(wanted):
            values = column(part, name, "biufSO")
            if not 0 <= index[here].min() <= index[here].max() < len(values):
                problem = f"has {len(values)} values, but others are used"
                raise ConnectomeError(f"{group.file.filename}: {part.name}/{name} {problem}.")
            values = values[index[here]]
            library = part.get("@library")
            if library is not None and name in library:
                labels = column(library, name, "SO")
                if values.dtype.kind not in "iu" or not ((values >= 0) & (values < len(labels))).all():
                    where = f"{group.file.filename}: {part.name}/{name}"
                    raise ConnectomeError(f"{where} has no label for a value.")
                values = labels[values]
            text = [value.decode() if isinstance(value, bytes) else value for value in values.tolist()]
            columns.setdefault(name, _filled(n, None))[here] = text
    return columns


def _of_types(types: Path, what: str, population: str, wanted: list[str], kind: NDArray[Any]) -> Columns:
    """Read the attributes that every node or edge has by its type."""
    identity = f"{what}_type_id"
    rows = read_types(types, identity).rows()
    rows = [row for row in rows if row.get("population", population) == population]
    columns = {}
    for name in {name for row in rows for name in row} & set(wanted):
        of_type = {int(str(row[identity])): row[name] for row in rows}
        columns[name] = np.array([*map(of_type.get, kind.tolist()), None], dtype=object)[:-1]
    return columns
