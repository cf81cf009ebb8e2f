"""sparse-mrnn import."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from sparse_mrnn.cli.common import Json, app, check_out, command, out, print_json, report_errors, say
from sparse_mrnn.errors import ConnectomeError

Kind = StrEnum("Kind", "table release flywire neuprint celegans flyvis matrix graphml tvb sonata")
TEXT = {"delimiter", "comment", "decimal"}
OPTIONS_OF_KIND = {
    Kind.table: {"neurons", "source", "target", "weight", "neuron", "columns", "undirected", *TEXT},
    Kind.release: {"release"},
    Kind.flywire: {"connections", "neurons"},
    Kind.neuprint: set(),
    Kind.celegans: {"spectral_radius"},
    Kind.flyvis: {"extent", "fill"},
    Kind.matrix: {"orientation", "triangle", "labels", "neurons", "neuron", "variable", *TEXT},
    Kind.graphml: {"weight", "neuron"},
    Kind.tvb: {"units", "fan_in", "speed", "gain", "name"},
    Kind.sonata: {"edges", "node_types", "edge_types", "weight"},
}
"""Options of one kind; those of no kind are the shared ones, which celegans and tvb do not take."""


@command(app, "import", examples=(
    "import table edges.csv --neurons neurons.csv --out worm",
    "import matrix weights.npz --orientation target_source --one-region",
    "import release data --release larva --out larva",
))
def import_(
    kind: Annotated[Kind, Argument(help="What the data are.", show_default=False)],
    path: Annotated[Path | None, Argument(help="File or folder.", show_default=False)] = None,
    out_path: Annotated[Path, Option("--out", help="SONATA folder to write.")] = Path("network"),
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing network.")] = False,
    as_json: Json = False,
    regions: Annotated[str | None, Option(help="Column(s) of the regions, comma-separated.")] = None,
    one_region: Annotated[bool, Option("--one-region", help="Put all neurons into one region.")] = False,
    parent: Annotated[str | None, Option(help="Column with the parents of regions.")] = None,
    transmitter: Annotated[str | None, Option(help="Column with transmitters.")] = None,
    signs: Annotated[str | None, Option(help="fly, vertebrate, or ach=1,gaba=-1,....")] = None,
    confidence: Annotated[str | None, Option(help="Column with the transmitter's confidence.")] = None,
    min_confidence: Annotated[float | None, Option(help="Below it the transmitter is unknown.")] = None,
    sign: Annotated[str | None, Option(help="Column with signs, instead of transmitters.")] = None,
    sign_per: Annotated[str | None, Option(help="neuron or synapse.")] = None,
    mixed: Annotated[str | None, Option(help="Neurons of both signs: error, majority or free.")] = None,
    unknown_sign: Annotated[str | None, Option(help="free, pos, neg or error.")] = None,
    counts: Annotated[bool | None, Option("--counts/--real", help="What weights are.")] = None,
    scale: Annotated[str | None, Option(help="none, fraction (of the target's input) or log.")] = None,
    gain: Annotated[float | None, Option(help="Factor on all weights.")] = None,
    spectral_radius: Annotated[float | None, Option(help="Scale the weights to this.")] = None,
    min_count: Annotated[float | None, Option(help="Leave out pairs with fewer synapses.")] = None,
    parallel: Annotated[str | None, Option(help="sum, or a column that keeps them apart.")] = None,
    delay: Annotated[str | None, Option(help="Column with delays, ms.")] = None,
    delay_step: Annotated[float | None, Option(help="Round delays to multiples of this, ms.")] = None,
    keep: Annotated[str | None, Option(help="Columns of neurons to keep; all by default; '': none.")] = None,
    of_units: Annotated[
        list[str] | None,
        Option(help="Fields of units from columns, in the form above."),
    ] = None,
    self_connections: Annotated[bool | None, Option(help="Keep connections of a neuron with itself.")] = None,
    select: Annotated[list[str] | None, Option(help="Neurons to keep, in the form above.")] = None,
    keep_isolated: Annotated[bool | None, Option(help="Keep neurons without connections.")] = None,
    unknown: Annotated[str | None, Option(help="Edges with unknown neurons: error, drop or keep.")] = None,
    missing_ids: Annotated[str | None, Option(help="Rows without an id, or NA: error, drop or keep.")] = None,
    repeated_ids: Annotated[str | None, Option(help="Neurons with several rows: error, first, drop.")] = None,
    trainable: Annotated[bool | None, Option(help="Train the weights.")] = None,
    name: Annotated[str | None, Option(help="Name of the network.")] = None,
    neurons: Annotated[
        list[str] | None,
        Option(help="table, matrix: the table of neurons; flywire: its file's name; repeatable."),
    ] = None,
    source: Annotated[str | None, Option(help="table: column with the source.")] = None,
    target: Annotated[str | None, Option(help="table: column with the target.")] = None,
    weight: Annotated[str | None, Option(help="table, graphml, sonata: the weight.")] = None,
    neuron: Annotated[str | None, Option(help="table, matrix, graphml: column with the ids.")] = None,
    columns: Annotated[str | None, Option(help="table: columns without a header, comma-separated.")] = None,
    undirected: Annotated[bool | None, Option(help="table: rows are connections in both directions.")] = None,
    delimiter: Annotated[str | None, Option(help="table, matrix: between columns.")] = None,
    comment: Annotated[str | None, Option(help="table, matrix: start of lines that are left out.")] = None,
    decimal: Annotated[str | None, Option(help="table, matrix: decimal sign.")] = None,
    release: Annotated[str | None, Option(help="release: male-cns, banc, manc, hemibrain, ....")] = None,
    connections: Annotated[str | None, Option(help="flywire: file of the connections.")] = None,
    extent: Annotated[int | None, Option(help="flyvis: radius in columns; 15 by default.")] = None,
    fill: Annotated[float | None, Option(help="flyvis: synapses assumed in gaps; 1 by default.")] = None,
    triangle: Annotated[str | None, Option(help="matrix: mirror or directed, if one side has all.")] = None,
    orientation: Annotated[str | None, Option(help="matrix: target_source or source_target.")] = None,
    labels: Annotated[Path | None, Option(help="matrix: file with a label per line.")] = None,
    variable: Annotated[str | None, Option(help="matrix: which one of a file with several.")] = None,
    units: Annotated[int | None, Option(help="tvb: units per area; 100 by default.")] = None,
    fan_in: Annotated[int | None, Option(help="tvb: synapses onto a unit; 10 by default.")] = None,
    speed: Annotated[float | None, Option(help="tvb: mm/ms; 3 by default.")] = None,
    edges: Annotated[Path | None, Option(help="sonata: the edges file.")] = None,
    node_types: Annotated[Path | None, Option(help="sonata: the node types.")] = None,
    edge_types: Annotated[Path | None, Option(help="sonata: the edge types.")] = None,
    seed: Annotated[int, Option(help="tvb: draws the synapses.")] = 0,
) -> None:
    """Turn a connectome into a network that info, simulate, plot, spectrum and bench take.

    Forms of options with several parts:

      --select COLUMN=VALUE[,VALUE...]
      --of-units FIELD=COLUMN[,COLUMN...]
      --signs TRANSMITTER=SIGN[,TRANSMITTER=SIGN...]
    """
    given = dict(locals())
    with report_errors():
        from sparse_mrnn import connectome, fly_vision
        from sparse_mrnn.interop.sonata import read_sonata, write_sonata

        apart = ("kind", "path", "out_path", "overwrite", "as_json", "seed", "one_region")
        options = {key: value for key, value in given.items() if key not in apart and value is not None}
        for key in options:
            option = f"--{key.replace('_', '-')}"
            kinds = [k for k, names in OPTIONS_OF_KIND.items() if key in names]
            shared = kind not in (Kind.celegans, Kind.tvb)
            if kinds and kind not in kinds and not (shared and key in ("gain", "name", "spectral_radius")):
                raise ConnectomeError(f"{option} is an option of {' and '.join(kinds)}, not of {kind}.")
            if not kinds and not shared:
                raise ConnectomeError(f"{kind} takes no {option}.")
        if (path is None) != (kind is Kind.celegans):
            raise ConnectomeError("celegans takes no path." if path else f"{kind} needs a path.")
        if one_region and (regions is not None or kind in (Kind.celegans, Kind.tvb)):
            problem = "exclude each other" if regions is not None else f"do not apply to {kind}"
            raise ConnectomeError(f"--one-region and --regions {problem}.")
        if kind is Kind.release and release is None:
            raise ConnectomeError(f"give --release, one of {', '.join(connectome.RELEASES)}.")
        check_out(out_path, overwrite=overwrite)
        room = fly_vision if kind is Kind.flyvis else connectome
        reader = read_sonata if kind is Kind.sonata else getattr(room, f"read_{kind}")
        options = _parsed(options) | ({"regions": None} if one_region else {})
        first = [] if release is None else [options.pop("release")]
        graph, report = reader(*first, *([] if path is None else [path]), **options)
        write_sonata(graph, out_path, seed=seed, overwrite=overwrite)
        out.print(report)
        say(f"wrote {out_path}", wrap=False)
        if as_json:
            print_json({**asdict(report), "out": str(out_path)})


def _parsed(options: dict[str, Any]) -> dict[str, Any]:
    """Text of the command line as the importers' arguments."""
    if "regions" in options:
        columns = options["regions"].split(",")
        options["regions"] = columns[0] if len(columns) == 1 else columns
    if "columns" in options:
        options["columns"] = [name.strip() for name in options["columns"].split(",")]
    if "keep" in options:
        options["keep"] = [name.strip() for name in options["keep"].split(",") if name.strip()]
    if len(options.get("neurons", [])) == 1:
        options["neurons"] = options["neurons"][0]
    if "select" in options:
        example = "COLUMN=VALUE, such as super_class=central,optic"
        options["select"] = _pairs("--select", options["select"], example)
    if "of_units" in options:
        pairs = _pairs("--of-units", options["of_units"], "FIELD=COLUMN, such as tau=tau_ms")
        options["of_units"] = {
            name: columns if name == "positions" else ",".join(columns) for name, columns in pairs.items()
        }
    if "=" in options.get("signs", ""):
        text = options["signs"]
        try:
            signs = dict(pair.split("=") for pair in text.split(","))
            options["signs"] = {transmitter: int(sign) for transmitter, sign in signs.items()}
        except ValueError:
            how = "write TRANSMITTER=1, -1 or 0, separated by commas"
            raise ConnectomeError(f"--signs {text}: {how}.") from None
    if "delimiter" in options:
        options["delimiter"] = {"\\t": "\t", "tab": "\t"}.get(options["delimiter"], options["delimiter"])
    return options


def _pairs(option: str, texts: list[str], example: str) -> dict[str, list[str]]:
    """Parse NAME=VALUE[,VALUE...], given several times, as values by name."""
    pairs = [text.partition("=") for text in texts]
    for name, equals, values in pairs:
        if not (name and equals and values):
            raise ConnectomeError(f"{option} {name}{equals}{values}: write {example}.")
    return {name: values.split(",") for name, _, values in pairs}
