"""Gradient clipping region by region, so that one region's burst does not silence the others' learning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from sparse_mrnn.errors import TrainingError, UnknownNameError, suggest
from sparse_mrnn.models.network import mRNNBase


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
        A region's synapses are those onto it, with its learnt biases, initial state and time constant, or
        those its units make. Inputs are regions too where ``by="source"``. A gain that several projections
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
    for part in net.weight_matrices():
        if part.values.grad is not None and part.values.numel():
            n = part.trainable_projections
            region = torch.tensor([index[name[end]] for name in part.projections[:n]])
            lengths = torch.diff(part.ptr)[:n]
            gradients.append((part.values.grad, torch.repeat_interleave(region.to(lengths.device), lengths)))
        if part.gains is not None and part.gains.grad is not None:
            region = torch.tensor([index[name[end]] for name in part.gain_names], device=part.gains.device)
            gradients.append((part.gains.grad, region[part.trained_gains]))
        if part.low_rank is not None:
            for name, *factors in zip(
                part.low_rank.names, part.low_rank.left, part.low_rank.right, strict=True
            ):
                for factor in factors:
                    if factor.grad is not None:
                        flat = factor.grad.view(-1)
                        gradients.append((flat, torch.full_like(flat, index[name[end]], dtype=torch.int64)))
    own = (net.bias, net.bias_region), (net.init, net.init_region), (net.tau_logit, net.alpha_region)
    for parameter, region in own:
        if by == "target" and parameter is not None and parameter.grad is not None:
            gradients.append((parameter.grad, region))
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
