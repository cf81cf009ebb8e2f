"""Measure cases: check every entry, time all side by side, take their memory one by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sparse_mrnn.benchmark.cases import Case
from sparse_mrnn.benchmark.entries import Entry, RunSize
from sparse_mrnn.benchmark.machine import physical_memory
from sparse_mrnn.benchmark.memory import peak_memory
from sparse_mrnn.benchmark.problem import Problem
from sparse_mrnn.benchmark.reference import check, reference
from sparse_mrnn.benchmark.timing import Ratio, SideBySide, Timing, stopwatch
from sparse_mrnn.errors import BenchmarkError, SparseMRNNError

MORE_ROUNDS = 3
"""Of two entries, between two looks at whether the rounds tell which is faster."""


@dataclass
class EntryResult:
    """What was measured of one entry; None where it was not.

    Parameters
    ----------
    entry : str
        Its name.
    about : str
        What it is, in a sentence.
    kind : {"sparse", "dense"}
    build_s : float or None
        Time to build the network, s.
    forward, training : Timing or None
        Of one run forward, and of forward and backward, ms.
    memory_mb : float or None
        Peak memory, as of `peak_memory`, MB.
    skipped : str or None
        Why it, or a part of it, was left out.
    """

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
    """A case and its entries, which ``result["backend-csr"]`` gives by name.

    Parameters
    ----------
    label, group, batch, steps, model, activation
        As in `Case`.
    units, synapses : int
    density : float
        Synapses over pairs of units.
    entries : list of EntryResult
    """

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
        for result in self.entries:
            if result.entry == entry:
                return result
        raise BenchmarkError(f"{self.label}: entry {entry!r} was not among those measured.")

    @property
    def trained(self) -> bool:
        """Whether forward and backward was measured; if so, entries are compared by it."""
        return any(e.training for e in self.entries)

    def timing(self, entry: EntryResult) -> Timing | None:
        """What an entry is compared by; None if that was not measured."""
        return entry.training if self.trained else entry.forward

    def median(self, entry: EntryResult) -> float:
        """Median of what a measured entry is compared by, ms."""
        timing = self.timing(entry)
        if timing is None:
            raise BenchmarkError(f"{self.label}: {entry.entry} was not timed.")
        return timing.median


@dataclass(frozen=True)
class Limits:
    """An entry of which one run would take more seconds or bytes is left out.

    A case is timed for ``patience`` seconds more while its rounds do not tell the fastest sparse and the
    fastest dense entry apart.
    """

    seconds: float = 10.0
    patience: float = 0.0
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

    First the states and gradients of each entry are compared with a float64 reference. Then all run in this
    process, in a new random order in each repeat. Memory is measured last, each in a new process.

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
    >>> result = measure(case, [entries()["sparse-mrnn"]], memory=False, repeats=2)
    >>> result.units, result["sparse-mrnn"].training.median > 0
    (40, True)
    """
    if repeats < 1:
        raise BenchmarkError(f"repeats is {repeats}; it must be at least 1.")
    limits = limits or Limits()
    results = _without_those_too_large(case, entries, training=training, limit=limits.bytes)
    progress(f"{case.label}: synapses and reference")
    problem = Problem.of(case)
    n, synapses = problem.units, problem.rec.pattern.nnz
    expected = reference(problem, training)
    ready: dict[type[Entry], Entry] = {}
    for e, result in results.items():
        if result.skipped is not None:
            continue
        progress(f"{case.label}: checking {e.name}")
        try:
            entry = e(problem)
        except SparseMRNNError as error:
            result.skipped = str(error)
            continue
        result.build_s = entry.build_s
        seconds = _estimate(entry, training and e.trains)
        if seconds > limits.seconds:
            result.skipped = f"one run would take about {seconds:.3g} s"
            continue
        check(entry, expected, training and e.trains)
        ready[e] = entry
    how: dict[str, Any] = dict(repeats=repeats, order=random.Random(case.seed))
    for training_run in (False, True) if training else (False,):
        what = "training" if training_run else "forward"
        progress(f"{case.label}: timing {what}")
        patience = limits.patience if training_run == training else 0.0
        timings = _time_entries(case, ready, training_run, patience=patience, **how)
        for e in ready:
            setattr(results[e], what, timings.get(e.name))
    measured = [e for e in ready if memory and (e.trains or not training)]
    del ready, problem, expected
    for e in measured:
        progress(f"{case.label}: memory of {e.name}")
        try:
            results[e].memory_mb = peak_memory(case, e.name, training) / 1e6
        except BenchmarkError as error:
            results[e].skipped = f"memory: {error}"
    run = (case.batch, case.steps, case.model, case.activation)
    return CaseResult(case.label, case.group, n, synapses, synapses / n**2, *run, list(results.values()))


