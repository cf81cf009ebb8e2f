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

    from sparse_mrnn.config import NetworkConfig, SimulationConfig

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Large multi-regional recurrent networks, sparse throughout.")
out = Console()
err = Console(stderr=True)

ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="A JSON configuration, or a shipped example: celegans.")]


@contextmanager
def told() -> Iterator[None]:
    """Turn our errors, and an error reading or writing a file, into one message and exit status 1."""
    try:
        yield
    except (SparseMRNNError, OSError) as error:
        err.print(f"[bold red]error:[/] {plain(error)}", soft_wrap=True)
        raise typer.Exit(1) from None


def plain(error: BaseException) -> str:
    from rich.markup import escape

    return escape(str(error))


def load(config: str) -> NetworkConfig:
    from sparse_mrnn.config import load_config
    from sparse_mrnn.data import EXAMPLES, example_path

    return load_config(example_path(config) if config in EXAMPLES and not Path(config).exists() else config)


def settings_of(config: NetworkConfig, **options: Any) -> SimulationConfig:
    from pydantic import ValidationError

    from sparse_mrnn.config import SimulationConfig
    from sparse_mrnn.errors import ConfigError

    chosen = (config.simulation or SimulationConfig()).model_dump()
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
