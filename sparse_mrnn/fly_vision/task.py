"""Optic flow from the light of hexagonal columns: edges, gratings and scenes in motion, as a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sparse_mrnn.checks import names_of, option, real_number, seed_number, whole_number
from sparse_mrnn.errors import TrainingError
from sparse_mrnn.fly_vision.lattice import hex_centres, hex_columns
from sparse_mrnn.fly_vision.moving_patterns import (
    GREY,
    Grating,
    MovingEdge,
    Pattern,
    Scene,
    check_acceptance,
    time_steps,
)

KINDS = ("edge", "grating", "scene")


class HexMotion(Dataset[tuple[Tensor, Tensor]]):
    """Sequences of light on the columns of an eye, and the optic flow they show.

    Item k is a pair of float32 tensors, ``light`` of shape (steps, columns), in [0, 1], and ``flow`` of shape
    (steps, columns, 2), columns per second to the right and up. Columns are ordered as `hex_columns`; light
    of step t is that at t dt. Item k is the same for the same arguments, on every machine.

    Each item is a pattern of a random kind in motion at constant velocity; see `MovingEdge` (bright or dark,
    starting between the rim and the centre), `Grating` and `Scene`.

    Parameters
    ----------
    length : int
        Number of items.
    extent : int
        Radius in columns: 3 extent (extent + 1) + 1 columns.
    duration, dt : float
        ms; round(duration / dt) steps.
    kinds : sequence of {"edge", "grating", "scene"}
    speeds : (float, float)
        Slowest and fastest, columns per second; their logarithms are uniform.
    directions : sequence of float, optional
        Degrees to choose from, 0 to the right and 90 up. Default: all.
    wavelengths : (float, float)
        Shortest and longest of gratings and scenes, columns.
    contrasts : (float, float)
        Least and largest contrast; see the patterns. Edges have the light 0.5 (1 + contrast) or 0.5 (1 -
        contrast) behind them.
    acceptance : float
        Full width at half maximum of a column's Gaussian receptive field, columns.
    noise : float
        Standard deviation of white noise on the light, which is then cut to [0, 1].
    seed : int

    Raises
    ------
    TrainingError
        If an argument is out of its range.
    GraphError
        If the extent is.

    Examples
    --------
    >>> data = HexMotion(100, extent=3, duration=400, dt=20)
    >>> light, flow = data[0]
    >>> light.shape, flow.shape
    (torch.Size([20, 37]), torch.Size([20, 37, 2]))
    >>> batches = torch.utils.data.DataLoader(data, batch_size=4)
    >>> next(iter(batches))[0].shape
    torch.Size([4, 20, 37])
    """

    def __init__(
        self,
        length: int,
        *,
        extent: int = 8,
        duration: float = 800.0,
        dt: float = 20.0,
        kinds: Sequence[str] = KINDS,
        speeds: tuple[float, float] = (4.0, 20.0),
        directions: Sequence[float] | None = None,
        wavelengths: tuple[float, float] = (4.0, 32.0),
        contrasts: tuple[float, float] = (0.2, 1.0),
        acceptance: float = 1.0,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.length = whole_number(length, "HexMotion: length", TrainingError)
        self.seed = seed_number(seed, TrainingError)
        names = names_of(kinds, "HexMotion: kinds", TrainingError)
        self.kinds = tuple(option(name, KINDS, "HexMotion: kind", TrainingError) for name in names)
        angles = None if directions is None else _numbers(directions)
        if angles is not None and not angles:
            raise TrainingError(f"HexMotion: directions is {directions!r}; give degrees, or None for all.")
        ranges = {"speeds": speeds, "wavelengths": wavelengths, "contrasts": contrasts}
        for name, ends in ranges.items():
            found, top = _numbers(ends), 1.0 if name == "contrasts" else math.inf
            least = "at least 0, up to 1" if name == "contrasts" else "above 0"
            if len(found) != 2 or not 0 <= found[0] <= found[1] <= top or (top > 1 and found[0] == 0):
                raise TrainingError(f"HexMotion: {name} is {ends!r}; give (least, largest), {least}.")
        self.noise = real_number(noise, "HexMotion: noise", TrainingError)
        if self.noise < 0:
            raise TrainingError(f"HexMotion: noise is {noise!r}; it must be at least 0.")
        self.columns = hex_columns(extent)
        self.centres, self.times = hex_centres(self.columns), time_steps(duration, dt)
        self.extent, self.acceptance = extent, check_acceptance(acceptance)
        self.speeds, self.wavelengths, self.contrasts = speeds, wavelengths, contrasts
        self.directions = angles

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pattern = self.pattern(index)
        light = pattern.light(self.centres, self.times, self.acceptance)
        if self.noise:
            noise = np.random.default_rng([self.seed, index % self.length, 1]).normal(size=light.shape)
            light = np.clip(light + self.noise * noise, 0, 1)
        flow = pattern.flow(self.centres, self.times)
        return torch.from_numpy(light).float(), torch.from_numpy(flow).float()

    def pattern(self, index: int) -> Pattern:
        """The pattern that moves in an item.

        Raises
        ------
        IndexError
            If the number is out of range.
        """
        if not -self.length <= index < self.length:
            raise IndexError(f"item {index} of a data set of {self.length}")
        rng = np.random.default_rng([self.seed, index % self.length, 0])
        kind = self.kinds[rng.integers(len(self.kinds))]
        angles = self.directions
        direction = rng.uniform(0, 360) if angles is None else float(rng.choice(angles))
        speed = math.exp(rng.uniform(*np.log(self.speeds)))
        contrast = rng.uniform(*self.contrasts)
        if kind == "edge":
            level = GREY + GREY * contrast * rng.choice([-1, 1])
            return MovingEdge(direction, speed, level, start=-rng.uniform(0, self.extent + 1))
        if kind == "grating":
            wavelength = math.exp(rng.uniform(*np.log(self.wavelengths)))
            return Grating(direction, speed, wavelength, contrast, phase=rng.uniform(0, 2 * math.pi))
        return Scene(direction, speed, contrast, int(rng.integers(2**32)), self.wavelengths)


def _numbers(values: object) -> tuple[float, ...]:
    """The values as finite numbers, or () if they are anything else."""
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return ()
    return tuple(found.tolist()) if found.ndim == 1 and np.isfinite(found).all() else ()
