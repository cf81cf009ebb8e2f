"""sparse-mrnn screen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from sparse_mrnn.cli.common import (
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
)
from sparse_mrnn.cli.networks import load_network
from sparse_mrnn.errors import SweepStopped

SHOWN = 1e-3
"""Share of the largest change below which a change is not in the table."""


@command(app, examples=(
    "screen celegans --duration 400 --out screen.zarr",
    "screen celegans --kind silencing --target AVAL --stim ALML:1",
    "plot screen screen.zarr --kind activation --out screen.png",
))  # fmt: skip
def screen(
    config: Network,
    duration: Annotated[float | None, time_option("Length of each run, ms.")] = None,
    by: Annotated[str, Option(help="region, or a column of the units' table.")] = "region",
    target: Annotated[list[str] | None, Option(help="Only this region or value; repeatable.")] = None,
    kind: Annotated[list[str] | None, Option(help="activation or silencing; default: both.")] = None,
    amplitude: Annotated[float, Option(help="Current of an activation.")] = 1.0,
    start: Annotated[float, time_option("Perturb from this time on, ms.")] = 0.0,
    stop: Annotated[float | None, time_option("Perturb until this time, ms.")] = None,
    window: Annotated[
        str | None,
        Option(metavar="FROM:TO", help="Times whose mean is the rate, ms; default: while perturbed."),
    ] = None,
    stim: Annotated[list[str] | None, Option(help="Stimulus of every run, as for simulate.")] = None,
    batch: Annotated[int | None, Option(help="Trials.")] = None,
    noise: Annotated[bool | None, Option("--noise/--no-noise", help="Add the network's noise.")] = None,
    seed: Annotated[int | None, Option(help="Default: the network's, or 0.")] = None,
    device: Annotated[str | None, Option(help="cpu, cuda, ....")] = None,
    out_path: Annotated[Path | None, Option("--out", help="Zarr store to write.")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing screen.")] = False,
    resume: Annotated[bool, Option("--resume", help="Go on with the screen in --out, or begin it.")] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="No table.")] = False,
) -> None:
    """Activate and silence every cell type in turn, and tabulate how the regions' rates change.

    A cell type is a region, or with --by a value of a column of the units' table. After Ctrl-C, --resume goes
    on with the screen in --out.
    """
    with report_errors():
        from rich.markup import escape
        from rich.table import Table

        from sparse_mrnn import analysis
        from sparse_mrnn.analysis.screen import strongest
        from sparse_mrnn.stimulus import Stimulus

        check_out(out_path, overwrite=overwrite, resume=resume, what="a screen")
        named = load_network(config, duration=duration, batch=batch, noise=noise, seed=seed)
        settings = named.settings
        options: dict[str, Any] = dict(
            by=by, targets=target or None, drive=amplitude, start=start, stop=stop, window=_window(window),
            stimulus=[Stimulus.parse(text) for text in stim] if stim else settings.stimuli(),
            batch=settings.batch, noise=settings.noise, seed=settings.seed or 0,
            out=out_path, mode="resume" if resume else "overwrite" if overwrite else "create",
        )  # fmt: skip
        if kind:
            options["kinds"] = kind
        try:
            with notes():
                net = named.build(device, seed=settings.seed or 0)
                found = analysis.screen(net, settings.duration, progress=not quiet, **options)
        except SweepStopped as stopped:
            text = escape(str(stopped).replace("; resume it", "; add --resume"))
            err.print(f"[yellow]{text}[/]", soft_wrap=True)
            raise typer.Exit(130) from None
        if quiet:
            return
        for each in found["kind"].values.tolist():
            table = Table(f"{each} of", "rates changed most, and by how much", title_justify="left", box=None)
            names = found["target"].values.tolist()
            room = out.width - 6 - max(len(f"{each} of"), *map(len, names))
            least = SHOWN * float(abs(found.change).max())
            for name in names:
                shown = ""
                for region, value in strongest(found, each, name):
                    more = f"{', ' if shown else ''}{region} {value:+.2g}"
                    if region != name and abs(value) >= least and len(shown + more) <= room:
                        shown += more
                table.add_row(name, shown or "no other region")
            out.print(table)
        if out_path is not None:
            say(f"wrote {out_path}", wrap=False)


def _window(text: str | None) -> tuple[float, float] | None:
    from sparse_mrnn.errors import StimulusError
    from sparse_mrnn.stimulus.windows import number_or_time

    if text is None:
        return None
    try:
        first, last = map(number_or_time, text.split(":"))
    except ValueError:
        raise StimulusError(f"--window {text}: expected FROM:TO, in ms, such as 100:400.") from None
    return first, last
