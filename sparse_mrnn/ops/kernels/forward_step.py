"""The pointwise part of a forward step with a rate for each unit, in one pass over the states."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from numba import prange

from sparse_mrnn.ops.kernels.loop import loop

ACTIVATIONS = {"linear": 0, "relu": 1}
"""Activations that `forward_step` applies, by their code; with any other code h stays as it is."""


@loop(fastmath={"reassoc", "contract", "nsz"})
def forward_step(code, rate, tonic, current, x, new, h, t):  # pragma: no cover - compiled
    """new[t] = x + rate (current - x) + tonic and, for relu or linear units, h[t] = f(new[t]).

    tonic may be empty.

    Examples
    --------
    >>> import numpy as np
    >>> x, new, h = np.array([[-2.0]]), np.zeros((1, 1, 1)), np.zeros((1, 1, 1))
    >>> relu, half = np.array([1], np.int8), np.array([0.5])
    >>> forward_step.of(1)(relu, half, np.zeros(0), np.array([[8.0]]), x, new, h, 0)
    >>> h.tolist()
    [[[3.0]]]
    """
    zero = x.dtype.type(0)
    for i in prange(len(code)):
        now, add, before, out, result = current[i], zero, x[i], new[t, i], h[t, i]
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
