"""Optimiser state that follows the synapses when they are frozen, pruned or rewired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparse_mrnn.errors import OptimizerError
from sparse_mrnn.models.synapse_table import SynapseTable, follow
from sparse_mrnn.models.weights import SparseWeights

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None


def rewrite_synapses(weights: SparseWeights, table: SynapseTable, optimizer: Optimizers) -> None:
    """Give ``weights`` the synapses of ``table``; an optimiser's moments go along, those of new ones are 0.

    Raises
    ------
    OptimizerError
        If the state is not per synapse, as that of L-BFGS; nothing has changed then.
    """
    views = weights.views
    watched: list[tuple[nn.Parameter, tuple[int, int]]] = [(weights.values, (0, weights.values.numel()))]
    if views is not None:
        watched += zip(views.parameters, views.bounds, strict=True)
    optimizers = [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else list(optimizer or ())
    pending: list[tuple[dict[str, Any], str, Callable[[tuple[int, int]], Tensor], int]] = []
    origin = table.origin[: table.trainable_synapses]
    for one in optimizers:
        if isinstance(one, torch.optim.LBFGS) and one.state:  # one state, of all parameters
            raise _refusal(one, "the history of all parameters")
        for k, (parameter, old) in enumerate(watched):
            state = one.state.get(parameter, {})
            for key, value in state.items():
                if not isinstance(value, (Tensor, list, tuple)) or getattr(value, "shape", None) == ():
                    continue  # a step count
                if not isinstance(value, Tensor) or value.shape != parameter.shape:
                    raise _refusal(one, repr(key))
                pending.append((state, key, partial(_moved, value, origin, old), k))
    weights.set_table(table)
    now = [(0, weights.values.numel()), *(views.bounds if views is not None else [])]
    for state, key, move, k in pending:
        state[key] = move(now[k])


def _refusal(optimizer: torch.optim.Optimizer, what: str) -> OptimizerError:
    return OptimizerError(
        f"{type(optimizer).__name__} keeps {what}, which is not one number per synapse, so it cannot follow "
        "a change of the synapses; make a new optimiser afterwards and leave out optimizer=."
    )


def _moved(value: Tensor, origin: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """State of the synapses in the range ``new``, from that of the range ``old``; 0 where there was none."""
    part = origin[new[0] : new[1]]
    inside = (part >= old[0]) & (part < old[1])
    return follow(value, torch.where(inside, part - old[0], -1).to(value.device))