def _without_those_too_large(
    case: Case, entries: Sequence[type[Entry]], *, training: bool, limit: float
) -> dict[type[Entry], EntryResult]:
    """A result for every entry; it says so where one cannot run here, or needs more bytes than the limit."""
    graph = case.make()
    synapses = sum(p.expected_synapses for p in graph.projections("recurrent"))
    results = {e: EntryResult(e.name, e.about, e.kind) for e in entries}
    for e, result in results.items():
        size = RunSize(graph.n_units, synapses, case.batch, case.steps, training and e.trains)
        result.skipped = e.missing(case.device)
        if result.skipped is None and (needed := e.bytes_needed(size)) > limit:
            result.skipped = f"would take about {needed / 1e9:.3g} GB of memory"
    return results


def _time_entries(
    case: Case, ready: Mapping[type[Entry], Entry], training: bool,
    *, repeats: int, order: random.Random, patience: float,
) -> dict[str, Timing]:
    """Time the entries, then the fastest sparse and dense one until they differ or patience ends."""
    runs = {e.name: partial(entry.run, training) for e, entry in ready.items() if e.trains or not training}
    timed = SideBySide(runs, order, stopwatch(case.device))
    timed.run(repeats)
    kinds = {e.name: e.kind for e in ready if e.name in runs}
    while patience > 0 and (names := undecided(kinds, timed.timings())):
        patience -= timed.run(MORE_ROUNDS, names)
    return timed.timings()


def fastest(kinds: Mapping[str, str], timings: Mapping[str, Timing]) -> tuple[str | None, str | None]:
    """Names of the fastest sparse and the fastest dense entry; "sparse-mrnn" counts as sparse if alone."""
    by_time = sorted(timings, key=lambda name: timings[name].median)
    sparse, dense = (next((n for n in by_time if kinds[n] == kind), None) for kind in ("sparse", "dense"))
    return sparse or ("sparse-mrnn" if "sparse-mrnn" in timings else None), dense


def undecided(kinds: Mapping[str, str], timings: Mapping[str, Timing]) -> tuple[str, ...]:
    """The fastest sparse and the fastest dense entry, if the rounds so far do not tell which is faster."""
    sparse, dense = fastest(kinds, timings)
    if sparse is None or dense is None or Ratio.of(timings[dense], timings[sparse]).verdict != "unclear":
        return ()
    return sparse, dense


def _estimate(entry: Entry, training: bool) -> float:
    """Seconds of a whole run, from the fastest of two runs of one and of two steps.

    A run before them may compile.
    """
    case, clock = entry.inputs.case, stopwatch(entry.inputs.case.device)

    def fastest_of_two(steps: int) -> float:
        return min(clock(partial(entry.run, training, steps), 1) for _ in range(2))

    first = clock(partial(entry.run, training, 1), 1)
    if first * case.steps < 1 or case.steps <= 2:
        return first * case.steps
    one, two = fastest_of_two(1), fastest_of_two(2)
    return one + max(0.0, two - one) * (case.steps - 1)
