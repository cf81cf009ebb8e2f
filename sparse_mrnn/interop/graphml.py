"""Writing graphs and networks as GraphML, arrays, rules and explicit weights included."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import networkx as nx
import numpy as np

from sparse_mrnn.declaration.connectivity import ConnectionRule
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.declaration.initializers import Initializer
from sparse_mrnn.declaration.sharing import SynapseLabels
from sparse_mrnn.errors import ConversionError
from sparse_mrnn.files.atomic import reason, replacing
from sparse_mrnn.models.network import mRNNBase

SCALARS = (str, int, float, bool)


def write_graphml(
    graph: RegionGraph | mRNNBase, path: str | os.PathLike[str], *, of: Literal["units", "regions"] = "units"
) -> None:
    """Write a network, or a declaration, as GraphML; the file appears whole or not at all.

    Parameters
    ----------
    graph : mRNN, ElmanmRNN or RegionGraph
        A network gives units or regions as `mRNNBase.to_networkx` has them; a graph gives regions and
        projections with all their attributes. An array becomes text, a JSON list; a rule or initialiser the
        JSON of a configuration; explicit weights become their number, ``synapses``.
    path : path
        Ending in .gz, it is compressed.
    of : {"units", "regions"}
        What the nodes are, for a network; a graph has regions only.

    Raises
    ------
    ConversionError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> g = RegionGraph(); g.add_region("a", 2, sign=[1, -1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_graphml(g, f"{folder}/a.graphml")
    ...     nx.read_graphml(f"{folder}/a.graphml").nodes["a"]["sign"]
    '[1, -1]'
    """
    plain = _plain_graph(graph) if isinstance(graph, RegionGraph) else graph.to_networkx(of)
    try:
        with replacing(Path(path)) as partial:
            nx.write_graphml(plain, partial)
    except OSError as error:
        raise ConversionError(f"cannot write {path}: {reason(error)}.") from error


def _plain_graph(graph: RegionGraph) -> nx.MultiDiGraph:
    plain = nx.MultiDiGraph(**_plain(graph.graph))
    plain.add_nodes_from((name, _plain(attrs)) for name, attrs in graph.nodes(data=True))
    for source, target, key, attrs in graph.edges(keys=True, data=True):
        count = {"synapses": attrs["weights"].nnz} if "weights" in attrs else {}
        others = {name: value for name, value in attrs.items() if name != "weights"}
        plain.add_edge(source, target, key, **_plain(others), **count)
    return plain


def _plain(attrs: dict[str, Any]) -> dict[str, Any]:
    """Convert attributes to what GraphML can hold; leave out None."""
    found = {}
    for name, value in attrs.items():
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, SynapseLabels):
            value = value.names
        if isinstance(value, ConnectionRule | Initializer):
            value = json.dumps(value.to_spec(), default=list)
        elif isinstance(value, np.ndarray | list | tuple):
            value = json.dumps(np.asarray(value).tolist())
        if value is not None:
            found[name] = value if isinstance(value, SCALARS) else str(value)
    return found
