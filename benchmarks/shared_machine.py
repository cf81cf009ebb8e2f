"""What idle threads cost beside other processes: a training step under several ways to wait, alone and not.

    python benchmarks/shared_machine.py --flyvis fib25-fib19_v2.2.json [--write docs/shared_machine.md]

Each way to wait is a process of its own. They take turns, in a new random order in each round, alone and
beside 1, 2 and 4 processes that compute without end; a few rounds later new processes take over, for one
and the same program is up to 10% faster or slower from start to start. Figures are medians. It wants a
machine that is idle otherwise, or ``--priority`` and the right to use it: then everything it starts goes
before what else runs, and rests in between.
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
SPIN = "GOMP_SPINCOUNT"
WAYS = {
    "default (spins 300,000 times)": {SPIN: "300000"},
    **{f"spins {int(n):,} times": {SPIN: n} for n in ("30000", "10000", "3000", "1000", "300")},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "spins 1,000 times, numba's workqueue": {SPIN: "1000", "NUMBA_THREADING_LAYER": "workqueue"},
    "one thread": {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
}
"""Environment of each process. The OpenMP of torch's Linux wheels, and numba's, is GNU's."""
Found = dict[tuple[str, int, str], list[float]]
"""Seconds of a step in each round, by network, number of busy processes, and way to wait."""


def training_steps(flyvis: Path | None, units: int) -> dict[str, Callable[[], None]]:
    """Functions that run one training step."""
    import torch

    import sparse_mrnn as sm
    from sparse_mrnn import benchmark as b
    from sparse_mrnn.connectome import read_flyvis

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
        start = time.perf_counter()
        for _ in range(count):
            steps[name]()
        print((time.perf_counter() - start) / count, flush=True)


class Worker:
    """A process that runs training steps on request."""

    def __init__(self, environment: dict[str, str], options: list[str], priority: bool) -> None:
        prefixes = ("OMP_", "GOMP_", "KMP_", "NUMBA_")
        others = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
        command, pipe = [sys.executable, __file__, "--serve", *options], subprocess.PIPE
        environment = {**others, **environment}
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        self.names: list[str] = json.loads(self._answer())
        if priority:
            for thread in os.listdir(f"/proc/{self.process.pid}/task"):
                os.setpriority(os.PRIO_PROCESS, int(thread), -20)

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
def busy_processes(number: int, priority: bool) -> Iterator[None]:
    """So many processes that compute without end."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        for process in running if priority else ():
            os.setpriority(os.PRIO_PROCESS, process.pid, -20)
        time.sleep(0.1)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(options: Any, passed_on: list[str]) -> Found:
    """Rounds of all ways, alone and beside others."""
    order, found = random.Random(0), Found()
    for start in range(options.starts):
        workers = {way: Worker(environment, passed_on, options.priority) for way, environment in WAYS.items()}
        names = next(iter(workers.values())).names
        for k in range(options.rounds):
            for way in order.sample(list(workers), len(workers)):
                for busy in BUSY:
                    with busy_processes(busy, options.priority):
                        for name in names:
                            seconds = workers[way].seconds(name, 1 if busy else 3)
                            found.setdefault((name, busy, way), []).append(seconds)
                    if options.priority:
                        time.sleep(1.0)
            progress(f"start {start + 1} of {options.starts}, round {k + 1} of {options.rounds}")
            if options.keep:
                options.keep.write_text(json.dumps([[*key, s] for key, s in found.items()]), encoding="utf-8")
        for worker in workers.values():
            worker.stop()
    return found


def table(name: str, found: Found) -> str:
    """Milliseconds of a step alone, and how many times as long as by default it takes, alone and beside others."""
    default, cores = next(iter(WAYS)), os.cpu_count() or 1
    rows = table_head(name, "alone, ms", "alone", *(f"beside {busy}" for busy in BUSY[1:]))
    fair = [f"{max(1.0, (cores + busy) / cores):.1f}x" for busy in BUSY[1:]]
    rows.append(table_row([f"fair share of {cores} cores", "", "", *fair]))
    alone = median(found[name, 0, default])
    for way in dict.fromkeys(key[2] for key in found):
        own = median(found[name, 0, way])
        beside = [f"{median(found[name, busy, way]) / alone:.1f}x" for busy in BUSY[1:]]
        rows.append(table_row([way, f"{1e3 * own:.1f}", f"{own / alone:.2f}x", *beside]))
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and put the tables into a page between its marks."""
    parser = arguments(__doc__)
    parser.add_argument("--flyvis", type=Path, help="fib25-fib19_v2.2.json of flyvis, if you have it")
    parser.add_argument("--units", type=int, default=5_000, help="of the random network")
    parser.add_argument("--starts", type=int, default=5, help="of every process")
    parser.add_argument("--rounds", type=int, default=3, help="after each start")
    parser.add_argument("--priority", action="store_true", help="go before what else runs, and rest in between")
    parser.add_argument("--keep", type=Path, help="keep what is measured in this JSON file, as it comes in")
    parser.add_argument("--write", type=Path, help="page to refresh")
    parser.add_argument("--serve", action="store_true", help="for the script's own use")
    options = parser.parse_args()
    if options.serve:
        serve(options.flyvis, options.units)
        return
    passed_on = ["--units", str(options.units)]
    passed_on += [] if options.flyvis is None else ["--flyvis", str(options.flyvis)]
    found = measure(options, passed_on)
    from sparse_mrnn.benchmark import describe_machine, machine_line

    rounds = f"medians of {options.rounds} rounds after each of {options.starts} starts"
    tables = [table(name, found) for name in dict.fromkeys(key[0] for key in found)]
    text = "\n\n".join([f"{machine_line(describe_machine())}; {rounds}.", *tables])
    print(text)
    if options.write:
        replace_in_page(options.write, text)


if __name__ == "__main__":
    main()
