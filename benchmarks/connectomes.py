r"""Import a data set of FlyWire's size and shape: time and peak memory, from file to ready to simulate.

    python benchmarks/connectomes.py [--folder DIRECTORY] [--male-cns] \
        [--write docs/decisions/0010-connectome-import.md]

Writes synthetic Codex downloads (139,255 neurons with 64-bit ids, 15 million rows of connections, 8,453 cell
types) into DIRECTORY once, about 400 MB, then imports them in a process per case. Peak memory is that of the
process, all included.
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


def write_male_cns(folder: Path) -> None:
    """Feather files with the columns of male CNS v1.0 and as many bodies; connections are drawn at random."""
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
    parser.add_argument("--male-cns", action="store_true", help="152 million rows, too (2 GB on disk)")
    parser.add_argument("--write", type=Path, help="page to refresh")
    options = parser.parse_args()
    found = f"{machine_line(describe_machine())}\n\n{table(options.folder, options.flyvis, options.male_cns)}"
    print(f"\n{found}")
    if options.write:
        replace_in_page(options.write, found)


if __name__ == "__main__":
    main()
