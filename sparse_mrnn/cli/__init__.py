"""Command line, one command a file: each registers itself on ``app``."""

from sparse_mrnn.cli import (
    analyze,
    bench,
    demo,
    doctor,
    import_,
    info,
    plot,
    schema,
    screen,
    simulate,
    spectrum,
)
from sparse_mrnn.cli.common import app

__all__ = [
    "analyze", "app", "bench", "demo", "doctor", "import_", "info", "main", "plot", "schema", "screen",
    "simulate", "spectrum",
]


def main() -> None:
    """Entry point of ``sparse-mrnn``."""
    app(prog_name="sparse-mrnn")
