"""read_tvb: a connectivity archive of The Virtual Brain, as regions of units with delays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.checks import whole_number
from sparse_mrnn.connectome.delimited_text import is_number, split_lines
from sparse_mrnn.connectome.formats.downloads import SPARED, checked, content
from sparse_mrnn.connectome.report import ImportReport, region_rows
from sparse_mrnn.connectome.settings import positive
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.declaration.initializers import Constant
from sparse_mrnn.errors import ConnectomeError, suggest


def read_tvb(
    path: str | os.PathLike[str], *, units: int | Mapping[str, int] = 100, fan_in: int = 10,
    speed: float = 3.0, gain: float = 1.0, name: str | None = None,
) -> tuple[RegionGraph, ImportReport]:
    """Import a TVB connectivity: one region per area, one projection per connection.

    The archive has ``weights.txt`` (entry (i, j) is from area j to area i), ``centres.txt`` (label, x, y, z
    in mm) and, if there, ``tract_lengths.txt`` (mm) and ``hemispheres.txt`` (1: right; gives the parents left
    and right). The report's notes name other files (areas, cortical, average_orientations). A projection
    gives every target unit ``fan_in`` synapses of weight gain * weight / fan_in, drawn when a model is built.
    Its graph edge has the attributes ``weight``, ``length`` (mm) and ``delay`` (ms, length / speed). All
    areas excite.

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

    Raises
    ------
    ConnectomeError
        If a file is missing or of the wrong shape, or a value is not finite or negative.

    References
    ----------
    Sanz Leon et al., Frontiers in Neuroinformatics 7, 10 (2013).
    """
    root = Path(path)
    speed, gain = positive("speed", speed), positive("gain", gain)
    fan_in = whole_number(fan_in, "fan_in", ConnectomeError)
    areas = _areas(root)
    labels, sizes = areas.labels, _units(units, areas.labels)
    graph = RegionGraph(name=root.name.removesuffix(".zip") if name is None else name)
    for label, parent, size, centre in zip(labels, areas.parents, sizes, areas.centres, strict=True):
        parent = None if parent in labels else parent
        graph.add_region(label, size, parent_region=parent, positions=np.tile(centre, (size, 1)))
    targets, sources = np.nonzero(areas.weights)
    for j, i in sorted(zip(sources.tolist(), targets.tolist(), strict=True)):
        if not 1 <= fan_in <= sizes[j]:
            problem = f"area {labels[j]!r} has {sizes[j]} units"
            advice = f"give a fan_in of 1..{min(sizes)} or more units."
            raise ConnectomeError(f"fan_in is {fan_in}, but {problem}; {advice}")
        weight = float(areas.weights[i, j])
        synapse = Constant(gain * weight / fan_in)
        graph.add_projection(labels[j], labels[i], fan_in=fan_in, initializer=synapse)
        edge = graph.edges[labels[j], labels[i], "default"]
        edge["weight"] = weight
        if areas.lengths is not None:
            edge["length"], edge["delay"] = float(areas.lengths[i, j]), float(areas.lengths[i, j]) / speed
    synapses = fan_in * np.array(sizes)
    onto = synapses * np.bincount(targets, minlength=len(labels))
    out_of = np.bincount(sources, synapses[targets], minlength=len(labels)).astype(np.int64)
    total, drawn = sum(sizes), int(onto.sum())
    first = np.cumsum([0, *sizes[:-1]])  # the rows need sums by area only
    of_units = np.zeros((2, total), dtype=np.int64)
    of_units[:, first] = onto, out_of
    each = f"{len(sources):,} connections of areas, each {fan_in} synapses onto every target unit"
    delays = "without tract_lengths.txt, nothing has a delay"
    if areas.lengths is not None:
        delays = f"delays are length / {speed:g} mm/ms"
    report = ImportReport(
        source=str(root), rows=dict.fromkeys(("centres.txt", "weights.txt"), len(labels)),
        neurons=total, isolated=int(np.array(sizes)[(onto == 0) & (out_of == 0)].sum()),
        synapses=float(areas.weights.sum()), edges=len(sources), merged=drawn, density=drawn / total**2,
        signs={"neurons: areas excite": total}, weights=f"{gain:g} * weight / fan-in",
        regions=region_rows(graph, *of_units), projections=graph.number_of_edges(),
        notes=(f"rows of weights.txt are targets; {each}", *areas.unused, delays),
    )  # fmt: skip
    return graph, report


@dataclass(frozen=True, eq=False)
class Areas:
    """The n areas of an archive: labels, hemispheres, centres (n, 3), weights and tract lengths (n, n)."""

    labels: list[str]
    parents: list[str | None]
    centres: NDArray[np.float64]
    weights: NDArray[np.float64]
    lengths: NDArray[np.float64] | None
    unused: list[str]


def _areas(root: Path) -> Areas:
    files = _files(root)
    labels, centres = _centres(root, files["centres"])
    n = len(labels)
    matrices: dict[str, NDArray[np.float64]] = {}
    for stem in ("weights", "tract_lengths"):
        if stem not in files:
            continue
        values = matrices[stem] = _numbers(root, files[stem], limit=SPARED + 64 * n**2)
        if values.shape != (n, n):
            shape = f"{values.shape[0]} x {values.shape[1]}"
            raise ConnectomeError(f"{root}: {stem}.txt is {shape}, but centres.txt has {n} areas.")
        for i, j in np.argwhere(values < 0)[:1]:
            where = f"{root}: {stem}.txt, line {i + 1}, column {j + 1}"
            raise ConnectomeError(f"{where}: {values[i, j]:g} is negative.")
    parents: list[str | None] = [None] * n
    if "hemispheres" in files:
        right = _numbers(root, files["hemispheres"]).reshape(-1)
        if len(right) != n:
            raise ConnectomeError(f"{root}: hemispheres.txt has {len(right)} lines for {n} areas.")
        if not np.isin(right, (0, 1)).all():
            raise ConnectomeError(f"{root}: hemispheres.txt has a number other than 0 (left) and 1 (right).")
        parents = ["right" if r else "left" for r in right]
    used = {"weights", "centres", "tract_lengths", "hemispheres"}
    unused = [f"not used: {file}" for stem, file in sorted(files.items()) if stem not in used]
    return Areas(labels, parents, centres, matrices["weights"], matrices.get("tract_lengths"), unused)


def _files(root: Path) -> dict[str, str]:
    """Find the members by stem: weights, centres, ...."""
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
    for needed in ("weights", "centres"):
        if needed not in stems:
            listed = ", ".join(sorted(names)[:10]) or "nothing"
            raise ConnectomeError(f"{root}: {needed}.txt is missing; the archive has {listed}.")
    return stems


def _lines(root: Path, member: str, limit: int) -> Iterator[tuple[str, list[str]]]:
    """Yield location and cells of every line that is neither blank nor a comment."""
    try:
        text = content(root, member, limit).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConnectomeError(f"{root}: {member} is not UTF-8 text; save it as UTF-8.") from None
    for k, line in enumerate(split_lines(text), start=1):
        if line.strip() and not line.startswith("#"):
            yield f"{root}: {member}, line {k}", line.replace(",", " ").split()


def _numbers(root: Path, member: str, limit: int = SPARED) -> NDArray[np.float64]:
    """Read a table of finite numbers."""
    rows: list[list[float]] = []
    for where, cells in _lines(root, member, limit):
        rows.append([_finite(cell, f"{where}, column {k}") for k, cell in enumerate(cells, start=1)])
        if len(cells) != len(rows[0]):
            raise ConnectomeError(f"{where}: {len(cells)} columns, but the first line has {len(rows[0])}.")
    if not rows:
        raise ConnectomeError(f"{root}: {member} is empty.")
    return np.array(rows)


def _finite(cell: str, where: str) -> float:
    if not is_number(cell):
        raise ConnectomeError(f"{where}: {cell!r:.80} is not a number.")
    if not np.isfinite(float(cell)):
        raise ConnectomeError(f"{where}: {cell} is not finite.")
    return float(cell)


def _centres(root: Path, member: str) -> tuple[list[str], NDArray[np.float64]]:
    centres: dict[str, list[float]] = {}
    for where, cells in _lines(root, member, SPARED):
        if len(cells) != 4:
            raise ConnectomeError(f"{where}: {len(cells)} columns; a label and x, y, z are needed.")
        if cells[0] in centres:
            raise ConnectomeError(f"{where}: area {cells[0]!r} is there twice; labels must differ.")
        numbers = enumerate(cells[1:], start=2)
        centres[cells[0]] = [_finite(cell, f"{where}, column {k}") for k, cell in numbers]
    if not centres:
        raise ConnectomeError(f"{root}: {member} is empty.")
    return list(centres), np.array(list(centres.values()))


def _units(units: int | Mapping[str, int], labels: list[str]) -> list[int]:
    if not isinstance(units, Mapping):
        sizes = [units] * len(labels)
    else:
        for name in units:
            if name not in labels:
                hint = suggest(name, labels, what="areas")
                raise ConnectomeError(f"units: area {name!r} does not exist. {hint}")
        without = [label for label in labels if label not in units]
        if without:
            raise ConnectomeError(f"units: area {without[0]!r} has none ({len(without)} areas have none).")
        sizes = [units[label] for label in labels]
    for label, size in zip(labels, sizes, strict=True):
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or not 1 <= size < 2**31:
            problem = f"area {label!r} has {size!r}; a whole number of at least 1 is needed."
            raise ConnectomeError(f"units: {problem}")
    return sizes
