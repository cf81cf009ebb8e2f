"""sparse-mrnn doctor."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from typer import Option

from sparse_mrnn.cli.common import Json, app, command, err, out, print_json, report_errors

if TYPE_CHECKING:
    from sparse_mrnn.benchmark.doctor import Finding

COLOURS = {"ok": "green", "note": "yellow", "problem": "bold red"}


@command(app, examples=(
    "doctor",
    "doctor --quick --json",
))
def doctor(
    device: Annotated[str | None, Option(help="cpu, cuda, ...; default: CUDA if there is one.")] = None,
    quick: Annotated[bool, Option("--quick", help="Versions only, nothing is computed.")] = False,
    as_json: Json = False,
) -> None:
    """Check this installation: versions, threads, GPU, optional packages, correctness and speed."""
    with report_errors():
        from sparse_mrnn.benchmark import doctor as checks
        from sparse_mrnn.benchmark import usable_device

        device = usable_device(device)
        found = checks.environment(device)
        _show(found)
        if not quick:
            with err.status("checking every backend"):
                checked = checks.self_check(device)
            _show(checked)
            with err.status("measuring"):
                speed = checks.speed_check(device)
            _show([speed])
            found += [*checked, speed]
        problems = sum(finding.verdict == "problem" for finding in found)
        if as_json:
            print_json({"problems": problems, "checks": [asdict(finding) for finding in found]})
        if problems:
            err.print(f"[bold red]{problems} of {len(found)} checks found a problem[/]")
            raise typer.Exit(1)
        out.print("[bold green]no problem found[/]")


def _show(findings: list[Finding]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False)
    table.add_column(width=8)
    table.add_column(min_width=24)
    table.add_column(overflow="fold")
    for finding in findings:
        colour = COLOURS[finding.verdict]
        table.add_row(f"[{colour}]{finding.verdict}[/]", escape(finding.what), escape(finding.found))
    out.print(table)
