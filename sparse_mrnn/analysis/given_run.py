"""GivenRun: activity over time, with what drove it and what was before, for currents by source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.analysis.dynamics import as_tensor, states
from sparse_mrnn.analysis.source_products import Rows
from sparse_mrnn.analysis.time_blocks import TimeBlocks
from sparse_mrnn.errors import AnalysisError, RecordingError, ShapeError
from sparse_mrnn.models.delays import steps_of
from sparse_mrnn.models.electrical import refuse_electrical
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.simulation.replay import ReplayedDrive


class GivenRun:
    """Activity, inputs and direct currents over time, and the activity before; all as (units, trials, time).

    ``steps`` and ``time`` are those that have their past.
    """

    def __init__(self, net: mRNNBase, activity: Any, inputs: Any, stim: Any, h0: Any) -> None:
        self.net = net
        why = "its current is of states, and not of the activity of its source"
        refuse_electrical(net.electrical, "currents", why, AnalysisError)
        plain = isinstance(activity, Tensor | np.ndarray | list | tuple)
        self.blocks = TimeBlocks(self._laid_out(activity, "activity") if plain else activity)
        self.trials, steps, _ = self.blocks.shape
        self.units = self._units()
        before = self._steps_before()
        self.longest = int(max(steps_of(w, net.dt).max(initial=1) for w in net.weight_matrices()))
        self.replayed: ReplayedDrive | None = None
        self.arrays: dict[str, Tensor] = {}
        if inputs is None and stim is None and "stimulus" in self.blocks.attributes:
            self.replayed = ReplayedDrive(net, self.blocks.attributes, self.trials)
            self.replayed.skip(before)
        for name, values, kind in (("inputs", inputs, "input"), ("stim", stim, "recurrent")):
            if values is not None:
                array = torch.as_tensor(self._laid_out(values, name))
                expected = self.trials, steps, net.layout(kind).n
                if tuple(array.shape) != expected:
                    have = f"{name} have the shape (trials, time, channels) {tuple(array.shape)}"
                    raise ShapeError(f"currents: {have}; expected {expected}, as the activity.")
                self.arrays[name] = array
        self.skipped = self.longest if before and h0 is None else 0
        if self.skipped >= steps:
            have = f"{steps} times are recorded, from {before * net.dt:g} ms on"
            need_ = f"the first {self.skipped} of them are the past of the others"
            raise RecordingError(f"currents: {have}, but {need_}; record more, or give h0.")
        self.steps = steps - self.skipped
        times = self.blocks.time
        times = np.arange(1, steps + 1, dtype=np.float64) * float(net.dt) if times is None else times
        self.time = times[self.skipped :]
        self.h0 = self._start(h0)

    def _laid_out(self, values: Any, name: str) -> Tensor:
        """An array as (trial, time, last) from the layout of ``forward``."""
        array = as_tensor(values)
        if array.dim() != 3:
            order = "trials, time" if self.net.batch_first else "time, trials"
            raise ShapeError(f"currents: {name} has shape {tuple(array.shape)}; expected ({order}, units).")
        return array if self.net.batch_first else array.transpose(0, 1)

    def _units(self) -> Tensor | None:
        """Units that the columns of the activity are; None: all, in unit order."""
        layout, columns = self.net.layout(), self.blocks.shape[2]
        if self.blocks.labels is None:
            if columns != layout.n:
                raise ShapeError(f"currents: activity of {columns} units; the network has {layout.n}.")
            return None
        known = (each.tolist() for each in layout.labels())
        place = {pair: k for k, pair in enumerate(zip(*known, strict=True))}
        found = []
        for region, unit in zip(*(each.tolist() for each in self.blocks.labels), strict=True):
            k = place.get((region, unit))
            if k is None:
                what = f"unit {unit!r} of region {region!r} is recorded"
                raise RecordingError(f"currents: {what}, but the network has no such unit.")
            found.append(k)
        if len(set(found)) < len(found):
            raise RecordingError("currents: a unit is recorded twice; select each unit once.")
        return None if found == list(range(layout.n)) else torch.tensor(found)

    def _steps_before(self) -> int:
        """Number of time steps before the first recorded one."""
        time, dt = self.blocks.time, self.net.dt
        if time is None:
            return 0
        steps = np.diff(time)
        if len(steps) and not np.allclose(steps, dt, rtol=0, atol=1e-6 * dt):
            far = steps[np.argmax(np.abs(steps - dt))]
            why = "a current comes from the activity one time step, or one delay, before"
            what = f"times are {far:g} ms apart, but the network's time step is {dt:g} ms"
            raise RecordingError(f"currents: {what}, and {why}; record every step.")
        before = round(float(time[0]) / dt) - 1
        if before < 0 or abs((before + 1) * dt - time[0]) > 1e-6 * dt:
            what = f"the first time, {time[0]:g} ms, is not one of steps of {dt:g} ms"
            raise RecordingError(f"currents: {what}.")
        return before

    def _start(self, h0: Any) -> Tensor:
        """Activity before the first time, shape (units, trials)."""
        if h0 is not None:
            start = states(self.net, h0, "h0", what="currents")
        elif self.replayed is not None:
            start = self.replayed.h0
        else:
            start = self.net.batched_initial_condition(1)[-1].t()
        if start.shape[1] not in (1, self.trials):
            raise ShapeError(f"currents: h0 has {start.shape[1]} trials, the activity {self.trials}.")
        return start.detach().to(self.net.dtype).expand(-1, self.trials)

    @property
    def drive(self) -> set[str]:
        """Name the currents that are known besides those of activity: "inputs", "stim"."""
        if self.replayed is None:
            return set(self.arrays)
        return {"inputs", *(("stim",) if self.replayed.has_currents else ())}

    def check_partners(self, rows: Rows) -> None:
        """Refuse activity without a unit that has a synapse onto a target."""
        if self.units is None:
            return
        weights, net = self.net.weights("recurrent"), self.net
        absent = torch.ones(net.layout().n, dtype=torch.bool)
        absent[self.units] = False
        onto = rows.place.cpu()[weights.pattern.row.cpu().long()] >= 0
        needed = torch.zeros_like(absent)
        needed[weights.col.cpu().long()[onto]] = True
        if weights.low_rank is not None:
            numbers = rows.of_projection["recurrent"][len(weights.projections) :]
            for block, number in zip(weights.low_rank.blocks, numbers.tolist(), strict=True):
                if number >= 0:
                    needed[block.cols] = True
        missing = torch.nonzero(needed & absent)[:, 0].tolist()
        if missing:
            region = net.layout().region_of(missing[0])[0].name
            first = f"first {net.unit_ids[missing[0]]!r} of region {region!r}"
            what = f"{len(missing):,} units with synapses onto the targets are not recorded, {first}"
            raise RecordingError(f"currents: {what}; record them, or choose other targets.")

    def blocks_of(self, length: int) -> Iterator[tuple[slice, Past, Past, Tensor | None]]:
        """Slices of the result, with the activity, inputs and direct currents of these times."""
        net, dtype, device = self.net, self.net.dtype, self.net.device
        past = Past(self.h0[:, :, None].expand(-1, -1, self.longest))
        of_inputs = Past(self.h0.new_zeros(net.layout("input").n, self.trials, self.longest))
        total, start = self.blocks.shape[1], 0
        while start < total:
            stop = self.skipped if start < self.skipped else min(start + length, total)
            read = torch.from_numpy(np.ascontiguousarray(self.blocks.read(start, stop)))
            h = read.to(device, dtype).permute(2, 0, 1)
            if self.units is not None:
                every = h.new_zeros(net.layout().n, *h.shape[1:])
                every[self.units.to(device)] = h
                h = every
            past.extend(h)
            u = stim = None
            if self.replayed is not None:
                u, direct = self.replayed.take(stop - start)
                u = u.permute(1, 2, 0)
                stim = None if direct is None else direct.permute(1, 2, 0)
            for name, values in self.arrays.items():
                part = values[:, start:stop].to(device, dtype).permute(2, 0, 1)
                u, stim = (part, stim) if name == "inputs" else (u, part)
            if u is not None:
                of_inputs.extend(u)
            if start >= self.skipped:
                yield slice(start - self.skipped, stop - self.skipped), past, of_inputs, stim
            start = stop


class Past:
    """Values of the present block of times and of those before, shape (units, trials, time)."""

    def __init__(self, before: Tensor) -> None:
        self.kept, self.length, self.values = before.shape[2], 0, before

    def extend(self, values: Tensor) -> None:
        """Go on to the next block."""
        before = self.values[:, :, self.values.shape[2] - self.kept :]
        self.values, self.length = torch.cat([before, values], dim=2), values.shape[2]

    def delayed(self, steps: int) -> Tensor:
        """Values of the present times, so many steps before, shape (units, trials * times)."""
        start = self.kept - steps
        part = self.values[:, :, start : start + self.length]
        return part.reshape(part.shape[0], -1)
