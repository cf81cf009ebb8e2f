"""Flow fields: the velocity of a network on a plane through its state space, and of its linearisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_mrnn.analysis.components import Plane, axes_plane, plane_of, principal_plane
from sparse_mrnn.analysis.dynamics import Dynamics, as_tensor, selected_units, states
from sparse_mrnn.analysis.fixed_points import FixedPoints, draw_points
from sparse_mrnn.analysis.result import Float, Result
from sparse_mrnn.errors import AnalysisError, ShapeError
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.plot.figure import Axes, axes_or_new

COLUMNS = 2**22
"""Entries of a batch of states at most."""


@dataclass(frozen=True, eq=False, repr=False)
class FlowField(Result):
    """Velocities on a grid of a plane, for one state of the other regions after the other.

    Parameters
    ----------
    axis1, axis2 : ndarray, shape (columns,), (rows,)
        Coordinates of the grid.
    velocity, linear : ndarray, shape (fields, rows, columns, 2)
        Projected velocity, in units of the state per ms; and that of the linearisation about ``about``.
    speed : ndarray, shape (fields, rows, columns)
        Length of the whole velocity, not of its projection alone, per ms.
    about : ndarray, shape (fields, 2)
        Coordinates of the state linearised about.
    time : ndarray of int, shape (fields,)
        Step of the trajectory that the other regions' state is from; -1 if they are fixed.
    trajectories : ndarray, shape (trials, steps, 2)
        On the plane.
    origin, basis : ndarray, shape (units,), (units, 2)
        The plane, in the states of the regions analysed.
    region : ndarray of str, shape (units,)
    labels : (str, str)
    """

    axis1: Annotated[Float, "column"]
    axis2: Annotated[Float, "row"]
    velocity: Annotated[Float, "field", "row", "column", "axis"]
    linear: Annotated[Float, "field", "row", "column", "axis"]
    speed: Annotated[Float, "field", "row", "column"]
    about: Annotated[Float, "field", "axis"]
    time: Annotated[NDArray[np.int64], "field"]
    trajectories: Annotated[Float, "trial", "step", "axis"]
    origin: Annotated[Float, "unit"]
    basis: Annotated[Float, "unit", "axis"]
    units: Annotated[NDArray[np.int64], "unit"]
    region: Annotated[NDArray[np.str_], "unit"]
    labels: tuple[str, str]

    @property
    def plane(self) -> Plane:
        """The plane, in the states of the regions analysed."""
        return Plane(self.origin, self.basis, self.labels)

    def plot(
        self, ax: Axes | None = None, field: int = 0, *, kind: Literal["stream", "quiver"] = "stream",
        linear: bool = False, fixed_points: FixedPoints | None = None,
    ) -> Axes:
        """Draw one field with the trajectories, and fixed points on the plane of all regions.

        Parameters
        ----------
        ax : Axes, optional
        field : int
            Which of the fields.
        kind : {"stream", "quiver"}
        linear : bool
            Draw the linearisation instead of the flow.
        fixed_points : FixedPoints, optional
        """
        if kind not in ("stream", "quiver"):
            raise AnalysisError(f"plot: kind is {kind!r}; use 'stream' or 'quiver'.")
        ax = axes_or_new(ax, (5.6, 4.6))
        flow = (self.linear if linear else self.velocity)[field]
        speed = np.linalg.norm(flow, axis=-1)
        shown = np.log10(np.maximum(speed, 1e-12 + 1e-6 * speed.max()))
        direction = flow / np.maximum(speed, 1e-300)[..., None]
        along1, along2 = direction[..., 0], direction[..., 1]
        drawn: Any
        if kind == "stream":
            style: dict[str, Any] = dict(color=shown, cmap="cividis", linewidth=0.7, density=1.2)
            drawn = ax.streamplot(self.axis1, self.axis2, along1, along2, **style).lines
        else:
            drawn = ax.quiver(self.axis1, self.axis2, along1, along2, shown, cmap="cividis")
        for path in self.trajectories:
            ax.plot(path[:, 0], path[:, 1], color="#CC79A7", lw=0.7, alpha=0.7)
        if fixed_points is not None and len(fixed_points):
            draw_points(ax, self.plane.project(fixed_points.state[:, self.units]), fixed_points.stability)
        ax.set(xlabel=self.labels[0], ylabel=self.labels[1])
        ax.set(xlim=(self.axis1[0], self.axis1[-1]), ylim=(self.axis2[0], self.axis2[-1]))
        ax.figure.colorbar(drawn, ax=ax, label="log10 of the speed on the plane, per ms")
        return ax


def flow_field(
    net: mRNNBase, trajectories: Any, inputs: Any = None, *, regions: Any = None,
    plane: str | Plane | Sequence[int] | Any = "pca", grid: int | tuple[int, int] = 20, margin: float = 0.2,
    others: Literal["fixed", "following"] | Any = "fixed", times: Sequence[int] | None = None,
    about: Any = None, stim: Any = None,
) -> FlowField:
    """The velocity of a network, without noise, on a plane through its state space.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
        Without delays of more than a time step.
    trajectories : array, shape (trials, steps, units) or (steps, units)
        States of the whole network: x of an mRNN, h of an ElmanmRNN. They span the plane and the grid.
    inputs, stim
        See `find_fixed_points`; one column.
    regions : str or sequence of str, optional
        Regions or parents whose states span the plane. Default: all.
    plane : "pca", Plane, (int, int), or array of shape (units, 2)
        Two principal components of the trajectories of the regions; a plane in their states; two of their
        units; or two vectors, through the mean state.
    grid : int or (int, int)
        Points along each axis.
    margin : float
        How far the grid reaches beyond the trajectories, as a share of their extent.
    others : "fixed", "following", or array of shape (units,)
        State of the other regions, and of the directions that the plane leaves out: the mean of the
        trajectories, that of the whole network given; or, "following", those of the first trajectory at
        ``times``, a field for each.
    times : sequence of int, optional
        Steps, for "following". Default: five, evenly spaced.
    about : array, shape (units,), optional
        State of the whole network to linearise about. Default: the state that the others are in.

    Returns
    -------
    FlowField

    Raises
    ------
    AnalysisError
        If the states or vectors do not span a plane, or the network has delays.
    ShapeError, UnknownNameError
        If an argument does not fit the network.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 3, sign=None); g.add_projection("a", "a")
    >>> net = sm.mRNN(g, "tanh", device="cpu", seed=0)
    >>> x, _ = net(torch.zeros(4, 20, 0), torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    >>> flow_field(net, x, grid=10).velocity.shape
    (1, 10, 10, 2)
    """
    what = "flow_field"
    given = as_tensor(trajectories)
    if given.dim() not in (2, 3):
        got = tuple(given.shape)
        raise ShapeError(f"{what}: trajectories have shape {got}; expected (trials, steps, units).")
    given = given[None] if given.dim() == 2 else given
    units = selected_units(net, regions, what=what)
    every = states(net, given, "trajectories", what=what)
    chosen = units.cpu().numpy()
    paths = every[units].t().reshape(*given.shape[:2], len(units)).cpu().numpy()
    region, unit_id = net.layout().labels()
    on = _plane(plane, paths, unit_id[chosen])
    coordinates = on.project(paths)
    low, high = coordinates.reshape(-1, 2).min(0), coordinates.reshape(-1, 2).max(0)
    reach = np.maximum(high - low, 1e-6 + 1e-6 * np.abs(high)) * margin
    counts = (grid, grid) if isinstance(grid, int) else tuple(grid)
    if min(counts) < 2:
        raise AnalysisError(f"{what}: grid is {grid!r}; it needs at least two points along each axis.")
    axes = [np.linspace(low[k] - reach[k], high[k] + reach[k], counts[k]) for k in (0, 1)]
    mesh = np.stack(np.meshgrid(*axes), axis=-1)
    held, steps = _held(net, every, given.shape[1], others, times)
    whole = Dynamics.of(net, inputs, stim, what=what)
    if whole.drive.shape[1] != 1:
        raise ShapeError(f"{what}: takes one input and one current; got {whole.drive.shape[1]}.")
    around = None if about is None else states(net, about, "about", what=what)
    fields = [_field(whole, units, on, mesh, state, around) for state in held]
    velocity, linear, speed, middle = (np.stack(part) for part in zip(*fields, strict=True))
    return FlowField(
        axis1=axes[0], axis2=axes[1], velocity=velocity, linear=linear, speed=speed, about=middle,
        time=steps, trajectories=coordinates, origin=on.origin, basis=on.basis, units=chosen,
        region=region[chosen], labels=on.labels,
    )


def _plane(plane: Any, paths: Float, unit_id: NDArray[np.str_]) -> Plane:
    mean = paths.reshape(-1, paths.shape[-1]).mean(axis=0)
    if isinstance(plane, Plane):
        if len(plane.origin) != len(mean):
            got = f"a plane of {len(plane.origin)} units, but the regions have {len(mean)}"
            raise ShapeError(f"flow_field: {got}.")
        return plane
    if isinstance(plane, str):
        if plane != "pca":
            raise AnalysisError(f"flow_field: plane is {plane!r}; use 'pca', two units, a basis or a Plane.")
        return principal_plane(paths)
    array = np.asarray(as_tensor(plane))
    if array.shape == (2,) and not (array % 1).any():
        return axes_plane(mean, array.astype(int).tolist(), unit_id.tolist())
    return plane_of(mean, array)


def _held(
    net: mRNNBase, every: Tensor, steps: int, others: Any, times: Any
) -> tuple[list[Tensor], NDArray[np.int64]]:
    """States of the whole network that the grid departs from, and the steps they are from."""
    if not isinstance(others, str):
        return [states(net, others, "others", what="flow_field")], np.array([-1])
    if others == "fixed":
        return [every.mean(1, keepdim=True)], np.array([-1])
    if others != "following":
        raise AnalysisError(f"flow_field: others is {others!r}; use 'fixed', 'following' or a state.")
    at = np.linspace(0, steps - 1, min(5, steps)).astype(int) if times is None else np.asarray(times)
    if at.ndim != 1 or not len(at) or (at < 0).any() or (at >= steps).any():
        raise AnalysisError(f"flow_field: times are {times!r}; the trajectory has steps 0 to {steps - 1}.")
    return [every[:, t : t + 1] for t in at.tolist()], at


def _field(
    whole: Dynamics, units: Tensor, plane: Plane, mesh: Float, held: Tensor, about: Tensor | None
) -> tuple[Float, Float, Float, Float]:
    """Velocity and linear velocity on the plane, speed, and coordinates of the state linearised about."""
    device = held.device
    part, own = whole.restricted(units, held), held[units]
    basis = torch.from_numpy(plane.basis).to(device)
    origin = torch.from_numpy(plane.origin).to(device)[:, None]
    rest = own - basis @ (basis.t() @ (own - origin))  # the state, moved on the plane to its origin
    center = own if about is None else about[units]
    there, tangent = part.velocity(center), part.tangent(center)
    points = torch.from_numpy(mesh.reshape(-1, 2)).to(device).t()
    pieces = []
    for piece in torch.split(points, max(1, COLUMNS // len(units)), dim=1):
        state = rest + basis @ piece
        velocity = part.velocity(state) / part.tau
        linear = (there + tangent.forward(state - center)) / part.tau
        pieces.append((basis.t() @ velocity, basis.t() @ linear, velocity.norm(dim=0)))
    shape = mesh.shape[:2]
    flow, line, speed = (torch.cat(part, dim=-1).cpu().numpy() for part in zip(*pieces, strict=True))
    middle = plane.project(center[:, 0])
    return flow.T.reshape(*shape, 2), line.T.reshape(*shape, 2), speed.reshape(shape), middle
