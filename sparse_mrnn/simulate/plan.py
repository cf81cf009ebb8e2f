"""A run before it starts: everything checked, placed on the network, and sized."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse_mrnn.errors import RecordingError, RoundingWarning, ShapeError, StimulusError, suggest
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.ops.steps import Noise
from sparse_mrnn.recording import Record
from sparse_mrnn.recording.axes import Axes
from sparse_mrnn.recording.recorder import Statistics
from sparse_mrnn.simulate.targets import unit_labels
from sparse_mrnn.stimulus import Intervention, Stimulus

CHUNK_BYTES = 32 * 2**20
"""Samples of one chunk on disk take about this much; a few of them are in memory at a time."""
LONGEST_CHUNK = 4096
"""Samples of a chunk at most, so that a thin recording reaches the disk now and then."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A checked run."""

    steps: int
    batch: int
    seed: int
    axes: Axes
    stimuli: tuple[Stimulus, ...]
    acts: tuple[Intervention, ...]
    seeds: tuple[np.random.SeedSequence, np.random.SeedSequence]
    noise: bool

    @property
    def chunk(self) -> int:
        """Samples of a chunk on disk."""
        return max(1, min(self.axes.samples, LONGEST_CHUNK, CHUNK_BYTES // self.axes.sample_bytes))

    def options(self, net: mRNNBase) -> dict[str, Any]:
        """What was asked for, as plain facts."""
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
        raise StimulusError(f"duration is {duration:g} ms; it must be at least one time step, dt = {dt:g} ms.")
    found = round(duration / dt)
    if abs(found * dt - duration) > 1e-6 * dt:
        text = f"duration {duration:g} ms is not a multiple of dt = {dt:g} ms; it is rounded to {found * dt:g} ms."
        warnings.warn(text, RoundingWarning, stacklevel=4)
    return found


def plan(
    net: mRNNBase,
    duration: float | None,
    steps: int | None,
    batch: int,
    stimulus: Sequence[Stimulus] | Stimulus | None,
    interventions: Sequence[Intervention] | Intervention | None,
    record: Record | None,
    seed: int,
    noise: bool,
) -> Plan:
    """Check a run's arguments and size its recording."""
    if not isinstance(batch, int) or batch < 1:
        raise ShapeError(f"batch is {batch!r}; it must be a whole number of trials, at least 1.")
    count = count_steps(net.dt, duration, steps)
    stimuli = (stimulus,) if isinstance(stimulus, Stimulus) else tuple(stimulus or ())
    acts = (interventions,) if isinstance(interventions, Intervention) else tuple(interventions or ())
    for s in stimuli:
        if not isinstance(s, Stimulus):
            raise StimulusError(f"stimulus: {type(s).__name__} is no Stimulus; write Stimulus(region, waveform, ...).")
    record = record or Record()
    if record.every > count:
        raise RecordingError(f"record: every {record.every} steps, but the run has {count}.")
    region, unit_id = unit_labels(net)
    units = net.layout().indices(*record.regions) if record.regions is not None else np.arange(len(region))
    if record.units is not None:
        for unit in record.units:
            if unit not in unit_id[units]:
                raise RecordingError(f"record: there is no unit {unit!r}. {suggest(unit, unit_id[units], what='unit ids')}")
        units = units[np.isin(unit_id[units], record.units)]
    groups = tuple(net.hid_regions if record.regions is None else record.regions)
    axes = Axes(
        record,
        batch,
        count // record.every,
        float(record.every * net.dt),
        units if "units" in record.what else units[:0],
        region[units],
        unit_id[units],
        groups if set(record.what) - {"units"} else (),
        np.dtype(record.dtype or str(net.dtype).removeprefix("torch.")),
    )
    for_stimuli, for_acts = np.random.SeedSequence(seed, spawn_key=(7,)).spawn(2)  # apart from the streams of noise
    return Plan(count, batch, seed, axes, stimuli, acts, (for_stimuli, for_acts), noise)


def statistics(net: mRNNBase, axes: Axes) -> Statistics | None:
    """The statistics of the groups of a recording, if there are any."""
    layout = net.layout()
    members = [[layout.index[member] for member in layout.members(group)] for group in axes.groups]
    return Statistics(layout.ptr, members) if members else None


def run_noise(net: mRNNBase, seed: int) -> Noise:
    """The noise of a run: that of the network after ``net.reset_noise(seed)``, drawn from generators of the run's own."""
    seeds = [int(s.generate_state(1, np.uint64)[0]) >> 1 for s in np.random.SeedSequence(seed).spawn(2)]
    generators = [torch.Generator(net.device).manual_seed(s) for s in seeds]
    std = net.hid_noise_const
    return Noise(net.inp_noise_const, std[:, None] if isinstance(std, torch.Tensor) else std, *generators)


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
            f"the recording takes {axes.nbytes / 2**30:.1f} GiB uncompressed, and {where} has {free / 2**30:.1f} GiB free: record "
            f"fewer times (every), regions or statistics, or in float16; {advice}."
        )


def _free_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 2**62  # a system that does not tell
