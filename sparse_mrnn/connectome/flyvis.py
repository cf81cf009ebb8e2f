"""read_flyvis: the cell-type connectome of the fly's visual system, unrolled over hexagonal columns."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.assemble import ConnectomeTables, graph_from_tables
from sparse_mrnn.connectome.column_table import ColumnTable, arrow
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import Options, Settings
from sparse_mrnn.errors import ConnectomeError, suggest
from sparse_mrnn.graph import RegionGraph

Points = NDArray[np.int64]


def read_flyvis(
    path: str | os.PathLike[str], extent: int = 15, *, fill: float = 1.0, **options: Unpack[Options]
) -> tuple[RegionGraph, ImportReport]:
    """Unroll a flyvis connectome: every cell type on its columns, every connection at its column offsets.

    A connection of cell types lists offsets (du, dv) from source to target column with mean synapse counts; it
    becomes one synapse group for each source cell and offset whose target column has a cell. Regions are the cell
    types, their parents the roles input, intermediate and output; positions are the columns' centres.

    Parameters
    ----------
    path : path
        A file such as fib25-fib19_v2.2.json of flyvis.
    extent : int
        Radius of the array in columns: 3 extent (extent + 1) + 1 columns.
    fill : float
        Synapses assumed at offsets that are not listed but lie inside the convex hull of those that are (gaps of
        the reconstruction); 0 fills nothing. See `filled_offsets` for the rule, which is that of flyvis.
    **options
        See `Settings`. Here ``regions`` is "type", ``parent`` "role" and ``sign_per`` "synapse", by the connection's sign.
        Counts are means, hence fractional.

    Returns
    -------
    RegionGraph, ImportReport

    Raises
    ------
    ConnectomeError
        If the file does not have the schema, or names an unknown cell type.

    References
    ----------
    Lappalainen et al., Nature 634, 1132 (2024).
    """
    file = Path(path)
    spec: dict[str, Any] = _load(file)
    if not isinstance(extent, int) or extent < 0:
        raise ConnectomeError(f"extent is {extent!r}; it must be a whole number of columns, at least 0.")
    if not 0 <= fill < float("inf"):
        raise ConnectomeError(f"fill is {fill!r}; it must be a number of synapses, 0 or more.")
    settings = Settings.of(options, regions="type", parent="role", sign="sign", sign_per="synapse", counts=False, name="flyvis")
    role = {**dict.fromkeys(spec["input_units"], "input"), **dict.fromkeys(spec["output_units"], "output")}
    width = 2 * extent + 1
    place: dict[str, Points] = {}
    columns: dict[str, list[Any]] = {"id": [], "type": [], "role": []}
    centres: list[Points] = []
    total = 0
    for node in spec["nodes"]:
        cells = columns_of(node["pattern"], extent, f"{file}: node {node['name']!r}")
        index = np.full((width, width), -1)
        index[cells[:, 0] + extent, cells[:, 1] + extent] = total + np.arange(len(cells))
        place[node["name"]] = index
        total += len(cells)
        centres.append(cells)
        columns["id"] += [f"{node['name']}[{u},{v}]" for u, v in cells.tolist()]
        columns["type"] += [node["name"]] * len(cells)
        columns["role"] += [role.get(node["name"], "intermediate")] * len(cells)
    parts: list[tuple[Any, ...]] = []
    added = 0
    apart: list[str] = []
    for k, edge in enumerate(spec["edges"]):
        for end in ("src", "tar"):
            if edge[end] not in place:
                raise ConnectomeError(
                    f"{file}: edges[{k}].{end}: unknown cell type {edge[end]!r}. {suggest(edge[end], place, what='cell types')}"
                )
        offsets = np.array([offset for offset, _ in edge["offsets"]], dtype=np.int64).reshape(-1, 2)
        counts = np.array([count for _, count in edge["offsets"]], dtype=np.float64)
        gaps = filled_offsets(offsets) if fill > 0 else np.empty((0, 2), dtype=np.int64)
        offsets, counts = np.concatenate([offsets, gaps]), np.concatenate([counts, np.full(len(gaps), fill)])
        source, target, which = _unrolled(place[edge["src"]], place[edge["tar"]], offsets)
        if not len(source):
            apart.append(f"{edge['src']} -> {edge['tar']}")
        added += int((which >= len(counts) - len(gaps)).sum())
        parts.append((source, target, counts[which], np.full(len(source), int(np.sign(edge["alpha"])), dtype=np.int8)))
    pa = arrow()
    sources, targets, weights, signs = (np.concatenate(part) for part in zip(*parts, strict=True))
    edges = {
        "source": columns_take(columns["id"], sources),
        "target": columns_take(columns["id"], targets),
        "weight": weights,
        "sign": signs,
    }
    cells = np.concatenate(centres)
    # Axial coordinates (u, v) of a hexagonal lattice with unit distance between neighbours.
    position = np.stack([cells[:, 0] * np.sqrt(3) / 2, cells[:, 1] + cells[:, 0] / 2], axis=1)
    listed = len(sources) - added
    groups = f"{listed:,} synapse groups at listed offsets and {added:,} at filled-in ones, {len(sources):,} in all"
    notes: tuple[str, ...] = (f"extent {extent}: {groups}",)
    if apart:
        notes += (f"listed type pairs without two cells at any of their offsets: {', '.join(apart)}",)
    tables = ConnectomeTables(
        f"{file} at extent {extent}",
        ColumnTable(file.name, pa.table(edges)),
        "source",
        "target",
        "weight",
        ColumnTable(f"{file.name} (nodes)", pa.table(columns)),
        "id",
        position,
        notes,
    )
    graph, report = graph_from_tables(tables, settings)
    return graph, report


def columns_take(ids: list[str], index: Points) -> Any:
    """Ids at places, as a pyarrow dictionary array: no text is copied."""
    pa = arrow()
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(ids))


def columns_of(pattern: Any, extent: int, where: str) -> Points:
    """Axial coordinates (u, v) of the columns with a cell, shape (cells, 2), by u and then v.

    >>> len(columns_of(["stride", [1, 1]], 15, ""))
    721
    """
    kind, value = pattern if isinstance(pattern, (list, tuple)) and len(pattern) == 2 else (pattern, None)
    if kind == "single":
        extent, steps = 0, (1, 1)
    elif kind in ("stride", "tile"):
        steps = (value, value) if kind == "tile" else tuple(value or ())
    else:
        raise ConnectomeError(f"{where}: pattern {pattern!r} is not known; use ['stride', [u, v]], ['tile', n] or ['single', null].")
    axis = np.arange(-extent, extent + 1)
    u, v = np.meshgrid(axis, axis, indexing="ij")
    inside = (np.abs(u + v) <= extent) & (u % steps[0] == 0) & (v % steps[1] == 0)
    return np.stack([u[inside], v[inside]], axis=1)


def filled_offsets(offsets: Points) -> Points:
    """Column offsets inside the convex hull of those listed, without them, by flyvis's rule.

    flyvis asks matplotlib which points lie inside the hull's polygon. For a polygon of whole coordinates that is the
    closed hull but for its lowest edge: unlisted points at the smallest dv do not count. Fewer than three offsets,
    or offsets on a line, enclose nothing. At extent 15 this gives 1,513,231 synapse groups with
    fib25-fib19_v2.2.json, the published number; listed offsets alone give 1,357,269, the whole closed hull 1,517,786.

    Parameters
    ----------
    offsets : ndarray of int, shape (offsets, 2)

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
    grid = np.stack(np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij"), axis=-1).reshape(-1, 2)
    edge = np.roll(corners, -1, axis=0) - corners
    apart = grid[:, None, :] - corners
    inside = (edge[:, 0] * apart[..., 1] - edge[:, 1] * apart[..., 0] >= 0).all(axis=1) & (grid[:, 1] > low[1])
    known = {tuple(offset) for offset in offsets.tolist()}
    return np.array([point for point in grid[inside].tolist() if tuple(point) not in known], dtype=np.int64).reshape(-1, 2)


def _unrolled(source: Points, target: Points, offsets: Points) -> tuple[Points, Points, Points]:
    """Cells that an offset connects: source, target and which offset."""
    width = source.shape[0]
    u, v = np.nonzero(source >= 0)
    to_u, to_v = u[:, None] + offsets[:, 0], v[:, None] + offsets[:, 1]
    inside = (to_u >= 0) & (to_u < width) & (to_v >= 0) & (to_v < width)
    found = np.where(inside, target[np.where(inside, to_u, 0), np.where(inside, to_v, 0)], -1)
    cell, which = np.nonzero(found >= 0)
    return source[u[cell], v[cell]], found[cell, which], which


def _load(file: Path) -> dict[str, Any]:
    spec: dict[str, Any]
    try:
        spec = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ConnectomeError(f"{file}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConnectomeError(f"{file}: cannot be read: {error}.") from None
    needed = {"nodes": ("name", "pattern"), "edges": ("src", "tar", "alpha", "offsets")}
    for part, keys in needed.items():
        if not isinstance(spec, dict) or not isinstance(spec.get(part), list) or not spec[part]:
            raise ConnectomeError(f"{file}: there is no list {part!r}; this is no flyvis connectome.")
        for k, entry in enumerate(spec[part]):
            for key in keys:
                if not isinstance(entry, dict) or key not in entry:
                    raise ConnectomeError(f"{file}: {part}[{k}] has no {key!r}.")
    for k, entry in enumerate(spec["edges"]):
        for offset in entry["offsets"]:
            good = isinstance(offset, list) and len(offset) == 2 and isinstance(offset[0], list) and len(offset[0]) == 2
            if not good or not all(isinstance(x, int) for x in offset[0]) or not isinstance(offset[1], (int, float)) or not offset[1] >= 0:
                raise ConnectomeError(
                    f"{file}: edges[{k}].offsets: {offset!r} is not [[du, dv], count] with whole du, dv and a count of 0 or more."
                )
        if entry["alpha"] not in (1, -1):
            raise ConnectomeError(f"{file}: edges[{k}].alpha is {entry['alpha']!r}; it must be 1 or -1.")
    for part in ("input_units", "output_units"):
        spec.setdefault(part, [])
    return spec
