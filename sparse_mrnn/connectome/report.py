"""ImportReport: what an importer read, left out and made; the report of a graph that is there already."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, astuple, dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.display import SummaryTable
from sparse_mrnn.lowering.layout import Layout
from sparse_mrnn.lowering.lower import lower

SHOWN = 20
"""Regions a report prints; it holds all."""


@dataclass(frozen=True)
class RegionRow:
    """One region: units by sign, connections onto and out of them, and which fraction of all onto them."""

    region: str
    units: int
    excitatory: int
    inhibitory: int
    unsigned: int
    edges_in: int
    edges_out: int
    density_in: float


def region_rows(
    graph: RegionGraph, onto: NDArray[np.int64], out_of: NDArray[np.int64]
) -> tuple[RegionRow, ...]:
    """Make a row for each recurrent region, from the connections onto and out of every unit."""
    rows, start, n = [], 0, len(onto)
    for region in graph.regions():
        units = slice(start, start + region.n)
        start += region.n
        inhibitory, unsigned, excitatory = np.bincount(region.unit_signs + 1, minlength=3).tolist()
        edges_in, edges_out = int(onto[units].sum()), int(out_of[units].sum())
        counts = region.n, excitatory, inhibitory, unsigned, edges_in, edges_out
        rows.append(RegionRow(region.name, *counts, density_in=edges_in / (region.n * n)))
    return tuple(rows)


@dataclass(frozen=True, kw_only=True, repr=False)
class ImportReport:
    """The account of an import: rows read, rows left out and why, and the graph made. ``print`` shows it.

    Parameters
    ----------
    source : str
        Files or tables.
    rows : dict of str to int
        Rows read, by table.
    dropped : dict of str to int
        Edge rows (or neurons) left out, by reason.
    neurons, isolated : int
        Units of the graph, and those of them without a connection.
    synapses : float
        Sum of the counts (or absolute weights) of all connections kept.
    edges, merged : int
        Edge rows kept, and connections they became.
    signs : dict of str to int
        Neurons (or connections) by the source of their sign.
    weights : str
        How a count became a weight.
    regions : tuple of RegionRow
        Units, synapses and signs of each region.
    projections : int
        Of the graph.
    density : float
        Connected pairs of neurons over all pairs.
    notes : tuple of str
        What else a reader should know.
    not_read : dict of str to tuple of str
        Columns that were not read, by table or file; of a file that was not read at all, none.
    """

    source: str
    rows: dict[str, int]
    dropped: dict[str, int] = field(default_factory=dict)
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
    not_read: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it, all regions included."""
        found = asdict(self)
        return {**found, "regions": list(found["regions"]), "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """The report without its table of regions."""
        out = [f"imported {self.source}"]
        out += [f"  rows read: {name}: {count:,}" for name, count in self.rows.items()]
        dropped = [f"  left out: {count:,}: {why}" for why, count in self.dropped.items() if count]
        out += dropped or ["  left out: nothing"]
        out.append(f"  neurons: {self.neurons:,}, {self.isolated:,} of them without a connection")
        total = f"sum of counts {self.synapses:,.10g}"
        out.append(f"  connections: {self.merged:,} from {self.edges:,} rows; {total}")
        between = f"{self.projections:,} projections between {len(self.regions):,} regions"
        out.append(f"  density: {self.density:.4%} of all pairs; {between}")
        out += [f"  sign: {count:,} {why}" for why, count in self.signs.items() if count]
        out.append(f"  weight: {self.weights}")
        out += [f"  note: {note}" for note in self.notes]
        files = [name for name, columns in self.not_read.items() if not columns]
        parts = self.not_read.items()
        out += [f"  not read: {name}: {', '.join(columns)}" for name, columns in parts if columns]
        return out + ([f"  not read: {', '.join(files)}"] if files else [])

    def table(self) -> SummaryTable:
        """The report with its regions, or the largest of many."""
        shown = list(self.regions)
        more = []
        if len(shown) > SHOWN:
            shown = sorted(shown, key=lambda row: -row.units)[:SHOWN]
            more = [f"  ... and {len(self.regions) - SHOWN:,} smaller regions"]
        head = ("region", "units", "exc", "inh", "free", "in", "out", "density")
        cells = [[r.region, *(f"{n:,}" for n in astuple(r)[1:-1]), f"{r.density_in:.3%}"] for r in shown]
        return SummaryTable(self.lines(), head, cells, more)

    def __repr__(self) -> str:
        size = f"{self.neurons:,} neurons, {self.merged:,} connections, {len(self.regions):,} regions"
        return f"<ImportReport of {self.source}: {size}>"

    def __str__(self) -> str:
        return str(self.table())

    def __rich__(self) -> Any:
        return self.table()

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _ends(graph: RegionGraph, matrix: sp.csr_array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Target and source of each connection: those of a matrix, and electrical ones in both directions."""
    layout, coo = Layout.of(graph), matrix.tocoo()
    rows, cols = [coo.row.astype(np.int64)], [coo.col.astype(np.int64)]
    for p in graph.electrical_projections():
        if p.weights is not None:
            own = p.weights.tocoo()
            ends = own.row + layout.slice(p.target).start, own.col + layout.slice(p.source).start
            both = p.source != p.target and not p.rectifies
            rows += ends if both else ends[:1]
            cols += ends[::-1] if both else ends[1:]
    return np.concatenate(rows), np.concatenate(cols)


def report_of(
    graph: RegionGraph, source: str, weights: str = "as in the file", notes: tuple[str, ...] = ()
) -> ImportReport:
    """Report a graph with explicit synapses, as if it had just been imported from ``source``."""
    matrix = lower(graph, seed=0, dtype=np.float64).to_scipy()
    n, electrical = graph.n_units, graph.electrical_projections()
    row, col = _ends(graph, matrix)
    onto, out_of = np.bincount(row, minlength=n), np.bincount(col, minlength=n)
    pairs, edges = len(np.unique(row * n + col)), matrix.nnz + int(electrical.expected_synapses().sum())
    conductances = sum(float(p.weights.sum()) for p in electrical if p.weights is not None)
    meaning = dict(inherit="by the source neuron", pos="excitatory", neg="inhibitory", free="unsigned")
    signs: Counter[str] = Counter()
    every = graph.projection_columns("recurrent")
    number = np.zeros(len(every))
    number[every.is_explicit] = every.take(every.is_explicit).expected_synapses()
    each = np.bincount(every.columns.setting, number, len(every.columns.settings))
    for k in dict.fromkeys(every.columns.setting.tolist()):
        key, attrs = every.columns.settings[k]
        sign = "both ways" if attrs.get("kind") == "electrical" else meaning[attrs.get("sign", "inherit")]
        signs[f"connections: {key}, {sign}"] += int(each[k])
    return ImportReport(
        source=source, rows={"nodes": n, "edges": edges}, signs=dict(signs), weights=weights, notes=notes,
        neurons=n, isolated=int(((onto + out_of) == 0).sum()), edges=edges, merged=edges,
        synapses=float(np.abs(matrix.data).sum()) + conductances, density=pairs / n**2 if n else 0.0,
        regions=region_rows(graph, onto, out_of), projections=graph.number_of_edges(),
    )  # fmt: skip
