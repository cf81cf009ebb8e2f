"""Gram matrices of recorded states, added up block by block, and ridge regression from them.

The Gram matrix is that of the units, (units, units), or if these are more than the samples, of the samples.
It is kept for each part of the samples that is left out in turn, so validation does not read the states
again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from sparse_mrnn.analysis.dynamics import as_tensor
from sparse_mrnn.analysis.result import Float
from sparse_mrnn.analysis.time_blocks import BLOCK_BYTES, TimeBlocks
from sparse_mrnn.checks import whole_number
from sparse_mrnn.errors import AnalysisError, ShapeError, SizeError
from sparse_mrnn.runtime import free_memory

STATES_BYTES = 2**30
"""Bytes of states that are kept at a time while the Gram matrix of the samples is made."""
COLUMNS = 2**12
"""Units that are multiplied at a time in float64."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Targets of the samples, and where the samples are.

    ``row``, shape (trials, times), is the number of each sample, -1 of one that is left out; ``y``, shape
    (samples, outputs), the targets without their mean, which is ``mean``; ``fold`` the part of the samples
    that each is of, of ``folds`` in all.
    """

    row: NDArray[np.int64]
    y: Float
    mean: Float
    fold: NDArray[np.int64]
    folds: int

    @classmethod
    def of(cls, blocks: TimeBlocks, targets: Any, folds: int, washout: int) -> Samples:
        """Check targets and divide their samples."""
        trials, steps, _ = blocks.shape
        y = by_time(targets, trials, steps, "ridge_readout: targets")
        if np.isinf(y).any():
            trial, step, output = np.argwhere(np.isinf(y))[0].tolist()
            where = f"output {output} is infinite in trial {trial} at time step {step}"
            raise AnalysisError(f"ridge_readout: {where}; NaN leaves a sample out.")
        whole_number(washout, "ridge_readout: washout", AnalysisError, least=0)
        used = np.asarray(np.isfinite(y).all(axis=2))
        used[:, :washout] = False
        count = int(used.sum())
        if count < max(2, folds):
            need = max(2, folds)
            raise AnalysisError(f"ridge_readout: {count} samples have targets; give at least {need}.")
        row = np.where(used, np.cumsum(used).reshape(used.shape) - 1, -1)
        trial, _ = np.nonzero(used)
        parts = max(folds, 1)
        with_samples = np.unique(trial)
        if len(with_samples) >= parts:
            fold = np.searchsorted(with_samples, trial) * parts // len(with_samples)
        else:
            fold = np.arange(count) * parts // count
        y = y[used]
        mean = y.mean(axis=0)
        flat = np.flatnonzero(np.ptp(y, axis=0) == 0)
        if len(flat):
            raise AnalysisError(f"ridge_readout: output {flat[0]} is the same in all samples; leave it out.")
        return cls(row, y - mean, mean, fold.astype(np.int64), folds)


def by_time(values: Any, trials: int, steps: int, what: str) -> Float:
    """Values of every sample, shape (trial, time, last).

    Of a single trial the first dimension may be missing, of a single number the last.

    Examples
    --------
    >>> by_time([1.0, 2.0], 1, 2, "targets").shape, by_time(np.ones((3, 2)), 3, 2, "targets").shape
    ((1, 2, 1), (3, 2, 1))
    """
    found = as_tensor(values).cpu().double().numpy()
    if found.ndim == 2 and found.shape == (trials, steps):
        found = found[:, :, None]
    elif found.ndim < 3 and trials == 1:
        found = found[None] if found.ndim == 2 else found.reshape(1, -1, 1)
    if found.ndim != 3 or found.shape[:2] != (trials, steps) or found.shape[2] == 0:
        expected = f"expected (trial, time, ...) = ({trials}, {steps}, ...), as the states"
        raise ShapeError(f"{what} have shape {np.shape(values)}; {expected}.")
    return found


@dataclass(eq=False)
class Solution:
    """Weights, (units, outputs), and intercepts, both for states and targets without their shift.

    ``coefficients``, of the samples, give the weights if they are not known yet.
    """

    weights: Float | None
    intercept: Float
    gram: Gram
    coefficients: Float | None = None


class Gram(ABC):
    """The Gram matrix of the states of some units, and what ridge regression takes from it.

    States enter without ``shift``, those of the first sample, so that sums lose no digits.
    """

    def __init__(self, samples: Samples, units: NDArray[np.int64]) -> None:
        self.samples, self.units = samples, units
        self.shift: Float | None = None

    @staticmethod
    def of(samples: Samples, units: NDArray[np.int64]) -> Gram:
        """The smaller of the two."""
        return (UnitGram if len(units) <= len(samples.y) else SampleGram)(samples, units)

    def columns(self, states: NDArray[Any], part: slice = slice(None)) -> Float:
        """States of these units, or a range of them, in float64 and without shift."""
        whole = self.units[part]
        if len(whole) and whole[-1] - whole[0] + 1 == len(whole):
            taken = states[:, whole[0] : whole[-1] + 1]  # a view
        else:
            taken = states[:, whole]
        if self.shift is None:
            self.shift = states[0, self.units].astype(np.float64)
        return np.asarray(taken.astype(np.float64) - self.shift[part])

    @abstractmethod
    def solve(self, alpha: float, fold: int | None) -> Solution:
        """Solve the regression on all samples, or on those outside of a fold.

        LinAlgError if alpha is too small for that.
        """

    @abstractmethod
    def statistics(self, found: Solution, fold: int) -> Float:
        """Sums over the samples of a fold: of predictions p, p^2 and p y, shape (3, outputs)."""


class UnitGram(Gram):
    """Sums of x x^T, x y^T, x and 1 over the samples of each fold."""

    def __init__(self, samples: Samples, units: NDArray[np.int64]) -> None:
        super().__init__(samples, units)
        n, parts = len(units), max(samples.folds, 1)
        _check_memory((parts + 2) * n**2, f"the Gram matrices of {n:,} units and {parts} folds")
        self.xx, self.xy = np.zeros((parts, n, n)), np.zeros((parts, n, samples.y.shape[1]))
        self.x = np.zeros((parts, n))
        self.count = np.bincount(samples.fold, minlength=parts).astype(np.float64)
        self.y = np.stack([samples.y[samples.fold == k].sum(axis=0) for k in range(parts)])

    def add(self, rows: NDArray[np.int64], states: NDArray[Any]) -> None:
        """Add samples, (samples, units of the states)."""
        fold = self.samples.fold[rows]
        length = max(1, BLOCK_BYTES // (8 * max(len(self.units), 1)))
        for k in np.unique(fold).tolist():
            here = np.flatnonzero(fold == k)
            for start in range(0, len(here), length):
                some = here[start : start + length]
                x = self.columns(states[some])
                self.xx[k] += x.T @ x
                self.xy[k] += x.T @ self.samples.y[rows[some]]
                self.x[k] += x.sum(axis=0)

    def solve(self, alpha: float, fold: int | None) -> Solution:
        keep = np.arange(len(self.count)) != (-1 if fold is None else fold)
        count, x, y = self.count[keep].sum(), self.x[keep].sum(axis=0), self.y[keep].sum(axis=0)
        gram = self.xx[keep].sum(axis=0)
        gram -= np.outer(x, x / count)
        gram[np.diag_indices_from(gram)] += alpha
        right = self.xy[keep].sum(axis=0) - np.outer(x, y / count)
        weights = cho_solve(cho_factor(gram, overwrite_a=True), right)
        return Solution(weights, (y - x @ weights) / count, self)

    def statistics(self, found: Solution, fold: int) -> Float:
        w, b = found.weights, found.intercept
        linear, count = self.x[fold] @ w, self.count[fold]
        squares = (w * (self.xx[fold] @ w)).sum(axis=0) + 2 * b * linear + count * b**2
        product = (w * self.xy[fold]).sum(axis=0) + b * self.y[fold]
        return np.stack([linear + count * b, squares, product])


class SampleGram(Gram):
    """Products of the states of every two samples."""

    def __init__(self, samples: Samples, units: NDArray[np.int64]) -> None:
        super().__init__(samples, units)
        count = len(samples.y)
        _check_memory(3 * count**2, f"the Gram matrix of {count:,} samples")
        self.products = np.zeros((count, count))

    def add_pairs(self, rows: NDArray[np.int64], states: NDArray[Any], others: Any, theirs: Any) -> None:
        """Add the products of samples with others, or with each other if these are None."""
        found = np.zeros((len(rows), len(rows) if others is None else len(others)))
        for start in range(0, len(self.units), COLUMNS):
            part = slice(start, start + COLUMNS)
            x = self.columns(states, part)
            found += x @ (x if others is None else self.columns(theirs, part)).T
        self.products[np.ix_(rows, rows if others is None else others)] = found
        if others is not None:
            self.products[np.ix_(others, rows)] = found.T

    def solve(self, alpha: float, fold: int | None) -> Solution:
        keep = np.flatnonzero(self.samples.fold != (-1 if fold is None else fold))
        gram = self.products[np.ix_(keep, keep)]
        mean = gram.mean(axis=0)
        gram += mean.mean() - mean[:, None] - mean
        gram[np.diag_indices_from(gram)] += alpha
        y = self.samples.y[keep]
        dual = cho_solve(cho_factor(gram, overwrite_a=True), y - y.mean(axis=0))
        coefficients = np.zeros_like(self.samples.y)
        coefficients[keep] = dual - dual.mean(axis=0)  # of the states less their mean
        return Solution(None, y.mean(axis=0) - mean @ coefficients[keep], self, coefficients)

    def statistics(self, found: Solution, fold: int) -> Float:
        here = self.samples.fold == fold
        p = self.products[here] @ found.coefficients + found.intercept
        return np.stack([p.sum(axis=0), (p**2).sum(axis=0), (p * self.samples.y[here]).sum(axis=0)])


def _check_memory(numbers: int, what: str) -> None:
    if 8 * numbers > (free := free_memory()):
        size = f"{what} take {8 * numbers / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
        raise SizeError(f"ridge_readout: {size}; use fewer units (regions=), folds or samples.")


# ---------------------------------------------------------------- reading


class _Reader:
    """Samples by blocks of times: their numbers, and states of shape (samples, units)."""

    def __init__(self, blocks: TimeBlocks, samples: Samples, size: int) -> None:
        trials, _, n = blocks.shape
        self.blocks, self.samples = blocks, samples
        self.ranges = list(blocks.ranges(blocks.itemsize * trials * n, size))
        self._latest: tuple[int, Any] = -1, None

    def read(self, number: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Read a block, unless it is the one that was read last."""
        if self._latest[0] != number:
            start, stop = self.ranges[number]
            row = self.samples.row[:, start:stop]
            self._latest = number, (row[row >= 0], self.blocks.read(start, stop)[row >= 0])
        found: tuple[NDArray[np.int64], NDArray[Any]] = self._latest[1]
        return found

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        return map(self.read, range(len(self.ranges)))


