"""Direction tuning: responses of cell types in the central column to moving edges, by direction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sparse_mrnn.errors import TrainingError
from sparse_mrnn.fly_vision.lattice import hex_centres, hex_columns, hex_extent, hex_positions
from sparse_mrnn.fly_vision.moving_patterns import GREY, MovingEdge, check_acceptance, time_steps
from sparse_mrnn.models.leaky import mRNN

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EdgeResponses:
    """Responses to moving edges in the central column.

    Parameters
    ----------
    regions : tuple of str
    directions : ndarray, shape (directions,)
        Degrees, 0 to the right and 90 up.
    times : ndarray, shape (times,)
        ms after the edge crosses the centre.
    x, h : ndarray, shape (regions, directions, times)
        Pre-activation and activity of the unit of each region in the central column.
    rest_x, rest_h : ndarray, shape (regions,)
        The same under grey.
    """

    regions: tuple[str, ...]
    directions: Floats
    times: Floats
    x: Floats
    h: Floats
    rest_x: Floats
    rest_h: Floats

    def peaks(self) -> Floats:
        """Largest activity over time above that under grey, at least 0, shape (regions, directions)."""
        above: Floats = (self.h - self.rest_h[:, None, None]).max(axis=2)
        return np.maximum(above, 0)

    def tuning(self) -> dict[str, DirectionTuning]:
        """Direction tuning of the peaks of each region."""
        peaks = self.peaks()
        return {name: direction_tuning(self.directions, peaks[k]) for k, name in enumerate(self.regions)}


@dataclass(frozen=True)
class DirectionTuning:
    """Preferred direction and selectivity of a tuning curve.

    Parameters
    ----------
    preferred : float
        Preferred direction, degrees in [0, 360); NaN without any response.
    selectivity : float
        Direction selectivity index, from 0 (none) to 1 (one direction only).
    """

    preferred: float
    selectivity: float


def direction_tuning(directions: ArrayLike, responses: ArrayLike) -> DirectionTuning:
    """Preferred direction and direction selectivity index: angle and length of sum r exp(i angle) / sum r.

    Parameters
    ----------
    directions : array, shape (directions,)
        Degrees, all round the circle.
    responses : array, shape (directions,)
        At least 0.

    Raises
    ------
    TrainingError
        If the shapes differ, or a response is negative or not finite.

    References
    ----------
    Mazurek, Kager & Van Hooser 2014, Front. Neural Circuits 8:92.

    Examples
    --------
    >>> direction_tuning([0, 90, 180, 270], [0.0, 2.0, 0.0, 1.0])
    DirectionTuning(preferred=90.0, selectivity=0.3333333333333333)
    """
    angles, sizes = np.radians(np.asarray(directions, dtype=float)), np.asarray(responses, dtype=float)
    if angles.ndim != 1 or angles.shape != sizes.shape or not np.isfinite(angles).all():
        shapes = f"directions {angles.shape} and responses {sizes.shape}"
        raise TrainingError(f"direction_tuning: {shapes} must be finite and have one length.")
    if not (np.isfinite(sizes).all() and (sizes >= 0).all()):
        raise TrainingError("direction_tuning: a response is negative or not finite; take peaks above rest.")
    total = sizes.sum()
    if total == 0:
        return DirectionTuning(math.nan, 0.0)
    vector = (sizes * np.exp(1j * angles)).sum() / total
    preferred = round(math.degrees(np.angle(vector)), 9) % 360
    return DirectionTuning(preferred, float(abs(vector)))


@torch.no_grad()
def adapted_state(net: mRNN, light: float = GREY, duration: float = 1000.0) -> Tensor:
    """Pre-activation of every unit after constant light in all columns, shape (units,).

    Parameters
    ----------
    net : mRNN
    light : float
    duration : float
        ms, from the network's initial state on.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("R1", 7); g.add_input("light", 7)
    >>> g.add_projection("light", "R1", rule=sm.OneToOne(), initializer=sm.Constant(1.0))
    >>> round(adapted_state(sm.mRNN(g, dt=10, tau=50, device="cpu"))[0].item(), 6)
    0.5
    """
    steps = len(time_steps(duration, net.dt))
    inp = torch.full((1, steps, net.layout("input").n), light, device=net.device, dtype=net.dtype)
    inp = inp if net.batch_first else inp.transpose(0, 1)
    x: Tensor = net(inp, net.batched_initial_condition(1)[0], checkpoint_steps=None)[0]
    return x[0, -1] if net.batch_first else x[-1, 0]


@torch.no_grad()
def edge_responses(
    net: mRNN,
    regions: Sequence[str] | None = None,
    *,
    directions: Sequence[float] = tuple(range(0, 360, 30)),
    speed: float = 10.0,
    level: float = 1.0,
    before: float = 500.0,
    after: float = 500.0,
    acceptance: float = 1.0,
) -> EdgeResponses:
    """Responses to edges that cross the whole eye, after the network has adapted to grey for a second.

    Parameters
    ----------
    net : mRNN
        Its inputs are the light of the columns of a hexagon, ordered as `hex_columns`.
    regions : sequence of str, optional
        Regions with a unit in the central column. Default: all of them.
    directions : sequence of float
        Degrees, 0 to the right and 90 up.
    speed : float
        Columns per second.
    level : float in [0, 1]
        Light behind the edge: 1 bright (ON), 0 dark (OFF).
    before, after : float
        ms before and after the edge crosses the centre.
    acceptance : float
        See `HexMotion`.

    Raises
    ------
    TrainingError
        If a region has no unit in the central column, or an argument is out of its range.
    GraphError
        If the inputs are not the columns of a hexagon.
    UnknownNameError
        If a region does not exist.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("R1", 7, positions=hex_centres(hex_columns(1)))
    >>> g.add_input("light", 7)
    >>> g.add_projection("light", "R1", rule=sm.OneToOne(), initializer=sm.Constant(1.0))
    >>> found = edge_responses(sm.mRNN(g, dt=10, tau=50, device="cpu"), ["R1"])
    >>> found.h.shape, round(found.tuning()["R1"].selectivity, 6)
    ((1, 12, 100), 0.0)
    """
    extent = hex_extent(net.layout("input").n)
    units = central_units(net, regions, "edge_responses")
    centres = hex_centres(hex_columns(extent))
    times = time_steps(before + after, net.dt) - before
    width = check_acceptance(acceptance)
    edges = [MovingEdge(direction, speed, level) for direction in directions]
    if not edges:
        raise TrainingError("edge_responses: directions is empty; give at least one, in degrees.")
    light = torch.from_numpy(np.stack([edge.light(centres, times, width) for edge in edges]))
    light = light.to(device=net.device, dtype=net.dtype)
    start = adapted_state(net)
    inp = light if net.batch_first else light.transpose(0, 1)
    states = net(inp, start.expand(len(edges), -1))
    index = torch.tensor(list(units.values()), device=net.device)
    batch = 0 if net.batch_first else 1

    def seen(part: Tensor) -> Floats:
        found: Floats = part[..., index].movedim(batch, 0).movedim(2, 0).double().cpu().numpy()
        return found

    rest_h = net.activation_segments.apply(start[:, None])[:, 0]
    rest = [part[index].double().cpu().numpy() for part in (start, rest_h)]
    angles = np.asarray(directions, dtype=np.float64)
    x, h = (seen(part) for part in states)
    return EdgeResponses(tuple(units), angles, times + net.dt, x, h, *rest)


def central_units(net: mRNN, regions: Sequence[str] | None, what: str) -> dict[str, int]:
    """Find the unit of each region in the central column; ``what`` needs them, an error says."""
    units, ptr = {}, dict(zip(net.hid_regions, net.layout().ptr.tolist(), strict=False))
    for name in net.hid_regions if regions is None else regions:
        positions = net[name].positions
        own = np.empty((0, 2)) if positions is None else hex_positions(positions)
        centre = np.flatnonzero((own == 0).all(axis=1))
        if len(centre):
            units[name] = ptr[name] + int(centre[0])
        elif regions is not None:
            raise TrainingError(f"{what}: region {name!r} has no unit in the central column, (0, 0).")
    if not units:
        raise TrainingError(f"{what}: no region has a unit in the central column of the lattice.")
    return units
