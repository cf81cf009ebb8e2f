"""The Elman model, the leaky step with alpha = 1, and ElmanmRNN, the multi-regional network of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_mrnn.declaration.config import NetworkConfig
from sparse_mrnn.declaration.graph import Region, RegionGraph
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.models.leaky import LeakyStep
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.network_state import NetworkState
from sparse_mrnn.models.prepare import Start
from sparse_mrnn.ops.activations import linear
from sparse_mrnn.ops.step import Parameters, States

__all__ = ["ElmanStep", "ElmanmRNN", "linear"]


class ElmanStep(LeakyStep):
    """The leaky step with alpha = 1, as every Elman network has it: nothing of x is left after a step.

        x[t+1] = current[t] + b,    h[t+1] = f(x[t+1])

    State, adjoint and compiled passes are those of `LeakyStep`. The activity alone decides what follows, so h
    is the state that an initial condition, an analysis or a next window of time goes on from.
    """

    coordinate = "h"

    def step(self, states: States, current: Tensor, parameters: Parameters) -> States:
        return (self.target(current, parameters),)  # x + (current + b - x), without its rounding


class ElmanmRNN(mRNNBase):
    """Elman multi-regional RNN: a state h only, and alpha = 1 wherever the leaky net has dt / tau.

        h[t+1] = f(W_rec h[t] + W_inp u[t] + b + noise + stim[t])

    Parameters as `mRNN`, without ``tau`` and ``integrator``; ``dt`` (keyword only, default 1) is the length
    of a step in ms, for the times of delays, stimuli and recordings.

    Examples
    --------
    >>> import torch
    >>> net = ElmanmRNN({"recurrent_regions": [{"name": "a", "num_units": 3}]}, device="cpu")
    >>> net(torch.zeros(2, 4, 0), net.batched_initial_condition(2)).shape
    torch.Size([2, 4, 3])
    """

    model = "elman"

    def __init__(
        self,
        config: str | os.PathLike[str] | dict[str, Any] | NetworkConfig | RegionGraph | None = None,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        noise_level_act: float = 0.01,
        noise_level_inp: float = 0.01,
        rec_constrained: bool = True,
        inp_constrained: bool = True,
        batch_first: bool = True,
        spectral_radius: float | Mapping[str, float] | None = None,
        config_finalize: bool = True,
        device: str | torch.device | None = None,
        *,
        dt: float = 1.0,
        backend: str = "auto",
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dt = dt
        args = config, activation, noise_level_act, noise_level_inp, rec_constrained, inp_constrained
        more = batch_first, spectral_radius, config_finalize, device
        super().__init__(*args, *more, backend=backend, seed=seed, dtype=dtype)

    def _region_alpha(self, region: Region) -> float | np.ndarray[Any, Any]:
        if region.learnable_tau:
            problem = "learnable_tau, but an Elman network has no time constants; use mRNN"
            raise ConfigError(f"region {region.name!r}: {problem}.")
        return super()._region_alpha(region)

    @property
    def equation(self) -> ElmanStep:
        """The equation of a time step."""
        return ElmanStep(self.activation_segments, self._fixed_rate())

    def step_parameters(self) -> dict[str, Tensor]:
        """alpha, which is 1, and, unless it is 0 everywhere, the tonic input, as `LeakyStep` takes them."""
        return {"alpha": self.unit_alpha(), **super().step_parameters()}

    def forward(
        self,
        inp: Tensor,
        h0: Start = None,
        stim_input: Tensor | None = None,
        noise: bool = False,
        W_rec: Tensor | None = None,  # noqa: N803
        *,
        checkpoint_steps: int | str | None = None,
        regions: str | Sequence[str] | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, NetworkState]:
        """Run the dynamics over a sequence.

        Parameters
        ----------
        inp, stim_input, noise, W_rec, checkpoint_steps, regions, return_state
            As `mRNN.forward`.
        h0 : Tensor, shape (batch, units), or the pair of ``batched_initial_condition``, or a state, optional
            Initial activation. Default: that of the initial condition.

        Returns
        -------
        h : Tensor, laid out like ``inp`` with the units last
            Activity after each step.
        state : NetworkState
            With ``return_state``, as of `mRNN.forward`.
        """
        given = inp, h0, None, stim_input, noise, W_rec, checkpoint_steps, regions, return_state
        found: Tensor | tuple[Tensor, NetworkState] = self._run(*given)
        return found
