"""sparse-mrnn simulate."""

from __future__ import annotations

import os
import secrets
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.markup import escape
from typer import Option

from sparse_mrnn.cli.common import (
    STIM_HELP,
    Network,
    app,
    check_out,
    command,
    err,
    notes,
    out,
    report_errors,
    say,
    time_option,
    with_options,
)
from sparse_mrnn.cli.networks import NamedNetwork, load_network, stays_at_zero
from sparse_mrnn.errors import DivergenceError, SimulationStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import xarray

    from sparse_mrnn.declaration.config import SimulationConfig
    from sparse_mrnn.distributed import Ranks
    from sparse_mrnn.simulation.options import SimulationOptions

LESION_HELP = "Silence units, in the form above; repeatable."
CLAMP_HELP = "Hold the activity of units, in the form above; repeatable."
GAIN_HELP = "Multiply the weights between two regions, in the form above; repeatable."
FILE_HELP = "JSON with stimuli, interventions, record and settings, over the network's own."
NOTHING_DRIVES = (
    "nothing drives this network: it has no stimulus, noise or tonic input and starts at 0, so it stays at "
    "0. Give it a --stim REGION:AMPLITUDE, or --noise."
)


@command(app, examples=(
    "simulate celegans --stim ALML:1:50:250 --out run.zarr",
    "simulate celegans --duration 2s --lesion AVAL:500ms --unit AVAR",
    "simulate net.json --stim @ids.txt:1:50:250 --out run.zarr --resume",
))
def simulate(
    config: Network,
    model: Annotated[str | None, Option(help="leaky, elman or lif (spiking units).")] = None,
    duration: Annotated[float | None, time_option("Simulated time, ms.")] = None,
    dt: Annotated[float | None, time_option("Time step, ms.")] = None,
    tau: Annotated[float | None, time_option("Time constant, ms.")] = None,
    activation: Annotated[str | None, Option(help="relu, tanh, sigmoid, softplus or linear.")] = None,
    spectral_radius: Annotated[float | None, Option(help="Scale the recurrent weights to it.")] = None,
    batch: Annotated[int | None, Option(help="Trials.")] = None,
    seed: Annotated[int | None, Option(help="Of synapses, weights, noise and stimuli.")] = None,
    device: Annotated[str | None, Option(help="cpu, cuda, ...; default: CUDA if there is one.")] = None,
    noise: Annotated[bool | None, Option("--noise/--no-noise", help="Add the network's noise.")] = None,
    stim: Annotated[list[str] | None, Option(help=STIM_HELP)] = None,
    lesion: Annotated[list[str] | None, Option(help=LESION_HELP)] = None,
    clamp: Annotated[list[str] | None, Option(help=CLAMP_HELP)] = None,
    gain: Annotated[list[str] | None, Option(help=GAIN_HELP)] = None,
    simulation: Annotated[Path | None, Option(metavar="FILE", help=FILE_HELP)] = None,
    out_path: Annotated[Path | None, Option("--out", help="Zarr store to write the recording to.")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing recording.")] = False,
    resume: Annotated[bool, Option("--resume", help="Go on with the run in --out, or begin it.")] = False,
    yes: Annotated[bool, Option("--yes", help="Begin even if the recording may not fit.")] = False,
    what: Annotated[list[str] | None, Option(help="units, mean, variance or spikes; repeatable.")] = None,
    variable: Annotated[list[str] | None, Option(help="Record h (activity) or x (state).")] = None,
    region: Annotated[list[str] | None, Option(help="Record only this region; repeatable.")] = None,
    unit: Annotated[list[str] | None, Option(help="Record only this unit id; repeatable.")] = None,
    every: Annotated[int | None, Option(help="Record every so many steps.")] = None,
    dtype: Annotated[str | None, Option(help="Record as float16, float32 or float64.")] = None,
    checkpoint_seconds: Annotated[float, Option(help="Seconds between two checkpoints.")] = 30.0,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Errors and warnings only.")] = False,
    log: Annotated[Path | None, Option(help="Append JSON lines about the run to this file.")] = None,
    partition: Annotated[str, Option(help="Under torchrun: balanced, metis or regions.")] = "balanced",
) -> None:
    """Simulate a network and record its activity.

    --stim replaces the stimuli of the configuration; --lesion, --clamp and --gain its interventions. Started
    by torchrun, the network is divided among its processes.

    FORMS
    """
    with report_errors(), _ranks() as ranks:
        from sparse_mrnn.recording import summary
        from sparse_mrnn.simulation.options import SimulationOptions
        from sparse_mrnn.stimulus import Clamp, Gain, Lesion, Stimulus

        check_out(out_path, overwrite=overwrite, resume=resume, what="a recording")
        given: dict[str, Any] = dict(duration=duration, dt=dt, batch=batch, seed=seed, noise=noise)
        given |= dict(model=model, tau=tau, activation=activation, spectral_radius=spectral_radius)
        by_rows = ranks is not None and partition != "metis"  # METIS needs all synapses
        named = load_network(config, simulation, by_rows=by_rows, **given)
        settings = named.settings
        begun = out_path if resume else None
        chosen = _seed(settings, begun) if ranks is None else ranks.broadcast(lambda: _seed(settings, begun))
        settings = named.settings = settings.model_copy(update={"seed": chosen})
        quiet = quiet or (ranks is not None and ranks.rank > 0)
        given = dict(what=what, variables=variable, regions=region, units=unit, every=every, dtype=dtype)
        names = {"variables": "variable", "regions": "region", "units": "unit"}
        record = with_options(settings.record, {k: v for k, v in given.items() if v != []}, names)
        kinds: dict[Any, list[str] | None] = {Lesion: lesion, Clamp: clamp, Gain: gain}
        interventions = [kind.parse(text) for kind, texts in kinds.items() for text in texts or ()]
        options = SimulationOptions(
            settings.duration,
            batch=settings.batch,
            stimulus=tuple(map(Stimulus.parse, stim) if stim else settings.stimuli()),
            interventions=tuple(interventions or settings.intervention_objects()),
            record=record.to_record(),
            noise=settings.noise,
            seed=chosen,
            out=out_path,
            mode="resume" if resume else "overwrite" if overwrite else "create",
            checkpoint_seconds=checkpoint_seconds,
            allow_large=yes,
            progress=not quiet,
            log=log,
        )
        try:
            with notes():
                options.count_steps(settings.dt)  # refused before a large network is built
                told = (lambda text: None) if quiet else say
                recording = (
                    _in_one_process(named, options, device, told)
                    if ranks is None
                    else _on_ranks(named, options, device, partition, told)
                )
        except SimulationStopped as stopped:
            err.print(f"[yellow]{escape(str(stopped))}[/]", soft_wrap=True)
            raise typer.Exit(130) from None
        except DivergenceError as error:
            err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(2) from None
        if quiet or recording is None:
            return
        if out_path is not None:
            say(f"wrote {out_path}, {decimal(recording.nbytes)} uncompressed", wrap=False)
        out.print(summary(recording))


def _in_one_process(
    named: NamedNetwork, options: SimulationOptions, device: str | None, told: Callable[[str], None]
) -> xarray.Dataset:
    from sparse_mrnn.simulation.run import run_in_one_process

    net = named.build(device)
    if stays_at_zero(net, options.stimulus, options.interventions, noise=options.noise):
        warnings.warn(NOTHING_DRIVES, stacklevel=1)
    units, synapses = net.graph.n_units, net.weights("recurrent").nnz
    told(f"{units:,} units, {synapses:,} synapses on {net.device}; seed {options.seed}")
    recording: xarray.Dataset = run_in_one_process(net, options)
    return recording


def _on_ranks(
    named: NamedNetwork, options: SimulationOptions, device: str | None, partition: str,
    told: Callable[[str], None],
) -> xarray.Dataset | None:
    from sparse_mrnn.distributed import sharded_network
    from sparse_mrnn.distributed.streaming import run_on_ranks

    net = sharded_network(named.graph, named.settings, partition=partition, device=device)
    report = net.halo_report()
    halo = f"{report.volume:,} units sent a step"
    if report.steps_per_message > 1:
        halo += f", {report.steps_per_message} steps at once"
    size = f"{net.layout.n:,} units, {sum(report.synapses):,} synapses"
    told(f"{size} on {net.ranks.size} ranks; {halo}; seed {options.seed}")
    return run_on_ranks(net, options)


@contextmanager
def _ranks() -> Iterator[Ranks | None]:
    """Join the processes that torchrun has started; None without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield None
        return
    from sparse_mrnn.distributed import joined

    with joined() as ranks:
        yield ranks


def _seed(settings: SimulationConfig, begun: Path | None) -> int:
    """Return the seed given, or that of the run to be resumed, or a new one."""
    from sparse_mrnn.recording.reading import is_recording, read_metadata

    if settings.seed is not None:
        return settings.seed
    if begun is not None and is_recording(begun):
        return int(read_metadata(begun).attributes["seed"])
    return secrets.randbits(62)
