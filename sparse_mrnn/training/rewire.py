"""Rewiring at a constant number of synapses: SET, RigL and DEEP R, inside the projections there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.errors import TrainingError
from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.models.synapse_table import ProjectionKey, SynapseTable, gradient_at
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.training.candidate_slots import CandidateSlots, Int64
from sparse_mrnn.training.loss_probe import LossProbe
from sparse_mrnn.training.optimizer_state import Optimizers, rewrite_synapses
from sparse_mrnn.training.prune import check_fraction
from sparse_mrnn.training.select import select, trainable_only
from sparse_mrnn.training.weakest import weakest

METHODS = ("set", "rigl", "deepr")


def rewire(
    net: mRNNBase,
    fraction: float | None = None,
    source: str | None = None,
    target: str | None = None,
    key: str | None = None,
    *,
    method: Literal["set", "rigl", "deepr"] = "set",
    loss: Callable[[], Tensor] | None = None,
    candidates: int = 10,
    optimizer: Optimizers = None,
    rng: np.random.Generator | int | None = None,
) -> int:
    """Move trainable synapses to other slots (pairs of units) within their projections; every projection keeps its number of them.

    A new synapse lies between the projection's regions, where it has none yet, and on the diagonal only if the
    projection may have self-connections. A slot that has just become free may be taken again. Slots are drawn
    uniformly: a rule by distance or by fan-in that made the projection is not followed. O(n log n) in time and O(n) in
    memory for n synapses (with ``loss``, also its own); never an array of units x units.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    fraction : float in [0, 1]
        Of each projection's synapses, rounded to a whole number; not for "deepr".
    source, target, key
        As `freeze`. Default: all recurrent projections. Frozen ones are left alone.
    method : {"set", "rigl", "deepr"}
        "set" (Mocanu et al. 2018): the weakest synapses go, new ones come in random slots, each with the magnitude of
        one that went; without Dale's law the sign is random.
        "rigl" (Evci et al. 2020): the weakest go, new ones come where the loss falls most steeply, starting at 0. Under
        Dale's law only a slope in the direction of the source's sign counts.
        "deepr" (Bellec et al. 2018): those whose parameter has changed sign since they came go, new ones come in random
        slots, starting at 0. The first call only takes note of the signs; then call it after every step, or every
        few. The paper's drift towards 0 is `weight_penalty` with ``norm="l1"``.
    loss : callable, for "rigl"
        Runs the network and returns the loss whose gradient decides, as for a training step.
    candidates : int, for "rigl"
        Slots looked at for each synapse to come; all of the projection if there are fewer.
    optimizer : torch.optim.Optimizer or several, optional
        Whose moments follow the synapses that stay; those of new ones are 0. Needed if one exists and has made a step.
    rng : numpy Generator or int, optional
        Default: seeded by torch's global generator.

    Returns
    -------
    int
        Synapses moved.

    Raises
    ------
    UnknownNameError
        If there is no such projection.
    TrainingError
        If an argument does not fit the method, or the projections are all frozen.
    OptimizerError
        If the optimiser's state is not per synapse; nothing has changed then.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 50); g.add_projection("a", "a", density=0.1)
    >>> net = sm.mRNN(g, device="cpu", seed=0)
    >>> before = net.rec.nnz
    >>> rewire(net, 0.3, rng=0) == round(0.3 * before), net.rec.nnz == before
    (True, True)
    """
    _check(fraction, method, loss, candidates)
    weights, names = select(net, source, target, key)
    chosen = trainable_only(weights, names, "rewire")
    rng = np.random.default_rng(int(torch.randint(2**62, ()).item()) if rng is None else rng)
    table = weights.table()
    gone = _crossed(weights, table, chosen) if method == "deepr" else _weakest(table, chosen, fraction or 0.0)
    if not gone.any():
        return 0
    slots = CandidateSlots.of(net, weights, table)
    kept_count = np.bincount(slots.block[~gone], minlength=len(slots.columns))
    going = table.lengths.numpy() - kept_count
    occupied = slots.start[slots.block] + slots.occupied(table)
    kept = occupied[~gone]  # sorted: projection after projection, row-major
    if method == "rigl" and loss is not None:
        wanted = np.minimum(going * candidates, slots.size - kept_count)
        drawn = slots.draw_free(rng, kept, kept_count, wanted)
        drawn = _steepest(weights, slots, LossProbe(net, loss), drawn, wanted, going)
    else:
        drawn = slots.draw_free(rng, kept, kept_count, going)
    values, orientation = _start(rng, table, slots, _signs(weights, slots, drawn), gone, method)
    merged, which = _merge(table, slots, kept, gone, drawn, values)
    rewrite_synapses(weights, merged, optimizer)
    if weights.orientation is not None:
        weights.orientation[merged.origin < 0] = orientation[which]
    return int(gone.sum())


def _check(fraction: float | None, method: str, loss: object, candidates: int) -> None:
    if method not in METHODS:
        raise TrainingError(f"rewire: method is {method!r}; use one of {', '.join(map(repr, METHODS))}.")
    if method == "deepr":
        if fraction is not None:
            raise TrainingError("rewire: 'deepr' moves the synapses that changed sign; leave fraction out.")
    elif fraction is None:
        raise TrainingError(f"rewire: {method!r} needs a fraction of the synapses to move.")
    else:
        check_fraction("rewire", fraction)
    if (method == "rigl") != (loss is not None):
        raise TrainingError("rewire: 'rigl' needs loss=, a function that runs the network and returns the loss; the others take none.")
    if candidates < 1:
        raise TrainingError(f"rewire: candidates is {candidates!r}; it must be at least 1.")


def _weakest(table: SynapseTable, chosen: list[ProjectionKey], fraction: float) -> NDArray[np.bool_]:
    inside = set(chosen)
    lengths = table.lengths.numpy()
    group = np.array([k if name in inside else -1 for k, name in enumerate(table.projections)], dtype=np.int64)
    return weakest(table.values.abs().cpu().numpy(), np.repeat(group, lengths), fraction, len(lengths))


def _crossed(weights: SparseWeights, table: SynapseTable, chosen: list[ProjectionKey]) -> NDArray[np.bool_]:
    """Synapses whose parameter has the other sign than when they came."""
    now = torch.sign(table.values).to(torch.int8)
    if weights.orientation is None:
        weights.orientation = now
        return np.zeros(len(now), dtype=bool)
    fresh = weights.orientation == 0  # a value of exactly 0 had no sign to lose
    weights.orientation = torch.where(fresh, now, weights.orientation)
    inside = set(chosen)
    selected = np.repeat(np.array([name in inside for name in table.projections], dtype=bool), table.lengths.numpy())
    crossed: NDArray[np.bool_] = (now * weights.orientation < 0).cpu().numpy() & selected
    return crossed


def _steepest(
    weights: SparseWeights, slots: CandidateSlots, probe: LossProbe, drawn: Int64, count: Int64, needed: Int64
) -> Int64:
    """Of ``count`` candidate slots of each projection, the ``needed`` ones where a synapse lowers the loss most."""
    block, row, col = slots.locate(drawn)
    device = weights.values.device
    activity = probe.activity if weights.kind == "recurrent" else probe.input
    pairs = torch.from_numpy(row).to(device), torch.from_numpy(col).to(device)
    slope = gradient_at(*pairs, weights.shape, probe.drive_gradient, activity).cpu().numpy()
    sign = _signs(weights, slots, drawn)
    gain = np.where(sign == 0, np.abs(slope), -sign * slope)
    order = np.lexsort((-gain, block))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    chosen: Int64 = np.sort(drawn[order[rank < np.repeat(needed, count)]])
    return chosen


def _signs(weights: SparseWeights, slots: CandidateSlots, drawn: Int64) -> NDArray[np.int8]:
    """Sign that Dale's law gives to synapses in these slots; 0 where they are free."""
    block, _, col = slots.locate(drawn)
    device = weights.values.device
    signs = weights.signs_of(torch.from_numpy(block).to(device), torch.from_numpy(col).to(device))
    found: NDArray[np.int8] = signs.cpu().numpy()
    return found if weights.constrained else np.zeros_like(found)


