"""The command line, one command a file: each registers itself on ``app``."""

from sparse_mrnn.cli import import_, info, plot, schema, simulate, spectrum
from sparse_mrnn.cli.common import app

__all__ = ["app", "import_", "info", "main", "plot", "schema", "simulate", "spectrum"]


def main() -> None:
    """Entry point of ``sparse-mrnn``."""
    app()
