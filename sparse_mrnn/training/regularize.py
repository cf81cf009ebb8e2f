"""Penalties to add to a loss: on activity, on firing rates against a target, and on weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from sparse_mrnn.errors import ShapeError, TrainingError
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.training.select import nothing_to_change, select

Norm = Literal["l1", "l2"]


def activity_penalty(net: mRNNBase, h: Tensor, *regions: str, norm: Norm = "l2") -> Tensor:
    """Mean of h^2 ("l2") or \\|h\\| ("l1") over trials, time and units.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    h : Tensor, shape (..., units)
        Activity, as ``forward`` returns it.
    *regions : str
        Regions or parents. Default: all units.
    norm : {"l1", "l2"}

    Returns
    -------
    Tensor, a scalar, differentiable

    Raises
    ------
    UnknownNameError
        If a region does not exist.
    TrainingError
        If the norm is unknown.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 1); g.add_region("b", 1)
    >>> net = sm.mRNN(g, device="cpu")
    >>> activity_penalty(net, torch.tensor([[[1.0, -3.0]]]), "b", norm="l1")
    tensor(3.)
    """
    return _reduce(net.get_region_activity(h, *regions) if regions else h, norm)


def rate_penalty(net: mRNNBase, h: Tensor, rates: Mapping[str, float | Tensor]) -> Tensor:
    """Squared distance of each unit's mean activity from a target.

        sum over regions r of mean over units i in r of (mean over trials and time of h_i - rate_r)^2

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    h : Tensor, shape (..., units)
    rates : mapping
        From regions or parents to their target, a number or one per unit.

    Returns
    -------
    Tensor, a scalar, differentiable

    Raises
    ------
    UnknownNameError
        If a region does not exist.
    ShapeError
        If there is another number of targets than units.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 1); g.add_region("b", 1)
    >>> net = sm.mRNN(g, device="cpu")
    >>> rate_penalty(net, torch.tensor([[[1.0, 2.0], [1.0, 4.0]]]), {"b": 5.0})
    tensor(4.)
    """
    total = h.new_zeros(())
    for region, rate in rates.items():
        part = net.get_region_activity(h, region)
        mean = part.reshape(-1, part.shape[-1]).mean(0)
        if isinstance(rate, Tensor) and rate.shape not in ((), mean.shape):
            got = f"its target has shape {tuple(rate.shape)}"
            raise ShapeError(f"rate_penalty: {region!r} has {len(mean)} units; {got}.")
        total = total + (mean - rate).square().mean()
    return total


def weight_penalty(
    net: mRNNBase, source: str | None = None, target: str | None = None, key: str | None = None,
    *, norm: Norm = "l2",
) -> Tensor:
    """Mean of w^2 ("l2") or \\|w\\| ("l1") over the effective weights of some projections.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    source, target, key
        See `freeze`. Default: all recurrent projections but those of low rank. Parallel projections count
        apart.
    norm : {"l1", "l2"}

    Returns
    -------
    Tensor, a scalar, differentiable in the trainable weights; 0 without synapses

    Raises
    ------
    UnknownNameError
        If no projection matches.
    TrainingError
        If the norm is unknown, or the projections have low rank.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2, sign="neg")
    >>> g.add_projection("a", "a", initializer=sm.Constant(3.0))
    >>> weight_penalty(sm.mRNN(g, device="cpu"), "a", "a", norm="l1")
    tensor(3., grad_fn=<MeanBackward0>)
    """
    weights, names = select(net, source, target, key)
    # Dale's law changes signs only: |w| = |v|, whatever the sign of the source.
    values = weights.all_values()
    if set(names) >= set(weights.projections):
        return _reduce(values, norm)
    chosen, ptr = set(names), weights.ptr.tolist()
    parts = [values[ptr[k] : ptr[k + 1]] for k, name in enumerate(weights.projections) if name in chosen]
    if not parts:
        raise nothing_to_change(weights, names, "weight_penalty")
    return _reduce(torch.cat(parts), norm)


def _reduce(values: Tensor, norm: str) -> Tensor:
    if norm not in ("l1", "l2"):
        raise TrainingError(f"norm is {norm!r}; use 'l1' or 'l2'.")
    if values.numel() == 0:
        return values.sum()
    return values.abs().mean() if norm == "l1" else values.square().mean()
