"""A report of a graph whose synapses are explicit already."""

from __future__ import annotations

import numpy as np

from sparse_mrnn.connectome.report import ImportReport, RegionRow
from sparse_mrnn.graph import RegionGraph
from sparse_mrnn.lowering import lower


def report_of(graph: RegionGraph, source: str, weights: str = "as in the file", notes: tuple[str, ...] = ()) -> ImportReport:
    """What is in a graph with explicit synapses, as if it had just been imported.

    Parameters
    ----------
    graph : RegionGraph
    source : str
        Where it comes from.
    weights : str
        What its weights are.
    notes : tuple of str
    """
    blocks = lower(graph, rng=0, dtype=np.float64)
    n, edges = graph.n_units, len(blocks.col)
    row = np.repeat(np.arange(n), np.diff(blocks.crow))
    into, outof = np.diff(blocks.crow), np.bincount(blocks.col, minlength=n)
    pairs = int((np.diff(row.astype(np.int64) * n + blocks.col) > 0).sum()) + 1 if edges else 0
    rows, start = [], 0
    for region in graph.regions():
        here = slice(start, start + region.n)
        start += region.n
        inhibitory, unsigned, excitatory = np.bincount(region.unit_signs + 1, minlength=3).tolist()
        onto = int(into[here].sum())
        rows.append(RegionRow(region.name, region.n, excitatory, inhibitory, unsigned, onto, int(outof[here].sum()), onto / (region.n * n)))
    kinds: dict[str, int] = {}
    for p in graph.projections("recurrent"):
        how = {"inherit": "by the source neuron", "pos": "excitatory", "neg": "inhibitory", "free": "unsigned"}[p.sign]
        label = f"connections: {p.key}, {how}"
        kinds[label] = kinds.get(label, 0) + (p.synapses.nnz if p.synapses is not None else 0)
    return ImportReport(
        source,
        {"nodes": n, "edges": edges},
        {},
        n,
        int(((into + outof) == 0).sum()),
        float(np.abs(blocks.values).sum()),
        edges,
        edges,
        kinds,
        weights,
        tuple(rows),
        graph.number_of_edges(),
        pairs / n**2 if n else 0.0,
        notes,
    )
