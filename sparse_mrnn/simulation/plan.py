"""A run before it starts: its length, the axes of its recording, and the memory it takes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparse_mrnn.errors import RecordingError, ShapeError, suggest
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.recording.axes import Axes
from sparse_mrnn.recording.recorder import Statistics
from sparse_mrnn.runtime import free_memory
from sparse_mrnn.simulation.options import SimulationOptions
from sparse_mrnn.simulation.targets import recorded_units

CHUNK_BYTES = 32 * 2**20
"""Samples of one chunk on disk take about this much; a few of them are in memory at a time."""
LARGEST_SAMPLE = 2**31 - 2**16
"""Bytes that Blosc can compress at once."""
LONGEST_CHUNK = 4096
"""Most samples of a chunk, so that a thin recording reaches the disk now and then."""


@dataclass(frozen=True, eq=False)
class SimulationPlan:
    """Options of a run, with the time steps and the axes of the recording that they mean for a network.

    ``spec`` are the options as JSON: a run that is resumed must have the same.
    """

    options: SimulationOptions
    steps: int
    axes: Axes
    spec: dict[str, Any]

    @property
    def chunk(self) -> int:
        """Samples of a chunk on disk."""
        return max(1, min(self.axes.samples, LONGEST_CHUNK, CHUNK_BYTES // max(1, self.axes.sample_bytes)))


def plan_simulation(net: mRNNBase, options: SimulationOptions) -> SimulationPlan:
    """Count the steps of a run, and size its recording, of variables that the network's units have."""
    record, spiking = options.record, net.equation.spiking
    known = ("h", *net.equation.states, *(("rate",) if spiking else ()))
    if "spikes" in record.what and not spiking:
        raise RecordingError(f"record: units of {type(net).__name__} have no spikes; leave out 'spikes'.")
    for name in record.variables:
        if name not in known:
            hint = suggest(name, known, what="variables")
            raise RecordingError(f"record: variables has no {name!r}. {hint}")
    steps = options.count_steps(net.dt)
    region, unit_id = net.layout().labels()
    units = recorded_units(net, record)  # regions in the order asked for, each in unit order
    groups = tuple(net.hid_regions if record.regions is None else record.regions)
    told_apart = bool({"units", "spikes"} & set(record.what))
    with_times = set(record.what) != {"spikes"}  # events have times of their own
    axes = Axes(
        record=record,
        trials=options.batch,
        samples=steps // record.every if with_times else 0,
        interval=float(record.every * net.dt),
        units=units if told_apart else units[:0],
        region=region[units],
        unit_id=unit_id[units],
        groups=groups if set(record.what) - {"units", "spikes"} else (),
        dtype=np.dtype(record.dtype or str(net.dtype).removeprefix("torch.")),
        columns={name: values[units] for name, values in net.layout().table.items()},
    )
    return SimulationPlan(options, steps, axes, options.to_spec(net.dt, steps))


def statistics(net: mRNNBase, axes: Axes) -> Statistics | None:
    """Return the statistics of the groups of a recording, or None without groups."""
    layout = net.layout()
    members = [[layout.index[member] for member in layout.members(group)] for group in axes.groups]
    return Statistics(layout.ptr, members) if members else None


def check_states(net: mRNNBase, batch: int) -> None:
    """Refuse trials whose states, and what a step needs beside them, would not fit in memory: ShapeError."""
    size = np.dtype(str(net.dtype).removeprefix("torch.")).itemsize
    units = net.layout().n + net.layout("input").n
    needed, free = 4 * units * batch * size, free_memory()
    if needed > free:
        have = f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
        raise ShapeError(f"batch is {batch}: the states of {units:,} units take {have}; use fewer trials.")


def check_size(plan: SimulationPlan) -> None:
    """Refuse a recording that would not fit on the disk, or in memory; with ``allow_large``, only its times.

    The error is a RecordingError. A recording that is resumed has its place already.
    """
    axes, out, allow_large = plan.axes, plan.options.out, plan.options.allow_large
    if out is not None and plan.options.mode == "resume" and out.exists():
        return
    if out is not None and axes.sample_bytes > LARGEST_SAMPLE:
        size = f"{axes.sample_bytes / 2**30:.1f} GiB"
        raise RecordingError(f"one recorded time takes {size}, which no chunk holds: record less of each.")
    needed = axes.time_bytes + (0 if allow_large else axes.nbytes)
    if out is None:
        free, where, advice = free_memory(), "memory", "write it to disk (out=)"
    else:
        folder = next(parent for parent in (out, *out.parents) if parent.exists())
        free, where = shutil.disk_usage(folder).free, str(folder)
        advice = "compression may make it fit (allow_large=True, --yes)"
    if needed > free:
        what = "the times recorded alone take" if allow_large else "the recording takes"
        advice = "record fewer times (every)" if allow_large else (
            f"record fewer times (every), regions or statistics, or in float16; {advice}"
        )
        size, have = (f"{n / 2**30:.1f} GiB" for n in (needed, free))
        raise RecordingError(f"{what} {size} uncompressed, and {where} has {have} free: {advice}.")
