"""The synapses of one delay, as the recurrence over a sequence and a simulation step both take them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparse_mrnn.ops.products.base import Operator


@dataclass(frozen=True, eq=False)
class DelayGroup:
    """The synapses of one delay.

    Parameters
    ----------
    delay : int
        Time steps; 1 is the next step, as without a delay.
    operator : Operator
        Of these synapses, over all source units.
    entries : Tensor of int, shape (synapses of the group,), or None
        Which of the matrix's stored values are theirs; None: all.
    sources : tuple of (start, stop)
        Ranges of units they come from.
    """

    delay: int
    operator: Operator
    entries: Tensor | None = None
    sources: tuple[tuple[int, int], ...] = ()

    def select(self, stored: Tensor) -> Tensor:
        """Their values among all stored ones."""
        return stored if self.entries is None else stored[self.entries]
