"""The recurrent product of a rank: its synapses from own units, and those from the halo that it receives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_mrnn.distributed.halo import Halo
from sparse_mrnn.ops.delays import DelayGroup
from sparse_mrnn.ops.recurrence.delays import DelayedProduct, GradientRing, PastActivity
from sparse_mrnn.ops.recurrence.spec import RecurrenceSpec

FETCH_BYTES = 2**26
"""Bytes of the halo's activity that the backward pass asks for at once."""


@dataclass(frozen=True, eq=False)
class HaloSynapses:
    """The synapses of a rank from units of others.

    Parameters
    ----------
    halo : Halo
    groups : sequence of DelayGroup
        Over the halo's units.
    stored : int
        Stored values of the synapses from own units, which come first among all.
    longest : int
        Longest delay of any synapse from another rank's unit, on any rank.
    largest : int
        Halo units of the rank that has most.
    """

    halo: Halo
    groups: Sequence[DelayGroup]
    stored: int
    longest: int
    largest: int


@dataclass(frozen=True)
class ShardedSpec(RecurrenceSpec):
    """A recurrence whose units are some of a network; the others are on other ranks."""

    others: HaloSynapses | None = None

    def product(self, weights: Tensor) -> DelayedProduct:
        if self.others is None:
            return super().product(weights)
        return ShardedProduct(self.groups, self.others, weights)


class HaloActivity:
    """Activity of the halo at the latest steps.

    Parameters
    ----------
    first : int
        Step of the first of them.
    activity : Tensor, shape (halo units, steps, batch)
        A ring: that of step s is at (s - first) modulo its length.
    """

    def __init__(self, first: int, activity: Tensor) -> None:
        self.first, self.activity = first, activity

    def at(self, step: int) -> Tensor:
        """Activity at a step, shape (halo units, batch)."""
        return self.activity[:, (step - self.first) % self.activity.shape[1]]

    def put(self, step: int, activity: Tensor) -> None:
        """Replace the oldest by that of a step."""
        self.at(step).copy_(activity)


class ShardedProduct(DelayedProduct):
    """The products of all delays, from own units and from the halo's; one message to each rank a step.

    Parameters
    ----------
    groups : sequence of DelayGroup
        Over own units.
    others : HaloSynapses
    weights : Tensor
        Stored values from own units, then from the halo's.
    """

    def __init__(self, groups: Sequence[DelayGroup], others: HaloSynapses, weights: Tensor) -> None:
        self.others, self.halo = others, others.halo
        self.own = DelayedProduct(groups, weights[: others.stored])
        self.cut = DelayedProduct(others.groups, weights[others.stored :])
        self.parts = self.own.parts + self.cut.parts
        self.longest = max(self.own.longest, others.longest)
        self.source_sizes = self.own.source_sizes + self.cut.source_sizes
        self._received: HaloActivity | None = None
        self._fetched: tuple[PastActivity, HaloActivity, int] | None = None

    def addmm(self, y: Tensor, history: PastActivity, step: int, *, beta: float, alpha: float) -> None:
        longest = self.others.longest
        first = step + 1 - longest if step == 0 else step  # at the start of a segment, all that is needed
        arriving = self.halo.begin(_activity(history, first, step))
        self.own.addmm(y, history, step, beta=beta, alpha=alpha)
        arrived = arriving.wait()
        if step == 0 or self._received is None:
            self._received = HaloActivity(first, arrived)
        else:
            self._received.put(step, arrived[:, 0])
        self.cut.addmm(y, self._received, step, beta=1.0, alpha=alpha)

    def sources(self, history: PastActivity, step: int) -> list[Tensor]:
        """The activity each delay transmits in a step; the halo's is asked for again, many steps at once.

        The steps of a history are asked for from its last to its first.
        """
        if self._fetched is None or self._fetched[0] is not history or step < self._fetched[2]:
            like = history.at(step)
            step_bytes = max(1, self.others.largest) * like.shape[1] * like.element_size()
            begin = max(0, step + 1 - max(1, FETCH_BYTES // step_bytes))
            first = begin + 1 - self.others.longest
            self._fetched = None
            arrived = self.halo.begin(_activity(history, first, step)).wait()
            self._fetched = history, HaloActivity(first, arrived), begin
        return self.own.sources(history, step) + self.cut.sources(self._fetched[1], step)

    def gradients(self, like: Tensor) -> GradientRing:
        return ShardedGradients(self, like)

    def grad(self) -> Tensor:
        return torch.cat([self.own.grad(), self.cut.grad()])


class ShardedGradients(GradientRing):
    """Gradients on their way back to the activity of own units and, by messages, of the halo's."""

    def __init__(self, product: ShardedProduct, like: Tensor) -> None:
        self.halo = product.halo
        self.own = GradientRing(product.own, like)
        self.of_halo = like.new_zeros(product.halo.n, like.shape[1])
        self.cut = GradientRing(product.cut, self.of_halo)

    def back(self, g: Tensor, step: int, out: Tensor, *, last: bool) -> None:
        if last:
            return
        self.cut.back(g, step, self.of_halo, last=False)
        returning = self.halo.begin_back(self.of_halo)
        self.own.back(g, step, out, last=False)
        returning.add_to(out)


def _activity(history: PastActivity, first: int, last: int) -> Tensor:
    """Activity at steps first to last of own units, shape (own units, steps, batch)."""
    if first == last:
        return history.at(first)[:, None]
    return torch.stack([history.at(step) for step in range(first, last + 1)], dim=1)
