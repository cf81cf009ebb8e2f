"""What idle threads cost beside other processes: a training step under several ways to wait, alone and not.

    python benchmarks/shared_machine.py --flyvis fib25-fib19_v2.2.json [--write docs/shared_machine.md]

Each way is a process of its own, which is started once and then told when to run; they take turns, in a new
random order in each round, alone and beside 1, 2 and 4 processes that compute without end. Figures are
medians; a cost is the median of the rounds' ratios.
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

from common import arguments, progress, replace_in_page, table_head, table_row

BUSY = (0, 1, 2, 4)
SPIN = "GOMP_SPINCOUNT"
WAYS = {
    "default (spins 300,000 times)": {SPIN: "300000"},
    "spins 100,000 times": {SPIN: "100000"},
    "spins 30,000 times": {SPIN: "30000"},
    "spins 10,000 times": {SPIN: "10000"},
    "spins 3,000 times": {SPIN: "3000"},
    "spins 1,000 times": {SPIN: "1000"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "spins 10,000 times, numba's workqueue": {SPIN: "10000", "NUMBA_THREADING_LAYER": "workqueue"},
    "one thread": {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
}
"""Environment of each process. The OpenMP of torch's Linux wheels, and numba's, is GNU's."""


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

    def __init__(self, environment: dict[str, str], options: list[str]) -> None:
        prefixes = ("OMP_", "GOMP_", "KMP_", "NUMBA_")
        others = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
        command, pipe = [sys.executable, __file__, "--serve", *options], subprocess.PIPE
        environment = {**others, **environment}
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        self.names: list[str] = json.loads(self._answer())

    def seconds(self, name: str, count: int = 1) -> float:
        """Of one step, from so many."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, count]) + "\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("a process that measures has died; see its message above.")
        return line


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """So many processes that compute without end."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(workers: dict[str, Worker], rounds: int) -> dict[tuple[str, int, str], list[float]]:
    """Seconds of a step in every round, by (network, busy processes, way)."""
    order, found = random.Random(0), {}
    names = next(iter(workers.values())).names
    counts = {name: max(1, round(0.3 / next(iter(workers.values())).seconds(name))) for name in names}
    for busy in BUSY:
        with busy_processes(busy):
            for k in range(rounds):
                for way in order.sample(list(workers), len(workers)):
                    for name in names:
                        seconds = workers[way].seconds(name, counts[name])
                        found.setdefault((name, busy, way), []).append(seconds)
                progress(f"{busy} busy processes, round {k + 1} of {rounds}")
    return found


def table(name: str, found: dict[tuple[str, int, str], list[float]]) -> str:
    """Milliseconds of a step alone, what waiting so costs alone, and how much longer beside others."""
    from sparse_mrnn.benchmark import Ratio, Timing

    timing = {key[1:]: Timing.of(seconds) for key, seconds in found.items() if key[0] == name}
    default = next(iter(WAYS))
    rows = table_head(name, "alone, ms", "cost alone", *(f"beside {n}" for n in BUSY[1:]))
    cores = os.cpu_count() or 1
    fair = [f"{max(1.0, (cores + busy) / cores):.1f}x" for busy in BUSY[1:]]
    rows.append(table_row([f"fair share of {cores} cores", "", "", *fair]))
    for way in dict.fromkeys(way for _, way in timing):
        alone = timing[0, way]
        cost = Ratio.of(alone, timing[0, default])
        beside = [timing[busy, way].median / timing[0, default].median for busy in BUSY[1:]]
        bounds = f"{cost.median - 1:+.1%} ({cost.low - 1:+.1%} to {cost.high - 1:+.1%})"
        rows.append(table_row([way, f"{alone.median:.1f}", bounds, *(f"{times:.1f}x" for times in beside)]))
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and put the tables into a page between its marks."""
    parser = arguments(__doc__)
    parser.add_argument("--flyvis", type=Path, help="fib25-fib19_v2.2.json of flyvis, if you have it")
    parser.add_argument("--units", type=int, default=5_000, help="of the random network")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--write", type=Path, help="page to refresh")
    parser.add_argument("--serve", action="store_true", help="for the script's own use")
    options = parser.parse_args()
    if options.serve:
        serve(options.flyvis, options.units)
        return
    passed_on = ["--units", str(options.units)]
    passed_on += [] if options.flyvis is None else ["--flyvis", str(options.flyvis)]
    workers = {way: Worker(environment, passed_on) for way, environment in WAYS.items()}
    found = measure(workers, options.rounds)
    from sparse_mrnn.benchmark import describe_machine, machine_line

    tables = [table(name, found) for name in next(iter(workers.values())).names]
    text = "\n\n".join([f"{machine_line(describe_machine())}; medians of {options.rounds} rounds.", *tables])
    print(text)
    if options.write:
        replace_in_page(options.write, text)


if __name__ == "__main__":
    main()
