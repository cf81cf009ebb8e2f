"""sparse-mrnn plot."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sparse_mrnn.cli.common import app, load_network, out, report_errors, settings_of


class Kind(StrEnum):
    """What to plot."""

    weights = "weights"
    activity = "activity"
    regions = "regions"


@app.command()
def plot(
    kind: Annotated[Kind, typer.Argument(help="weights and regions take a NET, activity a recording.")],
    source: Annotated[str, typer.Argument(help="A configuration, example or imported network; for activity, a recording.")],
    out_path: Annotated[Path, typer.Option("--out", help="Picture to write: .png, .svg or .pdf.")] = Path("figure.png"),
    trial: Annotated[int, typer.Option(help="Trial of a recording.")] = 0,
) -> None:
    """Draw the weight matrix, the graph of regions, or recorded activity."""
    with report_errors():
        from sparse_mrnn import plot as figures
        from sparse_mrnn.errors import ConfigError
        from sparse_mrnn.recording import open_recording
        from sparse_mrnn.simulation import build_network

        if out_path.suffix not in (".png", ".svg", ".pdf"):
            raise ConfigError(f"--out {out_path}: the picture's name must end in .png, .svg or .pdf.")
        figures._pyplot().switch_backend("agg")
        if kind is Kind.activity:
            ax = figures.plot_activity(open_recording(source), trial)
        else:
            graph, simulation = load_network(source)
            whole = kind is Kind.regions
            ax = figures.plot_regions(graph) if whole else figures.plot_weights(build_network(graph, settings_of(simulation), "cpu"))
        out_path.parent.mkdir(parents=True, exist_ok=True)
        ax.figure.savefig(out_path, dpi=150)  # type: ignore[union-attr]
        out.print(f"wrote {out_path}", soft_wrap=True, highlight=False)
