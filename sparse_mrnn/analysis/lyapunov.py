"""Lyapunov exponents: tangent vectors carried along a trajectory, orthonormalised by QR now and then.

Benettin et al. 1980, Meccanica 15:9. Kaplan & Yorke 1979 for the dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch

from sparse_mrnn.analysis.dynamics import Dynamics, as_tensor, constant_inputs, states
from sparse_mrnn.analysis.result import Float, Result
from sparse_mrnn.analysis.sampling import initial_state, input_currents
from sparse_mrnn.checks import Seed
from sparse_mrnn.errors import AnalysisError, DivergenceError, ShapeError
from sparse_mrnn.models.delays import longest_delay
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.plot.figure import Axes, axes_or_new


@dataclass(frozen=True, eq=False, repr=False)
class LyapunovSpectrum(Result):
    """The largest Lyapunov exponents of a network.

    Parameters
    ----------
    exponents : ndarray, shape (k,)
        Per ms, the largest first.
    error : ndarray, shape (k,)
        Standard error, from ten consecutive parts of the run.
    history : ndarray, shape (samples, k)
        Estimates up to each time.
    time : ndarray, shape (samples,)
        ms after the transient.
    dt : float
        ms; ``exponents * dt`` are per step.
    units : int
        Units of the network: it has as many exponents.
    """

    exponents: Annotated[Float, "k"]
    error: Annotated[Float, "k"]
    history: Annotated[Float, "time", "k"]
    time: Annotated[Float, "time"]
    dt: float
    units: int

    COORDINATES: ClassVar[tuple[str, ...]] = ("time",)

    @property
    def kaplan_yorke(self) -> float:
        """The Kaplan-Yorke dimension: 0 if no exponent is positive; NaN if more exponents are needed.

        The number of exponents whose sum is not negative, and a fraction of the next one.
        """
        if self.exponents[0] <= 0:
            return 0.0
        sums = np.cumsum(self.exponents)
        negative = np.flatnonzero(sums < 0)
        if not len(negative):
            return float(self.units) if len(sums) == self.units else math.nan
        j = int(negative[0])
        return j + float(sums[j - 1] / abs(self.exponents[j]))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the estimates over time, as they converge."""
        ax = axes_or_new(ax, (5.6, 3.6))
        from matplotlib import colormaps

        k = self.history.shape[1]
        colours = colormaps["cividis"](np.linspace(0, 0.9, k))
        for i in range(k):
            value = f"{i + 1}: {1000 * self.exponents[i]:.3g} ± {1000 * self.error[i]:.1g}"
            label = value if i in (0, k - 1) else None
            ax.plot(self.time, 1000 * self.history[:, i], color=colours[i], lw=1, label=label)
        ax.axhline(0, color="0.6", lw=0.7, ls="--")
        late = 1000 * self.history[len(self.history) // 10 :]
        room = 0.1 * max(float(np.ptp(late)), 1e-9)
        ax.set(xlabel="time after the transient (ms)", ylabel="Lyapunov exponents (1/s)")
        ax.set_ylim(min(late.min(), 0) - room, max(late.max(), 0) + room)
        ax.legend(frameon=False, fontsize=8, title="exponent")
        return ax


@torch.no_grad()
def lyapunov_spectrum(
    net: mRNNBase, k: int = 1, inputs: Any = None, *, x0: Any = None, steps: int = 10_000,
    transient: int = 2_000, interval: int = 10, stim: Any = None, seed: Seed = 0,
) -> LyapunovSpectrum:
    """The k largest Lyapunov exponents of a network without noise.

    A step costs two sparse products, one with k columns; no Jacobian is made. O(units k^2) for each QR.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
        Without delays of more than a time step between units; inputs may have some.
    k : int
    inputs : array, shape (inputs,) or (time, inputs), or mapping, optional
        Constant input, as for `find_fixed_points`; or one per step, repeated from the beginning when it is
        over, for exponents of the driven network.
    x0 : array, shape (units,), optional
        Start: x of an mRNN, h of an ElmanmRNN. Default: the initial condition and standard normal noise.
    steps : int
        Steps that count.
    transient : int
        Steps before them, for the state to reach the attractor and the vectors to turn to its directions.
    interval : int
        Steps from one QR to the next; smaller for exponents far apart.
    stim : array, shape (units,), or mapping from regions to numbers, optional
    seed : int, numpy SeedSequence or Generator
        Draws the start and the first tangent vectors.

    Returns
    -------
    LyapunovSpectrum

    Raises
    ------
    AnalysisError
        If an argument is out of range, or the network has delays.
    DivergenceError
        If the state does not stay finite.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2, sign=None)
    >>> g.add_projection("a", "a", weights=np.diag([0.5, -1.0]))
    >>> net = sm.ElmanmRNN(g, "linear", device="cpu")
    >>> lyapunov_spectrum(net, 2, steps=1000).exponents.round(6).tolist()   # the logarithms of 1 and 0.5
    [0.0, -0.693147]
    """
    what = "lyapunov_spectrum"
    n = net.layout().n
    if not 1 <= k <= n or steps < 10 or transient < 0 or interval < 1:
        raise AnalysisError(f"{what}: needs 1 <= k <= {n}, steps >= 10, transient >= 0 and interval >= 1.")
    generator = np.random.default_rng(seed)
    dynamics, u = Dynamics.of(net, None, stim, what=what), constant_inputs(net, inputs, what=what)
    if x0 is None:
        state = initial_state(net, dynamics, generator.standard_normal((n, 1)))
    elif as_tensor(x0).dim() == 1:
        state = states(net, x0, "x0", what=what)
    else:
        raise ShapeError(f"{what}: x0 has shape {tuple(as_tensor(x0).shape)}; expected one state.")
    vectors = torch.linalg.qr(torch.from_numpy(generator.standard_normal((n, k))).to(state.device))[0]
    period = math.lcm(dynamics.drive.shape[1], u.shape[1])
    late = longest_delay(net.weights("input"), net.dt) - 1
    lead = -(-late // period) * period  # until all inputs under way are from after the start
    sequence = u.t().repeat((lead + period) // u.shape[1], 1)[:, :, None]
    drives = dynamics.drive.t().repeat((lead + period) // dynamics.drive.shape[1], 1)[:, :, None]
    every = [replace(dynamics, drive=drive) for drive in drives + input_currents(net, sequence)]
    before, rounds = math.ceil(transient / interval), math.ceil(steps / interval)
    logs = np.empty((rounds, k))
    t = 0
    for round_ in range(-before, rounds):
        for _ in range(interval):
            now = every[t if t < lead else lead + (t - lead) % period]
            vectors = now.tangent(state).step(vectors)
            state = now.step(state)
            t += 1
        if not bool(torch.isfinite(state).all()):
            text = f"{what}: the state is not finite after {t} steps; the dynamics grow."
            raise DivergenceError(text, t * net.dt, step=t)
        vectors, r = torch.linalg.qr(vectors)
        if round_ >= 0:
            logs[round_] = torch.diagonal(r).abs().clamp_min(1e-300).log().cpu().numpy()
    rates = logs / (interval * net.dt)
    time = np.arange(1, rounds + 1) * interval * net.dt
    history = np.cumsum(rates, axis=0) / np.arange(1, rounds + 1)[:, None]
    parts = np.array([part.mean(axis=0) for part in np.array_split(rates, min(10, rounds))])
    error = parts.std(axis=0, ddof=1) / np.sqrt(len(parts)) if len(parts) > 1 else np.full(k, np.nan)
    order = np.argsort(-history[-1], kind="stable")
    stored = np.unique(np.linspace(0, rounds - 1, min(rounds, 1000)).astype(int))
    history = history[:, order]
    return LyapunovSpectrum(history[-1], error[order], history[stored], time[stored], float(net.dt), n)
