"""Training and simulation against dense and naive sparse loops: what was measured, and what it is held to.

    python benchmarks/training.py [--device cuda]

Every entry's states and gradients are compared with a float64 reference before anything is timed; the entries
of a case run in one process, in a new random order in every repeat. Figures are medians.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from common import arguments, own_peak, progress, table_head, table_row
from library import side_by_side

import sparse_mrnn as sm
from sparse_mrnn import benchmark as b
from sparse_mrnn.benchmark.memory import in_fresh_process
from sparse_mrnn.simulation.simulator import Simulator

REPEATS, STEPS = 7, 100
"""Repeats of everything, and time steps of an inference run."""
LIMITS = b.Limits(seconds=30)
Make = Callable[[], sm.RegionGraph]


@dataclass(frozen=True)
class Bound:
    """One line of the table: what was measured, and what it should reach (None: only to compare with)."""

    case: str
    what: str
    value: float | None
    target: float | None
    unit: str = "x"
    least: bool = True

    @property
    def met(self) -> bool:
        """Whether it was measured and is good enough."""
        if self.value is None or self.target is None:
            return False
        return self.value >= self.target if self.least else self.value <= self.target

    @property
    def missed(self) -> bool:
        """Whether it was measured and is not good enough."""
        return self.value is not None and self.target is not None and not self.met

    def row(self) -> str:
        """As a row of a Markdown table."""
        sign = "at least" if self.least else "at most"
        got = "not measured" if self.value is None else f"{self.value:.3g}{self.unit}"
        verdict = "OK" if self.met else "missed" if self.missed else ""
        bound = "" if self.target is None else f"{sign} {self.target:g}{self.unit}"
        return table_row([self.case, self.what, got, bound, verdict])


def blocks(sizes: tuple[int, ...], share: float, seed: int = 0) -> sm.RegionGraph:
    """Regions of these sizes, every fifth inhibitory, with this share of their pairs connected all to all."""
    g = sm.RegionGraph()
    for k, n in enumerate(sizes):
        g.add_region(f"r{k}", n, sign="neg" if k % 5 == 4 else "pos", base_firing=0.1)
    pairs = len(sizes) ** 2
    for pair in np.random.default_rng(seed).choice(pairs, round(share * pairs), replace=False):
        g.add_projection(f"r{pair // len(sizes)}", f"r{pair % len(sizes)}")
    return g


EIGHT = (40, 45) * 4
FORTY = (200,) * 40


class Run:
    """Measures the cases, keeps what every case gave, and collects the bounds."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.results: list[b.CaseResult] = []
        self.bounds: list[Bound] = []

    def measure(self, label: str, make: Make, names: str, memory: bool = False, **run: int) -> b.CaseResult:
        """Measure entries on a network; ``run`` are fields of `Case`."""
        case = b.Case(label, make, device=self.device, **run)  # type: ignore[arg-type]
        how = dict(memory=memory, repeats=REPEATS, limits=LIMITS, progress=progress)
        result = b.measure(case, b.select_entries(names.split()), **how)  # type: ignore[arg-type]
        self.results.append(result)
        return result

    def ratio(
        self, result: b.CaseResult, what: str, over: str, target: float | None, how: str = "training"
    ) -> None:
        """A bound on the time, or the memory, of one entry over another's, as "loop-dense / sparse-mrnn"."""
        slow, fast = (_value(result, name, how) for name in over.split(" / "))
        self.add(result.label, what, None if slow is None or not fast else slow / fast, target)

    def add(self, *bound: object, **more: object) -> None:
        """Add a bound, and say it."""
        self.bounds.append(Bound(*bound, **more))  # type: ignore[arg-type]
        progress(self.bounds[-1].row())


def _value(result: b.CaseResult, name: str, how: str) -> float | None:
    found = getattr(result[name], how)
    return found.median if isinstance(found, b.Timing) else found


