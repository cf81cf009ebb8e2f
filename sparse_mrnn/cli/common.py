"""Parts that commands share: consoles, errors as one message, options over settings, pictures."""

from __future__ import annotations

import functools
import inspect
import json
import math
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_type_hints

import typer
from rich.console import Console
from rich.markup import escape
from typer.models import OptionInfo

from sparse_mrnn.errors import ConfigError, SparseMRNNError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

ABOUT = "Large multi-regional recurrent networks, sparse throughout."
NETWORK_HELP = "A saved network, a JSON configuration, a SONATA folder, or a shipped example (celegans)."
STIM_HELP = "Stimulate, in the form above; repeatable."
FORMS = """\
Forms of stimuli and interventions; times are in ms, or as 500ms or 2s:

  --stim REGION:AMPLITUDE[:START[:STOP]]
  --lesion REGION[:START[:STOP]]
  --clamp REGION:VALUE[:START[:STOP]]
  --gain SOURCE:TARGET:FACTOR[:START[:STOP]]

REGION is a region, a parent, an input, the id of a unit, a column and its values (side=left), or a file of
ids (@ids.txt)."""
"""Forms that the help of `simulate` shows; one line each, which 80 columns do not cut."""
JSON_HELP = "Print JSON, for programs."

app = typer.Typer(no_args_is_help=True)
out = Console()
err = Console(stderr=True)

Network = Annotated[str, typer.Argument(metavar="NET", help=NETWORK_HELP)]
Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Model = TypeVar("Model", bound="BaseModel")
Run = TypeVar("Run", bound=Callable[..., Any])


def say(text: str, *, wrap: bool = True) -> None:
    """Print text as it is, without markup or colours; a path is better not wrapped."""
    out.print(escape(text), soft_wrap=not wrap, highlight=False)


options_of_command: ContextVar[dict[str, tuple[str, str]]] = ContextVar("options_of_command")
"""Options of the command that runs, by the Python argument they are: what sets it, and what sets it False."""
MODES = {"mode='resume'": "--resume", "mode='overwrite'": "--overwrite"}
ARGUMENT = re.compile(r"\b([a-z_]+)=(True|False|None|'[^']*'|[\d.]*\d)?")


def command(group: typer.Typer, name: str | None = None, *, examples: Sequence[str]) -> Callable[[Run], Run]:
    """Make a command of a function; its help wraps its paragraphs, and ends with examples.

    Indented lines of the docstring stay as they are; FORMS in it stands for the forms of stimuli. Errors that
    the command reports name its options.
    """

    def register(function: Run) -> Run:
        text, known = (inspect.getdoc(function) or "").replace("FORMS", FORMS), _options_of(function)
        paragraphs = [p if p.startswith(" ") else p.replace("\n", " ") for p in text.split("\n\n")]
        shown = "\n".join(["Examples:", *(f"  sparse-mrnn {example}" for example in examples)])

        @functools.wraps(function)
        def run(*args: Any, **given: Any) -> Any:
            token = options_of_command.set(known)
            out.quiet = bool(given.get("as_json"))  # print_json writes past the console
            try:
                return function(*args, **given)
            finally:
                out.quiet = False
                options_of_command.reset(token)

        group.command(name, help="\n\n".join(paragraphs), epilog=shown)(run)
        return function

    return register


def _options_of(function: Callable[..., Any]) -> dict[str, tuple[str, str]]:
    found = {}
    for name, hint in get_type_hints(function, include_extras=True).items():
        own = [each for each in get_args(hint)[1:] if isinstance(each, OptionInfo)]
        declared = [text for each in own for text in each.param_decls or () if text.startswith("--")]
        option = f"--{name.replace('_', '-')}"
        yes, _, no = declared[0].partition("/") if declared else (option, "", f"--no-{option[2:]}")
        if own:
            found[name] = yes, no or f"without {yes}"
    return found


def in_options(text: str) -> str:
    """Say in options of the running command what a message of the library says in arguments of Python.

    Examples
    --------
    >>> token = options_of_command.set({"triangle": ("--triangle", ""), "overwrite": ("--overwrite", "")})
    >>> in_options("give triangle='mirror', or overwrite=True; delay=3 is not an option here")
    'give --triangle mirror, or --overwrite; delay=3 is not an option here'
    >>> options_of_command.reset(token)
    """
    known = options_of_command.get({})

    def option(match: re.Match[str]) -> str:
        name, value = match[1], match[2] or ""
        name = name if name in known else name.removesuffix("s")
        if match[0] in MODES and MODES[match[0]][2:] in known:
            return MODES[match[0]]
        if name not in known or value == "None":
            return match[0]
        yes, no = known[name]
        shown = value[1:-1] or '""' if value.startswith("'") else value
        return no if value == "False" else yes if value in ("True", "") else f"{yes} {shown}"

    return ARGUMENT.sub(option, text)


def time_option(help: str, *names: str) -> Any:
    """Declare an option that is a time: a number of ms, or with its unit, as 500ms or 2s."""

    def parsed(text: str) -> float:
        from sparse_mrnn.stimulus.windows import number_or_time

        return number_or_time(str(text))

    return typer.Option(*names, help=help, metavar="TIME", parser=parsed)


def check_out(
    path: Path | None, *, overwrite: bool, resume: bool = False, option: str = "--out",
    what: str = "a result",
) -> None:
    """Refuse to replace what is at a path, unless asked; options about it need the path."""
    asked = " and ".join(name for name, on in (("--overwrite", overwrite), ("--resume", resume)) if on)
    if overwrite and resume:
        raise ConfigError(f"{asked} exclude each other.")
    if path is None and asked:
        raise ConfigError(f"{asked} is about {what} on disk; say which with {option}.")
    if path is not None and path.exists() and not asked:
        raise ConfigError(f"{option} {path} exists; add --overwrite to replace it, or choose another path.")


def print_json(found: Any) -> None:
    """Print a result as JSON, for programs; what is not a finite number is null."""
    import numpy as np

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple | np.ndarray):
            return [plain(each) for each in value]
        if isinstance(value, complex | np.complexfloating):
            return {"real": plain(value.real), "imag": plain(value.imag)}
        value = value.item() if isinstance(value, np.generic) else value
        return None if isinstance(value, float) and not math.isfinite(value) else value

    sys.stdout.write(json.dumps(plain(found), indent=1) + "\n")


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
        err.print(f"[bold red]error:[/] {escape(in_options(str(error)))}", soft_wrap=True)
        raise typer.Exit(1) from None


@contextmanager
def notes() -> Iterator[None]:
    """Show each warning at once, as a note of one line."""
    shown: set[str] = set()

    def show(message: Warning | str, *where: object, **more: object) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            text = escape(in_options(str(message)))
            err.print(f"[yellow]note:[/] {text}", soft_wrap=True, highlight=False)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


def with_options(model: Model, options: dict[str, Any], names: dict[str, str] | None = None) -> Model:
    """Lay options over a model; ``names`` are of options that are not named as their field."""
    from pydantic import ValidationError

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return type(model).model_validate({**model.model_dump(exclude_unset=True), **given})
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
