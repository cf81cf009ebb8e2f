"""Reading back, exactly, a network that `write_sonata` wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparse_mrnn.connectome.delimited_text import NUMBER
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.interop.sonata_edges import (
    Block,
    Edge,
    EdgeTypes,
    StoredEdges,
    check_numbering,
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
    unescaped,
)  # fmt: skip
from sparse_mrnn.interop.sonata_write import EDGE_COLUMNS, EXACT, NODE_COLUMNS, POPULATIONS, axis_name
from sparse_mrnn.lowering.layout import Layout

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


def read_back(files: NetworkFiles, *, by_rows: bool = False) -> RegionGraph:
    """The graph of a network written by `write_sonata`; damage is refused.

    Parameters
    ----------
    files : NetworkFiles
    by_rows : bool
        Leave the synapses in their file, for those who build a network of the graph to read by rows.
    """
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
            layouts = Layout.of(graph), Layout.of(graph, kinds[population])
            types = EdgeTypes(files, [row for row in rows if row["population"] == population], *layouts)
            if by_rows:
                blocks: Sequence[Block] = StoredEdges(file, population, types).blocks()
            else:
                blocks = read_edges(file[f"edges/{population}"], types).blocks()
            projections.update(types.projections(blocks))
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


def _graph(file: Any, nodes: Path, node_types: Path) -> RegionGraph:
    name = file.attrs[EXACT]
    if not isinstance(name, str):
        raise ConnectomeError(f"{nodes}: the name of the network is {name!r:.80}, which is no text.")
    graph = RegionGraph(name=name)
    rows = _rows(node_types, NODE_COLUMNS)
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
