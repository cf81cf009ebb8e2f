"""SONATA, the exchange format of network models: read any network of point neurons, write one, read it back exactly."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from sparse_mrnn.connectome.assemble import ConnectomeTables, graph_from_tables
from sparse_mrnn.connectome.column_table import ColumnTable, arrow
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import Options, Settings
from sparse_mrnn.connectome.summary import report_of
from sparse_mrnn.errors import ConnectomeError
from sparse_mrnn.graph import RegionGraph
from sparse_mrnn.interop.sonata_read import opened, read_own, types
from sparse_mrnn.interop.sonata_write import OWN, write_sonata

__all__ = ["read_sonata", "write_sonata"]


def is_network(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder with a SONATA network."""
    return (Path(path) / "circuit_config.json").is_file()


def read_sonata(
    nodes: str | os.PathLike[str],
    edges: str | os.PathLike[str] | None = None,
    *,
    node_types: str | os.PathLike[str] | None = None,
    edge_types: str | os.PathLike[str] | None = None,
    **options: Unpack[Options],
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
        See `Settings`; not for a network of `write_sonata`, which is read back as it was. Attributes of nodes and
        their types are columns, and "population". Here ``regions`` is "population", ``counts`` False, ``scale``
        "none" and ``mixed`` "free" unless given. The weight is syn_weight (times nsyns, if there), else 1.

    Returns
    -------
    RegionGraph, ImportReport

    Raises
    ------
    ConnectomeError
        If a file is damaged, or the files do not belong together.

    References
    ----------
    Dai et al., PLoS Computational Biology 16, e1007696 (2020).
    """
    node_file, edge_file, node_csv, edge_csv = _files(Path(nodes), edges, node_types, edge_types)
    with opened(node_file) as file:
        own = OWN in file.attrs
    if own:
        if options:
            raise ConnectomeError(f"{node_file}: this network has its regions already; {', '.join(options)} cannot be given.")
        graph = read_own(node_file, edge_file, _needed(node_csv, node_file), _needed(edge_csv, edge_file))
        return graph, report_of(graph, str(nodes))
    settings = Settings.of(options, regions="population", counts=False, scale="none", mixed="free", name=node_file.stem)
    return _foreign(node_file, edge_file, node_csv, edge_csv, settings)


def _needed(path: Path | None, beside: Path) -> Path:
    if path is None:
        raise ConnectomeError(f"{beside}: its types CSV is not beside it; name it with node_types= and edge_types=.")
    return path


def _files(nodes: Path, edges: Any, node_types: Any, edge_types: Any) -> tuple[Path, Path, Path | None, Path | None]:
    """The four files of a network."""
    if nodes.is_dir():
        return _from_config(nodes)
    if edges is None:
        raise ConnectomeError(f"{nodes}: give the edges file too, or the folder with circuit_config.json.")
    return nodes, Path(edges), _beside(nodes, node_types, "node_types.csv"), _beside(Path(edges), edge_types, "edge_types.csv")


def _beside(file: Path, given: Any, name: str) -> Path | None:
    if given is not None:
        return Path(given)
    return next(
        (
            p
            for p in (
                file.with_name(name),
                file.with_name(file.stem.removesuffix("s") + "_types.csv"),
                file.with_name(file.stem.replace("nodes", "node_types").replace("edges", "edge_types") + ".csv"),
            )
            if p.is_file()
        ),
        None,
    )


def _from_config(folder: Path) -> tuple[Path, Path, Path | None, Path | None]:
    config = folder / "circuit_config.json"
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        networks = content["networks"]
        found = [(kind, entry) for kind in ("nodes", "edges") for entry in networks[kind]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConnectomeError(f"{config}: cannot be read as a SONATA circuit: {type(error).__name__} {error}.") from None
    if [kind for kind, _ in found] != ["nodes", "edges"]:
        raise ConnectomeError(
            f"{config}: {len(networks['nodes'])} nodes files and {len(networks['edges'])} edges files; read one pair at a time, by file."
        )
    names = dict(content.get("manifest", {}))

    def resolve(entry: Any, key: str) -> Path | None:
        text = entry.get(key)
        if not text or text == "NULL":
            return None
        for _ in range(len(names) + 1):
            for name, value in names.items():
                text = text.replace(name, value)
        path: Path = (folder / text).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ConnectomeError(f"{config}: {key} {entry[key]!r} leads outside of the folder; it is not opened.")
        return path

    (_, node), (_, edge) = found
    node_file, edge_file = resolve(node, "nodes_file"), resolve(edge, "edges_file")
    if node_file is None or edge_file is None:
        raise ConnectomeError(f"{config}: a nodes_file and an edges_file are needed.")
    return node_file, edge_file, resolve(node, "node_types_file"), resolve(edge, "edge_types_file")


def _foreign(
    node_file: Path, edge_file: Path, node_csv: Path | None, edge_csv: Path | None, settings: Settings
) -> tuple[RegionGraph, ImportReport]:
    """A network of others, by the path every importer takes."""
    pa = arrow()
    start: dict[str, int] = {}
    total = 0
    names: list[str] = []
    columns: dict[str, list[Any]] = {}
    notes: list[str] = []
    with opened(node_file) as file:
        for population, group in file["nodes"].items():
            found = _attributes(group, "node", node_csv, population, settings.neuron_columns(), node_file)
            n = len(group["node_type_id"])
            ids = group["node_id"][:] if "node_id" in group else np.arange(n)
            if sorted(ids.tolist()) != list(range(n)):
                raise ConnectomeError(f"{node_file}: the node_ids of population {population!r} are not 0..{n - 1}.")
            order = np.argsort(ids)
            start[population], total = total, total + n
            names += [f"{population}/{k}" for k in range(n)]
            found = {**{c: [v[k] for k in order] for c, v in found.items()}, "population": [population] * n}
            for column in {*columns, *found}:
                columns.setdefault(column, [None] * (total - n)).extend(found.get(column, [None] * n))
            if set(found.get("model_type", [])) == {"virtual"}:
                notes.append(f"population {population!r} is virtual; its nodes are units like any other")
    parts: list[dict[str, Any]] = []
    with opened(edge_file) as file:
        for population, group in file["edges"].items():
            ends = []
            for side in ("source", "target"):
                data = group[f"{side}_node_id"]
                node_population = data.attrs.get("node_population", next(iter(start)))
                node_population = node_population.decode() if isinstance(node_population, bytes) else str(node_population)
                if node_population not in start:
                    raise ConnectomeError(
                        f"{edge_file}: population {population!r} has {side}s in {node_population!r}, which {node_file.name} does not have."
                    )
                size = sum(1 for name in names[start[node_population] :] if name.startswith(node_population + "/"))
                index = data[:].astype(np.int64)
                if len(index) and not 0 <= index.min() <= index.max() < size:
                    raise ConnectomeError(f"{edge_file}: population {population!r} has a {side}_node_id outside of 0..{size - 1}.")
                ends.append((index + start[node_population]).astype(np.int32))
            found = _attributes(group, "edge", edge_csv, population, ["syn_weight", "nsyns", *settings.edge_columns()], edge_file)
            parts.append({"source": ends[0], "target": ends[1], "edge_population": [population] * len(ends[0]), **found})
    edges = {
        c: [v for part in parts for v in part.get(c, [None] * len(part["source"]))]
        for c in {c for part in parts for c in part} - {"source", "target"}
    }
    weight = np.ones(sum(len(part["source"]) for part in parts))
    for name in ("syn_weight", "nsyns"):
        if name in edges:
            weight = weight * np.array([np.nan if v is None else float(v) for v in edges.pop(name)])
    table: dict[str, Any] = {c: pa.array([None if v is None else str(v) for v in values]) for c, values in edges.items()}
    for side in ("source", "target"):
        index = np.concatenate([part[side] for part in parts]) if parts else np.empty(0, dtype=np.int32)
        table[side] = pa.DictionaryArray.from_arrays(pa.array(index), pa.array(names))
    table["weight"] = weight
    neurons = {
        "neuron": names,
        **{c: pa.array([None if v is None else str(v) for v in values]) for c, values in columns.items() if c != "neuron"},
    }
    tables = ConnectomeTables(
        f"{node_file} and {edge_file.name}",
        ColumnTable(edge_file.name, pa.table(table)),
        "source",
        "target",
        "weight",
        ColumnTable(node_file.name, pa.table(neurons)),
        "neuron",
        notes=tuple(notes),
    )
    return graph_from_tables(tables, settings)


def _attributes(group: Any, what: str, csv_file: Path | None, population: str, wanted: list[str], file: Path) -> dict[str, list[Any]]:
    """Attributes of every node or edge: those of its type, over which its own go."""
    kind = group[f"{what}_type_id"][:]
    n = len(kind)
    out: dict[str, list[Any]] = {}
    if csv_file is not None:
        rows = [row for row in types(csv_file, (f"{what}_type_id",), f"{what}_type_id") if row.get("population", population) == population]
        by_type = {int(row[f"{what}_type_id"]): row for row in rows}
        for column in {c for row in rows for c in row} & {*wanted, "model_type"}:
            values = {k: None if row[column] == "NULL" else row[column] for k, row in by_type.items()}
            out[column] = [values.get(k) for k in kind.tolist()]
    groups = [name for name in group if name.isdigit()]
    member = group[f"{what}_group_id"][:] if f"{what}_group_id" in group else np.zeros(n, dtype=np.int64)
    index = group[f"{what}_group_index"][:] if f"{what}_group_index" in group else np.arange(n)
    for name in groups:
        here = np.flatnonzero(member == int(name))
        for column in group[name]:
            if column not in (*wanted, "model_type") or not hasattr(group[name][column], "shape") or group[name][column].ndim != 1:
                continue
            data = group[name][column][:]
            library = f"@library/{column}"
            labels = group[name][library][:] if library in group[name] else None
            if len(here) and index[here].max() >= len(data):
                raise ConnectomeError(f"{file}: population {population!r}: attribute {column!r} has {len(data)} values, but more are used.")
            values = data[index[here]].tolist() if labels is None else labels[data[index[here]]].tolist()
            column_values = out.setdefault(column, [None] * n)
            for k, value in zip(here.tolist(), values, strict=True):
                column_values[k] = value.decode() if isinstance(value, bytes) else value
    return out
