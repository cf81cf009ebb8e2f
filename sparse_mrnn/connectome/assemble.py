"""The one path from a neuron table and an edge table to a RegionGraph with explicit projections."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.connectome.delays import Delays, delays_of
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, EdgeRows, edge_rows
from sparse_mrnn.connectome.regions import regions_of
from sparse_mrnn.connectome.report import ImportReport, region_rows
from sparse_mrnn.connectome.settings import ImportSettings
from sparse_mrnn.connectome.signs import Signs, signs_of
from sparse_mrnn.connectome.unit_columns import unit_columns, unit_values
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.spectral import spectral_radius

SCALES = {
    "none": "the synapse count",
    "fraction": "the synapse count as a fraction of all counts onto the target neuron",
    "log": "log(1 + synapse count)",
}
REGION_SIGN: dict[int, str | None] = {1: "pos", -1: "neg", 0: None}
PROJECTION_SIGN: dict[int | None, str] = {1: "pos", -1: "neg", 0: "free", None: "inherit"}
SIGN_KEYS = {1: "excitatory", -1: "inhibitory", 0: "unsigned"}

Matrices = dict[tuple[str, int | None, float | None], sp.csr_array]
"""Matrices (target, source) in the order of units, by projection key, and sign and delay of its synapses."""


def graph_from_tables(tables: ConnectomeTables, settings: ImportSettings) -> tuple[RegionGraph, ImportReport]:
    """Turn tables into a graph. O(rows log rows) time; the tables themselves are not copied."""
    if len(tables.edges) == 0 and tables.neurons is None:
        raise ConnectomeError(f"{tables.edges.name}: there is a header but no rows, and no neuron table.")
    tables.check([column for column in settings.kept_columns if column])
    of_rows = settings.transmitter, settings.sign, settings.confidence, settings.delay
    tables.check([column for column in (*settings.region_columns, *of_rows) if column])
    rows = edge_rows(tables, settings)
    regions, delays = regions_of(tables, rows, settings), delays_of(tables, rows, settings)
    signs, values = signs_of(tables, rows, settings), unit_values(tables, rows, settings)
    if tables.positions is not None:
        values = {"positions": tables.positions} | values
    columns = unit_columns(tables, rows, settings)
    order = np.argsort(np.where(rows.selected, regions.code, -1), kind="stable")
    units = order[len(order) - int(rows.selected.sum()) :]
    rows.in_order(units)  # before matrices are made, which need no other order then
    of_units = None if signs.per_synapse else signs.values[units]
    keys = _signed_matrices(tables, rows, signs, delays, of_units, settings)
    ids, dropped, edges = rows.ids.to_numpy(zero_copy_only=False), rows.dropped, int(rows.kept.sum())
    del rows  # large

    keys = _thresholded(keys, settings, dropped)
    isolated = np.add(*_degrees(keys.values(), len(units))) == 0
    if not settings.keep_isolated:
        dropped["neurons without a connection"] = int(isolated.sum())
        there = np.flatnonzero(~isolated)
        keys = {key: matrix[there][:, there] for key, matrix in keys.items()}
        ids, units, isolated = ids[there], units[there], isolated[:0]
    if not len(units):
        problem = "no neuron is left; loosen select=, min_count= or keep_isolated=."
        raise ConnectomeError(f"{tables.label}: {problem}")
    matrices = list(keys.values())
    with np.errstate(over="ignore"):  # weights that overflow are refused
        synapses = float(sum(np.abs(m.data).sum() for m in matrices))
        how = _scale(matrices, settings, tables.label)
        for matrix in matrices:
            matrix.data = matrix.data.astype(np.float32 if settings.counts else np.float64, copy=False)
            _refuse(tables.label, matrix, ids, matrix.data == 0, "rounds to 0")
            _refuse(tables.label, matrix, ids, ~np.isfinite(matrix.data), "is too large for a number")

    graph = RegionGraph(name=settings.name)
    unit_signs = np.zeros(len(units), dtype=np.int8) if signs.per_synapse else signs.values[units]
    code = regions.code[units]
    bounds = [0, *(np.flatnonzero(np.diff(code)) + 1).tolist(), len(units)]
    for start, stop in itertools.pairwise(bounds):
        region, members, of_units = code[start], units[start:stop], unit_signs[start:stop]
        graph.add_region(
            regions.names[region], len(members), parent_region=regions.parents[region],
            sign=REGION_SIGN[int(of_units[0])] if (of_units == of_units[0]).all() else of_units,
            unit_ids=[str(name) for name in ids[start:stop]],
            unit_table={name: column[members] for name, column in columns.items()} or None,
            **{name: _of_region(of_all, members) for name, of_all in values.items()},
        )  # fmt: skip
    for (key, sign, delay), matrix in keys.items():
        graph.add_projections(
            matrix, key=key, sign=PROJECTION_SIGN[sign], trainable=settings.trainable, delay=delay,
            share="projection" if settings.share == "cell types" else settings.share,
        )  # fmt: skip

    n = graph.n_units
    onto, out_of = _degrees(matrices, n)
    tables_read = [table for table in (tables.neurons, tables.edges) if table is not None]
    notes = [note for table in tables_read for note in table.notes]
    notes += [*tables.notes, *regions.notes, *(delays.notes if delays is not None else ())]
    notes += [f"{name} of units is {' '.join(c)} of the table" for name, c in settings.value_columns.items()]
    if columns:
        notes.append(f"units have the columns {', '.join(columns)} (net.units)")
    if tables.weight is None:
        notes.append("without a column of weights, every row is one synapse")
    if how == SCALES["none"]:
        raw = "raw counts make activity grow without bound in most models"
        notes.append(f"{raw}; give a spectral radius or a scale to simulate")
    report = ImportReport(
        source=tables.label, rows={table.name: table.rows_read for table in tables_read}, dropped=dropped,
        neurons=n, isolated=int(isolated.sum()), edges=edges, synapses=synapses,
        merged=sum(m.nnz for m in matrices), density=_pairs(matrices) / n**2, signs=signs.tally, weights=how,
        regions=region_rows(graph, onto, out_of), projections=graph.number_of_edges(), notes=tuple(notes),
        not_read=dict(
            {table.name: table.not_read for table in tables_read if table.not_read}
            if tables.not_read is None else tables.not_read
        ),
    )  # fmt: skip
    return graph, report


def _of_region(values: NDArray[Any], members: NDArray[np.intp]) -> Any:
    """Select a region's values: one number if its units have the same; None if a position is not known."""
    known = members.max() < len(values) and bool(np.isfinite(values[members]).all())
    if not known:
        return None
    own = values[members]
    return float(own[0]) if own.ndim == 1 and (own == own[0]).all() else own


