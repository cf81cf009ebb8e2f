"""Measure cases: check every entry, time all side by side, take their memory one by one."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from sparse_mrnn.benchmark.cases import Case
from sparse_mrnn.benchmark.entries import Entry
from sparse_mrnn.benchmark.machine import physical_memory
from sparse_mrnn.benchmark.memory import peak_memory
from sparse_mrnn.benchmark.problem import Problem
from sparse_mrnn.benchmark.reference import check, reference
from sparse_mrnn.errors import BenchmarkError, SparseMRNNError

SAMPLE_S = 0.02
"""A sample repeats a run until it takes this long, so that the clock's resolution does not matter."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one run: median and quartiles over the repeats."""

    median: float
    q1: float
    q3: float

    @property
    def spread(self) -> float:
        """Distance of the quartiles, as a part of the median."""
        return (self.q3 - self.q1) / self.median

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """From the repeats."""
        ms = [1e3 * s for s in seconds]
        q1, _, q3 = statistics.quantiles(ms, n=4, method="inclusive") if len(ms) > 1 else ms * 3
        return cls(statistics.median(ms), q1, q3)


@dataclass
class EntryResult:
    """What was measured of one entry; None where it was not."""

    entry: str
    about: str
    kind: str
    build_s: float | None = None
    forward: Timing | None = None
    training: Timing | None = None
    memory_mb: float | None = None
    skipped: str | None = None


@dataclass
class CaseResult:
    """A case and its entries."""

    label: str
    group: str
    units: int
    synapses: int
    density: float
    batch: int
    steps: int
    model: str
    activation: str
    entries: list[EntryResult] = field(default_factory=list)

    def __getitem__(self, entry: str) -> EntryResult:
        for found in self.entries:
            if found.entry == entry:
                return found
        raise BenchmarkError(f"{self.label}: entry {entry!r} was not among those measured.")

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and names, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """An entry that would take longer for one run, or more memory, is left out.

    Parameters
    ----------
    seconds : float
    bytes : float
        Default: a quarter of the machine's memory.
    """

    seconds: float = 10.0
    bytes: float = field(default_factory=lambda: physical_memory() / 4)


def measure(
    case: Case,
    entries: Sequence[type[Entry]],
    *,
    training: bool = True,
    memory: bool = True,
    repeats: int = 7,
    limits: Limits | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> CaseResult:
    """Measure the entries on one case.

    Every entry's states and gradients are compared with a float64 reference first. Then all run in this process,
    in a new random order in each repeat. Memory is measured afterwards, an entry at a time in a new process.

    Parameters
    ----------
    case : Case
    entries : sequence of Entry classes
    training : bool
        Measure forward and backward too.
    memory : bool
        Measure peak memory (of training, if that is measured, and then only of entries that train).
    repeats : int
    limits : Limits, optional
    progress : callable
        Called with what is being done.

    Raises
    ------
    BenchmarkError
        If an entry disagrees with the reference.

    Examples
    --------
    >>> from functools import partial
    >>> from sparse_mrnn.benchmark import entries, two_regions
    >>> case = Case("small", partial(two_regions, 40, 0.2), batch=2, steps=3)
    >>> result = measure(case, [entries()["ours"]], memory=False, repeats=2)
    >>> result.units, result["ours"].training.median > 0
    (40, True)
    """
    if repeats < 1:
        raise BenchmarkError(f"repeats is {repeats}; it must be at least 1.")
    limits = Limits() if limits is None else limits
    graph = case.make()
    expected = sum(p.expected_synapses for p in graph.projections("recurrent"))
    results = {e: EntryResult(e.name, e.about, e.kind) for e in entries}
    for e, result in results.items():
        needed = e.bytes_needed(graph.n_units, expected, case.batch, case.steps, training and e.trains)
        result.skipped = e.missing(case.device)
        if result.skipped is None and needed > limits.bytes:
            result.skipped = f"would take about {needed / 1e9:.3g} GB of memory"
    progress(f"{case.label}: synapses and reference")
    problem = Problem.of(case)
    n, synapses = problem.units, problem.rec.col.numel()
    want = reference(problem, training)
    ready: dict[type[Entry], Entry] = {}
    for e, result in results.items():
        if result.skipped is not None:
            continue
        progress(f"{case.label}: checking {e.name}")
        try:
            made = e(problem)
        except SparseMRNNError as error:
            result.skipped = str(error)
            continue
        result.build_s = made.build_s
        seconds = _estimate(made, training and e.trains)
        if seconds > limits.seconds:
            result.skipped = f"one run would take about {seconds:.3g} s"
            continue
        check(made, want, training and e.trains)
        ready[e] = made
    order = random.Random(case.seed)
    for what in ("forward", "training") if training else ("forward",):
        progress(f"{case.label}: timing {what}")
        able = {e.name: made for e, made in ready.items() if what == "forward" or e.trains}
        runs: dict[str, Callable[[], object]] = {name: _runner(made, what == "training") for name, made in able.items()}
        for name, timing in side_by_side(runs, repeats, order, case.device).items():
            setattr(next(r for r in results.values() if r.entry == name), what, timing)
    names = [e for e in ready if memory and (e.trains or not training)]
    ready.clear()
    del problem, want
    for e in names:
        progress(f"{case.label}: memory of {e.name}")
        try:
            results[e].memory_mb = peak_memory(case, e.name, training) / 1e6
        except BenchmarkError as error:
            results[e].skipped = f"memory: {error}"
    facts = (case.label, case.group, n, synapses, synapses / n**2, case.batch, case.steps, case.model, case.activation)
    return CaseResult(*facts, list(results.values()))


def side_by_side(
    runs: dict[str, Callable[[], object]], repeats: int, order: random.Random, device: str = "cpu"
) -> dict[str, Timing]:
    """Time functions alternately in this process, in a new random order in every repeat, after one run of each."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    counts = {name: max(1, math.ceil(SAMPLE_S / max(_seconds(run, device), 1e-9))) for name, run in runs.items()}
    collects = gc.isenabled()
    gc.disable()
    try:
        for _ in range(repeats):
            for name in order.sample(list(runs), len(runs)):
                samples[name].append(_seconds(runs[name], device, counts[name]))
    finally:
        if collects:
            gc.enable()
    return {name: Timing.of(seconds) for name, seconds in samples.items()}


def _runner(entry: Entry, training: bool) -> Callable[[], object]:
    return lambda: entry.run(training)


def _seconds(run: Callable[[], object], device: str, count: int = 1) -> float:
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(count):
        run()
    if cuda:
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / count


def _estimate(entry: Entry, training: bool) -> float:
    """Seconds of a whole run, from the fastest of two runs of one and of two steps (after a first one, which may compile)."""
    case = entry.given.case

    def fastest(steps: int) -> float:
        return min(_seconds(lambda: entry.run(training, steps), case.device) for _ in range(2))

    first = _seconds(lambda: entry.run(training, 1), case.device)
    if first * case.steps < 1 or case.steps <= 2:
        return first * case.steps
    one, two = fastest(1), fastest(2)
    return one + max(0.0, two - one) * (case.steps - 1)
