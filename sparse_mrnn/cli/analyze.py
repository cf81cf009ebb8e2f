"""sparse-mrnn analyze."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from sparse_mrnn.cli.common import (
    Json,
    Network,
    app,
    check_out,
    command,
    notes,
    out,
    picture_writer,
    print_json,
    report_errors,
    say,
    time_option,
)
from sparse_mrnn.cli.networks import NamedNetwork, load_network, recorded_network, stays_at_zero
from sparse_mrnn.errors import AnalysisError, ConfigError, StimulusError

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray

    from sparse_mrnn.analysis import Modes
    from sparse_mrnn.analysis.result import Result
    from sparse_mrnn.models.network import mRNNBase

analyze = typer.Typer(no_args_is_help=True, help="Fixed points, modes, flow, chaos, lesions, currents.")
app.add_typer(analyze, name="analyze")

Stim = Annotated[
    list[str] | None, Option(metavar="REGION:AMPLITUDE", help="Constant stimulus; repeatable.")
]
Regions = Annotated[
    list[str] | None, Option("--region", help="Only this region or parent, the others held; repeatable.")
]
Seed = Annotated[int | None, Option(help="Of the network and the draws; default: the network's, or 0.")]
Save = Annotated[Path | None, Option(help="Zarr store to write the result to.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace an existing result.")]
Out = Annotated[Path | None, Option("--out", help="Picture: .png, .svg or .pdf.")]
FORM = "constant stimulus as REGION:AMPLITUDE"
PLAIN: dict[str, Any] = dict(title_justify="left", box=None)


class Setting:
    """Network of a command, its seed and constant drive, and the files of the result."""

    def __init__(
        self, config: str, seed: int | None, save: Path | None, overwrite: bool, out_path: Path | None
    ) -> None:
        self.save, self.overwrite = save, overwrite
        check_out(save, overwrite=overwrite, option="--save")
        self.write: Callable[[Any], None] | None = None if out_path is None else picture_writer(out_path)
        self.named: NamedNetwork = load_network(config, seed=seed)
        self.seed = self.named.settings.seed or 0
        net = self.named.build("cpu", seed=self.seed)
        if net.equation.spiking:
            raise ConfigError(f"{config}: analyses are of networks of rates, and this one has spikes.")
        self.net: mRNNBase = net

    def constant(self, texts: list[str] | None) -> dict[str, Any]:
        """Return constant inputs and currents, as the functions of the analysis take them."""
        import numpy as np

        from sparse_mrnn.stimulus.windows import split_text

        drive = {kind: np.zeros(self.net.layout(kind).n) for kind in ("input", "recurrent")}
        for text in texts or ():
            name, (amplitude,) = split_text(text, FORM, StimulusError, numbers=(1, 1))
            kind, units = self.net.names.find(name, "--stim")
            drive[kind][units] += amplitude
        return dict(inputs=drive["input"], stim=drive["recurrent"])

    def finish(self, result: Result, draw: Callable[[], Any], *, as_json: bool) -> None:
        """Save, draw and print the result, if asked."""
        if self.save is not None:
            result.save(self.save, overwrite=self.overwrite)
            say(f"wrote {self.save}", wrap=False)
        if self.write is not None:
            self.write(draw())
        if as_json:
            print_json({each.name: getattr(result, each.name) for each in fields(result)})  # type: ignore[arg-type]


@command(analyze, "fixed-points", examples=(
    "analyze fixed-points celegans --stim ALML:1 --out points.png",
    "analyze fixed-points net.json --starts 200 --save points.zarr",
))
def fixed_points(
    config: Network,
    stim: Stim = None,
    region: Regions = None,
    starts: Annotated[int, Option(min=1, help="States to search from.")] = 64,
    tol: Annotated[float, Option(help="Speed |v| below which a state is fixed.")] = 1e-8,
    show: Annotated[int, Option(min=1, help="Points in the table at most.")] = 20,
    seed: Seed = None,
    save: Save = None,
    overwrite: Overwrite = False,
    out_path: Out = None,
    as_json: Json = False,
) -> None:
    """Find fixed points under constant input, and how stable they are."""
    with report_errors(), notes():
        from rich.table import Table

        from sparse_mrnn.analysis import SolverOptions, find_fixed_points

        setting = Setting(config, seed, save, overwrite, out_path)
        options: dict[str, Any] = dict(options=SolverOptions(tol=tol), starts=starts, seed=setting.seed)
        points = find_fixed_points(setting.net, regions=region or None, **setting.constant(stim), **options)
        say(points.diagnostics)
        if not len(points):
            raise typer.Exit(1)
        table = Table("point", "stability", "modulus", "starts here", "speed", "rms of h", **PLAIN)
        for k in range(min(show, len(points))):
            lead = f"{abs(points.eigenvalues[k, 0]):.6f}" if points.stability[k] != "unknown" else "?"
            size = float((points.h[k] ** 2).mean() ** 0.5)
            far = ", outlier" if points.outlier[k] else ""
            kind, here = f"{points.stability[k]}{far}", f"{points.starts_here[k]}"
            table.add_row(str(k), kind, lead, here, f"{points.speed[k]:.1g}", f"{size:.4g}")
        out.print(table)
        if show < len(points):
            say(f"{len(points) - show} more; --show {len(points)} lists all.")
        setting.finish(points, points.plot, as_json=as_json)


@command(analyze, examples=(
    "analyze linearize celegans --k 10",
    "analyze linearize net.json --points points.zarr --point 1",
))
def linearize(
    config: Network,
    k: Annotated[int, Option("--k", min=1, help="Modes to find.")] = 6,
    kind: Annotated[str, Option(help="step (of one time step) or flow (continuous, per ms).")] = "flow",
    stim: Stim = None,
    region: Regions = None,
    points: Annotated[Path | None, Option(help="Fixed points that were saved before.")] = None,
    point: Annotated[int, Option(min=0, help="Which of them.")] = 0,
    seed: Seed = None,
    save: Save = None,
    overwrite: Overwrite = False,
    out_path: Out = None,
    as_json: Json = False,
) -> None:
    """Show the leading modes of the Jacobian at a fixed point, and the regions they are in.

    The point is one of --points, or the one nearest to the state in which the network settles from its
    initial condition, without noise.
    """
    with report_errors(), notes():
        from sparse_mrnn.analysis import FixedPoints, find_fixed_points, run_states
        from sparse_mrnn.analysis import linearize as linear

        setting = Setting(config, seed, save, overwrite, out_path)
        net, drive, regions = setting.net, setting.constant(stim), region or None
        if points is not None:
            found = FixedPoints.load(points)
            if point >= len(found):
                raise ConfigError(f"--point {point}: {points} has points 0 to {len(found) - 1}.")
            state = found.state[point]
        else:
            start = run_states(net, 2000, x0=_initial(net), **drive)[:, -1]
            found = find_fixed_points(net, x0=start, regions=regions, eigenvalues=0, **drive)
            if not len(found):
                raise AnalysisError(found.diagnostics)
            state = found.state[0]
        at = linear(net, state, regions=regions, **drive)
        modes = at.modes(min(k, len(at.units)), kind)
        where = f"{len(at.regions)} region{'s' if len(at.regions) > 1 else ''}"
        say(f"{len(at.units):,} units in {where}; speed |v| = {at.speed:.1g} at the state")
        _show_modes(modes)
        setting.finish(modes, modes.plot, as_json=as_json)


def _initial(net: mRNNBase) -> Any:
    """Return the state a run starts from: x, or h of an Elman net."""
    from sparse_mrnn.models.elman import ElmanmRNN

    x = net.initial_condition.detach().double()
    return net.activation_segments.apply(x) if isinstance(net, ElmanmRNN) else x


def _show_modes(modes: Modes) -> None:
    from rich.table import Table

    unit = ", per ms" if modes.kind == "flow" else ""
    table = Table(f"eigenvalue{unit}", "time constant", "frequency", "regions", **PLAIN)
    columns = modes.eigenvalues, modes.timescale, modes.grows, modes.frequency, modes.participation
    for value, time, grows, frequency, share in zip(*columns, strict=True):
        sign = "-" if value.imag < 0 else "+"
        text = f"{value.real:.4g} {sign} {abs(value.imag):.4g}i" if value.imag else f"{value.real:.4g}"
        order = [r for r in share.argsort()[::-1][:3] if share[r] >= 0.01]
        where = ", ".join(f"{modes.region[r]} {100 * share[r]:.0f}%" for r in order)
        constant = f"{time:.4g} ms (grows)" if grows else f"{time:.4g} ms"
        table.add_row(text, constant, f"{frequency:.3g} Hz", where)
    out.print(table)


@command(analyze, examples=(
    "analyze flow net.json --trials 32 --out flow.png",
))
def flow(
    config: Network,
    stim: Stim = None,
    region: Regions = None,
    trials: Annotated[int, Option(min=1, help="Runs from states around the initial condition.")] = 16,
    duration: Annotated[float, time_option("Of each run, ms.")] = 1000.0,
    grid: Annotated[int, Option(min=2, help="Points along each axis.")] = 24,
    arrows: Annotated[bool, Option("--arrows", help="Draw arrows, not stream lines.")] = False,
    linear: Annotated[bool, Option("--linear", help="Draw the linearisation at the mean state.")] = False,
    seed: Seed = None,
    save: Save = None,
    overwrite: Overwrite = False,
    out_path: Out = None,
    as_json: Json = False,
) -> None:
    """Show the flow on the plane of two principal components of runs, with the fixed points."""
    with report_errors(), notes():
        from sparse_mrnn.analysis import find_fixed_points, flow_field, run_states, sample_states

        setting = Setting(config, seed, save, overwrite, out_path)
        net, drive, seed = setting.net, setting.constant(stim), setting.seed
        steps = max(2, round(duration / net.dt))
        paths = run_states(net, steps, trials=trials, seed=seed, **drive)
        field = flow_field(net, paths, regions=region or None, grid=grid, **drive)
        points = find_fixed_points(net, x0=sample_states(paths, 64, seed=seed), **drive)
        for axis, label, at in ((1, field.labels[0], field.axis1), (2, field.labels[1], field.axis2)):
            say(f"axis {axis}: {label}, {at[0]:.3g} to {at[-1]:.3g}")
        speed = field.speed[0]
        row, column = divmod(int(speed.argmin()), speed.shape[1])
        where = f"({field.axis1[column]:.3g}, {field.axis2[row]:.3g})"
        say(f"speed on the grid: {speed.min():.3g} per ms at {where}, to {speed.max():.3g}")
        say(points.diagnostics)
        kind: Any = "quiver" if arrows else "stream"
        look: dict[str, Any] = dict(kind=kind, linear=linear, fixed_points=points)
        setting.finish(field, lambda: field.plot(**look), as_json=as_json)


@command(analyze, examples=(
    "analyze lyapunov net.json --k 10 --steps 20000",
))
def lyapunov(
    config: Network,
    k: Annotated[int, Option("--k", min=1, help="Exponents to find.")] = 4,
    stim: Stim = None,
    steps: Annotated[int, Option(min=10, help="Time steps that count.")] = 10_000,
    transient: Annotated[int, Option(min=0, help="Time steps before them.")] = 2_000,
    interval: Annotated[int, Option(min=1, help="Time steps between two orthonormalisations.")] = 10,
    seed: Seed = None,
    save: Save = None,
    overwrite: Overwrite = False,
    out_path: Out = None,
    as_json: Json = False,
) -> None:
    """Show the largest Lyapunov exponents under constant input."""
    with report_errors(), notes():
        from rich.table import Table

        from sparse_mrnn.analysis import lyapunov_spectrum

        setting = Setting(config, seed, save, overwrite, out_path)
        net, length = setting.net, dict(steps=steps, transient=transient, interval=interval)
        k = min(k, net.layout().n)
        found = lyapunov_spectrum(net, k, seed=setting.seed, **setting.constant(stim), **length)
        table = Table("exponent", "per second", "standard error", "per time step", **PLAIN)
        for i, (value, error) in enumerate(zip(found.exponents, found.error, strict=True), 1):
            table.add_row(str(i), f"{1000 * value:.4g}", f"{1000 * error:.1g}", f"{value * found.dt:.4g}")
        out.print(table)
        dimension = found.kaplan_yorke
        chaotic = found.exponents[0] > 3 * found.error[0]
        say("chaotic" if chaotic else "not chaotic: the largest exponent is not above 0 by 3 standard errors")
        if chaotic:
            more = "needs more exponents (--k)" if dimension != dimension else f"{dimension:.3g}"
            say(f"Kaplan-Yorke dimension: {more}")
        setting.finish(found, found.plot, as_json=as_json)


@command(analyze, examples=(
    "analyze lesions celegans --stim ALML:1 --out lesions.png",
    "analyze lesions net.json --duration 1s --stim cue:1:100:300",
))
def lesions(
    config: Network,
    duration: Annotated[float | None, time_option("Simulated time, ms.")] = None,
    stim: Annotated[list[str] | None, Option(help="Stimulate, in a form of simulate; repeatable.")] = None,
    region: Annotated[list[str] | None, Option(help="Lesion only this one; repeatable.")] = None,
    hold: Annotated[bool, Option("--hold", help="Hold the activity at its mean instead of 0.")] = False,
    seed: Seed = None,
    save: Save = None,
    overwrite: Overwrite = False,
    out_path: Out = None,
    as_json: Json = False,
) -> None:
    """Lesion every region in turn, and tabulate what it does to the others' activity.

    Runs have no noise, and the stimuli of the network or --stim. An entry is the rms of the change of
    activity, relative to the activity itself; changes below 0.001 are left out.
    """
    with report_errors(), notes():
        from rich.table import Table

        from sparse_mrnn.analysis import perturbation

        setting = Setting(config, seed, save, overwrite, out_path)
        inputs, stimulation = _driven(setting, duration, stim)
        kind: Any = "hold" if hold else "lesion"
        found = perturbation(setting.net, inputs, regions=region or None, stim=stimulation, kind=kind)
        table = Table(f"{kind} of", "most changed", **PLAIN)
        room = out.width - 6 - max(len(str(name)) for name in found.target)
        for target, change in zip(found.target, found.activity_change, strict=True):
            shown = ""
            for r in change.argsort()[::-1]:
                more = f"{', ' if shown else ''}{found.region[r]} {change[r]:.2g}"
                if found.region[r] != target and change[r] >= 1e-3 and len(shown + more) <= room:
                    shown += more
            table.add_row(str(target), shown or "no other region")
        out.print(table)
        setting.finish(found, found.plot, as_json=as_json)


def _driven(setting: Setting, duration: float | None, texts: list[str] | None) -> tuple[Any, Any]:
    """Return inputs and currents of every step of one trial, as ``forward`` takes them."""
    from sparse_mrnn.simulation.options import SimulationOptions
    from sparse_mrnn.simulation.stimulus_drive import stimulus_sequences
    from sparse_mrnn.stimulus import Stimulus

    net, settings = setting.net, setting.named.settings
    stimuli = [Stimulus.parse(text) for text in texts] if texts else settings.stimuli()
    if stays_at_zero(net, stimuli, [], noise=False):
        raise ConfigError("nothing drives this network, so lesions change nothing; give it a --stim.")
    steps = SimulationOptions(settings.duration if duration is None else duration).count_steps(net.dt)
    u, current = stimulus_sequences(net, stimuli, steps=steps, seed=setting.seed)
    return (u[None], current[None]) if net.batch_first else (u[:, None], current[:, None])


@command(analyze, examples=(
    "analyze currents run.zarr --by projection --out currents.png",
))
def currents(
    run: Annotated[Path, typer.Argument(help="A recording of h of all units, in every time step.")],
    net: Annotated[str | None, Option(help="What was recorded, if the recording does not carry it.")] = None,
    by: Annotated[str, Option(help="Sources: region, or projection (each key apart).")] = "region",
    split: Annotated[bool, Option("--split", help="Excitatory and inhibitory currents apart.")] = False,
    target: Annotated[list[str] | None, Option(help="Only into this region or unit; repeatable.")] = None,
    save: Annotated[Path | None, Option(help="Zarr store for the currents into every unit.")] = None,
    overwrite: Overwrite = False,
    out_path: Out = None,
    as_json: Json = False,
) -> None:
    """Show the currents that regions send each other over a recorded run.

    An entry is the rms over time of the mean current into a unit of the target; the strongest come first.
    """
    with report_errors(), notes():
        import numpy as np
        from rich.table import Table

        from sparse_mrnn.analysis import currents as currents_of
        from sparse_mrnn.plot import plot_currents

        write = None if out_path is None else picture_writer(out_path)
        check_out(save, overwrite=overwrite, option="--save")
        network = recorded_network(run, net)
        options: dict[str, Any] = dict(by=by, sign="split" if split else "total", targets=target or None)
        found = currents_of(network, run, what="mean", **options)
        power: xarray.DataArray = (found.astype(float) ** 2).mean(("trial", "time"))
        table = Table("into", "from", **PLAIN)
        labels = [str(name) for name in found["source"].values]
        if by == "projection":
            keys = found["key"].values.tolist()
            labels = [n if k in ("", "default") else f"{n} ({k})" for n, k in zip(labels, keys, strict=True)]
        signs = [" exc", " inh"] if split else [""]
        room = out.width - 6 - max(map(len, found["region"].values.tolist()))
        for region in found["region"].values.tolist():
            size, shown = np.sqrt(power.sel(region=region).values.ravel()), ""
            for k in size.argsort()[::-1].tolist():
                name = labels[k // len(signs)] + signs[k % len(signs)]
                more = f"{', ' if shown else ''}{name} {size[k]:.2g}"
                if size[k] > 0 and len(shown + more) <= room:
                    shown += more
            table.add_row(region, shown or "nothing")
        out.print(table)
        if save is not None:
            currents_of(network, run, out=save, overwrite=overwrite, **options)
            say(f"wrote {save}", wrap=False)
        if write is not None:
            write(plot_currents(found))
        if as_json:
            columns = [name + sign for name in labels for sign in signs]
            into = found["region"].values.tolist()
            sizes = (np.sqrt(power.sel(region=region).values.ravel()).tolist() for region in into)
            rows = zip(into, sizes, strict=True)
            print_json({name: dict(zip(columns, row, strict=True)) for name, row in rows})
