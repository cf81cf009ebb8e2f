"""Freeze projections and thaw them again, in the middle of training."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.errors import TrainingError
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.training.optimizer_state import Optimizers, rewrite_synapses
from sparse_mrnn.training.select import select


def freeze(
    net: mRNNBase, source: str | None, target: str | None, key: str | None = None,
    *, optimizer: Optimizers = None,
) -> None:
    """Stop training projections: their weights leave the parameters and take no optimiser state.

    If a projection shares gains, its gains are frozen; if it has low rank, its U and V, and if it is
    electrical, its conductances (an optimiser skips parameters without a gradient). The weights stay exactly
    as they are. Frozen projections stay frozen; a network that loads the ``state_dict`` has them frozen, too.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    source, target : str or None
        Regions, parents, or an input as source. None: any (recurrent) region.
    key : str, optional
        One of parallel projections. Default: all.
    optimizer : torch.optim.Optimizer or several, optional
        Whose moments follow the synapses. Needed if one exists and has made a step.

    Raises
    ------
    UnknownNameError
        If no projection matches.
    TrainingError
        If a projection shares its gain with one that is not chosen.
    OptimizerError
        If the optimiser's state is not per synapse; nothing has changed then.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 4); g.add_region("b", 4)
    >>> g.add_projection("a", "b"); g.add_projection("b", "a")
    >>> net = sm.mRNN(g, device="cpu", seed=0)
    >>> freeze(net, "a", "b"); net.rec.values.numel()
    16
    >>> unfreeze(net, "a", "b"); net.rec.values.numel()
    32
    """
    _set_trainable(net, source, target, key, optimizer, False)


def unfreeze(
    net: mRNNBase, source: str | None, target: str | None, key: str | None = None,
    *, optimizer: Optimizers = None,
) -> None:
    """Train projections that were frozen, or declared with ``trainable=False``.

    The optimiser starts them without momentum, with their options in `parameter_groups`, where that was used.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    source, target : str or None
        Regions, parents, or an input as source. None: any (recurrent) region.
    key : str, optional
        One of parallel projections. Default: all.
    optimizer : torch.optim.Optimizer or several, optional
        Which train them from now on. Needed if one exists and has made a step.

    Raises
    ------
    UnknownNameError, TrainingError, OptimizerError
        See `freeze`, which has an example.
    """
    _set_trainable(net, source, target, key, optimizer, True)


def _set_trainable(
    net: mRNNBase, source: str | None, target: str | None, key: str | None, optimizer: Optimizers,
    trainable: bool,
) -> None:
    ends = net.names.members, source, target, key
    electrical = [] if net.electrical is None else net.electrical.between(*ends)
    weights, names = select(net, source, target, key, optional=bool(electrical))
    chosen = set(names)
    now = weights.trained_projections
    after = now | chosen if trainable else now - chosen
    gains = _gains_after(weights, chosen, trainable)
    if after != now:
        table = weights.in_declared_order(weights.table(), after.__contains__)
        rewrite_synapses(weights, table, optimizer, trained_gains=gains)
    if weights.low_rank is not None:
        weights.low_rank.set_trainable(chosen, trainable)
    if net.electrical is not None and electrical:
        net.electrical.set_trainable(electrical, trainable)


def _gains_after(weights: SparseWeights, chosen: set[ProjectionKey], trainable: bool) -> Tensor:
    """Mask of the gains trained afterwards; gains of projections that are not chosen must not change."""
    trained = weights.trained_gains.cpu()
    selected = torch.zeros_like(trained)
    for name in chosen:
        selected[weights.gain_range(name)] = True
    changed = selected & (trained != trainable)
    for name in weights.projections:
        if name not in chosen and bool(changed[weights.gain_range(name)].any()):
            word = "unfreeze" if trainable else "freeze"
            shares = f"{projection_label(*name)} shares its gain with a projection to {word}"
            advice = f"{word} all that share it in one call, by a parent region's name or None"
            raise TrainingError(f"{word}: {shares}; {advice}.")
    return (trained ^ changed).to(weights.trained_gains.device)
