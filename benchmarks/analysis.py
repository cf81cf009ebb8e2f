"""Fixed points, Jacobians and Lyapunov exponents: times and memory; against a gradient-descent finder.

    python benchmarks/analysis.py [--part search] [--flip-flop NET] [--write docs/analysis.md]

Each part runs in a process of its own, on one thread, and CPU seconds are reported beside those of the clock,
which are longer where other work shares the machine. What it found is checked before it is reported: a fixed
point by a step of the network itself, eigenvalues by their residual, the largest exponent by its standard
error.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
import warnings
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, own_peak, replace_in_page, table_head, table_row
from torch import Tensor

import sparse_mrnn as sm
from sparse_mrnn.analysis import SolverOptions, find_fixed_points, linearize, lyapunov_spectrum, sample_states
from sparse_mrnn.tasks import flip_flop

LARGE, CHAOTIC, DEGREE, STEPS = 20_000, 5_000, 100, 2_000
STARTS, ITERATIONS, RATES = 256, 5_000, (1e-4, 1e-3, 1e-2)
TRAINING = 900
TOL_Q = 1e-12
"""mRNNTorch's tolerance: of half the squared length of a step of the network."""


class Clock:
    """Seconds since it was made: of the clock and of the processor."""

    def __init__(self) -> None:
        self.begin = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        return time.perf_counter() - self.begin[0], time.process_time() - self.begin[1]


def shown(seconds: tuple[float, float]) -> str:
    """Seconds of the clock, and of the processor in brackets."""
    return f"{seconds[0]:.1f} s ({seconds[1]:.1f} s)"


def random_net(n: int, radius: float, tonic: float, **options: Any) -> sm.mRNN:
    """An i.i.d. tanh net, 100 synapses a unit, with tonic inputs of some standard deviation."""
    g = sm.RegionGraph()
    drive = tonic * np.random.default_rng(1).standard_normal(n)
    g.add_region("r", n, sign=None, base_firing=drive.tolist())
    g.add_projection("r", "r", fan_in=min(DEGREE, n), initializer=sm.Normal(radius))
    return sm.mRNN(g, "tanh", seed=0, device="cpu", **options)


def stays(net: sm.mRNN, state: np.ndarray) -> float:
    """How far a step of the network itself, in float64, moves a state: the length of v."""
    double = net.to(torch.float64)
    x = torch.from_numpy(state)[None]
    with torch.no_grad():
        after, _ = double(torch.zeros(1, 1, 0, dtype=torch.float64), x)
    return float((after[0, 0] - x[0]).norm()) * net.tau / net.dt


def point() -> dict[str, Any]:
    """The fixed point of a large contracting net, and 10 leading eigenvalues of its Jacobian."""
    net = random_net(LARGE, 0.8, tonic=1.0)
    clock = Clock()
    points = find_fixed_points(net, starts=1, eigenvalues=0)
    seconds = clock.seconds()
    peak = own_peak() / 1e9
    assert len(points) == 1, points.diagnostics
    clock = Clock()
    at = linearize(net, points.state[0])
    modes = at.modes(min(10, LARGE))
    spectrum = clock.seconds()
    jacobian = at.jacobian()
    residual = np.abs(jacobian @ modes.vectors - modes.vectors * modes.eigenvalues).max()
    assert residual < 1e-3, residual
    off = stays(net, points.state[0])
    assert off < 2e-8, off
    found = dict(seconds=seconds, speed=points.speed[0], off=off, peak=peak, synapses=net.rec.nnz)
    return found | dict(spectrum=spectrum, lead=abs(modes.eigenvalues[0]), residual=residual)


