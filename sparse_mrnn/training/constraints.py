"""Bounds on weights, kept by a call after the optimiser's step.

Dale's law and the anatomical mask need no call: signs are part of the forward pass, and absent synapses have
no parameter.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from itertools import compress

import torch

from sparse_mrnn.declaration.graph import projection_label
from sparse_mrnn.errors import SkippedWarning, TrainingError
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.training.select import select, slices, trainable_only


@torch.no_grad()
def clamp_weights_(
    net: mRNNBase, high: float, source: str | None = None, target: str | None = None, key: str | None = None
) -> None:
    """Limit the magnitude of every trainable weight of some projections to ``high``, in place.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    high : float
        Largest magnitude, at least 0.
    source, target, key
        As `freeze`. Default: all recurrent projections.

    Raises
    ------
    UnknownNameError
        If there is no such projection.
    TrainingError
        If no projection has a trained parameter per synapse, or ``high`` is negative.

    Warns
    -----
    SkippedWarning
        If some of the projections share gains or have low rank: their weights are not limited.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 4); g.add_projection("a", "a", initializer=sm.Constant(3.0))
    >>> net = sm.mRNN(g, device="cpu", seed=0)
    >>> clamp_weights_(net, 0.5); net.W_rec.values().max().item()
    0.5
    """
    _check_bound("clamp_weights_", "high", high)
    for _, values in _own_values(net, "clamp_weights_", source, target, key):
        values.clamp_(-high, high)


@torch.no_grad()
def limit_norm_(
    net: mRNNBase, max_norm: float, source: str | None = None, target: str | None = None,
    key: str | None = None,
) -> dict[tuple[str, str, str], float]:
    """Scale the weights of every trainable projection to a Euclidean norm of at most ``max_norm``, in place.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    max_norm : float
        At least 0.
    source, target, key
        As `freeze`. Default: all recurrent projections.

    Returns
    -------
    dict
        The norm of each projection before.

    Raises
    ------
    UnknownNameError, TrainingError
        As `clamp_weights_`, which also says when a `SkippedWarning` is given.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2); g.add_projection("a", "a", initializer=sm.Constant(3.0))
    >>> net = sm.mRNN(g, device="cpu", seed=0)
    >>> limit_norm_(net, 1.0), net.W_rec.values().norm().item()
    ({('a', 'a', 'default'): 6.0}, 1.0)
    """
    _check_bound("limit_norm_", "max_norm", max_norm)
    norms = {}
    for name, values in _own_values(net, "limit_norm_", source, target, key):
        norms[name] = float(values.norm())
        if norms[name] > max_norm:
            values.mul_(max_norm / norms[name])
    return norms


def _own_values(
    net: mRNNBase, function: str, source: str | None, target: str | None, key: str | None
) -> Iterator[tuple[ProjectionKey, torch.Tensor]]:
    """Pair each projection with a view of its weights; warn of those without a weight per synapse."""
    weights, names = select(net, source, target, key)
    kept = trainable_only(weights, names, function)
    trained = set(weights.trained_projections)
    if weights.low_rank is not None:
        trained.update(compress(weights.low_rank.names, weights.low_rank.trained.tolist()))
    skipped = [name for name in names if name in trained and name not in kept]
    if skipped:
        shown = ", ".join(projection_label(*name) for name in skipped[:3])
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        warnings.warn(
            f"{function}: {shown}{more} share gains or have low rank, not a parameter per synapse: their "
            "weights are not limited. Limit the gains or factors themselves, or name other projections.",
            SkippedWarning,
            stacklevel=4,
        )
    return ((name, weights.values[part]) for name, part in slices(weights, kept))


def _check_bound(function: str, argument: str, value: float) -> None:
    if math.isnan(value) or value < 0:
        raise TrainingError(f"{function}: {argument} is {value!r}; it must be a number of at least 0.")
