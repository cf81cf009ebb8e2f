"""GraphML, flyvis, The Virtual Brain and configurations."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from fuzz.mutate import TOKENS, Rng, encoded, of_json, of_text, of_zip, pick
from fuzz.plain import LINE, as_dict, number, only
from fuzz.registry import InvalidInputError, register
from sparse_mrnn.connectome import read_graphml, read_tvb
from sparse_mrnn.declaration.config import read_config
from sparse_mrnn.fly_vision import read_flyvis

# ---------------------------------------------------------------- GraphML

XML = [
    "<!DOCTYPE x>", '<graph edgedefault="directed"/>', "<!-- -->", "&amp;", "&a;", "</graph>", "<hyperedge/>",
    '<node id="n0"/>', '<edge source="n0" target="nowhere"/>', '<data key="d9">1</data>', "<?xml?>",
    "<![CDATA[1]]>", '<key id="d0" for="edge"/>',
]  # fmt: skip
HEADS = [f'<?xml version="1.0" encoding="{name}"?>' for name in ("utf-8", "UTF-16", "x-none")]


def make_graphml(folder: Path, rng: Rng) -> None:
    graph = pick(rng, [nx.DiGraph, nx.Graph, nx.MultiDiGraph])()
    names = [f"n{k}" for k in range(int(rng.integers(1, 5)))]
    for name in names:
        graph.add_node(name, kind=pick(rng, ["V1", "LGN"]))
    for _ in range(int(rng.integers(0, 6))):
        graph.add_edge(pick(rng, names), pick(rng, names), weight=pick(rng, [1, 2, 0.5]))
    text = "\n".join(nx.generate_graphml(graph))
    for _ in range(int(rng.geometric(0.6))):
        tokens = re.findall(r'"[^"]*"|<[^>]*>|[^<>"]+', text)
        k = int(rng.integers(len(tokens)))
        way = int(rng.integers(5))
        if way == 0:
            tokens[k] = f'"{pick(rng, TOKENS)}"' if tokens[k].startswith('"') else pick(rng, TOKENS)
        elif way == 1:
            del tokens[k]
        elif way == 2:
            tokens.insert(k, pick(rng, XML))
        elif way == 3:
            tokens.insert(k, tokens[int(rng.integers(len(tokens)))])
        else:
            word = pick(rng, ["edge", "node", "double", "string", "id", "for"])
            tokens[k] = tokens[k].replace(word, pick(rng, ["edge", "node", "int", "boolean", "x"]))
        text = "".join(tokens)
    (folder / "net.graphml").write_bytes(encoded(pick(rng, ["", *HEADS]) + text, rng))


def oracle_graphml(folder: Path) -> Any:
    data = only(folder).read_bytes()
    try:
        root = ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise InvalidInputError(f"no XML: {error}") from error
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1")
    if "<!DOCTYPE" in text and "<![CDATA[<!DOCTYPE" not in text and "<!--" not in text:
        raise InvalidInputError("it has a document type")
    space = "{http://graphml.graphdrawing.org/xmlns}"
    graphs = root.findall(f".//{space}graph")
    several = len([graph for graph in graphs if len(graph)]) > 1  # an empty one in a node adds nothing
    if len(root.findall(".//graph")) or len(graphs) > 1:
        return _refuse("there are several graphs") if several else None
    keys = {key.get("id"): key for key in root.iter(f"{space}key")}
    weights = [i for i, key in keys.items() if key.get("attr.name") == "weight" and key.get("for", "all") in ("edge", "all")]
    defaults = any(key.find(f"{space}default") is not None for key in keys.values())
    if not graphs or len(weights) > 1 or defaults:
        return None
    directed = graphs[0].get("edgedefault") == "directed"
    nodes = [node.get("id") for node in graphs[0].findall(f"{space}node")]
    if len(set(nodes)) < len(nodes) or None in nodes:
        raise InvalidInputError("a node is there twice, or has no name")
    source, target, values = [], [], []
    for edge in graphs[0].findall(f"{space}edge"):
        if edge.get("source") not in nodes or edge.get("target") not in nodes:
            raise InvalidInputError("an edge has an unknown node")
        if edge.get("directed") is not None:
            return None
        found = [d.text for d in edge.findall(f"{space}data") if d.get("key") in weights]
        if len(found) > 1:
            raise InvalidInputError("an edge has two weights")
        values.append((found[0] or "").strip() or None if found else None)
        source.append(edge.get("source"))
        target.append(edge.get("target"))
    known = [value for value in values if value is not None]
    if known and len(known) < len(values):
        raise InvalidInputError("some edges have no weight")
    if any(keys[key].get("attr.type") not in ("double", "float", "int", "long") for key in weights):
        return None
    numbers = [number(value) for value in values] if known else [1.0] * len(values)
    pairs: dict[tuple[str, str], float] = defaultdict(float)
    for s, t, value in zip(source, target, numbers, strict=True):
        if not re.fullmatch(r"n\d", s) or not re.fullmatch(r"n\d", t):
            return None
        pairs[s, t] += value
        if not directed and s != t:
            pairs[t, s] += value
    return {"weights": {pair: value for pair, value in pairs.items() if value}, "units": len(nodes)}


def _refuse(why: str) -> Any:
    raise InvalidInputError(why)


def load_graphml(folder: Path) -> Any:
    graph, _ = read_graphml(only(folder), scale="none", counts=False, mixed="free")
    return {"weights": as_dict(graph)["weights"], "units": graph.n_units}


register("GraphML", make_graphml, load_graphml, oracle_graphml)


# ---------------------------------------------------------------- flyvis


def make_flyvis(folder: Path, rng: Rng) -> None:
    names = ["R1", "L1", "CT"]
    patterns = [["stride", [1, 1]], ["stride", [2, 1]], ["single", None], ["tile", 2]]

    def offsets() -> list[Any]:
        n = int(rng.integers(1, 4))
        return [[[k, int(rng.integers(-2, 3))], pick(rng, [1, 2.5, 40])] for k in range(n)]

    spec = {
        "nodes": [{"name": name, "pattern": pick(rng, patterns)} for name in names],
        "edges": [
            {"src": pick(rng, names), "tar": pick(rng, names), "alpha": sign, "offsets": offsets()}
            for sign in rng.choice([1, -1], 3).tolist()
        ],
        "input_units": ["R1"],
        "output_units": ["L1"],
    }  # fmt: skip
    (folder / "fly.json").write_bytes(of_json(spec, rng).encode("utf-8", "surrogatepass"))


EXTENT = 2


def oracle_flyvis(folder: Path) -> Any:
    spec = plain_json(only(folder))
    cells: dict[str, list[tuple[int, int]]] = {}
    try:
        for node in spec["nodes"]:
            if isinstance(node["pattern"], str):
                return None  # "single" says it without a value
            kind, value = node["pattern"]
            n = 0 if kind == "single" else EXTENT
            steps = {"single": (1, 1), "tile": (value, value)}.get(kind, value)
            whole = len(steps) == 2 and all(type(step) is int and step > 0 for step in steps)
            if kind not in ("single", "stride", "tile") or not whole:
                raise InvalidInputError("a pattern is unknown")
            columns = [(u, v) for u in range(-n, n + 1) for v in range(max(-n, -n - u), min(n, n - u) + 1)]
            if node["name"] in cells:
                raise InvalidInputError("a cell type is there twice")
            cells[node["name"]] = [(u, v) for u, v in columns if u % steps[0] == 0 and v % steps[1] == 0]
        for part in ("input_units", "output_units"):
            if not isinstance(spec.get(part, []), list) or not set(spec.get(part, [])) <= set(cells):
                raise InvalidInputError(f"{part} has an unknown cell type")
        weights: dict[tuple[str, str], float] = defaultdict(float)
        for edge in spec["edges"]:
            if edge["alpha"] not in (1, -1):
                raise InvalidInputError("alpha is not a sign")
            seen = set()
            for (du, dv), count in edge["offsets"]:
                whole = type(du) is type(dv) is int and type(count) in (int, float)
                if not whole or not 0 <= count < math.inf or (du, dv) in seen:
                    raise InvalidInputError("an offset is wrong")
                seen.add((du, dv))
                reached = set(cells[edge["tar"]])
                for u, v in cells[edge["src"]]:
                    if (u + du, v + dv) in reached:
                        pair = f"{edge['src']}[{u},{v}]", f"{edge['tar']}[{u + du},{v + dv}]"
                        weights[pair] += edge["alpha"] * count
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInputError(f"it has another form: {error!r}") from error
    if not any(cells.values()) or not spec["edges"]:
        raise InvalidInputError("there are neither cells nor edges")
    return {"units": sum(map(len, cells.values())), "weights": without_zeros(weights)}


def without_zeros(weights: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Weights without those that two projections of both signs may add to."""
    return {pair: value for pair, value in weights.items() if value}


