"""Options of a simulation, checked: what runs, what is recorded and where it is written."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

from sparse_mrnn.checks import path_of, real_number, seed_number, true_or_false, whole_number
from sparse_mrnn.errors import (
    ConfigError,
    InterventionError,
    RecordingError,
    RoundingWarning,
    ShapeError,
    SparseMRNNError,
    StimulusError,
    suggest,
)
from sparse_mrnn.files.digest import digest
from sparse_mrnn.recording import Record
from sparse_mrnn.stimulus import Intervention, Stimulus

Mode = Literal["create", "overwrite", "resume"]
MOST_STEPS = 2**53
"""Up to here every time step has a time of its own in float64."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SimulationOptions:
    """Options of `sparse_mrnn.simulate`, which describes them.

    One process, ranks and the command line pass this object on. A field accepts what `simulate` accepts and
    holds what its type says.

    Raises
    ------
    StimulusError, InterventionError, RecordingError, ShapeError, ConfigError
        If an option is not possible.

    Examples
    --------
    >>> SimulationOptions(500, stimulus=Stimulus("thal", 1.0)).count_steps(dt=10)
    50
    """

    duration: float | None = field(default=None, kw_only=False)
    steps: int | None = None
    batch: int = 1
    x0: Any = None
    stimulus: tuple[Stimulus, ...] = ()
    interventions: tuple[Intervention, ...] = ()
    record: Record = field(default_factory=Record)
    noise: bool = False
    seed: int = 0
    out: Path | None = None
    mode: Mode = "create"
    checkpoint_seconds: float = 30.0
    allow_large: bool = False
    event_driven: bool = True
    progress: bool = True
    log: Path | None = None
    return_state: bool = False

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            hint = suggest(self.mode, get_args(Mode))
            raise RecordingError(f"mode is {self.mode!r}; use 'create', 'overwrite' or 'resume'. {hint}")
        if self.out is None and self.mode != "create":
            raise RecordingError(f"mode={self.mode!r} is about a recording on disk; give its path as out.")
        seconds = real_number(self.checkpoint_seconds, "checkpoint_seconds", RecordingError)
        if seconds < 0:
            raise RecordingError(f"checkpoint_seconds is {seconds}; it must not be negative.")
        paths = {
            name: None if getattr(self, name) is None else path_of(getattr(self, name), name, RecordingError)
            for name in ("out", "log")
        }
        out, log = paths.values()
        if out is not None and not out.name:
            raise RecordingError(f"{out} cannot be a recording; give the path of a folder to make.")
        if out is not None and log is not None and log.is_relative_to(out):
            where = f"the log {log} lies within the recording {out}"
            raise RecordingError(f"{where}, which is replaced as a whole; write it elsewhere.")
        form = "a Stimulus; write Stimulus(region, waveform, ...)"
        record = Record() if self.record is None else self.record
        if not isinstance(record, Record):
            name = type(record).__name__
            raise RecordingError(f"record: {name} is not a Record; write Record(what=[...], ...).")
        if (self.duration is None) == (self.steps is None):
            raise StimulusError("give the length of the run as either duration (ms) or steps.")
        if self.steps is None:
            length: dict[str, Any] = {"duration": real_number(self.duration, "duration", StimulusError)}
        else:
            length = {"steps": whole_number(self.steps, "steps", StimulusError, most=MOST_STEPS)}
        checked = {
            **length,
            "batch": whole_number(self.batch, "batch", ShapeError),
            "seed": seed_number(self.seed, ConfigError),
            "stimulus": _all_of(Stimulus, self.stimulus, f"stimulus: {{}} is not {form}.", StimulusError),
            "interventions": _all_of(
                Intervention,
                self.interventions,
                "{} is not an intervention; use Lesion, Clamp or Gain.",
                InterventionError,
            ),
            "record": record,
            "checkpoint_seconds": seconds,
            **paths,
        }
        for name in ("noise", "allow_large", "event_driven", "progress", "return_state"):
            checked[name] = true_or_false(getattr(self, name), name, ConfigError)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def noise_seed(self) -> int | None:
        """Seed of the noise, or None without noise."""
        return self.seed if self.noise else None

    def count_steps(self, dt: float) -> int:
        """Return the time steps of the run; a duration is rounded to them, with a warning.

        Raises
        ------
        StimulusError
            If the run is shorter than a time step, or has more than can be told apart.
        RecordingError
            If the run is too short for a recorded time.
        """
        count = cast(int, self.steps) if self.duration is None else self._rounded(self.duration, dt)
        if self.record.every > count:
            raise RecordingError(f"record: every {self.record.every} steps, but the run has {count}.")
        return count

    @staticmethod
    def _rounded(duration: float, dt: float) -> int:
        if duration / dt > MOST_STEPS:
            limit = f"{MOST_STEPS:.1e} time steps of {dt:g} ms, beyond which times cannot be told apart"
            raise StimulusError(f"duration is {duration:g} ms; use at most {limit}.")
        found = round(duration / dt)
        if found < 1:
            raise StimulusError(f"duration is {duration:g} ms; use at least one time step, dt = {dt:g} ms.")
        if abs(found * dt - duration) > 1e-6 * dt:
            rounded = f"it is rounded to {found * dt:g} ms"
            text = f"duration {duration:g} ms is not a multiple of dt = {dt:g} ms; {rounded}."
            warnings.warn(text, RoundingWarning, stacklevel=6)
        return found

    def to_spec(self, dt: float, steps: int) -> dict[str, Any]:
        """Return what runs, as JSON: a run that is resumed must have the same."""
        start = {} if self.x0 is None else {"start": digest(self.x0.tensors())}
        return {
            **start,
            "steps": steps,
            "dt": dt,
            "batch": self.batch,
            "seed": self.seed,
            "noise": self.noise,
            "record": self.record.to_spec(),
            "stimulus": [stimulus.to_spec() for stimulus in self.stimulus],
            "interventions": [intervention.to_spec() for intervention in self.interventions],
        }


def _all_of(kind: type[T], given: Any, message: str, error: type[SparseMRNNError]) -> tuple[T, ...]:
    """Return one object of a kind, or several, or None, as a tuple."""
    if given is None:
        return ()
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    for one in found:
        if not isinstance(one, kind):
            raise error(message.format(type(one).__name__))
    return found
