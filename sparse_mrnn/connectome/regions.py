"""Regions of neurons: the values of one or several columns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.connectome.edge_rows import ConnectomeTables, EdgeRows
from sparse_mrnn.connectome.settings import ImportSettings
from sparse_mrnn.errors import ConnectomeError

Codes = NDArray[np.int32]


@dataclass(frozen=True)
class NeuronRegions:
    """The region of every neuron (an index into ``names``), the regions' parents, notes for the report."""

    code: Codes
    names: list[str]
    parents: list[str | None]
    notes: list[str] = field(default_factory=list)


def regions_of(tables: ConnectomeTables, rows: EdgeRows, settings: ImportSettings) -> NeuronRegions:
    """Put every neuron into a region."""
    columns = settings.region_columns
    if not columns:
        return NeuronRegions(np.zeros(rows.neurons, dtype=np.int32), [settings.name or "neurons"], [None])
    notes: list[str] = []
    parts = [_labelled(column, tables, rows, settings, notes) for column in columns]
    if len(parts) == 1:
        code, names = parts[0]
        return NeuronRegions(code, names, _parents(code, names, tables, settings, notes), notes)
    values, inverse = np.unique(np.stack([code for code, _ in parts], axis=1), axis=0, return_inverse=True)
    labels = [[names[k] for (_, names), k in zip(parts, row, strict=True)] for row in values.tolist()]
    joined, firsts = [".".join(label) for label in labels], set(parts[0][1])
    twice = sorted(name for name, count in Counter(joined).items() if count > 1 or name in firsts)
    if twice:
        problem = f"joined values make the name {twice[0]!r} twice; use one column, or rename values."
        raise ConnectomeError(f"regions={columns}: {problem}")
    return NeuronRegions(inverse.reshape(-1).astype(np.int32), joined, [label[0] for label in labels], notes)


def _labelled(
    column: str, tables: ConnectomeTables, rows: EdgeRows, settings: ImportSettings, notes: list[str]
) -> tuple[Codes, list[str]]:
    """Give every neuron its value of a column, or ``missing_region`` if it has none."""
    if tables.neurons is not None and tables.has(column):
        codes, labels = tables.neurons.labels(column)
        codes = rows.of_table(codes, -1)
    else:
        codes, labels = _most_synapses(column, tables, rows)
        notes.append(f"a neuron's {column} is the one with most of its synapses (in and out)")
    missing = codes < 0
    if missing.any():
        region = settings.missing_region
        notes.append(f"{int(missing.sum()):,} neurons without {column} are in region {region!r}")
        labels = labels if region in labels else [*labels, region]
        codes[missing] = labels.index(region)
    return codes, labels


def _parents(
    codes: Codes, labels: list[str], tables: ConnectomeTables, settings: ImportSettings, notes: list[str]
) -> list[str | None]:
    """Find the parent of every region whose neurons agree on one."""
    if settings.parent is None:
        return [None] * len(labels)
    if tables.neurons is None:
        raise ConnectomeError("parent= needs a neuron table.")
    parents, names = tables.neurons.labels(tables.neurons.need(settings.parent))
    clash = sorted(set(names) & set(labels))
    if clash:
        problem = f"{clash[0]!r} is the name of a region too; parents need names of their own."
        raise ConnectomeError(f"parent={settings.parent!r}: {problem}")
    low, high = np.full(len(labels), len(names)), np.full(len(labels), -2)
    np.minimum.at(low, codes[: len(parents)], parents)
    np.maximum.at(high, codes[: len(parents)], parents)
    mixed = int((low < high).sum())
    if mixed:
        notes.append(f"{mixed:,} regions have no parent: their neurons differ in {settings.parent}")
    return [names[a] if a == b and a >= 0 else None for a, b in zip(low.tolist(), high.tolist(), strict=True)]


def _most_synapses(column: str, tables: ConnectomeTables, rows: EdgeRows) -> tuple[Codes, list[str]]:
    """Find the value of an edge column that most synapses of a neuron have (-1 without synapses)."""
    codes, labels = tables.edges.labels(tables.edges.need(column))
    labelled = rows.kept & (codes >= 0)
    codes, weight = codes[labelled], np.abs(rows.weight[labelled])
    total = sp.csr_array((rows.neurons, max(len(labels), 1)))
    for end in (rows.source, rows.target):
        total = total + sp.coo_array((weight, (end[labelled], codes)), shape=total.shape).tocsr()
    best = np.full(rows.neurons, -1, dtype=np.int32)
    synapses = np.diff(total.indptr)
    order = np.lexsort((total.indices, -total.data, np.repeat(np.arange(rows.neurons), synapses)))
    filled = np.flatnonzero(synapses)
    best[filled] = total.indices[order[total.indptr[filled]]]
    return best, labels
