"""Import a data set of FlyWire's size and shape: time and peak memory, from file to ready to simulate.

    python benchmarks/connectomes.py [--folder DIRECTORY] [--male-cns] [--write
        docs/decisions/0010-connectome-import.md]
    python benchmarks/connectomes.py --types [--folder DIRECTORY] [--write
        docs/decisions/0032-projection-columns.md]

Writes synthetic Codex downloads (139,255 neurons with 64-bit ids, 15 million rows of connections, 8,453 cell
types) into DIRECTORY once, about 400 MB, then imports them in a process per case. Peak memory is that of the
process, all included.

With --types: 21,739 neurons in 2,381 cell types, 3.55 million rows, some 910,000 projections, taken by the
command line from text files to a simulation, beside the same rows in one region.
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
from common import arguments, progress, replace_in_page, run_in_new_process, table_head, table_row

from sparse_mrnn.benchmark import describe_machine, machine_line

NEURONS, ROWS, TYPES = 139_255, 15_000_000, 8_453
NEURONS_OF_TYPES, ROWS_OF_TYPES, MANY_TYPES, PARTNER_TYPES = 21_739, 3_550_000, 2_381, 740
SUPER_CLASSES = {
    "optic": 77_536, "central": 32_388, "sensory": 16_903, "visual_projection": 8_053, "ascending": 2_362,
    "descending": 1_303, "visual_centrifugal": 524, "motor": 106, "endocrine": 80,
}
PAIRED = (
    "AL AME AOTU ATL AVLP BU CAN CRE EPA FLA GOR IB ICL IPS LA LAL LH LO LOP MB_CA MB_ML MB_PED MB_VL ME PLP "
    "PVLP SAD SCL SIP SLP SMP SPS VES WED"
)
TRANSMITTERS = ["ACH", "GABA", "GLUT", "DA", "SER", "OCT"]

MEASURE = """
import json, resource, time
start = time.perf_counter()
from sparse_mrnn import mRNN
from sparse_mrnn.connectome import read_flywire, read_release, read_table
from sparse_mrnn.fly_vision import read_flyvis
graph, report = {reading}
read = time.perf_counter()
net = mRNN(graph, device="cpu", seed=0)
x0, _ = net.batched_initial_condition(1)
import torch
with torch.no_grad():
    net(torch.zeros(1, 1, 0), x0)
done = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
found = dict(read=read - start, ready=done - start, peak=peak)
found |= dict(neurons=report.neurons, merged=report.merged, projections=report.projections)
print(json.dumps(found))
"""

COMMAND = """
import json, resource, sys
from sparse_mrnn.cli import app
try:
    app({arguments!r})
except SystemExit as ended:
    if ended.code:
        raise
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps(dict(cpu=used.ru_utime + used.ru_stime, peak=used.ru_maxrss / 2**20)))
"""
REGIONS = {"2,381 types": ["--regions", "cell_type"], "one": []}

PRIMARY_TYPES = "regions='primary_type', parent='super_class'"
MALE_CNS_ROWS = 152_000_000
"""Rows of the male CNS' table of connections: 12 bytes each in memory once they are read."""

CASES = {
    "gzip CSV, super classes": "read_flywire({csv!r})",
    "Parquet, super classes": "read_flywire({parquet!r})",
    "Parquet, cell types": "read_flywire({parquet!r}, " + PRIMARY_TYPES + ")",
    "gzip CSV, one projection a neuropil": "read_flywire({csv!r}, parallel='neuropil')",
}


