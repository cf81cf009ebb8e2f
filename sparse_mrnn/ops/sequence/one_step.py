"""One time step a call, with gradients: for closed loops, where the next input depends on the activity.

`OneStep` has all that does not change between calls: products with their values, and the parameters of the
model's step. Each step is an autograd node (`Stepped`). In a backward pass, gradients of the currents wait in
a `BackwardTask`, so that one SDDMM serves many steps; the node of the `Leaves`, which all steps lead to and
autograd therefore runs last, turns them into gradients of the parameters. It has nothing that a backward pass
frees: each loss may run it again.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.ops.delays import DelayedProduct, DelayGroup
from sparse_mrnn.ops.noise import Noise
from sparse_mrnn.ops.products import Product
from sparse_mrnn.ops.sequence.backward import gathered_columns
from sparse_mrnn.ops.step import (
    EVERY_UNIT,
    Adjoint,
    Advance,
    Columns,
    Currents,
    Drive,
    SavedStep,
    States,
    Step,
    with_exchange,
)
from sparse_mrnn.ops.torch_modes import refuse_transforms

MOST_TASKS, MOST_SIZES = 64, 16
"""Backward passes that may be under way at once, and numbers of trials whose buffers are kept."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """A weight matrix: its synapses by delay, and the stored values of all, differentiable."""

    groups: Sequence[DelayGroup]
    weights: Tensor

    def product(self) -> DelayedProduct:
        """A product with these values, and a gradient of its own."""
        return DelayedProduct(self.groups, self.weights)


class OneStep:
    """A network ready to step: its equation, products, and the parameters of its step.

    ``recurrent`` and ``inputs`` (None without any) have graphs that lead to ``aliases``, tensors in place of
    the network's parameters; so may ``parameters``. Gradients of the ``aliases`` are those of the parameters,
    the first of the ``leaves``; the others are leaves that the parameters of the step have by themselves.
    """

    def __init__(
        self,
        equation: Step,
        parameters: dict[str, Tensor],
        recurrent: Matrix,
        inputs: Matrix | None,
        aliases: Sequence[Tensor],
        leaves: Sequence[Tensor],
    ) -> None:
        self.equation, self.recurrent, self.inputs = equation, recurrent, inputs
        self.derived = parameters
        self.aliases, self.leaves = tuple(aliases), tuple(leaves)
        self.needed = frozenset(name for name, p in parameters.items() if p.requires_grad)
        self.parameters = {n: p if n in equation.learnt else p.detach() for n, p in parameters.items()}
        self.electrical = equation.exchange(self.parameters)
        self.keeps = equation.keeps(self.needed)
        self.keeps_more = bool(set(self.keeps) - set(equation.states))
        self.tasks: dict[int, BackwardTask] = {}
        self._local = threading.local()

    def scratch(self) -> Scratch:
        """The buffers of this thread."""
        try:
            found: Scratch = self._local.scratch
        except AttributeError:
            found = self._local.scratch = Scratch(self.recurrent, self.inputs)
        return found

    def run(
        self,
        states: States,
        sources: Sequence[Tensor],
        stim: Tensor | None,
        noise: Noise | None,
        kept: Tensor | None,
    ) -> tuple[States, Tensor]:
        """Return the states one step later and their activity, without gradients.

        All states are contiguous. ``sources`` are what each delay of the recurrent synapses transmits, and
        then each of the input synapses.
        """
        like, scratch = states[0], self.scratch()
        key = like.shape[1], noise is not None
        advance = scratch.advances.get(key)
        if advance is None:
            if len(scratch.advances) == MOST_SIZES:
                scratch.advances.clear()
            unit_std = None if noise is None else noise.unit_std
            advance = scratch.advances[key] = self.equation.sequence(self.parameters, unit_std, like)
        scratch.sources, scratch.noise = sources, noise
        after = tuple(torch.empty_like(state) for state in states)
        h = torch.empty_like(like)
        direct: Currents = () if stim is None else ((EVERY_UNIT, stim),)
        currents = with_exchange(self.electrical, states, direct)
        advance.advance(states, after, h, scratch, currents, kept)
        scratch.sources = ()  # they may have a graph, which leads back here
        return after, h

    def node(self) -> Tensor | None:
        """Make the node that steps with gradients are above; None if nothing is learnt."""
        if not self.leaves:
            return None
        found: Tensor = Leaves.apply(self, *self.leaves)  # type: ignore[no-untyped-call]
        return found

    def task(self) -> BackwardTask:
        """The backward pass under way."""
        number = torch._C._current_graph_task_id()
        found = self.tasks.get(number)
        if found is None:
            if len(self.tasks) == MOST_TASKS:  # left over from passes that an error has ended
                del self.tasks[min(self.tasks)]
            found = self.tasks[number] = BackwardTask(self)
        return found

    def gradients(self, task: BackwardTask) -> list[Tensor | None]:
        """The gradients of the leaves after a backward pass through some steps."""
        given, own = task.result(), self.leaves[len(self.aliases) :]
        pairs = [
            (tensor, grad)
            for tensor, grad in given
            if grad is not None and all(tensor is not leaf for leaf in own)
        ]
        found: list[Tensor | None] = [None] * len(self.aliases)
        if pairs:
            outputs, grads = zip(*pairs, strict=True)
            more = {"retain_graph": True, "allow_unused": True}
            found = list(torch.autograd.grad(outputs, self.aliases, grads, **more))
        by_tensor = {id(tensor): grad for tensor, grad in given}
        return [*found, *(by_tensor.get(id(leaf)) for leaf in own)]


class Scratch(Drive):
    """Products and buffers of the steps of one thread."""

    def __init__(self, recurrent: Matrix, inputs: Matrix | None) -> None:
        self.parts: list[Product] = [product for _, product in recurrent.product().parts]
        if inputs is not None:
            self.parts += [product for _, product in inputs.product().parts]
        self.advances: dict[tuple[int, bool], Advance] = {}
        self.sources: Sequence[Tensor] = ()
        self.noise: Noise | None = None

    def multiply(self, y: Tensor, beta: float, alpha: float) -> None:
        for product, source in zip(self.parts, self.sources, strict=True):
            product.addmm(y, source, beta=beta, alpha=alpha, out=y)
            beta = 1.0

    def draw(self) -> Tensor:
        if self.noise is None:
            raise ValueError("a step without noise draws nothing.")
        first = self.sources[0]
        return self.noise.on_units(torch.empty_like(first))


class BackwardTask:
    """The gradients of weights and parameters in a backward pass, to which each step adds."""

    def __init__(self, one: OneStep) -> None:
        self.one = one
        self.adjoints: dict[int, Adjoint] = {}  # by the number of trials
        self.recurrent = one.recurrent.product() if one.recurrent.weights.requires_grad else None
        has_inputs = one.inputs is not None and one.inputs.weights.requires_grad
        self.inputs = one.inputs.product() if has_inputs and one.inputs is not None else None
        self.waiting: list[tuple[Tensor, Sequence[Tensor]]] = []
        self.columns = 0

    def adjoint(self, like: Tensor) -> Adjoint:
        """The adjoint of steps of as many trials."""
        found = self.adjoints.get(like.shape[1])
        if found is None:
            one = self.one
            found = self.adjoints[like.shape[1]] = one.equation.adjoint(one.parameters, one.needed, like)
        return found

    def gather(self, scaled: Tensor, sources: Sequence[Tensor]) -> None:
        """Add a step: the gradient of its current, and what was multiplied."""
        self.waiting.append((scaled, sources))
        self.columns += scaled.shape[1]
        if self.columns >= gathered_columns(len(scaled), scaled.element_size()):
            self.flush()

    def flush(self) -> None:
        """Add the steps that wait to the gradients of the weights."""
        if not self.waiting:
            return
        scaled, sources = zip(*self.waiting, strict=True)
        g, parts = torch.cat(scaled, 1), zip(*sources, strict=True)
        for product in (self.recurrent, self.inputs):
            matrix = self.one.recurrent if product is self.recurrent else self.one.inputs
            for k in range(0 if matrix is None else len(matrix.groups)):
                read = next(parts)
                if product is not None:
                    product.parts[k][1].sddmm(g, torch.cat(read, 1))
        self.waiting.clear()
        self.columns = 0

    def result(self) -> list[tuple[Tensor, Tensor | None]]:
        """Pairs of what is differentiable (weights, parameters of the step) and its gradient."""
        self.flush()
        one = self.one
        found: list[tuple[Tensor, Tensor | None]] = []
        if self.recurrent is not None:
            found.append((one.recurrent.weights, self.recurrent.grad()))
        if self.inputs is not None and one.inputs is not None:
            found.append((one.inputs.weights, self.inputs.grad()))
        each = [adjoint.gradients() for adjoint in self.adjoints.values()]
        for name in one.needed:
            total = [grads[name] for grads in each if name in grads]
            found.append((one.derived[name], sum(total[1:], total[0]) if total else None))
        return found


class Leaves(torch.autograd.Function):
    """The node of all leaves: its backward pass comes after those of all steps above it."""

    @staticmethod
    def forward(ctx: Any, one: OneStep, *leaves: Tensor) -> Tensor:
        ctx.one = one
        ctx.set_materialize_grads(False)
        return leaves[0].new_empty(0)

    @staticmethod
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        one: OneStep = ctx.one
        task = one.tasks.pop(torch._C._current_graph_task_id(), None)
        grads = [None] * len(one.leaves) if task is None else one.gradients(task)
        return None, *grads


class Stepped(torch.autograd.Function):
    """A step with gradients; its tensors are the states, the sources of `OneStep.run`, and stim, if given."""

    @staticmethod
    def forward(
        ctx: Any, one: OneStep, noise: Noise | None, stimulated: bool, node: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        count = len(one.equation.states)
        states, sources = tensors[:count], tensors[count : len(tensors) - stimulated]
        like = states[0]
        kept = torch.empty_like(like) if one.keeps_more else None
        after, h = one.run(states, sources, tensors[-1] if stimulated else None, noise, kept)
        ctx.one, ctx.stimulated, ctx.has_node = one, stimulated, node is not None
        named = zip(one.equation.states, states, after, strict=True)
        of_states = [(b, a) if name in one.keeps else (None, None) for name, b, a in named]
        ctx.save_for_backward(h, kept, *sources, *(t for pair in of_states for t in pair))
        ctx.set_materialize_grads(False)
        return (*after, h)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_transforms(*grads)
        if torch.is_grad_enabled():  # create_graph=True: a second derivative would silently miss terms
            raise RuntimeError("the recurrence is differentiable once; leave out create_graph=True.")
        one: OneStep = ctx.one
        needed, count = ctx.needs_input_grad[4:], len(one.equation.states)
        if all(grad is None for grad in grads):
            return (None,) * (4 + len(needed))
        h, kept, *rest = ctx.saved_tensors
        sources, of_states = rest[: len(rest) - 2 * count], rest[len(rest) - 2 * count :]
        reaches_leaves = ctx.has_node and torch._C._will_engine_execute_node(ctx.next_functions[0][0])
        task = one.task() if reaches_leaves else None
        adjoint = one.equation.adjoint(one.parameters, one.needed, h) if task is None else task.adjoint(h)
        for total, grad in zip((*adjoint.grad_states, adjoint.grad_h), grads, strict=True):
            total.zero_() if grad is None else total.copy_(grad)
        scaled, none = torch.empty_like(h), h.new_empty(len(h), 0, h.shape[1])
        columns = Columns(none, none)
        columns.source = h
        saved = SavedStep(tuple(of_states[::2]), tuple(of_states[1::2]), h, kept)
        adjoint.back(saved, None, scaled, columns)
        adjoint.exchange(saved, scaled)
        if task is not None:
            task.gather(scaled, sources)
        states = [g.clone() if need else None for g, need in zip(adjoint.grad_states, needed, strict=False)]
        parts = one.scratch().parts
        through = [
            part.rmatmul(scaled) if need else None for part, need in zip(parts, needed[count:], strict=False)
        ]
        return None, None, None, None, *states, *through, *([scaled] if ctx.stimulated else [])
