"""TimeConstants: the leaks of a model with time constants, some of which are learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.declaration.graph import Region
from sparse_mrnn.errors import ConfigError, UnknownNameError, suggest
from sparse_mrnn.models.network import mRNNBase, positive_time


class TimeConstants(mRNNBase):
    """A network whose units lose a share alpha of their state in a step: 1 - exp(-dt / tau), if no other.

    A model says how alpha follows from the time constant, and the reverse.
    """

    def _alpha_of(self, tau: Any) -> Any:
        return -np.expm1(-self.dt / tau)

    def _tau_of(self, alpha: NDArray[np.float64]) -> NDArray[np.float64]:
        tau: NDArray[np.float64] = -self.dt / np.log1p(-alpha)
        return tau

    @property
    def _least_tau(self) -> float:
        """The time that every time constant is above."""
        return 0.0

    def _alpha_bounds(self, regions: Sequence[Region]) -> tuple[Tensor, Tensor]:
        low, high = super()._alpha_bounds(regions)
        for k, region in enumerate(regions):
            least, largest = region.tau_bounds or (None, None)
            if least is not None and least > self._least_tau:
                high[k] = self._alpha_of(least)
            if largest is not None:
                low[k] = self._alpha_of(largest)
        return low, high

    @property
    def time_constants(self) -> dict[str, float | NDArray[np.float64]]:
        """Time constant of each region in ms, as it is now; an array if it is one for each unit.

        Rounded to the digits that are sure: 6 in float32, 12 in float64.
        """
        alpha = self.unit_alpha().detach().cpu().double().expand(self.layout().n, 1)[:, 0].numpy()
        tau = self._tau_of(alpha)
        digits = 6 if self.dtype == torch.float32 else 12
        found: dict[str, float | NDArray[np.float64]] = {}
        for region, start in zip(self.layout().regions, self.layout().ptr.tolist(), strict=False):
            by_unit = region.learnt_by("learnable_tau") == "unit" or isinstance(region.tau, np.ndarray)
            own = tau[start : start + (region.n if by_unit else 1)].tolist()
            own = [float(f"{t:.{digits}g}") for t in own]
            found[region.name] = np.array(own) if by_unit else own[0]
        return found

    @torch.no_grad()
    def set_time_constants(self, tau: Mapping[str, float]) -> None:
        """Set the trained time constant of regions, ms.

        Parameters
        ----------
        tau : mapping of region to float

        Raises
        ------
        UnknownNameError
            If a region does not exist.
        ConfigError
            If its time constant is not trained, or the value is not within its bounds or, for Euler steps,
            not above ``dt``.

        Examples
        --------
        >>> import sparse_mrnn as sm
        >>> g = sm.RegionGraph(); g.add_region("a", 2, learnable_tau=True)
        >>> net = sm.mRNN(g, dt=10, tau=50, device="cpu")
        >>> net.set_time_constants({"a": 20.0})
        >>> net.time_constants
        {'a': 20.0}
        """
        if unknown := [name for name in tau if name not in self.hid_regions]:
            hint = suggest(unknown[0], self.hid_regions, what="regions")
            raise UnknownNameError(f"unknown region {unknown[0]!r}. {hint}")
        logit = None if self.tau_logit is None else self.tau_logit.clone()
        for name, value in tau.items():
            own = torch.nonzero(self.alpha_region == self.hid_regions.index(name))[:, 0]
            if logit is None or not len(own):
                raise ConfigError(f"region {name!r}: tau is not trained; declare learnable_tau.")
            positive_time(value, f"region {name!r}: tau")
            low, high = self.alpha_low[own].double(), self.alpha_high[own].double()
            share = (self._alpha_of(value) - low) / (high - low)
            if not ((share > 0) & (share < 1)).all():
                problem = f"tau = {value:g} ms is not above dt = {self.dt:g} ms, or not within its bounds"
                raise ConfigError(f"region {name!r}: {problem}.")
            logit[own] = (torch.log1p(-share) - torch.log(share)).to(logit.dtype)
        if self.tau_logit is not None and logit is not None:
            self.tau_logit.copy_(logit)

    def unit_time_constants(self) -> Tensor:
        """Time constant of each unit in ms, shape (units, 1), float64."""
        found = self.time_constants
        each = [np.broadcast_to(found[region.name], region.n) for region in self.layout().regions]
        return torch.from_numpy(np.concatenate(each)).to(self.device)[:, None]
