"""The leaky integrate-and-fire model: its step, and LIF, the multi-regional spiking network."""

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
from sparse_mrnn.models.network import mRNNBase, positive_time
from sparse_mrnn.models.network_state import NetworkState
from sparse_mrnn.models.prepare import Start
from sparse_mrnn.ops.activations import ActivationSegments
from sparse_mrnn.ops.spiking import SpikingStep
from sparse_mrnn.ops.step import Parameters, States
from sparse_mrnn.stimulus import Poisson, Stimulus

SYNAPSES = ("exponential", "jump")
SURROGATES: dict[str, Callable[[Tensor], Tensor]] = {
    "fast_sigmoid": lambda x: (1 + x.abs()) ** -2,
    "arctan": lambda x: 1 / (1 + (math.pi * x) ** 2),
    "triangle": lambda x: (1 - x.abs()).clamp_min(0),
}
"""Derivative that stands for that of a spike, by the distance to threshold times a slope (Neftci et al.
2019)."""


class _Spike(torch.autograd.Function):
    """1 from threshold on, 0 below; with the derivative of a surrogate."""

    @staticmethod
    def forward(ctx: Any, above: Tensor, surrogate: str, slope: float) -> Tensor:
        ctx.save_for_backward(above)
        ctx.surrogate, ctx.slope = surrogate, slope
        return (above >= 0).to(above.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (above,) = ctx.saved_tensors
        return grad * SURROGATES[ctx.surrogate](ctx.slope * above), None, None


class _Fired(torch.autograd.Function):
    """1 at a spike, from the state ``refractory``, which has the spike's gradient."""

    @staticmethod
    def forward(ctx: Any, refractory: Tensor, steps: Tensor) -> Tensor:
        return (refractory > steps).to(refractory.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class LIFStep(SpikingStep):
    """The step of leaky integrate-and-fire units, exact over dt (Rotter & Diesmann 1999).

        v[t+1] = v_rest + P_vv (v[t] - v_rest) + P_vg g[t] + (1 - P_vv) b     if not refractory, else v_reset
        g[t+1] = P_gg g[t] + current[t]
        spike  = v[t+1] >= threshold, if not refractory; then v[t+1] = v_reset

    with P_vv = exp(-dt / tau_m), P_gg = exp(-dt / tau_syn) and P_vg = tau_syn / (tau_m - tau_syn) (P_vv -
    P_gg), in the order of NEST's iaf_psc_exp: the current arrives at the end of the step. With ``jump`` it is
    added to v. With ``freeze``, g stays as it is while a unit is refractory, and a spike sets it to 0.

    The state ``refractory`` is the refractory steps + 1 at a spike, and one less with each step down to 0; a
    unit above 1 is refractory.

    Parameters
    ----------
    activation : ActivationSegments
        Of the units; not used.
    refractory_steps : Tensor, shape (units, 1)
    jump, freeze : bool
    surrogate : {"fast_sigmoid", "arctan", "triangle"}
    slope : float
        1 / mV.
    """

    states = ("v", "g", "refractory")

    def __init__(
        self, activation: ActivationSegments, refractory_steps: Tensor, *, jump: bool, freeze: bool,
        surrogate: str, slope: float,
    ) -> None:
        super().__init__(activation)
        self.refractory_steps, self.jump, self.freeze = refractory_steps, jump, freeze
        self.surrogate, self.slope = surrogate, slope

    def step(self, states: States, current: Tensor, parameters: Parameters) -> States:
        p, (v, g, left) = parameters, states
        free = left <= 1
        rest, keep = p["v_rest"], p["keep_v"]
        new = rest + keep * (v - rest) + p["feed"] * g + self._tonic(p)
        decayed = p["keep_g"] * g
        if self.freeze:
            decayed = torch.where(free, decayed, g)
        if self.jump:
            new = new + current
        else:
            decayed = decayed + current
        spike = _Spike.apply(new - p["threshold"], self.surrogate, self.slope)  # type: ignore[no-untyped-call]
        spike = torch.where(free, spike, torch.zeros_like(spike))
        fired = spike.detach() > 0
        new = torch.where(fired | ~free, p["v_reset"], new)
        if self.freeze:
            decayed = torch.where(fired, torch.zeros_like(decayed), decayed)
        left = torch.where(fired, self.refractory_steps + 1, (left - 1).clamp_min(0)).detach()
        return new, decayed, left + (spike - spike.detach())

    def activity(self, states: States) -> Tensor:
        """Return the spikes, 0 or 1."""
        found: Tensor = _Fired.apply(states[2], self.refractory_steps)  # type: ignore[no-untyped-call]
        return found

    @staticmethod
    def _tonic(parameters: Parameters) -> Tensor | float:
        return (1 - parameters["keep_v"]) * parameters["bias"] if "bias" in parameters else 0.0

    def units(self, parameters: Parameters, like: Tensor) -> Tensor:
        p = parameters
        rows = [p[name] for name in ("v_rest", "keep_v", "keep_g", "feed")]
        rows += [torch.as_tensor(self._tonic(p), dtype=like.dtype), p["threshold"], p["v_reset"]]
        rows += [self.refractory_steps + 1]
        return torch.stack([row.expand(len(like), 1)[:, 0] for row in rows])


def _of(choices: Sequence[str]) -> Callable[[Any, str], str]:
    return lambda value, what: option(value, choices, what, ConfigError)


def _potential(value: Any, what: str) -> float:
    return real_number(value, f"{what} (mV)", ConfigError)


def _not_negative(value: Any, what: str) -> float:
    found = real_number(value, what, ConfigError)
    if found < 0:
        raise ConfigError(f"{what} is {found:g}; it must not be negative.")
    return found


class LIF(mRNNBase):
    """Multi-regional network of leaky integrate-and-fire units: spikes on the same graph as `mRNN`.

    See `LIFStep` for the equations. Weights are in mV per spike. A region's ``tau`` is its tau_m; ``init`` is
    the initial membrane potential above v_rest, and ``base_firing`` a constant drive, both mV. A region may
    declare ``tau_syn``, ``v_rest``, ``threshold``, ``v_reset`` and ``t_ref``, one number or one per unit, and
    Poisson events into every unit, ``background_rate`` (Hz) and ``background_weight`` (mV), which `simulate`
    draws.

    Parameters
    ----------
    config, rec_constrained, inp_constrained, batch_first, spectral_radius, device, backend, seed, dtype
        As `mRNN`.
    dt, tau_m, tau_syn, t_ref : float
        Time step, membrane and synaptic time constant, refractory time, ms.
    v_rest, threshold, v_reset : float
        Membrane potentials, mV.
    synapse : {"exponential", "jump"}
        A spike adds its weight to a current that decays with ``tau_syn``, or to the membrane potential.
    reset_g : bool
        Set the current to 0 at a spike and keep it while refractory (Shiu et al. 2024).
    surrogate : {"fast_sigmoid", "arctan", "triangle"}
        Derivative of a spike in training, by the distance to threshold times ``surrogate_slope``.
    surrogate_slope : float
        1 / mV.
    noise_level_act, noise_level_inp : float
        As `mRNN`; the noise of units is added to the current.

    Raises
    ------
    ConfigError
        If parameters do not fit each other; the message names the region.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 3, base_firing=10.0)
    >>> net = sm.LIF(g, device="cpu")
    >>> recording = sm.simulate(net, 100, progress=False)
    >>> recording.spike_time.values[:3].round(1).tolist()
    [24.1, 24.1, 24.1]
    """

    model = "lif"
    setting_names = (
        *(name for name in mRNNBase.setting_names if name != "activation"), "tau_m", "tau_syn", "v_rest",
        "threshold", "v_reset", "t_ref", "synapse", "reset_g", "surrogate", "surrogate_slope",
    )  # fmt: skip
    checks: ClassVar[Mapping[str, Callable[[Any, str], Any]]] = {
        **mRNNBase.checks, "tau_m": positive_time, "tau_syn": positive_time, "t_ref": _not_negative,
        "v_rest": _potential, "threshold": _potential, "v_reset": _potential, "synapse": _of(SYNAPSES),
        "reset_g": lambda value, what: true_or_false(value, what, ConfigError),
        "surrogate": _of(tuple(SURROGATES)), "surrogate_slope": _not_negative,
    }  # fmt: skip
    unit_refractory_steps: Tensor
    unit_v_rest: Tensor

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
        noise_level_act: float = 0.0,
        noise_level_inp: float = 0.0,
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
        if name in self.setting_names and before is not None and name != "dt" and self.rec_finalized:
            try:
                self._prepare_alpha()
            except ConfigError:
                vars(self)[name] = before
                raise

    def _prepare_alpha(self) -> None:
        super()._prepare_alpha()
        for name, values in self._constants().items():
            self.fix(f"unit_{name}", self._by_unit(values)[:, None], persistent=False)

    def _constants(self) -> dict[str, list[NDArray[np.float64]]]:
        """Return the constants of the step by region, each of shape (units,)."""
        found: dict[str, list[NDArray[np.float64]]] = {}
        for region in self.layout().regions:
            for name, value in self._constants_of(region).items():
                found.setdefault(name, []).append(np.broadcast_to(value, region.n))
        return found

    def _constants_of(self, region: Region) -> dict[str, NDArray[np.float64]]:
        def own(name: str, default: float) -> NDArray[np.float64]:
            value = getattr(region, name)
            return np.asarray(default if value is None else value, dtype=np.float64)

        label, dt = f"region {region.name!r}", self.dt
        if region.learnable_tau or region.activation is not None:
            what = "learnable_tau" if region.learnable_tau else "activation"
            raise ConfigError(f"{label}: {what} is for networks of rates; leave it out of a spiking network.")
        tau_m, tau_syn, t_ref = own("tau", self.tau_m), own("tau_syn", self.tau_syn), own("t_ref", self.t_ref)
        threshold, reset = own("threshold", self.threshold), own("v_reset", self.v_reset)
        if ((t_ref > 0) & (t_ref < dt * (1 - 1e-9))).any():
            short = f"t_ref is {t_ref[t_ref > 0].min():g} ms, shorter than a time step, dt = {dt:g} ms"
            raise ConfigError(f"{label}: {short}; use a smaller dt, or t_ref=0.")
        if (threshold <= reset).any():
            which = f"threshold {threshold.min():g} mV is not above v_reset {reset.max():g} mV"
            raise ConfigError(f"{label}: {which}: its units would fire in every step.")
        keep_v, keep_g = np.exp(-dt / tau_m), np.exp(-dt / tau_syn)
        with np.errstate(divide="ignore", invalid="ignore"):
            feed = tau_syn / (tau_m - tau_syn) * (keep_v - keep_g)
        feed = np.where(np.isclose(tau_m, tau_syn, rtol=1e-6), dt / tau_m * keep_v, feed)
        if self.synapse == "jump":
            keep_g, feed = np.zeros(()), np.zeros(())
        steps = np.ceil(t_ref / dt - 1e-9)
        found = {"v_rest": own("v_rest", self.v_rest), "threshold": threshold, "v_reset": reset}
        return {**found, "keep_v": keep_v, "keep_g": keep_g, "feed": feed, "refractory_steps": steps}

    @property
    def equation(self) -> LIFStep:
        """The equation of a time step."""
        self.weights("recurrent")
        return LIFStep(
            self.activation_segments, self.unit_refractory_steps, jump=self.synapse == "jump",
            freeze=self.reset_g, surrogate=self.surrogate, slope=self.surrogate_slope,
        )

    def step_parameters(self) -> dict[str, Tensor]:
        """Constants of the units as `LIFStep` takes them, and, unless it is 0 everywhere, the tonic input."""
        own = {name: getattr(self, f"unit_{name}") for name in UNIT_CONSTANTS}
        return {**own, **super().step_parameters()}

    def initial_tensors(self, batch: int) -> tuple[Tensor, ...]:
        """Initial states and spikes of so many trials, each (batch, units): v_rest + init, and no spikes."""
        self.weights("recurrent")
        v = (self.initial_condition + self.unit_v_rest[:, 0]).repeat(batch, 1)
        states = self.equation.initial(v.t())
        return (*(state.t() for state in states), self.equation.activity(states).t())

    @property
    def background(self) -> tuple[Stimulus, ...]:
        """The Poisson events that regions declare, as stimuli."""
        regions = self.layout().regions
        return tuple(
            Stimulus(region.name, Poisson(region.background_rate, amplitude=region.background_weight))
            for region in regions if region.background_rate
        )

    def forward(
        self,
        inp: Tensor,
        x0: Start = None,
        stim_input: Tensor | None = None,
        noise: bool = False,
        *,
        checkpoint_steps: int | str | None = None,
        return_state: bool = False,
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, NetworkState]:
        """Run the dynamics over a sequence; spikes have the derivative of ``surrogate``.

        Background events are drawn by `simulate`; here, give them as ``stim_input``
        (`simulation.stimulus_sequences`).

        Parameters
        ----------
        inp, stim_input, noise, checkpoint_steps, return_state
            As `mRNN.forward`.
        x0 : Tensor, shape (batch, units), or `NetworkState`, optional
            Initial membrane potential. Default: v_rest + ``init``.

        Returns
        -------
        v, h : Tensor, laid out like ``inp`` with the units last
            Membrane potentials and spikes.
        state : NetworkState
            With ``return_state``.
        """
        given = inp, x0, None, stim_input, noise, None, checkpoint_steps, None, return_state
        v, _, _, h, *state = self._run(*given)
        return (v, h, *state)


UNIT_CONSTANTS = ("v_rest", "threshold", "v_reset", "keep_v", "keep_g", "feed")
"""Parameters of `LIFStep`, as attributes ``unit_...`` of a network."""
