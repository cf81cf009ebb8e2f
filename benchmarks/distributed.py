"""A network on several processes against one: build, rate, peak memory, what is exchanged; and a cost model.

    python benchmarks/distributed.py [--rounds 3] [--write docs/scaling.md]
    python benchmarks/distributed.py --delays [--write docs/scaling.md]

All build the same modular network: regions in modules, most synapses within a module. One process of two
threads and two of one thread take turns; one of one thread and four of one thread run once. Every run is
started anew. The constants of the cost model come from these runs: synapses a second of one thread, and the
time of an exchange between two processes, as a constant and a time for each unit.

--delays: the same network with delays of five steps between modules, on two processes of one thread, which
exchange five steps in one message or, for comparison, every step; both take turns in the same processes.

--recording: the activity of every unit recorded by two processes of one thread, in turns: by the first one,
which gathers it, or by both, each half of the units.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from common import arguments, own_peak, progress, replace_in_page, table_head, table_row

SIZES = ((1_000_000, 5), (100_000, 20))
"""Units, and time steps of a run."""
SYNAPSES = 100
EXCHANGED = (100, 10_000, 100_000, 1_000_000)
PREDICTED = (10**6, 10**7, 10**8, 10**9)
RANKS = (1, 2, 4, 64, 1024)
DELAY = 5
"""Steps of the delay between modules, with --delays."""
RECORDED = (10, 1)
"""Steps from one recorded time to the next, with --recording."""
DELAYED_SIZES, TURNS, RECORDED_TURNS, TURN_STEPS = (1_000_000, 100_000, 10_000), 21, 9, 20


def modular(units: int, regions: int = 40, modules: int = 8, outside: float = 0.1, delay: Any = None) -> Any:
    """Regions in modules: of each unit's synapses, the share ``outside`` comes from one region elsewhere.

    ``delay``: of these, in ms.
    """
    import sparse_mrnn as sm

    g, n = sm.RegionGraph(), units // regions
    for k in range(regions):
        g.add_region(f"r{k}", n, sign="neg" if k % 5 == 4 else "pos", base_firing=1.0)
    per_module = regions // modules
    within = round(SYNAPSES * (1 - outside) / per_module)
    for k in range(regions):
        first = k - k % per_module
        for source in range(first, first + per_module):
            g.add_projection(f"r{source}", f"r{k}", fan_in=within)
        elsewhere = f"r{(k + per_module) % regions}"
        g.add_projection(elsewhere, f"r{k}", fan_in=max(1, SYNAPSES - within * per_module), delay=delay)
    return g


# ---------------------------------------------------------------- processes of their own


def timed(simulator: Any, steps: int) -> float:
    """Best of three runs of so many steps: seconds a step."""
    simulator.set_factors({"recurrent": {}, "input": {}})
    stepper = simulator.stepper
    stepper.step(inputs=False)
    found = []
    for _ in range(3):
        begun = time.perf_counter()
        for _ in range(steps):
            stepper.step(inputs=False)
        found.append((time.perf_counter() - begun) / steps)
    return min(found)


def run(units: int, steps: int, threads: int) -> None:
    """Build and step a network in this process, or with those that torchrun has started; print JSON."""
    import sparse_mrnn as sm
    from sparse_mrnn.distributed import ShardedRNN, is_started_by_torchrun, joined
    from sparse_mrnn.distributed.streaming import ShardedSimulator
    from sparse_mrnn.simulation.simulator import Simulator

    torch.set_num_threads(threads)
    options: dict[str, Any] = {"seed": 0, "device": "cpu", "activation": "tanh"}
    g, begun = modular(units), time.perf_counter()
    if not is_started_by_torchrun():
        net = sm.mRNN(g, **options)
        found = {"build": time.perf_counter() - begun, "synapses": net.rec.nnz}
        found["step"] = timed(Simulator(net, 1, None, event_driven=False), steps)
        print(json.dumps({**found, "peak": [own_peak()], "sent": 0, "all-gather": 0}))
        return
    with joined() as ranks:
        sharded = ShardedRNN(g, **options)
        report = sharded.halo_report()
        found = {"build": time.perf_counter() - begun, "synapses": sum(report.synapses)}
        found["step"] = timed(ShardedSimulator(sharded, 1, None, event_driven=False), steps)
        found |= {"sent": report.volume, "all-gather": report.all_gather, "peak": ranks.gather(own_peak())}
        if ranks.rank == 0:
            print(json.dumps(found))


def delayed(units: int) -> None:
    """Simulate and train with exchanges every few steps and every step, in turns; print JSON.

    Times are milliseconds a step of rank 0, one for each turn.
    """
    from sparse_mrnn.distributed import ShardedRNN, joined
    from sparse_mrnn.distributed.streaming import ShardedSimulator

    torch.set_num_threads(1)
    with joined() as ranks:
        net = ShardedRNN(modular(units, delay=DELAY * 10.0), seed=0, device="cpu", activation="tanh")
        report = net.halo_report()
        if report.steps_per_message != DELAY:
            sys.exit(f"{report.steps_per_message} steps in a message, not {DELAY}.")
        simulators = {}
        for every in (DELAY, 1):  # fewer steps than delays allow are right, too
            net.shard.exchange_steps = every
            simulators[every] = ShardedSimulator(net, 1, None, event_driven=False)
            simulators[every].set_factors({"recurrent": {}, "input": {}})
        inp, x0 = torch.zeros(1, TURN_STEPS, 0), net.batched_initial_condition(1)[0].detach()
        found: dict[str, list[float]] = {}
        for turn in range(TURNS + 1):
            for every, simulator in simulators.items():
                net.shard.exchange_steps = every
                ranks.any_rank([True])  # all begin together
                begun = time.perf_counter()
                for _ in range(TURN_STEPS):
                    simulator.stepper.step(inputs=False)
                ranks.any_rank([True])
                between = time.perf_counter()
                net(inp, x0)[1].sum().backward()
                ranks.any_rank([True])
                ended = time.perf_counter()
                if turn:  # the first one compiles and allocates
                    found.setdefault(f"simulate {every}", []).append(1e3 * (between - begun) / TURN_STEPS)
                    found.setdefault(f"train {every}", []).append(1e3 * (ended - between) / TURN_STEPS)
        if ranks.rank == 0:
            print(json.dumps({"sent": report.volume, "times": found}))


def recorded(units: int) -> None:
    """Simulate and record, by the first process, by all together, and not at all; print JSON.

    Times are milliseconds a step of rank 0, one for each turn, until all is on disk.
    """
    from sparse_mrnn.distributed import ShardedRNN, joined
    from sparse_mrnn.distributed.streaming import ShardedSimulator
    from sparse_mrnn.recording.store import part_of_process

    torch.set_num_threads(1)
    with joined() as ranks, TemporaryDirectory() as folder:
        net = ShardedRNN(modular(units), seed=0, device="cpu", activation="tanh")
        simulator = ShardedSimulator(net, 1, None, event_driven=False)
        simulator.set_factors({"recurrent": {}, "input": {}})
        width = -(-units // ranks.size)
        shares = {
            "rank 0": [slice(0, units)],
            "all": [part_of_process(units, width, rank, ranks.size) for rank in range(ranks.size)],
        }
        writers = {
            (way, every): Writer(Path(folder) / f"{way} {every} {ranks.rank}", net, of[ranks.rank], every)
            for every in RECORDED
            for way, of in shares.items()
            if ranks.rank < len(of)
        }
        found: dict[str, list[float]] = {}
        cases = [("none", 1), *((way, every) for way in shares for every in RECORDED)]
        for turn in range(RECORDED_TURNS + 1):
            for way, every in cases:
                writer = writers.get((way, every))
                if way != "none":
                    simulator.record([np.arange(units)[part] for part in shares[way]], every=False)
                ranks.any_rank([True])
                begun = time.perf_counter()
                for step in range(1, TURN_STEPS + 1):
                    simulator.stepper.step(inputs=False)
                    states = simulator.states(["h"]) if way != "none" and step % every == 0 else None
                    if writer is not None and states is not None:
                        writer.recorder.append(states)
                if writer is not None:
                    writer.store.flush()
                ranks.any_rank([True])
                took = 1e3 * (time.perf_counter() - begun) / TURN_STEPS
                if turn:
                    found.setdefault(f"{way} {every}", []).append(took)
        for writer in writers.values():
            writer.store.close()
        if ranks.rank == 0:
            print(json.dumps(found))


class Writer:
    """A recorder of some units, and a store of them."""

    def __init__(self, path: Path, net: Any, units: slice, every: int) -> None:
        import sparse_mrnn as sm
        from sparse_mrnn.recording.recorder import Recorder
        from sparse_mrnn.recording.store import ZarrStore
        from sparse_mrnn.simulation.options import SimulationOptions
        from sparse_mrnn.simulation.plan import plan_simulation

        options = SimulationOptions(steps=TURN_STEPS * (RECORDED_TURNS + 1), record=sm.Record(every=every))
        plan = plan_simulation(net.declared, options)
        axes, length = plan.axes.part(units, groups=False), max(1, min(TURN_STEPS // every, plan.chunk))
        self.store = ZarrStore(path, axes, length)
        self.store.create({"recorded": 0, "complete": 0}, lambda checkpoint: None)
        self.recorder = Recorder(axes, length, None, self.store.append, rows=None)


def exchange() -> None:
    """Milliseconds in which two processes exchange so many float32 numbers; print JSON."""
    from sparse_mrnn.distributed import joined

    torch.set_num_threads(1)
    with joined() as ranks:
        found, other = [], 1 - ranks.rank
        for size in EXCHANGED:
            sent, received = torch.zeros(size, 1), torch.zeros(size, 1)
            counts = [size * (rank == other) for rank in range(2)]
            times = []
            for _ in range(50):
                begun = time.perf_counter()
                ranks.exchange(received, sent, (counts, counts)).wait()
                times.append(1e3 * (time.perf_counter() - begun))
            found.append(median(times))
        if ranks.rank == 0:
            print(json.dumps(found))


def started(processes: int, *options: object) -> Any:
    """What this script, started anew in so many processes, prints last."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *launcher, __file__, *map(str, options)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


