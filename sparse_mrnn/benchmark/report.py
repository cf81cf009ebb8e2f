"""Results to read and to keep: a table for the terminal, JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_mrnn.benchmark.advice import advice, percent
from sparse_mrnn.benchmark.measure import CaseResult, EntryResult
from sparse_mrnn.benchmark.plots import plot_crossover, plot_entries
from sparse_mrnn.benchmark.timing import Ratio, Timing

if TYPE_CHECKING:
    from rich.console import Group

FORMAT = 1
"""Version of results.json; raised when a field changes its meaning."""
LADDER_COLUMNS = 6
WIDE = 0.25
CASE_COLUMNS = ("group", "units", "synapses", "density", "batch", "steps", "model", "activation")


def case_table(result: CaseResult) -> Group:
    """A case for 80 columns: medians, half the quartiles' distance, time over that of `reference_entry`."""
    base, rows = reference_entry(result), []
    for e in result.entries:
        if e.skipped is not None and e.forward is None:
            continue
        times = [_spread(e.forward), *([_spread(e.training)] if result.trained else [])]
        own, of_base = result.timing(e), base and result.timing(base)
        relative = f"{Ratio.of(own, of_base).median:.2f}x" if own and of_base else "-"
        rows.append([e.entry, _number(e.build_s), *times, _number(e.memory_mb), relative])
    size = f"{result.units:,} units, {result.synapses:,} synapses"
    title = f"{result.label}: {size}, batch {result.batch}, {result.steps} steps"
    training = ["fwd+bwd ms"] if result.trained else []
    return _table(title, ["build s", "forward ms", *training, "memory MB", "relative"], rows)


def ladder_tables(results: Sequence[CaseResult], group: str) -> list[Group]:
    """Time, and memory if measured, of every entry along a ladder of "units" or "density"."""
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
    measured = [[name, *cells] for name, cells in rows.items() if set(cells) != {"-"}]
    if not measured:
        return None
    first, by_units = cases[0], group == "units"
    doing = "forward and backward" if first.trained else "forward"
    title = f"{doing}, ms" if what == "time" else "peak memory, MB"
    same = f"density {percent(cases[-1].density)}" if by_units else f"{first.units:,} units"
    title += f", by {group}: {same}, batch {first.batch}, {first.steps} steps"
    return _table(title, [f"{r.units:,}" if by_units else percent(r.density) for r in cases], measured)


def _table(title: str, columns: list[str], rows: Iterable[Sequence[str]]) -> Group:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("entry", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return Group(Text(f"\n{title}", style="bold"), table)


def skipped(results: Sequence[CaseResult]) -> list[str]:
    """Entries left out and why, one line an entry and case; once if it is the same for all."""
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
    """A warning if many timings spread widely, as they do when something else uses the processor."""
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
    """Everything measured, with the machine it was measured on."""
    data = {"format": FORMAT, "machine": machine, "settings": settings, "advice": advice(results)}
    return json.dumps({**data, "cases": _tidy([asdict(r) for r in results])}, indent=1) + "\n"


def as_csv(results: Sequence[CaseResult], machine: dict[str, Any]) -> str:
    """One row an entry and case; columns describe the machine, too, so that files can be joined."""
    about = {f"machine_{name.replace('-', '_')}": value for name, value in machine.items()}
    rows = []
    for r in results:
        case = {"case": r.label, **{name: getattr(r, name) for name in CASE_COLUMNS}}
        for e in r.entries:
            times: dict[str, float | None] = {}
            for what, t in (("forward", e.forward), ("training", e.training)):
                median, q1, q3 = (None,) * 3 if t is None else (t.median, t.q1, t.q3)
                times |= {f"{what}_ms": median, f"{what}_q1_ms": q1, f"{what}_q3_ms": q3}
            row = {**case, "entry": e.entry, "kind": e.kind, "build_s": e.build_s, **times}
            rows.append({**_tidy({**row, "memory_mb": e.memory_mb, "skipped": e.skipped}), **about})
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write(
    results: Sequence[CaseResult], machine: dict[str, Any], settings: dict[str, Any], folder: Path
) -> list[Path]:
    """Write results.json and results.csv, entries.png of a network, crossover.png of several cases."""
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
    return json.loads(json.dumps(x), parse_float=lambda text: float(f"{float(text):.5g}"))


def _spread(t: Timing | None) -> str:
    return "-" if t is None else f"{_number(t.median)} ±{_number((t.q3 - t.q1) / 2)}"


def _number(x: float | None) -> str:
    if x is None:
        return "-"
    return f"{x:,.0f}" if x >= 99.5 else f"{x:.3g}" if x >= 1 else f"{x:.2f}"
