"""The gradient of a loss by absent synapses: that of every unit's summed input, times the activity."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparse_mrnn.errors import TrainingError
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.network import mRNNBase


class LossProbe:
    """dL/dW[i, j], for any pair of units: the sum over time and trials of current_gradient[i] * activity[j].

    A current added to the units enters the dynamics where the weights do, so the gradient of the loss with
    respect to ``stim_input`` is that of each unit's summed input.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    loss : callable
        Runs the network at least once and returns the loss.
    """

    def __init__(self, net: mRNNBase, loss: Callable[[], Tensor]) -> None:
        self.net = net
        self.stims: list[Tensor] = []
        self.activities: list[Tensor] = []
        self.inputs: list[Tensor] = []
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
        self.activity = self._columns(self.activities)
        self.input = self._columns(self.inputs)

    def _columns(self, states: list[Tensor]) -> Tensor:
        """(units, time x trials), both orders of batch alike as long as all come through here."""
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
        if isinstance(self.net, ElmanmRNN):
            start = arguments["h0"][1] if isinstance(arguments["h0"], tuple) else arguments["h0"]
        else:
            start = arguments.get("h0")
            if start is None:
                start = self.net.activation_segments.apply(arguments["x0"].t()).t()
        self.activities.append(start)
        return bound.args, bound.kwargs

    def _note_activity(self, net: nn.Module, args: Any, output: Any) -> None:
        h = (output[1] if isinstance(output, tuple) else output).detach()
        time = 1 if self.net.batch_first else 0
        start = self.activities[-1].detach().unsqueeze(time)
        self.activities[-1] = torch.cat([start, h.narrow(time, 0, h.shape[time] - 1)], dim=time)