def write(folder: Path) -> None:
    """The data set, as gzip CSV and as Parquet."""
    rng = np.random.default_rng(0)
    ids = np.sort(rng.choice(2**32, NEURONS, replace=False)).astype(np.int64) + 720_575_940_600_000_000
    size = rng.pareto(1.5, NEURONS) + 1  # a few neurons have most of the synapses
    type_of = np.minimum(rng.geometric(0.0008, NEURONS) - 1, TYPES - 1)  # a few types have many cells
    partners = rng.choice(NEURONS, ROWS, p=size / size.sum())
    # Types have preferred partner types, as cell types do: most targets come from 40 types per type.
    by_type = np.argsort(type_of, kind="stable")
    first = np.searchsorted(type_of[by_type], np.arange(TYPES))
    count = np.bincount(type_of, minlength=TYPES)
    liked = rng.choice(np.flatnonzero(count), (TYPES, 40))
    target_type = liked[type_of[partners], rng.integers(0, 40, ROWS)]
    near = by_type[first[target_type] + rng.integers(0, 2**31, ROWS) % count[target_type]]
    target = np.where(rng.random(ROWS) < 0.98, near, rng.choice(NEURONS, ROWS, p=size / size.sum()))
    neuropils = [f"{name}_{side}" for name in PAIRED.split() for side in "LR"]
    neuropils += ["EB", "FB", "GNG", "NO", "PB", "PRW", "OCG", "UNASGD"]

    def pick(names: list[str], n: int) -> pa.Array:
        drawn = pa.array(rng.integers(0, len(names), n).astype(np.int32))
        return pa.DictionaryArray.from_arrays(drawn, names).cast(pa.string())

    transmitter = rng.choice(6, NEURONS, p=[0.62, 0.15, 0.17, 0.03, 0.02, 0.01]).astype(np.int32)
    named = pa.DictionaryArray.from_arrays(pa.array(transmitter), TRANSMITTERS).cast(pa.string())
    classes = np.repeat(list(SUPER_CLASSES), list(SUPER_CLASSES.values()))
    tables = {
        "connections": {
            "pre_root_id": ids[partners], "post_root_id": ids[target], "neuropil": pick(neuropils, ROWS),
            "syn_count": rng.geometric(0.3, ROWS), "nt_type": named.take(pa.array(partners)),
        },
        "neurons": {
            "root_id": ids, "group": pick(neuropils, NEURONS), "nt_type": named,
            "nt_type_score": rng.random(NEURONS).round(2),
        },
        "classification": {
            "root_id": ids, "flow": pick(["intrinsic", "afferent", "efferent"], NEURONS),
            "super_class": pa.array(classes[rng.permutation(NEURONS)].tolist()),
            "side": pick(["left", "right"], NEURONS),
        },
        "consolidated_cell_types": {"root_id": ids, "primary_type": pa.array([f"T{k:04d}" for k in type_of])},
    }
    for kind in ("csv", "parquet"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name, columns in tables.items():
        table = pa.table(columns)
        pyarrow.parquet.write_table(table, folder / "parquet" / f"{name}.parquet")
        partial = folder / "csv" / f"{name}.partial"
        with gzip.open(partial, "wb", compresslevel=1) as file:
            pyarrow.csv.write_csv(table, file)
        partial.rename(folder / "csv" / f"{name}.csv.gz")


def write_types(folder: Path) -> None:
    """Write connections.csv and neurons.csv: most targets of a neuron are in its type's partner types."""
    rng = np.random.default_rng(0)
    n, types, likes = NEURONS_OF_TYPES, MANY_TYPES, PARTNER_TYPES
    size, share = rng.pareto(3, n) + 1, rng.pareto(1.2, types) + 0.3
    type_of = np.concatenate([np.arange(types), rng.choice(types, n - types, p=share / share.sum())])
    rng.shuffle(type_of)
    by_type, count = np.argsort(type_of, kind="stable"), np.bincount(type_of)
    first = np.cumsum(count) - count
    draws = ROWS_OF_TYPES + ROWS_OF_TYPES // 3  # some pairs are drawn twice
    source, anyone = rng.choice(n, (2, draws), p=size / size.sum())
    liked = rng.integers(0, types, (types, likes))
    target_type = liked[type_of[source], (likes * rng.random(draws) ** 2).astype(np.int64)]
    near = by_type[first[target_type] + rng.integers(0, 2**31, draws) % count[target_type]]
    pairs = np.unique(source * n + np.where(rng.random(draws) < 0.98, near, anyone))
    pairs = rng.permutation(pairs)[:ROWS_OF_TYPES]
    ids = 720_575_940_600_000_000 + np.sort(rng.choice(2**32, n, replace=False)).astype(np.int64)
    transmitter = rng.choice(3, n, p=[0.65, 0.2, 0.15])
    neurons = {
        "id": ids, "cell_type": pa.array([f"T{k:04d}" for k in type_of]),
        "nt": pa.array([TRANSMITTERS[k] for k in transmitter]),
    }
    connections = {"pre": ids[pairs // n], "post": ids[pairs % n], "weight": rng.geometric(0.3, len(pairs))}
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.csv.write_csv(pa.table(neurons), folder / "neurons.csv")
    pyarrow.csv.write_csv(pa.table(connections), folder / "connections.csv")


def types_table(folder: Path | None = None) -> str:
    """The measurements of the command line, in Markdown."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder or Path(temporary)
        if not (folder / "connections.csv").exists():
            write_types(folder)
        rows = table_head("regions", "command", "CPU, s", "peak memory, GiB")
        for what, options in REGIONS.items():
            network = folder / f"network of {what}"
            source = ["table", folder / "connections.csv", "--neurons", folder / "neurons.csv", *options]
            for command, given in {
                "import": [*source, "--transmitter", "nt", "--signs", "fly", "--out", network, "--overwrite"],
                "info": [network],
                "simulate": [network, "--duration", "1000", "--dt", "10", "--noise", "--quiet"],
                "spectrum": [network],
            }.items():
                m = run_in_new_process(COMMAND.format(arguments=[command, *map(str, given)]))
                rows.append(table_row([what, command, f"{m['cpu']:.1f}", f"{m['peak']:.2f}"]))
                progress(rows[-1])
    return "\n".join(rows)


def write_male_cns(folder: Path) -> None:
    """Write Feather files with the columns of male CNS v1.0, between as many bodies drawn at random."""
    rng, bodies, part = np.random.default_rng(0), min(211_577, MALE_CNS_ROWS), 1 << 19
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.sort(rng.choice(10**7, bodies, replace=False)).astype(np.int64) + 10_000
    classes = np.array(["ol_intrinsic", "cb_intrinsic", "vnc_intrinsic", "sensory", "descending", "motor"])
    transmitters = np.array(["acetylcholine", "gaba", "glutamate", "unclear"])
    annotations = {"bodyId": ids, "superclass": classes[rng.integers(0, len(classes), bodies)]}
    signs = {"body": ids, "consensus_nt": transmitters[rng.integers(0, len(transmitters), bodies)]}
    pyarrow.feather.write_feather(pa.table(annotations), folder / "body-annotations.feather")
    pyarrow.feather.write_feather(pa.table(signs), folder / "body-neurotransmitters.feather")
    schema = pa.schema([("body_pre", pa.int64()), ("body_post", pa.int64()), ("weight", pa.int32())])
    partial, options = folder / "weights.partial", pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, schema, options=options) as out:
        for start in range(0, MALE_CNS_ROWS, part):
            n = min(part, MALE_CNS_ROWS - start)
            ends = ids[rng.integers(0, bodies, (2, n))]
            columns = [ends[0], ends[1], rng.geometric(0.3, n).astype(np.int32)]
            out.write_table(pa.table(columns, schema=schema), max_chunksize=1 << 16)
    partial.rename(folder / "connectome-weights.feather")


def table(folder: Path | None = None, flyvis: Path | None = None, male_cns: bool = False) -> str:
    """The measurements, in Markdown."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder or Path(temporary)
        if not (folder / "csv" / "consolidated_cell_types.csv.gz").exists():
            write(folder)
        times = ("graph, s", "ready to simulate, s", "peak memory, GiB")
        rows = table_head("data", "neurons", "connections", "projections", *times)
        folders = {kind: str(folder / kind) for kind in ("csv", "parquet")}
        cases = {name: reading.format(**folders) for name, reading in CASES.items()}
        if male_cns:
            if not (folder / "male_cns" / "connectome-weights.feather").exists():
                write_male_cns(folder / "male_cns")
            cases["Feather, the male CNS"] = f"read_release('male-cns', {str(folder / 'male_cns')!r})"
        if flyvis is not None and flyvis.exists():
            cases["flyvis, extent 15"] = f"read_flyvis({str(flyvis)!r})"
        for name, reading in cases.items():
            m = run_in_new_process(MEASURE.format(reading=reading))
            counts = [f"{m[what]:,}" for what in ("neurons", "merged", "projections")]
            figures = (f"{m['read']:.1f}", f"{m['ready']:.1f}", f"{m['peak']:.2f}")
            rows.append(table_row([name, *counts, *figures]))
            progress(rows[-1])
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and put the table into a page between its markers."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, help="of the data set; default: a temporary one")
    parser.add_argument("--flyvis", type=Path, help="fib25-fib19_v2.2.json of flyvis, if you have it")
    parser.add_argument("--types", action="store_true", help="the data set of many cell types instead")
    parser.add_argument("--male-cns", action="store_true", help="152 million rows, too (2 GB on disk)")
    parser.add_argument("--write", type=Path, help="page to refresh")
    options = parser.parse_args()
    if options.types:
        measured = types_table(options.folder)
    else:
        measured = table(options.folder, options.flyvis, options.male_cns)
    found = f"{machine_line(describe_machine())}\n\n{measured}"
    print(f"\n{found}")
    if options.write:
        replace_in_page(options.write, found)


if __name__ == "__main__":
    main()
