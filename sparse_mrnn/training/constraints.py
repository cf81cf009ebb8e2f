"""Bounds on weights, kept by a call after the optimiser's step, and on the gradient of each region.

Dale's law and the anatomical mask need no call: signs are part of the forward pass, and absent synapses have
no parameter. Clipping by region keeps one region's burst from silencing the others' learning.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from itertools import compress
from typing import Literal

import torch
from torch import Tensor

from sparse_mrnn.errors import SkippedWarning, TrainingError, UnknownNameError, suggest
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.models.synapse_table import ProjectionKey
from sparse_mrnn.training.select import labels, owned_parameters, select, slices, trainable_only


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
        See `freeze`. Default: all recurrent projections.

    Raises
    ------
    UnknownNameError
        If no projection matches.
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
        See `freeze`. Default: all recurrent projections.

    Returns
    -------
    dict
        The norm of each projection before.

    Raises
    ------
    UnknownNameError, TrainingError
        See `clamp_weights_`, which also says when a `SkippedWarning` is given.

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
) -> Iterator[tuple[ProjectionKey, Tensor]]:
    """Pair each projection with a view of its weights; warn of those without a weight per synapse."""
    weights, names = select(net, source, target, key)
    kept = trainable_only(weights, names, function)
    trained = set(weights.trained_projections)
    if weights.low_rank is not None:
        trained.update(compress(weights.low_rank.names, weights.low_rank.trained.tolist()))
    skipped = [name for name in names if name in trained and name not in kept]
    if skipped:
        what = "share gains or have low rank, not a parameter per synapse: their weights are not limited"
        advice = "Limit the gains or factors themselves, or name other projections"
        warnings.warn(f"{function}: {labels(skipped)} {what}. {advice}.", SkippedWarning, stacklevel=4)
    return ((name, weights.values[part]) for name, part in slices(weights, kept))


def _check_bound(function: str, argument: str, value: float) -> None:
    if math.isnan(value) or value < 0:
        raise TrainingError(f"{function}: {argument} is {value!r}; it must be a number of at least 0.")


@torch.no_grad()
def clip_grad_by_region_(
    net: mRNNBase, max_norm: float | Mapping[str, float], *, by: Literal["target", "source"] = "target"
) -> dict[str, float]:
    """Scale the gradient of each region's synapses to a Euclidean norm of at most ``max_norm``, in place.

    Call it between ``backward`` and the optimiser's step. O(synapses).

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    max_norm : float or mapping
        For all regions, or by region; regions left out of a mapping are not clipped.
    by : {"target", "source"}
        A target owns the synapses onto it, with its learnt biases, initial state and time constant; a source
        owns the synapses that its units make, and inputs are sources, too. A gain that several projections
        share counts for the first of them.

    Returns
    -------
    dict
        The norm of each region's gradient before, in unit order; regions without a gradient have 0.

    Raises
    ------
    UnknownNameError
        If the mapping has a region the network does not have.
    TrainingError
        If a norm is negative or ``by`` unknown.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2); g.add_projection("a", "a")
    >>> net = sm.mRNN(g, device="cpu", seed=0)
    >>> net.rec.values.grad = torch.full((4,), 5.0)
    >>> clip_grad_by_region_(net, 1.0), net.rec.values.grad.norm().item()
    ({'a': 10.0}, 1.0)
    """
    if by not in ("target", "source"):
        raise TrainingError(f"clip_grad_by_region_: by is {by!r}; use 'target' or 'source'.")
    names = net.hid_regions + (net.inp_regions if by == "source" else [])
    index = {name: k for k, name in enumerate(names)}
    limits = _limits(max_norm, names)
    gradients: list[tuple[Tensor, Tensor]] = []
    end = 1 if by == "target" else 0
    for owned in owned_parameters(net):
        gradient = owned.parameter.grad
        of_region = len(owned.owners[0]) == 1
        if gradient is not None and not (of_region and by == "source"):
            region = torch.tensor([index[name[0 if of_region else end]] for name in owned.owners])
            gradients.append((gradient.view(-1), region.to(gradient.device)[owned.index]))
    squares = torch.zeros(len(names), dtype=torch.float64, device=net.device)
    for gradient, region in gradients:
        squares.index_add_(0, region, gradient.double().square())
    norms = squares.sqrt()
    limit = torch.tensor(limits, dtype=torch.float64, device=norms.device)
    scale = torch.where(norms > limit, limit / norms, 1.0)
    if bool((scale != 1).any()):
        for gradient, region in gradients:
            gradient.mul_(scale.to(gradient.dtype)[region])
    return dict(zip(names, norms.tolist(), strict=True))


def _limits(max_norm: float | Mapping[str, float], names: list[str]) -> list[float]:
    if not isinstance(max_norm, Mapping):
        limits = [float(max_norm)] * len(names)
    else:
        for name in max_norm:
            if name not in names:
                hint = suggest(name, names, what="regions")
                raise UnknownNameError(f"clip_grad_by_region_: unknown region {name!r}. {hint}")
        limits = [float(max_norm.get(name, math.inf)) for name in names]
    for name, limit in zip(names, limits, strict=True):
        if not limit >= 0:
            what = f"clip_grad_by_region_: max_norm of {name!r}"
            raise TrainingError(f"{what} is {limit!r}; it must be at least 0.")
    return limits
