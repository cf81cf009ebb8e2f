"""Regressors of the current of each unit: its synapses, and the measured activity of its partners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_mrnn.errors import ShapeError, TrainingError
from sparse_mrnn.models.delays import steps_of
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.training.recorded import Recorded

BLOCK_BYTES, BLOCK_STEPS = 2**23, 1024
"""Bytes of activity of partners, and time steps of it, that are gathered at a time: about a cache."""
INVERSES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda h: h,
    "relu": lambda h: torch.where(h > 0, h, torch.nan),
    "tanh": lambda h: torch.where(h.abs() < 1, torch.atanh(h), torch.nan),
    "sigmoid": lambda h: torch.where((h > 0) & (h < 1), torch.logit(h), torch.nan),
    "softplus": lambda h: torch.where(h > 0, h + torch.log(-torch.expm1(-h)), torch.nan),
}
"""x from h, NaN where h does not tell it."""


class Samples:
    """A recording of units, and inputs, as rows of one matrix over the time steps of all trials.

    Each trial is preceded by as many columns as the longest delay has steps, in which no unit is known;
    inputs before the first sample are as given, or 0. An input is moved back by a step, so that a synapse
    without a delay takes inputs, like units, from the column before that of the state it acts on.

    Attributes
    ----------
    activity : Tensor of float64, shape (units + inputs + 2, columns)
        h of the units, 0 where unknown; inputs; a row of 1, and one of 0.
    known : Tensor of bool, likewise
    units : Tensor of int64
        Units that were measured, ascending.
    first : int
        Column of the first sample.
    """

    def __init__(
        self, net: mRNNBase, recorded: Recorded, inputs: Tensor | None, stim: Tensor | None
    ) -> None:
        if recorded.calcium is not None:
            advice = "deconvolve it first, or use fit, whose loss has the kernel"
            raise TrainingError(f"regress_weights: the recording is of a calcium indicator; {advice}.")
        every = recorded.sample_steps(net.dt)
        if len(every) < 2 or every[1] - every[0] != 1:
            what = f"samples are {recorded.interval:g} ms apart and dt is {net.dt:g} ms"
            advice = "measure every time step, or make a network with that dt"
            raise TrainingError(f"regress_weights: {what}; {advice}, or use fit.")
        n, m = (net.layout(kind).n for kind in ("recurrent", "input"))
        trials, steps = recorded.values.shape[:2]
        start = int(every[0])
        self.first = max(int(steps_of(part, net.dt).max(initial=1)) for part in net.weight_matrices())
        self.shape = (trials, self.first + steps)
        device, dtype = net.device, torch.float64
        numbers = torch.from_numpy(recorded.unit_numbers(net, "regress_weights")).to(device)
        self.units = numbers.sort().values
        self.one, self.none, self.n = n + m, n + m + 1, n
        segments = net.activation_segments
        values = torch.from_numpy(recorded.values).to(device).permute(2, 0, 1)
        rows = torch.full((n, *self.shape), torch.nan, dtype=dtype, device=device)
        rows[numbers, :, self.first :] = values
        flat = rows.view(n, -1)
        self.activity = torch.zeros(n + m + 2, flat.shape[1], dtype=dtype, device=device)
        self.states: Tensor | None = None
        if recorded.variable == "x":
            self.states, flat = flat, segments.apply(flat)
        else:
            for first, stop, own in segments.parts:
                measured = bool(((self.units >= first) & (self.units < stop)).any())
                if measured and (own.slope_into is None or own.name not in INVERSES):
                    what = f"x does not follow from h through the activation {own.name!r}"
                    raise TrainingError(f"regress_weights: {what}; give a recording with variable='x'.")
        self.segments = segments.parts
        self.known = torch.ones(self.activity.shape, dtype=torch.bool, device=device)
        self.known[:n] = torch.isfinite(flat)
        torch.nan_to_num(flat, nan=0.0, out=self.activity[:n])
        self.activity[self.one] = 1
        if m:
            if inputs is None:
                raise TrainingError("regress_weights: the network has inputs; give them as inputs.")
            given = self._given(net, inputs, "inputs", start + steps, m)
            # Column c has the input of the step that makes the state in column c + 1
            ahead = start + 1 - self.first
            empty = max(0, -ahead)
            moved = self.activity[n : n + m].view(m, *self.shape)
            moved[..., empty : self.first + steps - 1] = given[..., ahead + empty : start + steps]
        self.stim: Tensor | None = None
        if stim is not None:
            self.stim = torch.zeros(n, *self.shape, dtype=dtype, device=device)
            self.stim[..., self.first :] = self._given(net, stim, "stim_input", start + steps, n)[..., start:]
            self.stim = self.stim.view(n, -1)
        self.alpha = net.unit_alpha().detach().to(dtype).expand(n, 1)

    def _given(self, net: mRNNBase, given: Tensor, name: str, steps: int, width: int) -> Tensor:
        """A sequence laid out as for ``forward``, as (width, trials, steps)."""
        if given.dim() == 3 and not net.batch_first:
            given = given.transpose(0, 1)
        got = tuple(given.shape)
        if given.dim() != 3 or got[0] != self.shape[0] or got[1] < steps or got[2] != width:
            expected = f"{self.shape[0]} trials, at least {steps} time steps, {width} last"
            raise ShapeError(f"regress_weights: {name} have shape {got}; expected {expected}.")
        if not bool(torch.isfinite(given.sum())):
            raise TrainingError(f"regress_weights: {name} have NaN or infinite values.")
        return given[:, :steps].detach().to(self.activity).permute(2, 0, 1)

    def currents(self, units: Tensor) -> Tensor:
        """Current that units must have received for each state, NaN where unknown, shape (units, columns)."""
        if self.states is not None:
            x = self.states[units]
        else:
            h = self.activity[units].masked_fill_(~self.known[units], torch.nan)
            x = torch.empty_like(h)
            for start, stop, activation in self.segments:
                own = (units >= start) & (units < stop)
                x[own] = INVERSES[activation.name](h[own])
        alpha = self.alpha[units]
        leak = torch.nn.functional.pad(x[:, :-1], (1, 0), value=torch.nan) * (1 - alpha)
        # Without a leak, a state tells its current whatever the one before it was
        current = (x - torch.where(alpha < 1, leak, 0)) / alpha
        return current if self.stim is None else current - self.stim[units]


class Part(NamedTuple):
    """Regressors of some units, padded to the most that one of them has, shape (units, k).

    The first is the tonic input; ``entry`` is -1 where there is none.
    """

    entry: Tensor
    source: Tensor
    lag: Tensor
    sign: Tensor
    fixed: Tensor
    weight: Tensor


class Regressors:
    """Every synapse onto a measured unit, and its tonic input, unit after unit.

    Arrays have shape (regressors,): ``target`` and ``source`` unit (rows of `Samples`), ``lag`` in steps,
    ``sign``, ``fixed`` and ``weight`` as it is now; ``place`` is where the weight is kept, in ``origin``: 0
    tonic input, 1 recurrent, 2 input weights.
    """

    def __init__(self, net: mRNNBase, data: Samples, leave_out: bool) -> None:
        n, device = data.n, data.activity.device
        learnt = torch.zeros(n, dtype=torch.bool, device=device)
        learnt[net.bias_units] = True
        each = torch.arange(n, device=device)
        ones = torch.ones_like(each)
        # Constant over time, so the lag is any: that of most synapses needs no pass of its own
        tonic = net.tonic_inp.detach().double()
        columns = [[each, data.one * ones, ones, 0 * ones, ~learnt, tonic, each, 0 * ones]]
        for number, part in enumerate(net.weight_matrices(), 1):
            steps = torch.from_numpy(steps_of(part, net.dt)).to(device)
            entry = torch.arange(part.nnz, device=device) if part.perm is None else part.perm.long()
            sign = part.csr_signs().long() if part.constrained else torch.zeros_like(entry)
            columns.append([
                part.pattern.row.long(), part.col.long() + (0 if number == 1 else n),
                steps.index_select(0, part.projection_of_entry()), sign, entry >= part.values.numel(),
                part.csr_values().detach().double(), entry, torch.full_like(entry, number),
            ])  # fmt: skip
        table = [torch.cat(column) for column in zip(*columns, strict=True)]
        measured = torch.zeros(n, dtype=torch.bool, device=device)
        measured[data.units] = True
        present = torch.ones(data.none + 1, dtype=torch.bool, device=device)
        present[:n] = measured
        wanted, there = measured[table[0]], present[table[1]]
        self.left_out = torch.bincount(table[0][wanted & ~there], minlength=n)
        if not leave_out and bool(self.left_out.any()):
            unit = int(self.left_out.argmax())
            total = int(self.left_out.sum())
            what = f"{int(self.left_out[unit])} partners of unit {net.unit_ids[unit]!r} were not measured"
            also = f" ({total:,} synapses of {int((self.left_out > 0).sum()):,} units in all)"
            advice = "give unrecorded='leave out' to keep their weights, or use fit"
            raise TrainingError(f"regress_weights: {what}{also}; {advice}.")
        order = torch.nonzero(wanted & there)[:, 0]
        order = order[torch.argsort(table[0][order], stable=True)]
        self.target, self.source, self.lag, self.sign, self.fixed, self.weight, self.place, self.origin = (
            column[order] for column in table
        )
        self.count = torch.bincount(self.target, minlength=n)
        self.ptr = torch.cumsum(self.count, 0) - self.count
        self.none = data.none

    def of(self, units: Tensor) -> Part:
        """The regressors of some units."""
        slot = torch.arange(int(self.count[units].max()), device=units.device)
        inside = slot < self.count[units, None]
        entry = torch.where(inside, self.ptr[units, None] + slot, 0)
        filled = (
            torch.where(inside, column[entry], fill)
            for column, fill in (
                (self.source, self.none), (self.lag, 1), (self.sign, 0), (self.fixed, True), (self.weight, 0)
            )
        )
        return Part(torch.where(inside, entry, -1), *filled)

    def batches(self, units: Tensor, steps: int) -> Iterator[Tensor]:
        """Divide units into batches of about as many regressors, whose activity fits the memory."""
        ordered = units[torch.argsort(self.count[units], stable=True)]
        counts = self.count[ordered].tolist()
        end = len(counts)
        while end:
            size = max(1, BLOCK_BYTES // (8 * counts[end - 1] * min(steps, BLOCK_STEPS)))
            yield ordered[max(0, end - size) : end]
            end = max(0, end - size)


class Moments(NamedTuple):
    """Sums over usable time steps: of products of regressors, of theirs with the current, and its square."""

    gram: Tensor
    moment: Tensor
    square: Tensor
    samples: Tensor


def moments(data: Samples, part: Part, units: Tensor) -> Moments:
    """Add up the moments of some units, block of time by block of time."""
    b, k = part.source.shape
    like = data.activity
    gram, moment = like.new_zeros(b, k, k), like.new_zeros(b, k)
    square, samples = like.new_zeros(b), torch.zeros(b, dtype=torch.int64, device=like.device)
    target, source, lag = data.currents(units), part.source.flatten(), part.lag.flatten()
    lags = torch.unique(lag).tolist()
    steps = min(BLOCK_STEPS, like.shape[1] - data.first)
    places = [torch.nonzero(lag == one)[:, 0] for one in lags]
    buffer, known = like.new_empty(b * k * steps), data.known.new_empty(b * k * steps)

    def gather(rows: Tensor, start: int, stop: int, out: Tensor) -> Tensor:
        found = out[: b * k * (stop - start)].view(b * k, stop - start)
        for one, place in zip(lags, places, strict=True):
            moved = rows[:, start - one : stop - one]
            if len(lags) == 1:
                torch.index_select(moved, 0, source, out=found)
            else:
                found[place] = moved.index_select(0, source[place])
        return found.view(b, k, -1)

    for start in range(data.first, like.shape[1], steps):
        stop = min(start + steps, like.shape[1])
        y = target[:, start:stop]
        usable = torch.isfinite(y) & gather(data.known, start, stop, known).all(1)
        y = torch.where(usable, y, 0)
        block = gather(data.activity, start, stop, buffer)
        if not bool(usable.all()):
            block *= usable[:, None]
        gram.baddbmm_(block, block.transpose(1, 2))
        moment += (block @ y[..., None])[..., 0]
        square += y.square().sum(1)
        samples += usable.sum(1)
    return Moments(gram, moment, square, samples)
