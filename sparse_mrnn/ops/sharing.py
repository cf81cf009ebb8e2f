"""Shared weights: fixed base values times gains, and the gradient of the gains as a segment sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.torch_modes import refuse_transforms


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gains: Tensor, base: Tensor, group: Tensor) -> Tensor:
        ctx.size = gains.shape
        ctx.save_for_backward(base, group)
        kernel = kernels.load("weights") if base.device.type == "cpu" else None
        if kernel is None:
            return base * gains.index_select(0, group)
        out = torch.empty_like(base)
        kernel.scale(gains.contiguous(), base.contiguous(), group, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        base, group = ctx.saved_tensors
        refuse_transforms(grad)
        compiled = grad.device.type == "cpu" and not torch.is_grad_enabled()  # enabled by create_graph=True
        kernel = kernels.load("weights") if compiled else None
        out = grad.new_zeros(ctx.size)
        if kernel is not None:
            kernel.segment_sum(base, group, grad.contiguous(), out)
            return out, None, None
        return out.index_add(0, group, base * grad), None, None


def scaled(gains: Tensor, base: Tensor, group: Tensor) -> Tensor:
    """base[e] * gains[group[e]], differentiable in the gains: d gains[k] = sum over e in k of base[e] d w[e].

    Parameters
    ----------
    gains : Tensor, shape (groups,)
    base : Tensor, shape (entries,)
    group : Tensor of int32, shape (entries,)

    Examples
    --------
    >>> gains = torch.tensor([10.0, 1.0], requires_grad=True)
    >>> w = scaled(gains, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 0, 1], dtype=torch.int32))
    >>> w.sum().backward(); w.tolist(), gains.grad.tolist()
    ([1.0, 20.0, 3.0], [2.0, 4.0])
    """
    refuse_transforms()
    result: Tensor = _Scaled.apply(gains, base, group)  # type: ignore[no-untyped-call]
    return result


def bounded(raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Gains within bounds, from parameters of any value.

    low + |raw| where only the least is given, high - |raw| where only the largest is, low + (high - low)
    sigmoid(raw) where both are, raw where neither is.

    Parameters
    ----------
    raw, low, high : Tensor, shape (groups,)
        Infinite bounds are none.
    """
    below, above = torch.isfinite(low), torch.isfinite(high)
    start, end = torch.where(below, low, 0), torch.where(above, high, 0)
    both = start + (end - start) * torch.sigmoid(raw)
    size = torch.where(raw < 0, -raw, raw)  # at 0 with a slope of 1, so that a gain can leave its bound
    one = torch.where(below, start + size, end - size)
    return torch.where(below & above, both, torch.where(below | above, one, raw))


def unbounded(gains: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Parameters of which `bounded` makes these gains.

    Examples
    --------
    >>> low, high = torch.tensor([0.0, -float("inf"), 1.0]), torch.tensor([float("inf"), 3.0, 2.0])
    >>> bounded(unbounded(torch.tensor([0.5, 1.0, 1.25]), low, high), low, high).tolist()
    [0.5, 1.0, 1.25]
    """
    below, above = torch.isfinite(low), torch.isfinite(high)
    start, end = torch.where(below, low, 0), torch.where(above, high, 0)
    share = ((gains - start) / torch.where(below & above, end - start, 1)).clamp(1e-6, 1 - 1e-6)
    one = torch.where(below, gains - start, end - gains)
    return torch.where(below & above, torch.logit(share), torch.where(below | above, one, gains))
