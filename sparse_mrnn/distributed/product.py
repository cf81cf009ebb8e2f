"""The recurrent product of a rank: its synapses from own units, and those from the halo that it receives.

Where every synapse between ranks has a delay of D steps or more, activity is needed by others D steps later
at the earliest, and so is its gradient back: a message every D steps has the activity of D steps (the
minimum-delay interval of Morrison et al. 2005, doi 10.1162/0899766054026648).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_mrnn.distributed.halo import Halo
from sparse_mrnn.distributed.ranks import Exchange
from sparse_mrnn.ops.delays import DelayedProduct, DelayGroup, GradientRing, PastActivity

FETCH_BYTES = 2**26
"""Bytes of the halo's activity that the backward pass asks for at once."""


@dataclass(frozen=True, eq=False)
class HaloSynapses:
    """The synapses of a rank from units of others.

    An exchange has the activity of ``every`` steps: as many as the shortest delay of a synapse from another
    rank's unit, on any rank.
    """

    halo: Halo
    groups: Sequence[DelayGroup]  # over the halo's units
    stored: int  # stored values of the synapses from own units, which come first among all
    longest: int  # delay of any synapse from another rank's unit, on any rank
    largest: int  # halo of all ranks, in units
    every: int


class HaloActivity:
    """Activity of the halo at the latest steps, from the ``first`` on.

    It is a ring, shape (steps, halo units, batch): that of step s is at (s - first) modulo its length.
    """

    def __init__(self, first: int, activity: Tensor) -> None:
        self.first, self.activity = first, activity

    def at(self, step: int) -> Tensor:
        """Activity at a step, shape (halo units, batch)."""
        return self.activity[(step - self.first) % len(self.activity)]

    def put(self, first: int, activity: Tensor) -> None:
        """Replace the oldest by that of the steps from ``first`` on."""
        for step, at_step in enumerate(activity.unbind(0), first):
            self.at(step).copy_(at_step)


class ShardedProduct(DelayedProduct):
    """The products of all delays, from own units and from the halo's; a message to each rank every few steps.

    The ``groups`` are over own units; ``weights`` are stored values from own units, then from the halo's.
    """

    def __init__(self, groups: Sequence[DelayGroup], others: HaloSynapses, weights: Tensor) -> None:
        self.others, self.halo = others, others.halo
        self.own = DelayedProduct(groups, weights[: others.stored])
        self.cut = DelayedProduct(others.groups, weights[others.stored :])
        self.parts = self.own.parts + self.cut.parts
        self.longest = max(self.own.longest, others.longest)
        self.source_sizes = self.own.source_sizes + self.cut.source_sizes
        self._received: HaloActivity  # from the first step of a segment on
        self._fetched: tuple[PastActivity, HaloActivity, int] | None = None

    def addmm(self, y: Tensor, history: PastActivity, step: int, *, beta: float, alpha: float) -> None:
        arriving = None
        first = step + 1 - (self.others.every if step else self.others.longest)  # at the start, all needed
        if step % self.others.every == 0:
            arriving = self.halo.begin([history.at(s) for s in range(first, step + 1)])
        self.own.addmm(y, history, step, beta=beta, alpha=alpha)
        if arriving is not None and step == 0:
            self._received = HaloActivity(first, arriving.wait())
        elif arriving is not None:
            self._received.put(first, arriving.wait())
        self.cut.addmm(y, self._received, step, beta=1.0, alpha=alpha)

    def sources(self, history: PastActivity, step: int) -> list[Tensor]:
        """The activity each delay transmits in a step; the halo's is asked for again, many steps at once.

        The steps of a history are asked for from its last to its first.
        """
        if self._fetched is None or self._fetched[0] is not history or step < self._fetched[2]:
            like = history.at(step)
            step_bytes = max(1, self.others.largest) * like.shape[1] * like.element_size()
            begin = max(0, step + 1 - max(1, FETCH_BYTES // step_bytes))
            first, last = begin + 1 - self.others.longest, step + 1 - self.others.every
            self._fetched = None
            arrived = self.halo.begin([history.at(s) for s in range(first, last + 1)]).wait()
            self._fetched = history, HaloActivity(first, arrived), begin
        return self.own.sources(history, step) + self.cut.sources(self._fetched[1], step)

    def gradients(self, like: Tensor, before: Tensor | None = None) -> GradientRing:
        return ShardedGradients(self, like)

    def grad(self) -> Tensor:
        return torch.cat([self.own.grad(), self.cut.grad()])


class ShardedGradients(GradientRing):
    """Gradients on their way back to the activity of own units and, by messages, of the halo's.

    The messages are those of the forward pass, the other way. That of step k D has the gradients of the
    activity at steps (k - 1) D + 1 to k D, which no earlier step adds to; that of step 0 those of the initial
    activity. After the last message of the forward pass, activity reaches no other rank.
    """

    def __init__(self, product: ShardedProduct, like: Tensor) -> None:
        self.halo, self.every = product.halo, product.others.every
        self.own = GradientRing(product.own, like)
        self.of_halo = like.new_zeros(self.every, product.halo.n, like.shape[1])
        self.cut = GradientRing(product.cut, self.of_halo[0])
        self._first = 0
        self._returned: tuple[Tensor, ...] = ()  # gradients of the own units sent, from step _first on

    def back(self, g: Tensor, step: int, out: Tensor, *, last: bool) -> None:
        if last:
            return
        returning = self._send(g, step)
        self.own.back(g, step, out, last=False)
        if returning is not None:
            self._returned = returning.wait().unbind(1)
        if self._returned:
            out.index_add_(0, self.halo.send, self._returned[step - self._first])

    def _send(self, g: Tensor, step: int) -> Exchange | None:
        """Send W^T g from a step to the halo's activity; every so many steps, the message to its owners."""
        if self.every == 1:
            self._first = step
            self.cut.back(g, step, self.of_halo[0], last=False)
            return self.halo.begin_back(self.of_halo)
        self.cut.send(g, step)
        if step % self.every:
            return None
        self._first = max(step + 1 - self.every, 0)
        steps = range(self._first, step + 1)
        for k, past in enumerate(steps):
            self.cut.take(past, self.of_halo[k])
        return self.halo.begin_back(self.of_halo[: len(steps)])
