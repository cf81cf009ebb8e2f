"""Tables and progress bars for people: as text, in a terminal, in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH = 10**5
"""Columns of the text: its lines are not cut, as those in a terminal are."""


@dataclass(frozen=True)
class SummaryTable:
    """Lines of text around a table; columns of numbers are aligned to the right.

    Parameters
    ----------
    lines : sequence of str
        Lines above the table; the first is its title.
    columns : sequence of str
    rows : sequence of sequences of str
    notes : sequence of str
        Lines below the table.

    Examples
    --------
    >>> print(SummaryTable(["two regions"], ["region", "units"], [["a", "1,000"], ["b", "20"]]))
    two regions
    region  units
    a       1,000
    b          20
    """

    lines: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    @property
    def numeric(self) -> list[bool]:
        """For each column, True if every cell is a number."""
        return [all(_is_number(row[k]) for row in self.rows) for k in range(len(self.columns))]

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=WIDTH, color_system=None, highlight=False)
        with console.capture() as captured:
            console.print(self)
        return "\n".join(line.rstrip() for line in captured.get().splitlines())

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 1))
        for column, right in zip(self.columns, self.numeric, strict=True):
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*map(Text, row))
        above = [Text(line, style="" if k else "bold") for k, line in enumerate(self.lines)]
        return Group(*above, *([table] if self.rows else []), *map(Text, self.notes))

    def _repr_html_(self) -> str:
        style = ["right" if right else "left" for right in self.numeric]

        def line(tag: str, cells: Sequence[str]) -> str:
            pairs = zip(cells, style, strict=True)
            inside = "".join(f'<{tag} style="text-align: {side}">{escape(c)}</{tag}>' for c, side in pairs)
            return f"<tr>{inside}</tr>"

        paragraphs = [escape(text) for text in self.lines]
        paragraphs[:1] = [f"<b>{title}</b>" for title in paragraphs[:1]]
        body = "".join(line("td", row) for row in self.rows)
        table = f"<table><thead>{line('th', self.columns)}</thead><tbody>{body}</tbody></table>"
        notes = "".join(f"<div>{escape(note)}</div>" for note in self.notes)
        return f"<div>{'<br>'.join(paragraphs)}</div>{table if self.rows else ''}{notes}"


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").rstrip("%"))
    except ValueError:
        return text == ""
    return True


def progress_bar(total: float, unit: str) -> Any:
    """Make a progress bar of ``total`` units on standard error; None if that is not a terminal.

    Call ``start`` and ``stop`` of it, and ``update(0, completed=, text=)``: how much is done, and what stands
    beside the bar.

    Examples
    --------
    >>> progress_bar(100, "ms") is None or progress_bar(100, "ms").tasks[0].total
    True
    """
    if not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        return None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {unit}"),
        BarColumn(20),
        TextColumn("{task.fields[text]}"),
        TextColumn("ETA"), TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task("", total=total, text="")
    return bar
