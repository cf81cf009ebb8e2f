"""A run before it starts: its arguments checked, and its recording sized."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparse_mrnn.errors import RecordingError, RoundingWarning, ShapeError, StimulusError
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.random_streams import run_streams
from sparse_mrnn.recording import Record
from sparse_mrnn.recording.axes import Axes
from sparse_mrnn.recording.recorder import Statistics
from sparse_mrnn.simulation.targets import recorded_units, unit_labels
from sparse_mrnn.stimulus import Intervention, Stimulus

CHUNK_BYTES = 32 * 2**20
"""Samples of one chunk on disk take about this much; a few of them are in memory at a time."""
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
        if not isinstance(steps, int) or steps < 1:
            raise StimulusError(f"steps is {steps!r}; it must be a whole number of at least 1.")
        return steps
    if not np.isfinite(duration) or round(duration / dt) < 1:
        raise StimulusError(f"duration is {duration:g} ms; use at least one time step, dt = {dt:g} ms.")
    found = round(duration / dt)
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
    if not isinstance(batch, int) or batch < 1:
        raise ShapeError(f"batch is {batch!r}; it must be a whole number of trials, at least 1.")
    count = count_steps(net.dt, duration, steps)
    stimuli = (stimulus,) if isinstance(stimulus, Stimulus) else tuple(stimulus or ())
    acts = (interventions,) if isinstance(interventions, Intervention) else tuple(interventions or ())
    for s in stimuli:
        if not isinstance(s, Stimulus):
            name = type(s).__name__
            raise StimulusError(f"stimulus: {name} is no Stimulus; write Stimulus(region, waveform, ...).")
    record = record or Record()
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
        noise=noise,
    )


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


def check_size(axes: Axes, out: str | os.PathLike[str] | None) -> None:
    """Refuse a recording that would not fit on the disk, or in memory.

    Raises
    ------
    RecordingError
        If it takes more than is free.
    """
    if out is None:
        free, where = _free_memory(), "memory"
        advice = "write it to disk (out=)"
    else:
        folder = Path(out).absolute()
        while not folder.exists():
            folder = folder.parent
        free, where = shutil.disk_usage(folder).free, str(folder)
        advice = "compression may make it fit (allow_large=True, --yes)"
    if axes.nbytes > free:
        raise RecordingError(
            f"the recording takes {axes.nbytes / 2**30:.1f} GiB uncompressed, and {where} has "
            f"{free / 2**30:.1f} GiB free: record "
            f"fewer times (every), regions or statistics, or in float16; {advice}."
        )


def _free_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 2**62  # a system that does not tell
