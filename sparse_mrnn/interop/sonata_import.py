"""SONATA networks of other software, by the path every importer takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.column_table import arrow
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, indexed_edges, node_table
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportSettings
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.graph import RegionGraph
from sparse_mrnn.interop.sonata_files import NULL, NetworkFiles, opened, read_types

Columns = dict[str, NDArray[np.object_]]
"""Attributes of all nodes or edges; None where there is no value."""


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
            ids = group["node_id"][:] if "node_id" in group else np.arange(n)
            order = np.argsort(ids)
            if (ids[order] != np.arange(n)).any():
                problem = f"the node_ids of population {population!r} are not 0..{n - 1}."
                raise ConnectomeError(f"{files.nodes}: {problem}")
            start = sum(map(len, ranges.values()))
            ranges[population] = range(start, start + n)
            in_order = {column: values[order] for column, values in attributes.items()}
            nodes.append({**in_order, "population": _filled(n, population)})
            if set(attributes.get("model_type", ())) == {"virtual"}:
                notes.append(f"population {population!r} is virtual; its nodes are units like any other")
    edges: list[Columns] = []
    sources, targets = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    wanted = ["syn_weight", "nsyns", *settings.edge_columns()]
    with opened(files.edges) as file:
        for population, group in file["edges"].items():
            label = f"population {population!r}"
            sources.append(_units(group["source_node_id"], "source", ranges, files, label))
            targets.append(_units(group["target_node_id"], "target", ranges, files, label))
            attributes = _attributes(group, "edge", files, population, wanted)
            edges.append({**attributes, "edge_population": _filled(len(sources[-1]), population)})
    columns = _joined(edges, list(map(len, sources[1:])))
    weight = np.ones(sum(map(len, sources)))
    for name in ("syn_weight", "nsyns"):
        if name in columns:
            weight *= columns.pop(name).astype(np.float64)
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
    """Columns of all populations, one after another."""
    names = dict.fromkeys(name for part in parts for name in part)
    empty = [(part, _filled(n, None)) for part, n in zip(parts, lengths, strict=True)]
    return {name: np.concatenate([part.get(name, none) for part, none in empty]) for name in names}


def _as_text(columns: Columns) -> dict[str, Any]:
    pa, text = arrow(), {}
    for name, values in columns.items():
        text[name] = pa.array([None if v is None else str(v) for v in values.tolist()], pa.string())
    return text


def _units(
    data: Any, end: str, ranges: dict[str, range], files: NetworkFiles, label: str
) -> NDArray[np.int64]:
    """The units at one end of every edge of a population."""
    population = data.attrs.get("node_population", next(iter(ranges)))
    population = population.decode() if isinstance(population, bytes) else str(population)
    if population not in ranges:
        problem = f"{label} has {end}s in {population!r}, which {files.nodes.name} does not have."
        raise ConnectomeError(f"{files.edges}: {problem}")
    units = ranges[population]
    index: NDArray[np.int64] = data[:].astype(np.int64)
    if len(index) and not 0 <= index.min() <= index.max() < len(units):
        raise ConnectomeError(f"{files.edges}: {label} has a {end}_node_id outside of 0..{len(units) - 1}.")
    return index + units.start


def _attributes(group: Any, what: str, files: NetworkFiles, population: str, wanted: list[str]) -> Columns:
    """Attributes of every node or edge of a population: those of its type, over which its own go."""
    kind = group[f"{what}_type_id"][:]
    n = len(kind)
    types = files.node_types if what == "node" else files.edge_types
    columns = {} if types is None else _of_types(types, what, population, wanted, kind)
    member = group[f"{what}_group_id"][:] if f"{what}_group_id" in group else np.zeros(n, dtype=np.int64)
    index = group[f"{what}_group_index"][:] if f"{what}_group_index" in group else np.arange(n)
    for name in filter(str.isdigit, group):
        here = np.flatnonzero(member == int(name))
        for column, data in group[name].items():
            if column not in wanted or getattr(data, "ndim", 0) != 1:
                continue
            if len(here) and index[here].max() >= len(data):
                problem = f"attribute {column!r} has {len(data)} values, but more are used."
                raise ConnectomeError(f"{_file(files, what)}: population {population!r}: {problem}")
            values = data[:][index[here]]
            if f"@library/{column}" in group[name]:
                values = group[name][f"@library/{column}"][:][values]
            text = [value.decode() if isinstance(value, bytes) else value for value in values.tolist()]
            columns.setdefault(column, _filled(n, None))[here] = text
    return columns


def _of_types(types: Path, what: str, population: str, wanted: list[str], kind: NDArray[Any]) -> Columns:
    """Attributes by the type of every node or edge."""
    identity = f"{what}_type_id"
    rows = [row for row in read_types(types, identity) if row.get("population", population) == population]
    columns = {}
    for column in {c for row in rows for c in row} & set(wanted):
        of_type = {int(row[identity]): None if row[column] == NULL else row[column] for row in rows}
        columns[column] = np.array([*map(of_type.get, kind.tolist()), None], dtype=object)[:-1]
    return columns


def _file(files: NetworkFiles, what: str) -> Path:
    return files.nodes if what == "node" else files.edges
