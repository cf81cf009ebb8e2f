"""Exchange of networks with other software."""

from sparse_mrnn.interop.graphml import write_graphml
from sparse_mrnn.interop.mrnntorch import from_mrnntorch, to_mrnntorch
from sparse_mrnn.interop.mrnntorch_config import graph_from_mrnntorch, to_mrnntorch_config
from sparse_mrnn.interop.nwb import read_nwb
from sparse_mrnn.interop.sonata import open_sonata, read_sonata, read_sonata_settings, write_sonata
from sparse_mrnn.interop.step import step_module

__all__ = [
    "from_mrnntorch",
    "graph_from_mrnntorch",
    "open_sonata",
    "read_nwb",
    "read_sonata",
    "read_sonata_settings",
    "step_module",
    "to_mrnntorch",
    "to_mrnntorch_config",
    "write_graphml",
    "write_sonata",
]
