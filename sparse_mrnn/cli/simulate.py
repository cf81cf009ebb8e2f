"""sparse-mrnn simulate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sparse_mrnn.cli.common import ConfigArgument, app, err, load_network, out, plain, settings_of, told
from sparse_mrnn.errors import SimulationStopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparse_mrnn.recording import Recording


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
    with told():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from sparse_mrnn.simulate import build
        from sparse_mrnn.simulate import simulate as run
        from sparse_mrnn.stimulus import Stimulus

        graph, simulation = load_network(config)
        settings = settings_of(simulation, duration=duration, dt=dt, batch=batch, seed=seed, noise=noise)
        if stim:
            stimuli = [Stimulus.parse(text) for text in stim]
        else:
            given = [s.model_dump() for s in settings.stimulus]
            stimuli = [Stimulus(**{**s, "units": s["units"] and tuple(s["units"])}) for s in given]
        net = build(graph, settings, device)
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
            err.print(f"[yellow]{plain(stopped)}{kept}[/]", soft_wrap=True)
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
