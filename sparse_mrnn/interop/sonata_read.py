"""Reading back, exactly, a network that `write_sonata` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.explicit import SynapseArrays, SynapseBlock
from sparse_mrnn.graph import PROJECTION_SIGNS, RegionGraph
from sparse_mrnn.interop.sonata_files import NULL, NetworkFiles, opened, read_types
from sparse_mrnn.interop.sonata_write import EDGE_COLUMNS, EXACT, NODE_COLUMNS, POPULATIONS, axis_name
from sparse_mrnn.lowering import Layout

Row = dict[str, str]
Edge = tuple[str, str, str, dict[str, Any]]


def read_back(files: NetworkFiles) -> RegionGraph:
    """The graph of a network written by `write_sonata`; damage is refused."""
    if files.node_types is None or files.edge_types is None:
        beside = files.nodes if files.node_types is None else files.edges
        problem = "its types CSV is not beside it; name it with node_types= and edge_types=."
        raise ConnectomeError(f"{beside}: {problem}")
    with opened(files.nodes) as file:
        graph = _graph(file, files.nodes, files.node_types)
    rows = read_types(files.edge_types, "edge_type_id", EDGE_COLUMNS)
    if [int(row["edge_type_id"]) for row in rows] != list(range(len(rows))):
        raise ConnectomeError(f"{files.edge_types}: the edge_type_ids are not 0..{len(rows) - 1}.")
    projections: dict[int, Edge] = {}
    with opened(files.edges) as file:
        for kind, population in POPULATIONS.items():
            types = [row for row in rows if row["population"] == f"{population}_to_units"]
            if types:
                edges = EdgePopulation(file[f"edges/{population}_to_units"], files, types)
                projections.update(edges.projections(Layout.of(graph), Layout.of(graph, kind)))
    if len(projections) != len(rows):
        lost = len(rows) - len(projections)
        raise ConnectomeError(f"{files.edge_types}: {lost} edge types are of no known population.")
    graph.add_edges_from(projections[k] for k in range(len(rows)))
    if graph.number_of_edges() != len(rows):
        raise ConnectomeError(f"{files.edge_types}: two edge types have the same regions and key.")
    return graph


def _graph(file: Any, nodes: Path, node_types: Path) -> RegionGraph:
    graph = RegionGraph(name=str(file.attrs[EXACT]))
    type_ids: dict[str, NDArray[np.int64]] = {}
    data: dict[str, dict[str, NDArray[Any]]] = {}
    for population in POPULATIONS.values():
        if f"nodes/{population}" in file:
            group = file[f"nodes/{population}"]
            type_ids[population] = group["node_type_id"][:]
            names = [name for name in group["0"] if not name.startswith("@") and name != "region"]
            data[population] = {name: group["0"][name][:] for name in names}
    for row in read_types(node_types, "node_type_id", NODE_COLUMNS):
        type_id, population = int(row["node_type_id"]), row["population"]
        if population not in data:
            raise ConnectomeError(f"{node_types}: population {population!r} is not in {nodes.name}.")
        members = np.flatnonzero(type_ids[population] == type_id)
        if not len(members) or members[-1] - members[0] + 1 != len(members):
            problem = "not in one run" if len(members) else "missing"
            raise ConnectomeError(f"{nodes}: the nodes of type {type_id} are {problem}.")
        values = {name: column[members[0] : members[-1] + 1] for name, column in data[population].items()}
        sign = values["sign"] if row["sign"] == NULL else None if row["sign"] == "none" else row["sign"]
        if population == POPULATIONS["input"]:
            graph.add_input(row["region"], len(members), sign=sign)
            continue
        ids = [text.decode("utf-8") for text in values["unit_id"]]
        axes = [values[axis_name(k)] for k in range(int(row["dimensions"]))]
        options: dict[str, Any] = {"learnable_tau": row["learnable_tau"] == "1"}
        for what in ("learnable_bias", "learnable_init"):
            learnt = row.get(what, "0")
            options[what] = learnt if learnt == "region" else learnt == "1"
        bounds = [None if row.get(c, NULL) == NULL else float(row[c]) for c in ("tau_low", "tau_high")]
        options |= {} if bounds == [None, None] else {"tau_bounds": bounds}
        options |= {c: values[c] if row[c] == NULL else float(row[c]) for c in ("base_firing", "init")}
        options |= {c: float(row[c]) for c in ("tau", "noise_level") if row[c] != NULL}
        options |= {c: row[c] for c in ("parent_region", "activation") if row[c] != NULL}
        options |= {"unit_ids": ids} if ids[0] else {}
        options |= {"positions": np.stack(axes, axis=1)} if axes else {}
        graph.add_region(row["region"], len(members), sign=sign, **options)
    return graph


class EdgePopulation:
    """The edges of one population, sorted by type, which become projections that share their arrays."""

    def __init__(self, group: Any, files: NetworkFiles, types: list[Row]) -> None:
        self.files, self.types = files, types
        names = "edge_type_id", "target_node_id", "source_node_id"
        of_edge, target, source = (group[name][:].astype(np.int64) for name in names)
        weight = group["0/syn_weight"][:]
        if not len(of_edge) == len(target) == len(source) == len(weight):
            raise ConnectomeError(f"{files.edges}: its datasets have different lengths.")
        self.order = np.argsort(of_edge, kind="stable")
        self.of_edge, self.target, self.source = of_edge[self.order], target[self.order], source[self.order]
        self.weight = weight[self.order]
        ids = np.array([int(row["edge_type_id"]) for row in types])
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
            attrs: dict[str, Any] = {
                "trainable": row["trainable"] == "1",
                "self_connections": row["self_connections"] == "1",
                "weights": SynapseBlock(arrays, int(self.start[k]), int(self.stop[k]), shape),
            }
            if row["sign"] != "inherit":
                attrs["sign"] = row["sign"]
            if row["delay"] != NULL:
                attrs["delay"] = float(row["delay"])
            yield int(row["edge_type_id"]), (row["source_region"], row["target_region"], row["key"], attrs)

    def _within(
        self, end: str, unit: NDArray[np.int64], layout: Layout
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Units at one end of the edges, numbered within their regions, and the sizes of these regions."""
        for row in self.types:
            if row[end] not in layout.index:
                problem = f"{end} {row[end]!r} is no region of the nodes."
                raise ConnectomeError(f"{self.files.edge_types}: {problem}")
        region = np.array([layout.index[row[end]] for row in self.types], dtype=np.int64)
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
        for row in self.types:
            if row["sign"] not in ("inherit", *PROJECTION_SIGNS):
                problem = f"sign is {row['sign']!r}; it must be inherit, pos, neg or free."
                raise ConnectomeError(f"{self.files.edge_types}: {problem}")
        lengths = self.stop - self.start
        inherits = np.repeat([row["sign"] == "inherit" for row in self.types], lengths)
        of_type = np.repeat([PROJECTION_SIGNS.get(row["sign"], 0) for row in self.types], lengths)
        wrong = ~np.isfinite(self.weight) | (self.weight * np.where(inherits, of_source, of_type) < 0)
        for k in np.flatnonzero(wrong)[:1]:
            edge = f"edge {self.order[k]} has weight {self.weight[k]:g}"
            problem = "which is not finite or against the sign of its source."
            raise ConnectomeError(f"{self.files.edges}: {edge}, {problem}")
