"""read_flywire: a folder of downloads from FlyWire's Codex."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.column_names import plain_name
from sparse_mrnn.connectome.edge_rows import ConnectomeTables
from sparse_mrnn.connectome.formats.downloads import SUFFIXES, folder_of, listing, stem_of
from sparse_mrnn.connectome.formats.edge_list import joined
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings
from sparse_mrnn.connectome.table_files import TableSource
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError

SOURCE, TARGET, WEIGHT, NEURON = "pre_root_id", "post_root_id", "syn_count", "root_id"
TABLES = {
    "connections": (SOURCE, TARGET, WEIGHT), "neurons": (NEURON, "nt_type"),
    "classification": (NEURON, "super_class"),
    "consolidated_cell_types": (NEURON, "primary_type"), "cell_stats": (NEURON, "length_nm"),
    "names": (NEURON, "name", "group"),
}  # fmt: skip
"""Codex tables, and columns by which one is recognised whatever a browser called its file.

All but the first have one row per root_id; the first of them that is there says which neurons there are.
"""


def read_flywire(
    folder: str | os.PathLike[str] | Mapping[str, Any],
    *,
    connections: str | None = None,
    neurons: str | Sequence[str] | None = None,
    **options: Unpack[ImportOptions],
) -> tuple[RegionGraph, ImportReport]:
    """Import FlyWire's connectome from Codex downloads.

    Reads ``connections`` (pre_root_id, post_root_id, neuropil, syn_count, nt_type) and what is there of
    ``neurons`` (root_id, group, nt_type, nt_type_score), ``classification`` (flow, super_class, class,
    sub_class, hemilineage, side, nerve) and ``consolidated_cell_types`` (primary_type), as .csv.gz, .csv,
    .parquet or .feather, recognised by name ("neurons (1).csv.gz", too) or else by columns. Columns of all of
    them may name regions, signs and selections.

    Parameters
    ----------
    folder : path or mapping
        The folder, or tables (paths, DataFrames) by these names.
    connections : str, optional
        File name of the connections, if the folder has several (such as connections_princeton.csv.gz).
    neurons : str or sequence of str, optional
        File name(s) of the tables of neurons, in place of those that are found; the first says which neurons
        there are.
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
    if isinstance(folder, Mapping):
        root, found = "tables of FlyWire", _given(folder)
    else:
        root, found = _in_folder(folder, connections, [neurons] if isinstance(neurons, str) else neurons)
    edges_at = found.pop("connections")
    of_neurons = [TableSource.of(table, _name(table, kind)) for kind, table in found.items()]
    defaults: dict[str, Any] = {"regions": "super_class", "signs": "fly", "name": "flywire"}
    if options.get("sign") is None:
        defaults["transmitter"] = "nt_type"
        known = {column for table in of_neurons for column in table.columns}
        if options.get("transmitter", "nt_type") == "nt_type" and {"nt_type", "nt_type_score"} <= known:
            defaults["confidence"] = "nt_type_score"
    if not of_neurons and "regions" not in options:
        wanted = "a neurons, classification or consolidated_cell_types table"
        raise ConnectomeError(f"{root}: {wanted} is missing; add one, or say regions='neuropil'.")
    settings = ImportSettings.of(options, **defaults)
    table = TableSource.of(edges_at, _name(edges_at, "connections"))
    table.require(SOURCE, TARGET, WEIGHT)
    for source in of_neurons:
        source.require(NEURON)
    edges = table.read(ids=[SOURCE, TARGET], text=settings.edge_columns(), numbers=[WEIGHT])
    tables = ConnectomeTables(
        label=root, edges=edges, source=SOURCE, target=TARGET, weight=WEIGHT, neuron=NEURON,
        neurons=joined(of_neurons, settings, [NEURON] * len(of_neurons)) if of_neurons else None,
    )  # fmt: skip
    del edges  # which lets go of what was read
    return graph_from_tables(tables, settings)


def _name(table: Any, kind: str) -> str:
    return Path(table).name if isinstance(table, (str, os.PathLike)) else kind


def _given(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Put tables that a caller gives by name into their order."""
    for name in tables:
        if name not in TABLES:
            raise ConnectomeError(f"{name!r} is not a table of FlyWire; use {', '.join(map(repr, TABLES))}.")
    if "connections" not in tables:
        raise ConnectomeError("the table 'connections' is missing.")
    return {kind: tables[kind] for kind in TABLES if kind in tables}


def _in_folder(
    folder: str | os.PathLike[str], connections: str | None, neurons: Sequence[str] | None
) -> tuple[str, dict[str, Any]]:
    """Find the tables of a folder, in the order of `TABLES`."""
    usual = "connections.csv.gz, neurons.csv.gz, classification.csv.gz, ..."
    root = folder_of(folder, f"the Codex downloads ({usual})")
    tables = sorted(path for path in root.iterdir() if path.name.lower().endswith(SUFFIXES))
    kinds: dict[str, list[Path]] = {kind: [] for kind in TABLES}
    for path in tables:
        kind = _kind(path)
        if kind is not None:
            kinds[kind].append(path)
    stated = {"connections": connections and [connections], "neurons": neurons}
    found: dict[str, Any] = {}
    for kind, paths in kinds.items():
        if stated.get(kind):
            chosen = [root / name for name in stated[kind] or ()]
        elif kind != "connections" and neurons:
            continue
        elif len({path.name.removesuffix(".gz").rpartition(".")[0] for path in paths}) > 1:
            listed = ", ".join(path.name for path in paths)
            what = "connections" if kind == "connections" else "neurons"
            problem = f"there are several tables of {kind.replace('_', ' ')} ({listed})"
            raise ConnectomeError(f"{root}: {problem}; choose one with {what}=.")
        else:  # one, or the same in several formats
            order = [path for suffix in SUFFIXES for path in paths if path.name.lower().endswith(suffix)]
            chosen = order[:1]
        found.update({kind if k == 0 else f"{kind} {k}": path for k, path in enumerate(chosen)})
    if "connections" not in found:
        nothing = "connections.csv.gz is missing (and .csv, .parquet, .feather)"
        raise ConnectomeError(f"{root}: {nothing}; the folder has {listing(root)}.")
    return str(root), found


def _kind(path: Path) -> str | None:
    """Tell which table a file is: by its name, but for what a browser adds to it, or else by its columns."""
    stem = plain_name(stem_of(path))
    if stem.startswith("connections"):
        return "connections"
    named = next((kind for kind in TABLES if plain_name(kind) == stem), None)
    if named is not None:
        return named
    try:
        columns = set(TableSource.of(path, path.name).columns)
    except ConnectomeError:  # not a table that is needed
        return None
    return next((kind for kind, needed in TABLES.items() if columns.issuperset(needed)), None)