def load_flyvis(folder: Path) -> Any:
    graph, _ = read_flyvis(only(folder), EXTENT, fill=0, scale="none")
    return {"units": graph.n_units, "weights": without_zeros(as_dict(graph)["weights"])}


def plain_json(path: Path) -> Any:
    """JSON without repeated keys."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise InvalidInputError("a key is there twice")
        return dict(pairs)

    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"no JSON: {error}") from error


register("flyvis", make_flyvis, load_flyvis, oracle_flyvis)


# ---------------------------------------------------------------- The Virtual Brain


def make_tvb(folder: Path, rng: Rng) -> None:
    n = int(rng.integers(1, 4))
    labels = [f"{side}A{k}" for k, side in zip(range(n), "rlr", strict=False)]

    def square(low: int, high: int) -> str:
        return "\n".join(" ".join(map(str, row)) for row in rng.integers(low, high, (n, n)))

    texts = {
        "weights.txt": square(0, 3),
        "centres.txt": "\n".join(f"{label} {k} 0 {k}" for k, label in enumerate(labels)),
        "tract_lengths.txt": square(1, 90),
        "hemispheres.txt": "\n".join("1" if label[0] == "r" else "0" for label in labels),
    }
    members = {name: text.encode() for name, text in texts.items()}
    data = of_zip(members, rng, lambda name, text: encoded(of_text(text.decode(), rng, " "), rng))
    (folder / "net.zip").write_bytes(data)


def load_tvb(folder: Path) -> Any:
    graph, _ = read_tvb(only(folder), units=12, speed=2.0)
    edges = {(s, t): (d["weight"], d.get("delay")) for s, t, d in graph.edges(data=True)}
    return {"regions": list(graph), "edges": edges}


def oracle_tvb(folder: Path) -> Any:
    try:
        with zipfile.ZipFile(only(folder)) as archive:
            content = {name: archive.read(name).decode("utf-8-sig") for name in archive.namelist()}
    except Exception as error:  # any damage of an archive
        raise InvalidInputError(f"no archive: {error}") from error
    stems = Counter(Path(name).name.split(".")[0] for name in content)
    usual = [name.islower() and "/" not in name and not name.endswith(".bz2") for name in content]
    if max(stems.values()) > 1 or not all(usual):
        return None
    tables = {}
    for name, text in content.items():
        lines = [line for line in LINE.split(text) if line.strip() and not line.startswith("#")]
        tables[name] = [line.replace(",", " ").split() for line in lines]
    if not {"weights.txt", "centres.txt"} <= set(tables):
        raise InvalidInputError("a file is missing")
    labels = [cells[0] for cells in tables["centres.txt"]]
    for cells in tables["centres.txt"]:
        if len(cells) != 4:
            raise InvalidInputError("a centre has other columns")
        [number(cell) for cell in cells[1:]]
    if len(set(labels)) < len(labels) or not labels:
        raise InvalidInputError("an area is there twice, or there is none")
    matrices = {}
    for name in ("weights.txt", "tract_lengths.txt"):
        if name in tables:
            matrices[name] = [[number(cell) for cell in cells] for cells in tables[name]]
            rows = matrices[name]
            if len(rows) != len(labels) or any(len(row) != len(labels) or min(row) < 0 for row in rows):
                raise InvalidInputError(f"{name} does not fit")
    if "hemispheres.txt" in tables and sum(map(len, tables["hemispheres.txt"])) != len(labels):
        raise InvalidInputError("there are other hemispheres")
    lengths = matrices.get("tract_lengths.txt")
    edges = {
        (labels[j], labels[i]): (weight, None if lengths is None else lengths[i][j] / 2.0)
        for i, row in enumerate(matrices["weights.txt"])
        for j, weight in enumerate(row)
        if weight
    }
    return {"regions": labels, "edges": edges}


register("TVB", make_tvb, load_tvb, oracle_tvb)


# ---------------------------------------------------------------- configurations


def make_config(folder: Path, rng: Rng) -> None:
    ways: list[dict[str, Any]] = [
        {"sparsity": 0.5}, {"density": 1.0}, {"fan_in": 2}, {"rule": "one_to_one"},
        {"rule": {"type": "fixed_fan_in", "fan_in": 1}},
        {"weights": {"rows": [0, 1], "cols": [1, 0], "values": [0.5, 2.0]}},
        {"initializer": {"type": "constant", "value": 0.25}},
        {"initializer": "xavier_normal", "key": "second", "trainable": False}, {"delay": 5.0, "sign": "free"},
    ]  # fmt: skip
    spec = {
        "__comment": "a net",
        "recurrent_regions": [
            {"name": "ctx", "num_units": 3, "sign": pick(rng, ["pos", [1, -1, 0], None]), "base_firing": 0.5,
             "parent_region": "brain"},
            {"name": "thal", "num_units": 3, "tau": 50.0, "init": [0.1, 0.2, 0.3], "learnable_bias": True},
        ],
        "input_regions": [{"name": "cue", "num_units": 3}],
        "recurrent_connections": [
            {"src_region": "ctx", "dst_region": "thal", **pick(rng, ways)},
            {"src_region": "thal", "dst_region": "thal"},
        ],
        "input_connections": [{"src_region": "cue", "dst_region": "ctx", **pick(rng, ways[:5])}],
        "simulation": {"duration": 10, "dt": 1, "tau": 10, "stimulus": [{"region": "cue", "amplitude": 1.0}]},
    }  # fmt: skip
    (folder / "net.json").write_bytes(of_json(spec, rng).encode("utf-8", "surrogatepass"))


def load_config(folder: Path) -> Any:
    graph = read_config(only(folder))
    regions = {}
    for r in map(graph.region, graph):
        regions[r.name] = (r.kind, r.n, r.parent_region, r.tau, np.asarray(r.base_firing).tolist())
    projections = {}
    for p in graph.projections():
        density = getattr(p.rule, "density", None) if p.rule is not None else None
        total = None if p.weights is None else float(p.weights.sum())
        projections[p.source, p.target, p.key] = (p.trainable, p.sign, p.delay, density, total)
    return {"name": graph.name, "regions": regions, "projections": projections}


def _has_text(value: Any) -> bool:
    """Tell if text or a truth value is in the place of a number, which pydantic may convert."""
    return isinstance(value, (str, bool)) or (isinstance(value, list) and any(map(_has_text, value)))


def oracle_config(folder: Path) -> Any:
    """Values that keep their JSON types are judged; pydantic may convert others."""
    spec = plain_json(only(folder))
    if not isinstance(spec, dict):
        raise InvalidInputError("it is not an object")
    try:
        regions, projections = {}, {}
        for kind in ("recurrent", "input"):
            for k, entry in enumerate(spec.get(f"{kind}_regions", [])):
                if type(entry["num_units"]) is not int or entry["num_units"] < 1:
                    return None
                name = entry.get("name") or f"region_{k}"
                if name in regions:
                    return None
                parent, tau = entry.get("parent_region"), entry.get("tau")
                regions[name] = (kind, entry["num_units"], parent, tau, entry.get("base_firing", 0.0))
            for entry in spec.get(f"{kind}_connections", []):
                density = entry.get("sparsity", entry.get("density"))
                weights = entry.get("weights")
                values = None if weights is None else float(sum(weights["values"]))
                edge = entry["src_region"], entry["dst_region"], entry.get("key", "default")
                choices = entry.get("trainable", True), entry.get("sign", "inherit"), entry.get("delay")
                projections[edge] = (*choices, density, values)
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError):
        return None
    plain = json.dumps([*regions.values(), list(projections.values())])
    numbers = [value for region in regions.values() for value in region[3:]]
    numbers += [value for projection in projections.values() for value in projection[2:]]
    converted = any(map(_has_text, numbers))
    if "true" in plain.replace("true, ", "") or converted:
        return None
    return {"name": spec.get("name", ""), "regions": regions, "projections": projections}


register("configuration", make_config, load_config, oracle_config)
