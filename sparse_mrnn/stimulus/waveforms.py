"""Waveforms: currents over time, each with its formula. Declarations without a network or torch.

The Parameters section of a waveform's docstring also describes its fields in the JSON Schema of a
configuration.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparse_mrnn.checks import real_number
from sparse_mrnn.errors import StimulusError
from sparse_mrnn.files.digest import digest
from sparse_mrnn.stimulus.windows import plain

Floats = NDArray[np.float64]
Shape = tuple[int, int]
POSITIVE, NOT_NEGATIVE = {"gt": 0.0}, {"ge": 0.0}
"""Bounds of a field, as pydantic names them: a waveform and the model of its configuration check them."""
MOST_EVENTS = 10_000
"""Largest mean of a Poisson count of events in a time step."""


class Waveform(ABC):
    """A current over time. ``t`` is in ms since the stimulus began; a value holds for one time step.

    A waveform of a class of your own needs an ``id`` to be resumable: runs with the same id count as equal.

    Attributes
    ----------
    kind : str
        Type in a configuration.
    id : str, optional
        Name of a function or class of your own, which stands for its code when a run is resumed.
    """

    kind: ClassVar[str] = "custom"
    id: str | None = None

    def __post_init__(self) -> None:
        for f in fields(self) if is_dataclass(self) else ():  # type: ignore[var-annotated]
            if f.type == "float":
                number = real_number(getattr(self, f.name), f"{type(self).__name__}: {f.name}", StimulusError)
                object.__setattr__(self, f.name, number)
                found = f"{f.name} is {number:g}"
                self._need("gt" not in f.metadata or number > 0, f"{found}; it must be positive")
                self._need("ge" not in f.metadata or number >= 0, f"{found}; it must not be negative")

    @abstractmethod
    def value(self, t: float, length: float) -> float | Floats:
        """Return the current at ``t`` in a window of ``length`` ms: a number or array (units[, trials])."""

    def holds(self, t: float) -> float:
        """Return for how long the value at ``t`` stays the same, ms; 0 if only for a time step."""
        return 0.0

    def check(self, dt: float, length: float, units: int, batch: int) -> None:  # noqa: B027 - most fit
        """Raise a StimulusError if it does not fit a time step, a window, or a number of units or trials."""

    def to_spec(self) -> dict[str, Any]:
        """Return the type and the parameters, as a configuration has them."""
        if not is_dataclass(self) or self.kind not in WAVEFORMS:  # a class of the user's
            return {"type": self.kind, "class": type(self).__qualname__, "id": self.id}
        return {"type": self.kind, **{f.name: plain(getattr(self, f.name)) for f in fields(self)}}

    def _need(self, right: bool, what: str) -> None:
        if not right:
            raise StimulusError(f"{type(self).__name__}: {what}.")

    def _need_rate(self, frequency: float, dt: float) -> None:
        longest = 500 / frequency if frequency else dt
        text = f"{frequency:g} Hz needs time steps of at most {longest:g} ms; dt is {dt:g} ms"
        self._need(dt <= longest, text)


class RandomWaveform(Waveform):
    """A current drawn step by step, so the numbers do not depend on how a run is cut into pieces.

    Units and trials are independent; with ``shared`` all units of a trial get the same current.
    """

    def value(self, t: float, length: float) -> float | Floats:
        """Refuse: a random current has a history; see `draw`."""
        raise StimulusError(f"{type(self).__name__} is random; it is drawn step by step.")

    @abstractmethod
    def draw(self, rng: np.random.Generator, shape: Shape, dt: float, last: Floats | None) -> Floats:
        """Draw the next step's current, shape (units, trials); ``last`` is the one before (None at first)."""


@dataclass(frozen=True)
class Constant(Waveform):
    """The same current all the time.

    Parameters
    ----------
    amplitude : float
        Current.

    Examples
    --------
    >>> Constant(2.0).value(5.0, 10.0)
    2.0
    """

    kind: ClassVar[str] = "constant"
    amplitude: float

    def value(self, t: float, length: float) -> float:
        """Return ``amplitude``."""
        return self.amplitude

    def holds(self, t: float) -> float:
        """Return infinity."""
        return math.inf