DENSE_LOOP, MRNNTORCH = "loop-dense / sparse-mrnn", "mrnntorch / sparse-mrnn"
CSR_LOOP = "loop-csr / sparse-mrnn"
FASTER_THAN_CSR = "faster than a torch.sparse CSR product a step"


def large(run: Run) -> None:
    """Thin networks of thousands of units."""
    make: Make = partial(b.two_regions, 10_000, None, 100)
    r = run.measure("10,000 units, 100 synapses each, T = 20", make, "sparse-mrnn loop-csr", memory=True)
    run.ratio(r, FASTER_THAN_CSR, CSR_LOOP, 12)
    names = "sparse-mrnn backend-dense loop-dense mrnntorch loop-csr"
    r = run.measure("5,000 units at 2%, T = 20", partial(b.two_regions, 5_000, 0.02), names, memory=True)
    run.ratio(r, "faster than the dense loop", DENSE_LOOP, 15)
    run.ratio(r, "faster than the loop as mRNNTorch 0.1 has it", MRNNTORCH, 15)
    run.ratio(r, "less memory than the dense loop", DENSE_LOOP, 8, "memory_mb")
    make = partial(b.two_regions, 2_000, 0.05)
    r = run.measure("2,000 units at 5%, T = 50", make, names, memory=True, steps=50)
    run.ratio(r, "faster than the dense loop", DENSE_LOOP, 5)
    run.ratio(r, "faster than the loop as mRNNTorch 0.1 has it", MRNNTORCH, 5)
    run.ratio(r, FASTER_THAN_CSR, CSR_LOOP, 5)


def small(run: Run) -> None:
    """Small networks, where dense is at its best."""
    names = "sparse-mrnn backend-csr backend-dense backend-hybrid loop-dense mrnntorch"
    label = "340 units in 8 regions, half of the pairs full, T = 100"
    r = run.measure(label, partial(blocks, EIGHT, 0.5), names, steps=100)
    run.ratio(r, "faster than the loop as mRNNTorch 0.1 has it", MRNNTORCH, 2)
    run.ratio(r, "faster than the dense loop", DENSE_LOOP, None)
    for density in (0.1, 0.5, 1.0):
        make = partial(b.two_regions, 50, density)
        r = run.measure(f"50 units at {density:.0%}, T = 100", make, names, steps=100)
        run.ratio(r, "as fast as the dense loop", DENSE_LOOP, 1)
        run.ratio(r, "as fast as the loop as mRNNTorch 0.1 has it", MRNNTORCH, 1)


def full_blocks(run: Run) -> None:
    """A large network of few, full blocks."""
    csr, loop = "backend-csr / backend-hybrid", "loop-csr / backend-hybrid"
    for batch, target in ((32, 2), (1, 3)):
        label = f"8,000 units, 10% of 40 x 40 blocks full, batch {batch}"
        make = partial(blocks, FORTY, 0.1)
        nets = {name: b.Case(label, make, device=run.device).network(name) for name in ("csr", "hybrid")}
        step = _per_step(nets, batch, run.device)
        run.add(label, "hybrid faster than csr, a time step", step["csr"] / step["hybrid"], target)
        names = "sparse-mrnn backend-csr backend-hybrid" + (" loop-csr" if batch == 1 else "")
        r = run.measure(f"{label}, T = 20", make, names, batch=batch)
        for how in ("forward", "training"):
            run.ratio(r, f"hybrid faster than csr, {how}", csr, target, how)
        for how in ("forward", "training") if batch == 1 else ():
            run.ratio(r, f"hybrid {FASTER_THAN_CSR}, {how}", loop, 3, how)


