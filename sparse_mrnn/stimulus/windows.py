"""Time windows and units of a region: when and where something is done."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from sparse_mrnn.checks import name_text, names_of, real_number, shown, values_by_column
from sparse_mrnn.errors import RoundingWarning, StimulusError
from sparse_mrnn.files.atomic import reason


@dataclass(frozen=True, kw_only=True)
class TimeWindow:
    """Time from ``start`` up to, but without, ``stop``.

    Parameters
    ----------
    start : float
        Start, ms.
    stop : float, optional
        Stop, ms. Default: the end of the run.

    Raises
    ------
    StimulusError
        If they are not an interval.

    Examples
    --------
    >>> TimeWindow(start=20, stop=50).steps(10.0, 100)
    (2, 5)
    """

    error: ClassVar[type[StimulusError]] = StimulusError
    number: ClassVar[str | None] = None
    """Name of the number in the form of the command line, if it is not that of its field."""
    preposition: ClassVar[str] = "of"
    """Word between the class and the region in messages."""
    required: ClassVar[tuple[str, ...]] = ()
    """Fields that come before the times in the form of the command line."""
    start: float = 0.0
    stop: float | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            given = getattr(self, f.name)
            # A region may be a unit by its id, and ids of neurons are often integers.
            name = name_text(given) if f.name == "region" else given
            if f.type in ("str", "str | None") and not (isinstance(name, str) or given is f.default is None):
                raise self.error(f"{type(self).__name__}: {f.name} is {given!r}; give a name.")
            object.__setattr__(self, f.name, name)
        self.make_plain("start", "stop")
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise self.error(f"{self.label}: start {self.start} and stop {self.stop} ms are not an interval.")

    def make_plain(self, *names: str, optional: bool = True) -> None:
        """Check that fields are finite numbers (or None by default, if ``optional``); make them Python's.

        Raises
        ------
        StimulusError
            If one is not a number.
        """
        may_be_none = {f.name for f in fields(self) if f.default is None and optional}
        for name in names:
            value = getattr(self, name)
            if value is not None or name not in may_be_none:
                number = real_number(value, f"{self.label}: {name}", self.error)
                object.__setattr__(self, name, number)

    @property
    def label(self) -> str:
        """Name in messages."""
        region, units = getattr(self, "region", None), getattr(self, "units", None)
        name = type(self).__name__.lower()
        if region is None and units is None:
            return name
        return f"{name} {self.preposition} {_units(units) if region is None else repr(region)}"

    @classmethod
    def form(cls) -> str:
        """Return the form of the command line.

        >>> TimeWindow.form()
        '[:START[:STOP]]'
        """
        names = [cls.number if name == "waveform" else name for name in cls.required]
        return f"{':'.join(str(name) for name in names).upper()}[:START[:STOP]]"

    def steps(self, dt: float, total: int) -> tuple[int, int]:
        """Return the first step, and the one after the last, in a run of ``total`` steps of ``dt`` ms.

        A stop after the end of the run is kept.

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

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the form of the command line: names, numbers and times with colons between.

        It is ``REGION:VALUE[:START[:STOP]]`` of a clamp, ``SOURCE:TARGET:FACTOR[:START[:STOP]]`` of a gain. A
        region ``@FILE`` is a text file of unit ids; times may have a unit, as in 250ms or 2s.

        Raises
        ------
        StimulusError
            If the text has another form.
        """
        names = [f.name for f in fields(cls) if f.name in cls.required and str(f.type).startswith("str")]
        numbers = [name for name in cls.required if name not in names]
        form = f"{cls.__name__.lower()} as {cls.form()}"
        name, found = split_text(text, form, cls.error, numbers=(len(numbers), len(numbers) + 2))
        parts = name.split(":") if len(names) > 1 else [name]
        if len(parts) != len(names) or not all(parts):
            raise cls.error(f"{text!r}: expected a {form}, times in ms.")
        given: dict[str, Any] = dict(zip(("start", "stop"), found[len(numbers) :], strict=False))
        given |= dict(zip(names, parts, strict=True)) | dict(zip(numbers, found, strict=False))
        if name.startswith("@") and names == ["region"]:
            given |= {"region": None, "units": ids_of_file(name[1:], text, cls.error)}
        return cls(**given)

    def to_spec(self) -> dict[str, Any]:
        """Return the settings, as a configuration has them, without those left at their defaults."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {name: plain(value) for name, value in own.items()}


