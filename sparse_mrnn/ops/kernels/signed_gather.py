"""Dale's law in one pass each way: values in projection order become signed weights in a backend's order."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import numpy as np
from numba import prange

from sparse_mrnn.ops.kernels.loop import loop


@loop()
def gather(values, index, sign, weights):  # pragma: no cover - compiled
    """weights[e] = values[index[e]] with the sign sign[e]; as it is where the sign is 0.

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
        v = values[index[e]]
        if (sign[e] > 0 and v < 0) or (sign[e] < 0 and not v < 0):
            v = -v
        weights[e] = v


@loop()
def scatter(values, index, sign, grad, out):  # pragma: no cover - compiled
    """Backward of `gather`: out[index[e]] = grad[e] times the slope, which at 0 is that of v > 0."""
    for e in prange(len(grad)):
        v, g = values[index[e]], grad[e]
        if sign[e] != 0 and (np.signbit(v) if sign[e] > 0 else not np.signbit(v)):
            g = -g
        out[index[e]] = g
