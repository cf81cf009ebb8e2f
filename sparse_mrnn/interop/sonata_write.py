"""Writing a RegionGraph as a SONATA network: HDF5 nodes and edges, CSV types and a circuit configuration."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.declaration.config import SimulationConfig
from sparse_mrnn.declaration.fields import Field
from sparse_mrnn.declaration.graph import Region, RegionGraph, projection_label
from sparse_mrnn.declaration.projection_columns import Projections
from sparse_mrnn.declaration.regions import INPUT_FIELDS, REGION_FIELDS
from sparse_mrnn.errors import ConnectomeError, ConversionError
from sparse_mrnn.files.atomic import reason, replacing_folder, restore_folder
from sparse_mrnn.interop.sonata_files import EDGE_FIELDS, NULL, Row, h5
from sparse_mrnn.lowering.block_sparse import BlockSparse
from sparse_mrnn.lowering.lower import lower
from sparse_mrnn.lowering.random_streams import synapse_stream
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.ops.csr_order import counting_sort

WRITTEN_HERE = "sparse_mrnn"
"""Root attribute of a nodes file of `write_sonata`, with the graph's name: its types are regions."""
SETTINGS = "sparse_mrnn_simulation"
"""Root attribute with the settings of the network, as JSON."""
POPULATIONS = {"recurrent": "units", "input": "inputs"}
NODE_COLUMNS = (
    "node_type_id", "population", "region", "model_type",
    *(column for field in REGION_FIELDS.values() for column in field.columns),
)  # fmt: skip
EDGE_COLUMNS = (
    "edge_type_id", "population", "source_region", "target_region", "key",
    *(column for field in EDGE_FIELDS.values() for column in field.columns),
)  # fmt: skip
"""Columns of the types CSVs: of a region and of a projection."""


