"""When and where something is done: time windows, and units of a region."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from sparse_mrnn.checks import names_of, real_number
from sparse_mrnn.errors import RoundingWarning, StimulusError


@dataclass(frozen=True, kw_only=True)
class TimeWindow:
    """From ``start`` up to, and without, ``stop``.

    Parameters
    ----------
    start : float
        ms.
    stop : float, optional
        ms. Default: the end of the run.

    Raises
    ------
    StimulusError
        If they are no interval.

    Examples
    --------
    >>> TimeWindow(start=20, stop=50).steps(10.0, 100)
    (2, 5)
    """

    error: ClassVar[type[StimulusError]] = StimulusError
    start: float = 0.0
    stop: float | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            name = getattr(self, f.name)
            if f.type in ("str", "str | None") and not (isinstance(name, str) or name is f.default is None):
                raise self.error(f"{type(self).__name__}: {f.name} is {name!r}; give a name.")
        self.make_plain("start", "stop")
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise self.error(f"{self.label}: start {self.start} and stop {self.stop} ms are no interval.")

    def make_plain(self, *names: str) -> None:
        """Check that fields are finite numbers, or None where that is the default; make them Python's.

        Raises
        ------
        StimulusError
            If one is no number.
        """
        optional = {f.name for f in fields(self) if f.default is None}
        for name in names:
            value = getattr(self, name)
            if value is not None or name not in optional:
                number = real_number(value, f"{self.label}: {name}", self.error)
                object.__setattr__(self, name, number)

    @property
    def label(self) -> str:
        """What it is, for messages."""
        return type(self).__name__.lower()

    def steps(self, dt: float, total: int) -> tuple[int, int]:
        """First step, and the one after the last, in a run of ``total`` steps of ``dt`` ms.

        A stop after the end of the run stays where it is.

        Raises
        ------
        StimulusError
            If it starts after the end, or is shorter than a step.
        """
        found = []
        for name, time in (("start", self.start), ("stop", self.stop)):
            exact = float(total) if time is None else min(time / dt, 2.0**52)
            step = round(exact)
            if time is not None and abs(step - exact) > 1e-6:
                rounded = f"is not a multiple of dt = {dt:g} ms; it is rounded to {step * dt:g} ms"
                text = f"{self.label}: {name} {time:g} ms {rounded}."
                warnings.warn(text, RoundingWarning, stacklevel=2)
            found.append(step)
        start, stop = found
        if start >= total:
            end = total * dt
            raise self.error(f"{self.label} starts at {self.start:g} ms, after the end at {end:g} ms.")
        if stop <= start:
            window = f"{self.label} from {self.start:g} to {self.stop:g} ms"
            raise self.error(f"{window} is shorter than a time step, {dt:g} ms.")
        return start, stop

    def to_spec(self) -> dict[str, Any]:
        """Its settings, as a configuration has them, without those left at their defaults."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {name: plain(value) for name, value in own.items()}


@dataclass(frozen=True, kw_only=True)
class UnitSelection(TimeWindow):
    """All units of a region, some by their ids, or a random fraction of them.

    Parameters
    ----------
    start, stop : float, optional
        ms. Default: the whole run.
    units : sequence of str, optional
        Unit ids of the region.
    fraction : float in (0, 1], optional
        This fraction of the region's units, drawn with the run's seed.
    """

    units: Sequence[str] | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.make_plain("fraction")
        if self.units is not None:
            object.__setattr__(self, "units", names_of(self.units, f"{self.label}: units", self.error))
        if self.units is not None and self.fraction is not None:
            raise self.error(f"{self.label}: units and fraction exclude each other; give one.")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            text = f"fraction is {self.fraction:g}; it must be above 0 and at most 1"
            raise self.error(f"{self.label}: {text}.")


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, tuple) else value
