"""SONATA, the exchange format of network models: read a network of point neurons, write one, read it back."""

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
from sparse_mrnn.interop.sonata_write import EXACT, SETTINGS, write_sonata

__all__ = ["open_sonata", "read_sonata", "read_sonata_settings", "write_sonata"]


def is_network(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder with a SONATA network."""
    return (Path(path) / "circuit_config.json").is_file()


def is_written_here(path: str | os.PathLike[str]) -> bool:
    """Whether `write_sonata` wrote the network in a folder, so that `open_sonata` opens it.

    Raises
    ------
    ConnectomeError
        If its files are damaged.
    """
    return _is_exact(NetworkFiles.of_circuit(Path(path)))


def _is_exact(files: NetworkFiles) -> bool:
    with opened(files.nodes) as file:
        return EXACT in file.attrs


def read_sonata_settings(nodes: str | os.PathLike[str]) -> SimulationConfig | None:
    """Settings (dt, tau, activation, ...) of the network that `write_sonata` wrote; None of a graph.

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
    file_of_nodes = NetworkFiles.of_circuit(path).nodes if path.is_dir() else path
    with opened(file_of_nodes) as file:
        text = file.attrs.get(SETTINGS)
    if text is None:
        return None
    try:
        return SimulationConfig.model_validate_json(text)
    except ValueError as error:
        problem = f"its settings cannot be read: {str(error).splitlines()[-1].strip()}"
        raise ConnectomeError(f"{file_of_nodes}: {problem}") from None


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
        See `ImportSettings`; not for a network of `write_sonata`, which is read back as it was. Attributes of
        nodes and their types are columns, and "population". Here ``regions`` is "population", ``counts``
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
    if not _is_exact(files):
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
    """The graph of a network that `write_sonata` wrote, with its synapses left in their file.

    A network that is built of it reads them by rows, and one on several processes the rows of its own units
    only: none of them has all synapses. All are read once here, some thousand target units at a time, to
    check and to count them. The files must stay as they are until the network is built.

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
    if not _is_exact(files):
        how = "import it (sparse-mrnn import sonata) and open what that writes, or use read_sonata"
        raise ConnectomeError(f"{files.nodes}: only a network of write_sonata can be read by rows; {how}.")
    return read_back(files, by_rows=True)
