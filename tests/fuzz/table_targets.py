"""Edge lists as text, Parquet, Feather and DataFrames; FlyWire's and neuPrint's folders."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from fuzz.mutate import TOKENS, Rng, encoded, of_bytes, of_text, pick
from fuzz.plain import as_dict, ids_of, number, only, read_csv, total
from fuzz.registry import InvalidInputError, register
from sparse_mrnn.connectome import read_flywire, read_neuprint, read_table

NAMES = ["1", "2", "10", "720575940600000001", "720575940600000002", "a", "b 1", "AVAL", "ü"]


def edge_rows(rng: Rng) -> list[tuple[str, str, str]]:
    """Some edges, between integers or names."""
    names = NAMES[:5] if rng.integers(2) else NAMES
    n = int(rng.integers(1, 12))
    return [(pick(rng, names), pick(rng, names), str(rng.integers(1, 9))) for _ in range(n)]


def csv_text(head: tuple[str, ...], rows: list[tuple[str, ...]], delimiter: str = ",") -> str:
    return "\n".join(delimiter.join(row) for row in [head, *rows]) + "\n"


def expected(head: list[str], rows: list[list[str]], columns: tuple[str, str, str]) -> dict[str, Any]:
    """Counts between ids, summed."""
    for name in columns:
        if head.count(name) != 1:
            raise InvalidInputError(f"column {name!r} is there {head.count(name)} times")
    if len(set(head)) < len(head):
        raise InvalidInputError("two columns have the same name")
    if not rows:
        raise InvalidInputError("there are no rows")
    index = [head.index(name) for name in columns]
    source, target = ids_of(*([row[k] for row in rows] for k in index[:2]))
    counts = [number(row[index[2]]) for row in rows]
    if any(count < 0 or count != int(count) or count > 2**53 for count in counts):
        raise InvalidInputError("a count is not a whole number")
    units = sorted({*source, *target})
    return {"regions": {"neurons": units}, "weights": total(source, target, counts)}


# ---------------------------------------------------------------- text


def make_text(folder: Path, rng: Rng) -> None:
    delimiter = pick(rng, [",", "\t", ";", "|"])
    text = csv_text(("pre", "post", "n_syn"), edge_rows(rng), delimiter)
    data = encoded(of_text(text, rng, delimiter), rng)
    (folder / "edges.csv").write_bytes(data)
    (folder / "delimiter").write_text(delimiter)


def load_text(folder: Path) -> Any:
    delimiter = (folder / "delimiter").read_text()
    options = {"source": "pre", "target": "post", "weight": "n_syn", "delimiter": delimiter}
    return as_dict(read_table(folder / "edges.csv", scale="none", **options)[0])


def oracle_text(folder: Path) -> Any:
    data = (folder / "edges.csv").read_bytes()
    columns = ("pre", "post", "n_syn")
    return expected(*read_csv(data, (folder / "delimiter").read_text(), columns), columns)


register("table, text", make_text, load_text, oracle_text)


def make_compressed(folder: Path, rng: Rng) -> None:
    data = encoded(of_text(csv_text(("source", "target", "weight"), edge_rows(rng)), rng), rng)
    kind = pick(rng, [".gz", ".bz2", ".zst"])
    if kind == ".zst":
        packed = pa.compress(data, codec="zstd", asbytes=True)
    else:
        packed = {".gz": gzip.compress, ".bz2": bz2.compress}[kind](data)
    (folder / f"edges.csv{kind}").write_bytes(of_bytes(packed, rng) if rng.integers(2) else packed)


def load_compressed(folder: Path) -> Any:
    options = {"source": "source", "target": "target", "weight": "weight", "delimiter": ","}
    return as_dict(read_table(only(folder), scale="none", **options)[0])


def oracle_compressed(folder: Path) -> Any:
    path = only(folder)
    packed = path.read_bytes()
    if path.suffix == ".zst":
        return None
    try:
        data = {".gz": gzip.decompress, ".bz2": bz2.decompress}[path.suffix](packed)
    except (OSError, EOFError, ValueError):
        return None  # what follows damage differs between readers: some stop, some raise
    columns = ("source", "target", "weight")
    return expected(*read_csv(data, ",", columns), columns)


register("table, compressed", make_compressed, load_compressed, oracle_compressed)


# ---------------------------------------------------------------- neurons


def make_neurons(folder: Path, rng: Rng) -> None:
    edges = edge_rows(rng)
    ids = sorted({end for row in edges for end in row[:2]})
    areas, signs = ["V1", "LGN", "NA", ""], ["1", "-1", "0", "pos", ""]
    neurons = [(name, pick(rng, areas), pick(rng, signs)) for name in ids]
    heads = ("pre", "post", "weight"), ("id", "area", "sign")
    texts = {"edges": csv_text(heads[0], edges), "neurons": csv_text(heads[1], neurons)}
    changed = pick(rng, list(texts))
    for name, text in texts.items():
        data = encoded(of_text(text, rng), rng) if name == changed else text.encode()
        (folder / f"{name}.csv").write_bytes(data)


def load_neurons(folder: Path) -> Any:
    options = {"source": "pre", "target": "post", "weight": "weight", "neuron": "id", "delimiter": ","}
    choices = {"regions": "area", "sign": "sign", "scale": "none", "unknown": "drop"}
    return as_dict(read_table(folder / "edges.csv", folder / "neurons.csv", **options, **choices)[0])


def oracle_neurons(folder: Path) -> Any:
    head, rows = read_csv((folder / "neurons.csv").read_bytes(), ",", ("id", "area", "sign"))
    if sorted(head) != sorted(set(head)) or not {"id", "area", "sign"} <= set(head):
        raise InvalidInputError("the columns are not there, or twice")
    (ids,) = ids_of([row[head.index("id")] for row in rows])
    if not ids or len(set(ids)) < len(ids):
        raise InvalidInputError("no neurons, or one of them twice")
    ends = ("pre", "post", "weight")
    edge_head, edges = read_csv((folder / "edges.csv").read_bytes(), ",", ends)
    found = expected(edge_head, edges, ends)["weights"] if edges else {}
    regions: dict[str, list[str]] = {}
    signs = {"1": 1, "+1": 1, "1.0": 1, "pos": 1, "-1": -1, "-1.0": -1, "neg": -1, "0": 0, "0.0": 0, "": 0}
    of_neuron = {}
    for name, row in zip(ids, rows, strict=True):
        sign = row[head.index("sign")].strip().lower()
        if sign not in signs:
            return None  # other words are known, too
        of_neuron[name] = signs[sign]
        regions.setdefault(row[head.index("area")].strip() or "unassigned", []).append(name)
    weights = {
        (s, t): n * (of_neuron[s] or 1) for (s, t), n in found.items() if s in of_neuron and t in of_neuron
    }
    return {"regions": {name: sorted(units) for name, units in regions.items()}, "weights": weights}


register("table, neurons", make_neurons, load_neurons, oracle_neurons)


# ---------------------------------------------------------------- Parquet, Feather, DataFrames


def columns(rng: Rng) -> dict[str, Any]:
    """Columns of edges with odd values and types."""
    edges = edge_rows(rng)
    pre, post, counts = map(list, zip(*edges, strict=True))
    out: dict[str, Any] = {"pre": pre, "post": post, "weight": list(map(int, counts))}
    if all(value.isdigit() for value in out["pre"] + out["post"]) and rng.integers(2):
        out["pre"], out["post"] = [int(v) for v in out["pre"]], [int(v) for v in out["post"]]
    return out


def odd_column(values: list[Any], rng: Rng) -> Any:
    """A column changed in values, type or length."""
    way = int(rng.integers(14))
    numbers = [float(v) if str(v).replace(".", "").isdigit() else 0.0 for v in values]
    if way == 0:
        return values[:-1]
    if way == 1:
        values = [*values]
        odd = [None, "x", 1.5, float("nan"), True, [1], {"a": 1}, b"a", 1 + 2j, *TOKENS]
        values[int(rng.integers(len(values)))] = pick(rng, odd)
        return values
    texts = [str(v) for v in values]
    return [
        lambda: np.array(numbers, dtype=np.complex128), lambda: np.array(numbers, dtype=np.float16),
        lambda: np.array(numbers, dtype=np.float64), lambda: np.array([n > 1 for n in numbers]),
        lambda: np.array([int(n) % 200 for n in numbers], dtype=np.uint8),
        lambda: np.array(texts, dtype=object),
        lambda: pd.Categorical(texts, categories=[*dict.fromkeys(texts), "unused"]),
        lambda: pd.array([None, *numbers[1:]], dtype="Float64"), lambda: [[v] for v in values],
        lambda: pd.to_datetime(numbers), lambda: [text.encode() for text in texts],
        lambda: np.array(numbers, dtype=np.uint64) + np.uint64(2**63),
    ][way - 2]()  # fmt: skip


def plain_value(value: Any) -> str:
    """A value as text, as the rules have it; InvalidInputError for what has no text."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, np.integer)):
        raise LookupError
    return str(value)


