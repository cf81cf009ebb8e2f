"""Optimiser state that follows the synapses when they are frozen, pruned or rewired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparse_mrnn.errors import OptimizerError
from sparse_mrnn.models.synapses import SynapseTable, follow
from sparse_mrnn.models.weights import SparseWeights

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None


def change(weights: SparseWeights, table: SynapseTable, optimizer: Optimizers) -> None:
    """Give ``weights`` the synapses of ``table``; moments of ``optimizer`` go with them, those of new synapses are 0.

    Raises
    ------
    OptimizerError
        If the state is not per synapse, as that of L-BFGS; nothing has changed then.
    """
    leaves = weights.leaves
    watched: list[tuple[nn.Parameter, tuple[int, int]]] = [(weights.values, (0, weights.values.numel()))]
    if leaves is not None:
        watched += zip(leaves.parameters, leaves.bounds, strict=True)
    optimizers = [] if optimizer is None else [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else list(optimizer)
    pending: list[tuple[dict[str, Any], str, Callable[[tuple[int, int]], Tensor], int]] = []
    origin = table.origin[: table.n_trainable]
    for one in optimizers:
        if isinstance(one, torch.optim.LBFGS) and one.state:  # one state for all parameters, kept at the first
            raise _refusal(one, "the history of all parameters")
        for place, (parameter, old) in enumerate(watched):
            state = one.state.get(parameter, {})
            for key, value in state.items():
                if value is None or not isinstance(value, (Tensor, list, tuple)) or (isinstance(value, Tensor) and value.dim() == 0):
                    continue  # a step count
                if not isinstance(value, Tensor) or value.shape != parameter.shape:
                    raise _refusal(one, repr(key))
                pending.append((state, key, _mover(value, origin, old), place))
    weights.set_table(table)
    now = [(0, weights.values.numel()), *(leaves.bounds if leaves is not None else [])]
    for state, key, move, place in pending:
        state[key] = move(now[place])


def _refusal(optimizer: torch.optim.Optimizer, what: str) -> OptimizerError:
    return OptimizerError(
        f"{type(optimizer).__name__} keeps {what}, which is not one number per synapse, so it cannot follow a change of "
        "the synapses; make a new optimiser afterwards and leave out optimizer=."
    )


def _mover(value: Tensor, origin: Tensor, old: tuple[int, int]) -> Callable[[tuple[int, int]], Tensor]:
    def move(new: tuple[int, int]) -> Tensor:
        part = origin[new[0] : new[1]]
        inside = (part >= old[0]) & (part < old[1])
        return follow(value, torch.where(inside, part - old[0], -1).to(value.device))

    return move
