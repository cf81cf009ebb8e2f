"""What the commands share: consoles, errors as one message, and loading a network."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sparse_mrnn.errors import SparseMRNNError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparse_mrnn.config import SimulationConfig
    from sparse_mrnn.graph import RegionGraph

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Large multi-regional recurrent networks, sparse throughout.")
out = Console()
err = Console(stderr=True)

ConfigArgument = Annotated[
    str, typer.Argument(metavar="NET", help="A JSON configuration, a shipped example (celegans), or a network made by import.")
]


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn our errors, and an error reading or writing a file, into one message and exit status 1."""
    try:
        yield
    except (SparseMRNNError, OSError) as error:
        err.print(f"[bold red]error:[/] {plain(error)}", soft_wrap=True)
        raise typer.Exit(1) from None


def plain(error: BaseException) -> str:
    from rich.markup import escape

    return escape(str(error))


def load_network(source: str) -> tuple[RegionGraph, SimulationConfig | None]:
    """The network a user names, and how its configuration says to simulate it.

    Parameters
    ----------
    source : str
        A JSON configuration, a shipped example, or a SONATA network such as ``sparse-mrnn import`` writes.
    """
    from sparse_mrnn.config import load_config, read_config
    from sparse_mrnn.data import EXAMPLES, example_path
    from sparse_mrnn.errors import ConfigError

    path = Path(source)
    if path.is_dir():
        from sparse_mrnn.interop.sonata import is_network, read_sonata

        if not is_network(path):
            raise ConfigError(f"{path} is a folder without circuit_config.json, so no network; make one with: sparse-mrnn import")
        return read_sonata(path)[0], None
    config = load_config(example_path(source) if source in EXAMPLES and not path.exists() else source)
    return read_config(config), config.simulation


def settings_of(simulation: SimulationConfig | None, **options: Any) -> SimulationConfig:
    """A configuration's settings with the options of the command line over them."""
    from pydantic import ValidationError

    from sparse_mrnn.config import SimulationConfig
    from sparse_mrnn.errors import ConfigError

    chosen = (simulation or SimulationConfig()).model_dump()
    chosen.update({name: value for name, value in options.items() if value is not None})
    try:
        return SimulationConfig.model_validate(chosen)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"--{problem['loc'][0]}: {problem['msg']} (got {problem['input']!r}).") from None


def size(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.1f} {unit}" if unit != "B" else f"{int(n)} B"
        n /= 1024
    return f"{n:.1f} TiB"
