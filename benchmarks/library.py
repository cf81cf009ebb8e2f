"""Tools of the scripts about this library's networks: ladders of random networks, times side by side."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sparse_mrnn import benchmark as b
from sparse_mrnn.benchmark.timing import SideBySide, stopwatch


def ladder(sizes: list[int], density: float, **run: Any) -> list[b.Case]:
    """Random two-region networks of several sizes; ``run`` are fields of `Case`, such as ``batch``."""
    kind = f"density {density:g}"
    makers = {n: partial(b.two_regions, n, density) for n in sizes}
    return [b.Case(f"{n:,} units, {kind}", make, group="units", **run) for n, make in makers.items()]


def density_ladder(units: int, densities: list[float], **run: Any) -> list[b.Case]:
    """Random two-region networks of several densities; ``run`` are fields of `Case`, such as ``batch``."""
    makers = {d: partial(b.two_regions, units, d) for d in densities}
    label = f"{units:,} units, density"
    return [b.Case(f"{label} {d:g}", make, group="density", **run) for d, make in makers.items()]


def side_by_side(
    runs: Mapping[str, Callable[[], object]], repeats: int, order: random.Random, device: str = "cpu"
) -> dict[str, b.Timing]:
    """Time functions alternately in this process, in a new random order in every round; by name.

    From seven rounds on, `Ratio` tells functions apart. On CUDA, the clock waits for the work to be done.
    """
    timed = SideBySide(runs, order, stopwatch(device))
    timed.run(repeats)
    return timed.timings()
