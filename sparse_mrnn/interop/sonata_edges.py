"""Edges that `write_sonata` wrote, checked: the synapses of projections, in memory or left in their file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.declaration.explicit_synapses import Coordinates, StoredBlock, SynapseArrays, SynapseBlock
from sparse_mrnn.declaration.fields import ByUnit, Field, checked
from sparse_mrnn.declaration.projections import PROJECTION_FIELDS, PROJECTION_SIGNS, kept
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.files.digest import digest
from sparse_mrnn.interop.sonata_files import NetworkFiles, Row, column, dataset, indices, opened
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.lowering.sampling import BAND_ROWS

Edge = tuple[str, str, str, dict[str, Any]]
Block = SynapseBlock | StoredBlock
CHUNK = 2**22
"""Edges whose targets are read at once, to find which edges are onto which units."""
Int64 = NDArray[np.int64]


def check_numbering(group: Any, name: str, part: slice = slice(None)) -> None:
    """A dataset that numbers the nodes or edges in their order, as `write_sonata` writes it."""
    values = column(group, name, "u", part=part)
    first = part.start or 0
    if (values != np.arange(first, first + len(values))).any():
        raise ConnectomeError(f"{group.file.filename}: {group.name}/{name} does not count from 0.")


EDGE_FIELDS = {name: field for name, field in PROJECTION_FIELDS.items() if name != "rank"}


def parsed(
    fields: Mapping[str, Field], row: Row, by_unit: ByUnit, before: str, after: str
) -> dict[str, Any]:
    """Declared fields, from the cells of a types CSV and, for regions, the attributes of their nodes.

    Raises
    ------
    ConnectomeError
        If a cell cannot be what its field is.
    """
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
    """The types of a population's edges, one for each projection, and the regions these are between.

    Parameters
    ----------
    files : NetworkFiles
    rows : list of dict
        Of the types CSV.
    targets, sources : Layout

    Raises
    ------
    ConnectomeError
        If a region does not exist.
    """

    def __init__(self, files: NetworkFiles, rows: list[Row], targets: Layout, sources: Layout) -> None:
        self.files, self.rows, self.targets, self.sources = files, rows, targets, sources
        self.ids = np.array([int(str(row["edge_type_id"])) for row in rows], dtype=np.int64)
        target, source = self._regions("target_region", targets), self._regions("source_region", sources)
        self.first_row, self.first_col = targets.ptr[target], sources.ptr[source]
        self.n_rows, self.n_cols = np.diff(targets.ptr)[target], np.diff(sources.ptr)[source]
        self.inherits = np.array([row["sign"] == "inherit" for row in rows], dtype=bool)
        self.signs = np.array([PROJECTION_SIGNS.get(str(row["sign"]), 0) for row in rows], dtype=np.int8)

    def _regions(self, end: str, layout: Layout) -> Int64:
        for row in self.rows:
            if row[end] not in layout.index:
                problem = f"{end} {row[end]!r} is no region of the nodes."
                raise ConnectomeError(f"{self.files.edge_types}: {problem}")
        return np.array([layout.index[str(row[end])] for row in self.rows], dtype=np.int64)

    def shape(self, k: int) -> tuple[int, int]:
        """Target and source units of a projection."""
        return int(self.n_rows[k]), int(self.n_cols[k])

    def projections(self, blocks: Sequence[Block]) -> Iterator[tuple[int, Edge]]:
        """Edge type and projection of every type, with its synapses."""
        for row, block in zip(self.rows, blocks, strict=True):
            where = f"{self.files.edge_types}: "
            given = parsed(EDGE_FIELDS, row, lambda *_: None, where, f" of type {row['edge_type_id']}")
            attrs = {**kept(checked(PROJECTION_FIELDS, where, given)), "weights": block}
            ends = str(row["source_region"]), str(row["target_region"]), str(row["key"])
            yield int(str(row["edge_type_id"])), (*ends, attrs)


class CheckedEdges:
    """Edges of all types, or those onto some units, sorted by type; edges that do not fit it are refused.

    Parameters
    ----------
    types : EdgeTypes
    first : int
        Number of the first one in the file.
    of_edge, target, source, weight : ndarray, shape (edges,)
        Type, units numbered in the network, and weight of each.

    Attributes
    ----------
    arrays : SynapseArrays
    start, stop : ndarray of int64, shape (types,)
        The range of each type.

    Raises
    ------
    ConnectomeError
        Naming the edge, or what is wrong with the order.
    """

    def __init__(
        self, types: EdgeTypes, first: int, of_edge: Int64, target: Int64, source: Int64, weight: NDArray[Any]
    ) -> None:
        self.types, self.first = types, first
        self.order = np.argsort(of_edge, kind="stable")
        of_edge, target, source = of_edge[self.order], target[self.order], source[self.order]
        weight = weight[self.order]
        self.start, self.stop = (np.searchsorted(of_edge, types.ids, end) for end in ("left", "right"))
        self.lengths = self.stop - self.start
        if self.lengths.sum() != len(weight):
            unknown = f"some edges have a type that {Path(types.files.edge_types or '').name} does not have."
            raise ConnectomeError(f"{types.files.edges}: {unknown}")
        rows = self._within(target, types.first_row, types.n_rows)
        cols = self._within(source, types.first_col, types.n_cols)
        self._check_order(of_edge, target, source)
        self._check_signs(weight, types.sources.unit_signs[source])
        self.arrays = SynapseArrays(rows, cols, weight)

    def blocks(self) -> list[SynapseBlock]:
        """The synapses of every type, where these are all edges."""
        ranges = zip(self.start.tolist(), self.stop.tolist(), strict=True)
        return [SynapseBlock(self.arrays, *ends, self.types.shape(k)) for k, ends in enumerate(ranges)]

    def _within(self, unit: Int64, first: Int64, sizes: Int64) -> NDArray[np.int32]:
        """Units at one end of the edges, numbered within their regions."""
        local = unit - np.repeat(first, self.lengths)
        if ((local < 0) | (local >= np.repeat(sizes, self.lengths))).any():
            problem = "an edge leads outside of the regions of its type."
            raise ConnectomeError(f"{self.types.files.edges}: {problem}")
        return local.astype(np.int32)

    def _check_order(self, of_edge: Int64, target: Int64, source: Int64) -> None:
        same_type, rows, cols = (np.diff(values) for values in (of_edge, target, source))
        if ((same_type == 0) & ((rows < 0) | ((rows == 0) & (cols <= 0)))).any():
            problem = "edges are not sorted by target and source, or one is there twice."
            raise ConnectomeError(f"{self.types.files.edges}: {problem}")

    def _check_signs(self, weight: NDArray[Any], of_source: NDArray[np.int8]) -> None:
        """Refuse weights against the sign of their source, or of their projection where it has one."""
        types = self.types
        inherits, of_type = (np.repeat(part, self.lengths) for part in (types.inherits, types.signs))
        against = np.sign(weight) * np.where(inherits, of_source, of_type) < 0
        wrong = ~np.isfinite(weight) | against
        for k in np.flatnonzero(wrong)[:1]:
            edge = f"edge {self.first + self.order[k]} has weight {weight[k]:g}"
            problem = "which is not finite or against the sign of its source."
            raise ConnectomeError(f"{types.files.edges}: {edge}, {problem}")


def read_edges(group: Any, types: EdgeTypes, part: slice = slice(None)) -> CheckedEdges:
    """The edges of a population, or a part of them."""
    check_numbering(group, "edge_group_index", part)
    n = len(dataset(group, "edge_type_id", "iu"))
    return CheckedEdges(
        types,
        part.start or 0,
        column(group, "edge_type_id", "iu", n, part).astype(np.int64),
        indices(group, "target_node_id", types.targets.n, n, part),
        indices(group, "source_node_id", types.sources.n, n, part),
        column(group["0"], "syn_weight", "f", n, part),
    )


class StoredEdges:
    """The edges of a population in their file, from which those onto a band of units are read at a time.

    All are read once, band by band, to check and to count them. As many edges as a band has are in memory,
    until each has been asked for (docs/decisions/0026).

    Parameters
    ----------
    file : h5py.File
        In which they are found; it is opened again when some are needed.
    population : str
    types : EdgeTypes

    Attributes
    ----------
    counts, fan_in, dtype, digest
        As of `StoredSynapses`.

    Raises
    ------
    ConnectomeError
        As `CheckedEdges`, or if the edges are not sorted by their targets.
    """

    def __init__(self, file: Any, population: str, types: EdgeTypes) -> None:
        self.population, self.types = population, types
        group = self._group(file)
        self.dtype: np.dtype[Any] = dataset(group["0"], "syn_weight", "f").dtype
        self.fan_in = self._count_by_target(group)
        units = np.arange(0, types.targets.n, BAND_ROWS)
        of_band = np.add.reduceat(self.fan_in, units) if len(self.fan_in) else units
        self._first_edge = np.concatenate([[0], np.cumsum(of_band)])  # of each band
        self._before = np.zeros((len(types.rows), len(units) + 1), dtype=np.int64)  # of a type, by band
        self._digests = [""] * len(units)
        self._edges: CheckedEdges | None = None
        self._band, self._awaited = -1, 0  # the band in memory, and how many of its edges were not asked for
        for band in range(len(units)):
            edges = read_edges(group, types, self._part(band))
            self._before[:, band + 1] = self._before[:, band] + edges.lengths
            self._digests[band] = _digest(edges)
        self.counts = self._before[:, -1]
        self.digest = digest(self._digests)

    def blocks(self) -> list[StoredBlock]:
        """The synapses of every type."""
        return [StoredBlock(self, k, self.types.shape(k)) for k in range(len(self.types.rows))]

    def entries_onto(self, projection: int, start: int, stop: int) -> slice:
        """As `StoredSynapses.entries_onto`."""
        return slice(self._entries_before(projection, start), self._entries_before(projection, stop))

    def coordinates(self, projection: int, entries: slice) -> Coordinates:
        """As `StoredSynapses.coordinates`."""
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
        """How many synapses of a projection are onto units before one of its target region."""
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

    def _read(self, band: int) -> CheckedEdges:
        """The edges of a band: those in memory, or read again and found to be as before."""
        if self._edges is None or self._band != band:
            self._edges = None
            path = self.types.files.edges
            with opened(path) as file:
                edges = read_edges(self._group(file), self.types, self._part(band))
            if _digest(edges) != self._digests[band]:
                raise ConnectomeError(f"{path} has changed since it was read first; read the network again.")
            self._edges, self._band, self._awaited = edges, band, len(edges.order)
        return self._edges

    def _part(self, band: int) -> slice:
        return slice(int(self._first_edge[band]), int(self._first_edge[band + 1]))

    def _group(self, file: Any) -> Any:
        return file[f"edges/{self.population}"]

    def _count_by_target(self, group: Any) -> Int64:
        """Edges onto each unit, whose targets ascend."""
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


def _digest(edges: CheckedEdges) -> str:
    return digest(edges.start, edges.arrays.rows, edges.arrays.cols, edges.arrays.values)