@dataclass(frozen=True)
class PulseTrain(Waveform):
    """Pulses of ``width`` ms, one every ``period`` ms, the first at the start.

    Parameters
    ----------
    amplitude : float
        Current during a pulse.
    period : float
        From one pulse's start to the next, ms.
    width : float
        Length of a pulse, ms; at most the period.

    Examples
    --------
    >>> [PulseTrain(1.0, period=10, width=5).value(t, 40) for t in (0, 4, 5, 10, 19)]
    [1.0, 1.0, 0.0, 1.0, 0.0]
    """

    kind: ClassVar[str] = "pulse_train"
    amplitude: float
    period: float
    width: float

    def __post_init__(self) -> None:
        super().__post_init__()
        text = f"width {self.width:g} ms must be above 0 and at most the period, {self.period:g} ms"
        self._need(0 < self.width <= self.period, text)

    def value(self, t: float, length: float) -> float:
        """Return ``amplitude`` in a pulse, else 0."""
        return self.amplitude if (t + 1e-9) % self.period < self.width else 0.0

    def holds(self, t: float) -> float:
        """Return the time to the next edge."""
        phase = (t + 1e-9) % self.period
        return (self.width if phase < self.width else self.period) - phase

    def check(self, dt: float, length: float, units: int, batch: int) -> None:
        """Refuse pulses shorter than a time step, which could be missed."""
        text = f"pulses of {self.width:g} ms are shorter than the time step, {dt:g} ms"
        self._need(self.width >= dt * (1 - 1e-9), text)


@dataclass(frozen=True)
class Ramp(Waveform):
    """A current that goes linearly from one value to another over the window.

    A window with a stop may reach beyond the run; without one it ends with the run.

    Parameters
    ----------
    first : float
        Current at the start.
    last : float
        Current at the stop.

    Examples
    --------
    >>> Ramp(0.0, 4.0).value(5.0, 20.0)
    1.0
    """

    kind: ClassVar[str] = "ramp"
    first: float
    last: float

    def value(self, t: float, length: float) -> float:
        """Return first + (last - first) t / length."""
        return self.first + (self.last - self.first) * t / length


@dataclass(frozen=True)
class Sine(Waveform):
    """offset + amplitude sin(2 pi frequency t + phase).

    Parameters
    ----------
    amplitude : float
        Largest deviation from the offset.
    frequency : float
        Frequency, Hz.
    phase : float
        Phase at the start, radians.
    offset : float
        Mean current.

    Examples
    --------
    >>> round(Sine(2.0, frequency=10.0).value(25.0, 100.0), 6)
    2.0
    """

    kind: ClassVar[str] = "sine"
    amplitude: float
    frequency: float = field(metadata=POSITIVE)
    phase: float = 0.0
    offset: float = 0.0

    def value(self, t: float, length: float) -> float:
        """Evaluate the formula above, t in ms."""
        return self.offset + self.amplitude * math.sin(2 * math.pi * self.frequency * t / 1000 + self.phase)

    def check(self, dt: float, length: float, units: int, batch: int) -> None:
        """Refuse a frequency above half the sampling rate, the highest that a time step can carry."""
        self._need_rate(self.frequency, dt)


@dataclass(frozen=True)
class Chirp(Waveform):
    """A sine whose frequency goes linearly from ``first`` to ``last`` Hz over the window.

    As for `Ramp`, a window with a stop may reach beyond the run. The current is
    offset + amplitude sin(2 pi (first t + (last - first) t^2 / (2 length))).

    Parameters
    ----------
    amplitude : float
        Largest deviation from the offset.
    first : float
        Frequency at the start, Hz.
    last : float
        Frequency at the stop, Hz.
    offset : float
        Mean current.

    Examples
    --------
    >>> round(Chirp(1.0, first=10.0, last=10.0).value(25.0, 100.0), 6)
    1.0
    """

    kind: ClassVar[str] = "chirp"
    amplitude: float
    first: float = field(metadata=NOT_NEGATIVE)
    last: float = field(metadata=NOT_NEGATIVE)
    offset: float = 0.0

    def value(self, t: float, length: float) -> float:
        """Evaluate the formula above, t and length in ms."""
        cycles = (self.first * t + (self.last - self.first) * t * t / (2 * length)) / 1000
        return self.offset + self.amplitude * math.sin(2 * math.pi * cycles)

    def check(self, dt: float, length: float, units: int, batch: int) -> None:
        """Refuse a frequency above half the sampling rate, the highest that a time step can carry."""
        self._need_rate(max(self.first, self.last), dt)


