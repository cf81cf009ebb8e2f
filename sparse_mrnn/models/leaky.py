"""The leaky model: the equation of its step, and mRNN, the multi-regional network of it."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.checks import option
from sparse_mrnn.declaration.config import NetworkConfig
from sparse_mrnn.declaration.graph import Region, RegionGraph
from sparse_mrnn.errors import ConfigError, StepSizeWarning
from sparse_mrnn.models.network import mRNNBase, positive_time
from sparse_mrnn.models.network_state import NetworkState
from sparse_mrnn.models.prepare import Start
from sparse_mrnn.models.time_constants import TimeConstants
from sparse_mrnn.ops.activations import ActivationSegments, linear
from sparse_mrnn.ops.fused_leaky import LeakyAdjoint, LeakySequence, LeakyStream
from sparse_mrnn.ops.step import CONDUCTANCE, Adjoint, Advance, Parameters, States, Step

__all__ = ["LeakyStep", "linear", "mRNN"]

INTEGRATORS = ("euler", "exponential_euler")


class LeakyStep(Step):
    """A leaky integrator: one state x, the pre-activation, of which a step replaces the share alpha.

        x[t+1] = x[t] + alpha (current[t] + b - x[t]),    h[t+1] = f(x[t+1])

    Backward, with ``back`` the gradient that reaches x[t+1] by itself and through h[t+1]:

        x[t]: (1 - alpha) back      current[t], b: alpha back      alpha: back (current[t] + b - x[t])

    Parameters are "alpha" and, unless it is 0 everywhere, "bias". The passes of `ops.fused_leaky` compute the
    same faster: with the leak inside the product, or in the compiled kernels forward_step, backward_step and
    relu_step.

    Parameters
    ----------
    activation : ActivationSegments
    rate : float, optional
        alpha, where it is one fixed number: leak and product are then one pass.

    Examples
    --------
    >>> from sparse_mrnn.ops.activations import get_activation
    >>> step = LeakyStep(ActivationSegments(((0, 1, get_activation("relu")),)))
    >>> step.step((torch.tensor([[1.0]]),), torch.tensor([[3.0]]), {"alpha": torch.tensor([[0.5]])})
    (tensor([[2.]]),)
    """

    states = ("x",)

    def __init__(self, activation: ActivationSegments, rate: float | None = None) -> None:
        super().__init__(activation)
        self.rate = rate

    def step(self, states: States, current: Tensor, parameters: Parameters) -> States:
        return (states[0] + parameters["alpha"] * self.velocity(states, current, parameters)[0],)

    def velocity(self, states: States, current: Tensor, parameters: Parameters) -> States:
        """Return current + b - x, which is tau dx/dt."""
        return (self.target(current, parameters) - states[0],)

    def target(self, current: Tensor, parameters: Parameters) -> Tensor:
        """Return current + b, which x goes to."""
        return current + parameters["bias"] if "bias" in parameters else current

    def partials(
        self, states: States, current: Callable[[], Tensor], parameters: Parameters
    ) -> tuple[Tensor | float, Tensor | None, Tensor | None]:
        return -1.0, None, self.activation.slope(states[0])

    def rates(self, parameters: Parameters) -> Tensor:
        return parameters["alpha"]

    def keeps(self, needed: Collection[str]) -> tuple[str, ...]:
        # x itself is read by autograd of a function of the user's, and by electrical synapses; a known
        # derivative needs h alone.
        states = () if self.activation.has_derivatives and self.electrical is None else ("x",)
        return (*states, "change") if "alpha" in needed else states

    def sequence(self, parameters: Parameters, unit_std: float | Tensor | None, like: Tensor) -> Advance:
        return LeakySequence(self, parameters, unit_std, like)

    def stream(self, parameters: Parameters, unit_std: float | Tensor | None, like: Tensor) -> Advance:
        return LeakyStream(self, parameters, unit_std, like)

    def adjoint(self, parameters: Parameters, needed: Collection[str], like: Tensor) -> Adjoint:
        return LeakyAdjoint(self, parameters, needed, like)


def _integrator(integrator: Any, name: str) -> str:
    return option(integrator, INTEGRATORS, name, ConfigError)


class mRNN(TimeConstants):  # noqa: N801
    """Leaky multi-regional RNN with a pre-activation state x and an activation h.

        x[t+1] = x[t] + alpha (-x[t] + W_rec h[t] + W_inp u[t] + b + noise + stim[t])
        h[t+1] = f(x[t+1])

    Parameters
    ----------
    config : path, dict, NetworkConfig or RegionGraph, optional
        The network. Without one, declare it with ``add_*`` and call ``finalize_connectivity``.
    activation : {"relu", "tanh", "sigmoid", "softplus", "linear"} or callable
        A function or module of your own must be pointwise and made of torch functions; autograd
        differentiates it in each step, which is slower. A module, such as ``nn.PReLU()``, is registered: its
        parameters train, and are moved and saved with the network.
    noise_level_act, noise_level_inp : float
        Noise of units and inputs, drawn when ``forward(noise=True)``.
    rec_constrained, inp_constrained : bool
        Whether Dale's law holds for recurrent and input weights.
    batch_first : bool
        (batch, time, features) if True, else (time, batch, features).
    spectral_radius : float or dict of region to float, optional
        Scale the initial effective recurrent weights to this radius; or, of each region or parent named, the
        weights within it.
    config_finalize : bool
        Finalise a network given as ``config`` at once.
    device : str or torch.device, optional
        Default: CUDA where there is one, else the CPU.
    dt, tau : float
        Time step and time constant, ms; alpha = dt / tau. A region's own tau takes precedence.
    backend : {"auto", "csr", "dense", "hybrid", "torch_sparse"}
        How weights are multiplied: as one sparse matrix, one dense one, dense blocks and a sparse rest, or by
        the package torch_sparse. "auto" chooses by size and fill; results are the same to rounding.
    integrator : {"euler", "exponential_euler"}
        alpha = dt / tau, or alpha = 1 - exp(-dt / tau), which is exact for a constant input and stable for
        every dt (Hochbruck & Ostermann 2010, Acta Numerica 19:209).
    seed : int, optional
        Makes synapses, weights and noise. Default: synapses and weights from a seed that torch's global
        generator draws; noise from that generator, call by call.
    dtype : torch.float32 or torch.float64

    Raises
    ------
    ConfigError
        If dt or tau is not positive, or dt > 2 tau under Euler: such a network oscillates and diverges by its
        leak alone. From dt > tau on there is a `StepSizeWarning`.

    Examples
    --------
    >>> net = mRNN(device="cpu", seed=0)
    >>> net.add_recurrent_region("cortex", 4)
    >>> net.add_input_region("cue", 2)
    >>> net.add_recurrent_connection("cortex", "cortex", sparsity=0.5)
    >>> net.add_input_connection("cue", "cortex")
    >>> net.finalize_connectivity()
    >>> x0, h0 = net.batched_initial_condition(8)
    >>> x, h = net(torch.ones(8, 5, 2), x0)
    >>> h.shape
    torch.Size([8, 5, 4])
    """

    model = "leaky"
    has_states = True
    setting_names = (*mRNNBase.setting_names, "tau", "integrator")
    checks: ClassVar[Mapping[str, Callable[[Any, str], Any]]] = {
        **mRNNBase.checks, "tau": positive_time, "integrator": _integrator,
    }  # fmt: skip

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
        dt: float = 10,
        tau: float = 100,
        *,
        backend: str = "auto",
        integrator: str = "euler",
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dt, self.tau, self.integrator = dt, tau, integrator
        args = config, activation, noise_level_act, noise_level_inp, rec_constrained, inp_constrained
        more = batch_first, spectral_radius, config_finalize, device
        super().__init__(*args, *more, backend=backend, seed=seed, dtype=dtype)

    def _region_alpha(self, region: Region) -> float | NDArray[np.float64]:
        tau = self.tau if region.tau is None else region.tau
        shortest = float(np.min(np.asarray(tau, dtype=np.float64), initial=math.inf))  # a rank may have none
        if self.integrator == "euler" and self.dt > 2 * shortest:
            raise ConfigError(
                f"region {region.name!r}: dt = {self.dt:g} ms is above 2 tau = {2 * shortest:g} ms, where "
                "Euler steps diverge; use a smaller dt or integrator='exponential_euler'."
            )
        if self.integrator == "euler" and self.dt > shortest:
            text = f"dt = {self.dt:g} ms is above tau = {shortest:g} ms; Euler steps overshoot and oscillate."
            warnings.warn(f"region {region.name!r}: {text}", StepSizeWarning, stacklevel=4)
        if self.integrator == "euler" and region.learnable_tau and self.dt >= shortest:
            raise ConfigError(
                f"region {region.name!r}: learnable_tau needs dt < tau, and dt = {self.dt:g} ms, "
                f"tau = {shortest:g} ms; use a smaller dt or integrator='exponential_euler'."
            )
        found: float | NDArray[np.float64] = self._alpha_of(tau)
        return found

    def _alpha_of(self, tau: Any) -> Any:
        return self.dt / tau if self.integrator == "euler" else super()._alpha_of(tau)

    def _tau_of(self, alpha: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.dt / alpha if self.integrator == "euler" else super()._tau_of(alpha)

    @property
    def _least_tau(self) -> float:
        return self.dt if self.integrator == "euler" else 0.0

    def _check_exchange(self) -> None:
        """Warn of conductances that make the states of neighbours overshoot each other."""
        if self.electrical is None:
            return
        pairs, g = self.electrical.pairs, self.electrical.values().detach()
        total = g.new_zeros(self.layout().n).index_add(0, pairs.rows, g).index_add(0, pairs.cols, g)
        speed = self.unit_alpha().detach().expand(len(total), 1)[:, 0] * (1 + 2 * total)
        if len(total) and bool(speed.max() > 2):
            unit = int(speed.argmax())
            text = (
                f"the conductances of unit {self.unit_ids[unit]!r} add up to {float(total[unit]):g}, and "
                f"with alpha = {float(speed[unit] / (1 + 2 * total[unit])):g} a step may overshoot and "
                "diverge; use a smaller dt or smaller conductances."
            )
            warnings.warn(text, StepSizeWarning, stacklevel=4)

    @property
    def _net_alpha(self) -> float:
        return float(self._alpha_of(self.tau))

    @property
    def equation(self) -> LeakyStep:
        """The equation of a time step."""
        step = LeakyStep(self.activation_segments, self._fixed_rate())
        if self.electrical is not None:
            step.electrical = self.electrical.pairs
        return step

    def step_parameters(self) -> dict[str, Tensor]:
        """alpha, the tonic input unless it is 0 everywhere, and conductances, as `LeakyStep` takes them."""
        found = {"alpha": self.unit_alpha(), **super().step_parameters()}
        return found if self.electrical is None else {**found, CONDUCTANCE: self.electrical.values()}

    def forward(
        self,
        inp: Tensor,
        x0: Start = None,
        h0: Tensor | None = None,
        stim_input: Tensor | None = None,
        noise: bool = False,
        W_rec: Tensor | None = None,  # noqa: N803
        *,
        checkpoint_steps: int | str | None = None,
        regions: str | Sequence[str] | None = None,
        return_state: bool = False,
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, NetworkState]:
        """Run the dynamics over a sequence.

        Parameters
        ----------
        inp : Tensor, shape (batch, time, inputs), or (time, batch, inputs) without batch_first
            A net without inputs takes a last dimension of 0.
        x0 : Tensor, shape (batch, units), or the pair of ``batched_initial_condition``, or a state, optional
            Initial pre-activation, or that and the initial activation, or a `NetworkState`, which has their
            past, too. Default: the initial condition. With delays, the activity before the start was that at
            the start and inputs were 0, unless a state says otherwise.
        h0 : Tensor, shape (batch, units), optional
            Initial activation. Default: activation(x0).
        stim_input : Tensor, optional
            Current added to the units, laid out like ``inp`` with the units last.
        noise : bool
            Add Gaussian noise to units and inputs; its strength is ``noise_level_act``, ``noise_level_inp``.
        W_rec : Tensor, shape (units, units), optional
            Use these recurrent weights (dense, COO or CSR) as they are, without Dale's law.
        checkpoint_steps : int or "auto", optional
            Keep the states of every so many steps for the backward pass and compute the others again (Chen et
            al. 2016): memory for steps / k + k states instead of all, for one more forward pass. "auto": the
            square root of the steps. The sequences returned take their own memory: use it with ``regions``.
        regions : str or sequence of str, optional
            Return these regions (or parents) only, in the order given. Default: every unit.
        return_state : bool
            Return the `NetworkState` at the end, too: given as ``x0``, it goes on as if the run had been one.

        Returns
        -------
        x, h : Tensor, laid out like ``inp`` with the units, or those of ``regions``, last
            States after each step; the initial state is not repeated.
        state : NetworkState
            With ``return_state``. Differentiable; ``state.detach()`` ends the graph.

        Raises
        ------
        FinalizeError
            If the connectivity is not finalised.
        ShapeError
            If a tensor has the wrong shape, dtype or device; the message says which and what is expected.
        ConfigError
            If ``noise`` is not a bool, or ``checkpoint_steps`` or ``regions`` is not possible.
        """
        given = inp, x0, h0, stim_input, noise, W_rec, checkpoint_steps, regions, return_state
        found: tuple[Tensor, Tensor] | tuple[Tensor, Tensor, NetworkState] = self._run(*given)
        return found
