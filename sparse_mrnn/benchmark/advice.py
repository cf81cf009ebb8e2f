"""One sentence of advice, and the crossovers it rests on, from what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sparse_mrnn.benchmark.measure import CaseResult, EntryResult

EVEN = 1.1
"""Ratios below this are called equal."""


@dataclass(frozen=True)
class Comparison:
    """The fastest sparse and the fastest dense entry of a case; None where none was measured."""

    case: CaseResult
    sparse: EntryResult | None
    dense: EntryResult | None

    @classmethod
    def of(cls, case: CaseResult) -> Comparison:
        """By training time, or forward if nothing was trained; "sparse-mrnn" alone counts as sparse."""
        timed = sorted((e for e in case.entries if case.timing(e)), key=case.median)
        sparse, dense = (next((e for e in timed if e.kind == kind), None) for kind in ("sparse", "dense"))
        return cls(case, sparse or next((e for e in timed if e.entry == "sparse-mrnn"), None), dense)

    @property
    def speedup(self) -> float | None:
        """Time of the dense over that of the sparse entry."""
        if self.sparse is None or self.dense is None:
            return None
        return self.case.median(self.dense) / self.case.median(self.sparse)

    @property
    def memory_ratio(self) -> float | None:
        """Peak memory of the dense over that of the sparse entry."""
        if self.sparse is None or self.dense is None:
            return None
        sparse, dense = self.sparse.memory_mb, self.dense.memory_mb
        return dense / sparse if sparse and dense is not None else None


@dataclass(frozen=True)
class Crossover:
    """Where sparse and dense take the same time from ``low`` to ``high`` units or density.

    ``at`` is None if one of them is faster everywhere; ``sparse_first``: sparse is, at the low end.
    """

    at: float | None
    low: float
    high: float
    sparse_first: bool


def crossover(results: Sequence[CaseResult], group: str) -> Crossover | None:
    """The crossover over "units" or "density", interpolated on logarithmic axes; None if unknown.

    The network itself belongs to both ladders. Where the curves cross more than once, it is the crossing on
    whose one side sparse is always faster: full blocks are a dense product in both, so curves may meet again
    at the highest density.
    """
    found = []
    for case in results:
        speedup = Comparison.of(case).speedup
        if case.group in (group, "network") and speedup is not None:
            found.append((case.units if group == "units" else case.density, speedup))
    if len(found) < 2:
        return None
    found.sort()
    crossings = []
    for (x0, y0), (x1, y1) in pairwise(found):
        if (y0 - 1) * (y1 - 1) < 0:
            share = math.log(y0) / (math.log(y0) - math.log(y1))
            crossings.append(math.exp(math.log(x0) + share * (math.log(x1) - math.log(x0))))
    sparse_first = found[0][1] > 1
    at = None if not crossings else crossings[0] if sparse_first else crossings[-1]
    return Crossover(at, found[0][0], found[-1][0], sparse_first)


def advice(results: Sequence[CaseResult]) -> str:
    """One sentence: how sparse compares here, and from where on to use which."""
    if not results:
        return "Nothing was measured."
    here = next((r for r in results if r.group == "network"), None)
    largest = max(results, key=lambda r: (Comparison.of(r).speedup is not None, r.group == "units", r.units))
    case = here or largest
    where = "here" if here else f"at {case.units:,} units and {percent(case.density)} density"
    found = [(c, group) for group in ("units", "density") if (c := crossover(results, group)) is not None]
    crossings = [_crossing(c.at, c.sparse_first, group) for c, group in found if c.at is not None]
    clauses = [_verdict(Comparison.of(case), where)]
    if crossings:
        clauses.append(f"use dense {' or '.join(crossings)}")
    clauses += [_everywhere(c, group) for c, group in found if c.at is None]
    return "; ".join(clauses) + "."


def _verdict(best: Comparison, where: str) -> str:
    case, sparse, dense = best.case, best.sparse, best.dense
    doing = "training" if case.trained else "running forward"
    if sparse is None:
        return f"No sparse entry was measured {where}"
    if dense is None:
        took = f"{doing} takes {case.median(sparse):.3g} ms ({sparse.entry})"
        why = next((f" ({e.skipped})" for e in case.entries if e.kind == "dense" and e.skipped), "")
        return f"Use sparse {where}: {took}; dense was not measured{why}"
    ratio, memory = best.speedup or 1.0, best.memory_ratio
    names = f"({sparse.entry}, against {dense.entry}, {doing})"
    size = "" if memory is None else f" and {_times(memory, 'smaller', 'larger')}"
    if max(ratio, 1 / ratio) < EVEN:
        return f"Sparse is as fast as dense{size} {where} {names}"
    verb = "Use sparse" if ratio > 1 else "Use dense"
    return f"{verb} {where}: sparse is {_times(ratio, 'faster', 'slower')}{size} {names}"


def _times(ratio: float, more: str, less: str) -> str:
    ratio, word = (ratio, more) if ratio >= 1 else (1 / ratio, less)
    return f"{ratio:.2g}x {word}" if ratio < 10 else f"{ratio:,.0f}x {word}"


def _crossing(at: float, sparse_first: bool, group: str) -> str:
    rounded = float(f"{at:.2g}")  # no better known than that
    return f"{'above' if sparse_first else 'below'} {_amount(rounded, group)} {group}"


def _everywhere(found: Crossover, group: str) -> str:
    faster = "sparse" if found.sparse_first else "dense"
    ladder = "sizes" if group == "units" else "densities"
    low, high = (_amount(end, group) for end in (found.low, found.high))
    return f"{faster} is faster at all {ladder} measured ({low} to {high})"


def _amount(value: float, group: str) -> str:
    return f"{value:,.0f}" if group == "units" else percent(value)


def percent(share: float) -> str:
    """Two significant digits.

    Examples
    --------
    >>> percent(0.0513), percent(0.9998)
    ('5.1%', '100%')
    """
    return f"{float(f'{100 * share:.2g}'):g}%"
