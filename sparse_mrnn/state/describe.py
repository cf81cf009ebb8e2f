"""The one description of a network: its graph and settings as a plain dictionary, and the graph made again.

Everything that says what a network is comes from `describe`: the header of a saved network, what a state dict
and a checkpoint are compared by (`declared`), the attributes of recordings, and the check that all ranks
declare the same. It is compact: a million projections are three lists of numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from sparse_mrnn.declaration.config import make_part, spec_of
from sparse_mrnn.declaration.connectivity import RULES, Explicit
from sparse_mrnn.declaration.explicit_synapses import StoredBlock, SynapseArrays
from sparse_mrnn.declaration.fields import REGION_SIGNS, Learnable, checked
from sparse_mrnn.declaration.graph import RegionGraph
from sparse_mrnn.declaration.initializers import INITIALIZERS
from sparse_mrnn.declaration.projection_columns import ProjectionColumns
from sparse_mrnn.declaration.projections import PROJECTION_FIELDS, kept, projection_label
from sparse_mrnn.declaration.regions import REGION_FIELDS, Region
from sparse_mrnn.declaration.sharing import SynapseLabels, check_sharing
from sparse_mrnn.errors import ConfigError, SavedFileError
from sparse_mrnn.files.digest import Digest, digest

Arrays = dict[str, NDArray[Any]]
Description = dict[str, Any]

FORMAT = 1
NAMED_PROJECTIONS = 500
"""Projections up to which each is compared by name; of more, only a digest is."""
EXPLICIT = "explicit"
"""Marks a projection whose synapses are those of the state, not of a rule."""
LABELS = "share_labels"
"""Names of the labels of a projection's gains; which synapse has which is in the state of the network."""
SIGN_WORDS = {number: word for word, number in REGION_SIGNS.items()}
DEFAULTS = {f.name: f.default for f in fields(Region) if f.default is not MISSING}
ALWAYS = ("name", "n", "kind", "sign")
"""Fields of a region that its description has even if they are at their defaults."""
BOUNDS = ("gain_low", "gain_high")
SHARING = ("share", "gain", *BOUNDS, LABELS)
DRAWN_BY = ("rule", "initializer", "density", "fan_in")
"""Settings of a projection that draw its synapses and values."""

MAY_DIFFER = ("backend", "seed", "batch_first", "spectral_radius", "dtype")
"""Settings that a network may have otherwise than a state it loads: they do not change what it computes."""
NOT_COMPARED = ("parent_region", "positions", "unit_table")
"""Fields of a region that its dynamics do not depend on."""
IN_STATE = ("trainable", "self_connections", "gain")
"""Settings of a projection that say how its state began; `DRAWN_BY` likewise."""


class ProjectionTable(BaseModel):
    """Projections: regions by their number among the regions, settings by their number in ``settings``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: list[int]
    target: list[int]
    setting: list[int]
    settings: list[dict[str, Any]]


class DescriptionModel(BaseModel):
    """The form of a description, for one that comes from a file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    settings: dict[str, Any]
    attributes: dict[str, Any]
    regions: list[dict[str, Any]]
    projections: ProjectionTable


