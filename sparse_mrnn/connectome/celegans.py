"""read_celegans: the shipped connectome of C. elegans."""

from __future__ import annotations

from sparse_mrnn.config import read_config
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.summary import report_of
from sparse_mrnn.data import example_path
from sparse_mrnn.graph import RegionGraph


def read_celegans() -> tuple[RegionGraph, ImportReport]:
    """The nervous system of the adult hermaphrodite C. elegans: 302 neurons in 17 regions.

    Projections have the keys "chemical" (signed by the source's transmitter) and "electrical" (positive). Weights
    are numbers of electron-microscopy sections, so a model needs a spectral radius. For other choices, import the
    published edge list with `read_table`.

    Returns
    -------
    RegionGraph, ImportReport

    References
    ----------
    Cook et al., Nature 571, 63 (2019).

    Examples
    --------
    >>> graph, report = read_celegans()
    >>> report.neurons, report.isolated, report.merged
    (302, 2, 5811)
    """
    graph = read_config(example_path("celegans"))
    note = "docs/celegans.md says how it was made from the published tables, and what was left out"
    return graph, report_of(graph, "the shipped C. elegans connectome (Cook et al. 2019)", "electron-microscopy sections", (note,))
