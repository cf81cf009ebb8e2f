"""read_celegans: the shipped connectome of C. elegans."""

from __future__ import annotations

import numpy as np

from sparse_mrnn.connectome.report import ImportReport, report_of
from sparse_mrnn.connectome.settings import positive
from sparse_mrnn.data import example_path
from sparse_mrnn.declaration.config import read_config
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.lowering.lower import lower
from sparse_mrnn.spectral import spectral_radius as measure


def read_celegans(*, spectral_radius: float | None = None) -> tuple[RegionGraph, ImportReport]:
    """The nervous system of the adult hermaphrodite C. elegans: 302 neurons in 17 regions.

    Projections have the keys "chemical" (signed by the source's transmitter) and "electrical" (gap junctions,
    `kind="electrical"`). Weights are numbers of electron-microscopy sections; 118 sections of a gap junction
    have the conductance of the leak. For other choices, import the published edge list with `read_table`.

    Parameters
    ----------
    spectral_radius : float, optional
        Scale the weights of chemical synapses so that their matrix has this spectral radius.

    References
    ----------
    Cook et al., Nature 571, 63 (2019).

    Examples
    --------
    >>> graph, report = read_celegans()
    >>> report.neurons, report.isolated, report.merged
    (302, 2, 5062)
    """
    graph = read_config(example_path("celegans"))
    how = "electron-microscopy sections; of gap junctions, conductances"
    if spectral_radius is not None:
        factor = positive("spectral_radius", spectral_radius)
        factor /= measure(lower(graph, seed=0, dtype=np.float64).to_scipy())
        for _, _, key, edge in graph.edges(data=True, keys=True):
            edge["weights"] = edge["weights"] * (factor if key == "chemical" else 1.0)
        how += f", scaled to a spectral radius of {spectral_radius:g} (times {factor:.6g})"
    note = "docs/celegans.md says how it was made from the published tables, and what was left out"
    return graph, report_of(graph, "the shipped C. elegans connectome (Cook et al. 2019)", how, (note,))
