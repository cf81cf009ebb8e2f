"""The options that every importer takes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from sparse_mrnn.checks import real_number, shown, true_or_false
from sparse_mrnn.declaration.fields import Number, Positions
from sparse_mrnn.declaration.regions import REGION_FIELDS
from sparse_mrnn.errors import ConnectomeError, suggest

Select = Mapping[str, Any] | Iterable[Any]
UNIT_VALUES = {
    name: field.kind for name, field in REGION_FIELDS.items()
    if isinstance(field.kind, Positions) or (isinstance(field.kind, Number) and field.kind.by_unit)
}  # fmt: skip
"""Fields of a region that have a number, or several, for each unit."""


class ImportOptions(TypedDict, total=False):
    """Keyword arguments of every importer; `ImportSettings` has their meaning and defaults."""

    regions: str | Sequence[str] | None
    parent: str | None
    missing_region: str
    transmitter: str | None
    signs: str | Mapping[str, int] | None
    confidence: str | None
    min_confidence: float
    sign: str | None
    sign_per: Literal["neuron", "synapse"]
    mixed: Literal["error", "majority", "free"]
    unknown_sign: Literal["free", "pos", "neg", "error"]
    counts: bool
    scale: Literal["none", "fraction", "log"]
    gain: float
    spectral_radius: float | None
    min_count: float
    parallel: str
    delay: str | None
    delay_step: float | None
    keep: str | Sequence[str] | None
    of_units: Mapping[str, str | Sequence[str]] | None
    self_connections: bool
    select: Select | None
    keep_isolated: bool
    unknown: Literal["error", "drop", "keep"]
    missing_ids: Literal["error", "drop", "keep"]
    repeated_ids: Literal["error", "first", "drop"]
    trainable: bool
    share: bool | str | None
    name: str


@dataclass(frozen=True)
class ImportSettings:
    """The rules by which neurons and edges become regions and projections.

    Parameters
    ----------
    regions : str or sequence of str, optional
        Column(s) of the neuron table whose values are the regions; several are joined by a dot, and the first
        is the parent. A column of the edge table (a neuropil) puts each neuron where most of its synapses
        are. None: one region.
    parent : str, optional
        Column of the neuron table with the parent of a neuron's region, if ``regions`` is one column. A
        region whose neurons disagree has none.
    missing_region : str
        The region of neurons without a value there.
    transmitter : str, optional
        Column with transmitters, of the neuron table (or else the edge table).
    signs : {"fly", "vertebrate"} or mapping of transmitter to +1, -1 or 0, optional
        What transmitters do. They disagree about glutamate, so nothing is assumed.
    confidence, min_confidence : str, float
        Column of the transmitter's confidence, in the table that has the transmitter; below the least one, or
        without a value there, the transmitter is unknown.
    sign : str, optional
        Column (neuron or edge table) with +1, -1, 0, "pos" or "neg", instead of transmitters.
    sign_per : {"neuron", "synapse"}
        Dale's law by neuron, or a sign for every synapse: excitatory and inhibitory synapses then are
        parallel projections of fixed sign.
    mixed : {"error", "majority", "free"}
        Neurons whose synapses disagree about the sign: refused, by most synapses, or unsigned.
    unknown_sign : {"free", "pos", "neg", "error"}
        Neurons or synapses whose sign is not known. Free ones start positive and may change in training.
    counts : bool
        Weights are synapse counts, whole and not negative. False: any finite real number; a negative one is
        inhibitory if no other sign is given.
    scale : {"none", "fraction", "log"}
        Weight of a connection: its count; its fraction of all counts onto the target; or log(1 + count).
    gain : float
        Factor on all weights.
    spectral_radius : float, optional
        Scale all weights so that the matrix has this spectral radius.
    min_count : float
        Pairs of neurons with fewer synapses in all are left out.
    parallel : str
        "sum", or a column of the edge table whose values become the keys of parallel projections.
    delay : str, optional
        Column of the edge table with conduction delays, ms. Rows of different delays become parallel
        projections; one without a delay, or of 0, takes one time step.
    delay_step : float, optional
        Round delays to multiples of this, ms. Default: as they are, or 0.1 if there are more than 100.
    keep : str or sequence of str, optional
        Columns of the neuron table(s) that units of the network have, beside those that other options name:
        ``net.units`` has them, and they choose units. Default: all of numbers or text, without
        the largest if they take more than 64 MB; the report names what was left out. (): no others.
    of_units : mapping of str to str, optional
        Values of units from columns of the neuron table(s), such as ``{"tau": "tau_ms"}``: any field of a
        region with a number for each unit (base_firing, the tonic input; tau, ms; noise_level;
        activation_threshold; ...), or positions, whose columns are a list, ``{"positions": ["x", "y"]}``,
        or one column of lists, as CAVE and Codex have them.
        Every neuron that is kept needs a value that the field may have.
    self_connections : bool
        Keep connections of a neuron with itself.
    select : mapping or iterable, optional
        Neurons to keep: a mapping of neuron column to the value(s) wanted, or ids.
    keep_isolated : bool
        Keep neurons without any connection.
    unknown : {"error", "drop", "keep"}
        Edges with neurons that the neuron table does not have; "keep" adds those neurons.
    missing_ids : {"error", "drop", "keep"}
        Rows whose id is blank or a word such as NA, NaN or NULL; "drop" leaves them out and counts them,
        "keep" takes the word for a neuron's name (a blank is left out). CAVE's root id 0, which belongs to no
        neuron, is left out and counted unless "keep".
    repeated_ids : {"error", "first", "drop"}
        Neurons with several rows in a neuron table: refused, their first row, or left out; counted.
    trainable : bool
    share : {"cell types", "source", "target"}, optional
        Learn gains of the weights, which stay as they are: one for each pair of regions (which are the cell
        types if ``regions`` is their column), or one for each source or target neuron of a pair.
    name : str
        Of the graph.
    """

    regions: str | Sequence[str] | None = None
    parent: str | None = None
    missing_region: str = "unassigned"
    transmitter: str | None = None
    signs: str | Mapping[str, int] | None = None
    confidence: str | None = None
    min_confidence: float = 0.0
    sign: str | None = None
    sign_per: str = "neuron"
    mixed: str = "error"
    unknown_sign: str = "free"
    counts: bool = True
    scale: str = "fraction"
    gain: float = 1.0
    spectral_radius: float | None = None
    min_count: float = 0.0
    parallel: str = "sum"
    delay: str | None = None
    delay_step: float | None = None
    keep: str | Sequence[str] | None = None
    of_units: Mapping[str, str | Sequence[str]] | None = None
    self_connections: bool = True
    select: Select | None = None
    keep_isolated: bool = True
    unknown: str = "error"
    missing_ids: str = "error"
    repeated_ids: str = "error"
    trainable: bool = True
    share: str | None = None
    name: str = ""

    @classmethod
    def of(cls, options: Mapping[str, Any], **defaults: Any) -> ImportSettings:
        """Check the options of an importer, over its own defaults."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                raise ConnectomeError(f"unknown option {name!r}. {suggest(name, known, what='options')}")
        settings = cls(**{**defaults, **options})
        settings._check_kinds()
        for name, values in CHOICES.items():
            value = getattr(settings, name)
            if value not in values and not (name == "share" and value is None):
                raise ConnectomeError(f"{name} is {value!r}; use {', '.join(map(repr, values))}.")
        if settings.transmitter is not None and settings.sign is not None:
            raise ConnectomeError("transmitter and sign exclude each other; give one.")
        least = settings.min_confidence
        if settings.min_count < 0:
            raise ConnectomeError(f"min_count is {settings.min_count!r}; it cannot be negative.")
        if settings.transmitter is settings.sign is None and (settings.confidence is not None or least > 0):
            problem = "confidence and min_confidence are of transmitters"
            raise ConnectomeError(f"{problem}; name their column with transmitter=.")
        settings._check_of_units()
        positive("gain", settings.gain)
        for name in ("spectral_radius", "delay_step"):
            if getattr(settings, name) is not None:
                positive(name, getattr(settings, name))
        return settings

    def _check_kinds(self) -> None:
        """Refuse values of another kind than their option has."""
        for name, hint in HINTS.items():
            value = getattr(self, name)
            if value is None and type(None) in get_args(hint):
                continue
            if hint is bool:
                true_or_false(value, name, ConnectomeError)
            elif hint in (float, float | None):
                real_number(value, name, ConnectomeError)
            elif hint in (str, str | None) and not isinstance(value, str):
                raise ConnectomeError(f"{name} is {shown(value)}; it must be text.")
            elif name in ("regions", "keep") and not isinstance(value, str):
                columns = list(value) if isinstance(value, Iterable) else [None]
                if not all(isinstance(column, str) for column in columns):
                    raise ConnectomeError(f"{name} is {shown(value)}; give the name of a column, or several.")

    def _check_of_units(self) -> None:
        if not isinstance(self.of_units, Mapping | None):
            example = "such as {'tau': 'tau_ms'}"
            raise ConnectomeError(f"of_units is {self.of_units!r}; give columns by field, {example}.")
        for name, columns in (self.of_units or {}).items():
            if name not in UNIT_VALUES:
                hint = suggest(name, UNIT_VALUES, what="fields")
                raise ConnectomeError(f"of_units: no field of units is called {name!r}. {hint}")
            several, every = name == "positions", self.value_columns[name]
            named = bool(every) and all(column and isinstance(column, str) for column in every)
            if not named or not (several or columns in every):
                wanted = "columns, such as ['x', 'y', 'z']" if several else "the name of one column"
                raise ConnectomeError(f"of_units: {name} is {columns!r}; give {wanted}.")

    @property
    def value_columns(self) -> dict[str, list[str]]:
        """Columns that ``of_units`` names, by field."""
        given: dict[str, Any] = dict(self.of_units or {})
        return {name: list(c) if isinstance(c, list | tuple) else [c] for name, c in given.items()}

    @property
    def region_columns(self) -> list[str]:
        """Columns that name regions."""
        if self.regions is None:
            return []
        return [self.regions] if isinstance(self.regions, str) else list(self.regions)

    @property
    def kept_columns(self) -> list[str]:
        """Columns that ``keep`` names."""
        return [self.keep] if isinstance(self.keep, str) else list(self.keep or ())

    def neuron_columns(self) -> list[str]:
        """Columns the neuron table may have to give."""
        selected = list(self.select) if isinstance(self.select, Mapping) else []
        columns = (*self.region_columns, self.parent, self.transmitter, self.confidence, self.sign)
        columns += (*selected, *self.kept_columns, *itertools.chain(*self.value_columns.values()))
        return [column for column in columns if column]

    def edge_columns(self) -> list[str]:
        """Columns the edge table may have to give, beside source, target and weight."""
        key = None if self.parallel == "sum" else self.parallel
        columns = (*self.region_columns, self.transmitter, self.confidence, self.sign, key, self.delay)
        return [column for column in columns if column]


def positive(name: str, value: object) -> float:
    """An argument that must be a positive, finite number.

    >>> positive("gain", 2)
    2.0
    """
    with suppress(ConnectomeError):
        if real_number(value, name, ConnectomeError) > 0:
            return float(value)  # type: ignore[arg-type]
    raise ConnectomeError(f"{name} is {shown(value)}; it must be a positive number.")


HINTS = get_type_hints(ImportOptions)
CHOICES: dict[str, tuple[str, ...]] = {
    **{name: get_args(hint) for name, hint in HINTS.items() if get_origin(hint) is Literal},
    "share": ("cell types", "source", "target"),
}
"""Options that are one of some words."""
