"""Simulate a network of a whole fly brain's size: time a step against the bare sparse product, and memory.

    python benchmarks/simulation.py [--write docs/large_runs.md]

139,255 units in 80 regions, 15 million synapses, batch 1, float32, relu; weights are random. What is
compared runs in one process, in turn; memory is measured in processes of their own.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import arguments, progress, run_in_new_process, table_head, table_row

import sparse_mrnn as sm
from sparse_mrnn.benchmark import describe_machine, machine_line
from sparse_mrnn.ops.stream import HeldStates
from sparse_mrnn.recording import Record
from sparse_mrnn.simulation import simulate
from sparse_mrnn.simulation.simulator import Simulator
from sparse_mrnn.stimulus import Clamp

UNITS, REGIONS, SYNAPSES = 139_255, 80, 15_000_000
ROUNDS = 5


def network(device: str = "cpu") -> sm.mRNN:
    """Random projections between all regions; weak enough that activity stays where it is put."""
    g = sm.RegionGraph(name="fly-sized")
    sizes = np.full(REGIONS, UNITS // REGIONS)
    sizes[: UNITS - int(sizes.sum())] += 1
    for k, n in enumerate(sizes.tolist()):
        g.add_region(f"r{k}", n, sign="neg" if k % 5 == 4 else "pos", init=-1.0)
    density = SYNAPSES / UNITS**2
    for s in range(REGIONS):
        for t in range(REGIONS):
            g.add_projection(f"r{s}", f"r{t}", density=density, initializer=sm.Constant(1e-6))
    return sm.mRNN(g, device=device, seed=0, backend="csr")


def in_turn(calls: dict[str, Callable[[], object]], each: int) -> dict[str, float]:
    """Median seconds of a call; in several rounds each is called ``each`` times on end, as in a run."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            for _ in range(each):
                begin = time.perf_counter()
                call()
                found[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in found.items()}


def simulators_at(net: sm.mRNN, fraction: float) -> dict[str, Simulator]:
    """Make a fraction of the units active, kept there by their tonic input; the others stay below zero."""
    active = np.random.default_rng(1).choice(UNITS, round(fraction * UNITS), replace=False)
    net.base_firing.fill_(-1.0)
    net.base_firing[torch.from_numpy(active)] = 1.0
    found = {name: Simulator(net, 1, None, event_driven=name == "events") for name in ("rows", "events")}
    for simulator in found.values():
        simulator.set_factors({"recurrent": {}, "input": {}})
        simulator.stepper.x.copy_(net.base_firing[:, None])
        simulator.stepper.hold(HeldStates())  # computes the activity
    return found


def step_table(net: sm.mRNN) -> list[str]:
    """A step with and without skipping silent units, at several fractions of active ones."""
    matrix = net.effective_W_rec.detach()
    times = ("bare product, ms", "step by rows, ms", "event-driven step, ms")
    rows = table_head("active units", *times, "rows / bare", "rows / event-driven")
    y = torch.zeros(UNITS)
    for fraction in (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0):
        simulators = simulators_at(net, fraction)
        h = simulators["rows"].stepper.h[:, 0].clone()

        def run(simulator: Simulator) -> None:
            simulator.stepper.step(inputs=False)
            simulator.stepper.finite()

        calls = {
            "bare": lambda h=h: torch.addmv(y, matrix, h, beta=0.9, alpha=0.1, out=y),
            "rows": lambda s=simulators: run(s["rows"]),
            "events": lambda s=simulators: run(s["events"]),
        }
        t = {name: 1e3 * seconds for name, seconds in in_turn(calls, 40).items()}
        ratios = t["rows"] / t["bare"], t["rows"] / t["events"]
        numbers = t["bare"], t["rows"], t["events"], *ratios
        rows.append(table_row([f"{fraction:.0%}", *(f"{number:.2f}" for number in numbers)]))
        progress(rows[-1])
    return rows


def run_table(net: sm.mRNN, steps: int = 300) -> list[str]:
    """Whole runs: what recording costs. Half of the units are active, by clamps."""
    records = {
        "means, once": Record(what=["mean"], every=steps),
        "means of all regions, every step": Record(what=["mean"]),
        "means and variances, every step": Record(what=["mean", "variance"]),
        "every unit, every step": Record(),
        "every unit, every step, float16": Record(dtype="float16"),
    }
    matrix, h, y = net.effective_W_rec.detach(), torch.rand(UNITS), torch.zeros(UNITS)
    bare = in_turn({"bare": lambda: torch.addmv(y, matrix, h, beta=0.9, alpha=0.1, out=y)}, 30)["bare"]
    times: dict[str, list[float]] = {name: [] for name in records}
    active = [Clamp(f"r{k}", 1.0) for k in range(0, REGIONS, 2)]
    with tempfile.TemporaryDirectory() as folder:
        for k in range(4):
            for name, record in records.items():
                out = Path(folder) / "run.zarr"
                options = dict(interventions=active, record=record, out=out, mode="overwrite", progress=False)
                took = timed_loop(lambda o=options: simulate(net, steps=steps, **o))
                if k:  # the first round warms up
                    times[name].append(took)
    base = statistics.median(times["means, once"])
    rows = table_head("recorded", "ms a step", "over the bare product", "over the first row")
    for name, seconds in times.items():
        run = statistics.median(seconds)
        step = run / steps
        rows.append(table_row([name, f"{1e3 * step:.2f}", f"{step / bare:.2f}", f"{run / base - 1:+.0%}"]))
        progress(rows[-1])
    return rows