def _signed_matrices(
    tables: ConnectomeTables, rows: EdgeRows, signs: Signs, delays: Delays | None,
    of_units: NDArray[np.int8] | None, settings: ImportSettings,
) -> Matrices:
    """Make the matrix of every projection key, sign and delay. Rows between the same neurons are summed.

    Weights of ``rows`` get their signs.
    """
    labels, apart, sizes = ["default"], [], []  # codes that keep rows apart, and how many of each there are
    if settings.parallel != "sum":
        code, labels = tables.edges.labels(tables.edges.need(settings.parallel))
        code[code < 0] = len(labels)
        labels = [*labels, settings.missing_region]
        apart, sizes = [code], [len(labels)]
    if signs.per_synapse:
        apart, sizes = [*apart, signs.values.astype(np.int32) + 1], [*sizes, 3]
    if delays is not None:
        apart, sizes = [*apart, delays.code], [*sizes, len(delays.values)]
    parts: list[NDArray[np.int64] | slice] = [slice(None) if rows.kept.all() else np.flatnonzero(rows.kept)]
    if apart:
        group = np.ravel_multi_index(tuple(apart), sizes)
        small = np.int16 if np.prod(sizes) < 2**15 else np.int64  # numpy sorts the former by radix
        order = np.argsort(np.where(rows.kept, group, -1).astype(small), kind="stable")
        order = order[int((~rows.kept).sum()) :]
        parts = [part for part in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(part)]
    matrices: Matrices = {}
    shape, several = (rows.neurons, rows.neurons), delays is not None and len(delays.values) > 1
    for part in parts:
        source, target, weight = rows.source[part], rows.target[part], rows.weight[part]
        codes = [int(codes[part][0]) for codes in apart]
        delay = None if delays is None else delays.values[codes.pop()]
        sign, common = (signs.values[part], codes.pop() - 1) if of_units is None else (of_units[source], None)
        words = [labels[codes.pop()] if codes else labels[0]]
        words += [SIGN_KEYS[common]] if common is not None else []
        words += [f"{delay:.12g} ms"] if delay is not None and several else []
        key = " ".join(words[labels == ["default"] and len(words) > 1 :])
        if weight.min(initial=0) < 0:
            np.abs(weight, out=weight, where=sign != 0)
        np.multiply(weight, sign, out=weight, where=sign != 0)  # in place: rows may be hundreds of millions
        matrices[key, common, delay] = sp.coo_array((weight, (target, source)), shape=shape).tocsr()
    return matrices


