"""read_flyvis: the cell-type connectome of the fly's visual system, unrolled over hexagonal columns."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.column_table import ColumnTable
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, indexed_edges, node_table
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings, positive
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError, suggest
from sparse_mrnn.files.json import read_json
from sparse_mrnn.fly_vision.lattice import hex_centres, hex_columns, hex_positions

Points = NDArray[np.int64]
FARTHEST, LARGEST_EXTENT, MOST_GROUPS = 10_000, 200, 200_000_000
"""Columns that an offset may span; columns of the radius; synapse groups looked at. More is refused."""

STRENGTH, TAU, RESTING_POTENTIAL = 0.01, 50.0, (0.5, 0.05)
"""Initial values of flyvis: synapse strength times mean count, time constant in ms, mean and standard
deviation of resting potentials (Lappalainen et al. 2024, Methods)."""


def read_flyvis(
    path: str | os.PathLike[str],
    extent: int = 15,
    *,
    fill: float = 1.0,
    inputs: bool = False,
    seed: int = 0,
    **options: Unpack[ImportOptions],
) -> tuple[RegionGraph, ImportReport]:
    """Unroll a flyvis connectome: every cell type on its columns, every connection at its column offsets.

    A connection of cell types lists offsets (du, dv) from source to target column with mean synapse counts;
    it becomes one synapse group for each source cell and offset whose target column has a cell. Regions are
    the cell types, their parents the roles input, intermediate and output; positions are the columns'
    centres.

    Parameters
    ----------
    path : path
        A file such as fib25-fib19_v2.2.json of flyvis.
    extent : int
        Radius of the array in columns: 3 extent (extent + 1) + 1 columns.
    fill : float
        Synapses assumed at offsets that are not listed but lie inside the convex hull of the listed ones
        (gaps of the reconstruction); 0 fills nothing. `filled_offsets` has the rule, the one of flyvis.
    inputs : bool
        Add the input region "light", one channel a column ordered as `hex_columns`, which reaches every
        photoreceptor (the types with role input) of its column with weight 1. The regions must be the cell
        types.
    seed : int
        Of the tonic inputs with ``share=True``; they equal those of flyvis with the same seed.
    **options
        See `ImportSettings`. Here ``regions`` is "type", ``parent`` "role" and ``sign_per`` "synapse", by the
        connection's sign. Counts are means, hence fractional. ``share=True`` makes it the trainable
        network of flyvis: base weights are the synapse counts, and what is learnt is a gain >= 0 for each
        pair of cell types, a tonic input (resting potential) and a time constant for each type. They
        start as in flyvis: gains at 0.01 / mean count, tonic inputs and initial states normal with mean
        0.5 and standard deviation 0.05, time constants at 50 ms. flyvis' steps are 20 ms or shorter.

    Raises
    ------
    ConnectomeError
        If the file does not have the schema, or names an unknown cell type, or an option does not fit.

    References
    ----------
    Lappalainen et al., Nature 634, 1132 (2024).
    """
    file = Path(path)
    spec: dict[str, Any] = load_connectome(file)
    if not isinstance(extent, (int, np.integer)) or not 0 <= extent <= LARGEST_EXTENT:
        problem = f"it must be a whole number of columns, 0..{LARGEST_EXTENT}."
        raise ConnectomeError(f"extent is {extent!r}; {problem}")
    if fill != 0:
        fill = positive("fill", fill)
    defaults: dict[str, Any] = dict(
        regions="type", parent="role", sign="sign", sign_per="synapse", counts=False, name="flyvis"
    )
    trained = options.get("share") is True
    if trained:
        taken = sorted({"scale", "gain", "spectral_radius", "regions", "sign_per"} & set(options))
        if taken:
            raise ConnectomeError(
                f"share=True decides {', '.join(taken)}; leave {'it' if len(taken) == 1 else 'them'} out."
            )
        defaults["scale"] = "none"
        options["share"] = "cell types"
    settings = ImportSettings.of(options, **defaults)
    if inputs and settings.region_columns != ["type"]:
        given = f"inputs=True adds light to cell types, but regions is {settings.regions!r}"
        raise ConnectomeError(f"{given}; leave one of them out.")
    cells = _unroll_nodes(file, spec, extent)
    edges, notes = _unroll_edges(file, spec["edges"], cells, fill)
    positions = hex_centres(cells.columns)
    nodes = {"type": cells.types, "role": cells.roles}
    tables = ConnectomeTables(
        label=f"{file} at extent {extent}",
        edges=edges,
        neurons=node_table(f"{file.name} (nodes)", cells.ids, nodes),
        positions=positions,
        notes=(f"extent {extent}: {notes[0]}", *notes[1:]),
    )
    graph, report = graph_from_tables(tables, settings)
    if trained:
        _share_parameters(graph, [node["name"] for node in spec["nodes"]], seed)
    if inputs:
        _add_light(graph, spec["input_units"], extent)
    return graph, report


def _share_parameters(graph: RegionGraph, types: list[str], seed: int) -> None:
    """Share gains by pair of types, biases and time constants by type, with flyvis' initial values."""
    for _, _, attrs in graph.edges(data=True):
        counts = attrs["weights"].tocsr().data
        attrs |= {"gain": STRENGTH / float(np.abs(counts).mean()), "gain_low": 0.0}
    generator = torch.Generator().manual_seed(seed)
    mean, std = (torch.full((len(types),), value) for value in RESTING_POTENTIAL)
    potential = dict(zip(types, torch.normal(mean, std, generator=generator).tolist(), strict=True))
    for region in graph.regions():
        start = potential[region.name]
        graph.nodes[region.name].update(
            base_firing=start, init=start, learnable_bias="region", tau=TAU, learnable_tau=True
        )


