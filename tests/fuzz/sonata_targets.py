"""SONATA: networks that `write_sonata` wrote, and networks as other software writes them."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import sparse_mrnn as sm
from fuzz.mutate import Rng, encoded, of_bytes, of_json, of_text, pick
from fuzz.plain import as_dict
from fuzz.registry import InvalidInputError, register
from sparse_mrnn.interop import open_sonata, read_sonata, write_sonata
from sparse_mrnn.lowering.lower import lower

NAMES = ["V1", "a b", "null", "\u2028", 'q"', "ü", "\\x", "none", "0"]


def some_graph(rng: Rng) -> sm.RegionGraph:
    """Two or three regions, an input, explicit weights."""
    graph = sm.RegionGraph(name=pick(rng, ["", "net", "NULL"]))
    names = rng.permutation(NAMES)[:3].tolist()
    for name in names:
        n = int(rng.integers(1, 4))
        ids = [pick(rng, ["", "u"]) + str(k) for k in range(n)] if rng.integers(2) else None
        sign = pick(rng, ["pos", None, [pick(rng, [1, -1, 0]) for _ in range(n)]])
        parent, tau = pick(rng, [None, "group", "none of these"]), pick(rng, [None, 20.0])
        graph.add_region(name, n, sign=sign, parent_region=parent, unit_ids=ids, tau=tau)
    graph.add_input("cue", 2, sign=None)
    for source in [*names, "cue"]:
        for target in names:
            if rng.integers(2):
                shape = graph.region(target).n, graph.region(source).n
                weights = np.where(rng.random(shape) < 0.5, 0, rng.integers(1, 9, shape) / 2)
                key, sign = pick(rng, ["default", "none", "x y"]), pick(rng, ["free", "pos"])
                graph.add_projection(source, target, weights=weights, key=key, sign=sign)
    return graph


def change_h5(path: Path, rng: Rng) -> None:
    """One change of a dataset, an attribute or a link."""
    with h5py.File(path, "a") as file:
        names: list[str] = []
        file.visit(names.append)
        names = [name for name in names if isinstance(file[name], h5py.Dataset) and "indices" not in name]
        name = pick(rng, names)
        data = file[name][()]
        attributes = dict(file[name].attrs)
        way = int(rng.integers(9))
        if way == 0 and np.size(data):
            flat = np.array(data).reshape(-1)
            value = pick(rng, [-1, 0, 1, 2, 7, 2**31, 0.5, np.nan, np.inf, "x", 1e39])
            try:
                with np.errstate(all="ignore"):
                    flat[int(rng.integers(flat.size))] = value
            except (ValueError, OverflowError, TypeError):
                return
            data = flat
        elif way == 1:
            data = np.array(data)
            longer = np.append(data, data[-1:])
            data = pick(rng, [data[:-1], longer, data[None], data[:0], np.float64(1.0), "text"])
        elif way == 2:
            try:
                kinds = ["f8", "f4", "c16", "i1", "u8", "S3", "i8", "f2", "bool"]
                data = np.array(data).astype(pick(rng, kinds))
            except (ValueError, TypeError, UnicodeEncodeError):
                return
        elif way == 3:
            key = pick(rng, ["node_population", "sparse_mrnn", "magic"])
            holder = file[name] if key == "node_population" else file
            holder.attrs[key] = pick(rng, ["units", "nowhere", 1, np.arange(3), b"\xff", ""])
            return
        elif way == 4:
            del file[name]
            return
        elif way == 5:
            del file[name]
            outside = h5py.ExternalLink("other.h5", "/x")
            file[name] = pick(rng, [h5py.SoftLink("/elsewhere"), outside, h5py.SoftLink(f"/{names[0]}")])
            return
        elif way == 6:
            shape = pick(rng, [(10**12,), (10**6,), (2, 2), ()])
            del file[name]
            chunks = (1024,) if shape == (10**12,) else None
            file.create_dataset(name, shape=shape, dtype=pick(rng, ["i8", "f8", "u4"]), chunks=chunks)
            return
        elif way == 7:
            del file[name]
            file.create_group(name)
            return
        else:
            data = rng.permutation(np.array(data).reshape(-1))
        del file[name]
        try:
            file[name] = data
        except (TypeError, ValueError):
            file[name] = np.zeros(1)
        file[name].attrs.update(attributes)


def change_one(folder: Path, rng: Rng) -> None:
    """One file of a network changed."""
    path = pick(rng, sorted(folder.iterdir()))
    if path.suffix == ".h5":
        if rng.integers(4):
            change_h5(path, rng)
        else:
            path.write_bytes(of_bytes(path.read_bytes(), rng))
    elif path.suffix == ".json":
        path.write_text(of_json(json.loads(path.read_text()), rng))
    else:
        path.write_bytes(encoded(of_text(path.read_text(), rng, " "), rng))


def make_own(folder: Path, rng: Rng) -> None:
    write_sonata(some_graph(rng), folder / "net")
    if rng.integers(6):
        change_one(folder / "net", rng)


def load_own(folder: Path) -> Any:
    return described(read_sonata(folder / "net")[0])


def load_by_rows(folder: Path) -> Any:
    return described(open_sonata(folder / "net"))


def described(graph: sm.RegionGraph) -> Any:
    """Regions, and the weights by units."""
    regions = map(graph.region, graph)
    out: dict[str, Any] = {"regions": {region.name: (region.n, region.unit_ids) for region in regions}}
    for kind in ("recurrent", "input"):
        matrix = lower(graph, kind, 0, dtype=np.float64).to_scipy().tocoo()
        entries: dict[tuple[int, int], float] = defaultdict(float)
        for i, j, w in zip(matrix.row.tolist(), matrix.col.tolist(), matrix.data.tolist(), strict=True):
            entries[j, i] += w
        out[kind] = {pair: w for pair, w in entries.items() if w}
    return out


def oracle_own(folder: Path) -> Any:
    """Edges by node ids, straight from the datasets; regions from the library of their names."""
    net = folder / "net"
    try:
        config = json.loads((net / "circuit_config.json").read_text())["networks"]
        files = config["nodes"][0]["nodes_file"], config["edges"][0]["edges_file"]
        if files != ("$NETWORK_DIR/nodes.h5", "$NETWORK_DIR/edges.h5"):
            return None
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    out: dict[str, Any] = {"regions": {}}
    with h5py.File(net / "nodes.h5") as file:
        if "sparse_mrnn" not in file.attrs:
            return None
        for group in file["nodes"].values():
            labels = [label.decode() for label in group["0/@library/region"][:]]
            if len(set(labels)) < len(labels):
                return None
            with_ids = _with_ids(net)
            for k, label in enumerate(labels):
                members = np.flatnonzero(group["0/region"][:] == k)
                named = label in with_ids
                ids = tuple(text.decode() for text in group["0/unit_id"][:][members]) if named else None
                out["regions"][label] = (len(members), ids)
    with h5py.File(net / "edges.h5") as file:
        for kind, population in (("recurrent", "units_to_units"), ("input", "inputs_to_units")):
            entries: dict[tuple[int, int], float] = defaultdict(float)
            if f"edges/{population}" in file:
                group = file[f"edges/{population}"]
                names = "source_node_id", "target_node_id", "0/syn_weight"
                for s, t, w in zip(*(group[name][:].tolist() for name in names), strict=True):
                    entries[s, t] += w
            out[kind] = {pair: w for pair, w in entries.items() if w}
    return out


def _with_ids(net: Path) -> set[str]:
    with (net / "node_types.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, delimiter=" ", skipinitialspace=True)
        return {row["region"] for row in rows if row["unit_ids"] == "1"}


def judged(oracle: Any) -> Any:
    """An oracle that leaves what it cannot parse to the package: regions renamed in the CSV, and such."""

    def quiet(folder: Path) -> Any:
        try:
            expected, found = oracle(folder), load_own(folder)
        except InvalidInputError:
            raise
        except Exception:
            return None
        if expected is None or expected["regions"].keys() != found["regions"].keys():
            return None
        return expected

    return quiet


register("SONATA, exact", make_own, load_own, judged(oracle_own), share=2)
register("SONATA, by rows", make_own, load_by_rows, judged(oracle_own), share=2)


# ---------------------------------------------------------------- networks of other software


def make_other(folder: Path, rng: Rng) -> None:
    sizes = {"v1": 3, "lgn": 2}
    with h5py.File(folder / "nodes.h5", "w") as file:
        for population, n in sizes.items():
            group = file.create_group(f"nodes/{population}")
            group["node_type_id"], group["node_id"] = np.full(n, 100 + n), rng.permutation(n)
            group["node_group_id"], group["node_group_index"] = np.zeros(n, int), np.arange(n)
            group["0/layer"] = np.array([f"L{k}" for k in range(n)], dtype="S4")
    with h5py.File(folder / "edges.h5", "w") as file:
        for source in sizes:
            n = int(rng.integers(1, 5))
            group = file.create_group(f"edges/{source}_v1")
            for end, population in (("source", source), ("target", "v1")):
                group[f"{end}_node_id"] = rng.integers(0, sizes[population], n)
                group[f"{end}_node_id"].attrs["node_population"] = population
            group["edge_type_id"] = np.full(n, 7)
            group["edge_group_id"], group["edge_group_index"] = np.zeros(n, int), np.arange(n)
            group["0/syn_weight"] = rng.integers(-4, 9, n) / 2
    rows = ["node_type_id population pop_name model_type", "103 v1 Exc point_neuron", "102 lgn tON virtual"]
    (folder / "node_types.csv").write_text("\n".join(rows) + "\n")
    (folder / "edge_types.csv").write_text("edge_type_id delay\n7 2.0\n")
    if rng.integers(6):
        change_one(folder, rng)


def load_other(folder: Path) -> Any:
    return as_dict(read_sonata(folder / "nodes.h5", folder / "edges.h5")[0])


def oracle_other(folder: Path) -> Any:
    """Sums by population and node id, if the datasets have their usual types."""
    weights: dict[tuple[str, str], float] = defaultdict(float)
    try:
        with h5py.File(folder / "nodes.h5") as file:
            sizes = {name: len(group["node_type_id"]) for name, group in file["nodes"].items()}
        regions = {name: sorted(f"{name}/{k}" for k in range(n)) for name, n in sizes.items()}
        with h5py.File(folder / "edges.h5") as file:
            for group in file["edges"].values():
                ends = [group[name].attrs["node_population"] for name in ("source_node_id", "target_node_id")]
                source, target = (group[name][:].tolist() for name in ("source_node_id", "target_node_id"))
                order = group["edge_group_index"][:].tolist()
                values = group["0/syn_weight"][:]
                for s, t, k in zip(source, target, order, strict=True):
                    if type(s) is not int or type(t) is not int or type(k) is not int or min(s, t, k) < 0:
                        raise InvalidInputError("an index is not an integer")
                    weights[f"{ends[0]}/{s}", f"{ends[1]}/{t}"] += float(values[k])
    except InvalidInputError:
        raise
    except Exception:
        return None
    return {"regions": regions, "weights": {pair: w for pair, w in weights.items() if w}}


register("SONATA, others", make_other, load_other, oracle_other, share=2)