@dataclass(frozen=True, kw_only=True)
class UnitSelection(TimeWindow):
    """All units of a region, some by their ids, or a random fraction of them; or units of any region.

    Parameters
    ----------
    start, stop
        As for `TimeWindow`.
    units : sequence of str or int, or mapping, optional
        Unit ids of the region, or columns of the table of units and the value or values that they have:
        ``{"cell_type": "MBON", "side": "left"}``.
    fraction : float in (0, 1], optional
        This fraction of the region's units, drawn with the run's seed.
    """

    units: Sequence[str | int] | Mapping[str, Any] | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.make_plain("fraction")
        if isinstance(self.units, Mapping):
            wanted = values_by_column(self.units, f"{self.label}: units", self.error)
            object.__setattr__(self, "units", wanted)
        elif self.units is not None:
            object.__setattr__(self, "units", names_of(self.units, f"{self.label}: units", self.error))
        if getattr(self, "region", "") is None and self.units is None:
            raise self.error(f"{type(self).__name__}: give a region, or units.")
        if self.units is not None and self.fraction is not None:
            raise self.error(f"{self.label}: units and fraction exclude each other; give one.")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            text = f"fraction is {self.fraction:g}; it must be above 0 and at most 1"
            raise self.error(f"{self.label}: {text}.")


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, tuple) else value


def _units(units: Any) -> str:
    """Return units as a label names them: a mapping, or the first ids."""
    if isinstance(units, Mapping):
        return f"units {shown(dict(units))}"
    ids = [units] if isinstance(units, str) else list(units)
    return f"units {shown(ids[:2])[:-1]}{', ...' if len(ids) > 2 else ''}]"


def split_text(
    text: str, form: str, error: type[StimulusError], *, numbers: tuple[int, int]
) -> tuple[str, list[float]]:
    """Split a text into the name and the numbers at its end; the name may have colons.

    Parameters
    ----------
    text : str
    form : str
        Expected form, for messages.
    error : StimulusError or a class derived from it
    numbers : (int, int)
        Least and largest count of numbers.

    Raises
    ------
    StimulusError
        If the text has another form.

    Examples
    --------
    >>> split_text("layer:5:0.5:100", "REGION:AMPLITUDE[:START]", StimulusError, numbers=(1, 2))
    ('layer:5', [0.5, 100.0])
    """
    least, most = numbers
    parts = text.split(":")
    found: list[float] = []
    while len(parts) > 1 and len(found) < most:
        try:
            found.insert(0, number_or_time(parts[-1]))
        except ValueError:
            break
        parts.pop()
    name = ":".join(parts)
    if not name or len(found) < least:
        raise error(f"{text!r}: expected a {form}, times in ms.")
    return name, found


MILLISECONDS = {"ms": 1.0, "s": 1000.0, "min": 60_000.0}
"""Milliseconds of each unit of time."""


def number_or_time(text: str) -> float:
    """Read a number, or a time with its unit, in ms.

    Raises
    ------
    ValueError
        If the text is neither.

    Examples
    --------
    >>> number_or_time("0.5"), number_or_time("500ms"), number_or_time("2 s")
    (0.5, 500.0, 2000.0)
    """
    stripped = text.strip()
    for unit in sorted(MILLISECONDS, key=len, reverse=True):
        if stripped.endswith(unit):
            return float(stripped.removesuffix(unit)) * MILLISECONDS[unit]
    return float(stripped)


def ids_of_file(path: str, text: str, error: type[StimulusError]) -> list[str]:
    """Read the unit ids of a text file, separated by commas or blanks; ``text`` is what names it.

    Raises
    ------
    StimulusError
        If the file cannot be read, or has no ids.
    """
    try:
        found = Path(path).read_text(encoding="utf-8").replace(",", " ").split()
    except (OSError, ValueError) as problem:
        raise error(f"{text!r}: cannot read {path}: {reason(problem)}.") from None
    if not found:
        raise error(f"{text!r}: {path} has no unit ids.")
    return found
