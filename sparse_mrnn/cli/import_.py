"""sparse-mrnn import."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparse_mrnn.cli.common import app, out, report_errors

if TYPE_CHECKING:
    from sparse_mrnn.connectome import ImportReport
    from sparse_mrnn.graph import RegionGraph


class Kind(StrEnum):
    """What to import."""

    table = "table"
    flywire = "flywire"
    neuprint = "neuprint"
    celegans = "celegans"
    flyvis = "flyvis"
    matrix = "matrix"
    graphml = "graphml"
    tvb = "tvb"
    sonata = "sonata"


OWN = {
    Kind.table: {"neurons", "source", "target", "weight", "neuron", "delimiter"},
    Kind.flywire: {"connections"},
    Kind.neuprint: set(),
    Kind.celegans: {"spectral_radius"},
    Kind.flyvis: {"extent", "fill"},
    Kind.matrix: {"orientation", "labels", "neurons", "neuron", "variable"},
    Kind.graphml: {"weight"},
    Kind.tvb: {"units", "fan_in", "speed", "gain", "name"},
    Kind.sonata: {"edges", "node_types", "edge_types"},
}
"""Options of one kind; those of no kind are the shared ones, which celegans and tvb do not take."""


@app.command("import")
def import_(
    kind: Annotated[Kind, typer.Argument(help="What the data are.", show_default=False)],
    path: Annotated[Path | None, typer.Argument(help="File or folder; none for celegans.", show_default=False)] = None,
    out_path: Annotated[Path, typer.Option("--out", help="Folder of the network to write (SONATA).")] = Path("network"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing network.")] = False,
    regions: Annotated[str | None, typer.Option(help="Column(s) whose values are the regions, separated by commas.")] = None,
    parent: Annotated[str | None, typer.Option(help="Column with the parents of regions.")] = None,
    transmitter: Annotated[str | None, typer.Option(help="Column with transmitters.")] = None,
    signs: Annotated[str | None, typer.Option(help="fly, vertebrate, or ach=1,gaba=-1,....")] = None,
    confidence: Annotated[str | None, typer.Option(help="Column with the transmitter's confidence.")] = None,
    min_confidence: Annotated[float | None, typer.Option(help="Below it the transmitter is unknown.")] = None,
    sign: Annotated[str | None, typer.Option(help="Column with signs, instead of transmitters.")] = None,
    sign_per: Annotated[str | None, typer.Option(help="neuron or synapse.")] = None,
    mixed: Annotated[str | None, typer.Option(help="Neurons of both signs: error, majority or free.")] = None,
    unknown_sign: Annotated[str | None, typer.Option(help="free, pos, neg or error.")] = None,
    counts: Annotated[bool | None, typer.Option("--counts/--real", help="Weights are synapse counts, or real numbers.")] = None,
    scale: Annotated[str | None, typer.Option(help="none, fraction (of the target's input) or log.")] = None,
    gain: Annotated[float | None, typer.Option(help="Factor on all weights.")] = None,
    spectral_radius: Annotated[float | None, typer.Option(help="Scale the weights to this spectral radius.")] = None,
    min_count: Annotated[float | None, typer.Option(help="Leave out pairs with fewer synapses.")] = None,
    parallel: Annotated[str | None, typer.Option(help="sum, or a column whose values become parallel projections.")] = None,
    self_connections: Annotated[bool | None, typer.Option(help="Keep connections of a neuron with itself.")] = None,
    select: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE[,VALUE...]: keep these neurons; repeatable.")] = None,
    keep_isolated: Annotated[bool | None, typer.Option(help="Keep neurons without connections.")] = None,
    unknown: Annotated[str | None, typer.Option(help="Edges with unknown neurons: error, drop or keep.")] = None,
    trainable: Annotated[bool | None, typer.Option(help="Train the weights.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the network.")] = None,
    neurons: Annotated[Path | None, typer.Option(help="table, matrix: the table of neurons.")] = None,
    source: Annotated[str | None, typer.Option(help="table: column with the source.")] = None,
    target: Annotated[str | None, typer.Option(help="table: column with the target.")] = None,
    weight: Annotated[str | None, typer.Option(help="table, graphml: column with the weight.")] = None,
    neuron: Annotated[str | None, typer.Option(help="table, matrix: column with the neurons' ids.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="table: between columns.")] = None,
    connections: Annotated[str | None, typer.Option(help="flywire: file of the connections.")] = None,
    extent: Annotated[int | None, typer.Option(help="flyvis: radius in columns; 15 by default.")] = None,
    fill: Annotated[float | None, typer.Option(help="flyvis: synapses assumed in gaps; 1 by default.")] = None,
    orientation: Annotated[str | None, typer.Option(help="matrix: target_source or source_target.")] = None,
    labels: Annotated[Path | None, typer.Option(help="matrix: file with a label per line.")] = None,
    variable: Annotated[str | None, typer.Option(help="matrix: which one of a file with several.")] = None,
    units: Annotated[int | None, typer.Option(help="tvb: units per area; 100 by default.")] = None,
    fan_in: Annotated[int | None, typer.Option(help="tvb: synapses onto a unit per projection; 10 by default.")] = None,
    speed: Annotated[float | None, typer.Option(help="tvb: mm/ms; 3 by default.")] = None,
    edges: Annotated[Path | None, typer.Option(help="sonata: the edges file.")] = None,
    node_types: Annotated[Path | None, typer.Option(help="sonata: the node types.")] = None,
    edge_types: Annotated[Path | None, typer.Option(help="sonata: the edge types.")] = None,
    seed: Annotated[int, typer.Option(help="tvb: draws the synapses.")] = 0,
) -> None:
    """Turn a connectome into a network that info, simulate, plot, spectrum and bench take."""
    given = dict(locals())
    with report_errors():
        from sparse_mrnn.errors import ConnectomeError
        from sparse_mrnn.interop.sonata import write_sonata

        apart = ("kind", "path", "out_path", "force", "seed")
        options = {key: value for key, value in given.items() if key not in apart and value is not None}
        for key in options:
            owners = [k for k, own in OWN.items() if key in own]
            shared = kind not in (Kind.celegans, Kind.tvb)
            if owners and kind not in owners and not (shared and key in ("gain", "name", "spectral_radius")):
                raise ConnectomeError(f"--{key.replace('_', '-')} is an option of {' and '.join(owners)}, not of {kind}.")
            if not owners and not shared:
                raise ConnectomeError(f"{kind} takes no --{key.replace('_', '-')}.")
        if (path is None) != (kind is Kind.celegans):
            raise ConnectomeError("celegans takes no path." if path else f"{kind} needs a path.")
        if out_path.exists() and not force:
            raise ConnectomeError(f"{out_path} exists; choose another --out, or replace it with --force.")
        graph, report = _read(kind, path, _parsed(options))
        write_sonata(graph, out_path, seed=seed, overwrite=force)
        out.print(report)
        out.print(f"wrote {out_path}", soft_wrap=True, highlight=False)


def _parsed(options: dict[str, Any]) -> dict[str, Any]:
    """Text of the command line as the importers' arguments."""
    from sparse_mrnn.errors import ConnectomeError

    if "regions" in options:
        columns = options["regions"].split(",")
        options["regions"] = columns[0] if len(columns) == 1 else columns
    if "select" in options:
        pairs = [text.partition("=") for text in options["select"]]
        for column, equals, values in pairs:
            if not (column and equals and values):
                raise ConnectomeError(f"--select {column}{equals}{values}: write COLUMN=VALUE, such as super_class=central,optic.")
        options["select"] = {column: values.split(",") for column, _, values in pairs}
    if "=" in options.get("signs", ""):
        try:
            options["signs"] = {key: int(value) for key, value in (pair.split("=") for pair in options["signs"].split(","))}
        except ValueError:
            raise ConnectomeError(f"--signs {options['signs']}: write TRANSMITTER=1, -1 or 0, separated by commas.") from None
    if "delimiter" in options:
        options["delimiter"] = {"\\t": "\t", "tab": "\t"}.get(options["delimiter"], options["delimiter"])
    return options


def _read(kind: Kind, path: Path | None, options: dict[str, Any]) -> tuple[RegionGraph, ImportReport]:
    from sparse_mrnn import connectome
    from sparse_mrnn.interop.sonata import read_sonata

    if path is None:
        return connectome.read_celegans(**options)
    readers = {
        Kind.table: connectome.read_table,
        Kind.flywire: connectome.read_flywire,
        Kind.neuprint: connectome.read_neuprint,
        Kind.flyvis: connectome.read_flyvis,
        Kind.matrix: connectome.read_matrix,
        Kind.graphml: connectome.read_graphml,
        Kind.tvb: connectome.read_tvb,
        Kind.sonata: read_sonata,
    }
    return readers[kind](path, **options)  # type: ignore[operator, no-any-return]
