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

    The network itself belongs to both ladders. Where the curves cross more than once, the crossing at the most
    units, or at the highest density.
    """
    points = [point(r) for r in results if r.group in (group, "network")]
    found = sorted(
        (r.case.units if group == "units" else r.case.density, r.speedup) for r in points if r.speedup is not None
    )
    if len(found) < 2:
        return None
    at = None
    for (x0, y0), (x1, y1) in pairwise(found):
        if (y0 - 1) * (y1 - 1) < 0:
            share = math.log(y0) / (math.log(y0) - math.log(y1))
            at = math.exp(math.log(x0) + share * (math.log(x1) - math.log(x0)))
    return Crossover(at, found[0][0], found[-1][0], found[0][1] > 1)


def advice(results: Sequence[CaseResult]) -> str:
    """One sentence: how sparse compares here, and from where on to use which."""
    if not results:
        return "Nothing was measured."
    here = next((r for r in results if r.group == "network"), None)
    case = here or max((r for r in results if r.group == "units"), key=lambda r: r.units, default=results[0])
    words = _here(point(case), "here" if here else f"at {case.units:,} units and a density of {case.density:.2g}")
    units, density = crossover(results, "units"), crossover(results, "density")
    rest = []
    if units is not None:
        rest.append(_along(units, "units"))
    if density is not None:
        rest.append(_along(density, "density"))
    return words + ("; " + ", and ".join(rest) if rest else "") + "."


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


def _along(found: Crossover, group: str) -> str:
    low, high = (_amount(x, group) for x in (found.low, found.high))
    if found.at is None:
        first = "sparse" if found.sparse_first else "dense"
        return f"{first} is faster at all {'sizes' if group == 'units' else 'densities'} measured ({low} to {high})"
    dense_side = "above" if found.sparse_first else "below"
    what = _amount(_round(found.at), group)
    return f"{dense_side} {what} units use dense" if group == "units" else f"{dense_side} {what} density use dense"


def _amount(value: float, group: str) -> str:
    return f"{value:,.0f}" if group == "units" else f"{100 * value:.2g}%"


def _round(value: float) -> float:
    """To two significant digits: a crossover is not known better."""
    return float(f"{value:.2g}")
