"""Weights of values: Dale's law, and gains that many synapses share, in one pass each way."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import numpy as np
from numba import njit, prange
from torch import Tensor, get_num_threads

from sparse_mrnn.ops.kernels.loop import loop


@njit(cache=True)
def _at(index, e):  # pragma: no cover - compiled
    # One type in both branches: numba takes the number of a loop over threads for unsigned, and makes a float
    # of it and a signed one.
    if index is None:
        return np.int64(e)
    return np.int64(index[e])


@loop()
def gather(values, index, sign, weights):  # pragma: no cover - compiled
    """weights[e] = values[index[e]] with the sign sign[e]; as it is where the sign is 0.

    Without an index, which is None then, weights[e] is of values[e].

    Examples
    --------
    >>> import torch
    >>> weights = torch.zeros(2)
    >>> index, sign = torch.tensor([1, 0]), torch.tensor([-1, 1], dtype=torch.int8)
    >>> gather(torch.tensor([-1.0, 2.0]), index, sign, weights)
    >>> weights.tolist()
    [-2.0, 1.0]
    """
    for e in prange(len(weights)):
        v = values[_at(index, e)]
        if (sign[e] > 0 and v < 0) or (sign[e] < 0 and not v < 0):
            v = -v
        weights[e] = v


@loop()
def scatter(values, index, sign, grad, out):  # pragma: no cover - compiled
    """Backward of `gather`: out[index[e]] = grad[e] times the slope, which at 0 is that of v > 0."""
    for e in prange(len(grad)):
        at = _at(index, e)
        v, g = values[at], grad[e]
        if sign[e] != 0 and (np.signbit(v) if sign[e] > 0 else not np.signbit(v)):
            g = -g
        out[at] = g


@loop()
def scale(gains, base, group, out):  # pragma: no cover - compiled
    """out[e] = base[e] gains[group[e]], for gains of shape (groups,) and the others of shape (entries,).

    Examples
    --------
    >>> import torch
    >>> out, group = torch.zeros(2), torch.tensor([1, 0], dtype=torch.int32)
    >>> scale(torch.tensor([10.0, 1.0]), torch.tensor([2.0, 3.0]), group, out)
    >>> out.tolist()
    [2.0, 30.0]
    """
    for e in prange(len(out)):
        out[e] = base[e] * gains[group[e]]


def segment_sum(base: Tensor, group: Tensor, grad: Tensor, out: Tensor) -> None:
    """out[k] = sum of base[e] grad[e] over the entries e of group k, in float64 inside.

    Examples
    --------
    >>> import torch
    >>> out = torch.zeros(2)
    >>> values, group = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 0, 1], dtype=torch.int32)
    >>> segment_sum(values, group, torch.ones(3), out)
    >>> out.tolist()
    [2.0, 4.0]
    """
    entries, groups = len(group), len(out)
    # Each part has sums of its own, which pays where groups are few.
    parts = 4 * get_num_threads() if entries > 100_000 and groups < entries // 64 else 1
    _segment_sum(base, group, grad, out, parts)


@loop()
def _segment_sum(base, group, grad, out, parts):  # pragma: no cover - compiled
    sums = np.zeros((parts, len(out)))
    for part in prange(parts):
        for e in range(part * len(group) // parts, (part + 1) * len(group) // parts):
            sums[part, group[e]] += base[e] * grad[e]
    for k in range(len(out)):
        total = 0.0
        for part in range(parts):
            total += sums[part, k]
        out[k] = total
