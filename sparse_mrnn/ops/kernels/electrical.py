"""Currents of electrical synapses and their gradients, unit by unit; see `ops.electrical`."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from numba import prange

from sparse_mrnn.ops.kernels.loop import loop

FAST = {"contract", "reassoc", "nsz"}


@loop(FAST)
def current(crow, other, pair, side, conductance, x, out):  # pragma: no cover - compiled
    """Write the current into each unit to ``out``; x and out have shape (units, batch).

    Examples
    --------
    >>> import torch
    >>> each = [torch.tensor(t, dtype=torch.int32) for t in ([0, 1, 2], [1, 0], [-1, 0], [0, 0])]
    >>> out = torch.empty(2, 1)
    >>> current(*each, torch.tensor([0.5]), torch.tensor([[3.0], [1.0]]), out)
    >>> out.tolist()
    [[-1.0], [1.0]]
    """
    width = x.shape[1]
    for i in prange(len(crow) - 1):
        for c in range(width):
            out[i, c] = 0
        for e in range(crow[i], crow[i + 1]):
            j, p, direction = other[e], pair[e], side[e]
            g = conductance[p if p >= 0 else -1 - p]
            if direction == 0:
                for c in range(width):
                    out[i, c] += g * (x[j, c] - x[i, c])
            elif direction > 0:
                for c in range(width):
                    out[i, c] += g * max(x[j, c] - x[i, c], 0)
            else:
                for c in range(width):
                    out[i, c] += g * min(x[j, c] - x[i, c], 0)


@loop(FAST)
def pull_back(crow, other, pair, side, conductance, x, grad, grad_x, total):  # pragma: no cover - compiled
    """Add the gradients of the states to ``grad_x``, and those of the conductances to ``total``.

    ``total`` has no entries if it is not needed; ``grad`` is the gradient of the current.

    Examples
    --------
    >>> import torch
    >>> each = [torch.tensor(t, dtype=torch.int32) for t in ([0, 1, 2], [1, 0], [-1, 0], [0, 0])]
    >>> grad_x, total = torch.zeros(2, 1), torch.zeros(1)
    >>> given = torch.tensor([0.5]), torch.tensor([[3.0], [1.0]]), torch.tensor([[0.0], [1.0]])
    >>> pull_back(*each, *given, grad_x, total)
    >>> grad_x.tolist(), total.tolist()
    ([[0.5], [-0.5]], [2.0])
    """
    width, needed = x.shape[1], len(total) > 0
    for i in prange(len(crow) - 1):
        for e in range(crow[i], crow[i + 1]):
            j, p, direction = other[e], pair[e], side[e]
            g = conductance[p if p >= 0 else -1 - p]
            if direction == 0:
                for c in range(width):
                    grad_x[i, c] += g * (grad[j, c] - grad[i, c])
            else:
                for c in range(width):
                    if direction * (x[j, c] - x[i, c]) > 0:
                        grad_x[i, c] += g * (grad[j, c] - grad[i, c])
            if needed and p >= 0:
                found = total[p] * 0
                if direction == 0:
                    for c in range(width):
                        found += (grad[i, c] - grad[j, c]) * (x[j, c] - x[i, c])
                else:
                    for c in range(width):
                        found += (grad[i, c] - grad[j, c]) * max(x[j, c] - x[i, c], 0)
                total[p] += found
