"""Truncated backpropagation through time: a long sequence in windows, each with a graph of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.errors import ShapeError, TrainingError
from sparse_mrnn.models.elman import ElmanmRNN
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.network_state import NetworkState
from sparse_mrnn.models.prepare import Start


def truncated(
    net: mRNNBase, inp: Tensor, x0: Start, window: int, *, h0: Tensor | None = None,
    stim_input: Tensor | None = None, noise: bool = False,
) -> Iterator[Any]:
    """Run a network window by window; the state goes on, the gradient does not.

    A window is run when it is asked for, so an optimiser's step after a window counts in the next one. While
    the weights stay as they are, the windows are the run in one piece, with delays too: what is under way at
    the end of a window arrives in the next ones. The gradient of a loss on a window reaches back to its
    beginning (Williams & Peng 1990, with k1 = k2 = window), and to x0 in the first one.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    inp : Tensor, shape (batch, time, inputs), or (time, batch, inputs) without batch_first
    x0 : Tensor, shape (batch, units), or the pair of ``batched_initial_condition``, or a state
        Initial x of a leaky net, initial h of an Elman net; or a `NetworkState` to go on from.
    window : int
        Time steps of a window; the last one has what is left.
    h0 : Tensor, shape (batch, units), optional
        Initial h of a leaky net.
    stim_input : Tensor, optional
        See ``forward``.
    noise : bool

    Yields
    ------
    (x, h) of a leaky net, h of an Elman net
        The value of ``forward`` for the window.

    Raises
    ------
    TrainingError
        If the window is shorter than one step, the network is divided among processes, or h0 is given beside
        a state.
    ShapeError
        See ``forward``; a wrong number of dimensions at once, the rest with the first window.

    Examples
    --------
    >>> import torch, sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 4); g.add_input("i", 1)
    >>> g.add_projection("a", "a"); g.add_projection("i", "a")
    >>> net = sm.mRNN(g, device="cpu", seed=0)
    >>> optimizer = torch.optim.Adam(net.parameters())
    >>> inp, target, x0 = torch.ones(2, 10, 1), torch.ones(2, 10, 4), net.initial_condition.expand(2, 4)
    >>> for (x, h), goal in zip(truncated(net, inp, x0, 4), target.split(4, dim=1)):
    ...     optimizer.zero_grad()
    ...     (h - goal).square().mean().backward()
    ...     optimizer.step()
    >>> h.shape
    torch.Size([2, 2, 4])
    """
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise TrainingError(f"truncated: window is {window!r}; it must be a whole number of time steps.")
    if not isinstance(net, mRNNBase):
        advice = "run the sequence in one piece, with checkpoint_steps='auto' to save memory"
        raise TrainingError(f"truncated: {type(net).__name__} gives no state to go on from; {advice}.")
    if inp.dim() != 3:
        got = tuple(inp.shape)
        raise ShapeError(f"truncated: inp has shape {got}; expected three dimensions, as for forward.")
    time = 1 if net.batch_first else 0
    inputs = torch.split(inp, window, time)
    stims = [None] * len(inputs) if stim_input is None else torch.split(stim_input, window, time)
    if h0 is not None and isinstance(x0, NetworkState):
        raise TrainingError("truncated: the state has an h of its own; leave h0 out.")
    start: Start = x0
    if h0 is not None and isinstance(x0, Tensor):
        start = h0 if isinstance(net, ElmanmRNN) else (x0, h0)

    def windows(start: Start) -> Iterator[Any]:
        for u, stim in zip(inputs, stims, strict=False):
            *out, state = net(u, start, stim_input=stim, noise=noise, return_state=True)
            yield tuple(out) if len(out) > 1 else out[0]
            start = state.detach()

    return windows(start)
