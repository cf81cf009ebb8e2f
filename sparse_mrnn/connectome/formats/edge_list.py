"""read_table: any edge list, with or without a table of neurons."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Unpack

from sparse_mrnn.connectome.assemble import graph_from_tables
from sparse_mrnn.connectome.column_table import ColumnTable
from sparse_mrnn.connectome.edge_rows import ConnectomeTables
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings
from sparse_mrnn.connectome.table_files import TableSource
from sparse_mrnn.declaration.graph import RegionGraph

SOURCES = (
    "pre_root_id", "pre_pt_root_id", "bodyid_pre", "source", "src", "pre", "from", "pre_id", "source_id",
    "source_node_id", "presynaptic", "pre_neuron", "presynaptic_id", "from_id",
)  # fmt: skip
TARGETS = (
    "post_root_id", "post_pt_root_id", "bodyid_post", "target", "tgt", "dst", "post", "to", "post_id",
    "target_id", "target_node_id", "postsynaptic", "post_neuron", "postsynaptic_id", "to_id",
)  # fmt: skip
WEIGHTS = (
    "syn_count", "weight", "n_syn", "synapses", "synapse_count", "count", "n_synapses", "number", "nsyn",
    "strength", "weights",
)  # fmt: skip
IDS = (
    "root_id", "bodyid", "pt_root_id", "id", "neuron_id", "node_id", "neuron", "name", "cell", "unit",
    "cell_id",
)  # fmt: skip
"""Column names that are recognised, in this order and whatever their case."""


def read_table(
    edges: str | os.PathLike[str] | Any,
    neurons: str | os.PathLike[str] | Any = None,
    *,
    source: str | None = None,
    target: str | None = None,
    weight: str | None = None,
    neuron: str | None = None,
    delimiter: str | None = None,
    columns: Sequence[str] | None = None,
    **options: Unpack[ImportOptions],
) -> tuple[RegionGraph, ImportReport]:
    """Import an edge list.

    Parameters
    ----------
    edges : path, DataFrame or pyarrow.Table
        One row per connection (or synapse). Text (.csv, .tsv, .txt; also .gz, .bz2, .zst), .parquet or
        .feather.
    neurons : path, DataFrame or pyarrow.Table, optional
        One row per neuron. Default: the neurons that have edges.
    source, target, weight, neuron : str, optional
        Columns. Default: recognised by common names (such as pre_root_id, bodyId_post, syn_count). Without a
        weight column each row is one synapse.
    delimiter : str, optional
        Of text files; found in the first line by default.
    columns : sequence of str, optional
        Column names of an edge list without a header line.
    **options
        See `ImportSettings`.

    Raises
    ------
    ConnectomeError
        If a file, a column or a value cannot be used; the message says where.

    Examples
    --------
    >>> edges = {"pre": ["a", "b", "a"], "post": ["b", "a", "b"], "count": [3, 1, 2]}
    >>> graph, report = read_table(edges, scale="none")
    >>> print(graph.n_units, report.merged, report.synapses)
    2 2 6.0
    """
    settings = ImportSettings.of(options)
    table = TableSource.of(edges, "edges", delimiter=delimiter, columns=columns)
    source = table.recognised(source, SOURCES, "source", "the source")
    target = table.recognised(target, TARGETS, "target", "the target")
    weight = table.pick(weight, WEIGHTS, "weight")
    numbers = [] if weight is None else [weight]
    neuron_table, identity = None, ""
    edge_table = table.read(ids=[source, target], text=settings.edge_columns(), numbers=numbers)
    if neurons is not None:
        neuron_table, identity = read_neurons(neurons, neuron, settings, delimiter)
    tables = ConnectomeTables(
        label=table.label, edges=edge_table, source=source, target=target, weight=weight,
        neurons=neuron_table, neuron=identity,
    )  # fmt: skip
    return graph_from_tables(tables, settings)


def read_neurons(
    neurons: Any, neuron: str | None, settings: ImportSettings, delimiter: str | None = None
) -> tuple[ColumnTable, str]:
    """Read the columns of the neuron table that are needed; return them and the name of the id column."""
    table = TableSource.of(neurons, "neurons", delimiter=delimiter)
    identity = table.recognised(neuron, IDS, "neuron", "the neuron's id")
    return table.read(ids=[identity], text=settings.neuron_columns()), identity
