"""Importing connectomes: every reader returns a `RegionGraph` and an `ImportReport`."""

from sparse_mrnn.connectome.formats.celegans import read_celegans
from sparse_mrnn.connectome.formats.edge_list import read_table
from sparse_mrnn.connectome.formats.flywire import read_flywire
from sparse_mrnn.connectome.formats.matrix import read_matrix
from sparse_mrnn.connectome.formats.networks import from_networkx, read_graphml
from sparse_mrnn.connectome.formats.neuprint import read_neuprint
from sparse_mrnn.connectome.formats.releases import RELEASES, read_release
from sparse_mrnn.connectome.formats.tvb import read_tvb
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings

__all__ = [
    "RELEASES", "ImportOptions", "ImportReport", "ImportSettings", "from_networkx", "read_celegans",
    "read_flywire", "read_graphml", "read_matrix", "read_neuprint", "read_release", "read_table", "read_tvb",
]
