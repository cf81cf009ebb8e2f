"""The pointwise part of a step of backpropagation through time, in one pass over the states."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from numba import njit, prange

SLOPES = {"linear": 0, "relu": 1, "tanh": 2, "sigmoid": 3}
"""Activations whose derivative `backward_step` computes from h, by their code; with code 0 it is 1."""


@njit(parallel=True, fastmath={"reassoc", "contract", "nsz"}, cache=True)
def backward_step(
    code, rate, h, t, source, grad_h, grad_x, scaled, gathered, activity, k, bias
):  # pragma: no cover - compiled
    """For every unit and trial: what `recurrence.backward.Backward._pointwise` does.

    grad_h *= f'(x), from h[t] and the code of the unit's activation (`SLOPES`); grad_x += grad_h; scaled =
    rate * grad_x; grad_x -= scaled; gathered[:, k] = scaled; activity[:, k] = source; bias += the sum of
    scaled over trials. The last three arrays may be empty. Call `use_torch_threads` before the first step.

    Examples
    --------
    >>> import numpy as np
    >>> one, scaled, none = np.ones((1, 1)), np.zeros((1, 1)), np.zeros((1, 0, 1))
    >>> tanh, rate, h = np.array([2], np.int8), np.array([0.5]), np.full((1, 1, 1), 0.5)
    >>> backward_step(tanh, rate, h, 0, one, one.copy(), one.copy(), scaled, none, none, 0, np.zeros(0))
    >>> scaled.tolist()
    [[0.875]]
    """
    one = scaled.dtype.type(1)
    for i in prange(len(code)):
        now, back_h, back_x, out = h[t, i], grad_h[i], grad_x[i], scaled[i]
        slope = code[i]
        if slope == 1:
            for b in range(len(now)):
                back_h[b] = back_h[b] if now[b] > 0 else one - one
        elif slope == 2:
            for b in range(len(now)):
                back_h[b] *= one - now[b] * now[b]
        elif slope == 3:
            for b in range(len(now)):
                back_h[b] *= now[b] * (one - now[b])
        share = rate[i]
        total = one - one
        for b in range(len(now)):
            x = back_x[b] + back_h[b]
            out[b] = share * x
            back_x[b] = x - out[b]
            total += out[b]
        if len(bias):
            bias[i] += total
        if gathered.shape[1]:
            gathered[i, k] = out
        if activity.shape[1]:
            activity[i, k] = source[i]
