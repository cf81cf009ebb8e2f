"""Tensors that every rank has alike; their gradients are added over the ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparse_mrnn.distributed.ranks import Ranks


def replicated(ranks: Ranks, slots: list[Tensor], size: int, tensors: list[Tensor]) -> list[Tensor]:
    """Return the tensors, with gradients summed over all ranks, and an empty tensor as the last.

    All ranks must use the empty tensor in what they differentiate: their backward passes then meet here once.
    The ``slots`` have the shared number, below ``size``, of each entry of each tensor: entries of the same
    number, on any rank, are one parameter; -1 is the rank's own.
    """
    anchor = tensors[0].new_empty(0) if tensors else torch.empty(0)
    anchor.requires_grad_()
    found = _Replicated.apply(ranks, slots, size, *tensors, anchor)  # type: ignore[no-untyped-call]
    return list(found)


class _Replicated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, ranks: Ranks, slots: list[Tensor], size: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.ranks, ctx.slots, ctx.size = ranks, slots, size
        ctx.shapes = [tensor.shape for tensor in tensors]
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        total = grads[-1].new_zeros(ctx.size)
        for slot, grad in zip(ctx.slots, grads, strict=False):
            common = slot >= 0
            total.index_add_(0, slot[common], grad.reshape(-1)[common])
        ctx.ranks.sum(total)
        sums = [
            torch.where(slot < 0, grad.reshape(-1), total[slot.clamp(min=0)] if len(total) else 0).view(shape)
            for slot, grad, shape in zip(ctx.slots, grads, ctx.shapes, strict=False)
        ]
        return (None, None, None, *sums, grads[-1])


class _Gathered(torch.autograd.Function):
    """Gather the activity of all units; backward, each rank takes the gradient of its own units."""

    @staticmethod
    def forward(ctx: Any, ranks: Ranks, sizes: list[int], order: Tensor, own: Tensor) -> Tensor:
        ctx.first, ctx.size, ctx.order = sum(sizes[: ranks.rank]), sizes[ranks.rank], order
        rows = own.movedim(-1, 0).contiguous()
        found = ranks.gather_rows(rows, sizes)
        return found.index_select(0, order).movedim(0, -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None, Tensor]:
        position = torch.argsort(ctx.order)[ctx.first : ctx.first + ctx.size]
        return None, None, None, grad.index_select(-1, position)


def gathered(ranks: Ranks, sizes: list[int], order: Tensor, own: Tensor) -> Tensor:
    """Return the states of all units, in unit order, on every rank, from the own ones, (..., own units).

    The ``sizes`` are the ranks' numbers of units; ``order``, shape (units,), is the position of each unit
    among the units of rank 0, rank 1, ....
    """
    found: Tensor = _Gathered.apply(ranks, sizes, order, own)  # type: ignore[no-untyped-call]
    return found
