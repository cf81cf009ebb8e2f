"""Past activity for delayed products: a ring buffer per range of units, each as long as its own longest delay."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class History:
    """The last activities of ranges of units.

    Parameters
    ----------
    ranges : sequence of (start, stop, length)
        Units ``start:stop`` are kept for ``length`` steps. Ranges do not overlap.
    h : Tensor, shape (units, batch)
        Activity at the start, which also stands for all time before.

    Examples
    --------
    >>> h = torch.tensor([[1.0], [2.0], [3.0]])
    >>> past = History([(1, 3, 2)], h)
    >>> past.push(10 * h); past.push(20 * h)
    >>> out = torch.empty(2, 1)
    >>> past.gather([0], 2, out)
    >>> out.ravel().tolist()
    [20.0, 30.0]
    """

    def __init__(self, ranges: Sequence[tuple[int, int, int]], h: Tensor) -> None:
        self.ranges = tuple(ranges)
        self.rings = [h[start:stop].expand(length, -1, -1).contiguous() for start, stop, length in self.ranges]
        self.count = 0

    def push(self, h: Tensor) -> None:
        """Add the newest activity."""
        for ring, (start, stop, length) in zip(self.rings, self.ranges, strict=True):
            ring[self.count % length].copy_(h[start:stop])
        self.count += 1

    def gather(self, members: Sequence[int], delay: int, out: Tensor) -> None:
        """Write the activity of some ranges ``delay`` steps ago (1: the newest) below each other into ``out``."""
        torch.cat([self.rings[k][(self.count - delay) % self.ranges[k][2]] for k in members], out=out)

    @property
    def nbytes(self) -> int:
        """Memory of the rings."""
        return sum(ring.nbytes for ring in self.rings)
