"""The spiking model: the equation of leaky integrate-and-fire units, and LIF, the network of it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.checks import option, real_number, true_or_false
from sparse_mrnn.declaration.config import NetworkConfig
from sparse_mrnn.declaration.graph import Region, RegionGraph
from sparse_mrnn.errors import ConfigError
from sparse_mrnn.models.network import positive_time
from sparse_mrnn.models.prepare import Start
from sparse_mrnn.models.time_constants import TimeConstants
from sparse_mrnn.ops.activations import ActivationSegments
from sparse_mrnn.ops.spiking import SpikingStep
from sparse_mrnn.ops.step import Parameters, States
from sparse_mrnn.stimulus import Poisson, Stimulus

__all__ = ["LIF", "LIFStep"]

SYNAPSES = ("exponential", "jump")
SURROGATES = ("fast_sigmoid", "arctan", "gaussian")
OWN_VALUES = ("threshold", "v_rest", "v_reset", "t_ref", "tau_syn")
"""Settings that a region may have for itself, one number or one for each unit."""


def surrogate_slope(excess: Tensor, kind: str, slope: float) -> Tensor:
    """Return what stands for the derivative of a spike by the potential, in 1/mV.

        fast_sigmoid  1 / (1 + s |u|)^2               (Zenke & Ganguli 2018, Neural Computation 30:1514)
        arctan        1 / (1 + (pi s u / 2)^2)        (Fang et al. 2021, ICCV)
        gaussian      exp(-(s u)^2 / 2)               (Yin et al. 2021, Nature Machine Intelligence 3:905)

    Parameters
    ----------
    excess : Tensor
        u, the potential above the threshold, mV.
    kind : {"fast_sigmoid", "arctan", "gaussian"}
    slope : float
        s, 1/mV. Larger: only units closer to the threshold have a gradient.

    Examples
    --------
    >>> surrogate_slope(torch.tensor([0.0, 1.0, -1.0]), "fast_sigmoid", 1.0)
    tensor([1.0000, 0.2500, 0.2500])
    """
    scaled = slope * excess
    if kind == "fast_sigmoid":
        return (1 + scaled.abs()).pow(-2)
    if kind == "arctan":
        return 1 / (1 + (0.5 * math.pi * scaled).square())
    return torch.exp(-0.5 * scaled.square())


class _Spike(torch.autograd.Function):
    """1 where the potential is at the threshold or above, else 0; backward, the surrogate's slope."""

    @staticmethod
    def forward(ctx: Any, excess: Tensor, kind: str, slope: float) -> Tensor:
        ctx.save_for_backward(excess)
        ctx.kind, ctx.slope = kind, slope
        return (excess >= 0).to(excess.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad * surrogate_slope(ctx.saved_tensors[0], ctx.kind, ctx.slope), None, None


class _Fired(torch.autograd.Function):
    """1 where the refractory time has just begun; backward, a spike is that share of it."""

    @staticmethod
    def forward(ctx: Any, refractory: Tensor, begun: Tensor) -> Tensor:
        ctx.save_for_backward(begun)
        return (refractory == begun).to(refractory.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad / ctx.saved_tensors[0], None


class LIFStep(SpikingStep):
    """A leaky integrate-and-fire unit with an exponential synaptic current, exact over a time step.

        v[t+1] = v_rest + P_vv (v[t] - v_rest) + P_vg g[t] + (1 - P_vv) b      if not refractory, else v_reset
        g[t+1] = P_gg g[t] + current[t]
        spike where v[t+1] >= threshold: then v[t+1] = v_reset, and the refractory time begins

    with P_vv = exp(-dt / tau_m), P_gg = exp(-dt / tau_syn), P_vg = tau_syn / (tau_m - tau_syn) (P_vv - P_gg):
    the solution of tau_m dv/dt = v_rest - v + g + b, tau_syn dg/dt = -g (Rotter & Diesmann 1999, Biological
    Cybernetics 81:381). What arrives in a step acts on v from the next one on, as in NEST's iaf_psc_exp. With
    synapse "jump" it is added to v itself; with ``reset_g``, g is 0 after a spike, and what arrives while the
    unit is refractory is lost, as in Brian2 (which so runs the model of Shiu et al. 2024).

    Backward, a spike has the slope of a surrogate (`surrogate_slope`); that a spike resets the potential is
    not differentiated, as gradients through many resets explode (Zenke & Vogels 2021, Neural Computation
    33:899).

    The state "refractory" is what is left of the refractory time, in time steps, and half a step more, so
    that the step of a spike can be told even if that time is 0.

    Parameters
    ----------
    begun : Tensor, shape (units, 1)
        Refractory time in steps, and 0.5.
    jump, freeze : bool
        Synapse "jump", and ``reset_g``.
    surrogate, slope
        As `surrogate_slope` takes them.
    """

    states = ("v", "g", "refractory")

    def __init__(
        self, begun: Tensor, *, jump: bool = False, freeze: bool = False,
        surrogate: str = "fast_sigmoid", slope: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(ActivationSegments(()))
        self.begun, self.jump, self.freeze = begun, jump, freeze
        self.surrogate, self.slope = surrogate, slope

    def step(self, states: States, current: Tensor, parameters: Parameters) -> States:
        v, g, left = states
        rest, reset = parameters["v_rest"], parameters["v_reset"]
        free = left <= 0.5
        new = rest + parameters["keep_v"] * (v - rest) + parameters["feed"] * g + parameters["tonic"]
        kept = parameters["keep_g"] * g
        if self.jump:
            new = new + current
        else:
            kept = kept + current
        if self.freeze:
            kept = torch.where(free, kept, g)
        spike = free * _Spike.apply(new - parameters["threshold"], self.surrogate, self.slope)  # type: ignore[no-untyped-call]
        fired = spike.detach() > 0
        new = torch.where(free & ~fired, new, reset)
        if self.freeze:
            kept = torch.where(fired, torch.zeros_like(kept), kept)
        waiting = torch.where(free, torch.zeros_like(left), left - 1).detach()
        return new, kept, torch.where(free, spike * self.begun, waiting)

    def activity(self, states: States) -> Tensor:
        """Return the spikes of the step that led to these states, 0 or 1."""
        fired: Tensor = _Fired.apply(states[2], self.begun.expand_as(states[2]))  # type: ignore[no-untyped-call]
        return fired

    def units(self, parameters: Parameters, like: Tensor) -> Tensor:
        names = ("v_rest", "keep_v", "keep_g", "feed", "tonic", "threshold", "v_reset")
        rows = [*(parameters[name] for name in names), self.begun]
        return torch.stack([row.detach().expand(len(like), 1)[:, 0].to(like.dtype) for row in rows])


def _synapse(value: Any, name: str) -> str:
    return option(value, SYNAPSES, name, ConfigError)


def _surrogate(value: Any, name: str) -> str:
    return option(value, SURROGATES, name, ConfigError)


def _potential(value: Any, name: str) -> float:
    return real_number(value, name, ConfigError)


def _refractory_time(value: Any, name: str) -> float:
    number = real_number(value, name, ConfigError)
    if number < 0:
        raise ConfigError(f"{name} is {number!r}; it must be a time in ms, or 0.")
    return number


def _slope(value: Any, name: str) -> float:
    number = real_number(value, name, ConfigError)
    if number <= 0:
        raise ConfigError(f"{name} is {number!r}; it must be positive.")
    return number


class LIF(TimeConstants):
    """Spiking multi-regional network of leaky integrate-and-fire units; its equation is that of `LIFStep`.

    Weights are in mV: a spike adds its synapse's weight to g of the target, after the projection's delay; the
    activity h that units transmit is 1 in the step of a spike, else 0. ``base_firing`` is a constant drive in
    mV, ``init`` the initial potential above v_rest in mV. Gradients take a surrogate's slope for that of a
    spike (Neftci et al. 2019, IEEE Signal Processing Magazine 36:51), and none of the reset.

    Parameters
    ----------
    config, noise_level_act, noise_level_inp, rec_constrained, inp_constrained, batch_first, config_finalize
        As of `mRNN`. Noise is added to the current.
    spectral_radius, device, backend, seed, dtype
        As of `mRNN`.
    dt : float
        Time step, ms.
    tau_m : float
        Time constant of the potential, ms; a region's ``tau`` takes precedence, and may be learnt.
    tau_syn : float
        Time constant of the synaptic current, ms. This and the next four may be fields of a region, one
        number or one for each unit.
    v_rest, threshold, v_reset : float
        Resting potential, threshold and potential after a spike, mV.
    t_ref : float
        Refractory time after a spike, ms, rounded to time steps: 0, or at least one of them.
    synapse : {"exponential", "jump"}
        A current that decays with tau_syn, or a jump of the potential.
    reset_g : bool
        Set g to 0 after a spike, and drop what arrives while a unit is refractory, as Shiu et al. (2024) do.
    surrogate : {"fast_sigmoid", "arctan", "gaussian"}
    surrogate_slope : float
        1/mV; see `surrogate_slope`.

    Raises
    ------
    ConfigError
        If a threshold is not above the potential after a spike, a refractory time is shorter than a time
        step, or a region has an activation or learns what this model has not.

    Examples
    --------
    A unit with a drive of 8 mV and the threshold 7 mV above rest fires at 22 Hz:

    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 1, base_firing=8.0)
    >>> net = sm.LIF(g, device="cpu", seed=0)
    >>> v, h = net(torch.zeros(1, 10_000, 0))
    >>> int(h.sum())
    22
    """

    model = "lif"
    setting_names = (
        *(name for name in TimeConstants.setting_names if name != "activation"), "tau_m", "tau_syn", "v_rest",
        "threshold", "v_reset", "t_ref", "synapse", "reset_g", "surrogate", "surrogate_slope",
    )  # fmt: skip
    checks: ClassVar[Mapping[str, Callable[[Any, str], Any]]] = {
        **TimeConstants.checks, "tau_m": positive_time, "tau_syn": positive_time, "v_rest": _potential,
        "threshold": _potential, "v_reset": _potential, "t_ref": _refractory_time, "synapse": _synapse,
        "reset_g": lambda value, name: true_or_false(value, name, ConfigError),
        "surrogate": _surrogate, "surrogate_slope": _slope,
    }  # fmt: skip

    def __init__(
        self,
        config: str | os.PathLike[str] | dict[str, Any] | NetworkConfig | RegionGraph | None = None,
        *,
        dt: float = 0.1,
        tau_m: float = 20.0,
        tau_syn: float = 5.0,
        v_rest: float = -52.0,
        threshold: float = -45.0,
        v_reset: float = -52.0,
        t_ref: float = 2.2,
        synapse: str = "exponential",
        reset_g: bool = False,
        surrogate: str = "fast_sigmoid",
        surrogate_slope: float = 1.0,
        noise_level_act: float = 0.01,
        noise_level_inp: float = 0.01,
        rec_constrained: bool = True,
        inp_constrained: bool = True,
        batch_first: bool = True,
        spectral_radius: float | Mapping[str, float] | None = None,
        config_finalize: bool = True,
        device: str | torch.device | None = None,
        backend: str = "auto",
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dt, self.tau_m, self.tau_syn, self.t_ref = dt, tau_m, tau_syn, t_ref
        self.v_rest, self.threshold, self.v_reset = v_rest, threshold, v_reset
        self.synapse, self.reset_g = synapse, reset_g
        self.surrogate, self.surrogate_slope = surrogate, surrogate_slope
        args = config, "linear", noise_level_act, noise_level_inp, rec_constrained, inp_constrained
        more = batch_first, spectral_radius, config_finalize, device
        super().__init__(*args, *more, backend=backend, seed=seed, dtype=dtype)

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name)
        super().__setattr__(name, value)
        if name in OWN_VALUES and before is not None and self.rec_finalized:
            try:
                for region in self.layout().regions:
                    self._check_region(region)
            except ConfigError:
                vars(self)[name] = before
                raise

    def _region_alpha(self, region: Region) -> float | NDArray[np.float64]:
        self._check_region(region)
        found: float | NDArray[np.float64] = self._alpha_of(self.tau_m if region.tau is None else region.tau)
        return found

    def _check_region(self, region: Region) -> None:
        where = f"region {region.name!r}"
        for name in ("activation", "activation_gain", "activation_threshold"):
            if getattr(region, name) is not None or getattr(region, f"learnable_{name}", False):
                raise ConfigError(f"{where}: {name} is for networks of rates; spiking units have none.")
        threshold, reset, t_ref = (
            np.asarray(self._own(region, name)) for name in ("threshold", "v_reset", "t_ref")
        )
        if (low := threshold <= reset).any():
            at, after = (float(np.broadcast_to(v, low.shape)[low][0]) for v in (threshold, reset))
            problem = f"the threshold is {at:g} mV, and the potential after a spike {after:g} mV"
            raise ConfigError(f"{where}: {problem}; it must be below.")
        if (short := (t_ref > 0) & (t_ref < self.dt * (1 - 1e-9))).any():
            given = float(t_ref[short].flat[0])
            problem = f"t_ref = {given:g} ms is shorter than a time step of {self.dt:g} ms"
            raise ConfigError(f"{where}: {problem}; use a smaller dt, or 0.")

    def _own(self, region: Region, name: str) -> float | NDArray[np.float64]:
        """Return a value of a region's units: its own, or the network's."""
        own: float | NDArray[np.float64] | None = getattr(region, name)
        return getattr(self, name) if own is None else own  # type: ignore[no-any-return]

    def _of_units(self, name: str, change: Callable[[Any], Any] = np.asarray) -> Tensor:
        """Return a value of all units, shape (units, 1), or (1, 1) if they have the same."""
        values = [change(self._own(region, name)) for region in self.layout().regions]
        if not any(map(np.ndim, values)) and len({float(v) for v in values}) == 1:
            return torch.tensor([[float(values[0])]], dtype=self.dtype, device=self.device)
        return self._by_unit(values)[:, None]

    @property
    def _net_alpha(self) -> float:
        return float(self._alpha_of(self.tau_m))

    @property
    def initial_condition(self) -> Tensor:
        """Initial potential of every unit in mV, shape (units,): v_rest and the declared ``init``."""
        return self._declared_init() + self._of_units("v_rest")[:, 0]

    @property
    def equation(self) -> LIFStep:
        """The equation of a time step."""
        begun = self._of_units("t_ref", lambda t: np.ceil(np.asarray(t) / self.dt - 1e-6) + 0.5)
        return LIFStep(
            begun, jump=self.synapse == "jump", freeze=self.reset_g, surrogate=self.surrogate,
            slope=self.surrogate_slope,
        )  # fmt: skip

    def step_parameters(self) -> dict[str, Tensor]:
        """Return what `LIFStep` takes besides states and current, differentiable in what is learnt."""
        alpha = self.unit_alpha()
        tau_syn = self._of_units("tau_syn")
        tau_m = -self.dt / torch.log1p(-alpha)
        keep_v, keep_g = 1 - alpha, torch.exp(-self.dt / tau_syn)
        # Where both time constants are alike the quotient is 0 / 0; its limit is dt / tau_m P_vv.
        apart = tau_m - tau_syn
        alike = apart.abs() < 1e-3 * tau_syn
        exact = tau_syn / torch.where(alike, tau_syn, apart) * (keep_v - keep_g)
        feed = torch.where(alike, self.dt / tau_m * keep_v, exact)
        if self.synapse == "jump":
            keep_g, feed = torch.zeros_like(keep_g), torch.zeros_like(feed)
        values = {name: self._of_units(name) for name in ("v_rest", "v_reset", "threshold")}
        tonic = alpha * self.tonic_inp[:, None]
        return {**values, "keep_v": keep_v, "keep_g": keep_g, "feed": feed, "tonic": tonic}

    @property
    def background(self) -> tuple[Stimulus, ...]:
        """Poisson events that regions declare, as stimuli: every simulation has them."""
        return tuple(
            Stimulus(region.name, Poisson(region.background_rate, amplitude=region.background_weight))
            for region in self.layout().regions if region.background_rate
        )

    def forward(
        self,
        inp: Tensor,
        v0: Start = None,
        h0: Tensor | None = None,
        stim_input: Tensor | None = None,
        noise: bool = False,
        W_rec: Tensor | None = None,  # noqa: N803
        *,
        checkpoint_steps: int | str | None = None,
        regions: str | Sequence[str] | None = None,
        return_state: bool = False,
    ) -> tuple[Tensor, ...]:
        """Run the dynamics over a sequence.

        Parameters
        ----------
        inp, h0, stim_input, noise, W_rec, checkpoint_steps, regions, return_state
            As `mRNN.forward`; ``stim_input`` is added to g, mV.
        v0 : Tensor, shape (batch, units), or a state, optional
            Initial potential, mV, or a `NetworkState`, which has g, refractory times and spikes under way,
            too. Default: the initial condition.

        Returns
        -------
        v, h : Tensor, laid out like ``inp`` with the units, or those of ``regions``, last
            Potential in mV, and spikes, 0 or 1, after each step.
        state : NetworkState
            With ``return_state``.
        """
        given = inp, v0, h0, stim_input, noise, W_rec, checkpoint_steps, regions, return_state
        found: Any = self._run(*given)
        if return_state:
            (v, *_, h), state = found[:-1], found[-1]
            return v, h, state
        return found[0], found[-1]
