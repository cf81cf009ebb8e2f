"""Kernels of a GPU in Triton: a CSR product, alone and as a leaky step, its gradient, a product of spikes.

Triton comes with torch for CUDA. Nothing imports this file before `device_products.using("triton")` asks for
it. Activity is (units, batch), row-major. Offsets into activity are counted in 64 bits.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803 - constants of a kernel are in capitals

from __future__ import annotations

import importlib.util
from typing import Any

from torch import Tensor

from sparse_mrnn.errors import MissingExtraError

if importlib.util.find_spec("triton") is None:
    raise MissingExtraError("Triton is not installed; it comes with torch for CUDA on Linux.")

import triton
import triton.language as tl

ACTIVATIONS = {"linear": 0, "relu": 1, "tanh": 2, "sigmoid": 3, "softplus": 4}
"""Numbers that `_add_product` knows activations by."""
BAND_BYTES = 24 * 2**20
"""Bytes of activity that a sampled product reads at a time: half of the second-level cache of an H100."""


@triton.jit
def _activity(x, ACTIVATION: tl.constexpr):
    if ACTIVATION == 1:
        x = tl.where(x < 0, 0.0, x)  # NaN stays
    elif ACTIVATION == 2:
        size = tl.exp(-2 * tl.abs(x))
        tanh = (1 - size) / (1 + size)
        x = tl.where(x < 0, -tanh, tanh)
    elif ACTIVATION == 3:
        size = tl.exp(-tl.abs(x))
        x = tl.where(x < 0, size / (1 + size), 1 / (1 + size))
    elif ACTIVATION == 4:
        x = tl.log(1 + tl.exp(-tl.abs(x))) + tl.where(x < 0, 0.0, x)
    return x


@triton.jit
def _add_product(
    y, crow, col, values, h, rate, tonic, activity, n_rows, batch,
    BETA: tl.constexpr, ALPHA: tl.constexpr,  # as arguments these would be float32
    ROWS: tl.constexpr, SYNAPSES: tl.constexpr, TRIALS: tl.constexpr,
    RATES: tl.constexpr, TONIC: tl.constexpr, ACTIVATION: tl.constexpr,
):  # fmt: skip
    """y = BETA y + ALPHA W h for some rows and trials; or the end of a leaky step.

    With RATES, BETA and ALPHA are 1 - rate and rate of each row. With TONIC, ``tonic`` is added to each row.
    If ACTIVATION is not negative, the activity of y is written to ``activity``.
    """
    trials = tl.program_id(1) * TRIALS + tl.arange(0, TRIALS)
    here = trials < batch
    for k in range(ROWS):
        row = tl.program_id(0) * ROWS + k
        if row < n_rows:
            first, stop = tl.load(crow + row), tl.load(crow + row + 1)
            total = tl.zeros((TRIALS,), values.dtype.element_ty)
            for start in range(first, stop, SYNAPSES):
                entry = start + tl.arange(0, SYNAPSES)
                inside = entry < stop
                source = tl.load(col + entry, inside, 0).to(tl.int64)
                weight = tl.load(values + entry, inside, 0.0)
                at = h + source[:, None] * batch + trials[None, :]
                total += tl.sum(weight[:, None] * tl.load(at, inside[:, None] & here[None, :], 0.0), 0)
            at = row.to(tl.int64) * batch + trials
            if RATES:
                share = tl.load(rate + row)
                new = share * total + (1 - share) * tl.load(y + at, here, 0.0)
            elif BETA == 0:  # y may hold anything
                new = ALPHA * total
            else:
                new = ALPHA * total + BETA * tl.load(y + at, here, 0.0)
            if TONIC:
                new += tl.load(tonic + row)
            tl.store(y + at, new, here)
            if ACTIVATION >= 0:
                tl.store(activity + at, _activity(new, ACTIVATION), here)


@triton.jit
def _add_sampled(
    grad, crow, col, g, h, n_rows, columns, first_column, last_column,
    ROWS: tl.constexpr, SYNAPSES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """grad[e] += sum over a band of columns k of g[i, k] h[j, k], for entries e, at (i, j), of some rows."""
    for k in range(ROWS):
        row = tl.program_id(0) * ROWS + k
        if row < n_rows:
            first, stop = tl.load(crow + row), tl.load(crow + row + 1)
            for start in range(first, stop, SYNAPSES):
                entry = start + tl.arange(0, SYNAPSES)
                inside = entry < stop
                source = tl.load(col + entry, inside, 0).to(tl.int64)
                total = tl.load(grad + entry, inside, 0.0)
                for begin in range(first_column, last_column, COLUMNS):
                    column = begin + tl.arange(0, COLUMNS)
                    here = column < last_column
                    scaled = tl.load(g + row.to(tl.int64) * columns + column, here, 0.0)
                    at = h + source[:, None] * columns + column[None, :]
                    states = tl.load(at, inside[:, None] & here[None, :], 0.0)
                    total += tl.sum(scaled[None, :] * states, 1)
                tl.store(grad + entry, total, inside)


@triton.jit
def _add_spikes(
    y, ptr, target, values, h, batch,
    ALPHA: tl.constexpr, SYNAPSES: tl.constexpr,
):  # fmt: skip
    """y += ALPHA W h for one source in one trial, over its outgoing synapses, unless the source is silent."""
    source, trial = tl.program_id(0), tl.program_id(1)
    state = tl.load(h + source.to(tl.int64) * batch + trial)
    if state != 0:
        first, stop = tl.load(ptr + source), tl.load(ptr + source + 1)
        for start in range(first, stop, SYNAPSES):
            entry = start + tl.arange(0, SYNAPSES)
            inside = entry < stop
            to = tl.load(target + entry, inside, 0).to(tl.int64)
            weight = tl.load(values + entry, inside, 0.0)
            tl.atomic_add(y + to * batch + trial, ALPHA * weight * state, inside)


def blocks(entries: int, rows: int, batch: int) -> dict[str, int]:
    """Sizes of the blocks of a product: trials, synapses of a row at a time, and rows of a program.

    Examples
    --------
    >>> blocks(2_000_000, 20_000, 32)
    {'TRIALS': 32, 'SYNAPSES': 32, 'ROWS': 1}
    """
    trials = min(64, triton.next_power_of_2(batch))
    fan_in = triton.next_power_of_2(max(1, -(-entries // max(rows, 1))))
    synapses = max(4, min(fan_in, 1024 // trials))
    return {"TRIALS": trials, "SYNAPSES": synapses, "ROWS": 1 if fan_in >= 16 else 4}


def _launch(y: Tensor, sizes: dict[str, int]) -> tuple[int, int]:
    return triton.cdiv(len(y), sizes["ROWS"]), triton.cdiv(y.shape[1], sizes["TRIALS"])


def add_product(
    y: Tensor, crow: Tensor, col: Tensor, values: Tensor, h: Tensor, beta: float, alpha: float,
    **sizes: int,
) -> None:  # fmt: skip
    """y = beta * y + alpha * W h, in place; y and h are contiguous. With beta 0, y may hold anything.

    ``sizes`` are those of `blocks`, unless they are given.
    """
    sizes = sizes or blocks(len(values), len(y), y.shape[1])
    kernel: Any = _add_product[_launch(y, sizes)]
    given = y, crow, col, values, _contiguous(h), y, y, y, *y.shape
    kernel(*given, **sizes, BETA=beta, ALPHA=alpha, RATES=False, TONIC=False, ACTIVATION=-1)


def leaky_step(
    x: Tensor,
    activity: Tensor,
    crow: Tensor,
    col: Tensor,
    values: Tensor,
    h: Tensor,
    rate: float | Tensor,
    tonic: Tensor | None,
    activation: str,
    **sizes: int,
) -> None:
    """Make a leaky step in one pass: x = (1 - rate) x + rate W h + tonic, and its activity.

    Parameters
    ----------
    x, activity, h : Tensor, shape (units, batch)
        Contiguous; h is not ``activity``, for every program reads it.
    crow, col, values : Tensor
        The matrix.
    rate : float, or Tensor of shape (units,)
    tonic : Tensor, shape (units,), optional
        Added in each step: rate times bias.
    activation : str
        One of `ACTIVATIONS`.
    **sizes : int
        Those of `blocks`, unless they are given.
    """
    sizes = sizes or blocks(len(values), len(x), x.shape[1])
    by_unit = isinstance(rate, Tensor)
    keep, share = (0.0, 0.0) if isinstance(rate, Tensor) else (1 - rate, rate)
    kernel: Any = _add_product[_launch(x, sizes)]
    rest = rate if by_unit else x, x if tonic is None else tonic, activity, *x.shape
    flags = dict(RATES=by_unit, TONIC=tonic is not None, ACTIVATION=ACTIVATIONS[activation])
    kernel(x, crow, col, values, h, *rest, **sizes, BETA=keep, ALPHA=share, **flags)


def add_sampled(
    grad: Tensor, crow: Tensor, col: Tensor, g: Tensor, h: Tensor, band_bytes: int = BAND_BYTES, **sizes: int
) -> None:
    """grad[e] += sum_k g[i, k] h[j, k] for each entry e, at (i, j), in place, band of columns after band.

    A band of h fits the cache; within one, a row of g is read once for all entries of the row.
    """
    n_rows, columns = g.shape
    sizes = sizes or {"ROWS": 1, "SYNAPSES": 32, "COLUMNS": min(32, triton.next_power_of_2(columns))}
    width = max(sizes["COLUMNS"], band_bytes // (max(len(h), 1) * h.element_size()))
    kernel: Any = _add_sampled[(triton.cdiv(n_rows, sizes["ROWS"]),)]
    for first in range(0, columns, width):
        last = min(first + width, columns)
        kernel(grad, crow, col, _contiguous(g), _contiguous(h), n_rows, columns, first, last, **sizes)


def add_spikes(y: Tensor, ptr: Tensor, target: Tensor, values: Tensor, h: Tensor, alpha: float) -> None:
    """y += alpha * W h, in place, over the outgoing synapses of sources that are not silent.

    The matrix is given by source: the transposed pattern and its values. What reaches a unit is added in the
    order of arrival, so the last bits of a sum may differ from run to run.
    """
    fan_out = triton.next_power_of_2(max(1, len(values) // max(len(h), 1)))
    kernel: Any = _add_spikes[h.shape]
    kernel(y, ptr, target, values, h, y.shape[1], ALPHA=alpha, SYNAPSES=max(16, min(256, fan_out)))


def _contiguous(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_contiguous() else tensor.contiguous()
