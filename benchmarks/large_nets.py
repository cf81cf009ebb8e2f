"""Build and simulate large networks: time and peak memory over a bare ``import torch``.

    python benchmarks/large_nets.py

Every case runs in a process of its own, so its peak memory is its own; the baseline is a process that only
imports torch. Figures are medians of three runs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

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
    from sparse_mrnn.simulation import simulate
    from sparse_mrnn.stimulus import Stimulus
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
    case["run"] = FORWARD.format(**case)
    result = subprocess.run([sys.executable, "-c", MEASURE.format(**case)], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    found: dict[str, float] = json.loads(result.stdout)
    return found


def table(repeats: int = 3) -> str:
    """Measure; a Markdown table, and below it what took more time or memory than it may."""
    threads = os.cpu_count() or 1
    base = statistics.median(measure(units=0, regions=1, density=0, steps=0, threads=threads)["peak_mb"] for _ in range(repeats))
    rows = ["| network | synapses | built in (s) | steps | simulated in (s) | peak over `import torch` (MB) |", "|---|---|---|---|---|---|"]
    missed = []
    for name, units, regions, density, steps, limits in CASES:
        runs = [measure(units=units, regions=regions, density=density, steps=steps, threads=threads) for _ in range(repeats)]
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        over = middle["peak_mb"] - base
        for what, value, limit in zip(("build", "run", "memory"), (middle["build_s"], middle["run_s"], over), limits, strict=True):
            if limit is not None and value > limit:
                missed.append(f"{name}: {what} {value:.3g} above {limit}")
        rows.append(f"| {name} | {int(middle['synapses']):,} | {middle['build_s']:.2f} | {steps:,} | {middle['run_s']:.2f} | {over:.0f} |")
        print(rows[-1], file=sys.stderr, flush=True)
    if missed:
        rows += ["", f"Missed: {'; '.join(missed)}."]
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
