"""Delays of projections: from milliseconds to steps, and synapses grouped by them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.errors import ConfigError, RoundingWarning
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.models.weights import Operand, SparseWeights
from sparse_mrnn.ops.delays import DelayGroup, SynapticDelays
from sparse_mrnn.ops.pattern import Pattern
from sparse_mrnn.ops.philox import Levels
from sparse_mrnn.ops.products import CsrOperator, LowRankBlock, LowRankSum, Operator
from sparse_mrnn.ops.torch_modes import ordinary_tensors


def delay_steps(
    delays: NDArray[np.float64], dt: float, name_of: Callable[[int], ProjectionKey]
) -> NDArray[np.int64]:
    """Delay of each projection in time steps, from ms; 1 without one, which is NaN.

    Raises
    ------
    ConfigError
        If a delay is shorter than a time step. A `RoundingWarning` tells of one that is not a multiple of it.
    """
    given = ~np.isnan(delays)
    steps = np.where(given, np.rint(delays / dt), 1.0)
    short = given & (delays < dt * (1 - 1e-6))
    uneven = given & (abs(steps * dt - delays) > 1e-6 * dt)
    for k in np.flatnonzero(short | uneven).tolist():
        what = f"{projection_label(*name_of(k))}: delay {delays[k]:g} ms"
        if short[k]:
            raise ConfigError(f"{what} is shorter than a time step, dt = {dt:g} ms; use a smaller dt.")
        text = f"{what} is not a multiple of dt = {dt:g} ms; it is rounded to {steps[k] * dt:g} ms."
        warnings.warn(text, RoundingWarning, stacklevel=4)
    return steps.astype(np.int64)


def synaptic_delays(weights: SparseWeights, dt: float) -> SynapticDelays:
    """Delay of every synapse, kept until the projections change."""
    key = ("synaptic delays", dt)
    if key not in weights.derived:
        stds, means = weights.delay_stds, weights.delay_times
        steps = _mean_steps(weights, dt)[: len(stds)]
        levels = [
            Levels.normal(mean / dt, std / dt) if std else Levels(int(step), np.empty(0, np.uint32))
            for mean, std, step in zip(means, stds, steps, strict=True)
        ]
        drawn = [name if std else None for name, std in zip(weights.projections, stds, strict=True)]
        keys = np.array([(0, 0) if name is None else _key(name) for name in drawn], np.uint32).reshape(-1, 2)
        weights.derived[key] = SynapticDelays(weights.ptr.cpu().numpy(), tuple(levels), keys)
    found: SynapticDelays = weights.derived[key]
    return found


def _key(name: ProjectionKey) -> NDArray[np.uint32]:
    """Key of the delays that a projection draws."""
    return np.frombuffer(hashlib.sha256("\0".join(name).encode()).digest()[:8], np.dtype("<u4"))


def has_delays(weights: SparseWeights, dt: float) -> bool:
    """Tell if some projection takes more than one time step."""
    return longest_delay(weights, dt) > 1


def longest_delay(weights: SparseWeights, dt: float) -> int:
    """Time steps of the longest delay; 1 without any."""
    key = ("longest delay", dt)
    if key not in weights.derived:
        longest = int(_mean_steps(weights, dt).max(initial=1))
        drawn = synaptic_delays(weights, dt).longest if weights.delay_stds.any() else 1
        weights.derived[key] = max(longest, drawn)
    return int(weights.derived[key])


def steps_of(weights: SparseWeights, dt: float) -> NDArray[np.int64]:
    """`delay_steps` of a weight matrix, those of low rank last, kept until its projections change.

    Raises
    ------
    ConfigError
        If a projection draws a delay for each synapse: what asks here has one for each projection.
    """
    refuse_drawn_delays(weights)
    return _mean_steps(weights, dt)


def refuse_drawn_delays(weights: SparseWeights) -> None:
    """Raise a ConfigError if a projection draws a delay for each synapse."""
    for k in np.flatnonzero(weights.delay_stds)[:1].tolist():
        label = projection_label(*weights.projections[k])
        what = "delays drawn for each synapse (delay_std) are for simulating and training"
        raise ConfigError(f"{label}: {what}; set delay_std=0 for this.")


def _mean_steps(weights: SparseWeights, dt: float) -> NDArray[np.int64]:
    key = ("delay steps", dt)
    if key not in weights.derived:
        low_rank = () if weights.low_rank is None else weights.low_rank.delays
        times = weights.delay_times
        mean = np.maximum(np.rint(times / dt), 1) * dt  # drawn delays are rounded, not their mean
        times = np.where((weights.delay_stds > 0) & (times >= dt), mean, times)
        delays = np.concatenate([times, np.array(low_rank, dtype=np.float64)])
        weights.derived[key] = delay_steps(delays, dt, lambda k: weights.all_projections[k])
    steps: NDArray[np.int64] = weights.derived[key]
    return steps


def delay_groups(weights: SparseWeights, dt: float, operator: Operator) -> tuple[DelayGroup, ...]:
    """The synapses grouped by delay, the shortest first, for values in CSR order.

    Without delays, the operator multiplies all synapses; else a CSR matrix those of each delay. O(synapses)
    for each distinct delay; kept until the synapses change.
    """
    if not has_delays(weights, dt):
        return (DelayGroup(1, operator),)
    key = ("delay groups", dt)
    if key not in weights.derived:
        weights.derived[key] = _grouped(weights, dt)
    groups: tuple[DelayGroup, ...] = weights.derived[key]
    return groups


def delayed_inputs(
    weights: SparseWeights, inputs: Tensor, dt: float, before: Sequence[Tensor] = ()
) -> tuple[Tensor, Operand]:
    """Inputs with their past beside them, a copy of the channels for each delay, and what multiplies them.

    Inputs have shape (time, channels, batch). ``before`` are those before the start, each (channels, batch),
    the latest first, for all steps that the longest delay reads; none: they were 0. Without delays, inputs
    are returned as they are.
    """
    if not has_delays(weights, dt):
        return inputs, weights.operand("csr")
    key = ("delayed inputs", dt)
    if key not in weights.derived:
        weights.derived[key] = _input_copies(weights, steps_of(weights, dt))
    distinct, operand = weights.derived[key]
    shifted, time = [], inputs.shape[0]
    for delay in distinct:
        late = min(delay - 1, time)
        earlier = [before[delay - 2 - t][None] for t in range(late)] if before else [
            inputs.new_zeros(late, *inputs.shape[1:])
        ]
        shifted.append(torch.cat([*earlier, inputs[: time - late]]))
    return torch.cat(shifted, dim=1), operand


@ordinary_tensors()
def _input_copies(weights: SparseWeights, steps: NDArray[np.int64]) -> tuple[list[int], Operand]:
    """The distinct delays, and the matrix over a copy of the channels for each."""
    rows, channels = weights.shape
    distinct, copies = np.unique(steps, return_inverse=True)
    which = torch.from_numpy(copies).to(weights.col.device)
    col = weights.col + channels * which.index_select(0, weights.projection_of_entry()).to(weights.col.dtype)
    pattern, order = Pattern.from_coo(weights.pattern.row, col, (rows, channels * len(distinct)))
    operator: Operator = CsrOperator(pattern, weights.trained_entries(order))
    if weights.low_rank is not None:
        moved = []
        for block, copy in zip(weights.low_rank.blocks, copies[len(weights.projections) :], strict=True):
            first = channels * int(copy)
            cols = slice(block.cols.start + first, block.cols.stop + first)
            moved.append(LowRankBlock(block.rows, cols, block.rank))
        operator = LowRankSum(operator, weights.nnz, moved)
    index, signs = weights.perm, weights.csr_signs()
    if order is not None:
        index, signs = order if index is None else index[order], signs[order]
    return distinct.tolist(), Operand(operator, index, signs)


@ordinary_tensors()
def _grouped(weights: SparseWeights, dt: float) -> tuple[DelayGroup, ...]:
    steps = _mean_steps(weights, dt)
    device, layout, names = weights.col.device, weights.sources, weights.projection_names
    block = weights.projection_of_entry()
    delay_of_entry = torch.from_numpy(steps).to(device).index_select(0, block)
    reach = [(steps[k], steps[k]) for k in range(len(steps))]  # delays of each projection
    if weights.delay_stds.any():
        delays = synaptic_delays(weights, dt)
        where = (block, weights.pattern.row, weights.col)
        drawn = delays.steps(*(tensor.cpu().numpy() for tensor in where))
        delay_of_entry = torch.from_numpy(drawn).to(device)
        reach[: len(delays.levels)] = [(each.least, each.most) for each in delays.levels]
    least, most = np.array(reach, dtype=np.int64).reshape(-1, 2).T
    distinct = np.unique(np.concatenate([delay_of_entry.cpu().numpy(), steps]))  # also without synapses
    low_rank = () if weights.low_rank is None else weights.low_rank.blocks
    low_rank_ptr = weights.nnz + np.cumsum([0, *(sum(block.sizes) for block in low_rank)])
    groups = []
    for delay in distinct.tolist():
        entries = torch.nonzero(delay_of_entry == delay)[:, 0]
        here = np.flatnonzero((least <= delay) & (delay <= most))
        own = {names.regions[k] for k in np.unique(names.source[here[here < len(names)]]).tolist()}
        own |= {weights.all_projections[k][0] for k in here[here >= len(names)].tolist()}
        regions = sorted(layout.index[source] for source in own)
        sources = tuple((int(layout.ptr[k]), int(layout.ptr[k + 1])) for k in regions)
        operator: Operator = CsrOperator(weights.pattern.select(entries), weights.trained_entries(entries))
        blocks = np.flatnonzero(steps[len(weights.projections) :] == delay).tolist()
        if blocks:
            operator = LowRankSum(operator, len(entries), [low_rank[k] for k in blocks])
            factors = [torch.arange(low_rank_ptr[k], low_rank_ptr[k + 1], device=device) for k in blocks]
            entries = torch.cat([entries, *factors])
        groups.append(DelayGroup(delay, operator, entries, sources))
    return tuple(groups)
