"""sparse-mrnn plot."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from sparse_mrnn.cli.common import app, command, picture_writer, report_errors, time_option
from sparse_mrnn.cli.networks import load_network
from sparse_mrnn.errors import ConfigError

Kind = StrEnum("Kind", "weights regions connectivity degrees activity traces trajectory raster screen")
OPTIONS = {
    "weights": {"regions"},
    "regions": {"style"},
    "connectivity": {"regions", "value"},
    "degrees": {"regions"},
    "activity": {"regions", "units", "start", "stop", "variable", "trial"},
    "traces": {"regions", "units", "start", "stop", "variable", "trial"},
    "trajectory": {"regions", "start", "stop", "variable"},
    "raster": {"regions", "start", "stop", "trial"},
    "screen": {"kind"},
}
"""Options of each kind of picture."""
KIND_HELP = "activity, traces, trajectory and raster draw a recording, screen a screen, the others a network."


@command(app, examples=(
    "plot weights celegans --out weights.png",
    "plot activity run.zarr --region head --stop 500ms",
    "plot screen screen.zarr --kind silencing",
))
def plot(
    kind: Annotated[Kind, Argument(help=KIND_HELP)],
    source: Annotated[str, Argument(help="A recording, a screen, or a network, as for info.")],
    out_path: Annotated[Path, Option("--out", help="Picture: .png, .svg or .pdf.")] = Path("figure.png"),
    region: Annotated[list[str] | None, Option(help="Only this region or parent; repeatable.")] = None,
    unit: Annotated[list[str] | None, Option(help="Only this unit id; repeatable.")] = None,
    start: Annotated[float | None, time_option("Only from this time on, ms.")] = None,
    stop: Annotated[float | None, time_option("Only until this time, ms.")] = None,
    trial: Annotated[int | None, Option(help="Trial of a recording.")] = None,
    variable: Annotated[str | None, Option(help="Variable of a recording, as h or x_mean.")] = None,
    value: Annotated[str | None, Option(help="connectivity: synapses, density or fan_in.")] = None,
    style: Annotated[str | None, Option(help="regions: circle or matrix.")] = None,
    perturbed: Annotated[str | None, Option("--kind", help="screen: activation or silencing.")] = None,
) -> None:
    """Draw weights, regions, connectivity or degrees of a network, recorded activity, or a screen."""
    with report_errors():
        from sparse_mrnn import plot as figures

        given: dict[str, Any] = dict(regions=region, units=unit, start=start, stop=stop, trial=trial)
        given |= dict(variable=variable, value=value, style=style, kind=perturbed)
        options = {name: chosen for name, chosen in given.items() if chosen is not None}
        for name in options:
            if name not in OPTIONS[kind]:
                option = f"--{name.removesuffix('s') if name in ('regions', 'units') else name}"
                takes = ", ".join(sorted(other for other, names in OPTIONS.items() if name in names))
                raise ConfigError(f"plot {kind} takes no {option}; it is an option of {takes}.")
        write = picture_writer(out_path)
        draw = getattr(figures, f"plot_{kind}")
        if "start" in OPTIONS[kind] or kind is Kind.screen:
            write(draw(source, **options))
        elif kind in ("regions", "connectivity"):
            write(draw(load_network(source).graph, **options))
        else:
            write(draw(load_network(source).build("cpu"), **options))
