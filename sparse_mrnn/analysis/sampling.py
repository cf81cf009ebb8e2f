"""States to start from and to draw: around the initial condition, along runs without noise, out of these."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.analysis.dynamics import Dynamics, as_tensor, constant_inputs, states
from sparse_mrnn.checks import Seed
from sparse_mrnn.errors import AnalysisError, ShapeError
from sparse_mrnn.models.delays import delayed_inputs, longest_delay
from sparse_mrnn.models.network import mRNNBase


def sample_states(
    trajectories: Any, n: int, *, noise: float = 0.0, seed: Seed = 0
) -> Tensor:
    """Draw ``n`` states from trajectories, as starts of a search.

    Parameters
    ----------
    trajectories : array, shape (..., units)
    n : int
    noise : float
        Standard deviation of Gaussian noise to add.
    seed : int, numpy SeedSequence or Generator

    Returns
    -------
    Tensor, shape (n, units)

    Examples
    --------
    >>> sample_states(torch.zeros(2, 10, 5), 3, noise=0.1).shape
    torch.Size([3, 5])
    """
    flat = as_tensor(trajectories)
    flat = flat.reshape(-1, flat.shape[-1])
    generator = np.random.default_rng(seed)
    drawn = flat[torch.from_numpy(generator.integers(0, len(flat), n)).to(flat.device)]
    return drawn + noise * torch.from_numpy(generator.standard_normal(tuple(drawn.shape))).to(drawn)


def start_states(
    net: mRNNBase, dynamics: Dynamics, x0: Any, count: int, seed: Seed, *, what: str
) -> Tensor:
    """States to start from, shape (units, columns): those given, or ``count`` around the initial condition.

    Each of these is at a distance of its own, of up to 3 per unit.
    """
    if x0 is not None:
        return states(net, x0, "x0", what=what)
    generator = np.random.default_rng(seed)
    distance = generator.uniform(0, 3, count)
    return initial_state(net, dynamics, distance * generator.standard_normal((dynamics.n, count)))


def initial_state(net: mRNNBase, dynamics: Dynamics, noise: Any = 0.0) -> Tensor:
    """The initial condition plus ``noise`` on x, shape (units, columns), as the state of the dynamics."""
    x = net.initial_condition.detach().double()[:, None]
    x = x + torch.as_tensor(noise, dtype=torch.float64).to(x.device)
    return dynamics.segments.apply(x) if dynamics.elman else x


@torch.no_grad()
def input_currents(net: mRNNBase, inputs: Tensor) -> Tensor:
    """Current that inputs bring to the units over time, after the delays of their projections.

    From shape (time, inputs, columns) to (time, units, columns), float64; before the start inputs are 0.
    """
    weights = net.weights("input")
    currents = inputs.new_zeros(len(inputs), weights.shape[0], inputs.shape[2])
    if not weights.is_empty:
        past, operand = delayed_inputs(weights, inputs, net.dt)
        product = operand.operator.bind(weights.stored_values(operand).double())
        for t, u in enumerate(past):
            product.addmm(currents[t], u.contiguous(), beta=0.0, alpha=1.0, out=currents[t])
    return currents


@torch.no_grad()
def run_states(
    net: mRNNBase, steps: int, inputs: Any = None, *, x0: Any = None, trials: int = 16, stim: Any = None,
    seed: Seed = 0,
) -> Tensor:
    """States of runs without noise under constant input, for `sample_states` and `flow_field`.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
        Without delays of more than a time step between units; inputs may have some, and are 0 before the
        start.
    steps : int
    inputs, stim
        See `find_fixed_points`; one column, or one for each trial.
    x0 : array, shape (trials, units) or (units,), optional
        x of an mRNN, h of an ElmanmRNN. Default: states around the initial condition, as there.
    trials : int
        Number of trials, if ``x0`` is not given.
    seed : int, numpy SeedSequence or Generator

    Returns
    -------
    Tensor, shape (trials, steps + 1, units)
        float64; the starts are the first states.

    Raises
    ------
    AnalysisError
        If units are connected with delays, or steps or trials are below 1.
    ShapeError
        If an argument does not fit the network, or the trials.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2, sign=None); g.add_projection("a", "a")
    >>> run_states(sm.mRNN(g, "tanh", device="cpu"), 10, trials=3).shape
    torch.Size([3, 11, 2])
    """
    what = "run_states"
    if steps < 1 or trials < 1:
        raise AnalysisError(f"{what}: steps is {steps} and trials {trials}; both must be at least 1.")
    dynamics, u = Dynamics.of(net, None, stim, what=what), constant_inputs(net, inputs, what=what)
    state = start_states(net, dynamics, x0, trials, seed, what=what)
    columns = max(dynamics.drive.shape[1], u.shape[1])
    if {dynamics.drive.shape[1], u.shape[1]} - {1, state.shape[1]}:
        raise ShapeError(f"{what}: {columns} inputs for {state.shape[1]} trials.")
    delay = longest_delay(net.weights("input"), net.dt)  # after it, the current is constant
    currents = input_currents(net, u.expand(delay, *u.shape))
    driven = [replace(dynamics, drive=dynamics.drive + current) for current in currents]
    kept = [state]
    for t in range(steps):
        state = driven[min(t, delay - 1)].step(state)
        kept.append(state)
    return torch.stack(kept, dim=1).permute(2, 1, 0)
