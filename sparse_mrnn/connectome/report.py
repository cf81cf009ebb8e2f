"""ImportReport: what an importer read, left out and made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SHOWN = 20
"""Regions a report prints; it holds all."""


@dataclass(frozen=True)
class RegionRow:
    """One region of a report: units by sign, connections onto and out of them, and the fraction of possible ones onto them."""

    region: str
    units: int
    excitatory: int
    inhibitory: int
    unsigned: int
    edges_in: int
    edges_out: int
    density_in: float


@dataclass(frozen=True)
class ImportReport:
    """What was read, what was dropped and why, and what came out. ``print`` shows it.

    Parameters
    ----------
    source : str
        Files or tables.
    rows : dict
        Rows read, by table.
    dropped : dict
        Edge rows (or neurons) left out, by reason.
    neurons, isolated : int
        Units of the graph; those of them without a connection.
    synapses : float
        Sum of the counts (or absolute weights) of all connections kept.
    edges, merged : int
        Edge rows kept, and connections they became.
    signs : dict
        Neurons (or connections) by where their sign comes from.
    weights : str
        How a count became a weight.
    regions : tuple of RegionRow
    projections : int
    density : float
        Connected pairs of neurons over all pairs.
    notes : tuple of str
        What else a reader should know.
    """

    source: str
    rows: dict[str, int]
    dropped: dict[str, int]
    neurons: int
    isolated: int
    synapses: float
    edges: int
    merged: int
    signs: dict[str, int]
    weights: str
    regions: tuple[RegionRow, ...] = field(repr=False)
    projections: int
    density: float
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report without its table of regions."""
        out = [f"imported {self.source}"]
        out += [f"  rows read: {name}: {count:,}" for name, count in self.rows.items()]
        out += [f"  left out: {count:,}: {why}" for why, count in self.dropped.items() if count] or ["  left out: nothing"]
        out.append(f"  neurons: {self.neurons:,}, {self.isolated:,} of them without a connection")
        out.append(f"  connections: {self.merged:,} from {self.edges:,} rows; sum of counts {self.synapses:,.10g}")
        out.append(f"  density: {self.density:.4%} of all pairs; {self.projections:,} projections between {len(self.regions):,} regions")
        out += [f"  sign: {count:,} {why}" for why, count in self.signs.items() if count]
        out.append(f"  weight: {self.weights}")
        return out + [f"  note: {note}" for note in self.notes]

    def _cells(self) -> list[tuple[str, ...]]:
        order = sorted(self.regions, key=lambda row: -row.units)[:SHOWN] if len(self.regions) > SHOWN else self.regions
        return [
            (
                r.region,
                f"{r.units:,}",
                f"{r.excitatory:,}",
                f"{r.inhibitory:,}",
                f"{r.unsigned:,}",
                f"{r.edges_in:,}",
                f"{r.edges_out:,}",
                f"{r.density_in:.3%}",
            )
            for r in order
        ]

    def _more(self) -> list[str]:
        return [f"  ... and {len(self.regions) - SHOWN:,} smaller regions"] if len(self.regions) > SHOWN else []

    def __str__(self) -> str:
        cells = [HEAD, *self._cells()]
        widths = [max(len(row[c]) for row in cells) for c in range(len(HEAD))]
        table = ["  ".join([row[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(row[1:], widths[1:], strict=True))]) for row in cells]
        return "\n".join([*self.lines(), *(f"  {line}" for line in table), *self._more()])

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 1))
        for k, column in enumerate(HEAD):
            table.add_column(column, justify="right" if k else "left", no_wrap=True)
        for row in self._cells():
            table.add_row(*row)
        return Group(*(Text(line) for line in self.lines()), table, *(Text(line) for line in self._more()))


HEAD = ("region", "units", "exc", "inh", "free", "in", "out", "density")