# ---------------------------------------------------------------- tables


def measured(units: int, steps: int, rounds: int) -> tuple[str, list[dict[str, Any]]]:
    """The table of one size, and the runs of one process of one thread."""
    cases = {(1, 2): rounds, (2, 1): rounds, (1, 1): 1, (4, 1): 1}
    runs: dict[tuple[int, int], list[dict[str, Any]]] = {case: [] for case in cases}
    for number in range(rounds):
        for (processes, threads), wanted in cases.items():
            if number < wanted:
                own = started(processes, "--units", units, "--steps", steps, "--threads", threads)
                runs[processes, threads].append(own)
                progress(f"{units:,} units, {processes} x {threads}: {own['step']:.4f} s a step")
    one = runs[1, 2]
    whole = max(found["peak"][0] for found in one)
    columns = "build (s)", "a step (ms)", "rate", "largest peak (MB)", "of one", "units sent"
    lines = table_head("processes x threads", *columns)
    for (processes, threads), found in runs.items():
        step = [1e3 * each["step"] for each in found]
        rate = median(each["step"] for each in one) / median(each["step"] for each in found)
        peak = max(max(each["peak"]) for each in found)
        sent, most = found[0]["sent"], found[0]["all-gather"]
        exchanged = f"{sent:,}; all-gather {most:,}" if processes > 1 else ""
        row = [f"{processes} x {threads}", ", ".join(f"{each['build']:.1f}" for each in found)]
        row += [
            ", ".join(f"{each:.1f}" for each in step),
            f"{rate:.2f}x",
            f"{peak / 1e6:,.0f}",
            f"{peak / whole:.2f}",
        ]
        lines.append(table_row([*row, exchanged]))
    return "\n".join([f"{units:,} units, {one[0]['synapses']:,} synapses:\n", *lines]), runs[1, 1]


