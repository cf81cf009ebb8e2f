"""Regions of neurons: the values of one or several columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.connectome.column_table import ColumnTable
from sparse_mrnn.connectome.settings import Settings
from sparse_mrnn.errors import ConnectomeError

Int32 = NDArray[np.int32]


@dataclass(frozen=True)
class Regions:
    """Region of every neuron (a place in ``names``), with parents, and what a reader should know."""

    code: NDArray[np.int64]
    names: list[str]
    parents: list[str | None]
    notes: list[str]


def find_regions(
    neurons: ColumnTable | None,
    edges: ColumnTable,
    extra: int,
    n: int,
    ends: tuple[Int32, Int32],
    weight: NDArray[np.float64],
    used: NDArray[np.bool_],
    settings: Settings,
) -> Regions:
    """Put every neuron into a region.

    Parameters
    ----------
    neurons, edges : ColumnTable
    extra : int
        Neurons after those of the table, which have no row there.
    n : int
        Neurons.
    ends : (source, target), each of shape (edge rows,)
    weight : ndarray, shape (edge rows,)
    used : ndarray of bool, shape (edge rows,)
        Rows that count.
    settings : Settings

    Raises
    ------
    ConnectomeError
        If different values make the same name.
    """
    columns = settings.region_columns
    if not columns:
        return Regions(np.zeros(n, dtype=np.int64), [settings.name or "neurons"], [None], [])
    notes: list[str] = []
    parts: list[tuple[NDArray[np.int64], list[str]]] = []
    code: NDArray[np.int64]
    for column in columns:
        if neurons is not None and column in neurons.columns:
            codes, labels = neurons.labels(column)
            codes = np.concatenate([codes, np.full(extra, -1, dtype=np.int32)])
        else:
            codes, labels = _most_synapses(edges, column, n, ends, weight, used)
            notes.append(f"a neuron's {column} is the one with most of its synapses (in and out)")
        missing = codes < 0
        if missing.any():
            notes.append(f"{int(missing.sum()):,} neurons without {column} are in region {settings.missing_region!r}")
            labels = [*labels, settings.missing_region] if settings.missing_region not in labels else labels
            codes = np.where(missing, labels.index(settings.missing_region), codes)
        parts.append((codes.astype(np.int64), labels))
    if len(parts) == 1:
        code, labels = parts[0]
        return Regions(code, labels, _parents(code, labels, neurons, settings, notes), notes)
    table = np.stack([codes for codes, _ in parts], axis=1)
    rows, code = np.unique(table, axis=0, return_inverse=True)
    values = [[labels[k] for (_, labels), k in zip(parts, row, strict=True)] for row in rows.tolist()]
    names = [".".join(value) for value in values]
    parents: list[str | None] = [value[0] for value in values]
    twice = sorted({name for name in names if names.count(name) > 1} | (set(names) & set(parts[0][1]))) if len(names) < 10_000 else []
    if twice or len(set(names)) != len(names):
        raise ConnectomeError(
            f"regions={columns}: joined values make the name {(twice or names)[0]!r} twice; use one column, or rename values."
        )
    return Regions(code.reshape(-1).astype(np.int64), names, parents, notes)


def _parents(codes: NDArray[np.int64], labels: list[str], neurons: ColumnTable | None, settings: Settings, notes: list[str]) -> list[str | None]:
    """The parent of every region, where its neurons agree on one."""
    none: list[str | None] = [None] * len(labels)
    if settings.parent is None:
        return none
    if neurons is None:
        raise ConnectomeError("parent= needs a neuron table.")
    own, names = neurons.labels(neurons.need(settings.parent))
    clash = set(names) & set(labels)
    if clash:
        raise ConnectomeError(
            f"parent={settings.parent!r}: {sorted(clash)[0]!r} is the name of a region too; parents need names of their own."
        )
    low, high = np.full(len(labels), len(names)), np.full(len(labels), -2)
    np.minimum.at(low, codes[: len(own)], own)
    np.maximum.at(high, codes[: len(own)], own)
    mixed = int((low < high).sum())
    if mixed:
        notes.append(f"{mixed:,} regions have no parent: their neurons differ in {settings.parent}")
    return [names[a] if a == b and a >= 0 else None for a, b in zip(low.tolist(), high.tolist(), strict=True)]


def _most_synapses(
    edges: ColumnTable, column: str, n: int, ends: tuple[Int32, Int32], weight: NDArray[np.float64], used: NDArray[np.bool_]
) -> tuple[Int32, list[str]]:
    """The value of an edge column under which a neuron has most synapses; the first of equals; -1 without any."""
    codes, labels = edges.labels(edges.need(column))
    good = used & (codes >= 0)
    total = sp.csr_array((n, max(len(labels), 1)))
    for end in ends:
        total = total + sp.coo_array((weight[good], (end[good], codes[good])), shape=total.shape).tocsr()
    best = np.full(n, -1, dtype=np.int32)
    filled = np.flatnonzero(np.diff(total.indptr))
    row = np.repeat(np.arange(n), np.diff(total.indptr))
    order = np.lexsort((total.indices, -total.data, row))
    best[filled] = total.indices[order[total.indptr[filled]]]
    return best, labels
