"""The pointwise end of a simulation step in one pass: the tonic input, relu, and a check for NaN."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from numba import prange

from sparse_mrnn.ops.kernels.loop import loop


@loop(fastmath={"reassoc"})
def finish(x, tonic, h):  # pragma: no cover - compiled
    """x += tonic, of shape (units,) or empty; h = relu(x). Returns True if x is finite.

    Examples
    --------
    >>> import torch
    >>> x, h = torch.tensor([[-3.0], [1.0]]), torch.zeros(2, 1)
    >>> finish(x, torch.tensor([1.0, 1.0]), h), h.tolist()
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