@torch.no_grad()
def _per_step(nets: dict[str, sm.mRNNBase], batch: int, device: str) -> dict[str, float]:
    """Milliseconds of one more time step of inference: the difference of a long and a short run."""
    short, long = 20, 60
    runs: dict[str, Callable[[], object]] = {}
    for name, net in nets.items():
        x0 = torch.rand(batch, net.graph.n_units, generator=torch.Generator().manual_seed(0)).to(net.device)
        for steps in (short, long):
            inp = torch.zeros(batch, steps, 0, device=net.device)
            runs[f"{name} {steps}"] = partial(_forward, net, inp, x0)
    timed = side_by_side(runs, REPEATS, random.Random(0), device)
    ms = {name: timing.median for name, timing in timed.items()}
    return {name: (ms[f"{name} {long}"] - ms[f"{name} {short}"]) / (long - short) for name in nets}


def _forward(net: sm.mRNN, inp: torch.Tensor, x0: torch.Tensor) -> object:
    with torch.no_grad():
        return net(inp, x0)


def inference(run: Run) -> None:
    """A time step of a simulation without recording, of ``forward``, which keeps all, and the product."""
    for units, batch in ((10_000, 32), (50_000, 1)):
        net = b.Case("", partial(b.two_regions, units, None, 100), device=run.device).network("csr")
        matrix = net.effective_W_rec.detach()
        x0 = torch.rand(batch, units, generator=torch.Generator().manual_seed(0)).to(run.device)
        h = x0.t().contiguous()
        simulator = Simulator(net, batch, None, event_driven=False)
        simulator.set_factors({"recurrent": {}, "input": {}})
        runs: dict[str, Callable[[], object]] = {
            "step": partial(_steps, simulator),
            "forward": partial(_forward, net, torch.zeros(batch, STEPS, 0, device=run.device), x0),
            "product": partial(_products, matrix, h, torch.empty_like(h)),
        }
        if batch == 1:
            runs["vector"] = partial(_products, matrix, h[:, 0].contiguous(), None)
        timed = side_by_side(runs, REPEATS, random.Random(0), run.device)
        bare = min(t.median for name, t in timed.items() if name in ("product", "vector"))
        label = f"{units:,} units, 100 synapses each, batch {batch}, inference"
        what = "time of a step of a simulation over that of its bare sparse product"
        run.add(label, what, timed["step"].median / bare, 1.25, least=False)
        what = "the same, of a step of forward, which keeps x and h of every step"
        run.add(label, what, timed["forward"].median / bare, None)


def _steps(simulator: Simulator) -> None:
    for _ in range(STEPS):
        simulator.stepper.step(inputs=False)


def _products(matrix: torch.Tensor, h: torch.Tensor, out: torch.Tensor | None) -> None:
    for _ in range(STEPS):
        _ = matrix @ h if out is None else torch.addmm(out, matrix, h, beta=0, out=out)


def one_step(run: Run) -> None:
    """One step a call: of a small network against `nn.RNNCell`, of a large one against its bare product."""
    small = b.Case("", partial(b.two_regions, 40, 0.5), device=run.device).network("auto")
    cell = torch.nn.RNNCell(1, 40, device=run.device)
    state, u = small.initial_state(1), torch.zeros(1, 0, device=run.device)
    given = torch.zeros(1, 1, device=run.device), torch.zeros(1, 40, device=run.device)
    cases: tuple[tuple[str, Callable[[], object]], ...] = (
        ("net.step", partial(small.step, u, state)),
        ("nn.RNNCell", partial(cell, *given)),
    )
    for enabled, how in ((True, "with gradients"), (False, "without gradients")):
        runs = {name: partial(_calls, call, enabled, 50 * STEPS) for name, call in cases}
        timed = side_by_side(runs, REPEATS, random.Random(0), run.device)
        for name, bound in (("net.step", 0.1), ("nn.RNNCell", None)):
            ms = timed[name].median / (50 * STEPS)
            run.add("40 units, one step a call", f"{name}, {how}", ms, bound, unit=" ms", least=False)
    for batch in (1, 32):
        net = b.Case("", partial(b.two_regions, 10_000, None, 100), device=run.device).network("csr")
        matrix, u = net.effective_W_rec.detach(), torch.zeros(batch, 0, device=run.device)
        start = net.initial_state(batch)
        h = torch.rand(10_000, batch, device=run.device)
        large: dict[str, Callable[[], object]] = {
            "no gradients": partial(_calls, partial(net.step, u, start), False, STEPS),
            "gradients": partial(_calls, partial(net.step, u, start), True, STEPS),
            "product": partial(_products, matrix, h, torch.empty_like(h)),
        }
        if batch == 1:
            large["product"] = partial(_products, matrix, h[:, 0].contiguous(), None)
        timed = side_by_side(large, REPEATS, random.Random(0), run.device)
        label = f"10,000 units, 100 synapses each, batch {batch}, one step a call"
        for name in ("no gradients", "gradients"):
            ratio = timed[name].median / timed["product"].median
            run.add(label, f"time over that of the bare product, {name}", ratio, 1.3, least=False)


