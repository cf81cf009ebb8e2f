"""Build and simulate large networks: time and peak memory over a bare ``import torch``.

    python benchmarks/large_nets.py

Every case runs in a process of its own, so its peak memory is its own; the baseline is a process that only
imports torch. Figures are medians of three runs.
"""

from __future__ import annotations

import os
import statistics

from common import progress, run_in_new_process, table_head, table_row

MEASURE = """
import json, resource, sys, time
import torch
torch.set_num_threads({threads})
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
out = {{}}
if {units}:
    import sparse_mrnn as sm
    start = time.perf_counter()
    g = sm.RegionGraph()
    for k in range({regions}):
        g.add_region(f"r{{k}}", {units} // {regions}, sign="neg" if k % 5 == 4 else "pos")
    for s in range({regions}):
        for t in range({regions}):
            g.add_projection(f"r{{s}}", f"r{{t}}", density={density})
    net = sm.mRNN(g, device="cpu", seed=0)
    out["build_s"] = time.perf_counter() - start
    out["synapses"] = net.rec.nnz
    if {steps}:
        start = time.perf_counter()
        {run}
        out["run_s"] = time.perf_counter() - start
out["peak_mb"] = peak()
print(json.dumps(out))
"""

FORWARD = """with torch.no_grad():
            x0, _ = net.batched_initial_condition(1)
            stim = torch.ones(1, 1, {units}).expand(1, {steps}, {units})
            net(torch.zeros(1, {steps}, 0), x0, stim_input=stim)"""

CASES = [
    # name, units, regions, density, steps; limits of build s, run s, MB over import torch
    ("20,000 units, 20 regions", 20_000, 20, 0.005, 1000, (3, 15, 600)),
    ("100,000 units, 50 regions", 100_000, 50, 0.001, 200, (None, None, 2000)),
    ("640 units, 320 regions: 102,400 projections", 640, 320, 0.5, 100, (None, None, None)),
]


def measure(**case: object) -> dict[str, float]:
    """Run one case in a fresh process."""
    return run_in_new_process(MEASURE.format(run=FORWARD.format(**case), **case))


def table(repeats: int = 3) -> str:
    """Measure; a Markdown table, and below it what took more time or memory than it may."""
    threads = os.cpu_count() or 1
    empty = dict(units=0, regions=1, density=0, steps=0, threads=threads)
    base = statistics.median(measure(**empty)["peak_mb"] for _ in range(repeats))
    times = ("built in (s)", "steps", "simulated in (s)", "peak over `import torch` (MB)")
    rows = table_head("network", "synapses", *times)
    missed = []
    for name, units, regions, density, steps, limits in CASES:
        case = dict(units=units, regions=regions, density=density, steps=steps, threads=threads)
        runs = [measure(**case) for _ in range(repeats)]
        m = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        found = {"build": m["build_s"], "run": m["run_s"], "memory": m["peak_mb"] - base}
        for (what, value), limit in zip(found.items(), limits, strict=True):
            if limit is not None and value > limit:
                missed.append(f"{name}: {what} {value:.3g} above {limit}")
        times = (f"{m['build_s']:.2f}", f"{steps:,}", f"{m['run_s']:.2f}", f"{found['memory']:.0f}")
        rows.append(table_row([name, f"{int(m['synapses']):,}", *times]))
        progress(rows[-1])
    if missed:
        rows += ["", f"Missed: {'; '.join(missed)}."]
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
