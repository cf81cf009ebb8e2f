"""A RegionGraph as JSON tables and arrays, and back: what a saved network says of its declaration.

The tables are compact: a million projections are three lists of numbers. Arrays of regions (signs, tonic
inputs, positions, ...) are kept apart from the JSON, and so are unit ids.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from sparse_mrnn.declaration.config import make_part, spec_of
from sparse_mrnn.declaration.connectivity import RULES, Explicit
from sparse_mrnn.declaration.graph import Region, RegionGraph, projection_label
from sparse_mrnn.declaration.initializers import INITIALIZERS
from sparse_mrnn.declaration.sharing import SynapseLabels, check_sharing
from sparse_mrnn.errors import ConfigError, SavedFileError

Arrays = dict[str, NDArray[Any]]
EXPLICIT = "explicit"
"""Marks a projection whose synapses are those of the file, not of a rule."""
LABELS = "share_labels"
"""Names of the labels of a projection's gains; which synapse has which is in the state of the network."""
PLAIN = (str, int, float, bool, type(None))
BOUNDS = ("gain_low", "gain_high")
SHARING = ("share", "gain", *BOUNDS, LABELS)
DECLARED = frozenset(inspect.signature(RegionGraph.add_projection).parameters) - set(SHARING)


class EdgeTable(BaseModel):
    """Projections: regions by their number among the regions, settings by their number in ``settings``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: list[int]
    target: list[int]
    setting: list[int]
    settings: list[dict[str, Any]]


class GraphTables(BaseModel):
    """A graph: its attributes, its regions and inputs, and its projections, each in the graph's order."""

    model_config = ConfigDict(extra="forbid", strict=True)

    attributes: dict[str, Any]
    regions: list[dict[str, Any]]
    projections: EdgeTable


def graph_tables(graph: RegionGraph) -> tuple[GraphTables, Arrays]:
    """A graph as tables and arrays.

    Explicit weights are left out, and a rule or an initialiser that JSON cannot name makes its projection an
    explicit one: the synapses are kept beside the tables.

    Raises
    ------
    SavedFileError
        If an attribute of the graph or of a projection is not of JSON.

    Examples
    --------
    >>> g = RegionGraph(name="net"); g.add_region("a", 3); g.add_projection("a", "a", fan_in=2)
    >>> graph_tables(g)[0].projections.settings
    [{'fan_in': 2, 'key': 'default', 'self_connections': True, 'trainable': True}]
    """
    arrays: Arrays = {}
    regions = [_region(k, graph.region(name), arrays) for k, name in enumerate(graph)]
    number = {name: k for k, name in enumerate(graph)}
    source: list[int] = []
    target: list[int] = []
    setting: list[int] = []
    distinct: dict[str, int] = {}
    for s, t, key, attrs in graph.edges(keys=True, data=True):
        text = json.dumps({"key": key, **_settings(attrs, projection_label(s, t, key))}, sort_keys=True)
        source.append(number[s])
        target.append(number[t])
        setting.append(distinct.setdefault(text, len(distinct)))
    edges = EdgeTable(
        source=source, target=target, setting=setting, settings=[json.loads(text) for text in distinct]
    )
    attributes = {name: _plain(value, f"graph attribute {name!r}") for name, value in graph.graph.items()}
    return GraphTables(attributes=attributes, regions=regions, projections=edges), arrays


def graph_of_tables(tables: GraphTables, arrays: Arrays) -> tuple[RegionGraph, list[tuple[str, str, str]]]:
    """The graph of tables and arrays, and its explicit projections, which still lack their ``weights``.

    Raises
    ------
    SparseMRNNError, KeyError, TypeError, ValueError
        If the tables do not describe a graph.
    """
    graph, without_weights = RegionGraph(), []
    graph.graph.update(tables.attributes)
    for entry in tables.regions:
        fields = {name: _value(value, arrays) for name, value in entry.items()}
        name, n, kind = fields.pop("name"), fields.pop("n"), fields.pop("kind")
        if kind == "input":
            graph.add_input(name, n, sign=fields["sign"])
        else:
            graph.add_region(name, n, **fields)
    names, edges = list(graph), tables.projections
    for s, t, number in zip(edges.source, edges.target, edges.setting, strict=True):
        if not (0 <= s < len(names) and 0 <= t < len(names) and 0 <= number < len(edges.settings)):
            raise ValueError("a projection's number is out of range")
        settings = dict(edges.settings[number])
        key, explicit = settings.pop("key"), settings.pop(EXPLICIT, False)
        if LABELS in settings:
            settings[LABELS] = SynapseLabels(np.empty(0, dtype=np.int32), tuple(settings[LABELS]))
        if "rule" in settings:
            settings["rule"] = make_part(settings["rule"], RULES, "rule")
        if "initializer" in settings:
            settings["initializer"] = make_part(settings["initializer"], INITIALIZERS, "initializer")
        known = {name: value for name, value in settings.items() if name in DECLARED}
        graph.add_projection(names[s], names[t], key=key, **known)
        if "share" in settings and LABELS not in settings:
            label, bounds = projection_label(names[s], names[t], key), [settings.get(k) for k in BOUNDS]
            check_sharing(label, settings["share"], settings["gain"], bounds, None)
        graph.edges[names[s], names[t], key].update(settings)
        if explicit:
            without_weights.append((names[s], names[t], key))
    return graph, without_weights


def _region(k: int, region: Region, arrays: Arrays) -> dict[str, Any]:
    """A region's fields other than those at their defaults; arrays by their name in ``arrays``."""
    entry: dict[str, Any] = {}
    for name, field in Region.__dataclass_fields__.items():
        value = getattr(region, name)
        if name == "unit_ids" and value is not None:
            value = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
        if isinstance(value, np.ndarray):
            arrays[f"{k}.{name}"] = value
            entry[name] = {"array": f"{k}.{name}"}
        elif name in ("name", "n", "kind", "sign") or value != field.default:
            entry[name] = _plain(value, f"region {region.name!r}: {name}")
    return entry


def _value(value: Any, arrays: Arrays) -> Any:
    if not isinstance(value, dict):
        return value
    name = value["array"]
    return json.loads(arrays[name].tobytes()) if name.endswith(".unit_ids") else arrays[name]


def _settings(attrs: dict[str, Any], label: str) -> dict[str, Any]:
    """A projection's settings as JSON; explicit where its synapses are, or its classes are the user's own."""
    apart = ("weights", "rule", "initializer", LABELS)
    found = {name: value for name, value in attrs.items() if name not in apart}
    parts: dict[str, Any] = {name: attrs[name] for name in ("rule", "initializer") if name in attrs}
    explicit = "weights" in attrs or isinstance(attrs.get("rule"), Explicit)
    try:
        specs = {} if explicit else {name: spec_of(part) for name, part in parts.items()}
    except ConfigError:
        explicit, specs = True, {}
    if explicit:
        found = {name: value for name, value in found.items() if name not in ("density", "fan_in")}
    settings = {name: _plain(value, f"{label}: {name}") for name, value in found.items()}
    if LABELS in attrs:
        settings[LABELS] = list(attrs[LABELS].names)
    return {**settings, **specs, **({EXPLICIT: True} if explicit else {})}


def _plain(value: Any, what: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple | list):
        return [_plain(part, what) for part in value]
    if not isinstance(value, PLAIN):
        kind = type(value).__name__
        raise SavedFileError(f"{what} is a {kind}, which a saved network cannot hold; take it off the graph.")
    return value
