"""Freezing projections and thawing them again, in the middle of training."""

from __future__ import annotations

from sparse_mrnn.models.base import mRNNBase
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.models.weights import SparseWeights
from sparse_mrnn.training.optimizer_state import Optimizers, rewrite_synapses
from sparse_mrnn.training.select import select


def freeze(
    net: mRNNBase, source: str | None, target: str | None, key: str | None = None,
    *, optimizer: Optimizers = None,
) -> None:
    """Stop training projections: their weights leave the parameters and take no optimiser state.

    The weights stay exactly as they are. Frozen projections stay so; a network that loads the ``state_dict``
    has them frozen, too.

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
        If there is no such projection.
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
    _set_trainable(*select(net, source, target, key), optimizer, False)


def unfreeze(
    net: mRNNBase, source: str | None, target: str | None, key: str | None = None,
    *, optimizer: Optimizers = None,
) -> None:
    """Train projections that were frozen, or declared with ``trainable=False``; arguments as `freeze`.

    The optimiser starts them without momentum, with their options in `parameter_groups`, where that was used.
    """
    _set_trainable(*select(net, source, target, key), optimizer, True)


def _set_trainable(
    weights: SparseWeights, names: list[ProjectionKey], optimizer: Optimizers, trainable: bool
) -> None:
    now = set(weights.projections[: weights.trainable_projections])
    after = now | set(names) if trainable else now - set(names)
    if after != now:
        rewrite_synapses(weights, weights.in_declared_order(weights.table(), after.__contains__), optimizer)
