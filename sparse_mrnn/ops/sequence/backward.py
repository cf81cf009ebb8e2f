"""Backpropagation through time (Werbos 1990): a transposed product and the step's adjoint, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.delays import ActivityHistory
from sparse_mrnn.ops.sequence.forward import Products, RecurrenceSpec, RecurrenceTensors
from sparse_mrnn.ops.step import Columns, SavedStep, States

APART_STATES = 2**16
"""States from which on the columns of an SDDMM are put by a kernel of their own."""
GRAD_COLUMNS, GRAD_BYTES = (32, 256), 2**20
"""Time x batch columns gathered before an SDDMM: least, and most within so many bytes; measured."""
TORCH_COLUMNS = 128
"""The least for torch's SDDMM, for which more is better."""


def gathered_steps(steps: int, batch: int, units: int, size: int) -> int:
    """Time steps gathered before each SDDMM, of so many units and trials, of ``size`` bytes each.

    All SDDMMs of a sequence have as many, or the last one a few less, so that none is small.

    Examples
    --------
    >>> gathered_steps(40, 4, 50_000, 4)
    8
    """
    times = -(-steps // max(1, gathered_columns(units, size) // batch))
    return -(-steps // times)


def gathered_columns(units: int, size: int) -> int:
    """Time x batch columns of an SDDMM of so many units, of ``size`` bytes each."""
    least, most = GRAD_COLUMNS
    if kernels.load("sddmm") is None:
        least = max(least, TORCH_COLUMNS)
    return max(least, min(most, GRAD_BYTES // (units * size)))


class BackwardLoop:
    """Backpropagation through time, segment by segment from the last.

    ``needed`` says which tensors need a gradient, in the order of `RecurrenceTensors.flat`, and ``learnt``
    which parameters do. ``grads`` are the gradients of all states and of the activity that were returned, of
    shape (steps, returned units, batch); steps are those of the whole sequence.
    """

    def __init__(
        self,
        spec: RecurrenceSpec,
        tensors: RecurrenceTensors,
        needed: Sequence[bool],
        learnt: frozenset[str],
        products: Products,
        grads: Sequence[Tensor | None],
        steps: int,
    ) -> None:
        self.spec, self.products, self.recurrent, self.grads = spec, products, products.recurrent, grads
        like, inputs, count = tensors.h0, tensors.inputs, len(spec.step.states)
        units, batch = like.shape
        self.needs_weights, input_weights, needs_inputs, needs_stim, *of_start = needed[:6]
        self.needs_h0, self.needs_before = of_start
        self.needs_states = needed[6 : 6 + count]
        self.needs_input_weights = input_weights and products.inputs is not None
        self.adjoint = spec.step.adjoint(tensors.parameters, learnt, like)
        self.names = tuple(tensors.parameters)
        self.ring = self.recurrent.gradients(like, tensors.before)
        self.grad_u = like.new_zeros(inputs.shape) if needs_inputs else None
        self.grad_stim = like.new_empty(steps, units, batch) if needs_stim else None
        # Time x batch columns gathered for the next SDDMM: scaled, the activity each delay reads, inputs.
        self.width = gathered_steps(steps, batch, spec.largest or units, like.element_size())
        gathering = self.width if (self.needs_weights or self.needs_input_weights) and self.width > 1 else 0
        self.gathered = like.new_empty(units, gathering, batch)
        read = gathering if self.needs_weights else 0
        self.activity = [like.new_empty(n, read, batch) for n in self.recurrent.source_sizes]
        self.gathered_u = like.new_empty(
            inputs.shape[1], gathering if self.needs_input_weights else 0, batch
        )
        self.filled = 0  # steps gathered
        on_cpu = like.device.type == "cpu"
        # Columns of many states are put by a kernel of their own, which is faster; of few, within the step.
        self.gather = kernels.load("sddmm") if on_cpu and like.numel() >= APART_STATES else None
        apart = self.gather is not None
        none = like.new_empty(units, 0, batch)
        within = none if apart or len(self.activity) != 1 else self.activity[0]
        self.columns = Columns(none if apart else self.gathered, within)
        # Gradients of the current, of the steps that are not yet put
        together = 1 if self.gather is None else self.gather.TOGETHER
        self.scaled = [torch.empty_like(like) for _ in range(together)]
        self.waiting: list[list[Tensor]] = []  # by step: scaled, and the activity each delay reads

    def run(
        self,
        begin: int,
        history: ActivityHistory,
        states: Sequence[Tensor | None],
        kept: Tensor | None,
        inputs: Tensor,
        start: States,
    ) -> None:
        """Go back over the steps of a segment, which began at step ``begin`` in the states ``start``.

        Sequences have shape (time, units, batch). The states that `Step.keeps` names are given; what it names
        besides is ``kept``.
        """
        adjoint, recurrent, steps = self.adjoint, self.recurrent, len(history.states)
        part = slice(begin, begin + steps)
        *given, given_h = (None if g is None else g[part].unbind(0) for g in self.grads)
        us, columns = inputs.unbind(0), self.columns
        read = ((None,) * steps if s is None else s[:steps].unbind(0) for s in states)
        after = list(zip(*read, strict=True))
        keep = None if kept is None else kept.unbind(0)
        for t in reversed(range(steps)):
            within = None
            if given_h is not None and self.spec.units is None:
                within = given_h[t]
            elif given_h is not None:
                self._add(adjoint.grad_h, given_h[t])
            for total, of_state in zip(adjoint.grad_states, given, strict=True):
                if of_state is not None:
                    self._add(total, of_state[t])
            scaled = self.scaled[len(self.waiting)]
            sources = recurrent.sources(history, t) if self.needs_weights else [adjoint.grad_h]
            columns.source, columns.filled = sources[0], self.filled
            before, kept_here = after[t - 1] if t else start, None if keep is None else keep[t]
            saved = SavedStep(before, after[t], history.states[t], kept_here)
            adjoint.back(saved, within, scaled, columns)
            adjoint.exchange(saved, scaled)
            if self.grad_stim is not None:
                self.grad_stim[begin + t] = scaled
            if self.grad_u is not None and self.products.inputs is not None:
                self.products.inputs.rmatmul(scaled, out=self.grad_u[begin + t])
            if self.needs_weights or self.needs_input_weights:
                self._gather(scaled, sources, us[t])
            last = not (begin or t or self.needs_h0 or self.needs_before)
            self.ring.back(scaled, begin + t, adjoint.grad_h, last=last)
        self._put()  # the states of a segment are overwritten by those of the one before

    def _add(self, total: Tensor, grad: Tensor) -> None:
        units = self.spec.units
        if units is None:
            total += grad
        else:
            total.index_add_(0, units, grad)

    def _gather(self, scaled: Tensor, sources: list[Tensor], u: Tensor) -> None:
        """Add the rest of a step to the columns of the next SDDMM."""
        if self.width == 1:
            self._sddmm(scaled, u, [h.contiguous() for h in sources])
            return
        if self.gather is not None:
            self.waiting.append([scaled, *(sources if self.needs_weights else ())])
        elif self.needs_weights and len(sources) > 1:
            for states, columns in zip(sources, self.activity, strict=True):
                columns[:, self.filled] = states
        if self.needs_input_weights:
            self.gathered_u[:, self.filled] = u
        self.filled += 1
        if len(self.waiting) == len(self.scaled):
            self._put()
        if self.filled == self.width:
            self._flush()

    def _put(self) -> None:
        """Put the waiting steps among the columns."""
        if self.gather is not None and self.waiting:
            first = self.filled - len(self.waiting)
            read = self.activity if self.needs_weights else []
            for columns, *steps in zip([self.gathered, *read], *self.waiting, strict=True):
                self.gather.put(steps, columns, first)
            self.waiting.clear()

    def _flush(self) -> None:
        self._put()
        if self.filled:
            # the same width every time keeps the rows contiguous; a last, shorter one is copied
            buffers = self.gathered, self.gathered_u, *self.activity
            n = self.filled
            columns = (b[:, :n].reshape(len(b), b.shape[2] * min(n, b.shape[1])) for b in buffers)
            g, u, *hs = columns
            self._sddmm(g, u, hs)
            self.filled = 0

    def _sddmm(self, g: Tensor, u: Tensor, hs: list[Tensor]) -> None:
        for part, h in enumerate(hs if self.needs_weights else ()):
            self.recurrent.parts[part][1].sddmm(g, h)
        if self.needs_input_weights and self.products.inputs is not None:
            self.products.inputs.sddmm(g, u)

    def result(self) -> list[Tensor | None]:
        """Gradients in the order of `RecurrenceTensors.flat`."""
        self._flush()
        adjoint, inputs = self.adjoint, self.products.inputs
        of_parameters = adjoint.gradients()
        of_states = zip(adjoint.grad_states, self.needs_states, strict=True)
        return [
            self.recurrent.grad() if self.needs_weights else None,
            inputs.grad() if self.needs_input_weights and inputs is not None else None,
            self.grad_u,
            self.grad_stim,
            adjoint.grad_h if self.needs_h0 else None,
            self.ring.before if self.needs_before else None,
            *(grad if needed else None for grad, needed in of_states),
            *(of_parameters.get(name) for name in self.names),
        ]
