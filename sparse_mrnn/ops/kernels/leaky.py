"""The pointwise part of a step of the leaky model: forward, in a simulation, and backward."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from numba import prange

from sparse_mrnn.ops.kernels.loop import loop

ACTIVATIONS = {"linear": 0, "relu": 1}
"""Activations that `forward_step` applies, by their code; with any other code h stays as it is."""
SLOPES = {"linear": 0, "relu": 1, "tanh": 2, "sigmoid": 3}
"""Activations whose derivative `backward_step` computes from h, by their code; with code 0 it is 1."""
TILE = 2048
"""States of a tile: what is computed of them one after another stays in the first-level cache."""


@loop(fastmath={"reassoc", "contract", "nsz"})
def forward_step(code, rate, tonic, bias, current, x, new, h, change):  # pragma: no cover - compiled
    """new = x + rate (current - x) + tonic and, for relu or linear units, h = f(new), in one pass.

    There is a rate for each unit. change = current + bias - x, and tonic = rate bias. The arrays tonic, bias
    and change may be empty.

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


@loop(fastmath={"reassoc"})
def relu_step(x, tonic, h):  # pragma: no cover - compiled
    """x += tonic, of shape (units,) or empty; h = relu(x), in one pass. Returns True if x is finite.

    Examples
    --------
    >>> import torch
    >>> x, h = torch.tensor([[-3.0], [1.0]]), torch.zeros(2, 1)
    >>> relu_step(x, torch.tensor([1.0, 1.0]), h), h.tolist()
    (True, [[0.0], [2.0]])
    """
    zero = x.dtype.type(0)
    units, batch = x.shape
    share = max(1, 4096 // batch)  # rows that a thread takes at a time
    check = zero
    for part in prange((units + share - 1) // share):
        first, last = part * share, min(units, (part + 1) * share)
        if batch == 1:
            now, out = x[first:last, 0], h[first:last, 0]
            if len(tonic):
                own = tonic[first:last]
                for i in range(len(now)):
                    now[i] += own[i]
            for i in range(len(now)):
                v = now[i]
                out[i] = zero if v < zero else v  # keeps NaN
                check += v * zero  # NaN as soon as one v is not finite
        else:
            for i in range(first, last):
                row, result = x[i], h[i]
                add = tonic[i] if len(tonic) else zero
                for b in range(batch):
                    v = row[b] + add
                    row[b] = v
                    result[b] = zero if v < zero else v
                    check += v * zero
    return check == zero



@loop(fastmath={"reassoc", "contract", "nsz"})
def backward_step(  # pragma: no cover - compiled
    code, rate, h, given, change, source, grad_h, grad_x, scaled, bias, alpha, gathered, activity, c
):
    """For every unit and trial, tile by tile: what `fused_leaky.LeakyAdjoint` does.

    grad_h += given; grad_h *= f'(x), from h and the code of the unit's activation (`SLOPES`); grad_x +=
    grad_h; alpha += the sum of grad_x * change over trials; scaled = rate * grad_x; grad_x -= scaled;
    bias += the sum of scaled; gathered[:, c] = scaled; activity[:, c] = source. The arrays given, change,
    bias, alpha, gathered and activity may be empty.

    Examples
    --------
    >>> import numpy as np
    >>> one, scaled, none = np.ones((1, 1)), np.zeros((1, 1)), np.zeros((0, 1))
    >>> tanh, rate, h = np.array([2], np.int8), np.array([0.5]), np.full((1, 1), 0.5)
    >>> grads, sums = (one.copy(), one.copy(), scaled), (np.zeros(0), np.zeros(0))
    >>> columns = np.zeros((1, 0, 1))
    >>> backward_step.of(1)(tanh, rate, h, none, none, one, *grads, *sums, columns, columns, 0)
    >>> scaled.tolist()
    [[0.875]]
    """
    one = scaled.dtype.type(1)
    zero = one - one
    units, batch = scaled.shape
    height = max(1, TILE // batch)
    for tile in prange((units + height - 1) // height):
        begin, end = tile * height, min(units, (tile + 1) * height)
        now, back_h = h[begin:end].reshape(-1), grad_h[begin:end].reshape(-1)
        if len(given):  # in any layout
            for i in range(begin, end):
                for b in range(batch):
                    grad_h[i, b] += given[i, b]
        i = begin
        while i < end:  # units of one activation, one run after another
            slope, first = code[i], i
            while i < end and code[i] == slope:
                i += 1
            start, stop = (first - begin) * batch, (i - begin) * batch
            if slope == 1:
                for k in range(start, stop):
                    back_h[k] = back_h[k] if now[k] > 0 else zero
            elif slope == 2:
                for k in range(start, stop):
                    back_h[k] *= one - now[k] * now[k]
            elif slope == 3:
                for k in range(start, stop):
                    back_h[k] *= now[k] * (one - now[k])
        if len(alpha):
            for i in range(begin, end):
                total = zero
                for b in range(batch):
                    total += (grad_x[i, b] + grad_h[i, b]) * change[i, b]
                alpha[i] += total
        for i in range(begin, end):
            share = rate[i]
            for b in range(batch):
                back = grad_x[i, b] + grad_h[i, b]
                scaled[i, b] = share * back
                grad_x[i, b] = back - share * back
        if len(bias):
            for i in range(begin, end):
                total = zero
                for b in range(batch):
                    total += scaled[i, b]
                bias[i] += total
        if gathered.shape[1]:
            for i in range(begin, end):
                for b in range(batch):
                    gathered[i, c, b] = scaled[i, b]
        if activity.shape[1]:
            for i in range(begin, end):
                for b in range(batch):
                    activity[i, c, b] = source[i, b]
