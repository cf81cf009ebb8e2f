"""Importing connectomes: every reader returns a `RegionGraph` and an `ImportReport`."""

from sparse_mrnn.connectome.celegans import read_celegans
from sparse_mrnn.connectome.edge_list import read_table
from sparse_mrnn.connectome.flyvis import read_flyvis
from sparse_mrnn.connectome.flywire import read_flywire
from sparse_mrnn.connectome.matrix import read_matrix
from sparse_mrnn.connectome.networks import from_networkx, read_graphml
from sparse_mrnn.connectome.neuprint import read_neuprint
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions, ImportSettings
from sparse_mrnn.connectome.tvb import read_tvb

__all__ = [
    "ImportOptions", "ImportReport", "ImportSettings", "from_networkx", "read_celegans", "read_flyvis",
    "read_flywire", "read_graphml", "read_matrix", "read_neuprint", "read_table", "read_tvb",
]
