"""sparse-mrnn simulate."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from sparse_mrnn.cli.common import (
    ConfigArgument,
    app,
    err,
    load_network,
    out,
    plain,
    report_errors,
    settings_of,
    size,
)
from sparse_mrnn.errors import ConfigError, DivergenceError, SimulationStopped

if TYPE_CHECKING:
    import xarray

    from sparse_mrnn.config import SimulationConfig
    from sparse_mrnn.simulation_config import RecordConfig

PIECE_BYTES = 2**26
"""A recording on disk is summarised in pieces of about this size."""


@app.command()
def simulate(
    config: ConfigArgument,
    duration: Annotated[float | None, typer.Option(help="Simulated time, ms.")] = None,
    dt: Annotated[float | None, typer.Option(help="Time step, ms.")] = None,
    batch: Annotated[int | None, typer.Option(help="Trials.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes synapses, weights, noise and random stimuli.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: CUDA where there is one.")] = None,
    noise: Annotated[bool | None, typer.Option("--noise/--no-noise", help="Add the network's noise.")] = None,
    stim: Annotated[
        list[str] | None, typer.Option(help="REGION:AMPLITUDE[:START[:STOP]] in ms; repeatable; replaces the config's.")
    ] = None,
    out_path: Annotated[Path | None, typer.Option("--out", help="Write the recording here, a Zarr store.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing recording.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, or begin it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Begin even if the recording may not fit.")] = False,
    what: Annotated[list[str] | None, typer.Option(help="Record units, mean or variance (per region); repeatable.")] = None,
    variable: Annotated[list[str] | None, typer.Option(help="Record h (activity) or x (state); repeatable.")] = None,
    region: Annotated[list[str] | None, typer.Option(help="Record only this region or parent; repeatable.")] = None,
    unit: Annotated[list[str] | None, typer.Option(help="Record only this unit id; repeatable.")] = None,
    every: Annotated[int | None, typer.Option(help="Record every so many steps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Record as float16, float32 or float64.")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Seconds between two checkpoints.")] = 30.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No bar, no summary; errors and warnings only.")] = False,
    log: Annotated[Path | None, typer.Option(help="Append JSON lines about the run to this file.")] = None,
) -> None:
    """Simulate a network and record its activity."""
    with report_errors():
        from sparse_mrnn.simulation import build_network
        from sparse_mrnn.simulation import simulate as run
        from sparse_mrnn.stimulus import Stimulus

        if out_path is None and (resume or overwrite):
            option = "resume" if resume else "overwrite"
            raise ConfigError(f"--{option} is about a recording on disk; say which with --out.")
        graph, simulation = load_network(config)
        settings = settings_of(simulation, duration=duration, dt=dt, batch=batch, seed=seed, noise=noise)
        chosen = {"what": what, "variables": variable, "regions": region, "units": unit, "every": every, "dtype": dtype}
        record = _record(settings, **{name: value for name, value in chosen.items() if value})
        stimuli = [Stimulus.parse(text) for text in stim] if stim else settings.stimuli()
        try:
            with _notes():
                net = build_network(graph, settings, device)
                if not quiet:
                    synapses = 0 if net.rec is None else net.rec.nnz
                    out.print(f"{net.graph.n_units:,} units, {synapses:,} synapses on {net.device}; seed {net.seed}", highlight=False)
                recording = run(
                    net,
                    settings.duration,
                    batch=settings.batch,
                    stimulus=stimuli,
                    interventions=settings.acts(),
                    record=record.to_record(),
                    noise=settings.noise,
                    seed=settings.seed or 0,
                    out=out_path,
                    mode="resume" if resume else "overwrite" if overwrite else "create",
                    checkpoint_seconds=checkpoint_seconds,
                    allow_large=yes,
                    progress=not quiet,
                    log=log,
                )
        except SimulationStopped as stopped:
            err.print(f"[yellow]{plain(stopped)}[/]", soft_wrap=True)
            raise typer.Exit(130) from None
        except DivergenceError as error:
            err.print(f"[bold red]error:[/] {plain(error)}", soft_wrap=True)
            raise typer.Exit(2) from None
        if quiet:
            return
        if out_path is not None:
            out.print(f"wrote {out_path}, {size(recording.nbytes)} uncompressed", soft_wrap=True, highlight=False)
        out.print(_activity_table(recording))


@contextmanager
def _notes() -> Iterator[None]:
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


def _record(settings: SimulationConfig, **options: object) -> RecordConfig:
    from pydantic import ValidationError

    from sparse_mrnn.simulation_config import RecordConfig

    try:
        return RecordConfig.model_validate({**settings.record.model_dump(), **options})
    except ValidationError as error:
        problem = error.errors()[0]
        option = {"variables": "variable", "regions": "region", "units": "unit"}.get(str(problem["loc"][0]), problem["loc"][0])
        raise ConfigError(f"--{option}: {problem['msg']} (got {problem['input']!r}).") from None


def _activity_table(recording: xarray.Dataset) -> Table:
    """Mean and largest value per region, read piece by piece: a recording may be larger than memory."""
    import numpy as np

    name = next(iter(recording.data_vars))
    data = recording[name]
    regions = recording["region" if data.dims[2] == "unit" else "group"].values
    names = list(dict.fromkeys(regions.tolist()))
    table = Table(title=f"{str(name).replace('_', ', ')} by region", title_justify="left")
    for column in ("region", "units" if data.dims[2] == "unit" else "", "mean", "max"):
        if column:
            table.add_column(column, justify="left" if column == "region" else "right")
    total, top = np.zeros(len(regions)), np.full(len(regions), -np.inf)
    length = max(1, PIECE_BYTES // (8 * data.shape[0] * max(len(regions), 1)))
    for start in range(0, data.shape[1], length):
        part = data.isel(time=slice(start, start + length)).values
        total += part.sum(axis=(0, 1), dtype=float)
        top = np.maximum(top, part.max(axis=(0, 1)))
    samples = data.shape[0] * data.shape[1]
    for region in names:
        here = regions == region
        count = [str(here.sum())] if data.dims[2] == "unit" else []
        table.add_row(region, *count, f"{total[here].mean() / samples:.4g}", f"{top[here].max():.4g}")
    return table
