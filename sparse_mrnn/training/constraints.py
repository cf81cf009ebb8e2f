"""Bounds on weights, kept by a call after the optimiser's step.

Dale's law and the anatomical mask need no call: signs are part of the forward pass, and absent synapses have
no parameter.
"""

from __future__ import annotations

import math

import torch

from sparse_mrnn.errors import TrainingError
from sparse_mrnn.models.network import mRNNBase
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
        If the projections are all frozen, or ``high`` is negative.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 4); g.add_projection("a", "a", initializer=sm.Constant(3.0))
    >>> net = sm.mRNN(g, device="cpu", seed=0)
    >>> clamp_weights_(net, 0.5); net.W_rec.values().max().item()
    0.5
    """
    _check_bound("clamp_weights_", "high", high)
    weights, names = select(net, source, target, key)
    for _, part in slices(weights, trainable_only(weights, names, "clamp_weights_")):
        weights.values[part].clamp_(-high, high)


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

    Raises as `clamp_weights_`.
    """
    _check_bound("limit_norm_", "max_norm", max_norm)
    weights, names = select(net, source, target, key)
    norms = {}
    for name, part in slices(weights, trainable_only(weights, names, "limit_norm_")):
        values = weights.values[part]
        norms[name] = float(values.norm())
        if norms[name] > max_norm:
            values.mul_(max_norm / norms[name])
    return norms


def _check_bound(function: str, argument: str, value: float) -> None:
    if math.isnan(value) or value < 0:
        raise TrainingError(f"{function}: {argument} is {value!r}; it must be a number of at least 0.")
