"""Choice of what a simulation records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from sparse_mrnn.checks import names_of, values_by_column, whole_number
from sparse_mrnn.errors import RecordingError, suggest

What = Literal["units", "mean", "variance", "spikes"]
Variable = Literal["h", "x"]
Precision = Literal["float16", "float32", "float64"]


@dataclass(frozen=True)
class Record:
    """A choice of what to record, and how often.

    Parameters
    ----------
    what : sequence of {"units", "mean", "variance", "spikes"}
        Every unit, and/or the mean and variance over the units of each region; of a spiking network also its
        spikes, as events.
    variables : sequence of str
        h, the activity, and/or x, the state before the activation, and other states of the network's units;
        of a spiking network also rate, the spikes a second since the last recorded time. Spikes need none.
    regions : sequence of str, optional
        Only these regions or parents, or units by their ids. Statistics then are of each of these regions.
    units : sequence of str, optional
        Only these unit ids; a unit without an id is ``region[k]``.
    every : int
        Time steps from one recorded time to the next; the first recorded is step ``every``.
    dtype : {"float16", "float32", "float64"}, optional
        Precision of the recording. Default: the network's.

    Raises
    ------
    RecordingError
        If a choice is not available.

    Examples
    --------
    >>> Record(what=["mean"], every=10).what
    ('mean',)
    """

    what: Sequence[What] = ("units",)
    variables: Sequence[Variable] = ("h",)
    regions: Sequence[str] | None = None
    units: Sequence[str | int] | Mapping[str, Any] | None = None
    every: int = field(default=1, metadata={"ge": 1})
    dtype: Precision | None = None

    def __post_init__(self) -> None:
        # A run knows which states its network's units have besides x, so it checks the variables.
        known = {"what": get_args(What), "dtype": get_args(Precision)}
        for name in ("what", "variables", "dtype", "regions", "units"):
            given = getattr(self, name)
            if given is None and name not in ("what", "variables"):
                continue
            if isinstance(given, Mapping) and name == "units":
                object.__setattr__(self, name, values_by_column(given, "record: units", RecordingError))
                continue
            values = names_of(given, f"record: {name}", RecordingError)
            for value in values:
                if value not in known.get(name, values):
                    hint = suggest(value, known[name], what=name)
                    raise RecordingError(f"record: {name} has no {value!r}. {hint}")
            if name != "dtype":
                object.__setattr__(self, name, tuple(dict.fromkeys(values)))
        object.__setattr__(self, "every", whole_number(self.every, "record: every", RecordingError))
        if self.units is not None and not {"units", "spikes"} & set(self.what):
            what = ", ".join(self.what)
            raise RecordingError(f"record: units are chosen, but what is {what}; add 'units' to it.")

    def to_spec(self) -> dict[str, Any]:
        """Return the settings, as a configuration has them."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