def write_sonata(
    graph: RegionGraph | mRNNBase, folder: str | os.PathLike[str], *, seed: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write a graph or a network as a SONATA network that libsonata, BMTK and `read_sonata` read.

    The folder gets ``circuit_config.json``, ``nodes.h5``, ``node_types.csv`` (one type per region),
    ``edges.h5`` with indices in both directions and ``edge_types.csv`` (one type per projection). It appears
    whole or not at all. Weights (``syn_weight``) are signed; edges are sorted by target and then source.

    Parameters
    ----------
    graph : RegionGraph, mRNN or ElmanmRNN
        Of a network, the weights of now, trained or not; its settings (dt, tau, activation, ...) are in the
        file too, for `read_sonata_settings` and the command line.
    folder : path
    seed : int, optional
        Needed where projections have rules: they are drawn as ``mRNN(graph, seed=seed)`` draws them, and are
        explicit from then on.
    overwrite : bool
        Replace an existing network in ``folder``.

    Raises
    ------
    ConnectomeError
        If the folder exists, or a projection has no synapses yet and no seed is given.
    ConversionError
        If a projection of a graph shares gains (of a network, they are multiplied in), or one has low rank.
    ConfigError
        If the activation of a network is a function of your own.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> g = RegionGraph()
    >>> g.add_region("a", 2)
    >>> g.add_projection("a", "a", weights=np.array([[0, 2.0], [1.0, 0]]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_sonata(g, folder + "/net")
    ...     sorted(path.name for path in Path(folder, "net").iterdir())
    ['circuit_config.json', 'edge_types.csv', 'edges.h5', 'node_types.csv', 'nodes.h5']
    """
    settings: SimulationConfig | None = None
    if not isinstance(graph, RegionGraph):
        settings, graph = graph.simulation_settings(), graph.to_graph()
    goal = Path(folder)
    restore_folder(goal)
    if goal.exists():
        if not overwrite:
            advice = "choose another path or overwrite it (overwrite=True)."
            raise ConnectomeError(f"{goal} exists; {advice}")
        if not (goal / "circuit_config.json").is_file():
            problem = "is not a SONATA network; it is not overwritten. Choose another path."
            raise ConnectomeError(f"{goal} {problem}")
    every = graph.projection_columns()
    shares = every.has("share")
    for k in np.flatnonzero(shares | ~every.has_synapses).tolist()[:1]:
        problem = "has low rank, and so no synapses; net.save keeps it"
        if every.is_electrical[k]:
            problem = "is electrical, and an edge written here is a chemical synapse; net.save keeps it"
        if shares[k]:
            problem = "shares gains, which SONATA cannot; write the network made of it, for its weights"
        raise ConversionError(f"{projection_label(*every.names[k])} {problem}.")
    for k in np.flatnonzero(~every.is_explicit).tolist()[:1] if seed is None else ():
        source, target, key = every.names[k]
        label = f"projection {source!r} -> {target!r} (key {key!r})"
        raise ConnectomeError(f"{label} has a rule and no synapses yet; give seed= to draw them.")
    _check_names(graph)
    try:
        with replacing_folder(goal) as partial:
            _nodes(graph, partial, settings)
            _edges(graph, partial, seed)
            _config(partial, graph)
    except OSError as error:
        raise ConnectomeError(f"cannot write {goal}: {reason(error)}.") from error


def _check_names(graph: RegionGraph) -> None:
    """Refuse names that the types CSV or HDF5 would change."""
    regions = list(map(graph.region, graph))
    keys = set(graph.projection_columns().names.keys)
    parents = {region.parent_region for region in regions if region.parent_region is not None}
    for name in (*graph, *parents, *keys):
        if name in ("", NULL) or re.search(r"[\x00-\x1f\x7f]", name):
            problem = "is empty, means no value, or has a control character (such as a tab)"
            raise ConnectomeError(f"the name {name!r:.80} {problem}, which SONATA cannot hold; rename it.")
    units = (unit for r in regions for unit in r.unit_ids or ())
    tables = [column for r in regions for column in (r.unit_table or {}).items()]
    texts = (text for _, values in tables if values.dtype.kind == "O" for text in set(values))
    for name in (graph.name, *graph, *parents, *keys, *units, *(name for name, _ in tables), *texts):
        if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ConnectomeError(f"the name {name!r:.80} has a character that HDF5 cannot hold; rename it.")


def _create(path: Path) -> Any:
    """Create an HDF5 file with the attributes of SONATA."""
    file = h5().File(path, "w")
    file.attrs["magic"], file.attrs["version"] = np.uint32(0x0A7A), np.array((0, 1), dtype=np.uint32)
    return file


def _zeros(group: Any, name: str, n: int) -> None:
    """Create a dataset of zeros that takes no space."""
    group.create_dataset(name, shape=(n,), dtype=np.uint32, fillvalue=0)


def _nodes(graph: RegionGraph, folder: Path, settings: SimulationConfig | None) -> None:
    order = {name: k for k, name in enumerate(graph)}
    types: list[Row] = []
    text = h5().string_dtype("utf-8")
    # Datasets are plain: the HDF5 inside libsonata's wheels has no compression filters.
    with _create(folder / "nodes.h5") as file:
        file.attrs[WRITTEN_HERE] = graph.name
        if settings is not None:
            file.attrs[SETTINGS] = settings.model_dump_json(exclude_unset=True)
        for kind, population in POPULATIONS.items():
            regions = graph.regions(kind)
            if not regions:
                continue
            group = file.create_group(f"nodes/{population}")
            sizes = [region.n for region in regions]
            n = sum(sizes)
            type_ids = np.array([order[region.name] for region in regions], dtype=np.int64)
            group["node_type_id"] = np.repeat(type_ids, sizes)
            group["node_id"] = group["node_group_index"] = np.arange(n, dtype=np.uint64)
            _zeros(group, "node_group_id", n)
            attributes = group.create_group("0")
            attributes["region"] = np.repeat(np.arange(len(regions), dtype=np.uint32), sizes)
            attributes.create_dataset("@library/region", data=[region.name for region in regions], dtype=text)
            fields = REGION_FIELDS if kind == "recurrent" else INPUT_FIELDS
            for name, values in _unit_columns(regions, fields).items():
                of_text = isinstance(values[0], str)
                attributes.create_dataset(name, data=values, **({"dtype": text} if of_text else {}))
            types += [_node_type(order[region.name], population, region, fields) for region in regions]
    rows = ([row.get(column) for column in NODE_COLUMNS] for row in types)
    _types(folder / "node_types.csv", NODE_COLUMNS, rows)


def _unit_columns(regions: Sequence[Region], fields: Mapping[str, Field]) -> dict[str, Any]:
    """Join the columns of all regions' units; NaN, 0 or "" for a region that does not have one."""
    parts: list[dict[str, Any]] = []
    for region in regions:
        own: dict[str, Any] = {}
        for name, field in fields.items():
            own |= field.kind.arrays(field.column, getattr(region, name), region.n)
        parts.append(own)
    found = {}
    for name in dict.fromkeys(name for own in parts for name in own):
        there = [np.asarray(own[name]).dtype for own in parts if name in own]
        if len({dtype.kind for dtype in there}) > 1:
            problem = "has whole numbers in one region and other numbers or text in another; rename one"
            raise ConversionError(f"{name.removeprefix('column_')} {problem}.")
        missing: Any = {"U": "", "i": 0}.get(there[0].kind, np.nan)
        values = [own.get(name, [missing] * r.n) for own, r in zip(parts, regions, strict=True)]
        of_text = there[0].kind == "U"
        found[name] = [text for part in values for text in part] if of_text else np.concatenate(values)
    return found


def _node_type(type_id: int, population: str, region: Region, fields: Mapping[str, Field]) -> Row:
    """Make a region's row; NULL if its units have values of their own, or it has none."""
    row: Row = {"node_type_id": str(type_id), "population": population, "region": region.name}
    row["model_type"] = "virtual" if region.kind == "input" else "rate_neuron"
    for name, field in fields.items():
        row |= field.cells(getattr(region, name))
    return row


def _types(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=" ", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([NULL if cell is None else cell for cell in row] for row in rows)


def _edges(graph: RegionGraph, folder: Path, seed: int | None) -> None:
    every = graph.projection_columns()
    inputs = np.array([region.kind == "input" for region in every.regions], dtype=bool)[every.columns.source]
    with _create(folder / "edges.h5") as file:
        for kind in _kinds(graph):
            own = np.flatnonzero(inputs == (kind == "input"))
            double = any(dtype == np.float64 for dtype in every.take(own).weight_dtypes())
            stream = synapse_stream(0 if seed is None else seed, kind)
            blocks = lower(graph, kind, stream, dtype=np.float64 if double else np.float32)
            type_ids = own[blocks.blocks.names.places_in(every.names.take(own))]
            _edge_population(file.create_group(f"edges/{POPULATIONS[kind]}_to_units"), blocks, type_ids)
    populations = [f"{POPULATIONS[kind]}_to_units" for kind in ("recurrent", "input")]
    _types(folder / "edge_types.csv", EDGE_COLUMNS, _edge_types(every, inputs, populations))


def _edge_types(
    every: Projections, inputs: NDArray[np.bool_], populations: Sequence[str]
) -> Iterator[list[str | None]]:
    """Make the row of each projection; the cells of equal settings are the same."""
    cells = []
    for key, attrs in every.columns.settings:
        own: Row = {}
        for name, field in EDGE_FIELDS.items():
            own |= field.cells(attrs.get(name, field.default))
        cells.append([key, *(own[column] for column in EDGE_COLUMNS[5:])])
    names = [region.name for region in every.regions]
    columns = (inputs.astype(int), every.columns.source, every.columns.target, every.columns.setting)
    for k, (kind, source, target, own_cells) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        yield [str(k), populations[kind], names[source], names[target], *cells[own_cells]]


def _kinds(graph: RegionGraph) -> list[str]:
    """List the kinds of sources that have projections."""
    return [kind for kind in POPULATIONS if len(graph.projection_columns(kind))]


def _edge_population(group: Any, blocks: BlockSparse, type_ids: NDArray[np.int64]) -> None:
    """Write an edge population, in CSR order: by target, then source."""
    n_target, n_source = blocks.shape
    nnz = len(blocks.col)
    of_type = np.repeat(type_ids, np.diff(blocks.ptr))
    target = np.repeat(np.arange(n_target, dtype=np.uint32), np.diff(blocks.crow))
    group["source_node_id"], group["target_node_id"] = blocks.col.astype(np.uint32), target
    group["source_node_id"].attrs["node_population"] = POPULATIONS[blocks.kind]
    group["target_node_id"].attrs["node_population"] = POPULATIONS["recurrent"]
    group["edge_type_id"] = (of_type if blocks.perm is None else of_type[blocks.perm]).astype(np.int32)
    _zeros(group, "edge_group_id", nnz)
    group["edge_group_index"] = np.arange(nnz, dtype=np.uint32 if nnz < 2**32 else np.uint64)
    group["0/syn_weight"] = blocks.effective_values()
    edge = np.arange(nnz, dtype=np.int64)
    _index(group.create_group("indices/target_to_source"), n_target, target.astype(np.int64), edge)
    by_source = counting_sort(blocks.col, n_source)[1].astype(np.int64)
    source = blocks.col[by_source].astype(np.int64)
    _index(group.create_group("indices/source_to_target"), n_source, source, by_source)


def _index(group: Any, n: int, node: NDArray[np.int64], edge: NDArray[np.int64]) -> None:
    """Write the ranges of edges of every node (sorted). Edges in a row share a range."""
    new = np.ones(len(edge), dtype=bool)
    new[1:] = (node[1:] != node[:-1]) | (edge[1:] != edge[:-1] + 1)
    start = np.flatnonzero(new)
    stop = np.append(start[1:], len(edge))[: len(start)] - 1
    group["range_to_edge_id"] = np.stack([edge[start], edge[stop] + 1], axis=1)
    count = np.bincount(node[start], minlength=n)
    after = np.cumsum(count)
    ranges = np.stack([after - count, after], axis=1)
    ranges[count == 0] = -1  # by the specification, a node without edges
    group["node_id_to_ranges"] = ranges


def _config(folder: Path, graph: RegionGraph) -> None:
    """Write the circuit configuration; libsonata wants the populations named, too."""
    types = {"recurrent": "point_neuron", "input": "virtual"}
    populations = {
        "node": {POPULATIONS[kind]: {"type": types[kind]} for kind in POPULATIONS if graph.regions(kind)},
        "edge": {f"{POPULATIONS[kind]}_to_units": {"type": "point_neuron"} for kind in _kinds(graph)},
    }
    networks = {}
    for what, named in populations.items():
        names = {f"{what}s_file": f"{what}s.h5", f"{what}_types_file": f"{what}_types.csv"}
        files = {key: f"$NETWORK_DIR/{name}" for key, name in names.items()}
        networks[f"{what}s"] = [{**files, "populations": named}]
    config = {"manifest": {"$NETWORK_DIR": "."}, "networks": networks}
    (folder / "circuit_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
