"""Rewiring at a constant number of synapses: SET, RigL and DEEP R, inside the projections there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.checks import Seed
from sparse_mrnn.errors import TrainingError
from sparse_mrnn.models.delays import steps_of
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.synapse_table import ProjectionKey, SynapseTable, gradient_at
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.training.candidates import CandidateSlots, Int64, LossProbe
from sparse_mrnn.training.optimizer_state import Optimizers, rewrite_synapses
from sparse_mrnn.training.prune import check_fraction, chosen_synapses, weakest_of
from sparse_mrnn.training.select import select, trainable_only

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
    seed: Seed | None = None,
) -> int:
    """Move trainable synapses to other pairs of units (slots); each projection keeps its number of synapses.

    A new synapse lies between the projection's regions, where it has none yet, on the diagonal only if the
    projection may have self-connections. A slot that has just become free may be taken again. Slots are drawn
    uniformly: a rule by distance or by fan-in that made the projection is not followed. O(n log n) time and
    O(n) memory for n synapses (with ``loss``, also its own); never an array of units x units.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    fraction : float in [0, 1]
        Fraction of each projection's synapses to move, rounded to a whole number; not for "deepr".
    source, target, key
        See `freeze`. Default: all recurrent projections. Those without a trained parameter per synapse
        (frozen, shared, of low rank) are left alone.
    method : {"set", "rigl", "deepr"}
        "set" (Mocanu et al. 2018): the weakest synapses go, new ones come in random slots, each with the
        magnitude of one that went; without Dale's law the sign is random.
        "rigl" (Evci et al. 2020): the weakest go, new ones come where the loss falls fastest, at first 0.
        Under Dale's law only a slope in the direction of the source's sign counts.
        "deepr" (Bellec et al. 2018): those whose parameter has changed sign since they came go, new ones come
        in random slots, at first 0. The first call only takes note of the signs; then call it after every
        step, or every few. The paper's drift towards 0 is `weight_penalty` with ``norm="l1"``.
    loss : callable, for "rigl"
        Runs the network and returns the loss whose gradient decides, as for a training step.
    candidates : int, for "rigl"
        Slots looked at for each synapse to come; all of the projection if there are fewer.
    optimizer : torch.optim.Optimizer or several, optional
        Whose moments follow the synapses that stay; those of new ones are 0. Needed if one has made a step.
    seed : int, numpy SeedSequence or Generator, optional
        Default: one from torch's global generator.

    Returns
    -------
    int
        Synapses moved.

    Raises
    ------
    UnknownNameError
        If no projection matches.
    TrainingError
        If an argument does not fit the method, or no projection has a trained parameter per synapse.
    OptimizerError
        If the optimiser's state is not per synapse; nothing has changed then.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 50); g.add_projection("a", "a", density=0.1)
    >>> net = sm.mRNN(g, device="cpu", seed=0)
    >>> before = net.rec.nnz
    >>> rewire(net, 0.3, seed=0) == round(0.3 * before), net.rec.nnz == before
    (True, True)
    """
    _check(fraction, method, loss, candidates)
    weights, names = select(net, source, target, key)
    chosen = set(trainable_only(weights, names, "rewire"))
    rng = np.random.default_rng(int(torch.randint(2**62, ()).item()) if seed is None else seed)
    table = weights.table()
    if method == "deepr":
        gone = _crossed(weights, table, chosen)
    else:
        gone = weakest_of(table, table.values, chosen, fraction or 0.0)
    if not gone.any():
        return 0
    move = _Move(weights, table, CandidateSlots.of(net, weights, table), gone)
    if method == "rigl" and loss is not None:
        new = move.steepest(rng, candidates, LossProbe(net, loss), net.dt)
    else:
        new = move.slots.draw_free(rng, move.kept, move.kept_count, move.count)
    values, orientation = move.start(rng, new, method)
    merged, which = move.merged(new, values)
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
        hint = "a function that runs the network and returns the loss; the others take none"
        raise TrainingError(f"rewire: 'rigl' needs loss=, {hint}.")
    if candidates < 1:
        raise TrainingError(f"rewire: candidates is {candidates!r}; it must be at least 1.")


def _crossed(weights: SparseWeights, table: SynapseTable, chosen: set[ProjectionKey]) -> NDArray[np.bool_]:
    """Synapses whose parameter has the other sign than when they came."""
    now = torch.sign(table.values).to(torch.int8)
    if weights.orientation is None:
        weights.orientation = now
        return np.zeros(len(now), dtype=bool)
    fresh = weights.orientation == 0  # a value of exactly 0 had no sign to lose
    weights.orientation = torch.where(fresh, now, weights.orientation)
    crossed: NDArray[np.bool_] = (now * weights.orientation < 0).cpu().numpy()
    return crossed & chosen_synapses(table, chosen)


class _Move:
    """The synapses of a table that go, and the slots that new ones may take.

    ``kept`` has the sorted slots of the synapses that stay; ``kept_count`` and ``count`` say how many of each
    projection stay, and how many go and come.
    """

    def __init__(
        self, weights: SparseWeights, table: SynapseTable, slots: CandidateSlots, gone: NDArray[np.bool_]
    ) -> None:
        self.weights, self.table, self.slots, self.gone = weights, table, slots, gone
        self.kept: Int64 = (slots.start[slots.block] + slots.occupied(table))[~gone]
        self.kept_count: Int64 = np.bincount(slots.block[~gone], minlength=len(slots.columns))
        self.count: Int64 = table.lengths.numpy() - self.kept_count

    def steepest(self, rng: np.random.Generator, candidates: int, probe: LossProbe, dt: float) -> Int64:
        """Choose, from ``candidates`` free slots a synapse, the slots where it lowers the loss most."""
        wanted = np.minimum(self.count * candidates, self.slots.size - self.kept_count)
        drawn = self.slots.draw_free(rng, self.kept, self.kept_count, wanted)
        block, row, col = self.slots.locate(drawn)
        device, weights = self.weights.values.device, self.weights
        pairs = torch.from_numpy(np.stack([row, col])).to(device)
        slope, delays = np.empty(len(drawn)), steps_of(weights, dt)[block]
        for delay in np.unique(delays).tolist():
            inside = torch.from_numpy(np.flatnonzero(delays == delay)).to(device)
            sent = probe.transmitted(weights.kind, delay)
            to, of = pairs[:, inside]
            found = gradient_at(to, of, weights.shape, probe.current_gradient, sent)
            slope[inside.cpu().numpy()] = found.cpu().numpy()
        sign = self._signs(drawn)
        order = np.lexsort((np.where(sign == 0, -np.abs(slope), sign * slope), block))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(wanted) - wanted, wanted)
        chosen: Int64 = np.sort(drawn[order[rank < np.repeat(self.count, wanted)]])
        return chosen

    def _signs(self, new: Int64) -> NDArray[np.int8]:
        """Sign that Dale's law gives to new synapses; 0 if they are free."""
        device = self.weights.values.device
        block, _, col = (torch.from_numpy(part).to(device) for part in self.slots.locate(new))
        signs: NDArray[np.int8] = self.weights.signs_of(block, col).cpu().numpy()
        return signs if self.weights.constrained else np.zeros_like(signs)

    def start(self, rng: np.random.Generator, new: Int64, method: str) -> tuple[Tensor, Tensor]:
        """First values of new synapses, and the signs they count as having: + under Dale's law."""
        device, count = self.table.values.device, len(new)
        random = rng.choice(np.array([-1, 1], dtype=np.int8), count)
        orientation = torch.from_numpy(np.where(self._signs(new) == 0, random, np.int8(1))).to(device)
        values = torch.zeros(count, dtype=self.table.values.dtype, device=device)
        if method == "set":
            magnitude = self.table.values[torch.from_numpy(self.gone).to(device)].abs()
            mixed = np.lexsort((rng.random(count), self.slots.block[self.gone]))  # within each projection
            values = magnitude[torch.from_numpy(mixed).to(device)] * orientation
        return values, orientation

    def merged(self, new: Int64, values: Tensor) -> tuple[SynapseTable, Tensor]:
        """The table with the kept and the new synapses, row-major; and which of ``new`` its new ones are."""
        table, device = self.table, self.table.row.device
        taken = np.concatenate([self.kept, new])
        order = np.argsort(taken, kind="stable")
        _, row, col = (torch.from_numpy(part).to(device) for part in self.slots.locate(taken[order]))
        staying, mix = (torch.from_numpy(part).to(device) for part in (np.flatnonzero(~self.gone), order))
        origin = torch.cat([table.origin[staying], table.origin.new_full((len(new),), -1)])[mix]
        values = torch.cat([table.values[staying], values])[mix]
        group = torch.cat([table.group[staying], table.group.new_full((len(new),), -1)])[mix]
        merged = replace(table, row=row, col=col, values=values, group=group, origin=origin)
        return merged, mix[origin < 0] - len(staying)
