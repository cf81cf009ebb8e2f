"""JSON configuration <-> RegionGraph, in mRNNTorch's schema plus extensions, checked by pydantic."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeAlias

import numpy as np
import scipy.sparse as sp
from pydantic import BeforeValidator, TypeAdapter, ValidationError, create_model, field_validator
from pydantic import Field as PydanticField

from sparse_mrnn.checks import option
from sparse_mrnn.declaration.connectivity import RULES, ConnectionRule
from sparse_mrnn.declaration.fields import Bounds, Choice, Field, Learnable, Signs
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.declaration.initializers import INITIALIZERS, Initializer
from sparse_mrnn.declaration.projections import PROJECTION_FIELDS, Projection
from sparse_mrnn.declaration.regions import INPUT_FIELDS, REGION_FIELDS, Region
from sparse_mrnn.declaration.simulation_config import (
    INTERVENTION_MODELS,
    STIMULUS_MODELS,
    RecordConfig,
    SimulationConfig,
    Strict,
    without_case,
)
from sparse_mrnn.errors import ConfigError, SparseMRNNError, suggest
from sparse_mrnn.files.atomic import reason, replacing
from sparse_mrnn.files.json import read_json

__all__ = [
    "NetworkConfig", "SimulationConfig", "json_schema", "load_config", "read_config", "to_config",
    "write_config",
]

SECTIONS = ("recurrent_regions", "input_regions", "recurrent_connections", "input_connections")


def _of_fields(fields: Mapping[str, Field]) -> dict[str, Any]:
    """Fields of a model made from declared ones: type, default and description; names without case."""
    found = {}
    for name, field in fields.items():
        hint = field.kind.json
        if isinstance(field.kind, Choice | Signs | Learnable):
            hint = Annotated[hint, BeforeValidator(without_case)]
        found[name] = (hint, PydanticField(field.default, description=field.doc))
    return found


class _RegionEntry(Strict):
    name: str | None = PydanticField(None, description="Unique name; region_<i> by default.")
    num_units: int = PydanticField(description="Number of units, at least 1.")


class _InputEntry(Strict):
    name: str | None = PydanticField(
        None, description="Unique name; region_<i> (input_<i> if taken) by default."
    )
    num_units: int = PydanticField(description="Number of channels, at least 1.")


class ExplicitWeights(Strict):
    """Synapses one by one: values[k] is from source unit cols[k] to target unit rows[k]."""

    rows: list[int]
    cols: list[int]
    values: list[float]


class _ConnectionEntry(Strict):
    src_region: str
    dst_region: str
    sparsity: float | None = PydanticField(
        None, description="Fraction of the connections kept; null for all."
    )
    density: float | None = PydanticField(None, description="The same number under a clear name.")
    fan_in: int | None = PydanticField(None, description="Exact number of sources per target unit.")
    rule: str | dict[str, Any] | None = PydanticField(
        None, description="A rule: its type, or an object with a type."
    )
    weights: ExplicitWeights | None = None
    key: str = PydanticField("default", description="Tells parallel projections apart.")
    initializer: str | dict[str, Any] | None = PydanticField(
        None, description="Initial weights: a type, or an object with a type."
    )
    share: str | list[str] | None = PydanticField(
        None,
        description="Gains of fixed base values: for the 'projection', each 'source' or 'target' unit, "
        "for all projections of a name, or by a label for each synapse of weights.",
    )
    gain: float = PydanticField(1.0, description="What shared gains start with.")
    bounds: Any = None


if TYPE_CHECKING:
    RecurrentRegion: TypeAlias = _RegionEntry
    InputRegion: TypeAlias = _InputEntry
    Connection: TypeAlias = _ConnectionEntry
else:
    RecurrentRegion = create_model(
        "RecurrentRegion", __base__=_RegionEntry, __doc__="A recurrent region.", **_of_fields(REGION_FIELDS)
    )
    InputRegion = create_model(
        "InputRegion", __base__=_InputEntry, __doc__="An input region.", **_of_fields(INPUT_FIELDS)
    )
    Connection = create_model(
        "Connection",
        __base__=_ConnectionEntry,
        __doc__="A projection; at most one of sparsity, density, fan_in, rule, weights and rank.",
        bounds=(Bounds.json, PydanticField(None, description="Least and largest shared gain, or null.")),
        **_of_fields(PROJECTION_FIELDS),
    )


class NetworkConfig(Strict):
    """A network and, optionally, how to simulate it. Keys that start with __comment are ignored."""

    name: str = ""
    recurrent_regions: list[RecurrentRegion] = PydanticField(default_factory=list)
    input_regions: list[InputRegion] = PydanticField(default_factory=list)
    recurrent_connections: list[Connection] = PydanticField(default_factory=list)
    input_connections: list[Connection] = PydanticField(default_factory=list)
    simulation: SimulationConfig | None = None

    @field_validator(*SECTIONS, mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        """In mRNNTorch a section without entries may be {}."""
        return [] if value == {} else value


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration, as shipped in ``configs/schema.json``."""
    return NetworkConfig.model_json_schema()


