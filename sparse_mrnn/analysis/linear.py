"""The linearisation of a network at a state: sparse Jacobians, modes, responses between regions, Gramians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from sparse_mrnn.analysis.dynamics import (
    Dynamics,
    effective_weights,
    selected_units,
    states,
    warn_of_kinks,
)
from sparse_mrnn.analysis.gmres import solve_shifted
from sparse_mrnn.analysis.gramian import Gramian, low_rank_gramian
from sparse_mrnn.analysis.result import Complex, Float, Result
from sparse_mrnn.analysis.sampling import input_currents
from sparse_mrnn.errors import AnalysisError, ShapeError
from sparse_mrnn.models.delays import longest_delay
from sparse_mrnn.models.electrical import refuse_electrical
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.ops.pattern import to_scipy
from sparse_mrnn.plot.figure import Axes, axes_or_new
from sparse_mrnn.spectral import leading_eigenpairs
from sparse_mrnn.spectral.krylov import to_torch


@dataclass(frozen=True, eq=False, repr=False)
class Modes(Result):
    """Leading eigenpairs of a Jacobian.

    Parameters
    ----------
    eigenvalues : ndarray of complex, shape (modes,)
        The leading one first; those of a step are dimensionless, those of the flow per ms.
    vectors : ndarray of complex, shape (units, modes)
        Right eigenvectors of unit length.
    participation : ndarray, shape (modes, regions)
        Share of each region in ``|vector|^2``; a row sums to 1.
    timescale : ndarray, shape (modes,)
        Time in which a mode shrinks or grows by a factor of e, ms, at least 0; infinite at the border of
        stability.
    grows : ndarray of bool, shape (modes,)
        True if the mode grows.
    frequency : ndarray, shape (modes,)
        Frequency of its oscillation, Hz.
    unit_region : ndarray of str, shape (units,)
    region : ndarray of str, shape (regions,)
    kind : {"step", "flow"}
    """

    eigenvalues: Annotated[Complex, "mode"]
    vectors: Annotated[Complex, "unit", "mode"]
    participation: Annotated[Float, "mode", "region"]
    timescale: Annotated[Float, "mode"]
    grows: Annotated[NDArray[np.bool_], "mode"]
    frequency: Annotated[Float, "mode"]
    unit_region: Annotated[NDArray[np.str_], "unit"]
    region: Annotated[NDArray[np.str_], "region"]
    kind: str

    COORDINATES: ClassVar[tuple[str, ...]] = ("region", "unit_region")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the regions' shares in each mode, with eigenvalues and time constants beside them."""
        ax = axes_or_new(ax, (3 + 0.5 * len(self.region), 2.4 + 0.3 * len(self.eigenvalues)))
        drawn = ax.imshow(self.participation, cmap="cividis", vmin=0, aspect="auto")
        values = [value if value.imag else value.real for value in self.eigenvalues.tolist()]
        rows = [
            f"{value:.3g}, {time:.3g} ms{f', {f:.2g} Hz' if f else ''}{' (grows)' if grows else ''}"
            for value, time, grows, f in zip(values, self.timescale, self.grows, self.frequency, strict=True)
        ]
        ax.set_yticks(range(len(rows)), rows, fontsize=8)
        ax.set_xticks(range(len(self.region)), self.region, rotation=45, ha="right", fontsize=8)
        unit = " (1/ms)" if self.kind == "flow" else ""
        ax.set(xlabel="region", ylabel=f"eigenvalue{unit}, time")
        ax.figure.colorbar(drawn, ax=ax, label="share")
        return ax


