"""ElmanmRNN: the multi-regional network without a leak."""

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
from sparse_mrnn.models.network import mRNNBase, positive_time
from sparse_mrnn.ops.activations import linear

__all__ = ["ElmanmRNN", "linear"]


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
        self.dt = positive_time(dt, "dt")
        args = config, activation, noise_level_act, noise_level_inp, rec_constrained, inp_constrained
        more = batch_first, spectral_radius, config_finalize, device
        super().__init__(*args, *more, backend=backend, seed=seed, dtype=dtype)

    def _region_alpha(self, region: Region) -> float | np.ndarray[Any, Any]:
        if region.learnable_tau:
            problem = "learnable_tau, but an Elman network has no time constants; use mRNN"
            raise ConfigError(f"region {region.name!r}: {problem}.")
        return super()._region_alpha(region)

    def forward(
        self,
        inp: Tensor,
        h0: Tensor | tuple[Tensor, Tensor],
        stim_input: Tensor | None = None,
        noise: bool = False,
        W_rec: Tensor | None = None,  # noqa: N803
        *,
        checkpoint_steps: int | str | None = None,
        regions: str | Sequence[str] | None = None,
    ) -> Tensor:
        """Run the dynamics over a sequence.

        Parameters
        ----------
        inp, stim_input, noise, W_rec, checkpoint_steps, regions
            As `mRNN.forward`.
        h0 : Tensor, shape (batch, units), or the pair of ``batched_initial_condition``
            Initial activation.

        Returns
        -------
        Tensor, laid out like ``inp`` with the units last
            h after each step.
        """
        start = h0[1] if isinstance(h0, tuple) else h0
        return self._run(inp, start, start, stim_input, noise, W_rec, checkpoint_steps, regions)[1]