def with_delays() -> str:
    """The table of --delays."""
    columns = "units sent a step", "every step (ms)", f"every {DELAY} steps (ms)", "ratio", "quartiles of it"
    lines = table_head("units, what", *columns)
    for units in DELAYED_SIZES:
        found = started(2, "--delays", "--units", units)
        for what in ("simulate", "train"):
            each, few = (np.array(found["times"][f"{what} {every}"]) for every in (1, DELAY))
            low, high = np.percentile(each / few, (25, 75))
            row = [f"{units:,}, {what}", f"{found['sent']:,}", f"{median(each):.3g}", f"{median(few):.3g}"]
            lines.append(table_row([*row, f"{median(each / few):.2f}x", f"{low:.2f} to {high:.2f}"]))
            progress(lines[-1])
    return "\n".join(lines)


def with_recording() -> str:
    """The table of --recording."""
    columns = "steps between", "nothing recorded (ms)", "by rank 0 (ms)", "by all (ms)", "ratio"
    lines = table_head("units", *columns, "quartiles of it")
    for units in DELAYED_SIZES[:2]:
        found = {name: np.array(times) for name, times in started(2, "--recording", "--units", units).items()}
        for every in RECORDED:
            one, each = (found[f"{way} {every}"] for way in ("rank 0", "all"))
            low, high = np.percentile(one / each, (25, 75))
            row = [f"{units:,}", str(every), f"{median(found['none 1']):.3g}", f"{median(one):.3g}"]
            row += [f"{median(each):.3g}", f"{median(one / each):.2f}", f"{low:.2f} to {high:.2f}"]
            lines.append(table_row(row))
            progress(lines[-1])
    return "\n".join(lines)


