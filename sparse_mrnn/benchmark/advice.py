"""One sentence of advice, and the crossovers it rests on, from what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sparse_mrnn.benchmark.measure import CaseResult, EntryResult, fastest
from sparse_mrnn.benchmark.timing import EVEN, Ratio


@dataclass(frozen=True)
class Comparison:
    """The fastest sparse and the fastest dense entry of a case; None where none was measured.

    By the time of training, or of forward if nothing was trained.
    """

    case: CaseResult
    sparse: EntryResult | None
    dense: EntryResult | None

    @classmethod
    def of(cls, case: CaseResult) -> Comparison:
        """Pick the two."""
        timings = {e.entry: t for e in case.entries if (t := case.timing(e)) is not None}
        names = fastest({e.entry: e.kind for e in case.entries}, timings)
        sparse, dense = (None if name is None else case[name] for name in names)
        return cls(case, sparse, dense)

    @property
    def ratio(self) -> Ratio | None:
        """Time of the dense over that of the sparse entry, round by round."""
        sparse, dense = (None if e is None else self.case.timing(e) for e in (self.sparse, self.dense))
        return None if sparse is None or dense is None else Ratio.of(dense, sparse)

    @property
    def memory_ratio(self) -> float | None:
        """Peak memory of the dense over that of the sparse entry."""
        if self.sparse is None or self.dense is None:
            return None
        sparse, dense = self.sparse.memory_mb, self.dense.memory_mb
        return dense / sparse if sparse and dense is not None else None


@dataclass(frozen=True)
class Crossover:
    """Where sparse and dense take the same time, by cases of several units or densities.

    Parameters
    ----------
    at : float or None
        Units or density; None if unknown, or if one of them is faster everywhere.
    between : (float, float) or None
        What it lies between, where the cases there do not tell.
    low, high : float
        The range in which the cases do tell.
    sparse_first : bool
        Whether sparse is faster at the low end.
    unclear : tuple of float
        Units or densities of the cases that do not tell.
    """

    at: float | None
    between: tuple[float, float] | None
    low: float
    high: float
    sparse_first: bool
    unclear: tuple[float, ...]


def crossover(results: Sequence[CaseResult], group: str) -> Crossover | None:
    """The crossover over "units" or "density", interpolated on logarithmic axes; None if no two cases tell.

    The network itself belongs to both ladders. Where the curves cross more than once, it is the crossing on
    whose one side sparse is always faster: full blocks are a dense product in both, so curves may meet again
    at the highest density.
    """
    found: list[tuple[float, Ratio]] = []
    for case in results:
        ratio = Comparison.of(case).ratio
        if case.group in (group, "network") and ratio is not None:
            found.append((case.units if group == "units" else case.density, ratio))
    found.sort(key=lambda pair: pair[0])
    unclear = tuple(x for x, ratio in found if ratio.verdict == "unclear")
    clear = [(x, ratio.median) for x, ratio in found if ratio.verdict != "unclear"]
    if len(clear) < 2:
        return None
    crossings = [pair for pair in pairwise(clear) if (pair[0][1] - 1) * (pair[1][1] - 1) < 0]
    sparse_first = clear[0][1] > 1
    at, between = None, None
    if crossings:
        (x0, y0), (x1, y1) = crossings[0] if sparse_first else crossings[-1]
        share = math.log(y0) / (math.log(y0) - math.log(y1))
        at = math.exp(math.log(x0) + share * (math.log(x1) - math.log(x0)))
        if any(x0 < x < x1 for x in unclear):
            at, between = None, (x0, x1)
    return Crossover(at, between, clear[0][0], clear[-1][0], sparse_first, unclear)


def advice(results: Sequence[CaseResult]) -> str:
    """One sentence: how sparse compares here, and where to use which; or that the timings do not tell."""
    if not results:
        return "Nothing was measured."
    here = next((r for r in results if r.group == "network"), None)
    largest = max(results, key=lambda r: (Comparison.of(r).ratio is not None, r.group == "units", r.units))
    case = here or largest
    where = "here" if here else f"at {case.units:,} units and {percent(case.density)} density"
    found = [(c, group) for group in ("units", "density") if (c := crossover(results, group)) is not None]
    crossings = [_crossing(c, group) for c, group in found if c.at is not None or c.between is not None]
    clauses = [_verdict(Comparison.of(case), where)]
    if crossings:
        clauses.append(f"use dense {' or '.join(crossings)}")
    clauses += [_everywhere(c, group) for c, group in found if c.at is None and c.between is None]
    return "; ".join(clauses) + "."


def _verdict(best: Comparison, where: str) -> str:
    case, sparse, dense, ratio = best.case, best.sparse, best.dense, best.ratio
    doing = "training" if case.trained else "running forward"
    if sparse is None:
        return f"No sparse entry was measured {where}"
    if dense is None or ratio is None:
        took = f"{doing} takes {case.median(sparse):.3g} ms ({sparse.entry})"
        why = next((f" ({e.skipped})" for e in case.entries if e.kind == "dense" and e.skipped), "")
        return f"Use sparse {where}: {took}; dense was not measured{why}"
    names, memory = f"({sparse.entry}, against {dense.entry}, {doing})", best.memory_ratio
    size = "" if memory is None else f" and {_times(memory, 'smaller', 'larger')}"
    if ratio.verdict == "unclear":
        took = f"dense takes {ratio.low:.2g} to {ratio.high:.2g} times as long as sparse"
        took += f" in {ratio.rounds} rounds, which are too few to be sure" if ratio.few else ""
        smaller = "" if memory is None else f", and sparse is {_times(memory, 'smaller', 'larger')}"
        return f"The timings do not tell whether to use sparse or dense {where}: {took}{smaller} {names}"
    if ratio.verdict == "even" or max(ratio.median, 1 / ratio.median) < EVEN:
        return f"Sparse is as fast as dense{size} {where} {names}"
    verb = "Use sparse" if ratio.median > 1 else "Use dense"
    return f"{verb} {where}: sparse is {_times(ratio.median, 'faster', 'slower')}{size} {names}"


def _times(ratio: float, more: str, less: str) -> str:
    ratio, word = (ratio, more) if ratio >= 1 else (1 / ratio, less)
    return f"{ratio:.2g}x {word}" if ratio < 10 else f"{ratio:,.0f}x {word}"


def _crossing(found: Crossover, group: str) -> str:
    if found.between is not None:
        low, high = (_amount(end, group) for end in found.between)
        return f"{'above' if found.sparse_first else 'below'} a point between {low} and {high} {group}"
    rounded = float(f"{found.at:.2g}")  # no better known than that
    return f"{'above' if found.sparse_first else 'below'} {_amount(rounded, group)} {group}"


def _everywhere(found: Crossover, group: str) -> str:
    faster = "sparse" if found.sparse_first else "dense"
    low, high = (_amount(end, group) for end in (found.low, found.high))
    ladder = "sizes" if group == "units" else "densities"
    unclear = [_amount(x, group) for x in found.unclear]
    but = f", but for {' and '.join(unclear)}, where the timings do not tell" if unclear else ""
    return f"{faster} is faster at all {ladder} measured ({low} to {high}){but}"


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
