"""Fixed points: their states, their stability, and the starts that lead there.

Sussillo & Barak 2013, Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural
networks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.analysis.components import Plane, principal_plane
from sparse_mrnn.analysis.dynamics import Dynamics, constant_inputs, selected_units, warn_of_kinks
from sparse_mrnn.analysis.newton import SolverOptions, find_zeros
from sparse_mrnn.analysis.result import Float, Result
from sparse_mrnn.analysis.sampling import start_states
from sparse_mrnn.checks import Seed
from sparse_mrnn.errors import AnalysisError, ShapeError, SpectralConvergenceError
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.plot.figure import Axes, axes_or_new
from sparse_mrnn.spectral import leading_eigenpairs

MARGINAL = 1e-6
"""A leading eigenvalue this close to modulus 1 counts as marginal."""
LOOKS: dict[str, dict[str, Any]] = {
    "stable": dict(marker="o", color="#0072B2", s=60),
    "marginal": dict(marker="D", color="#E69F00", s=45),
    "unstable": dict(marker="X", color="#D55E00", s=55),
    "unknown": dict(marker="s", color="0.5", s=40),
}
"""Colours of Okabe & Ito (2008), told apart with colour blindness too; markers differ as well."""


@dataclass(frozen=True, eq=False, repr=False)
class FixedPoints(Result):
    """Fixed points of a network, the slowest first. ``len``, indexing and `filter` select some.

    Parameters
    ----------
    state : ndarray, shape (points, units)
        State that ``forward`` takes: x of an mRNN, h of an ElmanmRNN.
    x, h : ndarray, shape (points, units)
        Pre-activation and activity, of held regions too.
    inputs : ndarray, shape (points, inputs)
    speed, q : ndarray, shape (points,)
        Euclidean norm of the velocity v (see `Dynamics`) and ``|v|^2 / 2``.
    eigenvalues : ndarray of complex, shape (points, k)
        Leading eigenvalues of the Jacobian of one time step, of the regions analysed. NaN if not
        certified.
    stability : ndarray of str, shape (points,)
        "stable", "unstable", "marginal" (the leading modulus is 1 within 1e-6), or "unknown".
    kinks : ndarray of int, shape (points,)
        Units at a kink of their activation; the Jacobian takes the derivative of one side.
    outlier : ndarray of bool, shape (points,)
        Much farther from the middle of the starts than the starts are.
    starts_here : ndarray of int, shape (points,)
        How many starts led to the point.
    start_point, start_speed, start_steps, start_descents : ndarray, shape (starts,)
        For every start: the point it led to (-1: none), the last speed, Newton steps, gradient descents.
    region, unit_id : ndarray of str, shape (units,)
    regions : tuple of str
        The regions analysed; the others were held.
    tol : float
        Speed below which a state counted as a fixed point.
    """

    state: Annotated[Float, "point", "unit"]
    x: Annotated[Float, "point", "unit"]
    h: Annotated[Float, "point", "unit"]
    inputs: Annotated[Float, "point", "input"]
    speed: Annotated[Float, "point"]
    q: Annotated[Float, "point"]
    eigenvalues: Annotated[NDArray[np.complex128], "point", "k"]
    stability: Annotated[NDArray[np.str_], "point"]
    kinks: Annotated[NDArray[np.int64], "point"]
    outlier: Annotated[NDArray[np.bool_], "point"]
    starts_here: Annotated[NDArray[np.int64], "point"]
    start_point: Annotated[NDArray[np.int64], "start"]
    start_speed: Annotated[Float, "start"]
    start_steps: Annotated[NDArray[np.int64], "start"]
    start_descents: Annotated[NDArray[np.int64], "start"]
    region: Annotated[NDArray[np.str_], "unit"]
    unit_id: Annotated[NDArray[np.str_], "unit"]
    regions: tuple[str, ...]
    tol: float

    def __len__(self) -> int:
        return len(self.speed)

    def __getitem__(self, index: Any) -> FixedPoints:
        chosen = np.atleast_1d(np.arange(len(self))[index])
        new_number = np.full(len(self) + 1, -1)
        new_number[chosen] = np.arange(len(chosen))
        of_points = [name for name, dimensions in self.dimensions().items() if dimensions[0] == "point"]
        picked = {name: getattr(self, name)[chosen] for name in of_points}
        return replace(self, start_point=new_number[self.start_point], **picked)

    @property
    def stable(self) -> NDArray[np.bool_]:
        """Mask of the stable points, shape (points,)."""
        return np.asarray(self.stability == "stable")

    def filter(
        self, *, stability: str | None = None, outlier: bool | None = None, max_q: float | None = None
    ) -> FixedPoints:
        """The points of this stability, that are outliers or not, and whose q is at most ``max_q``."""
        keep = np.ones(len(self), dtype=bool)
        if stability is not None:
            if stability not in LOOKS:
                raise AnalysisError(f"filter: stability is {stability!r}; use one of {', '.join(LOOKS)}.")
            keep &= self.stability == stability
        if outlier is not None:
            keep &= self.outlier == outlier
        if max_q is not None:
            keep &= self.q <= max_q
        return self[np.flatnonzero(keep)]

    @property
    def diagnostics(self) -> str:
        """Sentence that says what was found from how many starts, and how near the others came."""
        starts, lost = len(self.start_point), int((self.start_speed > self.tol).sum())
        if lost == starts:
            found = f"no fixed point found from {starts} starts"
        else:
            kinds = [f"{(self.stability == kind).sum()} {kind}" for kind in LOOKS if kind in self.stability]
            points = f"{len(self)} fixed point{'s' if len(self) > 1 else ''}"
            found = f"{points} ({', '.join(kinds)}) from {starts} starts"
        if not lost:
            return f"{found}."
        left = np.where(self.start_speed > self.tol, self.start_speed, np.inf)
        least = int(np.argmin(left))
        steps, descents = self.start_steps[least], self.start_descents[least]
        return (
            f"{found}; {lost} did not reach |v| < {self.tol:g}: the slowest of them (start {least}) ended at "
            f"|v| = {left[least]:.2g} after {steps} Newton steps and {descents} gradient descents. Other "
            "starts, more rounds, or a larger tol (slow points) may help."
        )

    def plot(self, ax: Axes | None = None, plane: Plane | None = None, trajectories: Any = None) -> Axes:
        """Draw the points on a plane, by stability, and trajectories behind them.

        Parameters
        ----------
        ax : Axes, optional
        plane : Plane, optional
            Default: the first two principal components of the trajectories, or else of the points.
        trajectories : array, shape (trials, time, units), optional
            States.

        Raises
        ------
        AnalysisError
            If there is nothing to draw, or the points do not span a plane.
        """
        if not len(self):
            raise AnalysisError(f"there is nothing to draw: {self.diagnostics}")
        if plane is None:
            plane = principal_plane(self.state if trajectories is None else trajectories)
        ax = axes_or_new(ax, (5.4, 4.6))
        if trajectories is not None:
            for path in plane.project(trajectories).reshape(-1, np.shape(trajectories)[-2], 2):
                ax.plot(path[:, 0], path[:, 1], color="0.75", lw=0.5, zorder=0)
        draw_points(ax, plane.project(self.state), self.stability)
        ax.set(xlabel=plane.labels[0], ylabel=plane.labels[1])
        return ax


def draw_points(ax: Any, at: Float, stability: NDArray[np.str_]) -> None:
    """Draw fixed points at some coordinates of a plane, shape (points, 2), by stability, with a legend."""
    for kind, look in LOOKS.items():
        chosen = stability == kind
        if chosen.any():
            style = dict(edgecolors="white", linewidths=0.6, zorder=3) | look
            ax.scatter(*at[chosen].T, label=f"{kind} ({chosen.sum()})", **style)
    ax.legend(fontsize=8)


def find_fixed_points(
    net: mRNNBase, inputs: Any = None, *, x0: Any = None, regions: Any = None, stim: Any = None,
    starts: int = 64, unique: float = 1e-3, eigenvalues: int = 4, outlier_scale: float = 10.0,
    options: SolverOptions | None = None, seed: Seed = 0,
) -> FixedPoints:
    """Find fixed points of a network, without noise, under constant input.

    Newton steps go from every start; GMRES solves their linear systems with Jacobian-vector products on the
    sparse weights (LU, of up to 400 units). If they stall, gradient descent on q and Newton follow. All is in
    float64, whatever the network's dtype. Memory: 60 vectors per start and the synapses twice.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
        Without delays of more than a time step.
    inputs : array, shape (inputs,) or (starts, inputs), or mapping from input names, optional
        Constant input. Default: none.
    x0 : array, shape (..., units), optional
        Starts: x of an mRNN, h of an ElmanmRNN; see `sample_states` for some of trajectories. Default:
        ``starts`` states around the initial condition, each at a distance of its own, of up to 3 per unit.
    regions : str or sequence of str, optional
        Regions or parents to analyse; the others keep the activity they have in each start. Default: all.
    stim : array, shape (units,) or (starts, units), or mapping from regions to numbers, optional
        Constant current to the units.
    starts : int
        Number of starts, if ``x0`` is not given.
    unique : float
        Points whose coordinates all differ by less, under the same input, are one.
    eigenvalues : int
        Leading eigenvalues of each point's Jacobian to find, by `sparse_mrnn.spectral`; 0: none, stability
        "unknown".
    outlier_scale : float
        A point is an outlier if it lies more than this times as far from the mean start as a start does on
        average.
    options : SolverOptions, optional
        Tolerance (default: |v| < 1e-8) and limits.
    seed : int, numpy SeedSequence or Generator
        Draws the default starts.

    Returns
    -------
    FixedPoints
        Empty if none was found; its ``diagnostics`` say how near the search came.

    Raises
    ------
    AnalysisError
        If the network has delays, or the starts and inputs do not fit each other.
    ShapeError, UnknownNameError
        If a state, an input or a region does not fit the network.

    Warns
    -----
    KinkWarning
        If a point's Jacobian does not exist, because units lie at a kink of their activation.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 1, sign=None); g.add_projection("a", "a", weights=[[2.0]])
    >>> points = find_fixed_points(sm.mRNN(g, "tanh", device="cpu"))
    >>> points.x[points.stable, 0].round(3).tolist()
    [1.915, -1.915]
    """
    what, options = "find_fixed_points", options or SolverOptions()
    if eigenvalues < 0 or starts < 1:
        raise AnalysisError(f"{what}: eigenvalues must be at least 0 and starts at least 1.")
    units = selected_units(net, regions, what=what)
    dynamics = Dynamics.of(net, inputs, stim, what=what)
    begin = start_states(net, dynamics, x0, starts, seed, what=what)
    u = constant_inputs(net, inputs, what=what)
    columns = max(begin.shape[1], u.shape[1], dynamics.drive.shape[1])
    for name, size in (("x0", begin.shape[1]), ("inputs", u.shape[1]), ("stim", dynamics.drive.shape[1])):
        if size not in (1, columns):
            raise ShapeError(f"{what}: {name} has {size} columns, others {columns}; give one, or as many.")
    begin, u = begin.expand(-1, columns), u.expand(-1, columns)
    part = dynamics.restricted(units, begin)
    state = begin.clone()
    state[units], speed, steps, descents = find_zeros(part, begin[units], options)
    chosen, point = _unique(torch.cat([state, u]), speed, options.tol, unique)
    state, part, dynamics = state[:, chosen], part.columns(chosen), dynamics.columns(chosen)
    values = _eigenvalues(part, state[units], min(eigenvalues, len(units)))
    kinks = part.kinks(state[units]).sum(0)
    if bool(kinks.any()):
        at = torch.nonzero(kinks)[:, 0].tolist()
        points = ", ".join(map(str, at[:5]))
        warn_of_kinks(f"{what}: at fixed point {points}, {int(kinks.max())} units")
    region, unit_id = net.layout().labels()
    analysed = set(region[units.cpu().numpy()].tolist())

    def rows(tensor: Tensor) -> Any:
        return tensor.t().cpu().numpy()

    return FixedPoints(
        state=rows(state), x=rows(dynamics.preactivation(state)), h=rows(dynamics.activity(state)),
        inputs=rows(u[:, chosen]), speed=rows(speed[chosen]), q=rows(speed[chosen] ** 2 / 2),
        eigenvalues=values, stability=_stability(values), kinks=rows(kinks),
        outlier=_outliers(state, begin, outlier_scale),
        starts_here=np.bincount(point[point >= 0], minlength=len(chosen)),
        start_point=point, start_speed=rows(speed), start_steps=rows(steps), start_descents=rows(descents),
        region=region, unit_id=unit_id, tol=options.tol,
        regions=tuple(one.name for one in net.layout().regions if one.name in analysed),
    )


def _unique(rows: Tensor, speed: Tensor, tol: float, unique: float) -> tuple[Tensor, NDArray[np.int64]]:
    """The slowest column of each point, slowest first; and the point that each column reached, or -1."""
    point = np.full(len(speed), -1)
    chosen: list[int] = []
    for column in torch.argsort(speed).tolist():
        if not speed[column] <= tol:
            break
        near = (rows[:, chosen] - rows[:, column : column + 1]).abs().amax(0) < unique
        if not bool(near.any()):
            point[column] = len(chosen)
            chosen.append(column)
        else:
            point[column] = int(torch.nonzero(near)[0])
    return torch.tensor(chosen, dtype=torch.int64, device=rows.device), point


def _eigenvalues(dynamics: Dynamics, state: Tensor, k: int) -> NDArray[np.complex128]:
    """Leading eigenvalues of a step at every column; NaN if they cannot be certified."""
    values = np.full((state.shape[1], k), np.nan + 0j)
    for column in range(state.shape[1]) if k else ():
        index = torch.tensor([column], device=state.device)
        jacobian = dynamics.columns(index).jacobian(state[:, index])
        try:
            values[column] = leading_eigenpairs(jacobian, k, vectors=False)[0]
        except SpectralConvergenceError:
            continue
    return values


def _stability(values: NDArray[np.complex128]) -> NDArray[np.str_]:
    if values.shape[1] == 0:
        return np.full(len(values), "unknown")
    lead = np.abs(values[:, 0]) - 1
    kinds = [np.isnan(lead), np.abs(lead) <= MARGINAL, lead < 0]
    return np.select(kinds, ["unknown", "marginal", "stable"], "unstable")


def _outliers(state: Tensor, begin: Tensor, scale: float) -> NDArray[np.bool_]:
    middle = begin.mean(1, keepdim=True)
    typical = (begin - middle).norm(dim=0).mean()
    far = (state - middle).norm(dim=0) > scale * typical
    return np.asarray((far & (typical > 0)).cpu().numpy())
