"""What idle threads cost beside other processes: a training step under several ways to wait, alone and not.

    python benchmarks/shared_machine.py --flyvis fib25-fib19_v2.2.json [--write docs/shared_machine.md]

Each way to wait is a process of its own. They take turns, in a new random order in each round, alone and
beside 1, 2 and 4 processes that compute without end; after some rounds new processes take over, for one and
the same program is up to 10% faster or slower from start to start. Samples during which anything else used
more than 5% of a core do not count. Figures are medians. Linux only, for it reads /proc.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from common import arguments, progress, replace_in_page, table_head, table_row

BUSY = (0, 1, 2, 4)
QUIET = 0.05
"""Cores that other processes may use during a sample."""
NOTICE = 0.5
"""Seconds of steps before those that are measured: who else computes is noticed meanwhile."""
SPIN = "GOMP_SPINCOUNT"
WAYS: dict[str, dict[str, str]] = {
    "OpenMP's default (spin 300,000 times)": {SPIN: "300000"},
    "sparse-mrnn: sleep if others compute": {},
    "spin 3,000 times": {SPIN: "3000"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "OpenMP's default, numba's workqueue": {SPIN: "300000", "NUMBA_THREADING_LAYER": "workqueue"},
    "spin 3,000 times, numba's workqueue": {SPIN: "3000", "NUMBA_THREADING_LAYER": "workqueue"},
    "one thread": {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
}
"""Environment of each process, which imports torch first. OpenMP, torch's and numba's, is GNU's."""
TBB = {
    "OpenMP's default, numba's tbb": {SPIN: "300000", "NUMBA_THREADING_LAYER": "tbb"},
    "spin 3,000 times, numba's tbb": {SPIN: "3000", "NUMBA_THREADING_LAYER": "tbb"},
}
"""The same with numba's loops on Intel's TBB, with ``--tbb``: pip install tbb, LD_LIBRARY_PATH."""
Found = dict[tuple[str, int, str], list[float]]
"""Seconds of a step in each round, by network, number of busy processes, and way to wait."""


def training_steps(flyvis: Path | None, units: int) -> dict[str, Callable[[], None]]:
    """Functions that run one training step."""
    import torch

    import sparse_mrnn as sm
    from sparse_mrnn import benchmark as b
    from sparse_mrnn.fly_vision import read_flyvis

    def step(net: sm.mRNN, batch: int, steps: int) -> Callable[[], None]:
        x0 = torch.rand(batch, net.graph.n_units, generator=torch.Generator().manual_seed(0))
        inp, adam = torch.zeros(batch, steps, net.graph.n_inputs), torch.optim.Adam(net.parameters(), lr=1e-6)

        def run() -> None:
            adam.zero_grad()
            net(inp, x0)[1].square().mean().backward()
            adam.step()

        return run

    random_net = sm.mRNN(b.two_regions(units, 0.02 if units > 1000 else 0.2), device="cpu", seed=0)
    found = {f"{units:,} units, 2%, batch 32, 20 steps": step(random_net, 32, 20)}
    if flyvis is not None:
        graph, _ = read_flyvis(flyvis)
        net = sm.mRNN(graph, dt=5, tau=50, device="cpu", seed=0)
        found[f"fly's visual system, {graph.n_units:,} units, batch 4, 40 steps"] = step(net, 4, 40)
    return found


def serve(flyvis: Path | None, units: int) -> None:
    """Answer lines "name count" with the seconds of a step; run in a process of its own."""
    steps = training_steps(flyvis, units)
    for run in steps.values():
        run()
        run()
    print(json.dumps(list(steps)), flush=True)
    for line in sys.stdin:
        name, count = json.loads(line)
        begun = time.monotonic()
        while time.monotonic() < begun + NOTICE:
            steps[name]()
        start = time.perf_counter()
        for _ in range(count):
            steps[name]()
        print((time.perf_counter() - start) / count, flush=True)


class Worker:
    """A process that runs training steps on request."""

    def __init__(self, environment: dict[str, str], options: list[str]) -> None:
        prefixes = ("OMP_", "GOMP_", "KMP_", "NUMBA_")
        others = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
        command, pipe = [sys.executable, __file__, "--serve", *options], subprocess.PIPE
        environment = {**others, **environment}
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        self.names: list[str] = []

    def wait_until_ready(self) -> None:
        """Until it can run steps; it then knows the networks' names."""
        self.names = json.loads(self._answer())

    def seconds(self, name: str, count: int) -> float:
        """Of one step, from so many."""
        print(json.dumps([name, count]), file=self.process.stdin, flush=True)
        return float(self._answer())

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> str:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            sys.exit("a process that measures has died; see its message above.")
        return line


