"""The pointwise end of a simulation step in one pass (numba, the extra ``fast``): drive, relu, and a check for NaN."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import Tensor

from sparse_mrnn.ops.activations import Segments
from sparse_mrnn.ops.compiled import use_torch_threads

SMALLEST = 10_000
"""States below which a call of a torch function costs no more than the pass it saves."""


def finishing_relu(x: Tensor, activation: Segments) -> Callable[[Tensor, Tensor | None, Tensor], bool] | None:
    """``f(x, drive, h)``: x += drive, of shape (units, 1), h = relu(x); returns whether x is finite. None where torch does as well.

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
        use_torch_threads()
        drives = x.new_empty(0, 1) if drive is None else drive
        return bool(kernel(x.numpy(), drives.numpy()[:, 0], h.numpy()))

    return finish


@cache
def _kernel() -> Callable[..., Any]:
    numba = importlib.import_module("numba")
    prange = numba.prange

    @numba.njit(parallel=True, fastmath={"reassoc"}, cache=True)  # type: ignore[untyped-decorator]
    def kernel(x, drive, h):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        zero = x.dtype.type(0)
        units, batch = x.shape
        share = max(1, 4096 // batch)  # rows that a thread takes at a time
        check = zero
        for part in prange((units + share - 1) // share):
            first, last = part * share, min(units, (part + 1) * share)
            if batch == 1:
                now, out = x[first:last, 0], h[first:last, 0]
                if len(drive):
                    own = drive[first:last]
                    for i in range(len(now)):
                        now[i] += own[i]
                for i in range(len(now)):
                    v = now[i]
                    out[i] = zero if v < zero else v  # keeps NaN
                    check += v * zero  # NaN as soon as one v is not finite
            else:
                for i in range(first, last):
                    row, result = x[i], h[i]
                    add = drive[i] if len(drive) else zero
                    for b in range(batch):
                        v = row[b] + add
                        row[b] = v
                        result[b] = zero if v < zero else v
                        check += v * zero
        return check == zero

    found: Callable[..., Any] = kernel
    return found
