"""The command line, one command a file: each registers itself on ``app``."""

from sparse_mrnn.cli import bench, import_, info, plot, schema, simulate, spectrum
from sparse_mrnn.cli.common import app

__all__ = ["app", "bench", "import_", "info", "main", "plot", "schema", "simulate", "spectrum"]


def main() -> None:
    """Entry point of ``sparse-mrnn``."""
    app()
