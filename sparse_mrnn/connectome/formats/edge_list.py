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
from sparse_mrnn.connectome.table_files import header, pick, read
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError

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
        One row per neuron. Default: the neurons are those with edges.
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
    names = header(edges, delimiter, columns)
    label = str(edges) if isinstance(edges, (str, os.PathLike)) else "a table of edges"
    source, target = (
        _recognised(names, label, wanted, usual, argument, f"the {argument}")
        for wanted, usual, argument in ((source, SOURCES, "source"), (target, TARGETS, "target"))
    )
    weight = pick(names, label, weight, WEIGHTS, "weight")
    kinds = {
        "ids": [source, target],
        "text": [column for column in settings.edge_columns() if column in names],
        "numbers": [] if weight is None else [weight],
    }
    edge_table = read(edges, **kinds, name="edges", delimiter=delimiter, columns=columns)
    neuron_table, identity = None, ""
    if neurons is not None:
        neuron_table, identity = read_neurons(neurons, neuron, settings, delimiter)
    tables = ConnectomeTables(
        label=label, edges=edge_table, source=source, target=target, weight=weight,
        neurons=neuron_table, neuron=identity,
    )  # fmt: skip
    return graph_from_tables(tables, settings)


def read_neurons(
    neurons: Any, neuron: str | None, settings: ImportSettings, delimiter: str | None = None
) -> tuple[ColumnTable, str]:
    """The neuron table with the columns that are needed, and the name of its id column."""
    label = str(neurons) if isinstance(neurons, (str, os.PathLike)) else "the table of neurons"
    names = header(neurons, delimiter)
    identity = _recognised(names, label, neuron, IDS, "neuron", "the neuron's id")
    text = [column for column in settings.neuron_columns() if column in names]
    return read(neurons, ids=[identity], text=text, name="neurons", delimiter=delimiter), identity


def _recognised(
    names: Sequence[str], label: str, wanted: str | None, usual: Sequence[str], argument: str, what: str
) -> str:
    """The column an argument names, or that has a usual name; one is needed."""
    column = pick(names, label, wanted, usual, argument)
    if column is None:
        problem = f"no column looks like {what}; name it with {argument}=."
        raise ConnectomeError(f"{label}: {problem} The columns are {', '.join(map(repr, names))}.")
    return column