def from_columns(data: dict[str, list[Any]]) -> Any:
    """The oracle over columns as Python lists; None for types it leaves to the package."""
    try:
        columns = zip(data["pre"], data["post"], data["weight"], strict=True)
        rows = [[plain_value(pre), plain_value(post), str(float(n))] for pre, post, n in columns]
    except (LookupError, TypeError, ValueError, OverflowError):
        return None
    return expected(["pre", "post", "weight"], rows, ("pre", "post", "weight"))


def make_parquet(folder: Path, rng: Rng) -> None:
    table = pa.table(columns(rng))
    kind = pick(rng, [".parquet", ".feather"])
    path = folder / f"edges{kind}"
    if kind == ".parquet":
        compression, dictionary = pick(rng, ["none", "snappy", "zstd"]), bool(rng.integers(2))
        pa.parquet.write_table(table, path, compression=compression, use_dictionary=dictionary)
    else:
        if rng.integers(2):
            for k, name in enumerate(("pre", "post")):
                table = table.set_column(k, name, table.column(name).cast(pa.string()).dictionary_encode())
        pa.feather.write_feather(table, path, compression=pick(rng, ["uncompressed", "lz4", "zstd"]))
    path.write_bytes(of_bytes(path.read_bytes(), rng))


def load_columns(source: Any) -> Any:
    return as_dict(read_table(source, source="pre", target="post", weight="weight", scale="none")[0])


