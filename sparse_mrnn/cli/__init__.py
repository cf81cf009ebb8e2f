"""The command line, one command a file: each registers itself on ``app``."""

from sparse_mrnn.cli import bench, info, plot, schema, simulate
from sparse_mrnn.cli.common import app

__all__ = ["app", "bench", "info", "main", "plot", "schema", "simulate"]


def main() -> None:
    """Entry point of ``sparse-mrnn``."""
    app()
