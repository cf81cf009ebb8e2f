"""The pointwise part of a step of backpropagation through time, in one pass over the states."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from numba import njit, prange

SLOPES = {"linear": 0, "relu": 1, "tanh": 2, "sigmoid": 3}
"""Activations whose derivative `backward_step` computes from h, by their code; with code 0 it is 1."""


@njit(parallel=True, fastmath={"reassoc", "contract", "nsz"}, cache=True)
def backward_step(
    code, rate, h, t, source, x, x_before, grad_h, grad_x, scaled, gathered, activity, k, bias, alpha
):  # pragma: no cover - compiled
    """For every unit and trial: what `recurrence.backward.BackwardLoop._pointwise` does.

    grad_h *= f'(x), from h[t] and the code of the unit's activation (`SLOPES`); grad_x += grad_h; scaled =
    rate * grad_x; grad_x -= scaled; gathered[:, k] = scaled; activity[:, k] = source; bias += the sum of
    scaled over trials; alpha += that of scaled * (x - x_before). The arrays gathered, activity, bias and
    alpha may be empty. Call `use_torch_threads` before the first step.

    Examples
    --------
    >>> import numpy as np
    >>> one, scaled, none = np.ones((1, 1)), np.zeros((1, 1)), np.zeros((1, 0, 1))
    >>> tanh, rate, h = np.array([2], np.int8), np.array([0.5]), np.full((1, 1, 1), 0.5)
    >>> grads, buffers, sums = (one.copy(), one.copy(), scaled), (none, none), (np.zeros(0), np.zeros(0))
    >>> backward_step(tanh, rate, h, 0, one, one, one, *grads, *buffers, 0, *sums)
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
            back = back_x[b] + back_h[b]
            out[b] = share * back
            back_x[b] = back - out[b]
            total += out[b]
        if len(bias):
            bias[i] += total
        if len(alpha):
            moved = one - one
            for b in range(len(now)):
                moved += out[b] * (x[i, b] - x_before[i, b])
            alpha[i] += moved
        if gathered.shape[1]:
            gathered[i, k] = out
        if activity.shape[1]:
            activity[i, k] = source[i]
