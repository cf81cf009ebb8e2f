"""Candidates for new synapses: the free slots of projections, and the gradient of the loss there."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_mrnn.declaration.connectivity import sample_distinct
from sparse_mrnn.errors import TrainingError
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.synapse_table import SynapseTable
from sparse_mrnn.models.weights import SparseWeights

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class CandidateSlots:
    """Each projection's possible synapses, numbered row by row, without the diagonal if it is left out.

    Parameters
    ----------
    start, size, columns : ndarray of int64, shape (projections,)
        First slot in a common numbering, slots, and slots in a row.
    no_self : ndarray of bool, shape (projections,)
    row_start, col_start : ndarray of int64, shape (projections,)
        First unit of the target and of the source.
    block : ndarray of int64, shape (synapses,)
        Projection of each synapse.
    """

    start: Int64
    size: Int64
    columns: Int64
    no_self: NDArray[np.bool_]
    row_start: Int64
    col_start: Int64
    block: Int64

    @classmethod
    def of(cls, net: mRNNBase, weights: SparseWeights, table: SynapseTable) -> CandidateSlots:
        """The slots of the projections of a table."""
        by_name = {(p.source, p.target, p.key): p.pair for p in net.graph.projections(weights.kind)}
        pairs = [by_name[name] for name in table.projections]
        targets, sources = weights.targets, weights.sources
        columns = np.array([pair.columns for pair in pairs], dtype=np.int64)
        size = columns * np.array([pair.n_target for pair in pairs], dtype=np.int64)
        return cls(
            start=np.cumsum(size) - size,
            size=size,
            columns=columns,
            no_self=np.array([pair.exclude_self for pair in pairs], dtype=bool),
            row_start=targets.ptr[[targets.index[target] for _, target, _ in table.projections]],
            col_start=sources.ptr[[sources.index[source] for source, _, _ in table.projections]],
            block=np.repeat(np.arange(len(pairs)), table.lengths.numpy()),
        )

    def occupied(self, table: SynapseTable) -> Int64:
        """Slot of each synapse within its projection."""
        row = table.row.cpu().numpy() - self.row_start[self.block]
        col = table.col.cpu().numpy() - self.col_start[self.block]
        slots: Int64 = row * self.columns[self.block] + col - (self.no_self[self.block] & (col > row))
        return slots

    def locate(self, slots: Int64) -> tuple[Int64, Int64, Int64]:
        """Projection, row and column (in the whole matrix) of slots in the common numbering."""
        block = np.searchsorted(self.start, slots, side="right") - 1
        local = slots - self.start[block]
        row = local // self.columns[block]
        col = local - row * self.columns[block]
        col += self.no_self[block] & (col >= row)
        return block, row + self.row_start[block], col + self.col_start[block]

    def draw_free(self, rng: np.random.Generator, kept: Int64, kept_count: Int64, count: Int64) -> Int64:
        """Draw ``count`` different free slots of each projection, uniformly, in the common numbering, sorted.

        A drawn number r stands for the r-th free slot. Before the i-th kept slot a_i there are a_i - i free
        ones, so the slot is r plus the kept ones with a_i - i <= r: no draw fails, however full a projection.

        ``kept`` has the slots that are taken, in the common numbering, sorted; ``kept_count`` and ``count``
        say how many of them each projection has, and how many to draw.
        """
        free = self.size - kept_count
        free_start = np.cumsum(free) - free
        before = np.cumsum(kept_count) - kept_count
        drawn = sample_distinct(rng, count, free)
        rank = drawn + np.repeat(free_start, count)
        block_of_kept = np.repeat(np.arange(len(free)), kept_count)
        nth = np.arange(len(kept)) - before[block_of_kept]
        free_before = free_start[block_of_kept] + (kept - self.start[block_of_kept]) - nth
        passed = np.searchsorted(free_before, rank, side="right")
        block = np.repeat(np.arange(len(free)), count)
        slots: Int64 = self.start[block] + drawn + passed - before[block]
        return slots


class LossProbe:
    """The gradient of a loss by any synapse, there or not: sum over time and trials of g[i] h[j].

    g is ``current_gradient``, the gradient by each unit's summed input; h is what the source sends
    (`transmitted`). A current added to the units enters the dynamics where the weights do, so the gradient by
    ``stim_input`` is the gradient by each unit's summed input.

    ``loss`` runs the network at least once and returns the loss.
    """

    def __init__(self, net: mRNNBase, loss: Callable[[], Tensor]) -> None:
        self.net = net
        self.stims: list[Tensor] = []
        self.inputs: list[Tensor] = []
        self.starts: list[Tensor] = []
        self.activities: list[Tensor] = []
        self._time = 1 if net.batch_first else 0
        self._signature = inspect.signature(net.forward)
        hooks = [
            net.register_forward_pre_hook(self._add_current, with_kwargs=True),
            net.register_forward_hook(self._note_activity),
        ]
        try:
            with torch.enable_grad():
                value = loss()
        finally:
            for hook in hooks:
                hook.remove()
        if not self.stims:
            hint = "it must call net(...) and return a scalar"
            raise TrainingError(f"rewire: the loss did not run the network; {hint}.")
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise TrainingError("rewire: loss must return a scalar that depends on the network's states.")
        gradients = torch.autograd.grad(value, self.stims, allow_unused=True)
        known = [torch.zeros_like(s) if g is None else g for g, s in zip(gradients, self.stims, strict=True)]
        self.current_gradient = self._columns(known)

    def transmitted(self, kind: str, delay: int) -> Tensor:
        """Activity that each source sends with a delay in steps, shape (sources, time x trials).

        Before the start, activity is the initial one and input is 0.
        """
        if kind == "recurrent":
            runs, late = zip(self.starts, self.activities, strict=True), delay
        else:  # a step without delay takes the input of the same step, but the activity of the last one
            silent = [torch.zeros_like(u.select(self._time, 0)) for u in self.inputs]
            runs, late = zip(silent, self.inputs, strict=True), delay - 1
        return self._columns([self._later(before, sequence, late) for before, sequence in runs])

    def _later(self, before: Tensor, sequence: Tensor, late: int) -> Tensor:
        """The sequence ``late`` steps later, and what was before its start until then."""
        steps = sequence.shape[self._time]
        late = min(late, steps)
        head = before.unsqueeze(self._time).expand_as(sequence).narrow(self._time, 0, late)
        return torch.cat([head, sequence.narrow(self._time, 0, steps - late)], dim=self._time)

    def _columns(self, states: list[Tensor]) -> Tensor:
        """Shape (units, time x trials), in the same order for everything that comes through here."""
        return torch.cat([s.detach().flatten(0, 1) for s in states]).t().contiguous()

    def _add_current(self, net: nn.Module, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        bound = self._signature.bind(*args, **kwargs)
        arguments = bound.arguments
        if arguments.get("W_rec") is not None:
            raise TrainingError("rewire: the loss runs the network with a W_rec of its own; leave it out.")
        inp, stim = arguments["inp"], arguments.get("stim_input")
        n = self.net.layout().n
        current = inp.new_zeros(*inp.shape[:2], n) if stim is None else stim.detach().clone()
        arguments["stim_input"] = current.requires_grad_()
        self.stims.append(current)
        self.inputs.append(inp)
        elman, h0 = isinstance(self.net, ElmanmRNN), arguments.get("h0")
        start = h0 if elman else arguments.get("x0")
        if start is None:
            start = self.net.batched_initial_condition(inp.shape[1 - self._time])
        if isinstance(start, tuple):
            start = start[-1]
        elif not elman:
            start = self.net.activation_segments.apply(start.t()).t() if h0 is None else h0
        self.starts.append(start.detach())
        return bound.args, bound.kwargs

    def _note_activity(self, net: nn.Module, args: Any, output: Any) -> None:
        self.activities.append((output[1] if isinstance(output, tuple) else output).detach())