@contextmanager
def busy_processes(number: int) -> Iterator[list[int]]:
    """The ids of so many processes that compute without end."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        time.sleep(0.1)
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


def cpu_seconds_of_others(pids: list[int]) -> float:
    """CPU seconds since the machine started, without those of some processes."""
    with open("/proc/stat", encoding="ascii") as file:
        user_to_steal = [int(ticks) for ticks in file.readline().split()[1:9]]
    busy = sum(user_to_steal) - sum(user_to_steal[3:5])  # without idle and waiting for a disk
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        busy -= int(fields[11]) + int(fields[12])
    return busy / os.sysconf("SC_CLK_TCK")


def wait_until_quiet(end: float) -> None:
    """Until nothing else runs, or a time of the monotonic clock."""
    others = cpu_seconds_of_others([])
    while time.monotonic() < end:
        time.sleep(0.3)
        before, others = others, cpu_seconds_of_others([])
        if others - before <= 0.3 * QUIET + 0.01:
            return


def sample(worker: Worker, name: str, busy: int) -> float | None:
    """Seconds of a step beside so many busy processes; None if others disturbed it."""
    with busy_processes(busy) as pids:
        pids.append(worker.process.pid)
        start, others = time.perf_counter(), cpu_seconds_of_others(pids)
        seconds = worker.seconds(name, 1 if busy else 3)
        used = cpu_seconds_of_others(pids) - others
        quiet = used <= QUIET * (time.perf_counter() - start) + 0.02  # the clock of /proc ticks every 10 ms
    return seconds if quiet else None


def measure(options: Any, passed_on: list[str]) -> Found:
    """Rounds of all ways, alone and beside others, until there are enough samples or the time is over."""
    order, found, end = random.Random(0), Found(), time.monotonic() + 60 * options.minutes
    for start in range(options.starts):
        if time.monotonic() > end:
            break
        workers = {way: Worker(environment, passed_on) for way, environment in WAYS.items()}
        for worker in workers.values():
            worker.wait_until_ready()
        enough = options.samples * (start + 1)
        cases = [(n, busy, way) for n in next(iter(workers.values())).names for busy in BUSY for way in WAYS]
        while wanted := [case for case in cases if len(found.get(case, ())) < enough]:
            for name, busy, way in order.sample(wanted, len(wanted)):
                wait_until_quiet(end)
                seconds = sample(workers[way], name, busy)
                if seconds is not None:
                    found.setdefault((name, busy, way), []).append(seconds)
            if options.keep:
                options.keep.write_text(json.dumps([[*key, s] for key, s in found.items()]), encoding="utf-8")
            progress(f"start {start + 1} of {options.starts}: {len(wanted)} cases want more samples")
            if time.monotonic() > end:
                break
        for worker in workers.values():
            worker.stop()
    return found


def table(name: str, found: Found) -> str:
    """Milliseconds of a step alone, and the time over that of the default alone, alone and beside others."""
    default, cores = next(iter(WAYS)), os.cpu_count() or 1
    rows = table_head(name, "alone, ms", "alone", *(f"beside {busy}" for busy in BUSY[1:]))
    fair = [f"{max(1.0, (cores + busy) / cores):.1f}x" for busy in BUSY[1:]]
    rows.append(table_row([f"fair share of {cores} cores", "", "", *fair]))
    ms = {key[1:]: 1e3 * median(seconds) for key, seconds in found.items() if key[0] == name}
    for way in WAYS:
        times = [f"{ms[busy, way] / ms[0, default]:.1f}x" if (busy, way) in ms else "" for busy in BUSY[1:]]
        alone = [f"{ms[0, way]:.1f}", f"{ms[0, way] / ms[0, default]:.2f}x"] if (0, way) in ms else ["", ""]
        rows.append(table_row([way, *alone, *times]))
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and put the tables into a page between its marks."""
    parser = arguments(__doc__)
    parser.add_argument("--flyvis", type=Path, help="fib25-fib19_v2.2.json of flyvis, if you have it")
    parser.add_argument("--units", type=int, default=5_000, help="of the random network")
    parser.add_argument("--starts", type=int, default=5, help="of every process")
    parser.add_argument("--samples", type=int, default=3, help="after each start")
    parser.add_argument("--minutes", type=float, default=60, help="after which it ends with what there is")
    parser.add_argument("--keep", type=Path, help="keep what is measured in this JSON file, as it comes in")
    parser.add_argument("--tbb", action="store_true", help="numba's tbb, too; its library must be found")
    parser.add_argument("--write", type=Path, help="page to refresh")
    parser.add_argument("--serve", action="store_true", help="for the script's own use")
    options = parser.parse_args()
    if options.serve:
        serve(options.flyvis, options.units)
        return
    passed_on = ["--units", str(options.units)]
    passed_on += [] if options.flyvis is None else ["--flyvis", str(options.flyvis)]
    if options.tbb:
        WAYS.update(TBB)
    found = measure(options, passed_on)
    from sparse_mrnn.benchmark import describe_machine, machine_line

    least = min(len(seconds) for seconds in found.values())
    tables = [table(name, found) for name in dict.fromkeys(key[0] for key in found)]
    text = "\n\n".join([f"{machine_line(describe_machine())}; medians of at least {least} samples.", *tables])
    print(text)
    if options.write:
        replace_in_page(options.write, text)


if __name__ == "__main__":
    main()
