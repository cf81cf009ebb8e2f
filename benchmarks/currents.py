"""Currents by source, shuffled wirings and readouts of recordings: times, memory, and bytes read.

    python benchmarks/currents.py [--part shuffle] [--write docs/analysis.md]

Each part runs in a process of its own, and CPU seconds are reported beside those of the clock, which are
longer where other work shares the machine. What it found is checked before it is reported: degrees of the
shuffled wiring, the sum of the currents against the product with the whole matrix, the readout's r2.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from common import arguments, own_peak, replace_in_page, run_in_new_process, table_head, table_row

import sparse_mrnn as sm
from sparse_mrnn.analysis import currents, ridge_readout

PARTS = ("shuffle", "currents", "readout")
NEURONS, SYNAPSES, REGIONS = 140_000, 15_000_000, 10
UNITS, DEGREE, STEPS, LONGER = 10_000, 100, 1_000, 4
RESERVOIR, SAMPLES = 100_000, 1_000


class Clock:
    """Seconds since it was made: of the clock, and of the processor in brackets."""

    def __init__(self) -> None:
        self.begin = time.perf_counter(), time.process_time()

    def __str__(self) -> str:
        wall, cpu = time.perf_counter() - self.begin[0], time.process_time() - self.begin[1]
        return f"{wall:.1f} s ({cpu:.1f} s)"


def wiring() -> sm.RegionGraph:
    """A graph like a connectome's: synapse counts, units of either sign, every region connected to every."""
    rng = np.random.default_rng(0)
    g = sm.RegionGraph()
    for k in range(REGIONS):
        n = NEURONS // REGIONS
        g.add_region(f"r{k}", n, sign=rng.choice([-1, 1], n, p=[0.3, 0.7]))
    n, signs = g.n_units, np.concatenate([region.unit_signs for region in g.regions()])
    pairs = np.unique(rng.integers(0, n * n, SYNAPSES))
    row, col = pairs // n, pairs % n
    values = (rng.geometric(0.4, len(pairs)) * signs[col]).astype(np.float32)
    g.add_projections(sp.coo_array((values, (row, col)), shape=(n, n)).tocsr())
    return g


def degrees(g: sm.RegionGraph) -> tuple[list[Any], int]:
    """In- and out-degrees of each projection, and the synapses of all."""
    found, total = [], 0
    for p in g.projections():
        matrix = p.weights
        assert matrix is not None
        assert matrix.has_canonical_format, "doubled synapses"
        found.append((np.diff(matrix.indptr), np.bincount(matrix.indices, minlength=matrix.shape[1])))
        total += matrix.nnz
    return found, total


def shuffle() -> dict[str, Any]:
    """Degree-preserving shuffle of a large wiring."""
    g = wiring()
    before = degrees(g)
    clock = Clock()
    null = g.shuffled(seed=0)
    seconds = str(clock)
    after = degrees(null)
    assert after[1] == before[1]
    for (a, b), (c, d) in zip(before[0], after[0], strict=True):
        assert (a == c).all()
        assert (b == d).all()
    name = next(iter(g.edges(keys=True)))
    old, new = (graph.edges[name]["weights"].tocsr() != 0 for graph in (g, null))
    return dict(seconds=seconds, synapses=before[1], peak=own_peak(), same=old.multiply(new).nnz / old.nnz)


