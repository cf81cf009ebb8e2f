"""Interventions: lesions, clamps and gain changes, each in a time window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sparse_mrnn.errors import InterventionError, StimulusError
from sparse_mrnn.stimulus.windows import TimeWindow, UnitSelection


class Intervention(TimeWindow):
    """Base of `Lesion`, `Clamp` and `Gain`: a change of the network in a time window.

    Parameters
    ----------
    start, stop
        As for `Stimulus`.
    """

    kind: ClassVar[str]
    error: ClassVar[type[StimulusError]] = InterventionError

    def to_spec(self) -> dict[str, Any]:
        """Return the settings, as a configuration has them."""
        return {"type": self.kind, **super().to_spec()}


@dataclass(frozen=True)
class Lesion(Intervention, UnitSelection):
    """Silence units: their activity h is 0. Their x goes on, so they recover when the window ends.

    Parameters
    ----------
    region : str, optional
        Region, parent, one unit by its id, units by a column, or input (whose channels are then 0).
    start, stop, units, fraction
        As for `Stimulus`.

    Examples
    --------
    >>> Lesion("thal", start=200).label
    "lesion of 'thal'"
    """

    kind: ClassVar[str] = "lesion"
    required: ClassVar[tuple[str, ...]] = ("region",)
    region: str | None = None


@dataclass(frozen=True)
class Clamp(Intervention, UnitSelection):
    """Hold units at a value, whatever they receive.

    Parameters
    ----------
    region : str, optional
        Region, parent, one unit by its id, or units by a column.
    value : float
        Value that the units are held at.
    variable : {"h", "x"}
        h, the activity (x goes on below), or x, the state, from which h follows.
    start, stop, units, fraction
        As for `Stimulus`.

    Examples
    --------
    >>> Clamp("thal", 1.5, start=100, stop=200).variable
    'h'
    """

    kind: ClassVar[str] = "clamp"
    required: ClassVar[tuple[str, ...]] = ("region", "value")
    region: str | None = None
    value: float | None = None
    variable: str = "h"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.make_plain("value", optional=False)
        if self.variable not in ("h", "x"):
            raise InterventionError(f"{self.label}: variable is {self.variable!r}; use 'h' or 'x'.")


@dataclass(frozen=True)
class Gain(Intervention):
    """Multiply the weights of a projection; 0 lesions it. Gains of the same projection multiply.

    Parameters
    ----------
    source : str
        Source region, parent or input. Every projection between source and target is meant.
    target : str
        Target region or parent.
    factor : float
        Factor on the weights, at least 0: a gain changes no sign.
    key : str, optional
        Only the parallel projections of this key.
    start, stop
        As for `Stimulus`.

    Examples
    --------
    >>> Gain("thal", "cortex", 0.0, start=500).label
    "gain of 'thal' -> 'cortex'"
    """

    kind: ClassVar[str] = "gain"
    required: ClassVar[tuple[str, ...]] = ("source", "target", "factor")
    source: str
    target: str
    factor: float
    key: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.make_plain("factor")
        if self.factor < 0:
            raise InterventionError(f"{self.label}: the factor is {self.factor}; it must be at least 0.")

    @property
    def label(self) -> str:
        """Name in messages."""
        return f"gain of {self.source!r} -> {self.target!r}"


INTERVENTIONS: dict[str, type[Intervention]] = {"lesion": Lesion, "clamp": Clamp, "gain": Gain}
"""Interventions by their type in a configuration."""
