"""A run before it starts: its arguments checked, and its recording sized."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sparse_mrnn.checks import real_number, seed_number, whole_number
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
from sparse_mrnn.lowering.random_streams import run_streams
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.recording import Record
from sparse_mrnn.recording.axes import Axes
from sparse_mrnn.recording.recorder import Statistics
from sparse_mrnn.simulation.targets import recorded_units, unit_labels
from sparse_mrnn.stimulus import Intervention, Stimulus

CHUNK_BYTES = 32 * 2**20
"""Samples of one chunk on disk take about this much; a few of them are in memory at a time."""
MOST_STEPS = 2**53
"""Up to here every time step has a time of its own in float64."""
T = TypeVar("T")

LARGEST_SAMPLE = 2**31 - 2**16
"""Bytes that Blosc compresses at once."""
LONGEST_CHUNK = 4096
"""Samples of a chunk at most, so that a thin recording reaches the disk now and then."""


@dataclass(frozen=True, eq=False)
class SimulationPlan:
    """A run whose arguments are checked and whose recording is sized."""

    steps: int
    batch: int
    seed: int
    axes: Axes
    stimuli: tuple[Stimulus, ...]
    acts: tuple[Intervention, ...]
    streams: tuple[np.random.SeedSequence, np.random.SeedSequence]
    noise: bool

    @property
    def chunk(self) -> int:
        """Samples of a chunk on disk."""
        return max(1, min(self.axes.samples, LONGEST_CHUNK, CHUNK_BYTES // self.axes.sample_bytes))

    @property
    def noise_seed(self) -> int | None:
        """The seed of the noise, where there is any."""
        return self.seed if self.noise else None

    def options(self, net: mRNNBase) -> dict[str, Any]:
        """What was asked for, as JSON has it."""
        return {
            "steps": self.steps,
            "dt": net.dt,
            "batch": self.batch,
            "seed": self.seed,
            "noise": self.noise,
            "record": self.axes.record.to_spec(),
            "stimulus": [s.to_spec() for s in self.stimuli],
            "interventions": [a.to_spec() for a in self.acts],
        }


def count_steps(dt: float, duration: float | None, steps: int | None) -> int:
    """Time steps of a run; a duration is rounded to them, with a warning."""
    if (duration is None) == (steps is None):
        raise StimulusError("give the length of the run as either duration (ms) or steps.")
    if duration is None:
        return whole_number(steps, "steps", StimulusError, most=MOST_STEPS)
    duration = real_number(duration, "duration", StimulusError)
    if duration / dt > MOST_STEPS:
        limit = f"{MOST_STEPS:.1e} time steps of {dt:g} ms, from where on times cannot be told apart"
        raise StimulusError(f"duration is {duration:g} ms; use at most {limit}.")
    found = round(duration / dt)
    if found < 1:
        raise StimulusError(f"duration is {duration:g} ms; use at least one time step, dt = {dt:g} ms.")
    if abs(found * dt - duration) > 1e-6 * dt:
        rounded = f"it is rounded to {found * dt:g} ms"
        text = f"duration {duration:g} ms is not a multiple of dt = {dt:g} ms; {rounded}."
        warnings.warn(text, RoundingWarning, stacklevel=4)
    return found


def plan_simulation(
    net: mRNNBase,
    duration: float | None,
    *,
    steps: int | None,
    batch: int,
    stimulus: Sequence[Stimulus] | Stimulus | None,
    interventions: Sequence[Intervention] | Intervention | None,
    record: Record | None,
    seed: int,
    noise: bool,
) -> SimulationPlan:
    """Check a run's arguments and size its recording."""
    batch, seed = whole_number(batch, "batch", ShapeError), seed_number(seed, ConfigError)
    count = count_steps(net.dt, duration, steps)
    form = "Stimulus; write Stimulus(region, waveform, ...)"
    stimuli = _all_of(Stimulus, stimulus, f"stimulus: {{}} is no {form}.", StimulusError)
    form = "intervention; use Lesion, Clamp or Gain"
    acts = _all_of(Intervention, interventions, f"{{}} is no {form}.", InterventionError)
    record = Record() if record is None else record
    if not isinstance(record, Record):
        raise RecordingError(f"record: {type(record).__name__} is no Record; write Record(what=[...], ...).")
    known = ("h", *net.step.states)
    for name in record.variables:
        if name not in known:
            hint = suggest(name, known, what="variables")
            raise RecordingError(f"record: variables has no {name!r}. {hint}")
    if record.every > count:
        raise RecordingError(f"record: every {record.every} steps, but the run has {count}.")
    return SimulationPlan(
        steps=count,
        batch=batch,
        seed=seed,
        axes=_axes(net, record, batch, count),
        stimuli=stimuli,
        acts=acts,
        streams=run_streams(seed),
        noise=bool(noise),
    )


