"""The one path from a neuron table and an edge table to a RegionGraph with explicit projections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.connectome.column_table import ColumnTable, arrow
from sparse_mrnn.connectome.regions import Regions, find_regions
from sparse_mrnn.connectome.report import ImportReport, RegionRow
from sparse_mrnn.connectome.settings import Settings
from sparse_mrnn.connectome.signs import Signs, find_signs
from sparse_mrnn.errors import ConnectomeError, suggest
from sparse_mrnn.graph import RegionGraph
from sparse_mrnn.spectral import spectral_radius

Int32 = NDArray[np.int32]
SCALES = {
    "none": "the synapse count",
    "fraction": "the synapse count as a fraction of all counts onto the target neuron",
    "log": "log(1 + synapse count)",
}


@dataclass(frozen=True, eq=False)
class ConnectomeTables:
    """What an importer found: two tables and which columns matter.

    Parameters
    ----------
    label : str
        What was imported, for the report.
    edges : ColumnTable
    source, target : str
        Columns of ``edges`` with neuron ids.
    weight : str, optional
        Column of ``edges``; None: every row is one synapse.
    neurons : ColumnTable, optional
        None: the neurons are those with edges.
    neuron : str, optional
        Column of ``neurons`` with ids.
    positions : ndarray, shape (rows of neurons, dimensions), optional
    notes : tuple of str
    """

    label: str
    edges: ColumnTable
    source: str
    target: str
    weight: str | None
    neurons: ColumnTable | None = None
    neuron: str | None = None
    positions: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()


def graph_from_tables(tables: ConnectomeTables, settings: Settings) -> tuple[RegionGraph, ImportReport]:
    """Turn tables into a graph. O(rows log rows) time; the tables themselves are not copied.

    Raises
    ------
    ConnectomeError
        If a value, an id or an option does not fit; the message says where and what to do.
    """
    dropped: dict[str, int] = {}
    if len(tables.edges) == 0 and tables.neurons is None:
        raise ConnectomeError(f"{tables.edges.name}: there is a header but no rows, and no neuron table.")
    for column in settings.region_columns + [c for c in (settings.transmitter, settings.sign) if c]:
        _somewhere(column, tables)
    ids, source, target, extra = _endpoints(tables, settings, dropped)
    weight = _weights(tables, settings)
    used = (source >= 0) & (target >= 0)
    if not used.all():
        dropped["edges with a neuron that the neuron table does not have"] = int((~used).sum())
    chosen = _selected(tables, settings, ids, extra)
    if chosen is not None:
        outside = used & ~(chosen[source] & chosen[target])
        dropped["edges with a neuron outside the selection"] = int(outside.sum())
        dropped["neurons outside the selection"] = int((~chosen).sum())
        used &= ~outside
    if not settings.self_connections:
        own = used & (source == target)
        dropped["connections of a neuron with itself"] = int(own.sum())
        used &= ~own
    names = ids.to_numpy(zero_copy_only=False)
    regions = find_regions(tables.neurons, tables.edges, extra, len(ids), (source, target), np.abs(weight), used, settings)
    signs = find_signs(tables.neurons, tables.edges, extra, source, weight, used, names, settings)
    groups = _thresholded(_groups(tables.edges, settings, signs, source, target, weight, used, len(ids)), settings, dropped)
    rows = int(used.sum())
    del source, target, weight, used

    keep = np.ones(len(ids), dtype=bool) if chosen is None else chosen.copy()
    degree = sum((np.diff(m.indptr) + np.bincount(m.indices, minlength=len(ids)) for m in groups.values()), np.zeros(len(ids), np.int64))
    isolated = keep & (degree == 0)
    if not settings.keep_isolated:
        dropped["neurons without a connection"] = int(isolated.sum())
        keep &= ~isolated
        isolated[:] = False
    if not keep.any():
        raise ConnectomeError(f"{tables.label}: no neuron is left; loosen select=, min_count= or keep_isolated=.")
    order = np.flatnonzero(keep)
    order = order[np.argsort(regions.code[order], kind="stable")]
    groups = _ordered(groups, order)
    synapses = float(sum(np.abs(m.data).sum() for m in groups.values()))
    how = _scale(groups, settings, tables.label)

    graph = RegionGraph(name=settings.name)
    unit_signs = np.zeros(len(ids), dtype=np.int8) if signs.neurons is None else signs.neurons
    _add_regions(graph, order, names, regions, unit_signs, tables.positions)
    for (key, sign), matrix in groups.items():
        if settings.counts:
            matrix.data = matrix.data.astype(np.float32)
        graph.add_projections(matrix, key=key, sign=PROJECTION_SIGN[sign], trainable=settings.trainable)
    return graph, _report(tables, dropped, graph, groups, unit_signs[order], int(isolated.sum()), rows, synapses, signs, regions, how)


REGION_SIGN: dict[int, str | None] = {1: "pos", -1: "neg", 0: None}
PROJECTION_SIGN: dict[int | None, str] = {1: "pos", -1: "neg", 0: "free", None: "inherit"}
SIGN_KEYS = {1: "excitatory", -1: "inhibitory", 0: "unsigned"}
Groups = dict[tuple[str, int | None], sp.csr_array]


def _somewhere(column: str, tables: ConnectomeTables) -> None:
    """Fail early for a column that neither table has."""
    both = [t for t in (tables.neurons, tables.edges) if t is not None]
    if not any(column in t.columns for t in both):
        known = list(dict.fromkeys(c for t in both for c in (t.known or t.columns)))
        hint = suggest(column, known, what="columns")
        listed = f" The columns are {', '.join(map(repr, known))}." if hint.startswith("Did") else ""
        raise ConnectomeError(f"{' and '.join(t.name for t in both)}: there is no column {column!r}. {hint}{listed}")


def _endpoints(tables: ConnectomeTables, settings: Settings, dropped: dict[str, int]) -> tuple[Any, Int32, Int32, int]:
    """Ids of the neurons (a pyarrow array), both ends of every edge as places among them (-1: unknown), neurons added."""
    pa = arrow()
    pc = pa.compute
    ends = [tables.edges.ids(tables.source), tables.edges.ids(tables.target)]
    known = None
    if tables.neurons is not None:
        known = tables.neurons.ids(tables.neuron or tables.neurons.columns[0])
        if len(known) == 0:
            raise ConnectomeError(f"{tables.neurons.name}: there is a header but no rows.")
    if any(pa.types.is_string(a.type) for a in (*ends, *([] if known is None else [known]))):
        ends = [a.cast(pa.string()) for a in ends]
        known = None if known is None else known.cast(pa.string())
    if known is None:
        ids = pc.unique(pa.chunked_array(ends))
        return _indexed(ids.take(pc.sort_indices(ids)), ends, 0)
    once = pc.value_counts(known)
    if len(once) != len(known):
        twice = once.filter(pc.greater(once.field("counts"), 1))
        again = twice.field("values")[0]
        row = int(np.flatnonzero(pc.equal(known, again).to_numpy(zero_copy_only=False))[1])
        raise ConnectomeError(
            f"{tables.neurons.location(row, str(tables.neuron))}: neuron {again.as_py()} is there "  # type: ignore[union-attr]
            f"{twice.field('counts')[0].as_py()} times ({len(twice):,} neurons are repeated). Keep one row for each neuron."
        )
    _, source, target, _ = _indexed(known, ends, 0)
    missing = (source < 0) | (target < 0)
    if missing.any() and settings.unknown == "error":
        row = int(np.flatnonzero(missing)[0])
        side = 0 if source[row] < 0 else 1
        raise ConnectomeError(
            f"{tables.edges.location(row, (tables.source, tables.target)[side])}: neuron {ends[side][row].as_py()} is not in "
            f"{tables.neurons.name} ({int(missing.sum()):,} of {len(missing):,} edges have such a neuron). "  # type: ignore[union-attr]
            "Choose unknown='drop' to leave these edges out (they are counted) or unknown='keep' to add the neurons."
        )
    if missing.any() and settings.unknown == "keep":
        new = pc.unique(pa.chunked_array([end.filter(pa.array(place < 0)) for end, place in zip(ends, (source, target), strict=True)]))
        dropped["(neurons added from the edge table, without any other column)"] = len(new)
        return _indexed(pa.concat_arrays([known, new.take(pc.sort_indices(new))]), ends, len(new))
    return known, source, target, 0


def _indexed(ids: Any, ends: list[Any], extra: int) -> tuple[Any, Int32, Int32, int]:
    pc = arrow().compute
    source, target = (pc.index_in(end, value_set=ids).fill_null(-1).to_numpy(zero_copy_only=False) for end in ends)
    return ids, source, target, extra


def _weights(tables: ConnectomeTables, settings: Settings) -> NDArray[np.float64]:
    """Synapse counts (checked) or real weights of every edge row."""
    if tables.weight is None:
        return np.ones(len(tables.edges))
    weight = tables.edges.numbers(tables.weight)
    if settings.counts:
        for bad, what in ((weight < 0, "negative"), (weight != np.floor(weight), "no whole number")):
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise ConnectomeError(
                    f"{tables.edges.location(row, tables.weight)}: the synapse count {weight[row]:g} is {what} ({int(bad.sum()):,} are). "
                    "Correct it, or say counts=False if these are real-valued weights."
                )
    elif (weight < 0).any() and (settings.transmitter or settings.sign):
        row = int(np.flatnonzero(weight < 0)[0])
        raise ConnectomeError(
            f"{tables.edges.location(row, tables.weight)}: the weight {weight[row]:g} is negative, but signs come from column "
            f"{settings.transmitter or settings.sign!r}. Give one or the other."
        )
    return weight


def _selected(tables: ConnectomeTables, settings: Settings, ids: Any, extra: int) -> NDArray[np.bool_] | None:
    """Which neurons ``select`` keeps."""
    if settings.select is None:
        return None
    pa = arrow()
    if not isinstance(settings.select, Mapping):
        wanted = pa.array(list(settings.select))
        if pa.types.is_floating(wanted.type):
            raise ConnectomeError(
                "select: ids are floating-point numbers, and 64-bit ids lose their last digits so; give integers or text."
            )
        try:
            wanted = wanted.cast(ids.type)
        except pa.ArrowInvalid as error:
            raise ConnectomeError(f"select: {error}; the ids are of type {ids.type}.") from None
        absent = wanted.filter(pa.compute.invert(pa.compute.is_in(wanted, value_set=ids)))
        if len(absent):
            raise ConnectomeError(f"select: {len(absent)} ids are no neurons here, first {absent[0].as_py()}.")
        found: NDArray[np.bool_] = pa.compute.is_in(ids, value_set=wanted).to_numpy(zero_copy_only=False)
        return found
    if tables.neurons is None:
        raise ConnectomeError("select by column needs a neuron table; give neurons=, or select by ids.")
    keep = np.ones(len(ids), dtype=bool)
    keep[len(ids) - extra :] = False
    for column, values in settings.select.items():
        codes, labels = tables.neurons.labels(tables.neurons.need(column))
        values = [values] if isinstance(values, (str, int)) else list(values)
        for value in values:
            if str(value) not in labels:
                raise ConnectomeError(f"select: column {column!r} has no value {str(value)!r}. {suggest(value, labels, what='values')}")
        good = np.array([*(label in {str(v) for v in values} for label in labels), False])
        keep[: len(codes)] &= good[codes]
    return keep


def _groups(
    edges: ColumnTable,
    settings: Settings,
    signs: Signs,
    source: Int32,
    target: Int32,
    weight: NDArray[np.float64],
    used: NDArray[np.bool_],
    n: int,
) -> Groups:
    """Signed connections by projection key and, where every synapse has its own, sign. Rows between the same neurons are summed."""
    code, labels = np.zeros(len(source), dtype=np.int32), ["default"]
    if settings.parallel != "sum":
        code, labels = edges.labels(edges.need(settings.parallel))
        code, labels = np.where(code < 0, len(labels), code).astype(np.int32), [*labels, settings.missing_region]
    per_synapse = signs.edges is not None
    if signs.edges is not None:
        code = code * 3 + signs.edges + 1
    if len(labels) == 1 and not per_synapse:
        parts: list[tuple[int, Any]] = [(0, slice(None) if used.all() else np.flatnonzero(used))]
    else:
        order = np.argsort(np.where(used, code, -1), kind="stable")[int((~used).sum()) :]
        parts = [(int(code[piece[0]]), piece) for piece in np.split(order, np.flatnonzero(np.diff(code[order])) + 1) if len(piece)]
    out: Groups = {}
    for group, here in parts:
        sign = signs.neurons[source[here]] if signs.neurons is not None else signs.edges[here]  # type: ignore[index]
        value = np.where(sign == 0, weight[here], np.abs(weight[here]) * sign)
        label, own = (labels[group // 3], group % 3 - 1) if per_synapse else (labels[group], None)
        if own is not None:
            label = SIGN_KEYS[own] if labels == ["default"] else f"{label} {SIGN_KEYS[own]}"
        out[label, own] = sp.coo_array((value, (target[here], source[here])), shape=(n, n)).tocsr()
    return out


def _thresholded(groups: Groups, settings: Settings, dropped: dict[str, int]) -> Groups:
    """Without pairs of neurons below ``min_count`` synapses in all, and without connections of no synapse."""
    zeros = sum(int((m.data == 0).sum()) for m in groups.values())
    if zeros:
        dropped["connections with a count or weight of zero"] = zeros
        for matrix in groups.values():
            matrix.eliminate_zeros()
    if settings.min_count <= 0 or not groups:
        return groups
    total = _sum([abs(m) for m in groups.values()])
    keep = sp.csr_array((total.data >= settings.min_count, total.indices, total.indptr), shape=total.shape)
    dropped[f"pairs of neurons with fewer than {settings.min_count:g} synapses"] = int((~keep.data).sum())
    keep.eliminate_zeros()
    return {group: matrix.multiply(keep).tocsr() for group, matrix in groups.items()}


def _ordered(groups: Groups, order: NDArray[np.int64]) -> Groups:
    """Matrices over the units in their order in the graph."""
    first = next(iter(groups.values()), None)
    if first is None or (len(order) == first.shape[0] and (order == np.arange(len(order))).all()):
        return groups
    place = np.full(first.shape[0], -1, dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    out: Groups = {}
    for group, matrix in groups.items():
        part = matrix[order]
        part = sp.csr_array((part.data, place[part.indices], part.indptr), shape=(len(order), len(order)))
        part.sort_indices()
        out[group] = part
    return out


def _scale(groups: Groups, settings: Settings, label: str) -> str:
    """Turn counts into weights, in place; returns how."""
    how = (
        SCALES[settings.scale]
        if settings.counts
        else SCALES[settings.scale].replace("synapse count", "weight").replace("counts", "|weights|")
    )
    matrices = list(groups.values())
    if settings.scale == "fraction":
        total = sum(
            (np.bincount(_rows(m), np.abs(m.data), m.shape[0]) for m in matrices), np.zeros(matrices[0].shape[0] if matrices else 0)
        )
        for m in matrices:
            m.data /= np.repeat(total, np.diff(m.indptr))
    elif settings.scale == "log":
        for m in matrices:
            m.data = np.sign(m.data) * np.log1p(np.abs(m.data))
    factor = settings.gain
    if factor != 1:
        how += f", times {factor:g}"
    if settings.spectral_radius is not None and matrices:
        radius = spectral_radius(_sum(matrices)) * factor
        if radius == 0:
            raise ConnectomeError(f"{label}: the graph has no cycle, so its spectral radius is 0 and cannot be scaled.")
        factor *= settings.spectral_radius / radius
        how += f", scaled to a spectral radius of {settings.spectral_radius:g} (times {factor:.6g} in all)"
    if factor != 1:
        for m in matrices:
            m.data *= factor
    return how


def _rows(matrix: sp.csr_array) -> Int32:
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))


def _sum(matrices: list[sp.csr_array]) -> sp.csr_array:
    total = matrices[0]
    for matrix in matrices[1:]:
        total = total + matrix
    return total.tocsr()


def _add_regions(
    graph: RegionGraph,
    order: NDArray[np.int64],
    names: NDArray[np.object_],
    regions: Regions,
    signs: NDArray[np.int8],
    positions: NDArray[np.float64] | None,
) -> None:
    """Add the regions that have neurons, with ids, signs and positions in unit order."""
    code = regions.code[order]
    begin = np.concatenate([[0], np.flatnonzero(np.diff(code)) + 1, [len(code)]])
    for start, stop in zip(begin[:-1].tolist(), begin[1:].tolist(), strict=True):
        units = order[start:stop]
        own = signs[units]
        sign = REGION_SIGN[int(own[0])] if (own == own[0]).all() else own
        where = None if positions is None or (units >= len(positions)).any() else positions[units]
        graph.add_region(
            regions.names[code[start]],
            stop - start,
            sign=sign,
            parent_region=regions.parents[code[start]],
            unit_ids=[str(name) for name in names[units]],
            positions=where if where is not None and np.isfinite(where).all() else None,
        )


def _report(
    tables: ConnectomeTables,
    dropped: dict[str, int],
    graph: RegionGraph,
    groups: Groups,
    signs: NDArray[np.int8],
    isolated: int,
    rows: int,
    synapses: float,
    found: Signs,
    regions: Regions,
    how: str,
) -> ImportReport:
    n, matrices = graph.n_units, list(groups.values())
    into = sum((np.diff(m.indptr) for m in matrices), np.zeros(n, dtype=np.int64))
    outof = sum((np.bincount(m.indices, minlength=n) for m in matrices), np.zeros(n, dtype=np.int64))
    table, start = [], 0
    for region in graph.regions():
        here = slice(start, start + region.n)
        start += region.n
        by_sign = np.bincount(signs[here] + 1, minlength=3).tolist()
        onto = int(into[here].sum())
        table.append(
            RegionRow(region.name, region.n, by_sign[2], by_sign[0], by_sign[1], onto, int(outof[here].sum()), onto / (region.n * n))
        )
    pairs = (
        _sum([sp.csr_array((np.ones(m.nnz, dtype=np.int32), m.indices, m.indptr), shape=m.shape) for m in matrices]).nnz
        if len(matrices) > 1
        else (matrices[0].nnz if matrices else 0)
    )
    read = {tables.edges.name: len(tables.edges)}
    if tables.neurons is not None:
        read = {tables.neurons.name: len(tables.neurons), **read}
    notes = list(tables.notes) + list(regions.notes)
    if tables.weight is None:
        notes.append("there is no column of weights, so every row is one synapse")
    if how == SCALES["none"]:
        notes.append("raw counts make activity grow without bound in most models; give a spectral radius or a scale to simulate")
    return ImportReport(
        tables.label,
        read,
        dropped,
        n,
        isolated,
        synapses,
        rows,
        sum(m.nnz for m in matrices),
        found.tally,
        how,
        tuple(table),
        graph.number_of_edges(),
        pairs / n**2,
        tuple(notes),
    )
