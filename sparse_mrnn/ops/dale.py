"""Effective synaptic weights: parameters in projection order become signed values in a backend's order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.ops.compiled import signed_gather


class _Effective(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, perm: Tensor | None, sign: Tensor | None) -> Tensor:
        both = signed_gather() if values.device.type == "cpu" and perm is not None and sign is not None else None
        ctx.compiled = None if both is None else both[1]
        ctx.perm, ctx.size = perm, values.shape
        if both is not None:
            w = values.new_empty(len(perm))  # type: ignore[arg-type]
            both[0](values.detach(), perm, sign, w)
            ctx.slope = sign
            ctx.save_for_backward(values)
            return w
        w = values.clone() if perm is None else values.index_select(0, perm)
        if sign is None:
            ctx.slope = None
            return w
        # At v = 0 the slope is that of v > 0, so a synapse that starts at zero can still grow. A free one has slope 1.
        slope = torch.where(w < 0, -sign, sign).masked_fill_(sign == 0, 1)
        ctx.slope = slope if values.requires_grad else None
        return w.mul_(slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        if ctx.compiled is not None:
            out = grad.new_empty(ctx.size)
            ctx.compiled(ctx.saved_tensors[0].detach(), ctx.perm, ctx.slope, grad.contiguous(), out)
            return out, None, None
        if ctx.slope is not None:
            grad = grad * ctx.slope
        if ctx.perm is not None:
            grad = grad.new_empty(ctx.size).scatter_(0, ctx.perm.long(), grad)
        return grad, None, None


def effective(values: Tensor, perm: Tensor | None = None, sign: Tensor | None = None) -> Tensor:
    """Dale's law without a mask: ``|v| * sign`` where a sign is given, v where it is 0.

    Parameters
    ----------
    values : Tensor, shape (synapses,)
    perm : Tensor of int, shape (stored,), optional
        The result's entry e is that of ``values[perm[e]]``. A value that occurs more than once needs no gradient.
    sign : Tensor of int8, shape (stored,), optional
        In the order of the result. None: no constraint.

    Examples
    --------
    >>> effective(torch.tensor([-2.0, 3.0, -4.0]), None, torch.tensor([1, -1, 0], dtype=torch.int8))
    tensor([ 2., -3., -4.])
    """
    result: Tensor = _Effective.apply(values, perm, sign)  # type: ignore[no-untyped-call]
    return result