def _add_light(graph: RegionGraph, photoreceptors: list[str], extent: int) -> None:
    columns = hex_columns(extent)
    channel = {tuple(column): k for k, column in enumerate(columns.tolist())}
    graph.add_input("light", len(columns))
    for name in photoreceptors:
        if name not in graph:
            continue
        region = graph.region(name)
        own = hex_positions(np.asarray(region.positions)).tolist()
        cols = np.array([channel[tuple(column)] for column in own])
        weights = sp.coo_array((np.ones(region.n), (np.arange(region.n), cols)), (region.n, len(columns)))
        graph.add_projection("light", name, weights=weights, trainable=False)


@dataclass(frozen=True)
class Cells:
    """The cells: id, type, role and column (u, v) of each, and the cell of each type in each column."""

    ids: list[str]
    types: list[str]
    roles: list[str]
    columns: Points
    index: dict[str, Points]


def _unroll_nodes(file: Path, spec: dict[str, Any], extent: int) -> Cells:
    roles = {**dict.fromkeys(spec["input_units"], "input"), **dict.fromkeys(spec["output_units"], "output")}
    ids: list[str] = []
    types: list[str] = []
    parts: list[Points] = []
    index: dict[str, Points] = {}
    for node in spec["nodes"]:
        name = node["name"]
        columns = columns_of(node["pattern"], extent, f"{file}: node {name!r}")
        index[name] = np.full((2 * extent + 1, 2 * extent + 1), -1)
        index[name][columns[:, 0] + extent, columns[:, 1] + extent] = len(ids) + np.arange(len(columns))
        ids += [f"{name}[{u},{v}]" for u, v in columns.tolist()]
        types += [name] * len(columns)
        parts.append(columns)
    role = [roles.get(name, "intermediate") for name in types]
    return Cells(ids, types, role, np.concatenate(parts), index)


