"""Measures of Lappalainen et al. 2024: direction selectivity, preferred directions, flash responses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sparse_mrnn.checks import whole_number
from sparse_mrnn.errors import TrainingError
from sparse_mrnn.fly_vision.lattice import hex_centres, hex_columns, hex_extent
from sparse_mrnn.fly_vision.moving_patterns import (
    GREY,
    MovingEdge,
    check_acceptance,
    check_motion,
    time_steps,
)
from sparse_mrnn.fly_vision.tuning import adapted_state, central_units, direction_tuning
from sparse_mrnn.models.leaky import mRNN

Floats = NDArray[np.float64]

LED = 2.25 / 5.8
"""Width of a light of the arena over the angle between columns: an edge moves from light to light."""
POSITIONS = 21
"""Positions of an edge, from 10 lights before the centre to 10 beyond it."""
SPEEDS = (2.4, 4.8, 9.7, 13.0, 19.0, 25.0)
"""Speeds of the edges of flyvis, columns per second."""
HEXAGON = 0.62
"""Acceptance, columns: the Gaussian has the variance of a hexagonal column, over which flyvis averages."""
GREY_TIME = 2000.0
"""Grey before a stimulus, ms."""
STATES = 1536
"""States of the network that are computed at once: trials times steps."""

PREFERRED_DIRECTIONS = {
    "T4a": 180.0, "T4b": 0.0, "T4c": 90.0, "T4d": 270.0, "T5a": 180.0, "T5b": 0.0, "T5c": 90.0, "T5d": 270.0,
}  # fmt: skip
"""Preferred directions of T4 to bright edges and of T5 to dark ones, degrees (Maisak et al. 2013)."""

POLARITY = {
    **dict.fromkeys(("R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "L5", "C3", "CT1(M10)", "Mi1",
                     "Mi4", "Tm3", "T4a", "T4b", "T4c", "T4d"), 1),
    **dict.fromkeys(("L1", "L2", "L3", "L4", "CT1(Lo1)", "Mi9", "Tm1", "Tm2", "Tm4", "Tm9",
                     "T5a", "T5b", "T5c", "T5d"), -1),
}  # fmt: skip
"""Known polarity of 32 cell types, 1 for ON and -1 for OFF, as in flyvis (Lappalainen et al. 2024)."""


def angular_distance(a: ArrayLike, b: ArrayLike) -> Floats:
    """Distance of directions, degrees in [0, 180].

    Parameters
    ----------
    a, b : array
        Degrees; shapes that broadcast.

    Examples
    --------
    >>> angular_distance([350, 90], [10, 270]).tolist()
    [20.0, 180.0]
    """
    difference: Floats = np.abs((np.asarray(a, float) - np.asarray(b, float) + 180) % 360 - 180)
    return difference


@dataclass(frozen=True, eq=False)
class MotionResponses:
    """Peak responses to moving edges in the central column.

    Parameters
    ----------
    regions : tuple of str
    levels : ndarray, shape (levels,)
        Light behind the edge: 1 bright (ON), 0 dark (OFF).
    speeds : ndarray, shape (speeds,)
        Columns per second.
    directions : ndarray, shape (directions,)
        Degrees, 0 to the right and 90 up.
    peaks : ndarray, shape (regions, levels, speeds, directions)
        Largest rectified potential, max(x, 0), while the edge moves.
    """

    regions: tuple[str, ...]
    levels: Floats
    speeds: Floats
    directions: Floats
    peaks: Floats

    def selectivity(self) -> Floats:
        """Direction selectivity index, averaged over speeds, shape (regions, levels).

        |sum r exp(i angle)| / sum r, where the sum below the line is the larger one of the two polarities.
        """
        angles = np.exp(1j * np.radians(self.directions))
        length, total = np.abs(self.peaks @ angles), self.peaks.sum(axis=3).max(axis=1, keepdims=True)
        index: Floats = (length / (total + 1e-15)).mean(axis=2)
        return index

    def preferred_directions(self) -> Floats:
        """Preferred direction of the responses summed over speeds, shape (regions, levels).

        Degrees in [0, 360), or NaN without any response.
        """

        def preferred(curve: Floats) -> float:
            return direction_tuning(self.directions, curve).preferred

        found: Floats = np.apply_along_axis(preferred, 2, self.peaks.sum(axis=2))
        return found


@torch.no_grad()
def motion_responses(
    net: mRNN,
    regions: Sequence[str] | None = None,
    *,
    levels: Sequence[float] = (0.0, 1.0),
    speeds: Sequence[float] = SPEEDS,
    directions: Sequence[float] = tuple(range(0, 360, 30)),
    acceptance: float = HEXAGON,
    rest: Tensor | None = None,
) -> MotionResponses:
    """Peak responses to the moving edges of flyvis, all speeds, polarities and directions.

    An edge appears 10 lights of 2.25 degrees before the centre, and moves in as many steps beyond it. Unlike
    those of `edge_responses`, the responses are not relative to the response to grey. flyvis renders columns
    that are 15% farther apart to the left and right; here neighbours are at one distance.

    Parameters
    ----------
    net : mRNN
        Its inputs are the light of the columns of a hexagon, ordered as `hex_columns`.
    regions : sequence of str, optional
        Regions with a unit in the central column. Default: all of them.
    levels : sequence of float in [0, 1]
        Light behind the edge.
    speeds : sequence of float
        Columns per second, above 0.
    directions : sequence of float
        Degrees, 0 to the right and 90 up, all round the circle.
    acceptance : float
        See `HexMotion`.
    rest : Tensor, shape (units,), optional
        The state before. Default: `adapted_state` after two seconds of grey.

    Raises
    ------
    TrainingError
        If a region has no unit in the central column, or an argument is out of its range.
    GraphError
        If the inputs are not the columns of a hexagon.
    UnknownNameError
        If a region does not exist.

    References
    ----------
    Lappalainen et al. 2024, Nature 634:1132; Gruntman et al. 2018, Nat. Neurosci. 21:250.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("R1", 7, positions=hex_centres(hex_columns(1)))
    >>> g.add_input("light", 7)
    >>> g.add_projection("light", "R1", rule=sm.OneToOne(), initializer=sm.Constant(1.0))
    >>> found = motion_responses(sm.mRNN(g, dt=10, tau=50, device="cpu"), ["R1"])
    >>> found.peaks.shape, found.selectivity().round(3).tolist()
    ((1, 2, 6, 12), [[0.0, 0.0]])
    """
    centres = hex_centres(hex_columns(hex_extent(net.layout("input").n)))
    units = central_units(net, regions, "motion_responses")
    if not (len(levels) and len(speeds) and len(directions)):
        raise TrainingError("motion_responses: levels, speeds and directions need at least one value each.")
    for direction, speed in itertools.product(directions, speeds):
        check_motion("motion_responses", direction, speed)
        if speed == 0:
            raise TrainingError("motion_responses: a speed is 0; it must be above 0 columns per second.")
    width = check_acceptance(acceptance)
    at = np.arange(POSITIONS, dtype=np.float64) * LED * 1000  # ms at one column per second
    start = -(POSITIONS // 2) * LED
    shown = [MovingEdge(angle, 1.0, level, start) for level in levels for angle in directions]
    light = np.stack([edge.light(centres, at, width) for edge in shown])  # (trials, positions, columns)
    slowest = np.argsort(np.asarray(speeds, dtype=float), kind="stable")
    where = [_positions(speeds[k], net.dt) for k in slowest]
    steps, trials = [len(own) for own in where], len(shown)
    state = (adapted_state(net, duration=GREY_TIME) if rest is None else rest).expand(len(steps) * trials, -1)
    index = torch.tensor(list(units.values()), device=net.device)
    peaks = np.zeros((len(steps), trials, len(units)))
    begin = 0
    while begin < steps[0]:
        moving = sum(count > begin for count in steps)  # the slowest ones, which come first
        end = min(steps[moving - 1], begin + max(1, STATES // (moving * trials)))
        inp = np.concatenate([light[:, own[begin:end]] for own in where[:moving]])
        x = _run(net, inp, state[: moving * trials])
        found = x[..., index].clamp(min=0).amax(dim=1).double().cpu().numpy()
        peaks[:moving] = np.maximum(peaks[:moving], found.reshape(moving, trials, -1))
        state, begin = x[:, -1], end
    shape = (len(steps), len(levels), len(directions), len(units))
    ordered = peaks[np.argsort(slowest)].reshape(shape).transpose(3, 1, 0, 2)
    lights, fast, angles = (np.asarray(values, dtype=np.float64) for values in (levels, speeds, directions))
    return MotionResponses(tuple(units), lights, fast, angles, ordered)


def _positions(speed: float, dt: float) -> NDArray[np.int64]:
    """Position of the edge in every step, 0 to POSITIONS - 1, resampled as flyvis does."""
    steps = max(int(POSITIONS * LED / speed * 1000 / dt), 1)
    return np.linspace(0, POSITIONS - 1, steps).astype(np.int64)


def _run(net: mRNN, light: Floats, state: Tensor) -> Tensor:
    """Pre-activations, shape (trials, steps, units), for light of shape (trials, steps, columns)."""
    inp = torch.from_numpy(light).to(device=net.device, dtype=net.dtype)
    x: Tensor = net(inp if net.batch_first else inp.transpose(0, 1), state, checkpoint_steps=None)[0]
    return x if net.batch_first else x.transpose(0, 1)


@dataclass(frozen=True, eq=False)
class FlashResponses:
    """Responses to a bright and a dark flash in the central column.

    Parameters
    ----------
    regions : tuple of str
    times : ndarray, shape (times,)
        ms after the flash begins; the first is 0, the state under grey.
    on, off : ndarray, shape (regions, times)
        Pre-activation during the flash of light 1, and of light 0.
    """

    regions: tuple[str, ...]
    times: Floats
    on: Floats
    off: Floats

    def index(self) -> Floats:
        """Flash response index, -1 (OFF) to 1 (ON), shape (regions,).

        (peak on - peak off) / (peak on + peak off) after |least value of both| was added to both, as in
        flyvis.
        """
        least = np.abs(np.minimum(self.on.min(axis=1), self.off.min(axis=1)))
        on, off = self.on.max(axis=1) + least, self.off.max(axis=1) + least
        found: Floats = (on - off) / (on + off + 1e-16)
        return found


@torch.no_grad()
def flash_responses(
    net: mRNN,
    regions: Sequence[str] | None = None,
    *,
    radius: int = 6,
    duration: float = 1000.0,
    rest: Tensor | None = None,
) -> FlashResponses:
    """Responses to a flash on grey, bright in one trial and dark in the other.

    Parameters
    ----------
    net : mRNN
        Its inputs are the light of the columns of a hexagon, ordered as `hex_columns`.
    regions : sequence of str, optional
        Regions with a unit in the central column. Default: all of them.
    radius : int
        Columns around the centre that flash, at least 0; 6 are about 35 degrees.
    duration : float
        ms.
    rest : Tensor, shape (units,), optional
        The state before. Default: `adapted_state` after two seconds of grey.

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
    >>> flash_responses(sm.mRNN(g, dt=10, tau=50, device="cpu")).index().round(3).tolist()
    [0.333]
    """
    columns = hex_columns(hex_extent(net.layout("input").n))
    units = central_units(net, regions, "flash_responses")
    radius = whole_number(radius, "flash_responses: radius", TrainingError, least=0)
    steps = len(time_steps(duration, net.dt))
    lit = np.abs(np.column_stack([columns, columns.sum(axis=1)])).max(axis=1) <= radius
    light = np.where(lit, np.array([1.0, 0.0])[:, None, None], GREY)
    start = adapted_state(net, duration=GREY_TIME) if rest is None else rest
    x = _run(net, np.broadcast_to(light, (2, steps, len(columns))).copy(), start.expand(2, -1))
    index = torch.tensor(list(units.values()), device=net.device)
    seen = torch.cat([start[index].expand(2, 1, -1), x[..., index]], dim=1).double().cpu().numpy()
    on, off = seen.transpose(0, 2, 1)
    return FlashResponses(tuple(units), np.arange(steps + 1, dtype=np.float64) * net.dt, on, off)
