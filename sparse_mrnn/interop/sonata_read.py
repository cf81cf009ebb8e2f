"""Reading back, exactly, a network that `write_sonata` wrote."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.explicit import SynapseArrays, SynapseBlock
from sparse_mrnn.graph import PROJECTION_SIGNS, RegionGraph
from sparse_mrnn.interop.sonata_write import EDGE_COLUMNS, NODE_COLUMNS, NULL, OWN, POPULATIONS, axis_name, h5
from sparse_mrnn.lowering import Layout


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file; damage becomes a ConnectomeError."""
    h5py = h5()
    if not path.is_file():
        raise ConnectomeError(f"{path} does not exist.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        if isinstance(error, ConnectomeError):
            raise
        raise ConnectomeError(f"{path}: cannot be read as SONATA (HDF5): {error}") from None


def types(path: Path, needed: tuple[str, ...], first: str) -> list[dict[str, str]]:
    """Rows of a types CSV (blanks between columns), by the integer in column ``first``."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, delimiter=" ", skipinitialspace=True)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConnectomeError(f"{path}: cannot be read: {error}.") from None
    columns = reader.fieldnames or []
    for column in needed:
        if column not in columns:
            raise ConnectomeError(f"{path}, line 1: there is no column {column!r}. The columns are {', '.join(map(repr, columns))}.")
    for k, row in enumerate(rows, start=2):
        if None in row or None in row.values() or not str(row[first]).isdigit():
            raise ConnectomeError(f"{path}, line {k}: a {first} and as many columns as in line 1 are needed.")
    return rows


def read_own(nodes: Path, edges: Path, node_types: Path, edge_types: Path) -> RegionGraph:
    """The graph of a network written by `write_sonata`.

    Raises
    ------
    ConnectomeError
        If a file is damaged, or the files do not belong together.
    """
    with opened(nodes) as file:
        graph = _graph(file, nodes, node_types)
    rows = sorted(types(edge_types, EDGE_COLUMNS, "edge_type_id"), key=lambda row: int(row["edge_type_id"]))
    if [int(row["edge_type_id"]) for row in rows] != list(range(len(rows))):
        raise ConnectomeError(f"{edge_types}: the edge_type_ids are not 0..{len(rows) - 1}.")
    entries: dict[int, tuple[str, str, str, dict[str, Any]]] = {}
    with opened(edges) as file:
        for kind, population in POPULATIONS.items():
            own = [row for row in rows if row["population"] == f"{population}_to_units"]
            if own:
                entries.update(_projections(file[f"edges/{population}_to_units"], graph, kind, own, edges, edge_types))
    if len(entries) != len(rows):
        raise ConnectomeError(f"{edge_types}: {len(rows) - len(entries)} edge types are of no known population.")
    graph.add_edges_from(entries[k] for k in range(len(rows)))
    if graph.number_of_edges() != len(rows):
        raise ConnectomeError(f"{edge_types}: two edge types have the same regions and key.")
    return graph


def _graph(file: Any, nodes: Path, node_types: Path) -> RegionGraph:
    graph = RegionGraph(name=str(file.attrs[OWN]))
    rows = sorted(types(node_types, NODE_COLUMNS, "node_type_id"), key=lambda row: int(row["node_type_id"]))
    where: dict[str, tuple[Any, NDArray[np.int64]]] = {}
    for population in POPULATIONS.values():
        if f"nodes/{population}" in file:
            group = file[f"nodes/{population}"]
            where[population] = (group["0"], group["node_type_id"][:])
    data = {
        population: {name: own[name][:] for name in own if not name.startswith("@") and name != "region"}
        for population, (own, _) in where.items()
    }
    for row in rows:
        type_id, population = int(row["node_type_id"]), row["population"]
        if population not in where:
            raise ConnectomeError(f"{node_types}: population {population!r} is not in {nodes.name}.")
        here = np.flatnonzero(where[population][1] == type_id)
        if not len(here) or here[-1] - here[0] + 1 != len(here):
            raise ConnectomeError(f"{nodes}: the nodes of type {type_id} are {'missing' if not len(here) else 'not in one run'}.")
        run = slice(int(here[0]), int(here[-1]) + 1)
        values = {name: column[run] for name, column in data[population].items()}
        sign = values["sign"] if row["sign"] == NULL else None if row["sign"] == "none" else row["sign"]
        if population == POPULATIONS["input"]:
            graph.add_input(row["region"], len(here), sign=sign)
            continue
        ids = [text.decode("utf-8") for text in values["unit_id"]]
        depth = int(row["dimensions"])
        graph.add_region(
            row["region"],
            len(here),
            sign=sign,
            base_firing=values["base_firing"] if row["base_firing"] == NULL else float(row["base_firing"]),
            init=values["init"] if row["init"] == NULL else float(row["init"]),
            parent_region=None if row["parent_region"] == NULL else row["parent_region"],
            learnable_bias=row["learnable_bias"] == "1",
            tau=None if row["tau"] == NULL else float(row["tau"]),
            learnable_tau=row["learnable_tau"] == "1",
            activation=None if row["activation"] == NULL else row["activation"],
            noise_level=None if row["noise_level"] == NULL else float(row["noise_level"]),
            unit_ids=ids if ids[0] else None,
            positions=np.stack([values[axis_name(k)] for k in range(depth)], axis=1) if depth else None,
        )
    return graph


def _projections(
    group: Any, graph: RegionGraph, kind: str, rows: list[dict[str, str]], edges: Path, edge_types: Path
) -> Iterator[tuple[int, tuple[str, str, str, dict[str, Any]]]]:
    """Edges of one population as projections, which share their arrays."""
    targets, sources = Layout.of(graph), Layout.of(graph, kind)
    kind_of, target, source = (group[name][:].astype(np.int64) for name in ("edge_type_id", "target_node_id", "source_node_id"))
    values = group["0/syn_weight"][:]
    if not (len(kind_of) == len(target) == len(source) == len(values)):
        raise ConnectomeError(f"{edges}: its datasets have different lengths.")
    order = np.argsort(kind_of, kind="stable")
    kind_of, target, source, values = kind_of[order], target[order], source[order], values[order]
    ids = np.array([int(row["edge_type_id"]) for row in rows])
    begin, end = np.searchsorted(kind_of, ids, "left"), np.searchsorted(kind_of, ids, "right")
    if (end - begin).sum() != len(values):
        raise ConnectomeError(f"{edges}: some edges have a type that {edge_types.name} does not have.")
    for row in rows:
        for end_of, layout in (("source_region", sources), ("target_region", targets)):
            if row[end_of] not in layout.index:
                raise ConnectomeError(f"{edge_types}: {end_of} {row[end_of]!r} is no region of the nodes.")
    lengths = end - begin
    i, j = (
        np.array([layout.index[row[c]] for row in rows], dtype=np.int64)
        for c, layout in (("target_region", targets), ("source_region", sources))
    )
    local = [node - np.repeat(layout.ptr[k], lengths) for node, layout, k in ((target, targets, i), (source, sources, j))]
    sizes = [np.diff(layout.ptr)[k] for layout, k in ((targets, i), (sources, j))]
    for unit, size in zip(local, sizes, strict=True):
        if ((unit < 0) | (unit >= np.repeat(size, lengths))).any():
            raise ConnectomeError(f"{edges}: an edge leads outside of the regions of its type.")
    own = np.array([PROJECTION_SIGNS.get(row["sign"], 0) for row in rows], dtype=np.int8)
    inherits = np.array([row["sign"] == "inherit" for row in rows], dtype=bool)
    sign = np.where(np.repeat(inherits, lengths), sources.unit_signs[source], np.repeat(own, lengths))
    wrong = np.flatnonzero(~np.isfinite(values) | (values * sign < 0))
    if len(wrong):
        k = int(order[wrong[0]])
        raise ConnectomeError(
            f"{edges}: edge {k} has weight {values[wrong[0]]:g}, which is not finite or against the sign of its source."
        )
    twice = (np.diff(kind_of) == 0) & (np.diff(target) == 0) & (np.diff(source) <= 0)
    if twice.any() or ((np.diff(kind_of) == 0) & (np.diff(target) < 0)).any():
        raise ConnectomeError(f"{edges}: edges are not sorted by target and source, or one is there twice.")
    arrays = SynapseArrays(local[0].astype(np.int32), local[1].astype(np.int32), values)
    for k, row in enumerate(rows):
        if row["sign"] != "inherit" and row["sign"] not in PROJECTION_SIGNS:
            raise ConnectomeError(f"{edge_types}: sign is {row['sign']!r}; it must be inherit, pos, neg or free.")
        attrs: dict[str, Any] = {
            "trainable": row["trainable"] == "1",
            "self_connections": row["self_connections"] == "1",
            "weights": SynapseBlock(arrays, int(begin[k]), int(end[k]), (int(sizes[0][k]), int(sizes[1][k]))),
        }
        if row["sign"] != "inherit":
            attrs["sign"] = row["sign"]
        if row["delay"] != NULL:
            attrs["delay"] = float(row["delay"])
        yield int(row["edge_type_id"]), (row["source_region"], row["target_region"], row["key"], attrs)
