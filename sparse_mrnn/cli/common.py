"""What the commands share: consoles, errors as one message, loading a network, pictures."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from sparse_mrnn.errors import ConfigError, SparseMRNNError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from sparse_mrnn.config import SimulationConfig
    from sparse_mrnn.graph import RegionGraph

ABOUT = "Large multi-regional recurrent networks, sparse throughout."
NETWORK_HELP = "A JSON configuration, a shipped example (celegans), or a network made by import."

app = typer.Typer(no_args_is_help=True, add_completion=False, help=ABOUT)
out = Console()
err = Console(stderr=True)

Network = Annotated[str, typer.Argument(metavar="NET", help=NETWORK_HELP)]
Model = TypeVar("Model", bound="BaseModel")


def say(text: str, *, wrap: bool = True) -> None:
    """Print text as it is, without markup or colours; a path is better not wrapped."""
    out.print(escape(text), soft_wrap=not wrap, highlight=False)


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn an error of the library, or one reading or writing a file, into one message and exit status 1."""
    try:
        yield
    except (SparseMRNNError, OSError) as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None


def load_network(source: str, **options: Any) -> tuple[RegionGraph, SimulationConfig]:
    """The network a user names, and its settings with the options of the command line over them.

    Parameters
    ----------
    source : str
        A JSON configuration, a shipped example, or a SONATA network such as ``sparse-mrnn import`` writes.
    **options
        Fields of `SimulationConfig`; None where an option was not given.
    """
    from sparse_mrnn.config import SimulationConfig, load_config, read_config
    from sparse_mrnn.data import EXAMPLES, example_path

    path = Path(source)
    if path.is_dir():
        from sparse_mrnn.interop.sonata import is_network, read_sonata

        if not is_network(path):
            what_to_do = "make one with: sparse-mrnn import"
            raise ConfigError(f"{path} is a folder without circuit_config.json, so no network; {what_to_do}")
        return read_sonata(path)[0], with_options(SimulationConfig(), options)
    config = load_config(example_path(source) if source in EXAMPLES and not path.exists() else source)
    return read_config(config), with_options(config.simulation or SimulationConfig(), options)


def with_options(model: Model, options: dict[str, Any], names: dict[str, str] | None = None) -> Model:
    """A model with the options that were given over it; ``names``: of options not named as their field."""
    from pydantic import ValidationError

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return type(model).model_validate({**model.model_dump(), **given})
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0])
        option = (names or {}).get(field, field)
        raise ConfigError(f"--{option}: {problem['msg']} (got {problem['input']!r}).") from None


@contextmanager
def picture(path: Path | None, size: tuple[float, float]) -> Iterator[Any]:
    """New axes, inches wide and high, whose figure is written at the end; None without a path."""
    if path is None:
        yield None
        return
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"--out {path}: the picture's name must end in .png, .svg or .pdf.")
    from sparse_mrnn.plot.figure import new_figure

    ax = new_figure(size).add_subplot()
    yield ax
    path.parent.mkdir(parents=True, exist_ok=True)
    ax.figure.savefig(path, dpi=150)
    say(f"wrote {path}", wrap=False)
