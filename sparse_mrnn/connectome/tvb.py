"""read_tvb: a connectivity archive of The Virtual Brain, as regions of units with delays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.archive import checked, text
from sparse_mrnn.connectome.report import ImportReport, RegionRow
from sparse_mrnn.errors import ConnectomeError, suggest
from sparse_mrnn.graph import RegionGraph
from sparse_mrnn.initializers import Constant


def read_tvb(
    path: str | os.PathLike[str],
    *,
    units: int | Mapping[str, int] = 100,
    fan_in: int = 10,
    speed: float = 3.0,
    gain: float = 1.0,
    name: str | None = None,
) -> tuple[RegionGraph, ImportReport]:
    """Import a TVB connectivity: one region per area, one projection per connection.

    The archive has ``weights.txt`` (entry (i, j) is from area j to area i), ``centres.txt`` (label, x, y, z in mm)
    and, if there, ``tract_lengths.txt`` (mm) and ``hemispheres.txt`` (1: right; gives the parents left and right).
    Other files (areas, cortical, average_orientations) are counted in the report's notes. A projection gives every target
    unit ``fan_in`` synapses of weight gain * weight / fan_in, drawn when a model is built. Its graph edge has the
    attributes ``weight``, ``length`` (mm) and ``delay`` (ms, length / speed). All areas excite.

    Parameters
    ----------
    path : path
        The .zip file, or a folder with the same files.
    units : int or mapping of area to int
        Units of every area.
    fan_in : int
        Sources of a target unit in each projection; at most the units of the source area.
    speed : float
        Conduction speed in mm/ms (TVB's default is 3).
    gain : float
    name : str, optional
        Of the graph; default: the file's.

    Returns
    -------
    RegionGraph, ImportReport

    Raises
    ------
    ConnectomeError
        If a file is missing or of the wrong shape, or a value is not finite or negative.

    References
    ----------
    Sanz Leon et al., Frontiers in Neuroinformatics 7, 10 (2013).
    """
    root = Path(path)
    for what, value in (("speed", speed), ("gain", gain)):
        if not 0 < value < float("inf"):
            raise ConnectomeError(f"{what} is {value!r}; it must be a positive number.")
    files = _files(root)
    weights = _numbers(root, files, "weights")
    labels, centres = _centres(root, files)
    n = len(labels)
    if weights.shape != (n, n):
        raise ConnectomeError(f"{root}: weights.txt is {weights.shape[0]} x {weights.shape[1]}, but centres.txt has {n} areas.")
    lengths = _numbers(root, files, "tract_lengths") if "tract_lengths" in files else None
    if lengths is not None and lengths.shape != (n, n):
        raise ConnectomeError(f"{root}: tract_lengths.txt is {lengths.shape[0]} x {lengths.shape[1]}, but there are {n} areas.")
    for what, values in (("weights", weights), ("tract_lengths", lengths)):
        if values is not None and (values < 0).any():
            i, j = np.argwhere(values < 0)[0]
            raise ConnectomeError(f"{root}: {what}.txt, line {i + 1}, column {j + 1}: {values[i, j]:g} is negative.")
    parents: list[str | None] = [None] * n
    if "hemispheres" in files:
        side = _numbers(root, files, "hemispheres").reshape(-1)
        if len(side) != n:
            raise ConnectomeError(f"{root}: hemispheres.txt has {len(side)} lines for {n} areas.")
        parents = ["right" if s else "left" for s in side]
    count = _units(units, labels)
    graph = RegionGraph(name=root.name.removesuffix(".zip") if name is None else name)
    for label, parent, size, centre in zip(labels, parents, count, centres, strict=True):
        graph.add_region(label, size, parent_region=parent if parent not in labels else None, positions=np.tile(centre, (size, 1)))
    targets, sources = np.nonzero(weights)
    into, outof = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for j, i in sorted(zip(sources.tolist(), targets.tolist(), strict=True)):
        if fan_in > count[j] or fan_in < 1:
            raise ConnectomeError(
                f"fan_in is {fan_in}, but area {labels[j]!r} has {count[j]} units; give a fan_in of 1..{min(count)} or more units."
            )
        weight = float(weights[i, j])
        graph.add_projection(labels[j], labels[i], fan_in=fan_in, initializer=Constant(gain * weight / fan_in))
        edge = graph.edges[labels[j], labels[i], "default"]
        edge["weight"] = weight
        if lengths is not None:
            edge["length"], edge["delay"] = float(lengths[i, j]), float(lengths[i, j]) / speed
        into[i] += fan_in * count[i]
        outof[j] += fan_in * count[i]
    total = sum(count)
    rows = tuple(
        RegionRow(a, c, c, 0, 0, int(x), int(y), float(x / (c * total))) for a, c, x, y in zip(labels, count, into, outof, strict=True)
    )
    used = {"weights", "centres", "tract_lengths", "hemispheres"}
    notes = [f"rows of weights.txt are targets; {len(sources):,} connections of areas, each {fan_in} synapses onto every target unit"]
    notes += [f"not used: {file}" for key, file in sorted(files.items()) if key not in used]
    notes.append(f"delays are length / {speed:g} mm/ms" if lengths is not None else "there is no tract_lengths.txt, so no delays")
    alone = sum(c for c, x, y in zip(count, into, outof, strict=True) if not x and not y)
    report = ImportReport(
        str(root),
        {"centres.txt": n, "weights.txt": n},
        {},
        total,
        alone,
        float(weights.sum()),
        len(sources),
        int(into.sum()),
        {"neurons: areas excite": total},
        f"{gain:g} * weight / fan-in",
        rows,
        graph.number_of_edges(),
        float(into.sum()) / total**2,
        tuple(notes),
    )
    return graph, report


def _files(root: Path) -> dict[str, str]:
    """Members by stem: weights, centres, ...."""
    names = [path.name for path in root.iterdir() if path.is_file()] if root.is_dir() else list(checked(root))
    stems: dict[str, str] = {}
    for name in sorted(names):
        file = PurePosixPath(name).name
        stem = file.split(".")[0].replace("centers", "centres")
        if file.startswith((".", "__")) or not file.removesuffix(".bz2").endswith((".txt", ".csv")):
            continue
        if stem in stems:
            raise ConnectomeError(f"{root}: both {stems[stem]!r} and {name!r} are {stem}; remove one.")
        stems[stem] = name
    for need in ("weights", "centres"):
        if need not in stems:
            raise ConnectomeError(f"{root}: there is no {need}.txt; the archive has {', '.join(sorted(names)[:10]) or 'nothing'}.")
    return stems


def _lines(root: Path, member: str) -> list[tuple[int, list[str]]]:
    content = (root / member).read_text(encoding="utf-8-sig") if root.is_dir() else text(root, member)
    return [
        (k, line.replace(",", " ").split())
        for k, line in enumerate(content.splitlines(), start=1)
        if line.strip() and not line.startswith("#")
    ]


def _numbers(root: Path, files: Mapping[str, str], stem: str) -> NDArray[np.float64]:
    """A table of finite numbers."""
    member, rows = files[stem], []
    for line, cells in _lines(root, files[stem]):
        for k, cell in enumerate(cells):
            _finite(cell, f"{root}: {member}, line {line}, column {k + 1}")
        rows.append([float(cell) for cell in cells])
        if len(cells) != len(rows[0]):
            raise ConnectomeError(f"{root}: {member}, line {line}: {len(cells)} columns where the first line has {len(rows[0])}.")
    if not rows:
        raise ConnectomeError(f"{root}: {member} is empty.")
    return np.array(rows)


def _finite(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise ConnectomeError(f"{where}: {cell!r} is no number.") from None
    if not np.isfinite(value):
        raise ConnectomeError(f"{where}: {cell} is not finite.")
    return value


def _centres(root: Path, files: Mapping[str, str]) -> tuple[list[str], NDArray[np.float64]]:
    labels: list[str] = []
    centres = []
    for line, cells in _lines(root, files["centres"]):
        where = f"{root}: {files['centres']}, line {line}"
        if len(cells) != 4:
            raise ConnectomeError(f"{where}: {len(cells)} columns; a label and x, y, z are needed.")
        if cells[0] in labels:
            raise ConnectomeError(f"{where}: area {cells[0]!r} is there twice; labels must differ.")
        labels.append(cells[0])
        centres.append([_finite(cell, f"{where}, column {k}") for k, cell in enumerate(cells[1:], start=2)])
    return labels, np.array(centres).reshape(-1, 3)


def _units(units: int | Mapping[str, int], labels: list[str]) -> list[int]:
    if not isinstance(units, Mapping):
        sizes = [units] * len(labels)
    else:
        for name in units:
            if name not in labels:
                raise ConnectomeError(f"units: there is no area {name!r}. {suggest(name, labels, what='areas')}")
        lacking = [label for label in labels if label not in units]
        if lacking:
            raise ConnectomeError(f"units: area {lacking[0]!r} has none ({len(lacking)} areas have none).")
        sizes = [units[label] for label in labels]
    for label, size in zip(labels, sizes, strict=True):
        if not isinstance(size, int) or size < 1:
            raise ConnectomeError(f"units: area {label!r} has {size!r}; a whole number of at least 1 is needed.")
    return sizes
