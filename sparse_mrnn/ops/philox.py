"""Numbered random words: each has a number and a key, and no state, so they can be drawn in any order.

A word of 32 bits is drawn by Philox4x32-10 (Salmon et al. 2011, SC '11, doi:10.1145/2063384.2063405) from
(unit, step, trial) and a key. What a unit draws thus does not depend on threads, on ranks, or on how a run
is cut. Counts follow from words by the inverse of their distribution function, as `Levels` has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words = NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Levels:
    """A distribution of whole numbers: ``least``, and one more for each level that does not exceed a word.

    Level m is 2^32 P(N <= least + m), rounded; levels of 2^32 are left out, so what has a probability below
    2^-33 does not occur.

    Examples
    --------
    >>> Levels.of([0.25, 0.75, 1.0], least=1).counts(np.array([0, 2**31, 2**32 - 1], np.uint32)).tolist()
    [1, 2, 3]
    """

    least: int
    levels: Words

    @classmethod
    def of(cls, cumulative: ArrayLike, least: int = 0) -> Levels:
        """Make the levels of P(N <= least), P(N <= least + 1), ...."""
        scaled = np.rint(np.asarray(cumulative, dtype=np.float64) * 2.0**32)
        first = int(np.searchsorted(scaled, 0, side="right"))  # numbers that are never drawn come before
        return cls(least + first, scaled[first:][scaled[first:] < 2.0**32].astype(np.uint32))

    @classmethod
    def poisson(cls, mean: float) -> Levels:
        """Make the levels of a Poisson distribution."""
        from scipy.special import pdtr

        return cls.of(pdtr(np.arange(int(mean + 40 * np.sqrt(mean) + 40)), mean))

    @classmethod
    def normal(cls, mean: float, std: float) -> Levels:
        """Make the levels of a normal number that is rounded, and drawn again while that is below 1."""
        from scipy.special import ndtr

        last = max(1, int(mean + 8 * std + 2))
        bounds = (np.arange(last + 1) + 0.5 - mean) / std
        below = ndtr(bounds[0])
        return cls.of(np.append((ndtr(bounds[1:]) - below) / (1 - below), 1.0), least=1)

    @property
    def most(self) -> int:
        """Largest number that is drawn."""
        return self.least + len(self.levels)

    def counts(self, words: Words) -> NDArray[np.int64]:
        """Return the numbers that words stand for."""
        return self.least + np.searchsorted(self.levels, words, side="right")


def words(units: ArrayLike, step: ArrayLike, trial: ArrayLike, key: Words) -> Words:
    """Return a word for each unit, step and trial, which are broadcast.

    Word i % 4 of the counter (i // 4, step, step >> 32, trial) is that of unit i.

    Examples
    --------
    >>> key = np.array([1, 2], np.uint32)
    >>> bool(words(np.arange(8), 3, 0, key)[5] == words(5, 3, 0, key))
    True
    """
    unit, time, own = np.broadcast_arrays(*(np.asarray(a, dtype=np.uint64) for a in (units, step, trial)))
    low, shift = np.uint64(2**32 - 1), np.uint64(32)
    c0, c1, c2, c3 = unit // np.uint64(4), time & low, time >> shift, own
    k0, k1 = (np.uint64(word) for word in key)
    for _ in range(10):
        first, second = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (second >> shift) ^ c1 ^ k0, second & low, (first >> shift) ^ c3 ^ k1, first & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    which = (unit % np.uint64(4)).astype(np.intp)
    found: Words = np.choose(which, (c0, c1, c2, c3)).astype(np.uint32)
    return found


def key_of(seeds: np.random.SeedSequence) -> Words:
    """Return a key from a stream of seeds."""
    return seeds.generate_state(2, np.uint32)  # type: ignore[return-value]