def _start(
    rng: np.random.Generator,
    table: SynapseTable,
    slots: CandidateSlots,
    sign: NDArray[np.int8],
    gone: NDArray[np.bool_],
    method: str,
) -> tuple[Tensor, Tensor]:
    """First values of new synapses, and the sign each counts as having: under Dale's law parameters are positive."""
    device = table.values.device
    orientation = np.where(sign == 0, rng.choice(np.array([-1, 1], dtype=np.int8), len(sign)), 1).astype(np.int8)
    values = torch.zeros(len(sign), dtype=table.values.dtype, device=device)
    if method == "set":
        magnitude = table.values[torch.from_numpy(gone).to(device)].abs()
        mixed = np.lexsort((rng.random(len(sign)), slots.block[gone]))  # among those of one projection, at random
        values = magnitude[torch.from_numpy(mixed).to(device)] * torch.from_numpy(orientation).to(device)
    return values, torch.from_numpy(orientation).to(device)


def _merge(
    table: SynapseTable,
    slots: CandidateSlots,
    kept: Int64,
    gone: NDArray[np.bool_],
    drawn: Int64,
    values: Tensor,
) -> tuple[SynapseTable, Tensor]:
    """The table with the kept and the new synapses, row-major; and for each of the new ones there, which it is."""
    device = table.row.device
    taken = np.concatenate([kept, drawn])
    order = np.argsort(taken, kind="stable")
    _, row, col = (torch.from_numpy(part).to(device) for part in slots.locate(taken[order]))
    staying = torch.from_numpy(np.flatnonzero(~gone)).to(device)
    mix = torch.from_numpy(order).to(device)
    origin = torch.cat([table.origin[staying], table.origin.new_full((len(drawn),), -1)])[mix]
    merged = replace(table, row=row, col=col, values=torch.cat([table.values[staying], values])[mix], origin=origin)
    return merged, mix[origin < 0] - len(staying)