def exponents() -> dict[str, Any]:
    """10 Lyapunov exponents of a chaotic net."""
    net = random_net(CHAOTIC, 2.0, tonic=0.0, dt=10, tau=50)
    clock = Clock()
    found = lyapunov_spectrum(net, 10, steps=STEPS, transient=STEPS // 4)
    seconds = clock.seconds()
    assert found.exponents[0] > 3 * found.error[0] > 0, "not chaotic"
    largest = dict(value=1000 * found.exponents[0], error=1000 * found.error[0])
    return dict(seconds=seconds, steps=STEPS + STEPS // 4, least=1000 * found.exponents[-1], **largest)


def trained_flip_flop(path: str | None) -> sm.mRNN:
    """The network of docs/training.md."""
    if path:
        net = sm.load(path, device="cpu")
        assert isinstance(net, sm.mRNN)
        return net
    figures = runpy.run_path(str(Path(__file__).parent.parent / "docs" / "figures" / "training.py"))
    trained: sm.mRNN = figures["flip_flop_net"]()
    figures["train"](trained, "exc", 3, lambda batch, k: flip_flop(batch, 100, seed=k), TRAINING)
    return trained


def descend(net: sm.mRNN, start: Tensor, rate: float) -> tuple[Tensor, Tensor, int, tuple[float, float]]:
    """Joint Adam on the mean of q by autograd, with a dense W: states, q, iterations, seconds.

    As mRNNTorch's finder, whose defaults are a rate of 1e-4 and 5,000 iterations.
    """
    w = net.effective_W_rec.detach().to_dense()
    bias, alpha = net.tonic_inp.detach(), float(net.alpha.max())
    x = start.to(w.dtype).clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=rate)
    clock = Clock()
    for iteration in range(1, ITERATIONS + 1):  # noqa: B007  (returned)
        change = alpha * (-x + torch.relu(x) @ w.t() + bias)
        q = 0.5 * change.square().sum(1)
        if bool((q < TOL_Q).all()):
            break
        optimizer.zero_grad()
        q.mean().backward()
        optimizer.step()
    return x.detach(), q.detach(), iteration, clock.seconds()


def states_of(net: sm.mRNN, x: np.ndarray, tol: float = 1e-2) -> int:
    """How many of these fixed points differ."""
    kept: list[np.ndarray] = []
    for one in x:
        if all(np.abs(one - other).max() > tol for other in kept):
            kept.append(one)
    return len(kept)


def search(path: str | None) -> list[dict[str, Any]]:
    """All fixed points of the trained flip-flop from the same starts, by both."""
    net = trained_flip_flop(path)
    trials = flip_flop(64, 100, seed=10**6)
    with torch.no_grad():
        x, _ = net(trials.inp, *net.batched_initial_condition(64))
    start = sample_states(x, STARTS)
    find_fixed_points(net, x0=start[:2], eigenvalues=1)  # load what is loaded once
    rows = []
    for eigenvalues in (0, 4):
        clock = Clock()
        points = find_fixed_points(net, x0=start, eigenvalues=eigenvalues, options=SolverOptions())
        seconds = clock.seconds()
        name = "`find_fixed_points`" + (", with stability" if eigenvalues else "")
        arrived = int((points.start_point >= 0).sum())
        rows.append(dict(name=name, seconds=seconds, arrived=arrived, points=len(points)))
    assert (points.stability == "stable").sum() == 8 or TRAINING < 900, points.diagnostics
    rows[-1]["stable"] = int(points.stable.sum())
    for rate in RATES:
        end, q, iterations, seconds = descend(net, start, rate)
        there = (q < TOL_Q).numpy()
        ends = end.double().numpy()[there]
        stable = points.x[points.stable]
        near = sum(bool((np.abs(ends - one).max(1) < 1e-2).any()) for one in stable) if len(ends) else 0
        row = dict(name=f"Adam, rate {rate:g}", seconds=seconds, arrived=int(there.sum()), stable=near)
        rows.append(row | dict(points=states_of(net, ends), iterations=iterations, median=float(q.median())))
    return rows


def run(part: str, path: str | None) -> Any:
    """A part in a process of its own."""
    command = [sys.executable, __file__, "--one", part, *(["--flip-flop", path] if path else [])]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | threads
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode:
        sys.exit(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def bounds(p: dict[str, Any], e: dict[str, Any]) -> str:
    """The table of what is measured at one size."""
    rows = table_head("what", "bound", "measured (CPU)")
    speeds = f"{p['speed']:.1e}, {p['off']:.1e}"
    size = f"{LARGE:,} units, {p['synapses']:,} synapses"
    rows += [
        table_row((f"a fixed point of a contracting net, {size}", "30 s", shown(p['seconds']))),
        table_row(("length of v there; by a step of the network", "1e-8", speeds)),
        table_row(("peak memory of the process", "1.5 GB", f"{p['peak']:.2f} GB")),
        table_row(("10 leading eigenvalues of its Jacobian", "30 s", shown(p['spectrum']))),
    ]
    what = f"10 Lyapunov exponents of a chaotic net, {CHAOTIC:,} units, {e['steps']:,} steps"
    rows.append(table_row((what, "120 s", shown(e['seconds']))))
    found = f"{e['value']:.2f} ± {e['error']:.2f} per s"
    rows.append(table_row(("the largest of them", "above 0", found)))
    return "\n".join(rows)


def finders(rows: list[dict[str, Any]]) -> str:
    """The table of the two finders, and what it says."""
    head = ("finder", "seconds (CPU)", "iterations", "starts that arrived", "stable points of 8")
    lines = table_head(*head, "all points")
    for row in rows:
        cells = (shown(row["seconds"]), row.get("iterations", ""), row["arrived"], row.get("stable", ""))
        lines.append(table_row((row["name"], *cells, row["points"])))
    ours = rows[0]["seconds"][1]
    best = max(rows[2:], key=lambda row: (row["arrived"], -row["seconds"][1]))
    times = best["seconds"][1] / ours
    text = f"Adam at its best ({best['arrived']} arrivals) takes {times:.0f} times the CPU seconds."
    return "\n".join([*lines, "", text])


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--part", choices=("large", "search"), help="only this table")
    parser.add_argument("--flip-flop", help="the network docs/figures/training.py trains, saved")
    parser.add_argument("--write", type=Path, help="page to refresh")
    parser.add_argument("--one", choices=("point", "exponents", "search"), help=SUPPRESS)
    options = parser.parse_args()
    if options.one:
        warnings.simplefilter("ignore")
        measure = {"point": point, "exponents": exponents, "search": lambda: search(options.flip_flop)}
        print(json.dumps(measure[options.one](), default=float))
        return
    tables = []
    if options.part != "search":
        tables.append(bounds(run("point", None), run("exponents", None)))
    if options.part != "large":
        tables.append(finders(run("search", options.flip_flop)))
    text = "\n\n".join(tables)
    print(text)
    if options.write:
        replace_in_page(options.write, text)


if __name__ == "__main__":
    main()
