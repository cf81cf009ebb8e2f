"""Importing connectomes: every reader returns a `RegionGraph` with explicit synapses, and an `ImportReport`."""

from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import Options, Settings
from sparse_mrnn.connectome.table import read_table

__all__ = ["ImportReport", "Options", "Settings", "read_table"]
