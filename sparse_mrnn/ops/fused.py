"""The pointwise end of a simulation step in one pass (numba, the extra ``fast``): drive, relu, and a check for NaN."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import Tensor

from sparse_mrnn.ops.activations import Segments

SMALLEST = 10_000
"""States below which a call of a torch function costs no more than the pass it saves."""


def finishing_relu(x: Tensor, activation: Segments) -> Callable[[Tensor, Tensor | None, Tensor], bool] | None:
    """``f(x, drive, h)``: x += drive, h = relu(x); returns whether x is finite. None where torch does as well.

    Examples
    --------
    >>> import torch
    >>> from sparse_mrnn.ops.activations import get_activation
    >>> finishing_relu(torch.zeros(3, 1), Segments(((0, 3, get_activation("tanh")),))) is None
    True
    """
    relu = activation.fused and [a.name for _, _, a in activation.parts] == ["relu"]  # not a function of the user's
    if not relu or x.device.type != "cpu" or x.numel() < SMALLEST or importlib.util.find_spec("numba") is None:
        return None
    kernel = _kernel()

    def finish(x: Tensor, drive: Tensor | None, h: Tensor) -> bool:
        flat = x.view(-1).numpy()
        return bool(kernel(flat, flat[:0] if drive is None else drive.view(-1).numpy(), h.view(-1).numpy()))

    return finish


@cache
def _kernel() -> Callable[..., Any]:
    numba = importlib.import_module("numba")

    @numba.njit(fastmath={"reassoc"}, cache=True)  # type: ignore[untyped-decorator]
    def kernel(x, drive, h):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        zero = x.dtype.type(0)
        check = zero
        if len(drive):
            for i in range(len(x)):
                x[i] += drive[i]
        for i in range(len(x)):
            v = x[i]
            h[i] = zero if v < zero else v  # keeps NaN
            check += v * zero  # NaN as soon as one v is not finite
        return check == zero

    found: Callable[..., Any] = kernel
    return found
