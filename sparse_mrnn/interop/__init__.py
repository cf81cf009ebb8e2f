"""Exchange of networks with other software."""

from sparse_mrnn.interop.sonata import read_sonata, write_sonata

__all__ = ["read_sonata", "write_sonata"]
