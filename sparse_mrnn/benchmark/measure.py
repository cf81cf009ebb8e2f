"""Measure cases: check every entry, time all side by side, take their memory one by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import psutil

from sparse_mrnn.benchmark.cases import Case
from sparse_mrnn.benchmark.entries import Entry
from sparse_mrnn.benchmark.memory import peak_memory
from sparse_mrnn.benchmark.problem import Array, Problem, Reference, as_numpy, reference
from sparse_mrnn.benchmark.timing import Ratio, SideBySide, Timing, stopwatch
from sparse_mrnn.errors import BenchmarkError, SparseMRNNError

TOLERANCE = 1e-3
"""States and gradients may differ by this part of the largest."""
MORE_ROUNDS = 3
"""Rounds of two entries between two looks at the question if they tell which is faster."""


@dataclass
class EntryResult:
    """Figures of one entry; None for one that was not measured.

    Parameters
    ----------
    entry : str
        Its name.
    about : str
        Description in a sentence.
    kind : {"sparse", "dense"}
    build_s : float or None
        Time to build the network, s.
    forward, training : Timing or None
        Of one run forward, and of forward and backward, ms.
    memory_mb : float or None
        Peak memory, as of `peak_memory`, MB.
    skipped : str or None
        Reason why it, or a part of it, was left out.
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
        found = next((result for result in self.entries if result.entry == entry), None)
        if found is None:
            raise BenchmarkError(f"{self.label}: entry {entry!r} was not among those measured.")
        return found

    @property
    def trained(self) -> bool:
        """True if forward and backward was measured; if so, entries are compared by it."""
        return any(e.training for e in self.entries)

    def timing(self, entry: EntryResult) -> Timing | None:
        """Timing that an entry is compared by; None if that was not measured."""
        return entry.training if self.trained else entry.forward

    def median(self, entry: EntryResult) -> float:
        """Median of what a measured entry is compared by, ms."""
        timing = self.timing(entry)
        if timing is None:
            raise BenchmarkError(f"{self.label}: {entry.entry} was not timed.")
        return timing.median


@dataclass(frozen=True)
class Limits:
    """Largest seconds and bytes of one run; an entry that would take more is left out.

    A case is timed for ``patience`` seconds more while its rounds do not tell the fastest sparse and the
    fastest dense entry apart.
    """

    seconds: float = 10.0
    patience: float = 0.0
    bytes: float = field(default_factory=lambda: psutil.virtual_memory().total / 4)


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
        Called with a text about each part of the work.

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
    progress(f"{case.label}: synapses and reference")
    results = {e: EntryResult(e.name, e.about, e.kind) for e in entries}
    graph = case.make()
    n, synapses = graph.n_units, sum(p.expected_synapses for p in graph.projections("recurrent"))
    for e, result in results.items():
        needed = e.bytes_needed(case, n, synapses, training)
        too_large = f"would take about {needed / 1e9:.3g} GB of memory" if needed > limits.bytes else None
        result.skipped = e.missing(case.device) or too_large
    problem = Problem(case)
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
    order = random.Random(case.seed)
    for with_backward in (False, True) if training else (False,):
        what = "training" if with_backward else "forward"
        progress(f"{case.label}: timing {what}")
        patience = limits.patience if with_backward == training else 0.0
        able = [entry for entry in ready.values() if entry.trains or not with_backward]
        runs = {entry.name: partial(entry.run, with_backward) for entry in able}
        timed = SideBySide(runs, order, stopwatch(case.device))
        timed.run(repeats)
        kinds = {entry.name: entry.kind for entry in able}
        while patience > 0 and (names := undecided(kinds, timed.timings())):
            patience -= timed.run(MORE_ROUNDS, names)
        timings = timed.timings()
        for e in ready:
            setattr(results[e], what, timings.get(e.name))
    measured = [e for e in ready if memory and (e.trains or not training)]
    nnz = problem.synapses["recurrent"].pattern.nnz if "recurrent" in problem.synapses else 0
    del ready, problem, expected
    for e in measured:
        progress(f"{case.label}: memory of {e.name}")
        try:
            results[e].memory_mb = peak_memory(case, e.name, training) / 1e6
        except BenchmarkError as error:
            results[e].skipped = f"memory: {error}"
    run = (case.batch, case.steps, case.model, case.activation)
    return CaseResult(case.label, case.group, n, nnz, nnz / n**2, *run, list(results.values()))


def check(entry: Entry, expected: Reference, training: bool) -> None:
    """Run an entry once and compare.

    Raises
    ------
    BenchmarkError
        If states or gradients differ by more than rounding.
    """
    label = f"{entry.name} on {entry.problem.case.label}"
    _compare(f"{label}: h", as_numpy(entry.run(training)), expected.h)
    if training:
        found = entry.gradients()
        for kind, entries in expected.entries.items():
            gradient = as_numpy(found[kind])[entries]
            known = ~np.isnan(gradient)
            what = f"{label}: gradient of the {kind} weights"
            _compare(what, gradient[known], expected.gradient[kind][known])


def _compare(what: str, found: Array, expected: Array) -> None:
    if found.shape != expected.shape:
        raise BenchmarkError(f"{what} has shape {found.shape}, the reference {expected.shape}.")
    if not expected.size:
        return
    worst, scale = float(np.abs(found - expected).max()), float(np.abs(expected).max())
    if not np.isfinite(scale):
        what_to_do = "lower its weights (spectral_radius) or the steps"
        raise BenchmarkError(f"{what}: the network's activity is not finite in float64; {what_to_do}.")
    if not worst <= TOLERANCE * scale:  # also if something is not a number
        off = f"by {worst:.3g}, where the largest value is {scale:.3g}"
        raise BenchmarkError(f"{what} differs from the float64 reference {off}.")


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
    case = entry.problem.case
    clock = stopwatch(case.device)
    first = clock(partial(entry.run, training, 1), 1)
    if first * case.steps < 1 or case.steps <= 2:
        return first * case.steps
    one, two = (min(clock(partial(entry.run, training, n), 1) for _ in range(2)) for n in (1, 2))
    return one + max(0.0, two - one) * (case.steps - 1)
