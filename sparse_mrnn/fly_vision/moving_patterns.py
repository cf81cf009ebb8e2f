"""Moving patterns as columns of an eye see them: edges, gratings and scenes, with their optic flow.

A pattern moves over the plane of `hex_centres` at a constant velocity, on a grey of 0.5. A column's light is
the average over its receptive field, a Gaussian whose full width at half maximum is the acceptance angle
(Götz 1964, Kybernetik 2:77). The average is exact, without pixels: of an edge it is the normal distribution
function, of a wave with wave number k and a Gaussian of standard deviation s the wave times
exp(-(k s)^2 / 2).

Lengths are distances between neighbouring columns (about 5 degrees in Drosophila), directions are degrees
from x (to the right) towards y (up), speeds are columns per second, times are ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from sparse_mrnn.checks import real_number, seed_number, whole_number
from sparse_mrnn.errors import TrainingError

Floats = NDArray[np.float64]

GREY = 0.5
"""Light of the background."""
EDGE_REACH = 1.0
"""Distance from an edge, in columns, up to which columns see it move."""


class Pattern(Protocol):
    """A pattern that `HexMotion` shows: light and flow of columns over time."""

    def light(self, centres: Floats, times: Floats, acceptance: float) -> Floats:
        """Light of columns, shape (times, columns), in [0, 1]."""

    def flow(self, centres: Floats, times: Floats) -> Floats:
        """Velocity seen by columns, shape (times, columns, 2), columns per second."""


@dataclass(frozen=True)
class MovingEdge:
    """A straight edge, across its direction of motion, that leaves the plane brighter or darker behind.

    Its flow is its velocity at columns up to `EDGE_REACH` from it, and 0 elsewhere, where nothing changes.

    Parameters
    ----------
    direction, speed : float
    level : float in [0, 1]
        Light behind the edge: 1 for a bright (ON) edge, 0 for a dark (OFF) one.
    start : float
        Position at time 0, columns from the centre along its direction.

    Examples
    --------
    >>> edge = MovingEdge(0, speed=10, start=-1)
    >>> centres, times = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([0.0, 100.0, 200.0])
    >>> edge.light(centres, times, acceptance=1.0).round(2).tolist()
    [[0.5, 0.5], [0.75, 0.5], [1.0, 0.75]]
    """

    direction: float
    speed: float
    level: float = 1.0
    start: float = 0.0

    def __post_init__(self) -> None:
        check_motion("MovingEdge", self.direction, self.speed, start=self.start)
        if not 0 <= self.level <= 1:
            raise TrainingError(f"MovingEdge: level is {self.level!r}; light lies between 0 and 1.")

    def passed(self, centres: Floats, times: Floats) -> Floats:
        """Distance of the edge beyond each column, shape (times, columns)."""
        at = self.start + self.speed * times / 1000
        past: Floats = at[:, None] - centres @ unit_vector(self.direction)
        return past

    def light(self, centres: Floats, times: Floats, acceptance: float) -> Floats:
        """Implement `Pattern`."""
        behind: Floats = ndtr(self.passed(centres, times) / blur_width(acceptance))
        return GREY + (self.level - GREY) * behind

    def flow(self, centres: Floats, times: Floats) -> Floats:
        """Implement `Pattern`."""
        near = np.abs(self.passed(centres, times)) <= EDGE_REACH
        return near[..., None] * self.speed * unit_vector(self.direction)


@dataclass(frozen=True)
class UniformMotion:
    """Base of patterns that move as a whole: every column sees their velocity at all times."""

    direction: float
    speed: float

    def flow(self, centres: Floats, times: Floats) -> Floats:
        """Implement `Pattern`."""
        velocity = self.speed * unit_vector(self.direction)
        return np.broadcast_to(velocity, (len(times), len(centres), 2)).copy()


@dataclass(frozen=True)
class Grating(UniformMotion):
    """A sine grating that moves across its stripes.

    Parameters
    ----------
    direction, speed : float
    wavelength : float
        Columns.
    contrast : float in [0, 1]
        Michelson's contrast, before the average.
    phase : float
        Radians, at the centre at time 0.

    Examples
    --------
    >>> grating = Grating(90, speed=5, wavelength=10)
    >>> grating.light(np.zeros((1, 2)), np.array([0.0, 500.0, 1500.0]), 1.0).round(2).tolist()
    [[0.5], [0.02], [0.98]]
    """

    wavelength: float
    contrast: float = 1.0
    phase: float = 0.0

    def __post_init__(self) -> None:
        check_motion("Grating", self.direction, self.speed, phase=self.phase)
        if not (math.isfinite(self.wavelength) and self.wavelength > 0):
            raise TrainingError(f"Grating: wavelength is {self.wavelength!r}; it must be above 0 columns.")
        if not 0 <= self.contrast <= 1:
            raise TrainingError(f"Grating: contrast is {self.contrast!r}; it must lie between 0 and 1.")

    def light(self, centres: Floats, times: Floats, acceptance: float) -> Floats:
        """Implement `Pattern`."""
        wave = 2 * math.pi / self.wavelength
        seen = self.contrast * math.exp(-0.5 * (wave * blur_width(acceptance)) ** 2)
        along = centres @ unit_vector(self.direction) - (self.speed * times / 1000)[:, None]
        light: Floats = GREY + GREY * seen * np.sin(wave * along + self.phase)
        return light


@dataclass(frozen=True)
class Scene(UniformMotion):
    """A texture with the spectrum of natural scenes, in translation.

    It is a sum of plane waves of equal amplitude and random phase, in random directions, with the logarithms
    of their wavelengths uniform: between the shortest and the longest its amplitude falls as 1 / frequency
    (Field 1987, J. Opt. Soc. Am. A 4:2379). Light below 0 or above 1, after the average, is cut.

    Parameters
    ----------
    direction, speed : float
    contrast : float in [0, 1]
        Standard deviation of the light, over its mean, before the average.
    seed : int
        Seed of the texture.
    wavelengths : (float, float)
        Shortest and longest, columns.
    waves : int

    Examples
    --------
    >>> scene = Scene(180, speed=4, seed=1)
    >>> light = scene.light(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([0.0, 500.0]), 1.0)
    >>> bool(np.isclose(light[0, 1], light[1, 0]))
    True
    """

    contrast: float = 0.4
    seed: int = 0
    wavelengths: tuple[float, float] = (2.0, 32.0)
    waves: int = 200

    def __post_init__(self) -> None:
        check_motion("Scene", self.direction, self.speed)
        if not 0 <= self.contrast <= 1:
            raise TrainingError(f"Scene: contrast is {self.contrast!r}; it must lie between 0 and 1.")
        seed_number(self.seed, TrainingError)
        whole_number(self.waves, "Scene: waves", TrainingError)
        low, high = self.wavelengths
        if not (math.isfinite(high) and 0 < low <= high):
            which = f"wavelengths is {self.wavelengths!r}"
            raise TrainingError(f"Scene: {which}; give (shortest, longest) in columns, above 0.")

    def wave_vectors(self) -> tuple[Floats, Floats]:
        """Wave vectors, shape (waves, 2), radians per column, and phases, shape (waves,)."""
        rng = np.random.default_rng(self.seed)
        angle, phase = rng.uniform(0, 2 * math.pi, (2, self.waves))
        shortest, longest = (math.log(length) for length in self.wavelengths)
        length = np.exp(rng.uniform(shortest, longest, self.waves))
        return 2 * math.pi / length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), phase

    def light(self, centres: Floats, times: Floats, acceptance: float) -> Floats:
        """Implement `Pattern`."""
        vectors, phase = self.wave_vectors()
        seen = np.exp(-0.5 * (vectors**2).sum(axis=1) * blur_width(acceptance) ** 2)
        amplitude = GREY * self.contrast * math.sqrt(2 / self.waves) * seen
        velocity = self.speed * unit_vector(self.direction)
        moved = np.exp(-1j * np.outer(times / 1000, vectors @ velocity))  # (times, waves)
        still = np.exp(1j * (centres @ vectors.T + phase)) * amplitude  # (columns, waves)
        light: Floats = np.clip(GREY + (moved @ still.T).real, 0, 1)
        return light


def unit_vector(direction: float) -> Floats:
    """(x, y) of a direction in degrees.

    >>> unit_vector(90).round(6).tolist()
    [0.0, 1.0]
    """
    angle = math.radians(direction)
    return np.array([math.cos(angle), math.sin(angle)])


def blur_width(acceptance: float) -> float:
    """Standard deviation of a Gaussian with this full width at half maximum."""
    return acceptance / math.sqrt(8 * math.log(2))


def check_motion(what: str, direction: float, speed: float, **more: float) -> None:
    """Raise a TrainingError if a direction, a speed or another number is not finite."""
    for name, value in {"direction": direction, "speed": speed, **more}.items():
        real_number(value, f"{what}: {name}", TrainingError)
    if speed < 0:
        raise TrainingError(f"{what}: speed is {speed!r} columns per second; it must be at least 0.")


def check_acceptance(acceptance: float) -> float:
    """The acceptance angle over the angle between columns, checked."""
    if not (math.isfinite(acceptance) and acceptance > 0):
        raise TrainingError(f"acceptance is {acceptance!r}; it must be above 0, in columns.")
    return float(acceptance)


def time_steps(duration: float, dt: float) -> Floats:
    """Times of the steps of a stimulus, ms: 0, dt, ... up to but without its end."""
    if not (math.isfinite(dt) and dt > 0 and math.isfinite(duration) and duration >= dt):
        raise TrainingError(f"duration {duration!r} and dt {dt!r} are ms; a step must be above 0 and fit in.")
    return np.arange(round(duration / dt), dtype=np.float64) * dt