def _all_of(kind: type[T], given: Any, message: str, error: type[SparseMRNNError]) -> tuple[T, ...]:
    """One object of a kind, or several, or None, as a tuple."""
    if given is None:
        return ()
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    for one in found:
        if not isinstance(one, kind):
            raise error(message.format(type(one).__name__))
    return found


def _axes(net: mRNNBase, record: Record, batch: int, steps: int) -> Axes:
    """Labels and sizes of what is recorded: regions in the order asked for, each in unit order."""
    region, unit_id = unit_labels(net)
    units = recorded_units(net, record)
    groups = tuple(net.hid_regions if record.regions is None else record.regions)
    return Axes(
        record=record,
        trials=batch,
        samples=steps // record.every,
        interval=float(record.every * net.dt),
        units=units if "units" in record.what else units[:0],
        region=region[units],
        unit_id=unit_id[units],
        groups=groups if set(record.what) - {"units"} else (),
        dtype=np.dtype(record.dtype or str(net.dtype).removeprefix("torch.")),
    )


def statistics(net: mRNNBase, axes: Axes) -> Statistics | None:
    """The statistics of the groups of a recording, if there are any."""
    layout = net.layout()
    members = [[layout.index[member] for member in layout.members(group)] for group in axes.groups]
    return Statistics(layout.ptr, members) if members else None


def check_states(net: mRNNBase, batch: int) -> None:
    """Refuse so many trials that the states, and what a step needs beside them, would not fit in memory.

    Raises
    ------
    ShapeError
        If they do not.
    """
    size = np.dtype(str(net.dtype).removeprefix("torch.")).itemsize
    units = net.layout().n + net.layout("input").n
    needed, free = 4 * units * batch * size, _free_memory()
    if needed > free:
        have = f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
        raise ShapeError(f"batch is {batch}: the states of {units:,} units take {have}; use fewer trials.")


def check_size(axes: Axes, out: str | os.PathLike[str] | None, *, allow_large: bool) -> None:
    """Refuse a recording that would not fit on the disk, or in memory; with ``allow_large``, only its times.

    Raises
    ------
    RecordingError
        If it takes more than is free.
    """
    if out is not None and axes.sample_bytes > LARGEST_SAMPLE:
        size = f"{axes.sample_bytes / 2**30:.1f} GiB"
        raise RecordingError(f"one recorded time takes {size}, which no chunk holds: record less of each.")
    needed = axes.time_bytes + (0 if allow_large else axes.nbytes)
    if out is None:
        free, where = _free_memory(), "memory"
        advice = "write it to disk (out=)"
    else:
        folder = Path(out).absolute()
        while not folder.exists():
            folder = folder.parent
        free, where = shutil.disk_usage(folder).free, str(folder)
        advice = "compression may make it fit (allow_large=True, --yes)"
    if needed > free:
        what = "the times recorded alone take" if allow_large else "the recording takes"
        advice = "record fewer times (every)" if allow_large else (
            f"record fewer times (every), regions or statistics, or in float16; {advice}"
        )
        size, have = (f"{n / 2**30:.1f} GiB" for n in (needed, free))
        raise RecordingError(f"{what} {size} uncompressed, and {where} has {have} free: {advice}.")


def _free_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 2**62  # a system that does not tell
