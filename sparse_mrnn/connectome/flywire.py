"""read_flywire: a folder of downloads from FlyWire's Codex."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from sparse_mrnn.connectome.assemble import ConnectomeTables, graph_from_tables
from sparse_mrnn.connectome.column_table import ColumnTable, arrow, header, read
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import Options, Settings
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.graph import RegionGraph

SUFFIXES = (".csv.gz", ".csv", ".parquet", ".feather")
NEURONS = ("neurons", "classification", "consolidated_cell_types", "cell_stats", "names")
"""Codex tables with one row per root_id, the first of which says which neurons there are."""


def read_flywire(
    folder: str | os.PathLike[str], *, connections: str | None = None, **options: Unpack[Options]
) -> tuple[RegionGraph, ImportReport]:
    """Import FlyWire's connectome from Codex downloads.

    Reads ``connections`` (pre_root_id, post_root_id, neuropil, syn_count, nt_type) and what is there of ``neurons``
    (root_id, group, nt_type, nt_type_score), ``classification`` (flow, super_class, class, sub_class, hemilineage,
    side, nerve) and ``consolidated_cell_types`` (primary_type), as .csv.gz, .csv, .parquet or .feather. Columns of
    all of them may name regions, signs and selections.

    Parameters
    ----------
    folder : path
    connections : str, optional
        File name of the connections, where the folder has several (such as connections_princeton.csv.gz).
    **options
        See `Settings`. Here ``regions`` is "super_class", ``transmitter`` "nt_type", ``confidence``
        "nt_type_score", ``signs`` "fly" and ``name`` "flywire" unless given.

    Returns
    -------
    RegionGraph, ImportReport

    Raises
    ------
    ConnectomeError
        If a table is missing or cannot be used.

    References
    ----------
    Dorkenwald et al., Nature 634, 124 (2024); Schlegel et al., Nature 634, 139 (2024).
    """
    root = folder_of(folder, "the Codex downloads (connections.csv.gz, neurons.csv.gz, classification.csv.gz, ...)")
    defaults: dict[str, Any] = {"regions": "super_class", "signs": "fly", "name": "flywire"}
    if options.get("sign") is None:
        defaults["transmitter"] = "nt_type"
    edges_file = _connections(root, connections)
    files = [path for path in (_file(root, name) for name in NEURONS) if path is not None]
    heads = {path: header(path) for path in files}
    if any("nt_type_score" in head for head in heads.values()):
        defaults["confidence"] = "nt_type_score"
    if not files and "regions" not in options:
        raise ConnectomeError(
            f"{root}: there is no neurons, classification or consolidated_cell_types table; add one, or say regions='neuropil'."
        )
    settings = Settings.of(options, **defaults)
    names = header(edges_file)
    wanted = {"pre_root_id": "id", "post_root_id": "id", "syn_count": "number"}
    roles = {**wanted, **{c: "label" for c in settings.edge_columns() if c in names}}
    missing = [column for column in wanted if column not in names]
    if missing:
        raise ConnectomeError(f"{edges_file}: there is no column {missing[0]!r}. The columns are {', '.join(map(repr, names))}.")
    edges = read(edges_file, roles)
    neurons, notes = joined(files, heads, "root_id", settings.neuron_columns())
    tables = ConnectomeTables(str(root), edges, "pre_root_id", "post_root_id", "syn_count", neurons, "root_id", notes=tuple(notes))
    return graph_from_tables(tables, settings)


def folder_of(folder: str | os.PathLike[str], what: str) -> Path:
    """The folder as a path; a ConnectomeError says what should be in it."""
    root = Path(folder)
    if not root.is_dir():
        raise ConnectomeError(f"{root} is {'no folder' if root.exists() else 'not there'}; give the folder with {what}.")
    return root


def _file(root: Path, name: str) -> Path | None:
    return next((root / (name + suffix) for suffix in SUFFIXES if (root / (name + suffix)).exists()), None)


def _connections(root: Path, name: str | None) -> Path:
    if name is not None:
        return root / name
    found = sorted(path for path in root.glob("connections*") if path.name.endswith(SUFFIXES))
    if len(found) == 1:
        return found[0]
    if not found:
        there = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
        raise ConnectomeError(f"{root}: there is no connections.csv.gz (nor .csv, .parquet, .feather); the folder has {there}.")
    listed = ", ".join(path.name for path in found)
    raise ConnectomeError(f"{root}: there are several tables of connections ({listed}); choose one with connections=.")


def joined(files: Sequence[Path], heads: dict[Path, list[str]], key: str, columns: Sequence[str]) -> tuple[ColumnTable | None, list[str]]:
    """The first table of neurons with the columns of the others that are needed, and notes on neurons only others have.

    Raises
    ------
    ConnectomeError
        If a later table has a neuron twice.
    """
    if not files:
        return None, []
    pa = arrow()
    first = read(files[0], {key: "id", **{c: "label" for c in columns if c in heads[files[0]]}})
    ids, data, notes = first.ids(key), first.data, []
    for path in files[1:]:
        new = [c for c in columns if c in heads[path] and c not in data.column_names]
        if not new:
            continue
        table = read(path, {key: "id", **dict.fromkeys(new, "label")})
        other = table.ids(key)
        if len(pa.compute.unique(other)) != len(other):
            again = pa.compute.value_counts(other)
            value = again.filter(pa.compute.greater(again.field("counts"), 1)).field("values")[0]
            row = int(pa.compute.index(other, value).as_py())
            raise ConnectomeError(f"{table.location(row, key)}: neuron {value.as_py()} is there more than once. Keep one row for each neuron.")
        if other.type != ids.type:
            ids, other = ids.cast(pa.string()), other.cast(pa.string())
        place = pa.compute.index_in(ids, value_set=other)
        lost = len(other) - (len(place) - place.null_count)
        if lost:
            notes.append(f"{lost:,} neurons of {path.name} are not in {files[0].name} and were left out")
        for column in new:
            data = data.append_column(column, table.data.column(column).combine_chunks().take(place))
    return ColumnTable(first.name, data, first.path, first.dialect, tuple(dict.fromkeys(c for head in heads.values() for c in head))), notes