def _unroll_edges(
    file: Path, edges: list[dict[str, Any]], cells: Cells, fill: float
) -> tuple[ColumnTable, list[str]]:
    """Unroll the synapse groups of all pairs of cell types, with notes for the report."""
    parts: list[tuple[Any, ...]] = []
    filled = possible = 0
    apart: list[str] = []
    for edge in edges:
        listed = np.array([offset for offset, _ in edge["offsets"]], dtype=np.int64).reshape(-1, 2)
        counts = np.array([count for _, count in edge["offsets"]], dtype=np.float64)
        columns, reached = cells.index[edge["src"]], cells.index[edge["tar"]]
        gaps = filled_offsets(listed, reach=len(columns) - 1) if fill > 0 else listed[:0]
        offsets, counts = np.concatenate([listed, gaps]), np.concatenate([counts, np.full(len(gaps), fill)])
        possible += int((columns >= 0).sum()) * int((np.abs(offsets) < len(columns)).all(axis=1).sum())
        if possible > MOST_GROUPS:
            problem = f"there may be more than {MOST_GROUPS:,} synapse groups"
            raise ConnectomeError(f"{file}: {problem}; choose a smaller extent, or fill=0.")
        source, target, which = _unrolled(columns, reached, offsets)
        if not len(source):
            apart.append(f"{edge['src']} -> {edge['tar']}")
        filled += int((which >= len(listed)).sum())
        parts.append((source, target, counts[which], np.full(len(source), edge["alpha"], dtype=np.int8)))
    source, target, weight, sign = (np.concatenate(part) for part in zip(*parts, strict=True))
    total = len(source)
    listed_groups = f"{total - filled:,} synapse groups at listed offsets"
    notes = [f"{listed_groups} and {filled:,} at filled-in ones, {total:,} in all"]
    if apart:
        notes.append(f"listed type pairs without two cells at any of their offsets: {', '.join(apart)}")
    return indexed_edges(file.name, cells.ids, source, target, {"weight": weight, "sign": sign}), notes


def connected_pairs(spec: dict[str, Any], where: str, extent: int = 15) -> list[tuple[str, str]]:
    """Pairs of types with at least one synapse group at an extent, in the order of the file, as in flyvis."""
    cells = _unroll_nodes(Path(where), spec, extent)
    found = []
    for edge in spec["edges"]:
        offsets = np.array([offset for offset, _ in edge["offsets"]], dtype=np.int64).reshape(-1, 2)
        if len(_unrolled(cells.index[edge["src"]], cells.index[edge["tar"]], offsets)[0]):
            found.append((edge["src"], edge["tar"]))
    return found


def columns_of(pattern: Any, extent: int, where: str) -> Points:
    """Give the axial coordinates (u, v) of the columns with a cell, shape (cells, 2), by u and then v.

    >>> len(columns_of(["stride", [1, 1]], 15, ""))
    721
    """
    kind, value = pattern if isinstance(pattern, (list, tuple)) and len(pattern) == 2 else (pattern, None)
    if kind == "single":
        extent, steps = 0, (1, 1)
    else:
        steps = (value, value) if kind == "tile" else tuple(value) if isinstance(value, list) else ()
        whole = len(steps) == 2 and all(type(step) is int and 0 < step <= FARTHEST for step in steps)
        if kind not in ("stride", "tile") or not whole:
            known = "['stride', [u, v]], ['tile', n] or ['single', null] with whole numbers from 1"
            raise ConnectomeError(f"{where}: pattern {pattern!r:.80} is not known; use {known}.")
    columns = hex_columns(extent)
    chosen: Points = columns[(columns % np.array(steps) == 0).all(axis=1)]
    return chosen


