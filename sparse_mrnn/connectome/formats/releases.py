"""read_release: published connectomes as they were released, each by a preset of the other importers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Unpack

from sparse_mrnn.connectome.column_names import IDS, plain_name
from sparse_mrnn.connectome.formats.downloads import folder_of, listing, stem_of
from sparse_mrnn.connectome.formats.edge_list import read_table
from sparse_mrnn.connectome.formats.flywire import read_flywire
from sparse_mrnn.connectome.formats.matrix import read_matrix
from sparse_mrnn.connectome.report import ImportReport
from sparse_mrnn.connectome.settings import ImportOptions
from sparse_mrnn.connectome.table_files import TableSource
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.errors import ConnectomeError, suggest

SUFFIXES = (".csv.gz", ".tsv.gz", ".csv", ".tsv", ".parquet", ".feather", ".npz")


@dataclass(frozen=True)
class Release:
    """The files of a release and how they are read.

    Names are patterns without suffix. Of alternatives, the first that is there counts.
    """

    reference: str
    edges: tuple[str, ...]  # alternatives
    neurons: tuple[tuple[str, ...], ...] = ()  # tables, each with alternatives; the first is needed
    columns: Mapping[str, str] = field(default_factory=dict)  # arguments of the reader
    neuron: tuple[str, ...] = ()  # patterns of the first neuron table's id
    options: Mapping[str, Any] = field(default_factory=dict)  # a tuple: alternative columns
    is_matrix: bool = False


FLY = {"signs": "fly", "unknown": "drop"}
NEUPRINT = {"source": "bodyId_pre", "target": "bodyId_post", "weight": "weight"}
RELEASES = {
    "male-cns": Release(
        "Berg et al. 2025", ("connectome-weights*",), (("body-annotations*",), ("body-neurotransmitters*",)),
        {"source": "body_pre", "target": "body_post", "weight": "weight"}, ("bodyId", "body"),
        {"regions": ("superclass", "type"), "transmitter": ("consensus_nt", "predicted_nt"), **FLY},
    ),
    "banc": Release(
        "Bates et al. 2025", ("banc_*edgelist_simple*", "banc_*simple_edgelist*"), (("banc_*meta*",),),
        {"source": "pre", "target": "post", "weight": "count"}, ("banc_*_id", "root_id"),
        {
            "regions": ("super_class", "region"), "transmitter": ("neurotransmitter_predicted",),
            "confidence": ("neurotransmitter_score",), **FLY,
        },
    ),
    "manc": Release(
        "Takemura et al. 2024", ("traced-connections", "traced-total-connections"),
        (("traced-neurons", "manc-*neuron-properties*"), ("manc-*neuron-properties*",)), NEUPRINT,
        ("bodyId",),
        {
            "regions": ("class", "type"), "transmitter": ("predictedNt",), "confidence": ("predictedNtProb",),
            **FLY,
        },
    ),
    "hemibrain": Release(
        "Scheffer et al. 2020", ("traced-total-connections", "total-connections"),
        (("traced-neurons", "neurons"),), NEUPRINT, ("bodyId",), {"regions": ("type",), "signs": "fly"},
    ),
    "flywire-783": Release(
        "Dorkenwald et al. 2024; Schlegel et al. 2024", ("proofread_connections_783*",),
        (
            ("Supplemental_file1_neuron_annotations*", "neurons"), ("classification",),
            ("consolidated_cell_types",),
        ),
        {"source": "pre_pt_root_id", "target": "post_pt_root_id", "weight": "syn_count"}, ("root_id",),
        {
            "regions": ("super_class",), "transmitter": ("top_nt", "nt_type"),
            "confidence": ("top_nt_conf", "nt_type_score"), **FLY,
        },
    ),
    "microns": Release(
        "MICrONS Consortium 2025", ("synapses*", "*synapse*"),
        (("aibs_metamodel_celltypes*", "*cell_type*"),),
        {"source": "pre_pt_root_id", "target": "post_pt_root_id", "weight": ""}, ("pt_root_id",),
        {
            "regions": ("cell_type",), "sign": ("classification_system",), "unknown": "drop",
            "missing_ids": "drop", "repeated_ids": "drop",
        },
    ),
    "larva": Release(
        "Winding et al. 2023", ("all-all_connectivity_matrix", "larva_inprop"), (("larva_type_meta",),),
        {"orientation": "source_target"}, ("skid",),
        {"regions": ("cell_type",), "missing_ids": "drop", "counts": True, "unknown": "drop"}, is_matrix=True,
    ),
    "shiu-783": Release(
        "Shiu et al. 2024", ("*Connectivity_783",), (("*Completeness_783",),),
        {"source": "Presynaptic_ID", "target": "Postsynaptic_ID", "weight": "Connectivity"}, ("(column 1)",),
        {"sign": "Excitatory", "mixed": "majority", "unknown": "error"},
    ),
}  # fmt: skip
"""Releases by name, with their files and columns as they were published."""


def read_release(
    release: str, files: str | os.PathLike[str] | Sequence[Any], **options: Unpack[ImportOptions]
) -> tuple[RegionGraph, ImportReport]:
    """Import a published connectome from its files.

    Parameters
    ----------
    release : {"male-cns", "banc", "manc", "hemibrain", "flywire-783", "microns", "larva", "shiu-783"}
        docs/connectomes.md has the files and columns of each.
    files : path, or sequence of paths and tables
        The folder with the files as they were released; or the edges (or the matrix), then the neuron tables,
        in that order, as paths or DataFrames.
    **options
        See `ImportSettings`; they go before the preset's.

    Raises
    ------
    ConnectomeError
        If a file or a column is missing; the message says which.

    Examples
    --------
    >>> edges = {"body_pre": [10, 11], "body_post": [11, 10], "weight": [3, 2]}
    >>> annotations = {"bodyId": [10, 11], "superclass": ["sensory", "motor"]}
    >>> transmitters = {"body": [11, 10], "consensus_nt": ["gaba", "acetylcholine"]}
    >>> graph, report = read_release("male-cns", [edges, annotations, transmitters])
    >>> graph.region("motor").sign
    'neg'
    """
    if release not in RELEASES:
        hint = suggest(str(release), RELEASES, what="releases")
        raise ConnectomeError(f"unknown release {release!r}. {hint}")
    preset = RELEASES[release]
    edges: Any
    neurons: list[Any]
    if isinstance(files, (str, os.PathLike)):
        root = folder_of(files, f"the files of {release}")
        if release == "flywire-783" and _found(root, ("connections*",)) is not None:
            return read_flywire(root, **options)
        edges, *neurons = _in_folder(root, release, preset)
    else:
        edges, *neurons = list(files)
    sources = [TableSource.of(table, f"neurons of {release}") for table in neurons]
    columns = {column for source in sources for column in source.columns}
    if not preset.is_matrix:
        columns |= set(TableSource.of(edges, f"edges of {release}").columns)
    given: dict[str, Any] = {"name": release, **_options(preset, columns), **options}
    if given.get("sign") is not None:
        given.pop("transmitter", None) if "transmitter" not in options else given.pop("sign")
    arguments: dict[str, Any] = dict(preset.columns)
    if neurons:
        arguments |= {"neurons": neurons, "neuron": _identity(release, preset, sources[0])}
    if not preset.is_matrix:
        return read_table(edges, **arguments, **given)
    if _is_path(edges) and Path(edges).suffix == ".npz":  # fractions of the input, with numbers for neurons
        arguments |= {"neuron": "idx"} if neurons else {}
        given |= {"counts": options.get("counts", False)}
    return read_matrix(edges, **arguments, **given)


def _is_path(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike))


def _options(preset: Release, columns: set[str]) -> dict[str, Any]:
    """Choose, of columns that an option may name, the first that is there."""
    out: dict[str, Any] = {}
    for name, value in preset.options.items():
        if isinstance(value, tuple):
            there = [column for column in value if column in columns]
            if there:
                out[name] = there[0]
        else:
            out[name] = value
    if "transmitter" not in out:
        out.pop("confidence", None)
    return out


def _identity(release: str, preset: Release, source: TableSource) -> str:
    for pattern in preset.neuron:
        found = [column for column in source.columns if fnmatchcase(column, pattern)]
        if len(found) == 1:
            return found[0]
    usual = [column for column in source.columns if plain_name(column) in set(map(plain_name, IDS))]
    if len(usual) == 1:
        return usual[0]
    needed = " or ".join(map(repr, preset.neuron))
    problem = f"the column {needed} of {release} is missing"
    raise ConnectomeError(f"{source.label}: {problem}. The columns are {', '.join(source.columns)}.")


def _in_folder(root: Path, release: str, preset: Release) -> list[Any]:
    """Find the edges of a release, and its neuron tables."""
    wanted = (preset.edges, *preset.neurons)
    found = [_found(root, names) for names in wanted]
    for names, path in zip(wanted[:2], found[:2], strict=True):
        if path is None:
            problem = f"{' or '.join(names)} of {release} is missing"
            raise ConnectomeError(f"{root}: {problem}; the folder has {listing(root)}.")
    return list(dict.fromkeys(path for path in found if path is not None))


def _found(root: Path, patterns: Sequence[str]) -> Path | None:
    """Find the one file of the first pattern that any has."""
    paths = sorted(path for path in root.iterdir() if path.name.lower().endswith(SUFFIXES))
    for pattern in patterns:
        found = [p for p in paths if fnmatchcase(_stem(p), pattern)]
        if len(found) > 1:
            listed = ", ".join(path.name for path in found)
            problem = f"there are several files {pattern} ({listed})"
            raise ConnectomeError(f"{root}: {problem}; keep one, or give the files.")
        if found:
            return found[0]
    return None


def _stem(path: Path) -> str:
    return re.sub(r"\.(npz|tsv)$", "", stem_of(path))