def oracle_parquet(folder: Path) -> Any:
    path = only(folder)
    try:
        table = pa.parquet.read_table(path) if path.suffix == ".parquet" else pa.feather.read_table(path)
        return from_columns({name: table.column(name).to_pylist() for name in ("pre", "post", "weight")})
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None


def load_parquet(folder: Path) -> Any:
    return load_columns(only(folder))


register("table, Parquet and Feather", make_parquet, load_parquet, oracle_parquet)

FRAMES: dict[str, Any] = {}


def make_frame(folder: Path, rng: Rng) -> None:
    data = columns(rng)
    name = pick(rng, list(data))
    data[name] = odd_column(data[name], rng)
    FRAMES.clear()
    FRAMES.update(data)
    if rng.integers(4):
        try:
            frame = pd.DataFrame(data)
        except (ValueError, TypeError):
            return
        FRAMES.clear()
        FRAMES["frame"] = frame


def load_frame(folder: Path) -> Any:
    return load_columns(FRAMES.get("frame", FRAMES))


def oracle_frame(folder: Path) -> Any:
    source = FRAMES.get("frame", FRAMES)
    return from_columns({name: list(source[name]) for name in ("pre", "post", "weight")})


register("table, DataFrame", make_frame, load_frame, oracle_frame)


# ---------------------------------------------------------------- folders of downloads


def make_flywire(folder: Path, rng: Rng) -> None:
    ids = [str(720575940600000000 + k) for k in range(5)]
    ends = [(pick(rng, ids), pick(rng, ids)) for _ in range(8)]
    edges = [(*pair, pick(rng, ["AL_L", "LH_R"]), str(rng.integers(1, 9)), "ACH") for pair in ends]
    neurons = [(i, "AL.LH", pick(rng, ["ACH", "GABA", ""]), "0.9") for i in ids]
    classes = [(i, pick(rng, ["optic", "central"]), "left") for i in ids[:4]]
    texts = {
        "connections": csv_text(("pre_root_id", "post_root_id", "neuropil", "syn_count", "nt_type"), edges),
        "neurons": csv_text(("root_id", "group", "nt_type", "nt_type_score"), neurons),
        "classification": csv_text(("root_id", "super_class", "side"), classes),
    }
    changed = pick(rng, list(texts))
    for name, text in texts.items():
        data = encoded(of_text(text, rng), rng) if name == changed else text.encode()
        (folder / f"{name}.csv").write_bytes(data)


