"""Linear readouts of recorded activity: ridge regression from Gram matrices that are added up block by block.

With fewer units than samples the Gram matrix is that of the units, (units, units); with more, that of the
samples, (samples, samples). Neither the states of all units nor a matrix of units x units is then in memory
(Hoerl & Kennard 1970, Technometrics 12:55; Saunders et al. 1998, ICML, for the dual form). Validation takes
parts of the same matrices, so the states are not read again for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.analysis.gram import Gram, Samples, Solution, add_up, by_time, dual_weights, solve, validated
from sparse_mrnn.analysis.result import Float, Result
from sparse_mrnn.analysis.time_blocks import TimeBlocks
from sparse_mrnn.checks import names_of, option, real_number, whole_number
from sparse_mrnn.errors import AnalysisError, ShapeError, UnknownNameError, suggest

ALPHAS = tuple(10.0**k for k in range(-6, 4))


@dataclass(frozen=True, eq=False, repr=False)
class Readout(Result):
    """A linear readout: outputs = states @ weights.T + intercept.

    Parameters
    ----------
    weights : ndarray, shape (outputs, units)
    intercept : ndarray, shape (outputs,)
    alpha : ndarray, shape (outputs,)
        Penalty of each output: that of ``alphas`` with the largest validated ``r2``.
    r2, correlation : ndarray, shape (outputs,)
        Coefficient of determination, and correlation with the target, over the samples left out of the fit.
        NaN without validation.
    alphas : ndarray, shape (penalties,)
    r2_of_alpha : ndarray, shape (penalties, outputs)
    region, unit_id : ndarray of str, shape (units,), or None
        Of the states, if they had labels.
    samples : int
        Samples that were fitted.
    """

    weights: Annotated[Float, "output", "unit"]
    intercept: Annotated[Float, "output"]
    alpha: Annotated[Float, "output"]
    r2: Annotated[Float, "output"]
    correlation: Annotated[Float, "output"]
    alphas: Annotated[Float, "penalty"]
    r2_of_alpha: Annotated[Float, "penalty", "output"]
    region: Annotated[NDArray[np.str_] | None, "unit"]
    unit_id: Annotated[NDArray[np.str_] | None, "unit"]
    samples: int

    def predict(self, states: Any) -> Float:
        """Outputs for states as `ridge_readout` takes them, read block by block: (trial, time, output).

        Raises
        ------
        AnalysisError
            If labelled states do not have one of the units.
        ShapeError
            If states without labels have another number of units.
        """
        blocks = TimeBlocks(states)
        trials, steps, n = blocks.shape
        units: Any = slice(None)
        if blocks.labels is not None and self.region is not None and self.unit_id is not None:
            labels = zip(*(each.tolist() for each in blocks.labels), strict=True)
            place = {pair: k for k, pair in enumerate(labels)}
            own = list(zip(self.region.tolist(), self.unit_id.tolist(), strict=True))
            for region, unit in own:
                if (region, unit) not in place:
                    raise AnalysisError(f"predict: the states have no unit {unit!r} of region {region!r}.")
            units = [place[pair] for pair in own]
        elif n != self.weights.shape[1]:
            raise ShapeError(f"predict: states of {n} units, but the readout has {self.weights.shape[1]}.")
        found = np.empty((trials, steps, len(self.weights)))
        for start, stop in blocks.ranges(8 * trials * n):
            read = blocks.read(start, stop)[:, :, units]
            found[:, start:stop] = read.astype(np.float64) @ self.weights.T
        return found + self.intercept


def ridge_readout(
    states: Any, targets: Any, *, alphas: Sequence[float] | float = ALPHAS, folds: int = 5, washout: int = 0,
    regions: str | Sequence[str] | None = None, by: Literal["all", "region"] = "all",
) -> Any:
    """Fit targets linearly to states by ridge regression, in one or two passes over a recording on disk.

    Memory does not grow with the duration if there are fewer units than samples. Else two blocks of up to 1
    GiB of states are kept at a time; m blocks are read (m - 1) / 2 + 1 / m times, and once more for the
    weights: twice up to 2 GiB of states.

    Parameters
    ----------
    states : array, shape (trial, time, unit) or (time, unit); xarray DataArray or Dataset; or path of a
        recording, of which h is read
    targets : array, shape (trial, time, outputs), (trial, time), or (time, outputs) of a single trial
        A sample with a NaN is left out.
    alphas : float or sequence of float
        Penalties on the squares of the weights, above 0; the intercept has none.
    folds : int
        Parts of the samples that are left out in turn to choose alpha and to measure how well the readout
        generalises: of trials if there are as many, else of consecutive times. 0: no validation, one alpha.
    washout : int
        Time steps at the start of each trial that do not count.
    regions : str or sequence of str, optional
        Only from the units of these regions, for states with labels.
    by : {"all", "region"}
        One readout of all units, or one of each region, all from the same pass.

    Returns
    -------
    Readout, or dict of str to Readout with ``by="region"``

    Raises
    ------
    AnalysisError
        If an option is not possible, or the targets are constant or have no finite sample.
    ShapeError
        If targets do not fit the states.
    SizeError
        If the Gram matrices do not fit in memory.
    RecordingError
        If states are not finite; the message says which.
    UnknownNameError
        If there is no such region.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((200, 3))
    >>> found = ridge_readout(x, x @ [[1.0], [0.0], [-2.0]] + 0.5, alphas=1e-6)
    >>> found.weights.round(3).tolist(), found.intercept.round(3).tolist(), found.r2.round(6).tolist()
    ([[1.0, 0.0, -2.0]], [0.5], [1.0])
    """
    apart = option(by, ("all", "region"), "ridge_readout: by", AnalysisError) == "region"
    penalties = _penalties(alphas)
    whole_number(folds, "ridge_readout: folds", AnalysisError, least=0)
    if folds == 1 or (folds == 0 and len(penalties) > 1):
        raise AnalysisError(f"ridge_readout: folds is {folds}; use at least 2, or 0 with one alpha.")
    blocks = TimeBlocks(states)
    groups = _groups(blocks, regions, apart=apart)
    samples = Samples.of(blocks, targets, folds, washout)
    grams = [Gram.of(samples, units) for units in groups.values()]
    add_up(blocks, samples, grams)
    fits = [_Fit.of(gram, penalties) for gram in grams]
    dual_weights(blocks, samples, [fit.solution for fit in fits])
    found = {name: fit.readout(blocks) for name, fit in zip(groups, fits, strict=True)}
    return found if apart else found[ALL]


@dataclass(frozen=True, eq=False)
class _Fit:
    """A solution, and how well others of its kind predicted samples that they did not have."""

    solution: Solution
    alpha: Float
    alphas: Float
    r2: Float
    correlation: Float

    @classmethod
    def of(cls, gram: Gram, alphas: Float) -> _Fit:
        """Choose a penalty for each output and solve."""
        outputs = gram.samples.y.shape[1]
        best = np.zeros(outputs, dtype=np.int64)
        r2 = correlation = np.full((len(alphas), outputs), np.nan)
        if gram.samples.folds:
            r2, correlation = validated(gram, alphas)
            best = r2.argmax(axis=0)
        return cls(solve(gram, alphas[best]), alphas[best], alphas, r2, correlation)

    def readout(self, blocks: TimeBlocks) -> Readout:
        """The readout of states and targets with their shift."""
        gram, samples = self.solution.gram, self.solution.gram.samples
        weights = np.ascontiguousarray(cast(Float, self.solution.weights).T)
        intercept = self.solution.intercept + samples.mean - weights @ cast(Float, gram.shift)
        chosen = [self.alphas.tolist().index(alpha) for alpha in self.alpha.tolist()]
        r2, correlation = (each[chosen, range(len(chosen))] for each in (self.r2, self.correlation))
        region, unit_id = blocks.labels or (None, None)
        return Readout(
            weights=weights,
            intercept=intercept,
            alpha=self.alpha,
            r2=r2,
            correlation=correlation,
            alphas=self.alphas,
            r2_of_alpha=self.r2,
            region=None if region is None else region[gram.units],
            unit_id=None if unit_id is None else unit_id[gram.units],
            samples=len(samples.y),
        )


ALL = "all units"


def _penalties(alphas: Any) -> Float:
    """Penalties, checked."""
    given = [alphas] if np.ndim(alphas) == 0 else list(alphas)
    found = [float(real_number(alpha, "ridge_readout: alpha", AnalysisError)) for alpha in given]
    if not found or min(found) <= 0:
        raise AnalysisError(f"ridge_readout: alphas are {found}; give at least one, above 0.")
    return np.array(found)


def _groups(
    blocks: TimeBlocks, regions: str | Sequence[str] | None, *, apart: bool
) -> dict[str, NDArray[np.int64]]:
    """Columns of the states that each readout reads."""
    if regions is None and not apart:
        return {ALL: np.arange(blocks.shape[2])}
    if blocks.labels is None:
        raise AnalysisError("ridge_readout: the states have no regions; give a recording, or an xarray.")
    own = blocks.labels[0]
    known = list(dict.fromkeys(own.tolist()))
    names = known if regions is None else names_of(regions, "ridge_readout: regions", AnalysisError)
    for name in names:
        if name not in known:
            hint = suggest(name, known, what="regions")
            raise UnknownNameError(f"ridge_readout: the states have no region {name!r}. {hint}")
    if apart:
        return {name: np.flatnonzero(own == name) for name in names}
    return {ALL: np.flatnonzero(np.isin(own, names))}


@dataclass(frozen=True, eq=False, repr=False)
class MemoryCapacity(Result):
    """How well past inputs can be read out linearly.

    Parameters
    ----------
    delay : ndarray of int, shape (delays,)
        Time steps.
    capacity : ndarray, shape (delays, inputs)
        Squared correlation of the readout with the input so many steps before, over samples left out.
    """

    delay: Annotated[NDArray[np.int64], "delay"]
    capacity: Annotated[Float, "delay", "input"]

    COORDINATES: ClassVar[tuple[str, ...]] = ("delay",)

    @property
    def total(self) -> float:
        """Sum over delays and inputs; at most the number of units, if inputs are independent in time."""
        return float(self.capacity.sum())


def memory_capacity(
    states: Any, inputs: Any, delays: Sequence[int] | int = 50, *, alphas: Sequence[float] | float = ALPHAS,
    folds: int = 5, washout: int = 0, regions: str | Sequence[str] | None = None,
) -> MemoryCapacity:
    """Find how much of past inputs states remember, by a linear readout of each delay.

    Parameters
    ----------
    states : as for `ridge_readout`
    inputs : array, shape (trial, time, inputs), (trial, time), or (time, inputs) of a single trial
        Of the same time steps: the input of a step, and the state after it. Best independent in time.
    delays : int or sequence of int
        Delays in steps, or their number, from 0 on. Delay 0 is the input of the step itself.
    alphas, folds, washout, regions
        As for `ridge_readout`, with at least two folds.

    Raises
    ------
    AnalysisError
        If a delay is negative, or not shorter than the trials; and as `ridge_readout`.

    References
    ----------
    Jaeger 2001, Short term memory in echo state networks, GMD report 152.

    Examples
    --------
    >>> u = np.random.default_rng(0).standard_normal(400)
    >>> states = np.stack([np.roll(u, k) for k in range(3)], axis=1)   # a delay line of three units
    >>> memory_capacity(states, u, 6, washout=3, alphas=1e-6).capacity[:, 0].round(1).tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """
    blocks = TimeBlocks(states)
    trials, steps, _ = blocks.shape
    u, what = by_time(inputs, trials, steps, "memory_capacity: inputs"), "memory_capacity: delay"
    every: Any = delays
    if np.ndim(delays) == 0:
        every = range(whole_number(delays, "memory_capacity: delays", AnalysisError))
    lags = [whole_number(lag, what, AnalysisError, least=0, most=steps - 1) for lag in every]
    if not lags or folds < 2:
        raise AnalysisError("memory_capacity: give at least one delay, and two folds.")
    past = np.full((trials, steps, len(lags), u.shape[2]), np.nan)
    for k, lag in enumerate(lags):
        past[:, lag:, k] = u[:, : steps - lag]
    options: dict[str, Any] = dict(alphas=alphas, folds=folds, washout=washout, regions=regions)
    found = ridge_readout(states, past.reshape(trials, steps, -1), **options)
    return MemoryCapacity(np.array(lags), np.square(found.correlation).reshape(len(lags), -1))