def add_up(blocks: TimeBlocks, samples: Samples, grams: Sequence[Gram]) -> None:
    """Read the states and add them to every Gram matrix: in one pass, if none is of the samples."""
    of_units = [gram for gram in grams if isinstance(gram, UnitGram)]
    of_samples = [gram for gram in grams if isinstance(gram, SampleGram)]
    reader = _Reader(blocks, samples, STATES_BYTES if of_samples else BLOCK_BYTES)
    for k, (rows, states) in enumerate(reader):
        if not len(rows):
            continue
        for gram in of_units:
            gram.add(rows, states)
        for each in of_samples:
            each.add_pairs(rows, states, None, None)
        for other in range(len(reader.ranges) - 1, k, -1) if of_samples else ():  # ends with the next one
            theirs, their_states = reader.read(other)
            for each in of_samples:
                each.add_pairs(rows, states, theirs, their_states)


def dual_weights(blocks: TimeBlocks, samples: Samples, solutions: Sequence[Solution]) -> None:
    """Give solutions that have coefficients of samples their weights, in one more pass over the states."""
    missing = [each for each in solutions if each.weights is None]
    for each in missing:
        each.weights = np.zeros((len(each.gram.units), samples.y.shape[1]))
    for rows, states in _Reader(blocks, samples, BLOCK_BYTES) if missing else ():
        for each in missing:
            for start in range(0, len(each.gram.units), COLUMNS):
                part = slice(start, start + COLUMNS)
                each.weights[part] += each.gram.columns(states, part).T @ each.coefficients[rows]  # type: ignore[index]


