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
from sparse_mrnn.stimulus import Poisson, Stimulus

FLY_UNITS, FLY_SYNAPSES, DRIVEN = 138_639, 15_000_000, 300
NAMES = ("L23E", "L23I", "L4E", "L4I", "L5E", "L5I", "L6E", "L6I")
SIZES = (20_683, 5_834, 21_915, 5_479, 4_850, 1_065, 14_395, 2_948)
IN_DEGREE = (1600, 1500, 2100, 1900, 2000, 1900, 2900, 2100)
"""Units of Potjans & Diesmann's populations, and external inputs of a unit (their table 5)."""
PROBABILITIES = (
    (0.1009, 0.1689, 0.0437, 0.0818, 0.0323, 0.0, 0.0076, 0.0),
    (0.1346, 0.1371, 0.0316, 0.0515, 0.0755, 0.0, 0.0042, 0.0),
    (0.0077, 0.0059, 0.0497, 0.135, 0.0067, 0.0003, 0.0453, 0.0),
    (0.0691, 0.0029, 0.0794, 0.1597, 0.0033, 0.0, 0.1057, 0.0),
    (0.1004, 0.0622, 0.0505, 0.0057, 0.0831, 0.3726, 0.0204, 0.0),
    (0.0548, 0.0269, 0.0257, 0.0022, 0.06, 0.3158, 0.0086, 0.0),
    (0.0156, 0.0066, 0.0211, 0.0166, 0.0572, 0.0197, 0.0396, 0.2252),
    (0.0364, 0.001, 0.0034, 0.0005, 0.0277, 0.008, 0.0658, 0.1443),
)
"""Connection probabilities from each population (column) to each (row)."""


def fly() -> tuple[sm.LIF, list[Stimulus]]:
    """A network of FlyWire's size with Shiu's parameters, and its stimulus."""
    rng, n = np.random.default_rng(0), FLY_UNITS
    out, into = rng.lognormal(0, 1.2, n), rng.lognormal(0, 1.0, n)
    ends = [rng.choice(n, FLY_SYNAPSES, p=p / p.sum()).astype(np.int32) for p in (into, out)]
    sign = np.where(rng.random(n) < 0.35, -1, 1).astype(np.int8)
    count = np.minimum(rng.geometric(0.25, FLY_SYNAPSES), 200).astype(np.float32)
    weights = sparse.csr_array((0.275 * count * sign[ends[1]], tuple(ends)), shape=(n, n))
    driven = np.sort(rng.choice(n, DRIVEN, replace=False))
    t_ref = np.full(n, 2.2)
    t_ref[driven] = 0.0
    graph = sm.RegionGraph()
    graph.add_region("brain", n, sign=sign, t_ref=t_ref)
    graph.add_projection("brain", "brain", weights=weights, delay=1.8, trainable=False)
    net = sm.LIF(graph, reset_g=True, device="cpu", seed=0)
    units = [f"brain[{k}]" for k in driven.tolist()]
    return net, [Stimulus("brain", Poisson(150.0, amplitude=250 * 0.275), units=units)]


def column(scale: float) -> tuple[sm.LIF, list[Stimulus]]:
    """The cortical column; g is in mV: weights times tau_m / C_m = 0.04 mV / pA. Below scale 1 rates differ.

    Weights are gamma distributed with the published mean and standard deviation, which is a tenth of it.
    """
    graph, weight = sm.RegionGraph(), 87.8 * 0.04
    sizes = [round(scale * n) for n in SIZES]
    rng = np.random.default_rng(0)
    for name, n, degree in zip(NAMES, sizes, IN_DEGREE, strict=True):
        own = {"background_rate": 8.0 * degree, "background_weight": weight, "init": rng.normal(7.0, 10.0, n)}
        graph.add_region(name, n, sign="pos" if name[-1] == "E" else "neg", **own)
    for target, n, row in zip(NAMES, sizes, PROBABILITIES, strict=True):
        for source, m, p in zip(NAMES, sizes, row, strict=True):
            if p == 0:
                continue
            excitatory, doubled = source[-1] == "E", (source, target) == ("L4E", "L23E")
            mean = weight * (2 if doubled else 1 if excitatory else 4)
            delay = 1.5 if excitatory else 0.75
            graph.add_projection(
                source, target, rule=sm.FixedNumber(round(np.log(1 - p) / np.log(1 - 1 / (n * m)))),
                initializer=sm.Gamma(mean, 100.0), delay=delay, delay_std=delay / 2, trainable=False,
            )
    potentials = {"v_rest": -65.0, "threshold": -50.0, "v_reset": -65.0}
    net = sm.LIF(graph, tau_m=10.0, tau_syn=0.5, t_ref=2.0, device="cpu", seed=0, **potentials)
    return net, []


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
