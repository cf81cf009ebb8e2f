"""read_neuprint: neuPrint exports (hemibrain, MANC, optic lobe), as folders of CSV files or as DataFrames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Unpack

from sparse_mrnn.connectome.assemble import ConnectomeTables, graph_from_tables
from sparse_mrnn.connectome.column_table import header, read
from sparse_mrnn.connectome.edge_list import read_neurons
from sparse_mrnn.connectome.flywire import folder_of
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import Options, Settings
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.graph import RegionGraph


def read_neuprint(source: str | os.PathLike[str] | tuple[Any, Any], **options: Unpack[Options]) -> tuple[RegionGraph, ImportReport]:
    """Import a neuPrint connectome.

    Parameters
    ----------
    source : path or (neurons, connections)
        A folder with ``traced-neurons.csv`` (bodyId, type, instance) and ``traced-total-connections.csv``
        (bodyId_pre, bodyId_post, weight) or ``traced-roi-connections.csv`` (with roi), as in hemibrain's
        exported-traced-adjacencies, or the same names without ``traced-`` as ``fetch_adjacencies(export_dir=...)``
        of neuprint-python writes them. Or the two DataFrames it returns. Connections by roi are read where an
        option names the column roi.
    **options
        See `Settings`. Here ``regions`` is "type" and ``signs`` "fly" unless given. The exports have no
        transmitters: name a column of your own neurons table (such as predictedNt) with ``transmitter``.

    Returns
    -------
    RegionGraph, ImportReport

    Raises
    ------
    ConnectomeError
        If a table is missing or cannot be used.

    References
    ----------
    Scheffer et al., eLife 9, e57443 (2020).
    """
    settings = Settings.of(options, regions="type", signs="fly", name="neuprint")
    by_roi = "roi" in settings.edge_columns()
    if isinstance(source, tuple):
        neurons_at, edges_at = source
        label = "neuPrint DataFrames"
    else:
        root = folder_of(source, "traced-neurons.csv and traced-total-connections.csv")
        neurons_at, edges_at = _file(root, "neurons"), _file(root, "roi-connections" if by_roi else "total-connections", "roi-connections")
        label = str(root)
    names = header(edges_at)
    roles = {"bodyId_pre": "id", "bodyId_post": "id", "weight": "number"}
    for column in roles:
        if column not in names:
            raise ConnectomeError(f"{label}: the connections have no column {column!r}. The columns are {', '.join(map(repr, names))}.")
    roles.update({c: "label" for c in settings.edge_columns() if c in names})
    neurons, identity = read_neurons(neurons_at, "bodyId", settings)
    edges = read(edges_at, roles, name="connections")
    return graph_from_tables(ConnectomeTables(label, edges, "bodyId_pre", "bodyId_post", "weight", neurons, identity), settings)


def _file(root: Path, *names: str) -> Path:
    for name in names:
        for start in ("traced-", ""):
            for suffix in (".csv", ".csv.gz", ".parquet", ".feather"):
                path = root / f"{start}{name}{suffix}"
                if path.exists():
                    return path
    there = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
    raise ConnectomeError(f"{root}: there is no traced-{names[0]}.csv (nor {names[0]}.csv); the folder has {there}.")