def filled_offsets(offsets: Points, reach: int = FARTHEST) -> Points:
    """Find the unlisted column offsets inside the convex hull of the listed ones, by flyvis's rule.

    flyvis asks matplotlib which points lie inside the hull's polygon. For a polygon of whole coordinates that
    is the closed hull but for its lowest edge: unlisted points at the smallest dv do not count. Fewer than
    three offsets, or offsets on a line, enclose nothing. At extent 15 this gives 1,513,231 synapse groups
    with fib25-fib19_v2.2.json, the published number; listed offsets alone give 1,357,269, the whole closed
    hull 1,517,786.

    Parameters
    ----------
    offsets : ndarray of int, shape (offsets, 2)
    reach : int
        Columns that an offset can span at all; farther ones are left out.

    Examples
    --------
    >>> filled_offsets(np.array([[0, 0], [2, 0], [0, 2]])).tolist()   # (1, 0) is on the lowest edge
    [[0, 1], [1, 1]]
    """
    if len(offsets) < 3 or np.linalg.matrix_rank(offsets - offsets[0]) < 2:
        return np.empty((0, 2), dtype=np.int64)
    from scipy.spatial import ConvexHull

    corners = offsets[ConvexHull(offsets).vertices]  # counterclockwise
    low, high = offsets.min(axis=0), offsets.max(axis=0)
    axes = (np.arange(max(a, -reach), min(b, reach) + 1) for a, b in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = grid[:, 1] > low[1]
    for corner, edge in zip(corners, np.roll(corners, -1, axis=0) - corners, strict=True):
        inside &= edge[0] * (grid[:, 1] - corner[1]) >= edge[1] * (grid[:, 0] - corner[0])  # left of the edge
    listed = {tuple(offset) for offset in offsets.tolist()}
    missing = [point for point in grid[inside].tolist() if tuple(point) not in listed]
    return np.array(missing, dtype=np.int64).reshape(-1, 2)


def _unrolled(source: Points, target: Points, offsets: Points) -> tuple[Points, Points, Points]:
    """Find the cells that offsets connect: source, target and which offset."""
    width = source.shape[0]
    near = np.flatnonzero((np.abs(offsets) < width).all(axis=1))
    offsets = offsets[near]
    u, v = np.nonzero(source >= 0)
    to_u, to_v = u[:, None] + offsets[:, 0], v[:, None] + offsets[:, 1]
    inside = (to_u >= 0) & (to_u < width) & (to_v >= 0) & (to_v < width)
    reached = np.where(inside, target[np.where(inside, to_u, 0), np.where(inside, to_v, 0)], -1)
    cell, which = np.nonzero(reached >= 0)
    return source[u[cell], v[cell]], reached[cell, which], near[which]


def load_connectome(file: Path) -> dict[str, Any]:
    """Read a flyvis connectome, and check every part of it."""
    spec: dict[str, Any] = read_json(file, ConnectomeError)
    for part in ("nodes", "edges"):
        if not isinstance(spec, dict) or not isinstance(spec.get(part), list) or not spec[part]:
            raise ConnectomeError(f"{file}: there is no list {part!r}; this is not a flyvis connectome.")
    names: set[str] = set()
    for k, node in enumerate(spec["nodes"]):
        _check_entry(node, {"name": str, "pattern": (str, list)}, f"{file}: nodes[{k}]")
        if node["name"] in names:
            raise ConnectomeError(f"{file}: nodes[{k}]: cell type {node['name']!r} is there twice.")
        names.add(node["name"])
    for k, edge in enumerate(spec["edges"]):
        where = f"{file}: edges[{k}]"
        _check_entry(edge, {"src": str, "tar": str, "alpha": (int, float), "offsets": list}, where)
        for end in ("src", "tar"):
            _check_type(edge[end], names, f"{where}.{end}")
        if edge["alpha"] not in (1, -1):
            raise ConnectomeError(f"{where}.alpha is {edge['alpha']!r:.80}; it must be 1 or -1.")
        _check_offsets(edge["offsets"], f"{where}.offsets")
    for part in ("input_units", "output_units"):
        units = spec.setdefault(part, [])
        if not isinstance(units, list):
            raise ConnectomeError(f"{file}: {part} is {units!r:.80}; a list of cell types is needed.")
        for k, name in enumerate(units):
            _check_type(name, names, f"{file}: {part}[{k}]")
    return spec


def _check_entry(entry: Any, kinds: dict[str, Any], where: str) -> None:
    for key, kind in kinds.items():
        if not isinstance(entry, dict) or key not in entry:
            raise ConnectomeError(f"{where} has no {key!r}.")
        if not isinstance(entry[key], kind):
            raise ConnectomeError(f"{where}.{key} is {entry[key]!r:.80}, of the wrong type.")


def _check_type(name: Any, names: set[str], where: str) -> None:
    if not isinstance(name, str) or name not in names:
        hint = suggest(name, sorted(names), what="cell types")
        raise ConnectomeError(f"{where}: unknown cell type {name!r:.80}. {hint}")


def _check_offsets(offsets: list[Any], where: str) -> None:
    listed = set()
    for offset in offsets:
        if not _is_offset(offset):
            wanted = f"[[du, dv], count] with whole du, dv up to {FARTHEST:,} and a count of 0 or more"
            raise ConnectomeError(f"{where}: {offset!r:.80} is not {wanted}.")
        if tuple(offset[0]) in listed:
            raise ConnectomeError(f"{where}: {offset[0]} is there twice.")
        listed.add(tuple(offset[0]))


def _is_offset(offset: Any) -> bool:
    if not (isinstance(offset, list) and len(offset) == 2 and isinstance(offset[0], list)):
        return False
    columns, count = offset
    whole = len(columns) == 2 and all(type(x) is int and abs(x) <= FARTHEST for x in columns)
    return whole and type(count) in (int, float) and 0 <= count < 1e300
