"""The command line: sparse-mrnn simulate, info, plot, schema."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sparse_mrnn.errors import SimulationStopped, SparseMRNNError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparse_mrnn.config import NetworkConfig, SimulationConfig
    from sparse_mrnn.recording import Recording

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Large multi-regional recurrent networks, sparse throughout.")
out = Console()
err = Console(stderr=True)

ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="A JSON configuration, or a shipped example: celegans.")]


class Kind(StrEnum):
    """What to plot."""

    weights = "weights"
    activity = "activity"
    regions = "regions"


@contextmanager
def _told() -> Iterator[None]:
    """Turn our errors, and an error reading or writing a file, into one message and exit status 1."""
    try:
        yield
    except (SparseMRNNError, OSError) as error:
        err.print(f"[bold red]error:[/] {_plain(error)}", soft_wrap=True)
        raise typer.Exit(1) from None


def _plain(error: BaseException) -> str:
    from rich.markup import escape

    return escape(str(error))


def _load(config: str) -> NetworkConfig:
    from sparse_mrnn.config import load_config
    from sparse_mrnn.data import EXAMPLES, example_path

    return load_config(example_path(config) if config in EXAMPLES and not Path(config).exists() else config)


def _settings(config: NetworkConfig, **options: Any) -> SimulationConfig:
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


@app.command()
def simulate(
    config: ConfigArgument,
    duration: Annotated[float | None, typer.Option(help="Simulated time, ms.")] = None,
    dt: Annotated[float | None, typer.Option(help="Time step, ms.")] = None,
    batch: Annotated[int | None, typer.Option(help="Trials.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes synapses, weights and noise.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: CUDA where there is one.")] = None,
    noise: Annotated[bool | None, typer.Option("--noise/--no-noise", help="Add the network's noise.")] = None,
    stim: Annotated[
        list[str] | None, typer.Option(help="REGION:AMPLITUDE[:START[:STOP]] in ms; repeatable; replaces the config's.")
    ] = None,
    out_path: Annotated[Path | None, typer.Option("--out", help="Write the recording here, a Zarr store.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing recording.")] = False,
) -> None:
    """Simulate a network and record its activity."""
    with _told():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from sparse_mrnn.config import read_config
        from sparse_mrnn.simulate import build
        from sparse_mrnn.simulate import simulate as run
        from sparse_mrnn.stimulus import Stimulus

        loaded = _load(config)
        settings = _settings(loaded, duration=duration, dt=dt, batch=batch, seed=seed, noise=noise)
        if stim:
            stimuli = [Stimulus.parse(text) for text in stim]
        else:
            given = [s.model_dump() for s in settings.stimulus]
            stimuli = [Stimulus(**{**s, "units": s["units"] and tuple(s["units"])}) for s in given]
        net = build(read_config(loaded), settings, device)
        rec = net.rec
        synapses = 0 if rec is None else rec.nnz
        out.print(f"{net.graph.n_units:,} units, {synapses:,} synapses on {net.device}; seed {net.seed}", highlight=False)
        columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeRemainingColumn())
        recording = None
        try:
            with Progress(*columns, console=err, transient=True) as bar:
                task = bar.add_task("", total=None)
                recording = run(
                    net,
                    settings.duration,
                    batch_size=settings.batch,
                    stimulus=stimuli,
                    noise=settings.noise,
                    dt=settings.dt,
                    out=out_path,
                    overwrite=force,
                    progress=lambda done, total: bar.update(task, completed=done, total=total),
                )
        except SimulationStopped as stopped:
            kept = f"; the recording up to there is in {out_path}" if out_path else ""
            err.print(f"[yellow]{_plain(stopped)}{kept}[/]", soft_wrap=True)
            raise typer.Exit(130) from None
        if out_path is not None:
            out.print(f"wrote {out_path}", soft_wrap=True, highlight=False)
        if recording is not None:
            parts: Iterator[Recording] = iter([recording])
        else:
            parts = _pieces(Path(str(out_path)), round(settings.duration / settings.dt), 2**24 // (settings.batch * net.graph.n_units))
        out.print(_activity_table(parts))


def _pieces(path: Path, steps: int, length: int) -> Iterator[Recording]:
    """A recording on disk, piece by piece: it may be larger than memory."""
    from sparse_mrnn.recording import read_recording

    length = max(length, 1)
    for start in range(0, steps, length):
        yield read_recording(path, start, start + length)


def _activity_table(parts: Iterator[Recording]) -> Table:
    table = Table(title="activity h", title_justify="left")
    for column in ("region", "units", "mean", "max"):
        table.add_column(column, justify="left" if column == "region" else "right")
    total: dict[str, float] = {}
    count: dict[str, int] = {}
    top: dict[str, float] = {}
    units: dict[str, int] = {}
    for part in parts:
        for name in dict.fromkeys(part.units.region):
            h = part.region(name)
            units[name] = h.shape[2]
            total[name] = total.get(name, 0.0) + float(h.sum(dtype=float))
            count[name] = count.get(name, 0) + h.size
            top[name] = max(top.get(name, float("-inf")), float(h.max()))
    for name in units:
        table.add_row(name, str(units[name]), f"{total[name] / count[name]:.4g}", f"{top[name]:.4g}")
    return table


@app.command()
def info(
    config: ConfigArgument,
    batch: Annotated[int, typer.Option(help="Batch size of the estimate.")] = 1,
    steps: Annotated[int, typer.Option(help="Time steps of the estimate.")] = 100,
) -> None:
    """Show regions, projections, realised density and the memory a run needs."""
    with _told():
        from sparse_mrnn.config import read_config
        from sparse_mrnn.simulate import build

        loaded = _load(config)
        graph = read_config(loaded)
        settings = _settings(loaded, spectral_radius=None)
        net = build(graph, settings.model_copy(update={"spectral_radius": None}), "cpu")
        out.print(graph)
        if net.rec is None or net.inp is None:
            return
        n, inputs = net.rec.shape[0], net.inp.shape[1]
        density = net.rec.nnz / n**2
        out.print(f"recurrent synapses: {net.rec.nnz:,} (realised density {density:.3%}, {net.rec.nnz / n:.1f} per unit)", highlight=False)
        out.print(f"input synapses: {net.inp.nnz:,} from {inputs} channels", highlight=False)
        for what, training in (("simulating", False), ("training", True)):
            estimate = net.memory_estimate(batch, steps, training)
            out.print(f"memory for {what} {steps} steps, batch {batch}: {_size(estimate.total)}", highlight=False)
        out.print(f"the same weights dense: {_size(4 * n * n)}, and more for mask and sign", highlight=False)


def _size(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.1f} {unit}" if unit != "B" else f"{int(n)} B"
        n /= 1024
    return f"{n:.1f} TiB"


@app.command()
def plot(
    kind: Annotated[Kind, typer.Argument(help="weights and regions take a CONFIG, activity a recording.")],
    source: Annotated[str, typer.Argument(help="A configuration or example; for activity, a recording.")],
    out_path: Annotated[Path, typer.Option("--out", help="Picture to write: .png, .svg or .pdf.")] = Path("figure.png"),
    trial: Annotated[int, typer.Option(help="Trial of a recording.")] = 0,
) -> None:
    """Draw the weight matrix, the graph of regions, or recorded activity."""
    with _told():
        from sparse_mrnn import plot as figures
        from sparse_mrnn.config import read_config
        from sparse_mrnn.errors import ConfigError
        from sparse_mrnn.recording import read_recording
        from sparse_mrnn.simulate import build

        if out_path.suffix not in (".png", ".svg", ".pdf"):
            raise ConfigError(f"--out {out_path}: the picture's name must end in .png, .svg or .pdf.")
        figures._pyplot().switch_backend("agg")
        if kind is Kind.activity:
            ax = figures.plot_activity(read_recording(source), trial)
        else:
            loaded = _load(source)
            graph = read_config(loaded)
            whole = kind is Kind.regions
            ax = figures.plot_regions(graph) if whole else figures.plot_weights(build(graph, _settings(loaded), "cpu"))
        out_path.parent.mkdir(parents=True, exist_ok=True)
        ax.figure.savefig(out_path, dpi=150)  # type: ignore[union-attr]
        out.print(f"wrote {out_path}", soft_wrap=True, highlight=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a configuration."""
    from sparse_mrnn.config import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=1) + "\n")


def main() -> None:
    """Entry point of ``sparse-mrnn``."""
    app()


if __name__ == "__main__":
    main()
