"""One sentence of advice, and the crossovers it rests on, from what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sparse_mrnn.benchmark.measure import CaseResult, EntryResult, fastest
from sparse_mrnn.benchmark.timing import EVEN, Ratio


def rivals(case: CaseResult) -> tuple[EntryResult | None, EntryResult | None]:
    """The fastest sparse and the fastest dense entry of a case; None if none was measured.

    By the time of training, or of forward if nothing was trained.
    """
    timings = {e.entry: t for e in case.entries if (t := case.timing(e)) is not None}
    sparse, dense = fastest({e.entry: e.kind for e in case.entries}, timings)
    return sparse and case[sparse], dense and case[dense]  # type: ignore[return-value]


def dense_over_sparse(case: CaseResult) -> Ratio | None:
    """Time of the fastest dense over that of the fastest sparse entry, round by round."""
    sparse, dense = (None if e is None else case.timing(e) for e in rivals(case))
    return None if sparse is None or dense is None else Ratio.of(dense, sparse)


@dataclass(frozen=True)
class Crossover:
    """Units or density at which sparse and dense take the same time.

    ``at`` is None if unknown, or if one of them is faster everywhere; ``between`` are its neighbours if the
    cases there, ``unclear``, do not tell. The other cases reach from ``low`` to ``high``, and
    ``sparse_first`` says if sparse is faster at the low end.
    """

    at: float | None
    between: tuple[float, float] | None
    low: float
    high: float
    sparse_first: bool
    unclear: tuple[float, ...]


def crossover(results: Sequence[CaseResult], group: str) -> Crossover | None:
    """The crossover over "units" or "density", interpolated on logarithmic axes; None if no two cases tell.

    The network itself belongs to both ladders. If the curves cross more than once, it is the crossing on
    whose one side sparse is always faster: full blocks are a dense product in both, so curves may meet again
    at the highest density.
    """
    ladder = ((getattr(r, group), dense_over_sparse(r)) for r in results if r.group in (group, "network"))
    found = sorted(((x, ratio) for x, ratio in ladder if ratio is not None), key=lambda pair: pair[0])
    unclear = tuple(x for x, ratio in found if ratio.verdict == "unclear")
    clear = [(x, ratio.median) for x, ratio in found if ratio.verdict != "unclear"]
    if len(clear) < 2:
        return None
    crossings = [pair for pair in pairwise(clear) if (pair[0][1] - 1) * (pair[1][1] - 1) < 0]
    sparse_first, at, between = clear[0][1] > 1, None, None
    if crossings:
        (x0, y0), (x1, y1) = crossings[0] if sparse_first else crossings[-1]
        if any(x0 < x < x1 for x in unclear):
            between = x0, x1
        else:
            at = x0 * (x1 / x0) ** (math.log(y0) / math.log(y0 / y1))
    return Crossover(at, between, clear[0][0], clear[-1][0], sparse_first, unclear)


def advice(results: Sequence[CaseResult]) -> str:
    """One sentence: how sparse compares here, and where to use which; or that the timings do not tell."""
    if not results:
        return "Nothing was measured."
    here = next((r for r in results if r.group == "network"), None)
    case = here or max(results, key=lambda r: (dense_over_sparse(r) is not None, r.group == "units", r.units))
    found = [(c, group) for group in ("units", "density") if (c := crossover(results, group)) is not None]
    crossings = [_crossing(c, group) for c, group in found if c.at is not None or c.between is not None]
    where = "here" if here else f"at {case.units:,} units and {percent(case.density)} density"
    clauses = [_verdict(case, where)]
    if crossings:
        clauses.append(f"use dense {' or '.join(crossings)}")
    clauses += [_everywhere(c, group) for c, group in found if c.at is None and c.between is None]
    return "; ".join(clauses) + "."


def _verdict(case: CaseResult, where: str) -> str:
    (sparse, dense), ratio = rivals(case), dense_over_sparse(case)
    doing = "training" if case.trained else "running forward"
    if sparse is None:
        return f"No sparse entry was measured {where}"
    if dense is None or ratio is None:
        took = f"{doing} takes {case.median(sparse):.3g} ms ({sparse.entry})"
        why = next((f" ({e.skipped})" for e in case.entries if e.kind == "dense" and e.skipped), "")
        return f"Use sparse {where}: {took}; dense was not measured{why}"
    names, smaller = f"({sparse.entry}, against {dense.entry}, {doing})", ""
    if sparse.memory_mb and dense.memory_mb is not None:
        smaller = _times(dense.memory_mb / sparse.memory_mb, "smaller", "larger")
    size = smaller and f" and {smaller}"
    if ratio.verdict == "unclear":
        took = f"dense takes {ratio.low:.2g} to {ratio.high:.2g} times as long as sparse"
        took += f" in {ratio.rounds} rounds, which are too few to be sure" if ratio.few else ""
        took += smaller and f", and sparse is {smaller}"
        return f"The timings do not tell whether to use sparse or dense {where}: {took} {names}"
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
