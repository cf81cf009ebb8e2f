"""SONATA, the exchange format of network models: read and write networks of point neurons."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from sparse_mrnn.connectome.report import ImportReport, report_of
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings
from sparse_mrnn.declaration.config import SimulationConfig
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.interop.sonata_files import NetworkFiles, opened
from sparse_mrnn.interop.sonata_import import import_network
from sparse_mrnn.interop.sonata_read import read_back
from sparse_mrnn.interop.sonata_write import SETTINGS, WRITTEN_HERE, write_sonata

__all__ = ["open_sonata", "read_sonata", "read_sonata_settings", "write_sonata"]


def is_network(path: str | os.PathLike[str]) -> bool:
    """Tell if a path is a folder with a SONATA network."""
    return (Path(path) / "circuit_config.json").is_file()


def is_written_here(nodes: str | os.PathLike[str]) -> bool:
    """Tell if `write_sonata` wrote the network of a folder or a nodes file, so that `open_sonata` opens it.

    Raises
    ------
    ConnectomeError
        If its files are damaged.
    """
    with opened(_nodes_file(nodes)) as file:
        return WRITTEN_HERE in file.attrs


def _nodes_file(nodes: str | os.PathLike[str]) -> Path:
    path = Path(nodes)
    return NetworkFiles.of_circuit(path).nodes if os.path.isdir(path) else path  # False if a name is too long


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
    path = _nodes_file(nodes)
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
    nodes: str | os.PathLike[str],
    edges: str | os.PathLike[str] | None = None,
    *,
    node_types: str | os.PathLike[str] | None = None,
    edge_types: str | os.PathLike[str] | None = None,
    **options: Unpack[ImportOptions],
) -> tuple[RegionGraph, ImportReport]:
    """Read a SONATA network.

    Parameters
    ----------
    nodes : path
        A nodes file (HDF5), or a folder with a ``circuit_config.json`` that names the files.
    edges : path, optional
        The edges file, with a nodes file.
    node_types, edge_types : path, optional
        Types CSV. Default: beside the HDF5 files, as node_types.csv and edge_types.csv or <file>_types.csv.
    **options
        See `ImportSettings`; not for a network of `write_sonata`, which has its regions already. Attributes
        of nodes and their types are columns, and "population". Here ``regions`` is "population", ``counts``
        False, ``scale`` "none" and ``mixed`` "free" unless given. The weight is syn_weight (times nsyns, if
        there), else 1.

    Raises
    ------
    ConnectomeError
        If a file is damaged, or the files do not belong together.

    References
    ----------
    Dai et al., PLoS Computational Biology 16, e1007696 (2020).
    """
    files = NetworkFiles.find(Path(nodes), edges, node_types, edge_types)
    if not is_written_here(files.nodes):
        defaults = dict(regions="population", counts=False, scale="none", mixed="free", name=files.nodes.stem)
        return import_network(files, ImportSettings.of(options, **defaults))
    if options:
        problem = f"this network has its regions already; {', '.join(options)} cannot be given."
        raise ConnectomeError(f"{files.nodes}: {problem}")
    graph = read_back(files)
    return graph, report_of(graph, str(nodes))


def open_sonata(
    nodes: str | os.PathLike[str],
    edges: str | os.PathLike[str] | None = None,
    *,
    node_types: str | os.PathLike[str] | None = None,
    edge_types: str | os.PathLike[str] | None = None,
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
    files = NetworkFiles.find(Path(nodes), edges, node_types, edge_types)
    if not is_written_here(files.nodes):
        how = "import it (sparse-mrnn import sonata) and open what that writes, or use read_sonata"
        raise ConnectomeError(f"{files.nodes}: only a network of write_sonata can be read by rows; {how}.")
    return read_back(files, by_rows=True)