def _calls(call: Callable[[], object], gradients: bool, times: int) -> None:
    with torch.set_grad_enabled(gradients):
        for _ in range(times):
            call()


def big(run: Run) -> None:
    """5 million synapses, trained."""
    gigabytes, losses = in_fresh_process(train_big, run.device)
    label = "50,000 units, 5 million synapses, T = 50, batch 16"
    what = f"peak memory of the process, 3 steps of Adam, loss {losses[0]:.3g} to {losses[-1]:.3g}"
    if losses[-1] >= losses[0]:
        raise RuntimeError(f"{label}: training did not lower the loss: {losses}")
    run.add(label, what, gigabytes, 6, unit=" GB", least=False)


def train_big(device: str) -> tuple[float, list[float]]:
    """Train a large network in this process; peak memory in GB (on CUDA: allocated there), and the losses."""
    net = b.Case("", partial(b.two_regions, 50_000, None, 100), device=device).network("auto")
    x0 = torch.rand(16, 50_000, generator=torch.Generator().manual_seed(0)).to(device)
    adam, losses = torch.optim.Adam(net.parameters(), lr=1e-3), []
    for _ in range(3):
        adam.zero_grad()
        loss = net(torch.zeros(16, 50, 0, device=device), x0)[1].square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        losses.append(loss.item())
    peak = torch.cuda.max_memory_allocated() if torch.device(device).type == "cuda" else own_peak()
    return peak / 1e9, losses


def table(device: str = "cpu") -> tuple[str, list[Bound]]:
    """Measure; Markdown of the bounds and of every entry, and the bounds."""
    run = Run(device)
    for part in (large, small, full_blocks, inference, one_step, big):
        part(run)
    head = table_head("network", "measured", "value", "bound", "")
    text = "\n".join([*head, *(bound.row() for bound in run.bounds)])
    return text + "\n\n" + details(run.results), run.bounds


def details(results: list[b.CaseResult]) -> str:
    """Every entry of every case."""
    times = ("forward (ms)", "forward and backward (ms)", "quartiles", "peak memory (MB)")
    rows = table_head("network", "entry", *times)
    for r in results:
        for e in r.entries:
            cells = [e.skipped or "", "", "", ""]
            if e.forward and e.training:
                memory = "" if e.memory_mb is None else f"{e.memory_mb:,.0f}"
                quartiles = f"{e.training.q1:.4g} to {e.training.q3:.4g}"
                cells = [f"{e.forward.median:.4g}", f"{e.training.median:.4g}", quartiles, memory]
            rows.append(table_row([r.label, e.entry, *cells]))
    return "\n".join(rows)


def main() -> None:
    """Print the tables; exit status 1 if a bound is missed."""
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cpu")
    text, bounds = table(parser.parse_args().device)
    print(text)
    missed = [bound for bound in bounds if bound.missed]
    if missed:
        sys.exit("\n".join(["missed:", *(bound.row() for bound in missed)]))


if __name__ == "__main__":
    main()