def timed_loop(call: Callable[[], object]) -> float:
    """Seconds of a run's steps, to the last byte written; preparing it, which is done once, is left out."""
    from sparse_mrnn.simulation.run import Run

    begin = [0.0]
    go = Run.go

    def timed(self: Run, *args: object) -> object:
        begin[0] = time.perf_counter()
        return go(self, *args)  # type: ignore[arg-type]

    Run.go = timed  # type: ignore[method-assign, assignment]
    try:
        call()
        return time.perf_counter() - begin[0]
    finally:
        Run.go = go  # type: ignore[method-assign]


MEMORY = """
import json, sys, tempfile, time
sys.path.insert(0, {here!r})
import simulation
from sparse_mrnn.recording import Record
from sparse_mrnn.simulation import simulate
from sparse_mrnn.simulation.progress import memory
from sparse_mrnn.stimulus import Stimulus, WhiteNoise
net = simulation.network()
before = memory()
with open("/proc/self/clear_refs", "w") as file:  # start the peak anew
    file.write("5")
with tempfile.TemporaryDirectory() as folder:
    stimulus = Stimulus("r0", WhiteNoise(1.0, mean=2.0), fraction=0.5)
    begin = time.perf_counter()
    simulate(net, steps={steps}, stimulus=stimulus, record={record}, out=folder + "/run.zarr", progress=False)
    rate = {steps} / (time.perf_counter() - begin)
high = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps(dict(before=before / 2**20, peak=high / 2**10, rate=rate)))
"""


def memory_table() -> list[str]:
    """Peak memory above the network, in a process of its own."""
    rows = table_head("steps", "recorded", "network, MiB", "peak above it, MiB", "steps/s")
    means, every_unit = "Record(what=['mean'])", "Record()"
    runs = [(1_000, means), (10_000, means), (100_000, means), (200, every_unit), (1_000, every_unit)]
    for steps, record in runs:
        code = MEMORY.format(here=str(Path(__file__).parent), steps=steps, record=record)
        found = run_in_new_process(code)
        what = "region means" if record is means else "every unit"
        figures = (found["before"], found["peak"] - found["before"], found["rate"])
        cells = (f"{figure:.0f}" for figure in figures)
        rows.append(table_row([f"{steps:,}", f"{what}, every step", *cells]))
        progress(rows[-1])
    return rows


def table() -> str:
    """The large-net tables, as Markdown."""
    net = network()
    measured = {
        "machine": machine_line(describe_machine()),
        "size": f"{UNITS:,} units in {REGIONS} regions, {net.rec.nnz:,} synapses, batch 1, float32, relu",
        "step": "\n".join(step_table(net)),
        "run": "\n".join(run_table(net)),
    }
    del net
    return PAGE.format(**measured, memory="\n".join(memory_table()))


PAGE = """## What it costs

Made by `benchmarks/simulation.py`, part of `make bench`: {size}, random weights. {machine}.

### A step

A step with everything that belongs to it (leak, tonic input, relu, the check for NaN), beside the bare sparse
product of torch (MKL), each run on end as in a simulation; medians. "By rows" multiplies the whole matrix;
"event-driven" skips silent units while at most 30% of the synapses have an active source
([decision](decisions/0015-event-driven-products.md)).

{step}

### Recording

Whole runs on disk, half of the units active, so every step multiplies the whole matrix; medians of three.

{run}

### Memory

Peak resident memory above that of the built network, each in a process of its own, recording to disk: it
does not grow with the duration. It holds the effective weights, the column-wise copy of the matrix and,
where every unit is recorded, the chunks on their way to the disk.

{memory}
"""
MARK = "## What it costs"


def main() -> None:
    """Measure, print, and optionally write the tables into a page."""
    parser = arguments(__doc__)
    parser.add_argument("--write", type=Path, help="replace the tables of this page")
    options = parser.parse_args()
    found = table()
    print("\n" + found)
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        options.write.write_text(text.partition(MARK)[0] + found, encoding="utf-8")


if __name__ == "__main__":
    main()
