"""Parts that commands share: consoles, errors as one message, options over settings, pictures."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from sparse_mrnn.errors import ConfigError, SparseMRNNError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import BaseModel

ABOUT = "Large multi-regional recurrent networks, sparse throughout."
NETWORK_HELP = "A saved network, a JSON configuration, a SONATA folder, or a shipped example (celegans)."

app = typer.Typer(no_args_is_help=True)
out = Console()
err = Console(stderr=True)

Network = Annotated[str, typer.Argument(metavar="NET", help=NETWORK_HELP)]
Model = TypeVar("Model", bound="BaseModel")


def say(text: str, *, wrap: bool = True) -> None:
    """Print text as it is, without markup or colours; a path is better not wrapped."""
    out.print(escape(text), soft_wrap=not wrap, highlight=False)


def examples(*commands: str) -> str:
    """Return example commands as the end of a command's help, each on a line of its own."""
    return "Examples:\n\n" + "\n\n".join(f"  sparse-mrnn {command}" for command in commands)


def show_version(asked: bool) -> None:
    """Print the version and end, if asked."""
    if asked:
        import sparse_mrnn

        out.print(f"sparse-mrnn {sparse_mrnn.__version__}", highlight=False)
        raise typer.Exit


ShowVersion = typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")


@app.callback(help=ABOUT)
def _options(version: Annotated[bool, ShowVersion] = False) -> None:
    """Options before a command."""


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn an error of the library, or one reading or writing a file, into one message and exit status 1."""
    try:
        yield
    except (SparseMRNNError, OSError) as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None


@contextmanager
def notes() -> Iterator[None]:
    """Show each warning at once, as a note of one line."""
    shown: set[str] = set()

    def show(message: Warning | str, *where: object, **more: object) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            err.print(f"[yellow]note:[/] {escape(str(message))}", soft_wrap=True, highlight=False)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


def with_options(model: Model, options: dict[str, Any], names: dict[str, str] | None = None) -> Model:
    """Lay options over a model; ``names`` are of options that are not named as their field."""
    from pydantic import ValidationError

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return type(model).model_validate({**model.model_dump(), **given})
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0])
        option = (names or {}).get(field, field)
        raise ConfigError(f"--{option}: {problem['msg']} (got {problem['input']!r}).") from None


def picture_writer(path: Path) -> Callable[[Any], None]:
    """Make a function that writes the figure of some axes to a file, whose name is checked now."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"--out {path}: the picture's name must end in .png, .svg or .pdf.")
    from sparse_mrnn.plot.figure import without_display

    without_display()
    import matplotlib.pyplot as plt

    def write(ax: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        ax.figure.savefig(path, dpi=150)
        plt.close(ax.figure)
        say(f"wrote {path}", wrap=False)

    return write
