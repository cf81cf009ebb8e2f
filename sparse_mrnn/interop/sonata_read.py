"""Reading what `write_sonata` wrote: a region for each node type, a projection for each edge type."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sparse_mrnn.declaration.graph import Region, RegionGraph
from sparse_mrnn.declaration.regions import INPUT_FIELDS, REGION_FIELDS
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.interop.sonata_edges import (
    Block,
    Edge,
    EdgeTypes,
    StoredEdges,
    check_numbering,
    parsed,
    read_edges,
)
from sparse_mrnn.interop.sonata_files import (
    NetworkFiles,
    Row,
    column,
    indices,
    opened,
    read_types,
    texts,
)  # fmt: skip
from sparse_mrnn.interop.sonata_write import EDGE_COLUMNS, NODE_COLUMNS, POPULATIONS, WRITTEN_HERE
from sparse_mrnn.lowering.layout import Layout


def read_back(files: NetworkFiles, *, by_rows: bool = False) -> RegionGraph:
    """Read the graph of a network that `write_sonata` wrote; refuse damage.

    Parameters
    ----------
    files : NetworkFiles
    by_rows : bool
        Leave the synapses in their file; a network that is built of the graph reads them by rows.
    """
    if files.node_types is None or files.edge_types is None:
        beside = files.nodes if files.node_types is None else files.edges
        problem = "its types CSV is not beside it; name it with node_types= and edge_types=."
        raise ConnectomeError(f"{beside}: {problem}")
    with opened(files.nodes) as file:
        graph = _graph(file, files.nodes, files.node_types)
    rows = _rows(files.edge_types, EDGE_COLUMNS, ("source_region", "target_region", "key"))
    if [int(str(row["edge_type_id"])) for row in rows] != list(range(len(rows))):
        raise ConnectomeError(f"{files.edge_types}: the edge_type_ids are not 0..{len(rows) - 1}.")
    projections: dict[int, Edge] = {}
    with opened(files.edges) as file:
        kinds = {f"{population}_to_units": kind for kind, population in POPULATIONS.items()}
        if not set(file.get("edges", ())) == {row["population"] for row in rows} <= set(kinds):
            problem = "its populations are not those of the edge types."
            raise ConnectomeError(f"{files.edges}: {problem}")
        for population in file.get("edges", ()):
            layouts = Layout.of(graph), Layout.of(graph, kinds[population])
            types = EdgeTypes(files, [row for row in rows if row["population"] == population], *layouts)
            if by_rows:
                blocks: Sequence[Block] = StoredEdges(file, population, types).blocks()
            else:
                blocks = read_edges(file[f"edges/{population}"], types).blocks(types)
            projections.update(types.projections(blocks))
    graph.add_checked(projections[k] for k in range(len(rows)))
    if graph.number_of_edges() != len(rows):
        raise ConnectomeError(f"{files.edge_types}: two edge types have the same regions and key.")
    return graph


def _rows(path: Path, needed: Sequence[str], names: Sequence[str]) -> list[Row]:
    """Read a types CSV with the ``needed`` columns, the id first, and never NULL in the ``names``."""
    rows = read_types(path, needed[0], needed[1:])
    for row in rows:
        for name in ("population", *names):
            if not row[name]:
                raise ConnectomeError(f"{path}: {name} of type {row[needed[0]]} is missing.")
    return rows


def _of_units(attributes: Any, units: slice, n: int, name: str, kinds: str) -> Any:
    """Read an attribute of some of a population's ``n`` nodes; None if it is not there."""
    if name not in attributes:
        return None
    return (texts(attributes, name, n) if kinds == "SO" else column(attributes, name, kinds, n))[units]


def _graph(file: Any, nodes: Path, node_types: Path) -> RegionGraph:
    name = file.attrs[WRITTEN_HERE]
    if not isinstance(name, str):
        raise ConnectomeError(f"{nodes}: the name of the network is {name!r:.80}, which is not text.")
    graph = RegionGraph(name=name)
    rows = _rows(node_types, NODE_COLUMNS, ("region",))
    if not set(file["nodes"]) == {row["population"] for row in rows} <= set(POPULATIONS.values()):
        raise ConnectomeError(f"{nodes}: its populations are not those of {node_types.name}.")
    for group in file["nodes"].values():
        for name in ("node_id", "node_group_index"):
            check_numbering(group, name)
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
        kind, fields = "recurrent", REGION_FIELDS
        if population == POPULATIONS["input"]:
            kind, fields = "input", INPUT_FIELDS
        by_unit = partial(_of_units, attributes, units, n)
        given = parsed(fields, row, by_unit, f"{node_types}: ", f" of type {type_id}")
        graph.set_region(Region.checked(str(row["region"]), len(members), kind, given))
    if count != sum(map(len, type_ids.values())):
        raise ConnectomeError(f"{nodes}: some nodes have a type that {node_types.name} does not have.")
    return graph
