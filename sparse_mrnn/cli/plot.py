"""sparse-mrnn plot."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from sparse_mrnn.cli.common import app, load_network, picture, report_errors

Kind = StrEnum("Kind", "weights activity regions")


@app.command()
def plot(
    kind: Annotated[Kind, Argument(help="weights and regions take a NET, activity a recording.")],
    source: Annotated[str, Argument(help="A configuration, example, imported network, or a recording.")],
    out_path: Annotated[Path, Option("--out", help="Picture: .png, .svg or .pdf.")] = Path("figure.png"),
    trial: Annotated[int, Option(help="Trial of a recording.")] = 0,
) -> None:
    """Draw the weight matrix, the graph of regions, or recorded activity."""
    with report_errors(), picture(out_path, (8, 6.2)) as ax:
        from sparse_mrnn.plot import plot_activity, plot_regions, plot_weights
        from sparse_mrnn.recording import open_recording
        from sparse_mrnn.simulation import build_network

        if kind is Kind.activity:
            plot_activity(open_recording(source), trial, ax)
        elif kind is Kind.regions:
            plot_regions(load_network(source)[0], ax)
        else:
            plot_weights(build_network(*load_network(source), "cpu"), ax)
