"""Edges that `write_sonata` wrote, checked: the synapses of projections, in memory or left in their file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.declaration.explicit_synapses import Coordinates, StoredBlock, SynapseArrays
from sparse_mrnn.declaration.fields import ByUnit, Field, checked
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.declaration.projection_columns import ProjectionColumns
from sparse_mrnn.declaration.projections import PROJECTION_FIELDS, PROJECTION_SIGNS, kept
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.files.digest import digest
from sparse_mrnn.interop.sonata_files import (
    EDGE_FIELDS,
    NetworkFiles,
    Row,
    TypeTable,
    column,
    dataset,
    indices,
    opened,
)
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.lowering.sampling import BAND_ROWS

CHUNK = 2**22
"""Edges whose targets are read at once, to find which edges are onto which units."""
Int64 = NDArray[np.int64]


def check_numbering(group: Any, name: str, part: slice = slice(None)) -> None:
    """Refuse a dataset that does not number the nodes or edges in their order, as `write_sonata` does."""
    values = column(group, name, "u", part=part)
    first = part.start or 0
    if (values != np.arange(first, first + len(values))).any():
        raise ConnectomeError(f"{group.file.filename}: {group.name}/{name} does not count from 0.")


def parsed(fields: Mapping[str, Field], row: Row, by_unit: ByUnit, before: str, after: str) -> dict[str, Any]:
    """Read declared fields from the cells of a types CSV and, for regions, the attributes of their nodes."""
    found = {}
    for name, field in fields.items():
        cells = [row[column] for column in field.columns]
        try:
            found[name] = field.kind.parse(field.column, cells, by_unit)
        except (ValueError, KeyError):
            problem = f"{', '.join(field.columns)}{after} is {', '.join(map(repr, cells)):.80}"
            raise ConnectomeError(f"{before}{problem}, which it cannot be.") from None
    return found


class EdgeTypes:
    """The types of a population's edges, rows of the types CSV: one for each projection, with its regions."""

    def __init__(self, files: NetworkFiles, table: TypeTable, targets: Layout, sources: Layout) -> None:
        self.files, self.table, self.targets, self.sources = files, table, targets, sources
        self.ids = table.ids
        self._target = self._regions("target_region", targets)
        self._source = self._regions("source_region", sources)
        self.first_row, self.first_col = targets.ptr[self._target], sources.ptr[self._source]
        self.n_rows, self.n_cols = np.diff(targets.ptr)[self._target], np.diff(sources.ptr)[self._source]
        self.inherits = table.equals("sign", "inherit")
        self.signs = table.from_labels("sign", lambda sign: PROJECTION_SIGNS.get(str(sign), 0), np.int8)
        electrical = table.equals("kind", "electrical")  # whatever the sign of its source
        self.inherits, self.signs = self.inherits & ~electrical, np.where(electrical, 1, self.signs)

    def __len__(self) -> int:
        return len(self.ids)

    def _regions(self, end: str, layout: Layout) -> Int64:
        found = self.table.from_labels(end, lambda name: layout.index.get(str(name), -1), np.int64)
        for k in np.flatnonzero(found < 0)[:1]:
            problem = f"{end} {self.table.row(int(k))[end]!r} is not a region of the nodes."
            raise ConnectomeError(f"{self.files.edge_types}: {problem}")
        return found

    def shape(self, k: int) -> tuple[int, int]:
        """Count the target and source units of a projection."""
        return int(self.n_rows[k]), int(self.n_cols[k])

    def columns(
        self, graph: RegionGraph, arrays: SynapseArrays, start: Int64, stop: Int64
    ) -> ProjectionColumns:
        """Make the projections of all types, whose synapses are ranges of arrays."""
        numbers = {name: k for k, name in enumerate(graph)}
        source, target = (
            np.array([numbers[region.name] for region in layout.regions], dtype=np.int32)[of_type]
            for layout, of_type in ((self.sources, self._source), (self.targets, self._target))
        )
        first, setting = self.table.group(["key", *(c for f in EDGE_FIELDS.values() for c in f.columns)])
        settings = tuple(self._settings(self.table.row(k)) for k in first.tolist())
        return ProjectionColumns.of_ranges(source, target, setting, settings, arrays, start, stop)

    def _settings(self, row: Row) -> tuple[str, dict[str, Any]]:
        """Read the key and the settings of a projection from its row."""
        where = f"{self.files.edge_types}: "
        given = parsed(EDGE_FIELDS, row, lambda *_: None, where, f" of type {row['edge_type_id']}")
        return str(row["key"]), kept(checked(PROJECTION_FIELDS, where, given))


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of a population that fit their types, sorted by type."""

    arrays: SynapseArrays
    start: Int64  # and stop, shape (types,): the range of each type
    stop: Int64

    def columns(self, types: EdgeTypes, graph: RegionGraph) -> ProjectionColumns:
        """Make the projections of all types, if these are all edges."""
        return types.columns(graph, self.arrays, self.start, self.stop)


def read_edges(group: Any, types: EdgeTypes, part: slice = slice(None)) -> Edges:
    """Read the edges of a population, or a part of them, and sort them by type.

    An edge that does not fit its type is refused, and so is another order than by target and source.
    """

    def refuse(problem: str) -> NoReturn:
        raise ConnectomeError(f"{types.files.edges}: {problem}")

    check_numbering(group, "edge_group_index", part)
    n = len(dataset(group, "edge_type_id", "iu"))
    of_edge = column(group, "edge_type_id", "iu", n, part).astype(np.int64)
    order = np.argsort(of_edge, kind="stable")
    of_edge = of_edge[order]
    target = indices(group, "target_node_id", types.targets.n, n, part)[order]
    source = indices(group, "source_node_id", types.sources.n, n, part)[order]
    weight = column(group["0"], "syn_weight", "f", n, part)[order]
    start, stop = (np.searchsorted(of_edge, types.ids, end) for end in ("left", "right"))
    lengths = stop - start
    if lengths.sum() != len(weight):
        refuse(f"some edges have a type that {Path(types.files.edge_types or '').name} does not have.")

    def within(units: Int64, first: Int64, sizes: Int64) -> NDArray[np.int32]:
        local = units - np.repeat(first, lengths)
        if ((local < 0) | (local >= np.repeat(sizes, lengths))).any():
            refuse("an edge leads outside of the regions of its type.")
        return local.astype(np.int32)

    to, from_ = within(target, types.first_row, types.n_rows), within(source, types.first_col, types.n_cols)
    same_type, rows, cols = (np.diff(values) for values in (of_edge, target, source))
    if ((same_type == 0) & ((rows < 0) | ((rows == 0) & (cols <= 0)))).any():
        refuse("edges are not sorted by target and source, or one is there twice.")
    inherits, of_type = (np.repeat(of_types, lengths) for of_types in (types.inherits, types.signs))
    sign = np.where(inherits, types.sources.unit_signs[source], of_type)
    for k in np.flatnonzero(~np.isfinite(weight) | (np.sign(weight) * sign < 0))[:1]:
        problem = f"weight {weight[k]:g}, which is not finite or against the sign of its source."
        refuse(f"edge {(part.start or 0) + order[k]} has {problem}")
    return Edges(SynapseArrays(to, from_, weight), start, stop)


class StoredEdges:
    """The edges of a population in their file, read for one band of target units at a time.

    All are read once, band by band, to check and to count them. Then one band is in memory, until each of
    its edges has been asked for (docs/decisions/0011). The ``file`` is open now, and is opened again when
    edges are needed. ``counts``, ``fan_in``, ``dtype`` and ``digest`` are those of `StoredSynapses`.
    """

    def __init__(self, file: Any, population: str, types: EdgeTypes) -> None:
        self.population, self.types = population, types
        group = self._group(file)
        self.dtype: np.dtype[Any] = dataset(group["0"], "syn_weight", "f").dtype
        self.fan_in = self._count_by_target(group)
        units = np.arange(0, types.targets.n, BAND_ROWS)
        of_band = np.add.reduceat(self.fan_in, units) if len(self.fan_in) else units
        self._first_edge = np.concatenate([[0], np.cumsum(of_band)])  # of each band
        self._before = np.zeros((len(types), len(units) + 1), dtype=np.int64)  # of a type, by band
        self._digests = [""] * len(units)
        self._edges: Edges | None = None
        self._band, self._awaited = -1, 0  # the band in memory, and how many of its edges were not asked for
        for band in range(len(units)):
            edges = read_edges(group, types, self._part(band))
            self._before[:, band + 1] = self._before[:, band] + edges.stop - edges.start
            self._digests[band] = _digest(edges)
        self.counts = self._before[:, -1]
        self.digest = digest(self._digests)

    def columns(self, graph: RegionGraph) -> ProjectionColumns:
        """Make the projections of all types, whose synapses are left in their file."""
        none = np.zeros(len(self.types), dtype=np.int64)
        nothing = SynapseArrays(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, self.dtype))
        found = self.types.columns(graph, nothing, none, none)
        blocks = [StoredBlock(self, k, self.types.shape(k)) for k in range(len(self.types))]
        settings = zip((found.settings[k] for k in found.setting), blocks, strict=True)
        own = tuple((key, {**attrs, "weights": block}) for (key, attrs), block in settings)
        return ProjectionColumns.of_ranges(found.source, found.target, np.arange(len(own)), own)

    def entries_onto(self, projection: int, start: int, stop: int) -> slice:
        """Find synapses onto some units, as `StoredSynapses.entries_onto`."""
        return slice(self._entries_before(projection, start), self._entries_before(projection, stop))

    def coordinates(self, projection: int, entries: slice) -> Coordinates:
        """Read some synapses, as `StoredSynapses.coordinates`."""
        before = self._before[projection]
        found = []
        for band in range(len(before) - 1):
            first, last = max(entries.start, before[band]), min(entries.stop, before[band + 1])
            if first < last:
                edges, arrays = self._read(band), self._read(band).arrays
                here = slice(*(int(edges.start[projection] + k - before[band]) for k in (first, last)))
                found.append((arrays.rows[here], arrays.cols[here], arrays.values[here]))
                self._awaited -= here.stop - here.start
                if self._awaited <= 0:
                    self._edges = None
        none = np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, self.dtype)
        if len(found) == 1:
            return found[0]
        rows, cols, values = (np.concatenate(part) for part in zip(*found, strict=True)) if found else none
        return rows, cols, values

    def _entries_before(self, projection: int, row: int) -> int:
        """Count the synapses of a projection onto units before a row of its target region."""
        types = self.types
        if row >= types.n_rows[projection]:
            return int(self.counts[projection])
        band, within = divmod(int(types.first_row[projection]) + row, BAND_ROWS)
        before = int(self._before[projection, band])
        if within == 0 or row == 0 or before == self._before[projection, band + 1]:
            return before if row else 0
        edges = self._read(band)
        rows = edges.arrays.rows[edges.start[projection] : edges.stop[projection]]
        return before + int(np.searchsorted(rows, row))

    def _read(self, band: int) -> Edges:
        """Return the edges of a band, in memory or read again; refuse a file that has changed."""
        if self._edges is None or self._band != band:
            self._edges = None
            path = self.types.files.edges
            with opened(path) as file:
                edges = read_edges(self._group(file), self.types, self._part(band))
            if _digest(edges) != self._digests[band]:
                raise ConnectomeError(f"{path} has changed since it was read first; read the network again.")
            self._edges, self._band, self._awaited = edges, band, len(edges.arrays.values)
        return self._edges

    def _part(self, band: int) -> slice:
        return slice(int(self._first_edge[band]), int(self._first_edge[band + 1]))

    def _group(self, file: Any) -> Any:
        return file[f"edges/{self.population}"]

    def _count_by_target(self, group: Any) -> Int64:
        """Count the edges onto each unit; their targets must ascend."""
        n = len(dataset(group, "edge_type_id", "iu"))
        found, last = np.zeros(self.types.targets.n, dtype=np.int64), 0
        for begin in range(0, n, CHUNK):
            part = slice(begin, min(begin + CHUNK, n))
            target = indices(group, "target_node_id", len(found), n, part)
            if (np.diff(target, prepend=last) < 0).any():
                problem = "edges are not sorted by their targets, so they cannot be read by rows."
                raise ConnectomeError(f"{self.types.files.edges}: {problem}")
            last = int(target[-1])
            found += np.bincount(target, minlength=len(found))
        return found


def _digest(edges: Edges) -> str:
    return digest(edges.start, edges.arrays.rows, edges.arrays.cols, edges.arrays.values)
