"""Weights from recordings: time and peak memory of `training.regress_weights`, and what they are held to.

    python benchmarks/recordings.py

Each network has tanh units under Dale's law with 100 partners each, 80 excitatory and 20 inhibitory ones,
driven by noise that the fit does not know. A case runs in a process of its own; what is timed is the fit, and
the peak is that of the process, recording and simulation included.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from common import arguments, own_peak, progress, run_in_new_process, table_head, table_row

import sparse_mrnn as sm
from sparse_mrnn.benchmark.machine import describe_machine, machine_line
from sparse_mrnn.training import Recorded, regress_weights


class Case(NamedTuple):
    """Units and time steps, and the bounds: seconds, and bytes (None: no bound)."""

    units: int
    steps: int
    seconds: float
    peak: float | None


CASES = [Case(1_000, 5_000, 10, None), Case(20_000, 2_000, 60, 3e9)]


def network(units: int) -> sm.mRNN:
    """80 excitatory and 20 inhibitory partners for each unit, or fewer in a small network."""
    g = sm.RegionGraph()
    excitatory = units * 4 // 5
    g.add_region("exc", excitatory, sign="pos")
    g.add_region("inh", units - excitatory, sign="neg")
    for target in ("exc", "inh"):
        g.add_projection("exc", target, fan_in=min(80, excitatory), initializer=sm.Constant(0.05))
        g.add_projection("inh", target, fan_in=min(20, units - excitatory), initializer=sm.Constant(0.2))
    return sm.mRNN(g, "tanh", dt=10, tau=50, noise_level_act=0.5, seed=0, device="cpu")


def measure(units: int, steps: int) -> None:
    """Print seconds, peak memory, and the correlation of the weights found with the true ones, as JSON."""
    net = network(units)
    with torch.no_grad():
        h = net(torch.zeros(1, steps, 0), noise=True)[1]
    recorded = Recorded(h, net.unit_ids, interval=net.dt)
    true = net.rec.csr_values().detach()
    del h
    begin = time.perf_counter()
    found = regress_weights(net, recorded)
    seconds = time.perf_counter() - begin
    r = float(np.corrcoef(true, net.rec.csr_values().detach())[0, 1])
    result = {"seconds": seconds, "peak": own_peak(), "r": r, "synapses": int(found.partners.sum())}
    print(json.dumps(result))


def table() -> str:
    """Measure every case; Markdown."""
    rows = table_head("units", "time steps", "synapses", "time", "bound", "peak memory", "bound", "r", "")
    for case in CASES:
        progress(f"{case.units:,} units, {case.steps:,} time steps")
        path = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})"
        code = f"{path}; import recordings; recordings.measure({case.units}, {case.steps})"
        found = run_in_new_process(code)
        met = found["seconds"] < case.seconds and (case.peak is None or found["peak"] < case.peak)
        peak = "" if case.peak is None else f"{case.peak / 1e9:.0f} GB"
        cells = [f"{case.units:,}", f"{case.steps:,}", f"{found['synapses']:,}", f"{found['seconds']:.1f} s"]
        cells += [f"{case.seconds:.0f} s", f"{found['peak'] / 1e9:.2f} GB", peak, f"{found['r']:.3f}"]
        rows.append(table_row([*cells, "OK" if met else "missed"]))
    return "\n".join(rows)


def main() -> None:
    """Print the table, and the machine."""
    arguments(__doc__).parse_args()
    print(machine_line(describe_machine("cpu")), table(), sep="\n\n")


if __name__ == "__main__":
    main()
