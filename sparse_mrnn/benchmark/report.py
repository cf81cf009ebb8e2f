"""Results on paper: a table for the terminal, JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_mrnn.benchmark.advice import advice, timing
from sparse_mrnn.benchmark.measure import CaseResult, EntryResult, Timing

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 1
"""Of results.json; raised when a field changes its meaning."""
COLUMNS = ("case", "group", "units", "synapses", "density", "batch", "steps", "model", "activation")
MEASURES = ("build_s", "forward_ms", "forward_q1_ms", "forward_q3_ms", "training_ms", "training_q1_ms", "training_q3_ms", "memory_mb")


def case_table(result: CaseResult) -> Table:
    """The entries of one case, for a terminal 80 columns wide: medians, half the quartiles' distance, ratio to ours."""
    from rich.table import Table

    title = f"{result.label}: {result.units:,} units, {result.synapses:,} synapses, batch {result.batch}, {result.steps} steps"
    table = Table(title=title, title_justify="left")
    table.add_column("entry", no_wrap=True)
    trained = any(e.training for e in result.entries)
    for name in ("build s", "forward ms", *(["fwd+bwd ms"] if trained else []), "memory MB", "time / ours"):
        table.add_column(name, justify="right", no_wrap=True)
    base = our_base(result)
    for e in result.entries:
        if e.skipped is not None and e.forward is None:
            continue
        cells = [_number(e.build_s), _spread(e.forward), *([_spread(e.training)] if trained else []), _number(e.memory_mb)]
        table.add_row(e.entry, *cells, _ratio(e, base, trained))
    return table


def skipped(result: CaseResult) -> list[str]:
    """Why entries are missing from the table."""
    return [f"{e.entry}: {e.skipped}" for e in result.entries if e.skipped is not None]


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
        "cases": [r.as_dict() for r in results],
    }
    return json.dumps(data, indent=1) + "\n"


def as_csv(results: Sequence[CaseResult], machine: dict[str, Any]) -> str:
    """One row an entry and case; the machine's facts are columns too, so that files can be put together."""
    text = io.StringIO()
    facts = [f"machine_{name.replace('-', '_')}" for name in machine]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, "entry", "kind", *MEASURES, "skipped", *facts])
    for r in results:
        about = [r.label, r.group, r.units, r.synapses, r.density, r.batch, r.steps, r.model, r.activation]
        for e in r.entries:
            times = [x for t in (e.forward, e.training) for x in ((t.median, t.q1, t.q3) if t else ("", "", ""))]
            measures = [e.build_s, *times, e.memory_mb]
            cells = ["" if x is None else x for x in measures]
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


def _spread(t: Timing | None) -> str:
    if t is None:
        return "-"
    return f"{_number(t.median)} ±{_number((t.q3 - t.q1) / 2)}"


def _number(x: float | None) -> str:
    if x is None:
        return "-"
    return f"{x:,.0f}" if x >= 99.5 else f"{x:.3g}" if x >= 1 else f"{x:.2f}"


def _ratio(e: EntryResult, base: EntryResult | None, trained: bool) -> str:
    ours, its = (base and base.training, e.training) if trained else (base and base.forward, e.forward)
    return "-" if ours is None or its is None else f"{its.median / ours.median:.2f}x"