# ---------------------------------------------------------------- choosing the penalty


def validated(gram: Gram, alphas: Float) -> tuple[Float, Float]:
    """r2 and correlation with the targets over samples left out in turn, each (penalties, outputs).

    -inf and NaN where alpha is too small for the Gram matrix to be inverted.
    """
    samples, outputs = gram.samples, gram.samples.y.shape[1]
    r2, correlation = np.full((len(alphas), outputs), -np.inf), np.full((len(alphas), outputs), np.nan)
    count, power = len(samples.y), (samples.y**2).sum(axis=0)  # y has mean 0
    for k, alpha in enumerate(alphas.tolist()):
        total = np.zeros((3, outputs))
        try:
            for fold in range(samples.folds):
                total += gram.statistics(gram.solve(alpha, fold), fold)
        except LinAlgError:
            continue
        p, squares, product = total
        r2[k] = 1 - (power - 2 * product + squares) / power
        spread = squares - p**2 / count
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation[k] = np.where(spread > 1e-14 * squares, product / np.sqrt(spread * power), 0.0)
    return r2, correlation


def solve(gram: Gram, alpha: Float) -> Solution:
    """Ridge regression on all samples, with a penalty for each output."""
    try:
        each = {value: gram.solve(value, None) for value in np.unique(alpha).tolist()}
    except LinAlgError:
        what = f"alpha = {alpha.min():g} is too small to tell these units apart"
        raise AnalysisError(f"ridge_readout: {what}; some are copies or sums of others.") from None
    found = next(iter(each.values()))
    for value, one in each.items():
        here = alpha == value
        for name in ("weights", "coefficients", "intercept"):
            part = getattr(found, name)
            if part is not None:
                part[..., here] = getattr(one, name)[..., here]
    return found
