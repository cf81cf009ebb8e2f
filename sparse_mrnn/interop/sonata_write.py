"""Writing a RegionGraph as a SONATA network: HDF5 nodes and edges, CSV types and a circuit configuration."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparse_mrnn.errors import ConnectomeError, MissingExtraError
from sparse_mrnn.graph import Region, RegionGraph
from sparse_mrnn.lowering import BlockSparse, lower
from sparse_mrnn.ops.pattern import stable_order
from sparse_mrnn.random_streams import synapse_stream

MAGIC, VERSION = 0x0A7A, (0, 1)
OWN = "sparse_mrnn"
"""Root attribute of a nodes file written here, whose regions and projections can be read back exactly."""
POPULATIONS = {"recurrent": "units", "input": "inputs"}
NULL = "NULL"
NODE_COLUMNS = (
    "node_type_id",
    "population",
    "region",
    "model_type",
    "sign",
    "base_firing",
    "init",
    "parent_region",
    "learnable_bias",
    "tau",
    "learnable_tau",
    "activation",
    "noise_level",
    "dimensions",
)
EDGE_COLUMNS = ("edge_type_id", "population", "source_region", "target_region", "key", "sign", "trainable", "self_connections", "delay")


def h5() -> Any:
    """h5py, or an error that says how to install it."""
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("SONATA files need h5py; install it with: pip install 'sparse-mrnn[connectome]'") from None
    return h5py


def write_sonata(graph: RegionGraph, folder: str | os.PathLike[str], *, seed: int | None = None, overwrite: bool = False) -> None:
    """Write a graph as a SONATA network that libsonata, BMTK and `read_sonata` read.

    The folder gets ``circuit_config.json``, ``nodes.h5``, ``node_types.csv`` (one type per region), ``edges.h5`` with
    indices in both directions and ``edge_types.csv`` (one type per projection). It appears whole or not at all.
    Weights (``syn_weight``) are signed; edges are sorted by target and then source.

    Parameters
    ----------
    graph : RegionGraph
    folder : path
    seed : int, optional
        Needed where projections have rules: they are drawn as ``mRNN(graph, seed=seed)`` draws them, and are
        explicit from then on.
    overwrite : bool
        Replace an existing network in ``folder``.

    Raises
    ------
    ConnectomeError
        If the folder exists, or a projection has no synapses yet and there is no seed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> g = RegionGraph(); g.add_region("a", 2); g.add_projection("a", "a", weights=np.array([[0, 2.0], [1.0, 0]]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_sonata(g, folder + "/net")
    ...     sorted(path.name for path in Path(folder, "net").iterdir())
    ['circuit_config.json', 'edge_types.csv', 'edges.h5', 'node_types.csv', 'nodes.h5']
    """
    h5py = h5()
    goal = Path(folder)
    if goal.exists():
        if not overwrite:
            raise ConnectomeError(f"{goal} exists; choose another path or overwrite it (overwrite=True, --force).")
        if not (goal / "circuit_config.json").is_file():
            raise ConnectomeError(f"{goal} is no SONATA network; it is not overwritten. Choose another path.")
    drawn = next((p for p in graph.projections() if p.synapses is None), None)
    if drawn is not None and seed is None:
        raise ConnectomeError(
            f"projection {drawn.source!r} -> {drawn.target!r} (key {drawn.key!r}) has a rule and no synapses yet; give seed= to draw them."
        )
    partial = goal.with_name(goal.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _nodes(h5py, graph, partial)
        _edges(h5py, graph, partial, seed)
        _config(partial, graph)
        if goal.exists():
            shutil.rmtree(goal)
        partial.rename(goal)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _root(file: Any) -> None:
    file.attrs["magic"] = np.uint32(MAGIC)
    file.attrs["version"] = np.array(VERSION, dtype=np.uint32)


def _put(group: Any, name: str, values: NDArray[Any]) -> Any:
    """A plain dataset: the HDF5 inside libsonata's wheels has no compression filters."""
    return group.create_dataset(name, data=values)


def _zeros(group: Any, name: str, n: int) -> None:
    """A dataset of zeros that takes no space."""
    group.create_dataset(name, shape=(n,), dtype=np.uint32, fillvalue=0)


def _nodes(h5py: Any, graph: RegionGraph, folder: Path) -> None:
    order = {name: k for k, name in enumerate(graph)}
    types: list[Sequence[object]] = []
    with h5py.File(folder / "nodes.h5", "w") as file:
        _root(file)
        file.attrs[OWN] = graph.name
        for kind, population in POPULATIONS.items():
            regions = graph.regions(kind)
            if not regions:
                continue
            group = file.create_group(f"nodes/{population}")
            n = sum(r.n for r in regions)
            type_id = np.repeat([order[r.name] for r in regions], [r.n for r in regions])
            _put(group, "node_type_id", type_id.astype(np.int64))
            _put(group, "node_id", np.arange(n, dtype=np.uint64))
            _zeros(group, "node_group_id", n)
            _put(group, "node_group_index", np.arange(n, dtype=np.uint64))
            own = group.create_group("0")
            text = h5py.string_dtype("utf-8")
            _put(own, "region", np.repeat(np.arange(len(regions), dtype=np.uint32), [r.n for r in regions]))
            own.create_dataset("@library/region", data=[r.name for r in regions], dtype=text)
            _put(own, "sign", np.concatenate([r.unit_signs for r in regions]))
            own.create_dataset("unit_id", data=[u for r in regions for u in (r.unit_ids or [""] * r.n)], dtype=text)
            if kind == "recurrent":
                for name in ("base_firing", "init"):
                    _put(own, name, np.concatenate([np.broadcast_to(getattr(r, name), r.n) for r in regions]).astype(np.float64))
                depth = max(0 if r.positions is None else r.positions.shape[1] for r in regions)
                for k in range(depth):
                    parts = [
                        np.full(r.n, np.nan) if r.positions is None or k >= r.positions.shape[1] else r.positions[:, k] for r in regions
                    ]
                    _put(own, axis_name(k), np.concatenate(parts))
            types += [_node_type(order[r.name], population, r) for r in regions]
    _types(folder / "node_types.csv", NODE_COLUMNS, types)


def axis_name(k: int) -> str:
    """Attribute of a position's coordinate: x, y, z, position_3, ....

    >>> axis_name(0), axis_name(3)
    ('x', 'position_3')
    """
    return "xyz"[k] if k < 3 else f"position_{k}"


def _node_type(type_id: int, population: str, region: Region) -> Sequence[object]:
    """A region's row; NULL where nodes have their own values, or there is none."""

    def scalar(value: Any) -> object:
        return NULL if value is None or isinstance(value, np.ndarray) else repr(value) if isinstance(value, float) else value

    sign = NULL if isinstance(region.sign, np.ndarray) else region.sign or "none"
    return (
        type_id,
        population,
        region.name,
        "virtual" if region.kind == "input" else "rate_neuron",
        sign,
        scalar(region.base_firing),
        scalar(region.init),
        scalar(region.parent_region),
        int(region.learnable_bias),
        scalar(region.tau),
        int(region.learnable_tau),
        scalar(region.activation),
        scalar(region.noise_level),
        0 if region.positions is None else region.positions.shape[1],
    )


def _types(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=" ", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _edges(h5py: Any, graph: RegionGraph, folder: Path, seed: int | None) -> None:
    type_of = {edge: k for k, edge in enumerate(graph.edges(keys=True))}
    types: dict[int, Sequence[object]] = {}
    with h5py.File(folder / "edges.h5", "w") as file:
        _root(file)
        for kind in POPULATIONS:
            if not any(True for _ in graph.projections(kind)):
                continue
            wide = any(p.synapses is not None and dtype_of(p.synapses) == np.float64 for p in graph.projections(kind))
            stream = synapse_stream(0 if seed is None else seed, kind)
            blocks = lower(graph, kind, stream, dtype=np.float64 if wide else np.float32)
            population = f"{POPULATIONS[kind]}_to_{POPULATIONS['recurrent']}"
            type_ids = np.array([type_of[b.source, b.target, b.key] for b in blocks.blocks], dtype=np.int64)
            _population(file.create_group(f"edges/{population}"), blocks, type_ids, POPULATIONS[kind])
            for type_id, block in zip(type_ids.tolist(), blocks.blocks, strict=True):
                attrs = graph.edges[block.source, block.target, block.key]
                types[type_id] = (
                    type_id,
                    population,
                    block.source,
                    block.target,
                    block.key,
                    block.sign,
                    int(block.trainable),
                    int(attrs.get("self_connections", True)),
                    repr(float(attrs["delay"])) if "delay" in attrs else NULL,
                )
    _types(folder / "edge_types.csv", EDGE_COLUMNS, [types[k] for k in sorted(types)])


def dtype_of(synapses: Any) -> np.dtype[Any]:
    """Type of explicit weights."""
    found: np.dtype[Any] = synapses.arrays.values.dtype if hasattr(synapses, "arrays") else synapses.dtype
    return found


def _population(group: Any, blocks: BlockSparse, type_ids: NDArray[np.int64], source: str) -> None:
    """One edge population, in CSR order: by target, then source."""
    n_target, n_source = blocks.shape
    nnz = len(blocks.col)
    lengths = np.diff(blocks.ptr)
    of_type = np.repeat(type_ids, lengths)
    if blocks.perm is not None:
        of_type = of_type[blocks.perm]
    target = np.repeat(np.arange(n_target, dtype=np.uint32), np.diff(blocks.crow))
    for name, ids, population in (
        ("source_node_id", blocks.col.astype(np.uint32), source),
        ("target_node_id", target, POPULATIONS["recurrent"]),
    ):
        _put(group, name, ids).attrs["node_population"] = population
    _put(group, "edge_type_id", of_type.astype(np.int32))
    _zeros(group, "edge_group_id", nnz)
    _put(group, "edge_group_index", np.arange(nnz, dtype=np.uint32 if nnz < 2**32 else np.uint64))
    own = group.create_group("0")
    _put(own, "syn_weight", blocks.effective_values())
    edge = np.arange(nnz, dtype=np.int64)
    _index(group.create_group("indices/target_to_source"), n_target, target.astype(np.int64), edge)
    by_source = stable_order(torch.from_numpy(blocks.col), n_source).numpy().astype(np.int64)
    _index(group.create_group("indices/source_to_target"), n_source, blocks.col[by_source].astype(np.int64), by_source)


def _index(group: Any, n: int, node: NDArray[np.int64], edge: NDArray[np.int64]) -> None:
    """Ranges of edges of every node. ``node`` is sorted; an edge number that follows the one before extends its range."""
    new = np.ones(len(edge), dtype=bool)
    new[1:] = (node[1:] != node[:-1]) | (edge[1:] != edge[:-1] + 1)
    start = np.flatnonzero(new)
    stop = np.append(start[1:], len(edge)) - 1
    _put(group, "range_to_edge_id", np.stack([edge[start], edge[stop] + 1], axis=1) if len(edge) else np.empty((0, 2), dtype=np.int64))
    count = np.bincount(node[start], minlength=n) if len(edge) else np.zeros(n, dtype=np.int64)
    after = np.cumsum(count)
    ranges = np.stack([after - count, after], axis=1)
    ranges[count == 0] = -1  # by the specification, a node without edges
    _put(group, "node_id_to_ranges", ranges)


def _config(folder: Path, graph: RegionGraph) -> None:
    """The circuit configuration; libsonata wants the populations named, too."""
    sources = {kind: any(True for _ in graph.projections(kind)) for kind in POPULATIONS}
    nodes = {POPULATIONS[kind]: {"type": "virtual" if kind == "input" else "point_neuron"} for kind in POPULATIONS if graph.regions(kind)}
    edges = {f"{POPULATIONS[kind]}_to_units": {"type": "point_neuron"} for kind, some in sources.items() if some}
    networks = {
        "nodes": [{"nodes_file": "$NETWORK_DIR/nodes.h5", "node_types_file": "$NETWORK_DIR/node_types.csv", "populations": nodes}],
        "edges": [{"edges_file": "$NETWORK_DIR/edges.h5", "edge_types_file": "$NETWORK_DIR/edge_types.csv", "populations": edges}],
    }
    config = {"manifest": {"$NETWORK_DIR": "."}, "networks": networks}
    (folder / "circuit_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
