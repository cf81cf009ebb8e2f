"""A report of a graph whose synapses are explicit already."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sparse_mrnn.connectome.report import ImportReport, region_rows
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.lowering.lower import lower


def report_of(
    graph: RegionGraph, source: str, weights: str = "as in the file", notes: tuple[str, ...] = ()
) -> ImportReport:
    """What is in a graph with explicit synapses, as if it had just been imported from ``source``."""
    matrix = lower(graph, rng=0, dtype=np.float64).to_scipy()
    n, edges = graph.n_units, matrix.nnz
    onto, out_of = np.diff(matrix.indptr), np.bincount(matrix.indices, minlength=n)
    row = np.repeat(np.arange(n, dtype=np.int64), onto)
    pairs = int((np.diff(row * n + matrix.indices) > 0).sum()) + 1 if edges else 0
    meaning = dict(inherit="by the source neuron", pos="excitatory", neg="inhibitory", free="unsigned")
    signs: Counter[str] = Counter()
    for p in graph.projections("recurrent"):
        signs[f"connections: {p.key}, {meaning[p.sign]}"] += 0 if p.synapses is None else p.synapses.nnz
    return ImportReport(
        source=source, rows={"nodes": n, "edges": edges}, signs=dict(signs), weights=weights, notes=notes,
        neurons=n, isolated=int(((onto + out_of) == 0).sum()), edges=edges, merged=edges,
        synapses=float(np.abs(matrix.data).sum()), density=pairs / n**2 if n else 0.0,
        regions=region_rows(graph, onto, out_of), projections=graph.number_of_edges(),
    )  # fmt: skip
