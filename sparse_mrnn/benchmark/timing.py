"""Times of functions run side by side, and if they tell two of them apart."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import bdtr

SAMPLE_S = 0.02
"""A sample repeats a run until it takes this long, so that the clock's resolution does not matter."""
CONFIDENCE = 0.98
EVEN = 1.1
"""Ratios of times between 1 / 1.1 and 1.1 are called equal."""

Clock = Callable[[Callable[[], object], int], float]
"""Seconds of one run of a function, from running it so many times."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one run: median and quartiles over the rounds.

    Parameters
    ----------
    median, q1, q3 : float
    rounds : tuple of float or None
        Each round's own; None where it was left out.
    """

    median: float
    q1: float
    q3: float
    rounds: tuple[float | None, ...]

    @property
    def spread(self) -> float:
        """Distance of the quartiles, as a part of the median."""
        return (self.q3 - self.q1) / self.median

    @classmethod
    def of(cls, seconds: Sequence[float | None]) -> Timing:
        """From the seconds of each round."""
        rounds = tuple(None if s is None else 1e3 * s for s in seconds)
        q1, median, q3 = np.percentile([r for r in rounds if r is not None], (25, 50, 75)).tolist()
        return cls(median, q1, q3, rounds)


@dataclass(frozen=True)
class Ratio:
    """Time of one function over that of another, by the rounds in which both ran.

    A round's ratio is free of what slows the whole round down, such as another process. The median ratio is
    between ``low`` and ``high`` with 98% confidence whatever the distribution, by order statistics; fewer
    than seven rounds give no such bounds, only the extremes.
    """

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, over: Timing, under: Timing) -> Ratio:
        """From two timings of one `SideBySide`.

        Examples
        --------
        >>> Ratio.of(Timing.of([2.0] * 7), Timing.of([1.0, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0]))
        Ratio(median=2.0, low=0.5, high=2.0, rounds=7)
        """
        pairs = zip(over.rounds, under.rounds, strict=False)
        ratios = sorted(a / b for a, b in pairs if a is not None and b is not None)
        n = len(ratios)
        cut = max((k for k in range(n // 2) if bdtr(k, n, 0.5) <= (1 - CONFIDENCE) / 2), default=0)
        return cls(float(np.median(ratios)), ratios[cut], ratios[n - 1 - cut], n)

    @property
    def few(self) -> bool:
        """True if the rounds are too few for bounds."""
        return 2 * 0.5**self.rounds > 1 - CONFIDENCE

    @property
    def verdict(self) -> str:
        """The first function is "slower", "faster", "even" with the second, or "unclear"."""
        if self.few:
            return "unclear"
        if self.low >= 1 / EVEN and self.high <= EVEN:
            return "even"
        return "slower" if self.low > 1 else "faster" if self.high < 1 else "unclear"


class SideBySide:
    """Times functions alternately in this process, in a new random order (drawn by ``order``) in every round.

    Each function runs once first, which says how often it runs in a sample.
    """

    def __init__(self, runs: Mapping[str, Callable[[], object]], order: random.Random, clock: Clock) -> None:
        self.runs, self.order, self.clock = runs, order, clock
        once = {name: max(clock(run, 1), 1e-9) for name, run in runs.items()}
        self.counts = {name: math.ceil(SAMPLE_S / seconds) for name, seconds in once.items()}
        self.samples: dict[str, list[float | None]] = {name: [] for name in runs}

    def run(self, rounds: int, names: Collection[str] | None = None) -> float:
        """Time all of the functions, or some, for so many rounds; the seconds that this took."""
        chosen, total = sorted(self.runs if names is None else names), 0.0
        collects = gc.isenabled()
        gc.disable()
        try:
            for _ in range(rounds):
                taken: dict[str, float] = {}
                for name in self.order.sample(chosen, len(chosen)):
                    taken[name] = self.clock(self.runs[name], self.counts[name])
                    total += taken[name] * self.counts[name]
                for name, seconds in self.samples.items():
                    seconds.append(taken.get(name))
        finally:
            if collects:
                gc.enable()
        return total

    def timings(self) -> dict[str, Timing]:
        """Timings of the rounds so far."""
        return {name: Timing.of(seconds) for name, seconds in self.samples.items()}


def stopwatch(device: str) -> Clock:
    """The clock of a device: on CUDA, it waits for the work to be done."""
    cuda = torch.device(device).type == "cuda"

    def clock(run: Callable[[], object], count: int) -> float:
        if cuda:
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        for _ in range(count):
            run()
        if cuda:
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) / count

    return clock
