"""Effective synaptic weights: parameters in projection order, or shared gains, become values of a backend."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.ops import kernels
from sparse_mrnn.ops.torch_modes import refuse_transforms


class _Effective(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor | None, sign: Tensor | None) -> Tensor:
        compiled = sign is not None and values.device.type == "cpu"
        ctx.kernel = kernels.load("weights") if compiled else None
        ctx.index, ctx.size = index, values.shape
        if ctx.kernel is not None:
            weights = torch.empty_like(values) if index is None else values.new_empty(len(index))
            ctx.kernel.gather(values.detach(), index, sign, weights)
            ctx.sign = sign
            ctx.save_for_backward(values)
            return weights
        weights = values.clone() if index is None else values.index_select(0, index)
        if sign is None:
            ctx.slope = None
            return weights
        slope = _slope(weights, sign)
        ctx.slope = slope if values.requires_grad else None
        return weights.mul_(slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        refuse_transforms(grad)
        if ctx.kernel is not None and not torch.is_grad_enabled():
            out = grad.new_empty(ctx.size)
            ctx.kernel.scatter(ctx.saved_tensors[0].detach(), ctx.index, ctx.sign, grad.contiguous(), out)
            return out, None, None
        if ctx.kernel is not None:  # create_graph=True: the gradient is differentiated itself
            values = ctx.saved_tensors[0].detach()
            ctx.slope = _slope(values if ctx.index is None else values.index_select(0, ctx.index), ctx.sign)
        if ctx.slope is not None:
            grad = grad * ctx.slope
        if ctx.index is not None:
            grad = grad.new_zeros(ctx.size).scatter(0, ctx.index.long(), grad)
        return grad, None, None


def _slope(weights: Tensor, sign: Tensor) -> Tensor:
    """Derivative of ``|v| * sign``; 1 of a free synapse."""
    # At v = 0 the slope is that of v > 0, so a synapse that starts at 0 can grow; at -0.0, which a
    # negative base value makes of a gain of 0, that of v < 0.
    return torch.where(torch.signbit(weights), -sign, sign).masked_fill_(sign == 0, 1)


def effective(values: Tensor, index: Tensor | None = None, sign: Tensor | None = None) -> Tensor:
    """Dale's law without a mask: ``|v| * sign`` where a sign is given, v where it is 0.

    Parameters
    ----------
    values : Tensor, shape (synapses,)
    index : Tensor of int, shape (stored,), optional
        Entry e of the result is that of ``values[index[e]]``. A value that occurs twice needs no gradient.
    sign : Tensor of int8, shape (stored,), optional
        In the order of the result. None: no constraint.

    Examples
    --------
    >>> effective(torch.tensor([-2.0, 3.0, -4.0]), None, torch.tensor([1, -1, 0], dtype=torch.int8))
    tensor([ 2., -3., -4.])
    """
    refuse_transforms()
    result: Tensor = _Effective.apply(values, index, sign)  # type: ignore[no-untyped-call]
    return result


# ---------------------------------------------------------------- shared gains


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

    The gains have shape (groups,), base and group, which is int32, (entries,).

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
    sigmoid(raw) where both are, raw where neither is. A bound that is infinite is not given.
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
