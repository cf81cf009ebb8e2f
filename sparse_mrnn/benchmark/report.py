"""Results on paper: a table for the terminal, JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_mrnn.benchmark.advice import advice, percent, timing
from sparse_mrnn.benchmark.measure import CaseResult, EntryResult, Timing

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

FORMAT = 1
"""Of results.json; raised when a field changes its meaning."""
LADDER_COLUMNS = 6
WIDE = 0.25
COLUMNS = ("case", "group", "units", "synapses", "density", "batch", "steps", "model", "activation")
MEASURES = ("build_s", "forward_ms", "forward_q1_ms", "forward_q3_ms", "training_ms", "training_q1_ms", "training_q3_ms", "memory_mb")


def case_table(result: CaseResult) -> Group:
    """The entries of one case, for a terminal 80 columns wide: medians, half the quartiles' distance, ratio to ours."""
    trained = any(e.training for e in result.entries)
    title = f"{result.label}: {result.units:,} units, {result.synapses:,} synapses, batch {result.batch}, {result.steps} steps"
    table = _table(["build s", "forward ms", *(["fwd+bwd ms"] if trained else []), "memory MB", "time / ours"])
    base = our_base(result)
    for e in result.entries:
        if e.skipped is not None and e.forward is None:
            continue
        cells = [_number(e.build_s), _spread(e.forward), *([_spread(e.training)] if trained else []), _number(e.memory_mb)]
        table.add_row(e.entry, *cells, _ratio(e, base, trained))
    return _titled(title, table)


def ladder_tables(results: Sequence[CaseResult], group: str) -> list[Group]:
    """Time, and memory where measured, of every entry along a ladder of "units" or "density"."""
    results = [r for r in results if r.group == group]
    tables: list[Group] = []
    trained = any(e.training for r in results for e in r.entries)
    doing = "forward and backward" if trained else "forward"
    for what in ("time", "memory"):
        for start in range(0, len(results), LADDER_COLUMNS):
            part = results[start : start + LADDER_COLUMNS]
            rows: dict[str, list[str]] = {}
            for r in part:
                for e in r.entries:
                    t = e.training if trained else e.forward
                    value = e.memory_mb if what == "memory" else None if t is None else t.median
                    rows.setdefault(e.entry, []).append(_number(value))
            rows = {name: cells for name, cells in rows.items() if set(cells) != {"-"}}
            if not rows:
                continue
            fixed = f"density {percent(part[-1].density)}" if group == "units" else f"{part[0].units:,} units"
            title = f"{doing}, ms" if what == "time" else "peak memory, MB"
            table = _table([f"{r.units:,}" if group == "units" else percent(r.density) for r in part])
            for name, cells in rows.items():
                table.add_row(name, *cells)
            tables.append(_titled(f"{title}, by {group}: {fixed}, batch {part[0].batch}, {part[0].steps} steps", table))
    return tables


def _titled(title: str, table: Table) -> Group:
    from rich.console import Group
    from rich.text import Text

    return Group(Text(f"\n{title}", style="bold"), table)


def _table(columns: list[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("entry", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def skipped(results: Sequence[CaseResult]) -> list[str]:
    """Which entries were left out and why, one line an entry and case; once where it is the same for all."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for r in results:
        for e in r.entries:
            if e.skipped is not None:
                reasons.setdefault((e.entry, e.skipped), []).append(r.label)
    return [
        f"left out: {entry}" + ("" if len(where) == len(results) else f", {', '.join(where)}") + f": {why}"
        for (entry, why), where in reasons.items()
    ]


def unsteady(results: Sequence[CaseResult]) -> str | None:
    """A warning where many timings spread widely, as they do when something else uses the processor."""
    timings = [t for r in results for e in r.entries for t in (e.forward, e.training) if t is not None]
    wide = sum(t.spread > WIDE for t in timings)
    if not timings or wide <= 0.2 * len(timings):
        return None
    return (
        f"{wide} of {len(timings)} timings spread by more than {WIDE:.0%} of their median; something else may be using the "
        "processor. Measure again on a quiet machine, or with more --repeats."
    )


def our_base(result: CaseResult) -> EntryResult | None:
    """The entry ratios are against: what ``backend="auto"`` does, else our fastest."""
    ours = [e for e in result.entries if e.entry.startswith("ours") and e.forward is not None]
    return next((e for e in ours if e.entry == "ours"), min(ours, key=lambda e: timing(e).median, default=None))


def as_json(results: Sequence[CaseResult], machine: dict[str, Any], settings: dict[str, Any]) -> str:
    """Everything measured, with what it was measured on."""
    data = {
        "format": FORMAT,
        "machine": machine,
        "settings": settings,
        "advice": advice(results),
        "cases": [_tidy(r.as_dict()) for r in results],
    }
    return json.dumps(data, indent=1) + "\n"


def as_csv(results: Sequence[CaseResult], machine: dict[str, Any]) -> str:
    """One row an entry and case; the machine's facts are columns too, so that files can be put together."""
    text = io.StringIO()
    facts = [f"machine_{name.replace('-', '_')}" for name in machine]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, "entry", "kind", *MEASURES, "skipped", *facts])
    for r in results:
        about = [r.label, r.group, r.units, r.synapses, _tidy(r.density), r.batch, r.steps, r.model, r.activation]
        for e in r.entries:
            times = [x for t in (e.forward, e.training) for x in ((t.median, t.q1, t.q3) if t else ("", "", ""))]
            measures = [e.build_s, *times, e.memory_mb]
            cells = ["" if x is None else _tidy(x) for x in measures]
            writer.writerow([*about, e.entry, e.kind, *cells, e.skipped or "", *machine.values()])
    return text.getvalue()


def write(results: Sequence[CaseResult], machine: dict[str, Any], settings: dict[str, Any], folder: Path) -> list[Path]:
    """Write results.json, results.csv and, where there is more than one case, crossover.png."""
    from sparse_mrnn.benchmark.plots import plot_crossover

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "results.json", folder / "results.csv"]
    paths[0].write_text(as_json(results, machine, settings), encoding="utf-8")
    paths[1].write_text(as_csv(results, machine), encoding="utf-8")
    if len(results) > 1:
        paths.append(folder / "crossover.png")
        plot_crossover(results).savefig(paths[-1], dpi=110)
    return paths


def _tidy(x: Any) -> Any:
    """Floats to five significant digits, wherever they are."""
    if isinstance(x, dict):
        return {key: _tidy(value) for key, value in x.items()}
    if isinstance(x, list):
        return [_tidy(value) for value in x]
    return float(f"{x:.5g}") if isinstance(x, float) else x


def _spread(t: Timing | None) -> str:
    if t is None:
        return "-"
    return f"{_number(t.median)} ±{_number((t.q3 - t.q1) / 2)}"


def _number(x: float | None) -> str:
    if x is None:
        return "-"
    return f"{x:,.0f}" if x >= 99.5 else f"{x:.3g}" if x >= 1 else f"{x:.2f}"


def _ratio(e: EntryResult, base: EntryResult | None, trained: bool) -> str:
    if base is None:
        return "-"
    ours, its = (base.training, e.training) if trained else (base.forward, e.forward)
    return "-" if ours is None or its is None else f"{its.median / ours.median:.2f}x"