def describe(graph: RegionGraph, settings: Mapping[str, Any], arrays: Arrays | None = None) -> Description:
    """Describe a network as JSON: its settings, and regions and projections in the graph's order.

    Explicit weights are left out, and a rule or an initialiser that JSON cannot name makes its projection an
    explicit one: the synapses are in the state of the network.

    Parameters
    ----------
    graph : RegionGraph
    settings : mapping
        Settings of the model, as JSON.
    arrays : dict, optional
        Takes the arrays of regions (signs, positions, ids, ...), so that `graph_of` can make the graph again.
        Default: an array becomes its digest, and one with equal entries that entry.

    Raises
    ------
    SavedFileError
        If ``arrays`` is given and an attribute of the graph or of a projection is not JSON. Without, its type
        stands for it.

    Examples
    --------
    >>> g = RegionGraph(name="net"); g.add_region("a", 3); g.add_projection("a", "a", fan_in=2)
    >>> describe(g, {"dt": 5})["projections"]["settings"]
    [{'fan_in': 2, 'key': 'default', 'self_connections': True, 'trainable': True}]
    """
    every = graph.projection_columns()
    columns, names = every.columns, every.names
    # Of a million projections, most have the settings of others: each is described once.
    kinds, first, kind = np.unique(
        columns.setting * 2 + (columns.table >= 0), return_index=True, return_inverse=True
    )
    distinct: dict[str, int] = {}
    number = np.empty(len(kinds), dtype=np.int64)
    for k in np.argsort(first).tolist():
        (key, attrs), explicit = columns.settings[kinds[k] // 2], bool(kinds[k] % 2)
        label = projection_label(*names[int(first[k])])
        own = _projection(attrs, label, explicit or "weights" in attrs, arrays is None)
        text = json.dumps({"key": key, **own}, sort_keys=True)
        number[k] = distinct.setdefault(text, len(distinct))
    table = {"source": columns.source.tolist(), "target": columns.target.tolist()}
    table["setting"] = number[kind.reshape(-1)].tolist()
    return {
        "settings": dict(settings),
        "attributes": {
            name: _plain(value, f"graph attribute {name!r}", arrays is None)
            for name, value in graph.graph.items()
        },
        "regions": [_region(k, graph.region(name), arrays) for k, name in enumerate(graph)],
        "projections": {**table, "settings": [json.loads(text) for text in distinct]},
    }


def graph_of(described: DescriptionModel, arrays: Arrays) -> RegionGraph:
    """Make the graph of a description and its arrays; explicit projections have no synapse yet.

    Raises
    ------
    SparseMRNNError, KeyError, TypeError, ValueError
        If the description is not one of a graph.
    """
    graph = RegionGraph()
    graph.graph.update(described.attributes)
    for entry in described.regions:
        values = {name: _value(value, arrays) for name, value in entry.items()}
        name, n, kind = values.pop("name"), values.pop("n"), values.pop("kind")
        if kind == "input":
            graph.add_input(name, n, sign=values["sign"])
        else:
            graph.add_region(name, n, **values)
    names, table = list(graph), described.projections
    columns = [np.array(part, dtype=np.int64) for part in (table.source, table.target, table.setting)]
    for numbers, limit in zip(columns, (len(names), len(names), len(table.settings)), strict=True):
        if len({len(part) for part in columns}) > 1 or ((numbers < 0) | (numbers >= limit)).any():
            raise ValueError("a projection's number is out of range")
    source, target, number = columns
    alone: list[tuple[str, str, str, dict[str, Any]]] = []  # projections that are looked at one by one
    shared: list[tuple[str, dict[str, Any]]] = []  # settings of the others, which are explicit
    place = np.full(len(table.settings), -1, dtype=np.int64)
    for k, first in zip(*(part.tolist() for part in np.unique(number, return_index=True)), strict=True):
        settings = table.settings[k]
        if settings.get(EXPLICIT) and not any(name in settings for name in ("rank", *DRAWN_BY)):
            place[k] = len(shared)
            key, attrs = _given(settings)
            label = projection_label(names[source[first]], names[target[first]], key)
            fields = {name: value for name, value in attrs.items() if name in PROJECTION_FIELDS}
            shared.append((key, {**kept(checked(PROJECTION_FIELDS, label, fields)), **attrs}))
            _check_gains(label, attrs)
    explicit = place[number] >= 0
    for k in np.flatnonzero(~explicit).tolist():
        key, attrs = _given(table.settings[number[k]])
        ends = names[source[k]], names[target[k]]
        known = {name: v for name, v in attrs.items() if name in (*PROJECTION_FIELDS, *DRAWN_BY)}
        graph.add_projection(*ends, key=key, **known)
        _check_gains(projection_label(*ends, key), attrs)
        alone.append((*ends, key, {**graph.projection_attributes(*ends, key), **attrs}))
    nothing = SynapseArrays(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
    none = np.zeros(int(explicit.sum()), dtype=np.int64)
    of_shared = ProjectionColumns.of_ranges(
        source[explicit], target[explicit], place[number][explicit], tuple(shared), nothing, none, none
    )
    of_alone = ProjectionColumns.of_edges(alone, {name: k for k, name in enumerate(names)})
    graph.replace_columns(ProjectionColumns.joined([]))
    order = np.argsort(np.argsort(~explicit, kind="stable"))  # as the table has them
    graph.add_columns(ProjectionColumns.joined([of_shared, of_alone]).take(order))
    return graph


def _given(settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The key and the attributes of a described projection."""
    found = dict(settings)
    key = found.pop("key")
    found.pop(EXPLICIT, None)
    if LABELS in found:
        found[LABELS] = SynapseLabels(np.empty(0, dtype=np.int32), tuple(found[LABELS]))
    for part, kinds in (("rule", RULES), ("initializer", INITIALIZERS)):
        if part in found:
            found[part] = make_part(found[part], kinds, part)
    return key, found


def _check_gains(label: str, attrs: Mapping[str, Any]) -> None:
    if "share" in attrs and LABELS not in attrs:
        bounds = [attrs.get(k) for k in BOUNDS]
        check_sharing(label, attrs["share"], attrs["gain"], bounds, None)


def declared(described: Description) -> dict[str, Any]:
    """The part of a description that must match before parameters and synapses are loaded.

    Regions and projections are named; what is at its default is left out. Gains, factors of low rank and
    conductances are numbered in the order in which they are declared, so that order counts.

    Examples
    --------
    >>> g = RegionGraph(); g.add_region("a", 3, tau=50.0); g.add_projection("a", "a", delay=20.0)
    >>> found = declared(describe(g, {"tau": 100, "seed": 3}))
    >>> found["tau"], found["regions"], found["projections"]
    (100, {'a': {'n': 3, 'sign': 'pos', 'tau': 50.0}}, {"projection 'a' -> 'a'": {'delay': 20.0}})
    """
    found = {k: v for k, v in described["settings"].items() if k not in MAY_DIFFER}
    usual = {**DEFAULTS, "tau": found.get("tau"), "activation": found.get("activation")}
    usual["noise_level"] = found.get("noise_level_act")
    for kind, what in (("recurrent", "regions"), ("input", "inputs")):
        entries = [entry for entry in described["regions"] if entry["kind"] == kind]
        found[f"order of {what}"] = [entry["name"] for entry in entries]
        found[what] = {entry["name"]: _compared_region(entry, usual) for entry in entries}
    table, names = described["projections"], [entry["name"] for entry in described["regions"]]
    compared = [_compared_projection(settings) for settings in table["settings"]]
    projections: dict[str, Any] = {}
    ordered: dict[str, list[str]] = {"gains": [], "low rank": [], "electrical": []}
    for source, target, k in zip(table["source"], table["target"], table["setting"], strict=True):
        label = projection_label(names[source], names[target], table["settings"][k]["key"])
        projections[label] = compared[k]
        if "share" in compared[k]:
            ordered["gains"].append(label)
        if "rank" in compared[k]:
            ordered["low rank"].append(label)
        if compared[k].get("kind") == "electrical":
            ordered["electrical"].append(label)
    few = len(projections) <= NAMED_PROJECTIONS
    found["projections"] = projections if few else {"number": len(projections), "digest": digest(projections)}
    found |= {f"order of {what}": one if few else digest(one) for what, one in ordered.items() if one}
    return {"format": FORMAT, **found}


def synapse_digests(graph: RegionGraph) -> dict[str, str]:
    """Digests of the regions and of the projections of a graph, with its explicit synapses. O(synapses)."""
    described = describe(graph, {})
    found = Digest(described["projections"])
    for p in graph.projections():
        if p.share is not None and p.share.labels is not None:
            found.add(p.share.labels.codes)
        if isinstance(p.synapses, StoredBlock):
            found.add([p.synapses.stored.digest, p.synapses.projection])
        elif p.synapses is not None:
            weights = p.synapses.tocsr()
            for array in (weights.indptr, weights.indices, weights.data):
                found.add(array)
        elif not _is_named(p.rule, p.initializer):
            found.add([repr(p.rule), repr(p.initializer)])
    return {"regions": digest(described["regions"]), "projections": found.hexdigest()}


def by_name(described: Description, *, projections: bool = True) -> dict[str, Any]:
    """A description with its regions and, unless told not to, projections by name, to be read by people."""
    regions = {e["name"]: {k: v for k, v in e.items() if k != "name"} for e in described["regions"]}
    names, table = list(regions), described["projections"]
    found: dict[str, Any] = {"settings": described["settings"], "regions": regions, "projections": {}}
    rows = zip(table["source"], table["target"], table["setting"], strict=True)
    for source, target, k in rows if projections else ():
        settings = dict(table["settings"][k])
        found["projections"][f"{names[source]} -> {names[target]} ({settings.pop('key')})"] = settings
    return found


def _region(k: int, region: Region, arrays: Arrays | None) -> dict[str, Any]:
    """A region's fields that are not at their defaults; arrays by name in ``arrays``, or as their digest."""
    entry: dict[str, Any] = {}
    for name in (field.name for field in fields(Region)):
        value, what = getattr(region, name), f"{k}.{name}"
        if arrays is None:
            value = _digested(name, value)
        elif name == "unit_ids" and value is not None:
            arrays[what] = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
            value = {"array": what}
        elif name == "unit_table" and value is not None:
            value = {"columns": {c: _column(f"{what}.{c}", values, arrays) for c, values in value.items()}}
        elif isinstance(value, np.ndarray):
            arrays[what] = value
            value = {"array": what}
        if name in ALWAYS or value != DEFAULTS[name]:
            what = f"region {region.name!r}: {name}"
            entry[name] = value if isinstance(value, dict) else _plain(value, what, arrays is None)
    return entry


def _column(what: str, values: NDArray[Any], arrays: Arrays) -> dict[str, str]:
    """Put a column of a table of units into ``arrays``; text as JSON."""
    text = values.dtype.kind == "O"
    arrays[what] = np.frombuffer(json.dumps(values.tolist()).encode(), dtype=np.uint8) if text else values
    return {"text" if text else "array": what}


def _digested(name: str, value: Any) -> Any:
    """A field whose array is a digest, or one number if all its entries are equal."""
    if name == "unit_ids" and value is not None:
        return digest(list(value))
    if name == "unit_table" and value is not None:
        return digest({column: values.tolist() for column, values in value.items()})
    if not isinstance(value, np.ndarray):
        return value
    if value.ndim == 1 and len(value) and (value == value[0]).all():
        return SIGN_WORDS[int(value[0])] if name == "sign" else value[0].item()
    return digest(value)


def _value(value: Any, arrays: Arrays) -> Any:
    if not isinstance(value, dict):
        return value
    if "columns" in value:
        return {column: _value(entry, arrays) for column, entry in value["columns"].items()}
    if "text" in value:
        return json.loads(arrays[value["text"]].tobytes())
    name = value["array"]
    return json.loads(arrays[name].tobytes()) if name.endswith(".unit_ids") else arrays[name]


def _projection(attrs: Mapping[str, Any], label: str, explicit: bool, lossy: bool) -> dict[str, Any]:
    """A projection's settings as JSON; explicit if its synapses are, or its classes are the user's own."""
    apart = ("weights", "rule", "initializer", LABELS)
    parts = {name: attrs[name] for name in ("rule", "initializer") if name in attrs}
    explicit = explicit or isinstance(attrs.get("rule"), Explicit) or not _is_named(*parts.values())
    left_out = (*apart, "density", "fan_in") if explicit else apart
    kept = {name: value for name, value in attrs.items() if name not in left_out}
    found = {name: _plain(value, f"{label}: {name}", lossy) for name, value in kept.items()}
    if LABELS in attrs:
        found[LABELS] = list(attrs[LABELS].names)
    specs: dict[str, Any] = {EXPLICIT: True} if explicit else {k: spec_of(part) for k, part in parts.items()}
    return {**found, **specs}


def _is_named(*parts: Any) -> bool:
    """True if JSON can name these rules and initialisers."""
    try:
        for part in parts:
            if part is not None:
                spec_of(part)
    except ConfigError:
        return False
    return True


def _compared_region(entry: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    left_out = ("name", "kind", *NOT_COMPARED) + (() if entry.get("learnable_tau") else ("tau_bounds",))
    found = {k: v for k, v in entry.items() if k not in left_out and (k in ALWAYS or v != usual.get(k))}
    for name, value in found.items():
        kind = REGION_FIELDS[name].kind if name in REGION_FIELDS else None
        if value is True and isinstance(kind, Learnable):
            found[name] = kind.true  # what True stands for
    return found


def _compared_projection(settings: Mapping[str, Any]) -> dict[str, Any]:
    known = (name for name in (*PROJECTION_FIELDS, *SHARING) if name not in IN_STATE)
    found = {name: settings[name] for name in known if settings.get(name) is not None}
    if LABELS in found:
        found[LABELS] = digest(found[LABELS])
    return found


def _plain(value: Any, what: str, lossy: bool) -> Any:
    """A value as JSON has it; if ``lossy``, the name of its type where JSON has nothing like it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple | list):
        return [_plain(part, what, lossy) for part in value]
    if not isinstance(value, str | int | float | bool | type(None)):
        kind = type(value).__name__
        if lossy:
            return kind
        raise SavedFileError(f"{what} is a {kind}, which a saved network cannot hold; take it off the graph.")
    return value