def step_ms(units: float, ranks: int, messages: float, halo: float, costs: Sequence[float]) -> float:
    """The cost model: milliseconds of a step of one rank, for synapses a second, a message and a unit."""
    per_second, message, unit = costs
    return 1e3 * units * SYNAPSES / ranks / per_second + messages * message + halo * unit


def predicted(costs: Sequence[float]) -> str:
    """Steps of large networks on many ranks."""
    lines = table_head("units, structure", *(f"{ranks:,}" for ranks in RANKS))
    for units in PREDICTED:
        modules = [step_ms(units, r, min(r - 1, 2), units / r / 4 * (r > 1), costs) for r in RANKS]
        nothing = [step_ms(units, r, r - 1, units - units / r, costs) for r in RANKS]
        name = f"10^{round(np.log10(units))}"
        for structure, times in (("modules", modules), ("none", nothing)):
            shown = [f"{each:.3g}" if each < 100 else f"{each:,.0f}" for each in times]
            lines.append(table_row([f"{name}, {structure}", *shown]))
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and put the tables into a page between its marks."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="page to refresh")
    for name in ("--units", "--steps", "--threads"):
        parser.add_argument(name, type=int, help=SUPPRESS)
    parser.add_argument("--exchange", action="store_true", help=SUPPRESS)
    parser.add_argument("--delays", action="store_true", help="measure delays between processes alone")
    parser.add_argument("--recording", action="store_true", help="measure recording by ranks alone")
    options = parser.parse_args()
    if options.units and options.recording:
        recorded(options.units)
        return
    if options.units and options.delays:
        delayed(options.units)
        return
    if options.units:
        run(options.units, options.steps, options.threads)
        return
    if options.exchange:
        exchange()
        return
    from sparse_mrnn.benchmark import describe_machine, machine_line

    for name, chosen, rows in (
        ("delays", options.delays, with_delays),
        ("recording", options.recording, with_recording),
    ):
        if chosen:
            table = f"{machine_line(describe_machine())}\n\n{rows()}"
            print(table)
            if options.write is not None:
                replace_in_page(options.write, table, name)
            return
    tables, alone = zip(*(measured(units, steps, options.rounds) for units, steps in SIZES), strict=True)
    per_second = alone[0][0]["synapses"] / alone[0][0]["step"]
    times = started(2, "--exchange")
    message, unit = times[0], (times[-1] - times[0]) / EXCHANGED[-1]
    shown = ", ".join(
        f"{size:,} units {1e3 * each:,.0f} us" for size, each in zip(EXCHANGED, times, strict=True)
    )
    model = [
        f"One thread: {per_second / 1e9:.2f} * 10^9 synapses a second.",
        f"An exchange between two processes: {shown};",
        f"so a message takes {message:.3f} ms, and a unit {1e6 * unit:.2f} ns.",
    ]
    first = "\n\n".join([machine_line(describe_machine()), *tables, "\n".join(model)])
    second = predicted((per_second, message, unit))
    print(f"{first}\n\n{second}")
    if options.write is not None:
        replace_in_page(options.write, first)
        replace_in_page(options.write, second, "predicted")


if __name__ == "__main__":
    main()