def load_config(source: str | os.PathLike[str] | dict[str, Any]) -> NetworkConfig:
    """Read and check a configuration.

    Parameters
    ----------
    source : path or dict

    Raises
    ------
    ConfigError
        If the file cannot be read, is not JSON (names line and column), or has a wrong or unknown key.

    Examples
    --------
    >>> load_config({"recurrent_regions": [{"num_units": 3}]}).recurrent_regions[0].name
    'region_0'
    """
    if isinstance(source, dict):
        config = _checked("config", source)
    else:
        config = _checked(source, read_json(Path(source), ConfigError))
    taken = {r.name for r in config.recurrent_regions} | {r.name for r in config.input_regions}
    for k, region in enumerate(config.recurrent_regions):
        region.name = region.name or f"region_{k}"
        taken.add(region.name)
    for k, entry in enumerate(config.input_regions):
        if entry.name is None:
            entry.name = f"region_{k}" if f"region_{k}" not in taken else f"input_{k}"
            for connection in config.input_connections:
                if connection.src_region == f"region_{k}":
                    connection.src_region = entry.name
    return config


def load_simulation(source: str | os.PathLike[str]) -> SimulationConfig:
    """Read a ``simulation`` section from a JSON file of its own, or from that of a whole configuration.

    Raises
    ------
    ConfigError
        As `load_config`.
    """
    data = read_json(Path(source), ConfigError)
    if isinstance(data, dict):
        data = {"simulation": data.get("simulation", data)}
    return _checked(source, data).simulation or SimulationConfig()


def _checked(where: str | os.PathLike[str], data: Any) -> NetworkConfig:
    if not isinstance(data, dict):
        what = f"a JSON {type(data).__name__}"
        raise ConfigError(f"{where}: the file holds {what}; a configuration is an object {{...}}.")
    try:
        return NetworkConfig.model_validate(_without_comments(data))
    except ValidationError as error:
        raise ConfigError(_explain(str(where), error)) from None


def read_config(source: str | os.PathLike[str] | dict[str, Any] | NetworkConfig) -> RegionGraph:
    """Build the `RegionGraph` of a configuration.

    Parameters
    ----------
    source : path, dict or NetworkConfig

    Raises
    ------
    ConfigError
        As `load_config`, and for a network that cannot be built; the message says which entry.

    Examples
    --------
    >>> g = read_config({"recurrent_regions": [{"name": "a", "num_units": 3}],
    ...                  "recurrent_connections": [{"src_region": "a", "dst_region": "a", "sparsity": 0.5}]})
    >>> g.number_of_edges()
    1
    """
    config = source if isinstance(source, NetworkConfig) else load_config(source)
    where = str(source) if isinstance(source, (str, os.PathLike)) else "config"
    graph = RegionGraph(name=config.name)
    for section in SECTIONS:
        for k, step in enumerate(getattr(config, section)):
            try:
                _apply(graph, section, step)
            except SparseMRNNError as error:
                raise ConfigError(f"{where}: {section}[{k}]: {error}") from error
    return graph


def _apply(graph: RegionGraph, section: str, step: Any) -> None:
    kind, _, entries = section.partition("_")
    if entries == "regions":
        add = graph.add_region if kind == "recurrent" else graph.add_input
        add(step.name, step.num_units, **step.model_dump(exclude={"name", "num_units"}))
        return
    if step.src_region not in graph or graph.nodes[step.src_region]["kind"] != kind:
        hint = suggest(step.src_region, [region.name for region in graph.regions(kind)], what="regions")
        raise ConfigError(f"src_region {step.src_region!r} is not a {kind} region. {hint}")
    if step.sparsity is not None and step.density is not None:
        raise ConfigError("sparsity and density are the same number; give one.")
    given = {name: getattr(step, name) for name in ("fan_in", "key", "gain", "bounds", *PROJECTION_FIELDS)}
    for what, kinds in (("rule", RULES), ("initializer", INITIALIZERS)):
        if getattr(step, what) is not None:
            given[what] = make_part(getattr(step, what), kinds, what)
    graph.add_projection(
        step.src_region,
        step.dst_region,
        density=step.density if step.sparsity is None else step.sparsity,
        weights=None if step.weights is None else _explicit(graph, step),
        share=_row_major_labels(step) if isinstance(step.share, list) else step.share,
        **given,
    )


