"""Reading back, exactly, a network that `write_sonata` wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.delimited_text import NUMBER
from sparse_mrnn.connectome.settings import positive
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.explicit import SynapseArrays, SynapseBlock
from sparse_mrnn.graph import PROJECTION_SIGNS, RegionGraph
from sparse_mrnn.interop.sonata_files import (
    NetworkFiles,
    Row,
    column,
    indices,
    opened,
    read_types,
    texts,
    unescaped,
)  # fmt: skip
from sparse_mrnn.interop.sonata_write import EDGE_COLUMNS, EXACT, NODE_COLUMNS, POPULATIONS, axis_name
from sparse_mrnn.lowering import Layout

Edge = tuple[str, str, str, dict[str, Any]]
FLAGS = "learnable_tau", "unit_ids", "trainable", "self_connections"
NUMBERS = "base_firing", "init", "tau", "tau_low", "tau_high", "noise_level", "delay"
OPTIONAL = *NUMBERS, "sign"
NAMES = "population", "region", "source_region", "target_region", "key"
CELLS = {
    **dict.fromkeys(FLAGS, re.compile("[01]")), **dict.fromkeys(NUMBERS, NUMBER),
    **dict.fromkeys(("learnable_bias", "learnable_init"), re.compile("[01]|region")),
    **dict.fromkeys(NAMES, re.compile(".+", re.DOTALL)), "dimensions": re.compile("[0-9]{1,3}"),
    "sign": re.compile("inherit|pos|neg|free|none"),
}  # fmt: skip
"""What the cells of a types CSV may be; the optional ones may be NULL."""


def read_back(files: NetworkFiles) -> RegionGraph:
    """The graph of a network written by `write_sonata`; damage is refused."""
    if files.node_types is None or files.edge_types is None:
        beside = files.nodes if files.node_types is None else files.edges
        problem = "its types CSV is not beside it; name it with node_types= and edge_types=."
        raise ConnectomeError(f"{beside}: {problem}")
    with opened(files.nodes) as file:
        graph = _graph(file, files.nodes, files.node_types)
    rows = _rows(files.edge_types, EDGE_COLUMNS)
    if [int(str(row["edge_type_id"])) for row in rows] != list(range(len(rows))):
        raise ConnectomeError(f"{files.edge_types}: the edge_type_ids are not 0..{len(rows) - 1}.")
    projections: dict[int, Edge] = {}
    with opened(files.edges) as file:
        kinds = {f"{population}_to_units": kind for kind, population in POPULATIONS.items()}
        if not set(file.get("edges", ())) == {row["population"] for row in rows} <= set(kinds):
            problem = "its populations are not those of the edge types."
            raise ConnectomeError(f"{files.edges}: {problem}")
        for population in file.get("edges", ()):
            types = [row for row in rows if row["population"] == population]
            edges = EdgePopulation(file[f"edges/{population}"], files, types)
            projections.update(edges.projections(Layout.of(graph), Layout.of(graph, kinds[population])))
    graph.add_edges_from(projections[k] for k in range(len(rows)))
    if graph.number_of_edges() != len(rows):
        raise ConnectomeError(f"{files.edge_types}: two edge types have the same regions and key.")
    return graph


def _rows(path: Path, needed: Sequence[str]) -> list[Row]:
    """Rows of a types CSV of `write_sonata`, as it had them; ``needed`` are its columns, the id first."""
    rows = read_types(path, needed[0], needed[1:])
    for row in rows:
        for name, pattern in CELLS.items():
            cell = row.get(name)
            fits = name in OPTIONAL if cell is None else pattern.fullmatch(cell)
            if name in row and not fits:
                where = f"{path}: {name} of type {row[needed[0]]}"
                raise ConnectomeError(f"{where} is {cell!r:.80}, which it cannot be.")
    try:
        return [{c: None if v is None else unescaped(v) for c, v in row.items()} for row in rows]
    except ValueError as error:
        raise ConnectomeError(f"{path}: a name after a backslash is damaged: {error}.") from None


def _check_numbering(group: Any, *names: str) -> None:
    """Datasets that number the nodes or edges in their order, as `write_sonata` writes them."""
    for name in names:
        values = column(group, name, "u")
        if (values != np.arange(len(values))).any():
            raise ConnectomeError(f"{group.file.filename}: {group.name}/{name} does not count from 0.")


def _graph(file: Any, nodes: Path, node_types: Path) -> RegionGraph:
    name = file.attrs[EXACT]
    if not isinstance(name, str):
        raise ConnectomeError(f"{nodes}: the name of the network is {name!r:.80}, which is no text.")
    graph = RegionGraph(name=name)
    rows = _rows(node_types, NODE_COLUMNS)
    if not set(file["nodes"]) == {row["population"] for row in rows} <= set(POPULATIONS.values()):
        raise ConnectomeError(f"{nodes}: its populations are not those of {node_types.name}.")
    for group in file["nodes"].values():
        _check_numbering(group, "node_id", "node_group_index")
    type_ids = {name: column(group, "node_type_id", "iu") for name, group in file["nodes"].items()}
    count = 0
    for row in rows:
        type_id, population = int(str(row["node_type_id"])), str(row["population"])
        members = np.flatnonzero(type_ids[population] == type_id)
        if not len(members) or members[-1] - members[0] + 1 != len(members):
            problem = "not in one run" if len(members) else "missing"
            raise ConnectomeError(f"{nodes}: the nodes of type {type_id} are {problem}.")
        units = slice(int(members[0]), int(members[-1]) + 1)
        count += len(members)
        attributes, n = file[f"nodes/{population}/0"], len(type_ids[population])
        labels = np.array(texts(attributes["@library"], "region"), dtype=object)
        if (labels[indices(attributes, "region", len(labels), n)[units]] != row["region"]).any():
            raise ConnectomeError(f"{nodes}: the nodes of type {type_id} are not all in {row['region']!r}.")
        sign: Any = None if row["sign"] == "none" else row["sign"]
        if row["sign"] is None:
            sign = column(attributes, "sign", "i", n)[units]
        if population == POPULATIONS["input"]:
            graph.add_input(str(row["region"]), len(members), sign=sign)
            continue
        options: dict[str, Any] = {"learnable_tau": row["learnable_tau"] == "1"}
        for name in ("learnable_bias", "learnable_init"):
            learnt = row.get(name) or "0"
            options[name] = learnt if learnt == "region" else learnt == "1"
        options |= {name: row[name] for name in ("parent_region", "activation")}
        for name in ("base_firing", "init", "tau", "noise_level"):
            if row[name] is not None:
                options[name] = float(str(row[name]))
            elif name in ("base_firing", "init"):
                options[name] = column(attributes, name, "f", n)[units]
        bounds = [None if row.get(c) is None else float(str(row[c])) for c in ("tau_low", "tau_high")]
        options |= {} if bounds == [None, None] else {"tau_bounds": bounds}
        unit_ids = texts(attributes, "unit_id", n)[units]
        if row.get("unit_ids") == "1" or (row.get("unit_ids") is None and unit_ids[0]):
            options["unit_ids"] = unit_ids
        names = map(axis_name, range(int(str(row["dimensions"]))))
        axes = [column(attributes, name, "f", n)[units] for name in names]
        options["positions"] = np.stack(axes, axis=1) if axes else None
        graph.add_region(str(row["region"]), len(members), sign=sign, **options)
    if count != sum(map(len, type_ids.values())):
        raise ConnectomeError(f"{nodes}: some nodes have a type that {node_types.name} does not have.")
    return graph


class EdgePopulation:
    """The edges of one population, sorted by type, which become projections that share their arrays."""

    def __init__(self, group: Any, files: NetworkFiles, types: list[Row]) -> None:
        self.files, self.types = files, types
        _check_numbering(group, "edge_group_index")
        of_edge = column(group, "edge_type_id", "iu").astype(np.int64)
        target = indices(group, "target_node_id", 2**31, len(of_edge))
        source = indices(group, "source_node_id", 2**31, len(of_edge))
        weight = column(group["0"], "syn_weight", "f", len(of_edge))
        self.order = np.argsort(of_edge, kind="stable")
        self.of_edge, self.target, self.source = of_edge[self.order], target[self.order], source[self.order]
        self.weight = weight[self.order]
        ids = np.array([int(str(row["edge_type_id"])) for row in types])
        self.start, self.stop = (np.searchsorted(self.of_edge, ids, end) for end in ("left", "right"))
        if (self.stop - self.start).sum() != len(weight):
            unknown = f"some edges have a type that {Path(files.edge_types or '').name} does not have."
            raise ConnectomeError(f"{files.edges}: {unknown}")

    def projections(self, targets: Layout, sources: Layout) -> Iterator[tuple[int, Edge]]:
        """Edge type and projection of every type; edges that do not fit their types are refused."""
        rows, rows_of = self._within("target_region", self.target, targets)
        cols, cols_of = self._within("source_region", self.source, sources)
        self._check_order()
        self._check_signs(sources.unit_signs[self.source])
        arrays = SynapseArrays(rows, cols, self.weight)
        for k, row in enumerate(self.types):
            shape = int(rows_of[k]), int(cols_of[k])
            attrs: dict[str, Any] = {name: row[name] == "1" for name in ("trainable", "self_connections")}
            attrs["weights"] = SynapseBlock(arrays, int(self.start[k]), int(self.stop[k]), shape)
            if row["sign"] != "inherit":
                attrs["sign"] = row["sign"]
            if row["delay"] is not None:
                attrs["delay"] = positive("delay", float(row["delay"]))
            ends = str(row["source_region"]), str(row["target_region"]), str(row["key"])
            yield int(str(row["edge_type_id"])), (*ends, attrs)

    def _within(
        self, end: str, unit: NDArray[np.int64], layout: Layout
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Units at one end of the edges, numbered within their regions, and the sizes of these regions."""
        for row in self.types:
            if row[end] not in layout.index:
                problem = f"{end} {row[end]!r} is no region of the nodes."
                raise ConnectomeError(f"{self.files.edge_types}: {problem}")
        region = np.array([layout.index[str(row[end])] for row in self.types], dtype=np.int64)
        sizes, lengths = np.diff(layout.ptr)[region], self.stop - self.start
        local = unit - np.repeat(layout.ptr[region], lengths)
        if ((local < 0) | (local >= np.repeat(sizes, lengths))).any():
            raise ConnectomeError(f"{self.files.edges}: an edge leads outside of the regions of its type.")
        return local.astype(np.int32), sizes

    def _check_order(self) -> None:
        same_type, rows, cols = (np.diff(values) for values in (self.of_edge, self.target, self.source))
        if ((same_type == 0) & ((rows < 0) | ((rows == 0) & (cols <= 0)))).any():
            problem = "edges are not sorted by target and source, or one is there twice."
            raise ConnectomeError(f"{self.files.edges}: {problem}")

    def _check_signs(self, of_source: NDArray[np.int8]) -> None:
        """Refuse weights against the sign of their source, or of their projection where it has one."""
        lengths = self.stop - self.start
        inherits = np.repeat([row["sign"] == "inherit" for row in self.types], lengths)
        of_type = np.repeat([PROJECTION_SIGNS.get(str(row["sign"]), 0) for row in self.types], lengths)
        against = np.sign(self.weight) * np.where(inherits, of_source, of_type) < 0
        wrong = ~np.isfinite(self.weight) | against
        for k in np.flatnonzero(wrong)[:1]:
            edge = f"edge {self.order[k]} has weight {self.weight[k]:g}"
            problem = "which is not finite or against the sign of its source."
            raise ConnectomeError(f"{self.files.edges}: {edge}, {problem}")
