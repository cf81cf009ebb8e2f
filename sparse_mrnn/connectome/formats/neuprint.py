"""read_neuprint: neuPrint exports (hemibrain, MANC, optic lobe), as folders of CSV files or as DataFrames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Unpack

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.edge_rows import ConnectomeTables
from sparse_mrnn.connectome.formats.downloads import first_file, folder_of, listing
from sparse_mrnn.connectome.formats.edge_list import read_neurons
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings
from sparse_mrnn.connectome.table_files import TableSource
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError

SOURCE, TARGET, WEIGHT = "bodyId_pre", "bodyId_post", "weight"


def read_neuprint(
    source: str | os.PathLike[str] | tuple[Any, Any], **options: Unpack[ImportOptions]
) -> tuple[RegionGraph, ImportReport]:
    """Import a neuPrint connectome.

    Parameters
    ----------
    source : path or (neurons, connections)
        A folder with ``traced-neurons.csv`` (bodyId, type, instance) and ``traced-total-connections.csv``
        (bodyId_pre, bodyId_post, weight) or ``traced-roi-connections.csv`` (with roi), as in hemibrain's
        exported-traced-adjacencies, ``traced-connections.csv`` and ``traced-connections-per-roi.csv``, as in
        MANC's, or the same names without ``traced-`` as
        ``fetch_adjacencies(export_dir=...)`` of neuprint-python writes them. Or the two DataFrames it
        returns. Connections by roi are read if an option names the column roi.
    **options
        See `ImportSettings`. Here ``regions`` is "type" and ``signs`` "fly" unless given. The exports have no
        transmitters: name a column of your own neurons table (such as predictedNt) with ``transmitter``.

    Raises
    ------
    ConnectomeError
        If a table is missing or cannot be used.

    References
    ----------
    Scheffer et al., eLife 9, e57443 (2020).
    """
    settings = ImportSettings.of(options, regions="type", signs="fly", name="neuprint")
    if isinstance(source, tuple):
        neurons_at, edges_at = source
        label = "neuPrint DataFrames"
    else:
        root = folder_of(source, "traced-neurons.csv and traced-total-connections.csv")
        label = str(root)
        totals = [] if "roi" in settings.edge_columns() else ["total-connections", "connections"]
        neurons_at = _file(root, "neurons")
        edges_at = _file(root, *totals, "roi-connections", "connections-per-roi")
    connections = TableSource.of(edges_at, "connections")
    connections.require(SOURCE, TARGET, WEIGHT)
    neurons, identity = read_neurons(neurons_at, "bodyId", settings)
    edges = connections.read(ids=[SOURCE, TARGET], text=settings.edge_columns(), numbers=[WEIGHT])
    tables = ConnectomeTables(
        label=label, edges=edges, source=SOURCE, target=TARGET, weight=WEIGHT,
        neurons=neurons, neuron=identity,
    )  # fmt: skip
    return graph_from_tables(tables, settings)


def _file(root: Path, *names: str) -> Path:
    path = first_file(root, [start + name for name in names for start in ("traced-", "")])
    if path is None:
        first = f"traced-{names[0]}.csv (or {names[0]}.csv) is missing"
        raise ConnectomeError(f"{root}: {first}; the folder has {listing(root)}.")
    return path