@dataclass(frozen=True, eq=False)
class Linearization:
    """The linear dynamics of small deviations from a state; made by `linearize`.

    Parameters
    ----------
    dynamics : Dynamics
        Dynamics of the regions analysed, the others held.
    state : Tensor, shape (units, 1)
        State of the units analysed.
    of : {"x", "h"}
        Coordinates of the Jacobian.
    speed : float
        Euclidean norm of the velocity at the state: 0 at a fixed point.
    kinks : ndarray of bool, shape (units,)
        Units at a kink of their activation, where the derivative of one side is used.
    region : ndarray of str, shape (units,)
        The region of each.
    dt : float
        Time step of the network, ms.
    net : mRNN or ElmanmRNN
        The network that was linearised.
    """

    dynamics: Dynamics = field(repr=False)
    state: Tensor = field(repr=False)
    of: str
    speed: float
    kinks: NDArray[np.bool_] = field(repr=False)
    region: NDArray[np.str_] = field(repr=False)
    dt: float
    net: mRNNBase = field(repr=False)

    @property
    def units(self) -> NDArray[np.int64]:
        """Numbers of the units analysed, in the network."""
        return np.asarray(self.dynamics.units.cpu().numpy())

    @property
    def regions(self) -> list[str]:
        """Names of the regions analysed, in unit order."""
        return list(dict.fromkeys(self.region.tolist()))

    def jacobian(self, kind: str = "step") -> sp.csr_array:
        """The Jacobian, shape (units, units): of one time step (dimensionless), or of the flow (per ms)."""
        return self.dynamics.jacobian(self.state, kind, self.of)

    def torch_jacobian(self, kind: str = "step") -> Tensor:
        """The Jacobian as a torch CSR tensor."""
        return to_torch(self.jacobian(kind))

    def operator(self, kind: str = "step") -> LinearOperator:
        """The Jacobian as a scipy LinearOperator with products of both sides."""
        w = self.jacobian(kind)
        left, right = w.T.__matmul__, w.__matmul__
        return LinearOperator(w.shape, matvec=right, rmatvec=left, matmat=right, dtype=w.dtype)

    def input_jacobian(self, kind: str = "step") -> sp.csr_array:
        """Derivative by the inputs, shape (units, inputs): alpha W_inp of a step, W_inp / tau of the flow.

        If projections have delays, it is the derivative by the input of the step that each transmits.
        """
        return self._scaled_rows("input", kind)

    def held_jacobian(self, kind: str = "step") -> sp.csr_array:
        """Derivative by the activity of held units, shape (units, units of the network); 0 by the others."""
        why = "its current depends on the state of held units, and not on their activity"
        refuse_electrical(self.net.electrical, "held_jacobian", why, AnalysisError)
        matrix = self._scaled_rows("recurrent", kind)
        held = np.ones(matrix.shape[1])
        held[self.units] = 0
        return sp.csr_array(matrix @ sp.diags_array(held))

    def _scaled_rows(self, weights: str, kind: str) -> sp.csr_array:
        """Weights to the units analysed, times what a current changes."""
        pattern, values = effective_weights(self.net.weights(weights))
        matrix = to_scipy(pattern.matrix(values))[self.units]
        return sp.csr_array(sp.diags_array(self._rate(kind)) @ matrix)

    def _rate(self, kind: str) -> Float:
        """Change per current to each unit, shape (units,): of x, alpha or 1 / tau; of h, f' times as much."""
        rate = self.dynamics.rate(kind)
        return rate * self._slope[:, 0] if self.of == "h" else rate

    @property
    def _slope(self) -> Float:
        """f' of each unit, shape (units, 1)."""
        return np.asarray(self.dynamics.slope(self.state).cpu().numpy())

    def modes(self, k: int = 6, kind: str = "step", which: str | None = None, **options: Any) -> Modes:
        """Leading eigenpairs, by `sparse_mrnn.spectral`: certified, or an error.

        Parameters
        ----------
        k : int
        kind : {"step", "flow"}
        which : {"LM", "LR", "SR", "LI"}, optional
            Default: largest modulus of a step, largest real part of the flow.
        **options
            Options of `sparse_mrnn.spectral_search`: rtol, max_seconds, ...

        Raises
        ------
        SpectralConvergenceError
        """
        which = which or ("LM" if kind == "step" else "LR")
        values, vectors = leading_eigenpairs(self.jacobian(kind), k, which, vectors=True, **options)
        x = np.zeros((len(self.region), len(values)), dtype=complex) if vectors is None else vectors
        names = self.regions
        share = np.stack([(np.abs(x[self.region == name]) ** 2).sum(0) for name in names], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.log(values.astype(complex)) / self.dt if kind == "step" else values
            border = np.abs(rate.real) < 1e-15
            timescale = np.where(border, np.inf, 1 / np.abs(rate.real))
        frequency = 1000 * np.abs(np.where(np.isfinite(rate.imag), rate.imag, 0)) / (2 * np.pi)
        grows = ~border & (rate.real > 0)
        return Modes(values, x, share, timescale, grows, frequency, self.region, np.array(names), kind)

    def response(self, source: Any, times: Sequence[float] | Float, *, step: bool = False) -> Float:
        """Deviation of every unit over time after a small current into a source.

        Parameters
        ----------
        source : str, or array of shape (units,) or (units, columns)
            A region: the same current to all its units, of unit length. An input: a column for each channel.
            Or the pattern itself.
        times : sequence of float
            ms, rounded to time steps.
        step : bool
            A current that stays on; else a pulse of one time step.

        Returns
        -------
        ndarray, shape (times, units, columns)
        """
        arriving = self._source(source, "step")
        jacobian = self.jacobian("step")
        ms = np.asarray(times, dtype=np.float64)
        if not (ms >= 0).all():
            raise AnalysisError("response: times must not be negative.")
        at = np.round(ms / self.dt).astype(np.int64)
        deviation = np.zeros_like(arriving[0])
        found = np.zeros((len(at), *deviation.shape))
        for t in range(int(at.max(initial=0)) + 1):
            found[at == t] = deviation
            drive = arriving[: t + 1].sum(axis=0) if step else arriving[t] if t < len(arriving) else 0
            deviation = jacobian @ deviation + drive
        return found

    def transfer_function(self, frequencies: Any, source: Any, target: Any = None) -> Complex:
        """Response to small sinusoidal currents, of the continuous flow: (2 pi i f - J)^-1 B.

        An input that arrives d time steps later than without delay is turned by exp(-2 pi i f d dt).

        Parameters
        ----------
        frequencies : array of float
            Hz.
        source : as for `response`
        target : str or sequence of str, optional
            Units of these regions only. Default: all analysed.

        Returns
        -------
        ndarray of complex, shape (frequencies, units, columns)
            Amplitude and phase of each unit for a current of amplitude 1.

        Raises
        ------
        AnalysisError
            If an undamped mode has one of the frequencies, or the systems cannot be solved.
        """
        arriving = self._source(source, "flow")
        rows = np.arange(len(self.units)) if target is None else self._rows(target)
        shifts = 2j * np.pi * np.atleast_1d(np.asarray(frequencies, dtype=np.float64)) / 1000
        jacobian = self.jacobian("flow")
        late = self.dt * np.arange(len(arriving))
        drives = [np.tensordot(np.exp(-shift * late), arriving, 1) for shift in shifts]
        solved = (solve_shifted(jacobian, *each)[rows] for each in zip(shifts, drives, strict=True))
        return np.stack(list(solved))

    def gain(self, frequency: float = 0.0) -> Float:
        """Response of each region to each region: root of the summed squares over the target's units.

        Returns
        -------
        ndarray, shape (regions, regions)
            Row: target; column: source, which gets a current of unit length spread evenly.
        """
        names = self.regions
        whole = np.concatenate([self.transfer_function(frequency, name)[0] for name in names], axis=1)
        return np.stack([np.linalg.norm(whole[self.region == name], axis=0) for name in names])

    def controllability(self, source: Any, *, rtol: float = 1e-6, rank: int = 300) -> Gramian:
        """Gramian ``sum_t J^t B B^T J^Tt``: where currents into a source can bring the state.

        Parameters
        ----------
        source : as for `response`
        rtol : float
            Residual of the Lyapunov equation, relative to ``|B B^T|``.
        rank : int
            Dimensions of the subspace at most.

        Raises
        ------
        AnalysisError
            If a step is not stable, the rank does not suffice, or projections of an input have different
            delays.
        """
        arriving = self._source(source, "step")
        steps = np.flatnonzero(arriving.any(axis=(1, 2)))
        if len(steps) > 1:
            raise AnalysisError(f"controllability: projections of {source!r} have different delays.")
        drive = arriving[steps[0] if len(steps) else 0]  # when it arrives does not matter
        return low_rank_gramian(self.jacobian("step"), drive, self.region, rtol, rank)

    def observability(self, target: Any, *, rtol: float = 1e-6, rank: int = 300) -> Gramian:
        """Gramian ``sum_t J^Tt C^T C J^t``: how much of a deviation the activity of a target shows.

        Parameters
        ----------
        target : str, or array of shape (units,) or (units, columns)
            A region: its mean activity, 1 / n for each of its n units, times f' in the coordinates x. Or the
            readout's weights of the deviations.
        rtol, rank
            See `controllability`.
        """
        readout = self._pattern(target)
        if isinstance(target, str):
            readout = readout / np.sqrt(np.count_nonzero(readout))
            if self.of == "x":  # a deviation of x changes the activity by f' of it
                readout = readout * self._slope
        transposed = sp.csr_array(self.jacobian("step").T)
        return low_rank_gramian(transposed, readout, self.region, rtol, rank)

    def _rows(self, names: Any) -> NDArray[np.int64]:
        chosen = selected_units(self.net, names, what="linearize").cpu().numpy()
        rows = np.flatnonzero(np.isin(self.units, chosen))
        if len(rows) != len(chosen):
            raise AnalysisError(f"{names!r} is held here; linearize with regions that contain it.")
        return rows

    def _source(self, source: Any, kind: str) -> Float:
        """Current into the units as it enters the Jacobian's dynamics, shape (steps, units, columns).

        The first step has what arrives without delay; the others what a delayed input brings later.
        """
        rate = self._rate(kind)[:, None]
        if not (isinstance(source, str) and self.net.kind_of(source) == "input"):
            return (rate * self._pattern(source))[None]
        channels = self.net.layout("input").indices(source)
        steps = longest_delay(self.net.weights("input"), self.net.dt)
        pulse = self.state.new_zeros(steps, self.net.layout("input").n, len(channels))
        pulse[0, channels, np.arange(len(channels))] = 1
        arriving = input_currents(self.net, pulse)[:, self.dynamics.units]
        return np.asarray(rate * arriving.cpu().numpy())

    def _pattern(self, source: Any) -> Float:
        if isinstance(source, str):
            rows = self._rows(source)
            pattern = np.zeros((len(self.units), 1))
            pattern[rows] = 1 / np.sqrt(len(rows))
            return pattern
        pattern = np.asarray(source, dtype=np.float64)
        if pattern.ndim not in (1, 2) or len(pattern) != len(self.units):
            expected = f"({len(self.units)},) or ({len(self.units)}, columns)"
            raise ShapeError(f"a pattern has shape {pattern.shape}; expected {expected}, or a region's name.")
        return pattern.reshape(len(pattern), -1)


def linearize(
    net: mRNNBase, state: Any, inputs: Any = None, *,
    regions: Any = None, of: str | None = None, stim: Any = None,
) -> Linearization:
    """Linearise a network, without noise, at a state under constant input.

        x (mRNN), a step:   dx[t+1] = (1 + alpha (W diag(f'(x)) - 1)) dx[t]
        h (ElmanmRNN):      dh[t+1] = diag(f'(W h + drive)) W dh[t]

    The flow, per ms, is (W diag(f') - 1) / tau; of an Elman net, the difference between two steps over dt.
    In the other coordinates (``of``) W and diag(f') change sides: dh = f' dx, exact at a fixed point, the
    same eigenvalues.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
        Without delays of more than a time step.
    state : array, shape (units,)
        x of an mRNN, h of an ElmanmRNN, of the whole network.
    inputs, stim
        See `find_fixed_points`; one column.
    regions : str or sequence of str, optional
        Regions or parents to analyse; the others keep their activity. Default: all.
    of : {"x", "h"}, optional
        Coordinates of the deviations. Default: those of the state.

    Returns
    -------
    Linearization

    Raises
    ------
    AnalysisError, ShapeError, UnknownNameError
        If the network has delays, or an argument does not fit it.

    Warns
    -----
    KinkWarning
        If units lie at a kink of their activation: the derivative of one side is used.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2, sign=None)
    >>> g.add_projection("a", "a", weights=np.array([[0.0, -2.0], [2.0, 0.0]]))
    >>> at_rest = linearize(sm.mRNN(g, "tanh", device="cpu"), [0.0, 0.0])
    >>> at_rest.jacobian("flow").toarray().round(3).tolist()   # tau = 100 ms
    [[-0.01, -0.02], [0.02, -0.01]]
    >>> at_rest.modes(2, "flow").frequency.round(2).tolist()   # Hz
    [3.18, 3.18]
    """
    if of not in (None, "x", "h"):
        raise AnalysisError(f"linearize: of is {of!r}; use 'x' or 'h'.")
    units = selected_units(net, regions, what="linearize")
    whole = Dynamics.of(net, inputs, stim, what="linearize")
    at = states(net, state, "state", what="linearize")
    if at.shape[1] != 1 or whole.drive.shape[1] != 1:
        columns = max(at.shape[1], whole.drive.shape[1])
        raise ShapeError(f"linearize: takes one state and one input; got {columns}. Call it for each.")
    dynamics, own = whole.restricted(units, at), at[units]
    kinks = dynamics.kinks(own)[:, 0].cpu().numpy()
    region = net.layout().labels()[0][units.cpu().numpy()]
    if kinks.any():
        counts = {name: (kinks & (region == name)).sum() for name in dict.fromkeys(region[kinks].tolist())}
        names = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:5])
        names += f" and {len(counts) - 5} regions more" if len(counts) > 5 else ""
        warn_of_kinks(f"linearize: units of {names}")
    speed = float(dynamics.velocity(own).norm())
    return Linearization(dynamics, own, of or dynamics.equation.coordinate, speed, kinks, region, net.dt, net)
