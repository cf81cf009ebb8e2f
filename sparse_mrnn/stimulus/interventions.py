"""Interventions: lesions, clamps and gain changes, each in a time window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sparse_mrnn.errors import InterventionError, StimulusError
from sparse_mrnn.stimulus.text import split_text, window
from sparse_mrnn.stimulus.waveforms import parameter
from sparse_mrnn.stimulus.windows import TimeWindow, UnitSelection


class Intervention(TimeWindow):
    """What `Lesion`, `Clamp` and `Gain` are.

    Parameters
    ----------
    start, stop : float, optional
        ms. Default: the whole run.
    """

    kind: ClassVar[str]
    error: ClassVar[type[StimulusError]] = InterventionError

    def to_spec(self) -> dict[str, Any]:
        """Its settings, as a configuration has them."""
        return {"type": self.kind, **super().to_spec()}


@dataclass(frozen=True)
class Lesion(Intervention, UnitSelection):
    """Silence units: their activity h is 0. Their x goes on, so they recover when the window ends.

    Parameters
    ----------
    region : str
        A region, a parent, one unit by its id, or an input (then its channels are 0).
    start, stop, units, fraction
        As for `Stimulus`.

    Examples
    --------
    >>> Lesion("thal", start=200).label
    "lesion of 'thal'"
    """

    kind: ClassVar[str] = "lesion"
    region: str = parameter("Region, parent or input.")

    @property
    def label(self) -> str:
        """What it is, for messages."""
        return f"lesion of {self.region!r}"

    @classmethod
    def parse(cls, text: str) -> Lesion:
        """Read ``REGION[:START[:STOP]]``.

        Raises
        ------
        InterventionError
            If the text has another form.
        """
        form = "lesion as REGION[:START[:STOP]]"
        region, times = split_text(text, form, InterventionError, numbers=(0, 2))
        return cls(region=region, **window(times))


@dataclass(frozen=True)
class Clamp(Intervention, UnitSelection):
    """Hold units at a value, whatever they receive.

    Parameters
    ----------
    region : str
        A region, a parent, or one unit by its id.
    value : float
        What the units are held at.
    variable : {"h", "x"}
        The activity h (x goes on below), or the state x, from which h follows.
    start, stop, units, fraction
        As for `Stimulus`.

    Examples
    --------
    >>> Clamp("thal", 1.5, start=100, stop=200).variable
    'h'
    """

    kind: ClassVar[str] = "clamp"
    region: str = parameter("Region or parent.")
    value: float = parameter("What the units are held at.")
    variable: str = parameter("h, the activity, or x, the state.", default="h")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.make_plain("value")
        if self.variable not in ("h", "x"):
            raise InterventionError(f"{self.label}: variable is {self.variable!r}; use 'h' or 'x'.")

    @property
    def label(self) -> str:
        """What it is, for messages."""
        return f"clamp of {self.region!r}"

    @classmethod
    def parse(cls, text: str) -> Clamp:
        """Read ``REGION:VALUE[:START[:STOP]]``, a clamp of h.

        Raises
        ------
        InterventionError
            If the text has another form.
        """
        form = "clamp as REGION:VALUE[:START[:STOP]]"
        region, (value, *times) = split_text(text, form, InterventionError, numbers=(1, 3))
        return cls(region=region, value=value, **window(times))


@dataclass(frozen=True)
class Gain(Intervention):
    """Multiply the weights of a projection; 0 lesions it. Gains of the same projection multiply.

    Parameters
    ----------
    source, target : str
        Regions or parents; the source may be an input. Every projection between them is meant.
    factor : float
        At least 0: a gain changes no sign.
    key : str, optional
        Only the parallel projections of this key.
    start, stop : float, optional
        ms.

    Examples
    --------
    >>> Gain("thal", "cortex", 0.0, start=500).label
    "gain of 'thal' -> 'cortex'"
    """

    kind: ClassVar[str] = "gain"
    source: str = parameter("Source region, parent or input.")
    target: str = parameter("Target region or parent.")
    factor: float = parameter("What the weights are multiplied by.")
    key: str | None = parameter("Only the parallel projections of this key.", default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.make_plain("factor")
        if self.factor < 0:
            raise InterventionError(f"{self.label}: the factor is {self.factor}; it must be at least 0.")

    @property
    def label(self) -> str:
        """What it is, for messages."""
        return f"gain of {self.source!r} -> {self.target!r}"

    @classmethod
    def parse(cls, text: str) -> Gain:
        """Read ``SOURCE:TARGET:FACTOR[:START[:STOP]]``.

        Raises
        ------
        InterventionError
            If the text has another form.
        """
        form = "gain as SOURCE:TARGET:FACTOR[:START[:STOP]]"
        names, (factor, *times) = split_text(text, form, InterventionError, numbers=(1, 3))
        source, colon, target = names.partition(":")
        if not (source and colon and target) or ":" in target:
            raise InterventionError(f"{text!r}: expected a {form}, times in ms.")
        return cls(source=source, target=target, factor=factor, **window(times))


INTERVENTIONS: dict[str, type[Intervention]] = {"lesion": Lesion, "clamp": Clamp, "gain": Gain}
"""Interventions by their type in a configuration."""