def _explicit(graph: RegionGraph, step: Connection) -> sp.coo_array:
    given = step.weights
    if given is None or not len(given.rows) == len(given.cols) == len(given.values):
        raise ConfigError("weights: rows, cols and values must have the same length.")
    shape = (graph.region(step.dst_region).n, graph.region(step.src_region).n)
    for what, index, size in (("rows", given.rows, shape[0]), ("cols", given.cols, shape[1])):
        if index and not (min(index) >= 0 and max(index) < size):
            raise ConfigError(f"weights.{what}: an index lies outside 0..{size - 1}.")
    return sp.coo_array((np.array(given.values, dtype=np.float64), (given.rows, given.cols)), shape=shape)


def _row_major_labels(step: Connection) -> list[str]:
    """Labels given in the order of the explicit weights, in that of their rows."""
    given, labels = step.weights, list(step.share or ())
    if given is None or len(labels) != len(given.rows):
        raise ConfigError("share: a list of labels needs weights, and one label for each of them.")
    return [labels[k] for k in np.lexsort((given.cols, given.rows))]


def make_part(spec: str | dict[str, Any], kinds: dict[str, Any], what: str) -> Any:
    """A rule or an initialiser, from its type or an object with a type and settings.

    Raises
    ------
    ConfigError
        If its type or a setting is not known.

    Examples
    --------
    >>> make_part({"type": "fixed_fan_in", "fan_in": 3}, RULES, "rule")
    FixedFanIn(fan_in=3)
    """
    settings = {"type": spec} if isinstance(spec, str) else dict(spec)
    kind = option(settings.pop("type", None), kinds, f"{what}: the type", ConfigError)
    known = [f.name for f in dataclasses.fields(kinds[kind])]
    for key in settings:
        if key not in known:
            raise ConfigError(f"{what}: {kind!r} takes no {key!r}. {suggest(key, known, what='settings')}")
        if settings[key] in (math.inf, -math.inf) or settings[key] != settings[key]:
            raise ConfigError(f"{what}: {kind!r}: {key} is {settings[key]}; it must be finite.")
        if settings[key] is True or settings[key] is False:  # for Python, 1 and 0
            raise ConfigError(f"{what}: {kind!r}: {key} is {settings[key]}; it must not be true or false.")
    try:
        return TypeAdapter(kinds[kind]).validate_python(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise ConfigError(f"{what}: {kind!r}: {where}{first['msg'].removeprefix('Value error, ')}") from None


class Network(Protocol):
    """A network, as `to_config` sees one."""

    def to_graph(self) -> RegionGraph:
        """Its declaration, with explicit synapses."""

    def simulation_settings(self) -> SimulationConfig:
        """Its settings."""


def to_config(graph: RegionGraph | Network, simulation: SimulationConfig | None = None) -> dict[str, Any]:
    """The configuration dictionary of a graph, or of a whole network.

    ``read_config`` gives the same graph back. Of a network, synapses are explicit and weights those of now,
    and its settings (dt, tau, activation, ...) are the ``simulation`` section unless that is given;
    `from_config` gives a network back that computes the same.

    Parameters
    ----------
    graph : RegionGraph, mRNN or ElmanmRNN
    simulation : SimulationConfig, optional

    Raises
    ------
    ConfigError
        If a rule, an initialiser or the activation is of your own, which JSON cannot name.
    """
    if not isinstance(graph, RegionGraph):
        simulation = simulation or graph.simulation_settings()
        graph = graph.to_graph()
    out: dict[str, Any] = {"name": graph.name} if graph.name else {}
    out["recurrent_regions"] = [_region_entry(r, REGION_FIELDS) for r in graph.regions()]
    out["input_regions"] = [_region_entry(r, INPUT_FIELDS) for r in graph.regions("input")]
    for kind in ("recurrent", "input"):
        out[f"{kind}_connections"] = [_projection_entry(p) for p in graph.projections(kind)]
    if simulation is not None:
        out["simulation"] = simulation.model_dump(exclude_unset=True)
    return out


def write_config(
    graph: RegionGraph | Network, path: str | os.PathLike[str], simulation: SimulationConfig | None = None
) -> None:
    """Write a graph or a network as JSON, as `to_config`; the file appears whole or not at all.

    Parameters
    ----------
    graph : RegionGraph, mRNN or ElmanmRNN
    path : path
        A file there is replaced.
    simulation : SimulationConfig, optional
        The ``simulation`` section. Default: the settings of a network, none of a graph.

    Raises
    ------
    ConfigError
        As `to_config`, and if the file cannot be written.
    """
    path = Path(path)
    text = json.dumps(to_config(graph, simulation), indent=1)
    # One line for a list without lists inside: line breaks lie between values, never in text.
    text = re.sub(r"\[[^\[\]{}]*\]", lambda flat: re.sub(r"\n *", "", re.sub(r",\n *", ", ", flat[0])), text)
    try:
        with replacing(path) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the configuration {path}: {reason(error)}.") from error


def spec_of(part: ConnectionRule | Initializer) -> dict[str, Any]:
    """A rule or an initialiser as JSON, from which `make_part` makes it.

    Raises
    ------
    ConfigError
        If its class is not of this package.
    """
    known: dict[str, Any] = RULES if isinstance(part, ConnectionRule) else INITIALIZERS
    if known.get(part.kind) is not type(part):
        raise ConfigError(f"{type(part).__name__} is a class of your own; a configuration cannot name it.")
    return {key: _plain(value) for key, value in part.to_spec().items()}


def _region_entry(region: Region, fields: Mapping[str, Field]) -> dict[str, Any]:
    """A region's entry: name, size and sign, and what is not at its default."""
    own = _not_at_default(region, {name: field for name, field in fields.items() if name != "sign"})
    return {"name": region.name, "num_units": region.n, "sign": _plain(region.sign), **own}


def _projection_entry(p: Projection) -> dict[str, Any]:
    entry: dict[str, Any] = {"src_region": p.source, "dst_region": p.target}
    if p.weights is not None:
        coo = p.weights.tocoo()
        triplets = {"rows": coo.row, "cols": coo.col, "values": coo.data}
        entry["weights"] = {name: array.tolist() for name, array in triplets.items()}
    elif p.rule is not None and p.rule.kind == "bernoulli":
        entry["sparsity"] = p.rule.density  # type: ignore[attr-defined]
    elif p.rule is not None and p.rule.kind != "all_to_all":
        entry["rule"] = spec_of(p.rule)
    if p.share is not None:
        labels = p.share.labels
        entry["share"] = p.share.by if labels is None else [labels.names[code] for code in labels.codes]
        if p.share.gain != 1:
            entry["gain"] = p.share.gain
        if p.share.bounds != (None, None):
            entry["bounds"] = list(p.share.bounds)
    if p.initializer is not None:
        entry["initializer"] = spec_of(p.initializer)
    if p.key != "default":
        entry["key"] = p.key
    return entry | _not_at_default(p, PROJECTION_FIELDS)


def _not_at_default(declared: Region | Projection, fields: Mapping[str, Field]) -> dict[str, Any]:
    """Declared fields as JSON, other than those at their default."""
    found = ((name, getattr(declared, name), field.default) for name, field in fields.items())
    return {name: _plain(v) for name, v, usual in found if isinstance(v, np.ndarray) or v != usual}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):  # a table of units, of which NaN is no value
        return {k: [None if v != v else v for v in column.tolist()] for k, column in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _without_comments(data: Any) -> Any:
    if isinstance(data, dict):
        return {k: _without_comments(v) for k, v in data.items() if not str(k).startswith("__comment")}
    return [_without_comments(v) for v in data] if isinstance(data, list) else data


TAGGED: dict[Any, Any] = {**STIMULUS_MODELS, **INTERVENTION_MODELS}


def _explain(where: str, error: ValidationError) -> str:
    """One line per problem, with its JSON path and, for an unknown key, the nearest known one."""
    lines: dict[str, None] = {}
    for problem in error.errors():
        loc = [part for part in problem["loc"] if not str(part).startswith(("list[", "literal[", "function"))]
        keys = _keys(loc[:-1])
        # Pydantic adds the type of a stimulus or an intervention after its index.
        tags = {k for k, part in enumerate(loc) if part in TAGGED and k and isinstance(loc[k - 1], int)}
        loc = [part for k, part in enumerate(loc) if k not in tags]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
        if problem["type"] == "extra_forbidden":
            lines[f"{path}: unknown key. {suggest(loc[-1], keys, what='keys')}"] = None
        elif problem["type"].startswith("union_tag"):
            known = INTERVENTION_MODELS if "interventions" in loc else STIMULUS_MODELS
            kind = problem.get("ctx", {}).get("tag")
            problem_text = "field required." if kind in (None, "None") else f"unknown type {kind!r}."
            lines[f"{path}.type: {problem_text} {suggest(kind, known, what='types')}"] = None
        else:
            shown = "" if problem["type"] == "missing" else f" (got {problem['input']!r:.60})"
            lines[f"{path}: {problem['msg'][0].lower()}{problem['msg'][1:]}{shown}"] = None
    return f"{where}: " + "\n".join(lines)


def _keys(loc: list[int | str]) -> list[str]:
    models: dict[str, Any] = {
        "recurrent_regions": RecurrentRegion,
        "input_regions": InputRegion,
        "recurrent_connections": Connection,
        "input_connections": Connection,
        "simulation": SimulationConfig,
        "record": RecordConfig,
        **TAGGED,
        "weights": ExplicitWeights,
    }
    named = [models[str(part)] for part in loc if str(part) in models]
    return list((named[-1] if named else NetworkConfig).model_fields)
