"""Parameters that share their storage with runs of one flat parameter, for optimisers with groups."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


class ParameterViews:
    """Parameters that are views of runs of ``values``; their gradients are views of its gradient.

    An optimiser that updates a view in place updates the flat parameter. Setting a view's gradient to None
    clears that part of the flat gradient at the next backward; setting the flat one to None clears all. If
    the flat parameter gets other data, or is replaced (``load_state_dict(assign=True)``), the views follow;
    if a view gets other data, that part of the flat parameter takes its values.

    In a copy of a network and its optimiser together, the views are those of the copied optimiser.

    Parameters
    ----------
    values : nn.Parameter, shape (synapses,)
    runs : sequence of sequences of projections (or of anything that has a name)
        Each the projections of one view. The trainable ones are neighbours in ``values``, view after view.
    """

    def __init__(self, values: nn.Parameter, runs: Sequence[Sequence[Hashable]]) -> None:
        self.runs = tuple(tuple(run) for run in runs)
        self.rank = {name: k for k, run in enumerate(self.runs) for name in run}
        self.parameters = [nn.Parameter(values.detach()[:0]) for _ in self.runs]
        self.bounds: list[tuple[int, int]] = [(0, 0)] * len(self.runs)
        self._values: nn.Parameter | None = None
        self._address = 0  # of the flat data that the views share
        self._handles: list[RemovableHandle] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_handles": [], "_address": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._values is not None:
            self._share(self._values)

    def are_neighbours(self, trainable: Sequence[Hashable]) -> bool:
        """Return True if the projections of each view follow one another, view after view, in this order."""
        ranks = [self.rank.get(name, 0) for name in trainable]
        return ranks == sorted(ranks)

    def remove(self) -> None:
        """Stop following the flat gradient."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def bind(self, values: nn.Parameter, lengths: Mapping[Any, int]) -> None:
        """Let the parameters view ``values``; ``lengths`` has the synapses of each trainable projection."""
        if values is not self._values:
            self.remove()
            self._values = values
        start = 0
        for k, run in enumerate(self.runs):
            stop = start + sum(lengths.get(name, 0) for name in run)
            self.bounds[k] = (start, stop)
            start = stop
        self._share(values)

    def follow(self, values: nn.Parameter) -> None:
        """Before the parameter is used: let views and parameter share their data again if one got other."""
        if values is not self._values:
            return
        if values.data_ptr() != self._address or (values.requires_grad and not self._handles):
            self._share(values)
            return
        size = values.element_size()
        for view, (start, stop) in zip(self.parameters, self.bounds, strict=True):
            if stop > start and view.data_ptr() != self._address + size * start:
                with torch.no_grad():
                    part = values.detach()[start:stop]
                    part.copy_(view)
                    view.data = part

    def _share(self, values: nn.Parameter) -> None:
        flat = values.detach()
        self._address = flat.data_ptr()
        for view, (start, stop) in zip(self.parameters, self.bounds, strict=True):
            had_gradient = view.grad is not None
            view.grad = None  # torch refuses other data beside a gradient of the old shape
            view.data = flat[start:stop]
            if had_gradient and values.grad is not None:
                view.grad = values.grad[start:stop]
        if values.requires_grad and not self._handles:  # torch takes no hooks on what has no gradient
            self._handles = [
                values.register_hook(lambda _: self._drop_stale(values)),  # type: ignore[no-untyped-call]
                values.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    lambda _: self._bind_gradients(values)
                ),
            ]

    def _drop_stale(self, values: nn.Parameter) -> None:
        """Before a gradient is added: what the optimiser has set to None must not be added to."""
        self.follow(values)  # its data may have changed since the forward pass
        if values.grad is None:
            return
        if all(view.grad is None for view in self.parameters):
            values.grad = None
            return
        for view, (start, stop) in zip(self.parameters, self.bounds, strict=True):
            if view.grad is None:
                values.grad[start:stop].zero_()

    def _bind_gradients(self, values: nn.Parameter) -> None:
        gradient = values.grad
        for view, (start, stop) in zip(self.parameters, self.bounds, strict=True):
            with torch.no_grad():
                view.grad = None if gradient is None else gradient[start:stop]
