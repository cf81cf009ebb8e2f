"""read_table: any edge list, with or without a table of neurons."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Unpack

from sparse_mrnn.connectome.assemble import ConnectomeTables, graph_from_tables
from sparse_mrnn.connectome.column_table import header, pick, read
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import Options, Settings
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.graph import RegionGraph

SOURCES = (
    "pre_root_id",
    "pre_pt_root_id",
    "bodyid_pre",
    "source",
    "src",
    "pre",
    "from",
    "pre_id",
    "source_id",
    "source_node_id",
    "presynaptic",
    "pre_neuron",
    "presynaptic_id",
    "from_id",
)
TARGETS = (
    "post_root_id",
    "post_pt_root_id",
    "bodyid_post",
    "target",
    "tgt",
    "dst",
    "post",
    "to",
    "post_id",
    "target_id",
    "target_node_id",
    "postsynaptic",
    "post_neuron",
    "postsynaptic_id",
    "to_id",
)
WEIGHTS = ("syn_count", "weight", "n_syn", "synapses", "synapse_count", "count", "n_synapses", "number", "nsyn", "strength", "weights")
IDS = ("root_id", "bodyid", "pt_root_id", "id", "neuron_id", "node_id", "neuron", "name", "cell", "unit", "cell_id")
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
    **options: Unpack[Options],
) -> tuple[RegionGraph, ImportReport]:
    """Import an edge list.

    Parameters
    ----------
    edges : path, DataFrame or pyarrow.Table
        One row per connection (or synapse). Text (.csv, .tsv, .txt; also .gz, .bz2, .zst), .parquet or .feather.
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
        See `Settings`.

    Returns
    -------
    RegionGraph, ImportReport

    Raises
    ------
    ConnectomeError
        If a file, a column or a value cannot be used; the message says where.

    Examples
    --------
    >>> graph, report = read_table({"pre": ["a", "b", "a"], "post": ["b", "a", "b"], "count": [3, 1, 2]}, scale="none")
    >>> print(graph.n_units, report.merged, report.synapses)
    2 2 6.0
    """
    settings = Settings.of(options)
    names = header(edges, delimiter, columns)
    label = str(edges) if isinstance(edges, (str, os.PathLike)) else "a table of edges"
    found = [
        pick(names, label, given, known, argument)
        for given, known, argument in ((source, SOURCES, "source"), (target, TARGETS, "target"), (weight, WEIGHTS, "weight"))
    ]
    for name, argument in zip(found[:2], ("source", "target"), strict=True):
        if name is None:
            raise ConnectomeError(
                f"{label}: no column looks like the {argument}; name it with {argument}=. The columns are {', '.join(map(repr, names))}."
            )
    roles = {str(found[0]): "id", str(found[1]): "id"}
    if found[2] is not None:
        roles[found[2]] = "number"
    roles.update({c: "label" for c in settings.edge_columns() if c in names and c not in roles})
    edge_table = read(edges, roles, name="edges", delimiter=delimiter, columns=columns)
    neuron_table = identity = None
    if neurons is not None:
        neuron_table, identity = read_neurons(neurons, neuron, settings, delimiter)
    return graph_from_tables(ConnectomeTables(label, edge_table, str(found[0]), str(found[1]), found[2], neuron_table, identity), settings)


def read_neurons(
    neurons: Any, neuron: str | None, settings: Settings, delimiter: str | None = None, also: Sequence[str] = ()
) -> tuple[Any, str]:
    """The neuron table with the columns that are needed, and the name of its id column."""
    label = str(neurons) if isinstance(neurons, (str, os.PathLike)) else "the table of neurons"
    names = header(neurons, delimiter)
    identity = pick(names, label, neuron, IDS, "neuron")
    if identity is None:
        raise ConnectomeError(
            f"{label}: no column looks like the neuron's id; name it with neuron=. The columns are {', '.join(map(repr, names))}."
        )
    roles = {c: "label" for c in (*settings.neuron_columns(), *also) if c in names}
    return read(neurons, {**roles, identity: "id"}, name="neurons", delimiter=delimiter), identity