def plain_neurons(folder: Path, name: str, key: str) -> dict[str, dict[str, str]]:
    """Rows of a neuron table by id, without CAVE's root id 0 of what is not segmented."""
    head, rows = read_csv((folder / f"{name}.csv").read_bytes(), ",", (key,))
    if head.count(key) != 1 or len(set(head)) < len(head):
        raise InvalidInputError(f"{name} has no column {key}, or one twice")
    (ids,) = ids_of([row[head.index(key)] for row in rows])
    rows, ids = ([x for x, i in zip(xs, ids, strict=True) if i != "0" or key != "root_id"] for xs in (rows, ids))
    if not ids or len(set(ids)) < len(ids):
        raise InvalidInputError(f"{name} has no neuron, or one twice")
    stripped = [{c: cell.strip() for c, cell in zip(head, row, strict=True)} for row in rows]
    return dict(zip(ids, stripped, strict=True))


def plain_network(
    regions: dict[str, str], signs: dict[str, int], weights: dict[tuple[str, str], float]
) -> dict[str, Any]:
    members: dict[str, list[str]] = {}
    for unit, region in regions.items():
        members.setdefault(region or "unassigned", []).append(unit)
    known = {(s, t): n * (signs[s] or 1) for (s, t), n in weights.items() if s in regions and t in regions}
    return {"regions": {name: sorted(units) for name, units in members.items()}, "weights": known}


def oracle_flywire(folder: Path) -> Any:
    neurons = plain_neurons(folder, "neurons", "root_id")
    classes = plain_neurons(folder, "classification", "root_id")
    columns = ("pre_root_id", "post_root_id", "syn_count")
    head, rows = read_csv((folder / "connections.csv").read_bytes(), ",", columns)
    weights = expected(head, rows, columns)["weights"] if rows else {}
    weights = {ends: weight for ends, weight in weights.items() if "0" not in ends}
    transmitters = {"ach": 1, "gaba": -1, "": 0}
    try:
        signs = {unit: transmitters[row["nt_type"].lower()] for unit, row in neurons.items()}
        regions = {unit: classes.get(unit, {"super_class": ""})["super_class"] for unit in neurons}
        if any(row["nt_type_score"] != "0.9" for row in neurons.values()):
            return None
    except KeyError:
        return None  # other columns and transmitters
    return plain_network(regions, signs, weights)


def load_flywire(folder: Path) -> Any:
    return as_dict(read_flywire(folder, scale="none", unknown="drop")[0])


register("FlyWire", make_flywire, load_flywire, oracle_flywire)


def make_neuprint(folder: Path, rng: Rng) -> None:
    ids = [str(200326126 + k) for k in range(5)]
    cells = [(i, pick(rng, ["CT1", ""]), "x") for i in ids]
    edges = [(pick(rng, ids), pick(rng, ids), "3") for _ in range(6)]
    texts = {
        "traced-neurons": csv_text(("bodyId", "type", "instance"), cells),
        "traced-total-connections": csv_text(("bodyId_pre", "bodyId_post", "weight"), edges),
    }
    changed = pick(rng, list(texts))
    for name, text in texts.items():
        data = encoded(of_text(text, rng), rng) if name == changed else text.encode()
        (folder / f"{name}.csv").write_bytes(data)


def oracle_neuprint(folder: Path) -> Any:
    neurons = plain_neurons(folder, "traced-neurons", "bodyId")
    columns = ("bodyId_pre", "bodyId_post", "weight")
    head, rows = read_csv((folder / "traced-total-connections.csv").read_bytes(), ",", columns)
    weights = expected(head, rows, columns)["weights"] if rows else {}
    if not all("type" in row for row in neurons.values()):
        return None
    types = {unit: row["type"] for unit, row in neurons.items()}
    return plain_network(types, dict.fromkeys(neurons, 0), weights)


def load_neuprint(folder: Path) -> Any:
    return as_dict(read_neuprint(folder, scale="none", unknown="drop")[0])


register("neuPrint", make_neuprint, load_neuprint, oracle_neuprint)
