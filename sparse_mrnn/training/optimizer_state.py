"""Let an optimiser's state follow the synapses when they are frozen, pruned or rewired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparse_mrnn.errors import OptimizerError
from sparse_mrnn.models.synapse_table import SynapseTable, follow
from sparse_mrnn.models.views import ParameterViews
from sparse_mrnn.models.weights import SparseWeights

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None


@dataclass(frozen=True, eq=False)
class _Watched:
    """A flat parameter and its views, and which entry of the old one each of the new one was (-1: none)."""

    parameter: nn.Parameter
    views: ParameterViews | None
    origin: Tensor

    def ranges(self) -> list[tuple[nn.Parameter, tuple[int, int]]]:
        """The parameters, and the ranges of the flat one that they are now."""
        whole = self.parameter, (0, self.parameter.numel())
        views = self.views
        return [whole] if views is None else [whole, *zip(views.parameters, views.bounds, strict=True)]


def rewrite_synapses(
    weights: SparseWeights, table: SynapseTable, optimizer: Optimizers, *, trained_gains: Tensor | None = None
) -> None:
    """Give ``weights`` the synapses of ``table``; an optimiser's moments go along, those of new ones are 0.

    ``table`` is made from ``weights.table()``. ``trained_gains``, of shape (gains,), says which shared gains
    are trained from now on; by default, as before.

    Raises
    ------
    OptimizerError
        If the state is not per synapse, as that of L-BFGS; nothing has changed then.
    """
    watched = [_Watched(weights.values, weights.views, table.origin[: table.trainable_synapses])]
    if weights.gains is not None and trained_gains is not None:
        slot = weights.gain_index[trained_gains]
        origin = torch.where(slot < weights.gains.numel(), slot, -1)
        watched.append(_Watched(weights.gains, weights.gain_views, origin))
    optimizers = [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else list(optimizer or ())
    moves: list[tuple[dict[str, Any], str, Callable[[tuple[int, int]], Tensor], int, int]] = []
    for one in optimizers:
        if isinstance(one, torch.optim.LBFGS) and one.state:  # one state, of all parameters
            raise _refusal(one, "the history of all parameters")
        for w, part in enumerate(watched):
            for k, (parameter, old) in enumerate(part.ranges()):
                state = one.state.get(parameter, {})
                for key, value in state.items():
                    if not isinstance(value, (Tensor, list, tuple)) or getattr(value, "shape", None) == ():
                        continue  # a step count
                    if not isinstance(value, Tensor) or value.shape != parameter.shape:
                        raise _refusal(one, repr(key))
                    moves.append((state, key, partial(_moved, value, part.origin, old), w, k))
    weights.set_table(table, trained_gains)
    now = [part.ranges() for part in watched]
    for state, key, move, w, k in moves:
        state[key] = move(now[w][k][1])


def _refusal(optimizer: torch.optim.Optimizer, what: str) -> OptimizerError:
    why = f"keeps {what}, which is not one number per synapse, so it cannot follow a change of the synapses"
    advice = "make a new optimiser afterwards and leave out optimizer="
    return OptimizerError(f"{type(optimizer).__name__} {why}; {advice}.")


def _moved(value: Tensor, origin: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """State of the synapses in the range ``new``, taken from the range ``old``; 0 for new synapses."""
    part = origin[new[0] : new[1]]
    inside = (part >= old[0]) & (part < old[1])
    return follow(value, torch.where(inside, part - old[0], -1).to(value.device))