@dataclass(frozen=True)
class WhiteNoise(RandomWaveform):
    """Independent Gaussian currents of standard deviation ``std``, a new one each time step.

    Its effect depends on the time step; `OrnsteinUhlenbeck` has a correlation time and does not.

    Parameters
    ----------
    std : float
        Standard deviation of one step's current.
    mean : float
        Mean current.
    shared : bool
        The same current for all units of a trial.

    Examples
    --------
    >>> WhiteNoise(0.5).draw(np.random.default_rng(0), (2, 3), 1.0, None).shape
    (2, 3)
    """

    kind: ClassVar[str] = "white_noise"
    std: float = field(metadata=NOT_NEGATIVE)
    mean: float = 0.0
    shared: bool = False

    def draw(self, rng: np.random.Generator, shape: Shape, dt: float, last: Floats | None) -> Floats:
        """Draw mean + std times a normal number."""
        return self.mean + self.std * rng.standard_normal(_drawn(shape, self.shared))


@dataclass(frozen=True)
class OrnsteinUhlenbeck(RandomWaveform):
    """Gaussian currents with correlation time ``tau``, stationary from the start.

    y[t + dt] = mean + (y[t] - mean) exp(-dt / tau) + std sqrt(1 - exp(-2 dt / tau)) normal, for every dt
    (Gillespie 1996, Phys. Rev. E 54:2084).

    Parameters
    ----------
    std : float
        Stationary standard deviation.
    tau : float
        Correlation time, ms.
    mean : float
        Mean current.
    shared : bool
        The same current for all units of a trial.

    Examples
    --------
    >>> OrnsteinUhlenbeck(0.5, tau=20.0).draw(np.random.default_rng(0), (2, 3), 1.0, None).shape
    (2, 3)
    """

    kind: ClassVar[str] = "ornstein_uhlenbeck"
    std: float = field(metadata=NOT_NEGATIVE)
    tau: float = field(metadata=POSITIVE)
    mean: float = 0.0
    shared: bool = False

    def draw(self, rng: np.random.Generator, shape: Shape, dt: float, last: Floats | None) -> Floats:
        """Draw the next number of the formula above."""
        normal: Floats = rng.standard_normal(_drawn(shape, self.shared))
        if last is None:
            return self.mean + self.std * normal
        keep = math.exp(-dt / self.tau)
        return self.mean + (last - self.mean) * keep + self.std * math.sqrt(1 - keep * keep) * normal


class EventWaveform(Waveform):
    """Events, each of which adds ``amplitude`` to the current of the time step that it falls in.

    In a spiking network the current of a step arrives at its end, as spikes do.
    """

    def value(self, t: float, length: float) -> float | Floats:
        """Refuse: a time alone does not say which events fall into a time step."""
        raise StimulusError(f"{type(self).__name__} has events, which are counted step by step.")


@dataclass(frozen=True)
class Poisson(EventWaveform):
    """Events at a ``rate``, each adding ``amplitude`` to the current of the time step it falls in.

    The mean current is amplitude x rate x dt / 1000 (dt in ms). What a unit gets in a step of a trial follows
    from the seed and these three numbers alone.

    Parameters
    ----------
    rate : float
        Events per second and unit, Hz.
    amplitude : float
        Current of one event; in a spiking network the weight of an event, mV.
    shared : bool
        The same current for all units of a trial.

    Examples
    --------
    >>> Poisson(150.0, amplitude=68.75)
    Poisson(rate=150.0, amplitude=68.75, shared=False)
    """

    kind: ClassVar[str] = "poisson"
    rate: float = field(metadata=NOT_NEGATIVE)
    amplitude: float = 1.0
    shared: bool = False

    def check(self, dt: float, length: float, units: int, batch: int) -> None:
        """Refuse more events in a step than are counted."""
        limit = f"at most {MOST_EVENTS} events a time step of {dt:g} ms"
        self._need(self.rate * dt / 1000 <= MOST_EVENTS, f"rate is {self.rate:g} Hz; use {limit}")


