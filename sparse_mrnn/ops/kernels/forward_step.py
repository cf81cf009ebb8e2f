"""The pointwise part of a forward step with a rate for each unit, in one pass over the states."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from numba import prange

from sparse_mrnn.ops.kernels.loop import loop

ACTIVATIONS = {"linear": 0, "relu": 1}
"""Activations that `forward_step` applies, by their code; with any other code h stays as it is."""


@loop(fastmath={"reassoc", "contract", "nsz"})
def forward_step(code, rate, tonic, bias, current, x, new, h, change):  # pragma: no cover - compiled
    """new = x + rate (current - x) + tonic and, for relu or linear units, h = f(new).

    change = current + bias - x, and tonic = rate bias. The arrays tonic, bias and change may be empty.

    Examples
    --------
    >>> import numpy as np
    >>> x, new, h, none = np.array([[-2.0]]), np.zeros((1, 1)), np.zeros((1, 1)), np.zeros(0)
    >>> relu, half = np.array([1], np.int8), np.array([0.5])
    >>> forward_step.of(1)(relu, half, none, none, np.array([[8.0]]), x, new, h, np.zeros((0, 1)))
    >>> h.tolist()
    [[3.0]]
    """
    zero = x.dtype.type(0)
    for i in prange(len(code)):
        now, add, before, out, result = current[i], zero, x[i], new[i], h[i]
        if len(tonic):
            add = tonic[i]
        share, kind = rate[i], code[i]
        keep = x.dtype.type(1) - share
        for b in range(len(now)):
            v = add + keep * before[b] + share * now[b]
            out[b] = v
            if kind == 0:
                result[b] = v
            elif kind == 1:
                result[b] = zero if v < zero else v  # keeps NaN
        if len(change):
            own, off = change[i], zero
            if len(bias):
                off = bias[i]
            for b in range(len(now)):
                own[b] = now[b] + off - before[b]
