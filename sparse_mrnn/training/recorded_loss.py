"""RecordedLoss: the squared error of a network's activity at what was measured, through a calcium kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_mrnn.checks import real_number
from sparse_mrnn.errors import ShapeError, TrainingError, UnknownNameError, suggest
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.training.recorded import Recorded

FILTER_STEPS = 128
"""Time steps that one matrix product filters by the calcium kernel."""


class RecordedLoss(nn.Module):
    """Mean squared error of a network's activity at what was measured: a module, called with ``net(...)``.

        loss = sum over measured values of w (value - prediction)^2 / sum of w

    with the weight w of the channel's region. The prediction is the state at the time of the sample, averaged
    over the units of the channel, filtered by the calcium kernel first if there is one:

        c[t] = d c[t-1] + (1 - d) h[t],    d = exp(-dt / decay),    c = h before the first step

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    recorded : Recorded
    weights : mapping, optional
        From names of regions, parents or channels to how much a squared error counts there. Default: 1.
    learn_calcium : bool
        Train the decay of the calcium kernel, a parameter of this module.

    Attributes
    ----------
    log_calcium : nn.Parameter or None
        Logarithm of the decay in ms.

    Raises
    ------
    UnknownNameError
        If a name does not exist in the network.
    TrainingError
        If channels, interval or weights do not fit.

    Examples
    --------
    >>> import numpy as np, torch, sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2); g.add_region("b", 1)
    >>> net = sm.mRNN(g, device="cpu")
    >>> recorded = Recorded(np.ones((1, 2, 2)), ["a", "b[0]"], interval=20.0)
    >>> loss = RecordedLoss(net, recorded, {"b": 3.0})
    >>> h = torch.tensor([[0, 0, 1.0], [0, 2.0, 1.0], [9.0, 9.0, 9.0], [0.0, 0.0, 1.0]])
    >>> loss(h[None])
    tensor(0.1250)
    """

    target: Tensor
    weight: Tensor
    unit: Tensor
    channel: Tensor

    def __init__(
        self,
        net: mRNNBase,
        recorded: Recorded,
        weights: Mapping[str, float] | None = None,
        *,
        learn_calcium: bool = True,
    ) -> None:
        super().__init__()
        if recorded.variable == "x" and net.equation.coordinate == "h":
            raise TrainingError("Recorded: x was measured, and an Elman network has no x; it has h.")
        self.variable, self.batch_first, self.units = recorded.variable, net.batch_first, net.layout().n
        self.dt, self.steps = net.dt, torch.from_numpy(recorded.sample_steps(net.dt))
        units, channel = (torch.from_numpy(part).to(net.device) for part in recorded.channel_units(net))
        self.n_channels = len(recorded.channels)
        self.register_buffer("unit", units, persistent=False)
        self.register_buffer("channel", channel, persistent=False)
        by_channel = _channel_weights(net, recorded, weights or {})
        values = torch.from_numpy(recorded.values).to(net.device, net.dtype)
        missing = torch.isnan(values)
        weight = torch.from_numpy(by_channel).to(values).expand_as(values).masked_fill(missing, 0)
        if not bool(weight.sum() > 0):
            raise TrainingError("Recorded: every measured value has the weight 0; nothing is left to fit.")
        self.register_buffer("target", values.masked_fill(missing, 0), persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        self.log_calcium: nn.Parameter | None = None
        if recorded.calcium is not None:
            decay = torch.tensor(math.log(recorded.calcium), dtype=net.dtype, device=net.device)
            self.log_calcium = nn.Parameter(decay, requires_grad=learn_calcium)

    @property
    def calcium(self) -> float | None:
        """Decay of the calcium kernel as it is now, ms."""
        return None if self.log_calcium is None else math.exp(self.log_calcium.item())

    def predicted(self, states: Any) -> Tensor:
        """Predict the measured values.

        Parameters
        ----------
        states : Tensor, laid out as ``forward`` returns them, or its (x, h)
            As many trials as there are, with all units.

        Returns
        -------
        Tensor, shape (trials, samples, channels), differentiable

        Raises
        ------
        ShapeError
            If the states have another shape, or fewer time steps than were recorded.
        """
        if isinstance(states, tuple):
            states = states[0 if self.variable == "x" else -1]
        if states.dim() != 3 or states.shape[-1] != self.units:
            got, expected = tuple(states.shape), f"three dimensions, {self.units} units last"
            raise ShapeError(f"Recorded: the states have shape {got}; expected {expected}.")
        states = states if self.batch_first else states.transpose(0, 1)
        last = int(self.steps[-1]) + 1
        if states.shape[1] < last:
            what = f"the last sample is at {last * self.dt:g} ms, {last} time steps"
            raise ShapeError(f"Recorded: {what}, and the states have {states.shape[1]}; give longer inputs.")
        states = states[:, :last]
        steps = self.steps.to(states.device)
        if self.log_calcium is None:
            return self._channels(states[:, steps])
        decay = torch.exp(-self.dt * torch.exp(-self.log_calcium))
        return exponential_filter(self._channels(states), decay)[:, steps]

    def _channels(self, states: Tensor) -> Tensor:
        """Average states, shape (trials, time, units), over the units of each channel."""
        measured = states.index_select(-1, self.unit)
        if len(self.unit) == self.n_channels:
            return measured
        sums = measured.new_zeros(*measured.shape[:-1], self.n_channels).index_add(-1, self.channel, measured)
        return sums / torch.bincount(self.channel, minlength=self.n_channels)

    def forward(self, states: Any, trials: Any = None) -> Tensor:
        """Compute the loss of states, of all trials or of those with the numbers ``trials``.

        Parameters
        ----------
        states : Tensor, or (x, h)
            See `predicted`.
        trials : sequence of int, optional
            Which trials the states are of, in their order.

        Returns
        -------
        Tensor, a scalar, differentiable in the states and the calcium decay

        Raises
        ------
        ShapeError
            If the states have another shape, or are of another number of trials.
        """
        found = self.predicted(states)
        target, weight = self.target, self.weight
        if trials is not None:
            numbers = torch.as_tensor(trials, device=target.device)
            target, weight = target[numbers], weight[numbers]
        if len(found) != len(target):
            raise ShapeError(f"Recorded: the states are of {len(found)} trials, expected {len(target)}.")
        # A trial may have no value among channels that count: its loss is 0.
        return (weight * (found - target).square()).sum() / weight.sum().clamp(min=1e-30)


def exponential_filter(signal: Tensor, decay: Tensor) -> Tensor:
    """Filter over time: c[t] = d c[t-1] + (1 - d) s[t], with c = s[0] before the first step. Differentiable.

    Parameters
    ----------
    signal : Tensor, shape (trials, time, channels)
    decay : Tensor, a scalar
        d, between 0 and 1.

    Examples
    --------
    >>> exponential_filter(torch.tensor([[[0.0], [1.0], [1.0]]]), torch.tensor(0.5)).flatten()
    tensor([0.0000, 0.5000, 0.7500])
    """
    steps = torch.arange(min(FILTER_STEPS, signal.shape[1]), device=signal.device)
    lag = steps[:, None] - steps
    # One product for many steps, instead of a small operation, and a node of the graph, for each
    kernel = torch.where(lag >= 0, (1 - decay) * decay ** lag.clamp(min=0), 0)
    carried = decay ** (steps[:, None] + 1)
    before, found = signal[:, :1], []
    for block in torch.split(signal, len(steps), dim=1):
        n = block.shape[1]
        found.append(kernel[:n, :n] @ block + carried[:n] * before)
        before = found[-1][:, -1:]
    return torch.cat(found, dim=1)


def _channel_weights(net: mRNNBase, recorded: Recorded, given: Mapping[str, float]) -> NDArray[np.float64]:
    """Weight of each channel; a name of a channel goes before that of a region, a region before a parent."""
    units, channel = recorded.channel_units(net)
    first = units[np.unique(channel, return_index=True)[1]]
    layout, found = net.layout(), np.ones(len(recorded.channels))
    numbers = {}
    for name, weight in given.items():
        numbers[name] = real_number(weight, f"loss: the weight of {name!r}", TrainingError)
        if numbers[name] < 0:
            raise TrainingError(f"loss: the weight of {name!r} is {weight!r}; it must not be negative.")
        if name not in layout.groups and name not in recorded.channels:
            hint = suggest(name, [*layout.groups, *recorded.channels], what="names")
            raise UnknownNameError(f"loss: no region and no channel is called {name!r}. {hint}")
    wide = sorted((n for n in numbers if n in layout.groups), key=lambda n: -len(layout.groups[n]))
    for name in wide:
        found[np.isin(first, layout.indices(name))] = numbers[name]
    for k, name in enumerate(recorded.channels):
        found[k] = numbers.get(name, found[k])
    return found
