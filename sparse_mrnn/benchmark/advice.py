"""One sentence of advice, and the crossovers it rests on, from what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sparse_mrnn.benchmark.measure import CaseResult, EntryResult, Timing

EVEN = 1.1
"""Ratios below this are called equal."""


@dataclass(frozen=True)
class Point:
    """The best sparse against the best dense entry on one case; None where one of them was not measured."""

    case: CaseResult
    sparse: EntryResult | None
    dense: EntryResult | None

    @property
    def speedup(self) -> float | None:
        """Time of the dense over that of the sparse one, in training where measured."""
        return None if self.sparse is None or self.dense is None else timing(self.dense).median / timing(self.sparse).median

    @property
    def smaller(self) -> float | None:
        """Memory of the dense over that of the sparse one."""
        if self.sparse is None or self.dense is None or not self.sparse.memory_mb or self.dense.memory_mb is None:
            return None
        return self.dense.memory_mb / self.sparse.memory_mb


def timing(result: EntryResult) -> Timing:
    """Forward and backward where measured, else forward."""
    found = result.training or result.forward
    if found is None:
        raise ValueError(f"{result.entry} was not timed")
    return found


def point(case: CaseResult) -> Point:
    """The fastest entry of each kind that trained (or, if none was asked to, that ran forward)."""
    trained = any(e.training for e in case.entries)
    timed = [e for e in case.entries if (e.training if trained else e.forward)]
    best = {kind: min((e for e in timed if e.kind == kind), key=lambda e: timing(e).median, default=None) for kind in ("sparse", "dense")}
    if best["sparse"] is None:
        best["sparse"] = next((e for e in timed if e.entry == "ours"), None)
    return Point(case, best["sparse"], best["dense"])


@dataclass(frozen=True)
class Crossover:
    """Where sparse and dense take the same time along a ladder.

    Parameters
    ----------
    at : float or None
        Units or density; None if one of them is faster everywhere.
    low, high : float
        The range measured.
    sparse_first : bool
        Whether sparse is faster at the low end.
    """

    at: float | None
    low: float
    high: float
    sparse_first: bool


def crossover(results: Sequence[CaseResult], group: str) -> Crossover | None:
    """The crossover over "units" or "density", interpolated between neighbours on logarithmic axes; None if unknown.

    The network itself belongs to both ladders. Where the curves cross more than once, the crossing on whose one side
    sparse is always faster (full blocks are a dense product in both, so curves may meet again at the highest density).
    """
    points = [point(r) for r in results if r.group in (group, "network")]
    found = sorted(
        (r.case.units if group == "units" else r.case.density, r.speedup) for r in points if r.speedup is not None
    )
    if len(found) < 2:
        return None
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
    case = here or max(results, key=lambda r: (point(r).speedup is not None, r.group == "units", r.units))
    words = _here(point(case), "here" if here else f"at {case.units:,} units and {percent(case.density)} density")
    units, density = crossover(results, "units"), crossover(results, "density")
    found = [(c, group) for c, group in ((units, "units"), (density, "density")) if c is not None]
    where = [_side(c.at, c.sparse_first, group) for c, group in found if c.at is not None]
    rest = [f"use dense {' or '.join(where)}"] if where else []
    rest += [_everywhere(c, group) for c, group in found if c.at is None]
    return "; ".join([words, *rest]) + "."


def _here(best: Point, where: str) -> str:
    doing = "training" if best.sparse and best.sparse.training else "running forward"
    if best.sparse is None:
        return f"No sparse entry was measured {where}"
    if best.dense is None:
        why = next((e.skipped for e in best.case.entries if e.kind == "dense" and e.skipped), None)
        took = f"{timing(best.sparse).median:.3g} ms"
        return f"Use sparse {where}: {doing} takes {took} ({best.sparse.entry}); dense was not measured" + (f" ({why})" if why else "")
    ratio, smaller = best.speedup or 1.0, best.smaller
    names = f"({best.sparse.entry}, against {best.dense.entry}, {doing})"
    size = "" if smaller is None else f" and {_times(smaller, 'smaller', 'larger')}"
    if max(ratio, 1 / ratio) < EVEN:
        return f"Sparse is as fast as dense{size} {where} {names}"
    verb = "Use sparse" if ratio > 1 else "Use dense"
    return f"{verb} {where}: sparse is {_times(ratio, 'faster', 'slower')}{size} {names}"


def _times(ratio: float, more: str, less: str) -> str:
    ratio, word = (ratio, more) if ratio >= 1 else (1 / ratio, less)
    return f"{ratio:.2g}x {word}" if ratio < 10 else f"{ratio:,.0f}x {word}"


def _side(at: float, sparse_first: bool, group: str) -> str:
    return f"{'above' if sparse_first else 'below'} {_amount(float(f'{at:.2g}'), group)} {group}"  # no better known than that


def _everywhere(found: Crossover, group: str) -> str:
    first = "sparse" if found.sparse_first else "dense"
    low, high = (_amount(x, group) for x in (found.low, found.high))
    return f"{first} is faster at all {'sizes' if group == 'units' else 'densities'} measured ({low} to {high})"


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
