"""Compiled CPU kernels (numba, the extra ``fast``), used where numba is installed.

A training step spends most of its time in the sampled product; reading each synapse's two rows once per chunk of
time x batch, four synapses at a time, takes about two thirds of the time of torch's kernel (docs/decisions/0003).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

SLOPES = {"linear": 0, "relu": 1, "tanh": 2, "sigmoid": 3}
"""Activations whose derivative `backward_step` computes from h, by kind; with kind 0 it is 1."""
SHARE = 256
"""Rows, or columns, of a block that one thread multiplies at a time, so that one large block is shared among threads."""
Sampled = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]
Block = Callable[[Tensor, Tensor, Tensor], None]
SAFE = {"reassoc", "contract", "nsz"}
"""fastmath that keeps NaN and infinities, so a net that diverges is seen to."""


@cache
def sampled_product() -> Sampled | None:
    """``f(first, col, g, h, grad)``: add sum_k g[i, k] h[j, k] to ``grad`` for each entry (i, j). None without numba.

    ``first`` is of `bands`, ``col`` of the CSR pattern. Repeated entries each get the full sum. Tensors are on the CPU,
    g and h contiguous and of one dtype.

    Examples
    --------
    >>> f, crow, col, grad = sampled_product(), torch.tensor([0, 1, 2]), torch.tensor([1, 0]), torch.zeros(2)
    >>> if f: f(bands(crow, col, columns=2, height=2), col, torch.ones(2, 3), torch.ones(2, 3), grad)
    >>> grad.tolist() if f else [3.0, 3.0]
    [3.0, 3.0]
    """
    if importlib.util.find_spec("numba") is None:
        return None
    numba = importlib.import_module("numba")
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=SAFE, cache=True)  # type: ignore[untyped-decorator]
    def kernel(first, col, g, h, grad):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        width = g.shape[1]
        zero = grad.dtype.type(0)
        for band in range(first.shape[0] - 1):
            for i in prange(first.shape[1]):
                e, stop = first[band, i], first[band + 1, i]
                row = g[i]
                while e + 8 <= stop:
                    h0, h1, h2, h3 = h[col[e]], h[col[e + 1]], h[col[e + 2]], h[col[e + 3]]
                    h4, h5, h6, h7 = h[col[e + 4]], h[col[e + 5]], h[col[e + 6]], h[col[e + 7]]
                    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zero
                    for k in range(width):
                        v = row[k]
                        s0 += v * h0[k]
                        s1 += v * h1[k]
                        s2 += v * h2[k]
                        s3 += v * h3[k]
                        s4 += v * h4[k]
                        s5 += v * h5[k]
                        s6 += v * h6[k]
                        s7 += v * h7[k]
                    grad[e] += s0
                    grad[e + 1] += s1
                    grad[e + 2] += s2
                    grad[e + 3] += s3
                    grad[e + 4] += s4
                    grad[e + 5] += s5
                    grad[e + 6] += s6
                    grad[e + 7] += s7
                    e += 8
                while e + 2 <= stop:
                    h0, h1 = h[col[e]], h[col[e + 1]]
                    s0 = s1 = zero
                    for k in range(width):
                        v = row[k]
                        s0 += v * h0[k]
                        s1 += v * h1[k]
                    grad[e] += s0
                    grad[e + 1] += s1
                    e += 2
                if e < stop:
                    h0 = h[col[e]]
                    s0 = zero
                    for k in range(width):
                        s0 += row[k] * h0[k]
                    grad[e] += s0

    def run(first: Tensor, col: Tensor, g: Tensor, h: Tensor, grad: Tensor) -> None:
        use_torch_threads()
        kernel(first.numpy(), col.numpy(), g.numpy(), h.numpy(), grad.numpy())

    return run


def bands(crow: Tensor, col: Tensor, *, columns: int, height: int) -> Tensor:
    """Where each row enters each band of ``height`` columns, shape (bands + 1, rows), the last being its end.

    Within a band the rows of h that are read stay in cache. Rows that are not sorted by band are one band.

    Examples
    --------
    >>> bands(torch.tensor([0, 2, 3]), torch.tensor([0, 3, 1]), columns=4, height=4).tolist()
    [[0, 2], [2, 3]]
    """
    if columns > height:
        first = crow.new_empty(-(-columns // height) + 1, len(crow) - 1)
        if _split()(crow.numpy(), col.numpy(), height, first.numpy()):
            return first
    return torch.stack([crow[:-1], crow[1:]])


@cache
def _split() -> Callable[..., bool]:
    numba = importlib.import_module("numba")
    prange = numba.prange

    @numba.njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
    def kernel(crow, col, height, first):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        backward = 0
        for i in prange(first.shape[1]):
            band = 0
            first[0, i] = crow[i]
            for e in range(crow[i], crow[i + 1]):
                backward += col[e] < band * height
                while col[e] >= (band + 1) * height:
                    band += 1
                    first[band, i] = e
            for later in range(band + 1, len(first)):
                first[later, i] = crow[i + 1]
        return backward == 0

    found: Callable[..., bool] = kernel
    return found


@cache
def backward_step() -> Callable[..., None] | None:
    """The pointwise part of a step backward in one pass. None without numba.

    ``f(kind, rate, h, t, source, carry_h, carry_x, scaled, gathered, activity, k, bias)``, for every unit and trial:
    carry_h *= f'(x), from h[t] and the kind of the unit's activation (`SLOPES`); carry_x += carry_h; scaled = rate * carry_x;
    carry_x -= scaled; gathered[:, k] = scaled; activity[:, k] = source; bias += the sum of scaled over trials. The last
    three arrays may be empty. Arrays are C-contiguous. Call `use_torch_threads` before the first step.

    Examples
    --------
    >>> import numpy as np
    >>> f, one, scaled, none = backward_step(), np.ones((1, 1)), np.zeros((1, 1)), np.zeros((1, 0, 1))
    >>> if f: f(np.array([2], np.int8), np.array([0.5]), 0.5 * np.ones((1, 1, 1)), 0, one, one, one + 0, scaled, none, none, 0, np.zeros(0))
    >>> scaled.tolist() if f else [[0.875]]
    [[0.875]]
    """
    if importlib.util.find_spec("numba") is None:
        return None
    numba = importlib.import_module("numba")
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=SAFE, cache=True)  # type: ignore[untyped-decorator]
    def kernel(kind, rate, h, t, source, carry_h, carry_x, scaled, gathered, activity, k, bias):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        one = scaled.dtype.type(1)
        for i in prange(len(kind)):
            now, back_h, back_x, out = h[t, i], carry_h[i], carry_x[i], scaled[i]
            slope = kind[i]
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

    found: Callable[..., None] = kernel
    return found


@cache
def block_products() -> tuple[Block, Block] | None:
    """Matrix-vector products of many blocks, each way; None without numba.

    ``forward(blocks, x, y)``: y[n] = blocks[n] x[n], and ``backward(blocks, y, x)``: x[n] = blocks[n]^T y[n], for blocks
    (n, m, k), x (n, k), y (n, m). Bound by reading the blocks once, 4 bytes a synapse; tensors are on the CPU, contiguous
    and of one dtype.

    Examples
    --------
    >>> both, y, x = block_products(), torch.zeros(1, 2), torch.zeros(1, 3)
    >>> if both: both[0](torch.ones(1, 2, 3), torch.ones(1, 3), y)
    >>> if both: both[1](torch.ones(1, 2, 3), torch.ones(1, 2), x)
    >>> (y.tolist(), x.tolist()) if both else ([[3.0, 3.0]], [[2.0, 2.0, 2.0]])
    ([[3.0, 3.0]], [[2.0, 2.0, 2.0]])
    """
    if importlib.util.find_spec("numba") is None:
        return None
    numba = importlib.import_module("numba")
    prange = numba.prange

    @numba.njit(parallel=True, fastmath=SAFE, cache=True)  # type: ignore[untyped-decorator]
    def multiply(blocks, x, y):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        m, width = blocks.shape[1], blocks.shape[2]
        parts = (m + SHARE - 1) // SHARE
        zero = x.dtype.type(0)
        for task in prange(blocks.shape[0] * parts):
            n = task // parts
            r = SHARE * (task - n * parts)
            stop = min(m, r + SHARE)
            block, here, out = blocks[n], x[n], y[n]
            while r + 4 <= stop:
                b0, b1, b2, b3 = block[r], block[r + 1], block[r + 2], block[r + 3]
                s0 = s1 = s2 = s3 = zero
                for k in range(width):
                    v = here[k]
                    s0 += b0[k] * v
                    s1 += b1[k] * v
                    s2 += b2[k] * v
                    s3 += b3[k] * v
                out[r], out[r + 1], out[r + 2], out[r + 3] = s0, s1, s2, s3
                r += 4
            while r < stop:
                b0 = block[r]
                s0 = zero
                for k in range(width):
                    s0 += b0[k] * here[k]
                out[r] = s0
                r += 1

    @numba.njit(parallel=True, fastmath=SAFE, cache=True)  # type: ignore[untyped-decorator]
    def multiply_transposed(blocks, y, x):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        m, width = blocks.shape[1], blocks.shape[2]
        parts = (width + SHARE - 1) // SHARE
        for task in prange(blocks.shape[0] * parts):
            n = task // parts
            begin = SHARE * (task - n * parts)
            stop = min(width, begin + SHARE)
            block, here, out = blocks[n], y[n], x[n, begin:stop]  # slices, not offsets: the loops are twice as fast
            out[:] = 0
            r = 0
            while r + 4 <= m:
                b0, b1, b2, b3 = block[r, begin:stop], block[r + 1, begin:stop], block[r + 2, begin:stop], block[r + 3, begin:stop]
                g0, g1, g2, g3 = here[r], here[r + 1], here[r + 2], here[r + 3]
                for k in range(len(out)):
                    out[k] += b0[k] * g0 + b1[k] * g1 + b2[k] * g2 + b3[k] * g3
                r += 4
            while r < m:
                b0, g0 = block[r, begin:stop], here[r]
                for k in range(len(out)):
                    out[k] += b0[k] * g0
                r += 1

    def compiled(kernel: Any) -> Block:
        def run(*tensors: Tensor) -> None:
            use_torch_threads()
            kernel(*(t.numpy() for t in tensors))

        return run

    return compiled(multiply), compiled(multiply_transposed)


@cache
def signed_gather() -> tuple[Callable[..., None], Callable[..., None]] | None:
    """Dale's law in one pass each way; None without numba.

    ``forward(values, perm, sign, w)``: w[e] = values[perm[e]] by its sign. ``backward(values, perm, sign, grad, out)``:
    out[perm[e]] = grad[e] times the slope. The slope at 0 is that of a positive value.

    Examples
    --------
    >>> both, w = signed_gather(), torch.zeros(2)
    >>> if both: both[0](torch.tensor([-1.0, 2.0]), torch.tensor([1, 0]), torch.tensor([-1, 1], dtype=torch.int8), w)
    >>> w.tolist() if both else [-2.0, 1.0]
    [-2.0, 1.0]
    """
    if importlib.util.find_spec("numba") is None:
        return None
    numba = importlib.import_module("numba")
    prange = numba.prange

    @numba.njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
    def gather(values, perm, sign, w):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        for e in prange(len(w)):
            v = values[perm[e]]
            if (sign[e] > 0 and v < 0) or (sign[e] < 0 and not v < 0):
                v = -v
            w[e] = v

    @numba.njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
    def scatter(values, perm, sign, grad, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        for e in prange(len(grad)):
            v, g = values[perm[e]], grad[e]
            if (sign[e] > 0 and v < 0) or (sign[e] < 0 and not v < 0):
                g = -g
            out[perm[e]] = g

    def forward(*tensors: Tensor) -> None:
        use_torch_threads()
        gather(*(t.numpy() for t in tensors))

    def backward(*tensors: Tensor) -> None:
        use_torch_threads()
        scatter(*(t.numpy() for t in tensors))

    return forward, backward


def use_torch_threads() -> None:
    """Let compiled kernels have as many threads as torch has."""
    numba = _numba()
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))


@cache
def _numba() -> Any:
    return importlib.import_module("numba")
