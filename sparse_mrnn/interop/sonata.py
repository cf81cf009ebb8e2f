"""SONATA, the exchange format of network models: read and write networks of point neurons."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.connectome.report import ImportReport, report_of
from sparse_mrnn.connectome.settings import ImportOptions
from sparse_mrnn.declaration.config import SimulationConfig
from sparse_mrnn.declaration.graph import Region, RegionGraph
from sparse_mrnn.declaration.projection_columns import ProjectionColumns
from sparse_mrnn.declaration.regions import INPUT_FIELDS, REGION_FIELDS
from sparse_mrnn.errors import ConnectomeError, GraphError, WeightError
from sparse_mrnn.interop.sonata_edges import EdgeTypes, StoredEdges, check_numbering, parsed, read_edges
from sparse_mrnn.interop.sonata_files import (
    Circuit,
    NetworkFiles,
    TypeTable,
    column,
    indices,
    opened,
    read_types,
    texts,
)
from sparse_mrnn.interop.sonata_import import import_network
from sparse_mrnn.interop.sonata_write import (
    EDGE_COLUMNS,
    NODE_COLUMNS,
    POPULATIONS,
    SETTINGS,
    WRITTEN_HERE,
    write_sonata,
)
from sparse_mrnn.lowering.layout import Layout

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

__all__ = ["open_sonata", "read_sonata", "read_sonata_settings", "write_sonata"]


def read_folder(folder: Path, *, by_rows: bool) -> tuple[RegionGraph, SimulationConfig | None]:
    """Read the network of a folder and its settings, if any; ``by_rows``, if it can be, as `open_sonata`."""
    own = _written_here(Circuit.find(folder, None, None, None))
    if own is None:
        return read_sonata(folder)[0], None
    return _read_back(own, by_rows=by_rows), read_sonata_settings(own.nodes)


def _written_here(circuit: Circuit) -> NetworkFiles | None:
    """Return the files of a network that `write_sonata` wrote; None for another one."""
    if circuit.pair is None:
        return None
    with opened(circuit.pair.nodes) as file:
        return circuit.pair if WRITTEN_HERE in file.attrs else None


def read_sonata_settings(nodes: str | os.PathLike[str]) -> SimulationConfig | None:
    """Read the settings (dt, tau, activation, ...) of a network of `write_sonata`; a graph has None.

    Parameters
    ----------
    nodes : path
        The folder, or its nodes file.

    Raises
    ------
    ConnectomeError
        If the file is damaged.

    Examples
    --------
    >>> import tempfile, sparse_mrnn as sm
    >>> net = sm.mRNN({"recurrent_regions": [{"num_units": 3}]}, tau=50, device="cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_sonata(net, f"{folder}/net")
    ...     settings = read_sonata_settings(f"{folder}/net")
    ...     graph, report = read_sonata(f"{folder}/net")
    >>> sm.simulation.build_network(graph, settings, "cpu").tau
    50.0
    """
    path = Path(nodes)
    if os.path.isdir(path):  # False if a name is too long
        path = Circuit.find(path, None, None, None).nodes[0].path
    with opened(path) as file:
        text = file.attrs.get(SETTINGS)
    if text is None:
        return None
    try:
        return SimulationConfig.model_validate_json(text)
    except ValueError as error:
        problem = f"its settings cannot be read: {str(error).splitlines()[-1].strip()}"
        raise ConnectomeError(f"{path}: {problem}") from None


def read_sonata(
    nodes: Paths, edges: Paths | None = None, *, node_types: Paths | None = None,
    edge_types: Paths | None = None, weight: str | None = "syn_weight", **options: Unpack[ImportOptions],
) -> tuple[RegionGraph, ImportReport]:
    """Read a SONATA network of one or several files and populations.

    Parameters
    ----------
    nodes : path or sequence of path
        A configuration (.json) of a circuit, or of a simulation of one; a folder with such a configuration,
        or with files as BMTK's builder names them (v1_nodes.h5, v1_v1_edges.h5); or files of nodes (HDF5).
    edges : path or sequence of path, optional
        The files of edges, with those of nodes.
    node_types, edge_types : path or sequence of path, optional
        Types CSV, one for each of these files. Default: beside them, as node_types.csv and edge_types.csv or
        <file>_types.csv.
    weight : str, optional
        Attribute of edges, or of their types, with the weight of a synapse. If no edge has a syn_weight, it
        is the conductance, or else 1, as it is if None. An edge has as many synapses as its nsyns, or one.
    **options
        See `ImportSettings`; not for a network of `write_sonata`, which has its regions already. Attributes
        of nodes and their types are columns, and "population"; x, y and z are positions. Here ``regions`` is
        "population", ``counts`` False, ``scale`` "none", ``mixed`` "free" and ``delay`` "delay", if edges
        have it, unless given. Without ``sign`` or ``transmitter``, weights have the sign that the model of
        their synapses says (dynamics_params: a sign, or a reversal potential below -45 mV), where the
        configuration has its folder.

    Raises
    ------
    ConnectomeError
        If a file is damaged, or the files do not belong together.

    References
    ----------
    Dai et al., PLoS Computational Biology 16, e1007696 (2020).
    """
    circuit = Circuit.find(nodes, edges, node_types, edge_types)
    files = _written_here(circuit)
    if files is None:
        return import_network(circuit, weight, options)
    given = [*options, *(["weight"] if weight != "syn_weight" else [])]
    if given:
        problem = f"this network has its regions already; {', '.join(given)} cannot be given."
        raise ConnectomeError(f"{files.nodes}: {problem}")
    graph = _read_back(files)
    return graph, report_of(graph, str(nodes))


def open_sonata(
    nodes: str | os.PathLike[str], edges: str | os.PathLike[str] | None = None, *,
    node_types: str | os.PathLike[str] | None = None, edge_types: str | os.PathLike[str] | None = None,
) -> RegionGraph:
    """Open a network that `write_sonata` wrote, and leave its synapses in their file.

    A network built of the graph reads them by rows; of a network on several processes, each reads the rows of
    its own units, so that none has all synapses. Here all are read once, some thousand target units at a
    time, to check and to count them. The files must stay as they are until the network is built.

    Parameters
    ----------
    nodes, edges, node_types, edge_types : path
        As for `read_sonata`.

    Raises
    ------
    ConnectomeError
        If a file is damaged, or `write_sonata` did not write it; later, if the file of the edges has changed.

    Examples
    --------
    >>> import tempfile, numpy as np, sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2)
    >>> g.add_projection("a", "a", weights=np.array([[0, 2.0], [1.0, 0]]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_sonata(g, f"{folder}/net")
    ...     net = sm.mRNN(open_sonata(f"{folder}/net"), device="cpu")
    >>> net.rec.nnz
    2
    """
    circuit = Circuit.find(nodes, edges, node_types, edge_types)
    files = _written_here(circuit)
    if files is None:
        how = "import it (sparse-mrnn import sonata) and open what that writes, or use read_sonata"
        problem = f"only a network of write_sonata can be read by rows; {how}."
        raise ConnectomeError(f"{circuit.nodes[0].path}: {problem}")
    return _read_back(files, by_rows=True)


def _read_back(files: NetworkFiles, *, by_rows: bool = False) -> RegionGraph:
    """Read the graph of a network of `write_sonata`; with ``by_rows``, leave the synapses in their file."""
    if files.node_types is None or files.edge_types is None:
        beside = files.nodes if files.node_types is None else files.edges
        problem = "its types CSV is not beside it; name it with node_types= and edge_types=."
        raise ConnectomeError(f"{beside}: {problem}")
    with opened(files.nodes) as file:
        graph = _graph(file, files.nodes, files.node_types)
    rows = _rows(files.edge_types, EDGE_COLUMNS, ("source_region", "target_region", "key"))
    if (rows.ids != np.arange(len(rows))).any():
        raise ConnectomeError(f"{files.edge_types}: the edge_type_ids are not 0..{len(rows) - 1}.")
    parts: list[ProjectionColumns] = []
    ids = [np.empty(0, dtype=np.int64)]
    with opened(files.edges) as file:
        kinds = {f"{population}_to_units": kind for kind, population in POPULATIONS.items()}
        used = {rows.labels["population"][code] for code in np.unique(rows.codes["population"])}
        if not set(file.get("edges", ())) == used <= set(kinds):
            problem = "its populations are not those of the edge types."
            raise ConnectomeError(f"{files.edges}: {problem}")
        for population in file.get("edges", ()):
            layouts = Layout.of(graph), Layout.of(graph, kinds[population])
            types = EdgeTypes(files, rows.take(rows.equals("population", population)), *layouts)
            ids.append(types.table.ids)
            if by_rows:
                parts.append(StoredEdges(file, population, types).columns(graph))
            else:
                parts.append(read_edges(file[f"edges/{population}"], types).columns(types, graph))
    order = np.argsort(np.concatenate(ids), kind="stable")
    try:
        graph.add_columns(ProjectionColumns.joined(parts).take(order))
    except GraphError:
        problem = "two edge types have the same regions and key."
        raise ConnectomeError(f"{files.edge_types}: {problem}") from None
    try:
        graph.check_electrical_projections()
    except (GraphError, WeightError) as error:
        raise ConnectomeError(f"{files.edges}: {error}") from None
    return graph


def _rows(path: Path, needed: Sequence[str], names: Sequence[str]) -> TypeTable:
    """Read a types CSV with the ``needed`` columns, the id first, and never NULL in the ``names``."""
    rows = read_types(path, needed[0], needed[1:])
    for name in ("population", *names):
        for k in np.flatnonzero(rows.equals(name, None) | rows.equals(name, ""))[:1]:
            raise ConnectomeError(f"{path}: {name} of type {rows.ids[k]} is missing.")
    return rows


class _NodeAttributes:
    """Attributes of a population's ``n`` nodes, each read once."""

    def __init__(self, group: Any, n: int) -> None:
        self._group, self._n = group, n
        self._read: dict[tuple[str, str], Any] = {}

    def of_units(self, units: slice, name: str, kinds: str) -> Any:
        """Return an attribute of some nodes; None if it is not there."""
        if (name, kinds) not in self._read:
            found = None
            if name in self._group:
                read = texts(self._group, name, self._n) if kinds == "SO" else None
                found = column(self._group, name, kinds, self._n) if read is None else read
            self._read[name, kinds] = found
        found = self._read[name, kinds]
        return None if found is None else found[units]

    def regions(self) -> NDArray[np.object_]:
        """Return the region of each node."""
        if ("region", "") not in self._read:
            labels = np.array(texts(self._group["@library"], "region"), dtype=object)
            self._read["region", ""] = labels[indices(self._group, "region", len(labels), self._n)]
        found: NDArray[np.object_] = self._read["region", ""]
        return found


def _graph(file: Any, nodes: Path, node_types: Path) -> RegionGraph:
    name = file.attrs[WRITTEN_HERE]
    if not isinstance(name, str):
        raise ConnectomeError(f"{nodes}: the name of the network is {name!r:.80}, which is not text.")
    graph = RegionGraph(name=name)
    rows = _rows(node_types, NODE_COLUMNS, ("region",)).rows()
    if not set(file["nodes"]) == {row["population"] for row in rows} <= set(POPULATIONS.values()):
        raise ConnectomeError(f"{nodes}: its populations are not those of {node_types.name}.")
    for group in file["nodes"].values():
        for name in ("node_id", "node_group_index"):
            check_numbering(group, name)
    type_ids = {name: column(group, "node_type_id", "iu") for name, group in file["nodes"].items()}
    count = 0
    attributes = {name: _NodeAttributes(file[f"nodes/{name}/0"], len(ids)) for name, ids in type_ids.items()}
    by_type = {name: np.argsort(ids, kind="stable") for name, ids in type_ids.items()}
    sorted_ids = {name: ids[by_type[name]] for name, ids in type_ids.items()}
    for row in rows:
        type_id, population = int(str(row["node_type_id"])), str(row["population"])
        here = slice(*np.searchsorted(sorted_ids[population], [type_id, type_id + 1]))
        members = by_type[population][here]
        if not len(members) or members[-1] - members[0] + 1 != len(members):
            problem = "not in one run" if len(members) else "missing"
            raise ConnectomeError(f"{nodes}: the nodes of type {type_id} are {problem}.")
        units = slice(int(members[0]), int(members[-1]) + 1)
        count += len(members)
        if (attributes[population].regions()[units] != row["region"]).any():
            raise ConnectomeError(f"{nodes}: the nodes of type {type_id} are not all in {row['region']!r}.")
        kind, fields = "recurrent", REGION_FIELDS
        if population == POPULATIONS["input"]:
            kind, fields = "input", INPUT_FIELDS
        by_unit = partial(attributes[population].of_units, units)
        given = parsed(fields, row, by_unit, f"{node_types}: ", f" of type {type_id}")
        graph.set_region(Region.checked(str(row["region"]), len(members), kind, given))
    if count != sum(map(len, type_ids.values())):
        raise ConnectomeError(f"{nodes}: some nodes have a type that {node_types.name} does not have.")
    return graph
