"""Results to read and to keep: a table for the terminal, JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_mrnn.benchmark.advice import advice, percent
from sparse_mrnn.benchmark.measure import CaseResult, EntryResult
from sparse_mrnn.benchmark.timing import Ratio, Timing

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

FORMAT = 1
"""Of results.json; raised when a field changes its meaning."""
LADDER_COLUMNS = 6
WIDE = 0.25
CASE_COLUMNS = ("case", "group", "units", "synapses", "density", "batch", "steps", "model", "activation")
TIME_COLUMNS = tuple(f"{what}{part}_ms" for what in ("forward", "training") for part in ("", "_q1", "_q3"))


def case_table(result: CaseResult) -> Group:
    """A case for 80 columns: medians, half the quartiles' distance, time over that of `reference_entry`."""
    size = f"{result.units:,} units, {result.synapses:,} synapses"
    training = ["fwd+bwd ms"] if result.trained else []
    table = _table(["build s", "forward ms", *training, "memory MB", "relative"])
    base = reference_entry(result)
    for e in result.entries:
        if e.skipped is not None and e.forward is None:
            continue
        times = [_spread(e.forward), *([_spread(e.training)] if result.trained else [])]
        own, of_base = result.timing(e), base and result.timing(base)
        relative = f"{Ratio.of(own, of_base).median:.2f}x" if own and of_base else "-"
        table.add_row(e.entry, _number(e.build_s), *times, _number(e.memory_mb), relative)
    return _titled(f"{result.label}: {size}, batch {result.batch}, {result.steps} steps", table)


def ladder_tables(results: Sequence[CaseResult], group: str) -> list[Group]:
    """Time, and memory where measured, of every entry along a ladder of "units" or "density"."""
    ladder = [r for r in results if r.group == group]
    parts = [ladder[k : k + LADDER_COLUMNS] for k in range(0, len(ladder), LADDER_COLUMNS)]
    found = (_ladder_table(part, group, what) for what in ("time", "memory") for part in parts)
    return [table for table in found if table is not None]


def _ladder_table(cases: Sequence[CaseResult], group: str, what: str) -> Group | None:
    rows: dict[str, list[str]] = {}
    for case in cases:
        for e in case.entries:
            timing = case.timing(e)
            value = e.memory_mb if what == "memory" else None if timing is None else timing.median
            rows.setdefault(e.entry, []).append(_number(value))
    rows = {name: cells for name, cells in rows.items() if set(cells) != {"-"}}
    if not rows:
        return None
    first, by_units = cases[0], group == "units"
    table = _table([f"{r.units:,}" if by_units else percent(r.density) for r in cases])
    for name, cells in rows.items():
        table.add_row(name, *cells)
    doing = "forward and backward" if first.trained else "forward"
    title = f"{doing}, ms" if what == "time" else "peak memory, MB"
    same = f"density {percent(cases[-1].density)}" if by_units else f"{first.units:,} units"
    return _titled(f"{title}, by {group}: {same}, batch {first.batch}, {first.steps} steps", table)


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
    lines = []
    for (entry, why), labels in reasons.items():
        where = "" if len(labels) == len(results) else f", {', '.join(labels)}"
        lines.append(f"left out: {entry}{where}: {why}")
    return lines


def unsteady(results: Sequence[CaseResult]) -> str | None:
    """A warning where many timings spread widely, as they do when something else uses the processor."""
    timings = [t for r in results for e in r.entries for t in (e.forward, e.training) if t is not None]
    wide = sum(t.spread > WIDE for t in timings)
    if not timings or wide <= 0.2 * len(timings):
        return None
    return (
        f"{wide} of {len(timings)} timings spread by more than {WIDE:.0%} of their median; something else "
        "may be using the processor. Measure again on a quiet machine, if the advice is to be exact."
    )


def reference_entry(result: CaseResult) -> EntryResult | None:
    """The entry that times are divided by: this library's choice of backend, else its fastest backend."""
    timed = [e for e in result.entries if result.timing(e) is not None]
    chosen = next((e for e in timed if e.entry == "sparse-mrnn"), None)
    backends = [e for e in timed if e.entry.startswith("backend-")]
    return chosen or min(backends, key=result.median, default=None)


def as_json(results: Sequence[CaseResult], machine: dict[str, Any], settings: dict[str, Any]) -> str:
    """Everything measured, with what it was measured on."""
    data = {
        "format": FORMAT,
        "machine": machine,
        "settings": settings,
        "advice": advice(results),
        "cases": [_tidy(asdict(r)) for r in results],
    }
    return json.dumps(data, indent=1) + "\n"


def as_csv(results: Sequence[CaseResult], machine: dict[str, Any]) -> str:
    """One row an entry and case; what describes the machine are columns too, so that files can be joined."""
    text = io.StringIO()
    machine_columns = [f"machine_{name.replace('-', '_')}" for name in machine]
    measures = ("build_s", *TIME_COLUMNS, "memory_mb")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*CASE_COLUMNS, "entry", "kind", *measures, "skipped", *machine_columns])
    for r in results:
        about = [r.label, *(_tidy(getattr(r, name)) for name in CASE_COLUMNS[1:])]
        for e in r.entries:
            timings = [(t.median, t.q1, t.q3) if t else (None,) * 3 for t in (e.forward, e.training)]
            values = [e.build_s, *timings[0], *timings[1], e.memory_mb]
            cells = ["" if x is None else _tidy(x) for x in values]
            writer.writerow([*about, e.entry, e.kind, *cells, e.skipped or "", *machine.values()])
    return text.getvalue()


def write(
    results: Sequence[CaseResult], machine: dict[str, Any], settings: dict[str, Any], folder: Path
) -> list[Path]:
    """Write results.json and results.csv, entries.png of a network, crossover.png of several cases."""
    from sparse_mrnn.benchmark.plots import plot_crossover, plot_entries

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "results.json", folder / "results.csv"]
    paths[0].write_text(as_json(results, machine, settings), encoding="utf-8")
    paths[1].write_text(as_csv(results, machine), encoding="utf-8")
    figures = [("entries.png", plot_entries(r)) for r in results if r.group == "network"]
    if len(results) > 1:
        figures.append(("crossover.png", plot_crossover(results)))
    for name, figure in figures:
        paths.append(folder / name)
        figure.savefig(paths[-1], dpi=110)
    return paths


def _tidy(x: Any) -> Any:
    """Floats to five significant digits, wherever they are."""
    if isinstance(x, dict):
        return {key: _tidy(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
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