def _thresholded(matrices: Matrices, settings: ImportSettings, dropped: dict[str, int]) -> Matrices:
    """Leave out connections without a synapse, and pairs of neurons below ``min_count`` synapses in all."""
    zeros = sum(int((m.data == 0).sum()) for m in matrices.values())
    if zeros:
        dropped["connections with a count or weight of zero"] = zeros
        for matrix in matrices.values():
            matrix.eliminate_zeros()
    if settings.min_count <= 0 or not matrices:
        return matrices
    total = _sum(abs(m) for m in matrices.values())
    keep = sp.csr_array((total.data >= settings.min_count, total.indices, total.indptr), shape=total.shape)
    dropped[f"pairs of neurons with fewer than {settings.min_count:g} synapses"] = int((~keep.data).sum())
    keep.eliminate_zeros()
    return {group: matrix.multiply(keep).tocsr() for group, matrix in matrices.items()}


def _scale(matrices: list[sp.csr_array], settings: ImportSettings, label: str) -> str:
    """Turn counts into weights, in place; return how in words."""
    how = SCALES[settings.scale]
    if not settings.counts:
        how = how.replace("synapse count", "weight").replace("counts", "|weights|")
    if settings.scale == "fraction" and matrices:
        total = sum(abs(m).sum(axis=1) for m in matrices)
        if not np.isfinite(total).all():
            raise ConnectomeError(f"{label}: the counts onto a neuron add to more than a number can hold.")
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
            problem = "the graph has no cycle, so its spectral radius is 0 and cannot be scaled."
            raise ConnectomeError(f"{label}: {problem}")
        factor *= settings.spectral_radius / radius
        how += f", scaled to a spectral radius of {settings.spectral_radius:g} (times {factor:.6g} in all)"
    if factor != 1:
        for m in matrices:
            m.data *= factor
    return how


def _refuse(
    label: str, matrix: sp.csr_array, ids: NDArray[np.object_], wrong: NDArray[np.bool_], problem: str
) -> None:
    """Refuse scaled weights that a number cannot hold; the error names the first connection."""
    for entry in np.flatnonzero(wrong)[:1]:
        target, source = np.searchsorted(matrix.indptr, entry, "right") - 1, matrix.indices[entry]
        weight = f"the weight from neuron {ids[source]} to neuron {ids[target]}"
        count = f"({int(wrong.sum()):,} do)"
        raise ConnectomeError(f"{label}: {weight} {problem} {count}; choose another scale or gain.")


def _sum(matrices: Iterable[sp.csr_array]) -> sp.csr_array:
    first, *others = matrices
    return sum(others, first).tocsr()


def _degrees(matrices: Iterable[sp.csr_array], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count connections onto and out of each of ``n`` neurons."""
    onto, out_of = np.zeros((2, n), dtype=np.int64)
    for m in matrices:
        onto += np.diff(m.indptr)
        out_of += np.bincount(m.indices, minlength=n)
    return onto, out_of


def _pairs(matrices: list[sp.csr_array]) -> int:
    """Count pairs of neurons with a connection in any of the matrices."""
    if not matrices:
        return 0
    ones = ((np.ones(m.nnz, dtype=np.int32), m.indices, m.indptr) for m in matrices)
    return int(_sum(sp.csr_array(entries, shape=matrices[0].shape) for entries in ones).nnz)
