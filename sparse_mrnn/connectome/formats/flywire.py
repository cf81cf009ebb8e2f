"""read_flywire: a folder of downloads from FlyWire's Codex."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.column_table import ColumnTable, arrow, comparable
from sparse_mrnn.connectome.edge_rows import ConnectomeTables, refuse_repeats
from sparse_mrnn.connectome.formats.downloads import SUFFIXES, first_file, folder_of, listing
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings
from sparse_mrnn.connectome.table_files import TableSource
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError

NEURONS = ("neurons", "classification", "consolidated_cell_types", "cell_stats", "names")
"""Codex tables with one row per root_id, the first of which says which neurons there are."""
SOURCE, TARGET, WEIGHT, NEURON = "pre_root_id", "post_root_id", "syn_count", "root_id"


def read_flywire(
    folder: str | os.PathLike[str], *, connections: str | None = None, **options: Unpack[ImportOptions]
) -> tuple[RegionGraph, ImportReport]:
    """Import FlyWire's connectome from Codex downloads.

    Reads ``connections`` (pre_root_id, post_root_id, neuropil, syn_count, nt_type) and what is there of
    ``neurons`` (root_id, group, nt_type, nt_type_score), ``classification`` (flow, super_class, class,
    sub_class, hemilineage, side, nerve) and ``consolidated_cell_types`` (primary_type), as .csv.gz, .csv,
    .parquet or .feather. Columns of all of them may name regions, signs and selections.

    Parameters
    ----------
    folder : path
    connections : str, optional
        File name of the connections, if the folder has several (such as connections_princeton.csv.gz).
    **options
        See `ImportSettings`. Here ``regions`` is "super_class", ``transmitter`` "nt_type", ``confidence``
        "nt_type_score", ``signs`` "fly" and ``name`` "flywire" unless given.

    Raises
    ------
    ConnectomeError
        If a table is missing or cannot be used.

    References
    ----------
    Dorkenwald et al., Nature 634, 124 (2024); Schlegel et al., Nature 634, 139 (2024).
    """
    usual = "connections.csv.gz, neurons.csv.gz, classification.csv.gz, ..."
    root = folder_of(folder, f"the Codex downloads ({usual})")
    edges_file = _connections(root, connections)
    files = [path for path in (first_file(root, [name]) for name in NEURONS) if path is not None]
    of_neurons = [TableSource.of(path, path.name) for path in files]
    defaults: dict[str, Any] = {"regions": "super_class", "signs": "fly", "name": "flywire"}
    if options.get("sign") is None:
        defaults["transmitter"] = "nt_type"
        known = {column for table in of_neurons for column in table.columns}
        if options.get("transmitter", "nt_type") == "nt_type" and {"nt_type", "nt_type_score"} <= known:
            defaults["confidence"] = "nt_type_score"
    if not files and "regions" not in options:
        wanted = "a neurons, classification or consolidated_cell_types table"
        raise ConnectomeError(f"{root}: {wanted} is missing; add one, or say regions='neuropil'.")
    settings = ImportSettings.of(options, **defaults)
    table = TableSource.of(edges_file, edges_file.name)
    table.require(SOURCE, TARGET, WEIGHT)
    edges = table.read(ids=[SOURCE, TARGET], text=settings.edge_columns(), numbers=[WEIGHT])
    neurons, notes = joined(of_neurons, settings.neuron_columns())
    tables = ConnectomeTables(
        label=str(root), edges=edges, source=SOURCE, target=TARGET, weight=WEIGHT,
        neurons=neurons, neuron=NEURON, notes=tuple(notes),
    )  # fmt: skip
    return graph_from_tables(tables, settings)


def _connections(root: Path, name: str | None) -> Path:
    if name is not None:
        return root / name
    files = sorted(path for path in root.glob("connections*") if path.name.endswith(SUFFIXES))
    if not files:
        nothing = "connections.csv.gz is missing (and .csv, .parquet, .feather)"
        raise ConnectomeError(f"{root}: {nothing}; the folder has {listing(root)}.")
    if len(files) > 1:
        listed = ", ".join(path.name for path in files)
        problem = f"there are several tables of connections ({listed}); choose one with connections=."
        raise ConnectomeError(f"{root}: {problem}")
    return files[0]


def joined(sources: Sequence[TableSource], columns: Sequence[str]) -> tuple[ColumnTable | None, list[str]]:
    """Join columns of the other tables to the first table of neurons; return notes on what was left out."""
    if not sources:
        return None, []
    for source in sources:
        source.require(NEURON)
    pa = arrow()
    first = sources[0].read(ids=[NEURON], text=columns)
    ids, data, notes = first.ids(NEURON), first.data, []
    for source in sources[1:]:
        new = [c for c in columns if c in source.columns and c not in data.column_names]
        if not new:
            continue
        table = source.read(ids=[NEURON], text=new)
        other = table.ids(NEURON)
        refuse_repeats(table, NEURON, other)
        here, there = (column.rows for column in comparable(ids, other))
        index = pa.compute.index_in(here, value_set=there)
        lost = len(there) - (len(index) - index.null_count)
        if lost:
            notes.append(f"{lost:,} neurons of {table.name} are not in {first.name} and were left out")
        for column in new:
            data = data.append_column(column, table.data.column(column).combine_chunks().take(index))
    known = tuple(dict.fromkeys(column for source in sources for column in source.columns))
    return replace(first, data=data, known=known), notes