@dataclass(frozen=True, eq=False)
class SpikeTimes(EventWaveform):
    """Events at given times, each adding ``amplitude`` to the current of the time step that begins then.

    Parameters
    ----------
    times : sequence of float, or sequence of such sequences
        Times in ms since the start of the stimulus, of all units or of each, in unit order; each is rounded
        to a time step.
    amplitude : float
        Current of one event; in a spiking network the weight of an event, mV.

    Examples
    --------
    >>> SpikeTimes([[0.1, 0.3], []]).events(dt=0.1, units=2)
    (array([1, 3]), array([0, 0]))
    """

    kind: ClassVar[str] = "spike_times"
    times: Sequence[float] | Sequence[Sequence[float]]
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        trains = self._trains(1)
        self._need(all(train.ndim == 1 for train in trains), "times must be numbers, or lists of numbers")
        good = all(bool((np.isfinite(train) & (train >= 0)).all()) for train in trains)
        self._need(good, "times must be finite and not negative")

    def _trains(self, units: int) -> list[Floats]:
        """Return the times of each unit."""
        try:
            if any(np.ndim(cast(Any, each)) for each in self.times):
                return [np.asarray(train, dtype=np.float64) for train in self.times]
            return [np.asarray(self.times, dtype=np.float64)] * units
        except (TypeError, ValueError, OverflowError) as error:
            raise StimulusError(f"SpikeTimes: times must be numbers, or lists of numbers: {error}.") from None

    def events(self, dt: float, units: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the steps of all events, ascending, and the unit of each."""
        trains = self._trains(units)
        steps = np.concatenate([np.rint(train / dt) for train in trains]).astype(np.int64)
        unit = np.repeat(np.arange(len(trains)), [len(train) for train in trains])
        order = np.lexsort((unit, steps))
        return steps[order], unit[order]

    def check(self, dt: float, length: float, units: int, batch: int) -> None:
        """Refuse lists of times that are not as many as the units."""
        have = len(self._trains(units))
        self._need(have == units, f"has times of {have} units, and there are {units}")

    def to_spec(self) -> dict[str, Any]:
        """Return type, amplitude, the number of events, and a digest of their times."""
        trains = self._trains(1)
        flat = np.concatenate([[len(trains)], *([len(train), *train] for train in trains)])
        events = sum(map(len, trains))
        spec = {"type": self.kind, "amplitude": self.amplitude, "events": events}
        return {**spec, "times": digest(flat.astype(np.float64))}


@dataclass(frozen=True, eq=False)
class Samples(Waveform):
    """A recorded current: an array or a .npy file, each sample held for ``interval`` ms.

    Without a stop, the stimulus ends with the samples.

    Parameters
    ----------
    values : array, shape (time,), (time, units) or (time, units, trials), optional
        The samples.
    interval : float
        How long each sample holds, ms.
    path : path, optional
        A .npy file with the samples, instead of ``values``; it is mapped, not read whole.

    Examples
    --------
    >>> Samples([0.0, 1.0, 4.0], interval=10.0).value(25.0, 30.0)
    4.0
    """

    kind: ClassVar[str] = "samples"
    values: ArrayLike | None = None
    interval: float = field(default=1.0, metadata=POSITIVE)
    path: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._need((self.values is None) != (self.path is None), "give either values or a path")

    @cached_property
    def array(self) -> Floats:
        """Samples as an array; a file is mapped, not read whole."""
        if self.path is None:
            try:
                array: Any = np.asarray(self.values, dtype=np.float64)
            except (TypeError, ValueError, OverflowError) as error:
                raise StimulusError(f"Samples: the values are not an array of numbers: {error}.") from None
        else:
            try:
                array = np.load(Path(self.path), mmap_mode="r", allow_pickle=False)
                self._need(isinstance(array, np.ndarray), "an archive of several arrays")
            except Exception as error:  # numpy lets a damaged header raise almost anything
                reason = f"{error or type(error).__name__}; it must be a .npy file of numbers"
                raise StimulusError(f"Samples: cannot read {self.path}: {reason}.") from None
        fits = array.dtype.kind in "fiu" and 1 <= array.ndim <= 3 and len(array) > 0
        self._need(fits, "they must be numbers of shape (time,), "
                   f"(time, units) or (time, units, trials); got {array.dtype} of shape {array.shape}")
        return cast(Floats, array)

    @property
    def duration(self) -> float:
        """Length of the samples, ms."""
        return len(self.array) * self.interval

    def value(self, t: float, length: float) -> float | Floats:
        """Return the sample that holds at t."""
        sample = self.array[int(t / self.interval + 1e-9)]
        return float(sample) if sample.ndim == 0 else np.asarray(sample, dtype=np.float64)

    def holds(self, t: float) -> float:
        """Return the time to the next sample."""
        return self.interval - (t + 1e-9 * self.interval) % self.interval

    def check(self, dt: float, length: float, units: int, batch: int) -> None:
        """Refuse samples that end before the window, or fit other units or trials."""
        have = self.array.shape[1:]
        text = f"of shape {self.array.shape} do not fit {units} units and {batch} trials"
        self._need(have in ((), (units,), (units, batch)), text)
        covered = self.duration >= length - dt * (1 - 1e-9)
        self._need(covered, f"last {self.duration:g} ms, the window {length:g} ms; set an earlier stop")
        self._need(bool(np.isfinite(self.array).all()), "hold values that are not finite")

    def to_spec(self) -> dict[str, Any]:
        """Return type, interval, shape, and a digest of the values."""
        shape, values = list(self.array.shape), digest(self.array)
        return {"type": self.kind, "interval": self.interval, "shape": shape, "values": values}


@dataclass(frozen=True)
class Function(Waveform):
    """A Python function of the time in ms since the start.

    It must depend on nothing but the time, or a resumed run may differ. A run can be resumed only if the
    function has an ``id``; change the id whenever the function, or what it uses, changes.

    Parameters
    ----------
    function : callable
        Takes the time, returns a number, or an array (units,) or (units, trials).
    id : str, optional
        Name that stands for the function when a run is resumed. Default: the run cannot be resumed.

    Examples
    --------
    >>> Function(lambda t: 2 * t, id="twice the time").value(3.0, 10.0)
    6.0
    """

    kind: ClassVar[str] = "function"
    function: Callable[[float], Any]
    id: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._need(self.id is None or isinstance(self.id, str), f"id is {self.id!r}; give text")

    def value(self, t: float, length: float) -> float | Floats:
        """Call the function."""
        found = self._called(t)
        return float(found) if found.ndim == 0 else found

    def _called(self, t: float) -> Floats:
        found = self.function(t)
        try:
            return np.asarray(found, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            reason = f"returns {type(found).__name__} at {t:g} ms, which is not a number or an array of them"
            raise StimulusError(f"Function: {reason}.") from error

    def check(self, dt: float, length: float, units: int, batch: int) -> None:
        """Refuse a function that does not return one number, or one per unit (and trial)."""
        self._need(callable(self.function), f"{self.function!r} cannot be called")
        shape = self._called(0.0).shape
        expected = f"(), ({units},) or ({units}, {batch})"
        self._need(shape in ((), (units,), (units, batch)), f"returns shape {shape}; expected {expected}")

    def to_spec(self) -> dict[str, Any]:
        """Return the name of the function and its id."""
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return {"type": self.kind, "function": name, "id": self.id}


WAVEFORMS: dict[str, type[Waveform]] = {
    w.kind: w
    for w in (
        Constant, PulseTrain, Ramp, Sine, Chirp, WhiteNoise, OrnsteinUhlenbeck, Poisson, SpikeTimes, Samples,
    )
}
"""Waveforms by their type in a configuration (a function has no place in JSON)."""


def _drawn(shape: tuple[int, int], shared: bool) -> tuple[int, int]:
    return (1, shape[1]) if shared else shape
