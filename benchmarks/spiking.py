"""Simulate spiking networks of published sizes: time for a simulated second, and memory.

    python benchmarks/spiking.py [--threads 2] [--seconds 1] [--scale 1.0] [--only fly|column] [--write PAGE]

fly     138,639 units and 15 million synapses, as many as FlyWire has, with heavy-tailed degrees and counts
        of synapses; Shiu et al. (2024) give the parameters; 300 units are driven at 150 Hz.
column  Potjans & Diesmann (2014): 77,169 units, 0.3 billion synapses, delays drawn for each.

Each runs in a process of its own. The time of compiling, building and reading weights is apart.
"""

from __future__ import annotations

import json
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, own_peak, progress, replace_in_page, run_in_new_process, table_head, table_row
from scipy import sparse

import sparse_mrnn as sm
from sparse_mrnn.benchmark import describe_machine, machine_line
from sparse_mrnn.presets import potjans_diesmann_2014, shiu2024
from sparse_mrnn.stimulus import Stimulus

FLY_UNITS, FLY_SYNAPSES, DRIVEN = 138_639, 15_000_000, 300


def fly() -> tuple[sm.LIF, list[Stimulus]]:
    """A network of FlyWire's size with Shiu's parameters, and its stimulus."""
    rng, n = np.random.default_rng(0), FLY_UNITS
    out, into = rng.lognormal(0, 1.2, n), rng.lognormal(0, 1.0, n)
    ends = [rng.choice(n, FLY_SYNAPSES, p=p / p.sum()).astype(np.int32) for p in (into, out)]
    sign = np.where(rng.random(n) < 0.35, -1, 1).astype(np.int8)
    count = np.minimum(rng.geometric(0.25, FLY_SYNAPSES), 200).astype(np.float32)
    weights = sparse.csr_array((count * sign[ends[1]], tuple(ends)), shape=(n, n))
    driven = np.sort(rng.choice(n, DRIVEN, replace=False))
    graph = sm.RegionGraph()
    graph.add_region("brain", n, sign=sign)
    graph.add_projection("brain", "brain", weights=weights)
    return shiu2024(graph, [f"brain[{k}]" for k in driven.tolist()], device="cpu")


def column(scale: float) -> tuple[sm.LIF, list[Stimulus]]:
    """The cortical column of Potjans & Diesmann."""
    return potjans_diesmann_2014(scale, device="cpu"), []


def measure(what: str, seconds: float, scale: float, threads: int) -> dict[str, Any]:
    """Time a simulated second after a run of one step, which compiles; and memory of the process.

    The start of a run, in which synapses are ordered by source, is apart: the log says when steps begin.
    """
    torch.set_num_threads(threads)
    begin = time.perf_counter()
    net, stimulus = fly() if what == "fly" else column(scale)
    built, of_network = time.perf_counter() - begin, own_peak()
    record, steps = sm.Record(what=["spikes"]), round(seconds * 10_000)

    def run(count: int) -> tuple[float, float, Any]:
        before = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            options = {"steps": count, "stimulus": stimulus, "record": record, "progress": False, "log": log}
            found = sm.simulate(net, **options)
            events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        first, last = (datetime.fromisoformat(events[k]["time"]) for k in (0, -1))
        steps_took = (last - first).total_seconds()
        return time.perf_counter() - before - steps_took, steps_took, found

    run(1)
    start, wall, found = run(steps)
    rates = np.bincount(found.spike_unit.values, minlength=net.layout().n) / seconds
    regions = zip(net.layout().regions, net.layout().ptr.tolist(), strict=False)
    return {
        "units": net.layout().n, "synapses": net.rec.nnz, "build": built, "start": start,
        "wall": wall / seconds, "spikes": len(found.spike_unit) / seconds, "network_gib": of_network / 2**30,
        "peak_gib": own_peak() / 2**30,
        "rates": {region.name: float(rates[first : first + region.n].mean()) for region, first in regions},
    }


def main() -> None:
    """Measure in processes of their own and print a table."""
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", choices=("fly", "column"))
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    head = ("network", "units", "synapses", "spikes/s", "build, s", "start, s")
    lines = [machine_line(describe_machine()), "", *table_head(*head, "steps, s", "peak, GiB")]
    for what in ("fly", "column") if given.only is None else (given.only,):
        progress(what)
        call = f"{what!r}, {given.seconds}, {given.scale}, {given.threads}"
        folder = str(Path(__file__).parent)
        code = f"import json, sys; sys.path.insert(0, {folder!r}); import spiking; "
        found = run_in_new_process(f"{code}print(json.dumps(spiking.measure({call})))")
        progress(json.dumps(found, indent=1))
        times = (f"{found[name]:.2f}" for name in ("build", "start", "wall", "peak_gib"))
        sizes = (f"{found[name]:,.0f}" for name in ("units", "synapses", "spikes"))
        lines.append(table_row((what, *sizes, *times)))
    text = "\n".join(lines)
    print(text)
    if given.write is not None:
        replace_in_page(given.write, text)


if __name__ == "__main__":
    main()
