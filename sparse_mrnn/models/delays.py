"""Delays of projections: from milliseconds to steps, and synapses grouped by them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.errors import ConfigError, RoundingWarning
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.ops.backends import CsrOperator
from sparse_mrnn.ops.lagged import Lag
from sparse_mrnn.ops.pattern import Pattern


@dataclass(frozen=True, eq=False)
class DelayGroup:
    """The synapses of one delay.

    ``delay`` counts steps (1: the next step, as without a delay); ``entries`` says where in CSR order they are (None:
    they are all); ``pattern`` is over all source units.
    """

    delay: int
    pattern: Pattern
    entries: Tensor | None


def delay_steps(projections: tuple[tuple[str, str, str], ...], delays: tuple[float | None, ...], dt: float) -> NDArray[np.int64]:
    """Delay of each projection in time steps; 1 without one.

    Raises
    ------
    ConfigError
        If a delay is shorter than a time step. A `RoundingWarning` tells of one that is no multiple of it.
    """
    steps = np.ones(len(delays), dtype=np.int64)
    for k, delay in enumerate(delays):
        if delay is None:
            continue
        source, target, key = projections[k]
        label = f"projection {source!r} -> {target!r} (key {key!r})"
        if delay < dt * (1 - 1e-6):
            raise ConfigError(f"{label}: delay {delay:g} ms is shorter than a time step, dt = {dt:g} ms; use a smaller dt, or no delay.")
        steps[k] = round(delay / dt)
        if abs(steps[k] * dt - delay) > 1e-6 * dt:
            text = f"{label}: delay {delay:g} ms is not a multiple of dt = {dt:g} ms; it is rounded to {steps[k] * dt:g} ms."
            warnings.warn(text, RoundingWarning, stacklevel=4)
    return steps


def steps_of(weights: SparseWeights, dt: float) -> NDArray[np.int64]:
    """`delay_steps` of a weight matrix, kept until its projections change."""
    key = ("steps", dt)
    if key not in weights.derived:
        weights.derived[key] = delay_steps(weights.projections, weights.delays, dt)
    found: NDArray[np.int64] = weights.derived[key]
    return found


def block_of_entry(weights: SparseWeights) -> Tensor:
    """Which projection each synapse belongs to, in CSR order."""
    lengths = torch.diff(weights.ptr)
    block = torch.repeat_interleave(torch.arange(len(lengths), dtype=torch.int32, device=lengths.device), lengths)
    return block if weights.perm is None else block.index_select(0, weights.perm)


def group_by_delay(weights: SparseWeights, steps: NDArray[np.int64]) -> tuple[DelayGroup, ...]:
    """Synapses grouped by delay, the shortest first. O(synapses) for each distinct delay; kept until the synapses change."""
    key = ("delays", *steps.tolist())
    if key not in weights.derived:
        weights.derived[key] = _group(weights, steps)
    found: tuple[DelayGroup, ...] = weights.derived[key]
    return found


def lags(weights: SparseWeights, dt: float) -> tuple[Lag, ...]:
    """The groups, for the recurrence; empty where there is no delay."""
    steps = steps_of(weights, dt)
    if steps.max(initial=1) == 1:
        return ()
    return tuple(Lag(g.delay, CsrOperator(g.pattern), g.entries) for g in group_by_delay(weights, steps))


def delayed_inputs(weights: SparseWeights, inputs: Tensor, dt: float) -> tuple[Tensor, CsrOperator | None]:
    """Inputs with their past beside them, one copy of the channels for each distinct delay, and what multiplies them.

    Parameters
    ----------
    weights : SparseWeights
        The input weights.
    inputs : Tensor, shape (time, channels, batch)
        Before the start they are 0.

    Returns
    -------
    Tensor, shape (time, delays x channels, batch), and CsrOperator
        The inputs as they are, and None, where no input projection has a delay.
    """
    steps = steps_of(weights, dt)
    if steps.max(initial=1) == 1:
        return inputs, None
    time, channels = inputs.shape[:2]
    groups = group_by_delay(weights, steps)
    col = weights.col.clone()
    for k, group in enumerate(groups):
        here = slice(None) if group.entries is None else group.entries.long()
        col[here] += k * channels
    shifted = []
    for group in groups:
        late = min(group.delay - 1, time)
        shifted.append(torch.cat([inputs.new_zeros(late, *inputs.shape[1:]), inputs[: time - late]]))
    operator = CsrOperator(Pattern(weights.crow, col, (weights.shape[0], channels * len(groups))))
    return torch.cat(shifted, dim=1), operator


def _group(weights: SparseWeights, steps: NDArray[np.int64]) -> tuple[DelayGroup, ...]:
    distinct = np.unique(steps)
    if len(distinct) <= 1:
        return (DelayGroup(int(distinct[0]) if len(distinct) else 1, weights.pattern, None),)
    device = weights.col.device
    delay = torch.from_numpy(steps).to(device).index_select(0, block_of_entry(weights).long())
    groups = []
    for step in distinct.tolist():
        here = delay == step
        entries = torch.nonzero(here)[:, 0]
        before = torch.zeros(len(here) + 1, dtype=weights.crow.dtype, device=device)
        torch.cumsum(here, 0, dtype=before.dtype, out=before[1:])
        pattern = Pattern(before[weights.crow.long()], weights.col[entries], weights.shape)
        groups.append(DelayGroup(step, pattern, entries))
    return tuple(groups)