def recording(units: int, degree: int, steps: int, folder: str, **options: Any) -> dict[str, Any]:
    """Record a network of ten regions on disk."""
    g = sm.RegionGraph()
    for k in range(REGIONS):
        g.add_region(f"r{k}", units // REGIONS, sign="neg" if k % 3 == 0 else "pos")
    g.add_input("u", 2, sign=None)
    g.add_projection("u", "r1")
    for source in range(REGIONS):
        for target in range(REGIONS):
            g.add_projection(f"r{source}", f"r{target}", fan_in=max(1, degree // REGIONS))
    net = sm.mRNN(g, "tanh", seed=0, device="cpu", spectral_radius=0.9 if units <= UNITS else None)
    out, saved = Path(folder, "run.zarr"), Path(folder, "net.safetensors")
    drive = sm.Stimulus("u", sm.stimulus.WhiteNoise(30.0))
    sm.simulate(net, steps=steps, stimulus=drive, out=out, progress=False, **options)
    net.save(saved)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return dict(run=str(out), net=str(saved), bytes=size)


def in_child(call: str) -> dict[str, Any]:
    """Run a function of this script in a process of its own."""
    here = Path(__file__)
    sizes = "NEURONS", "SYNAPSES", "UNITS", "REGIONS", "RESERVOIR", "SAMPLES"
    changed = {name: globals()[name] for name in sizes}
    lines = [f"import sys, json; sys.path.insert(0, {str(here.parent)!r})", "import currents as script"]
    lines += [f"script.{name} = {value!r}" for name, value in changed.items()]
    lines.append(f"print(json.dumps(script.{call}, default=float))")
    return run_in_new_process("\n".join(lines))


def received(run: str, net: str, out: str) -> dict[str, Any]:
    """Currents into every unit, from disk to disk; then means, excitatory and inhibitory apart."""
    network = sm.load(net, device="cpu")
    before, clock = own_peak(), Clock()
    found = currents(network, run, out=out)
    seconds, peak = str(clock), own_peak() - before
    clock = Clock()
    currents(network, run, what="mean", sign="split")
    means = str(clock)
    expected = network.to_scipy() @ sm.open_recording(run).h[0, 1].values
    total = found[found.kind == "recurrent"][:, 0, 2].sum("source").values
    assert np.abs(total - expected).max() < 1e-4 * max(1.0, np.abs(expected).max())
    return dict(seconds=seconds, means=means, peak=peak, synapses=network.rec.nnz, sources=len(found.source))


def currents_part() -> dict[str, Any]:
    """Currents of a run, and of one four times as long."""
    found = []
    for steps in (STEPS, LONGER * STEPS):
        with tempfile.TemporaryDirectory() as folder:
            made = in_child(f"recording({UNITS}, {DEGREE}, {steps}, {folder!r})")
            files = made["run"], made["net"], str(Path(folder, "currents.zarr"))
            found.append(in_child(f"received{files!r}"))
    return dict(short=found[0], long=found[1])


def bytes_read() -> int:
    """Bytes that this process has asked the system to read."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


def fitted(run: str, size: int) -> dict[str, Any]:
    """A readout of all units: of the mean over a region that an input drives."""
    recorded = sm.open_recording(run)
    driven = np.flatnonzero(recorded.region.values == "r1")
    target = recorded.h[0, :, driven[0] : driven[-1] + 1].values.mean(axis=1)
    ridge_readout(np.random.default_rng(0).random((20, 3)), np.arange(20.0))  # load what is loaded once
    start, clock = bytes_read(), Clock()
    readout = ridge_readout(run, target, alphas=(1e-3, 1e-1, 10.0))
    seconds, read = str(clock), bytes_read() - start
    assert readout.r2[0] > 0.5, readout.r2
    start, clock = bytes_read(), Clock()
    for k in range(0, recorded.sizes["time"], 64):
        recorded.h[:, k : k + 64].values.sum()
    return dict(seconds=seconds, read=read / size, peak=own_peak(), reading=str(clock))


def readout() -> dict[str, Any]:
    """Ridge regression on more units than a Gram matrix of units could have."""
    with tempfile.TemporaryDirectory() as folder:
        made = in_child(f"recording({RESERVOIR}, 10, {SAMPLES}, {folder!r}, noise=True)")
        return in_child(f"fitted({made['run']!r}, {made['bytes']})") | dict(bytes=made["bytes"])


def rows_of(part: str, found: dict[str, Any]) -> list[str]:
    """Rows of the table."""
    if part == "shuffle":
        what = f"`graph.shuffled()`, {NEURONS:,} units, {found['synapses']:,} synapses"
        kept = f"{100 * found['same']:.1f}%"
        return [
            table_row((what, "30 s", found["seconds"])),
            table_row(("pairs of one projection that are still connected", "", kept)),
            table_row(("peak memory of the process", "", f"{found['peak'] / 1e9:.2f} GB")),
        ]
    if part == "currents":
        short, long = found["short"], found["long"]
        what = f"`currents`, {UNITS:,} units, {short['synapses']:,} synapses, {STEPS:,} steps, disk to disk"
        memory = f"{short['peak'] / 1e9:.2f} GB, {long['peak'] / 1e9:.2f} GB"
        return [
            table_row((what, "10 s", short["seconds"])),
            table_row(("mean currents into regions, signs apart", "", short["means"])),
            table_row((f"memory it takes, and for {LONGER} times as many steps", "", memory)),
        ]
    what = f"`ridge_readout`, {RESERVOIR:,} units, {SAMPLES:,} steps of a recording on disk"
    return [
        table_row((what, "", found["seconds"])),
        table_row(("bytes it read, in sizes of the recording on disk", "2", f"{found['read']:.2f}")),
        table_row(("the recording, read once", "", found["reading"])),
        table_row(("peak memory of the process", "", f"{found['peak'] / 1e9:.2f} GB")),
    ]


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--part", choices=PARTS, help="only this one")
    parser.add_argument("--write", type=Path, help="page to refresh")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = table_head("what", "bound", "measured (CPU)")
    for part in PARTS if options.part is None else (options.part,):
        measure = {"shuffle": lambda: in_child("shuffle()"), "currents": currents_part, "readout": readout}
        lines += rows_of(part, measure[part]())
    text = "\n".join(lines)
    print(text)
    if options.write:
        replace_in_page(options.write, text, "currents")


if __name__ == "__main__":
    main()
