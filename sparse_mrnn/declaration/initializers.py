"""Initial synaptic weights.

An initialiser is told about the synapses it fills (`Synapses`) and returns one value each. Under Dale's
law a value is a magnitude: the sign of its source unit is applied later, so negative draws lose their sign.
Initialisers that compare equal are called once for all their projections together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.declaration.connectivity import ranges
from sparse_mrnn.errors import WeightError

Rng = np.random.Generator
Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Synapses:
    """The synapses an initialiser fills: those of some projections onto a band of target units, projection
    after projection. A network of up to 16,384 units is one band.

    Parameters
    ----------
    rows : ndarray of int, shape (synapses,)
        Target unit of each synapse, from the first of the band, which is ``first_unit`` of the network.
    sign : ndarray of int8, shape (synapses,)
        +1, -1, or 0 where the source is free to take either sign.
    unit_fan_in : ndarray of int, shape (target units of the band,)
        Synapses onto each unit, over the whole weight matrix.
    lengths, source_sizes, target_sizes : ndarray of int, shape (projections,)
        Synapses of each projection, and units of its source and target region.
    first_unit : int
        Of the band.
    n_units, n_inputs : int
        Recurrent units H and input channels I of the network.
    inputs : bool
        Whether this is the input weight matrix.
    """

    rows: NDArray[np.integer]
    sign: NDArray[np.int8]
    unit_fan_in: NDArray[np.int64]
    lengths: NDArray[np.int64]
    source_sizes: NDArray[np.int64]
    target_sizes: NDArray[np.int64]
    first_unit: int
    n_units: int
    n_inputs: int
    inputs: bool

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fan_in(self) -> NDArray[np.int64]:
        """Synapses onto the target unit of each synapse, over the whole weight matrix."""
        return self.unit_fan_in.take(self.rows)

    @property
    def source_size(self) -> NDArray[np.int64]:
        """Units of the source region of each synapse."""
        return np.repeat(self.source_sizes, self.lengths)

    @property
    def target_size(self) -> NDArray[np.int64]:
        """Units of the target region of each synapse."""
        return np.repeat(self.target_sizes, self.lengths)

    def of_projections(self, members: Sequence[int]) -> tuple[NDArray[np.int64], Synapses]:
        """The synapses of some of the projections, and which ones of these they are."""
        lengths = self.lengths[members]
        slots = ranges((np.cumsum(self.lengths) - self.lengths)[members], lengths)
        part = replace(
            self,
            rows=self.rows[slots],
            sign=self.sign[slots],
            lengths=lengths,
            source_sizes=self.source_sizes[members],
            target_sizes=self.target_sizes[members],
        )
        return slots, part


@dataclass(frozen=True)
class Initializer:
    """Base class. One of your own is a frozen dataclass with a ``__call__``."""

    kind: ClassVar[str] = "custom"

    def __call__(self, rng: Rng, synapses: Synapses) -> Values:
        """Return one float32 value per synapse."""
        raise WeightError(f"{type(self).__name__} does not implement __call__(rng, synapses).")

    def keeps_sign(self, signed: bool) -> bool:
        """True if all values have one sign, for sources with a sign (``signed``) or without."""
        return False

    def to_spec(self) -> dict[str, Any]:
        """The initialiser as it is written in a configuration file."""
        return {"type": self.kind, **{f.name: getattr(self, f.name) for f in fields(self)}}


@dataclass(frozen=True)
class Default(Initializer):
    """mRNNTorch's choice: uniform magnitudes under Dale's law, Xavier normal otherwise.

    Signed sources: U[0, sqrt(1 / (2H))] for recurrent and U[0, sqrt(1 / (H + I))] for input weights.
    Unsigned sources: normal with variance 2 / (n_source + n_target) of the projection (Glorot & Bengio 2010).
    """

    kind: ClassVar[str] = "default"

    def keeps_sign(self, signed: bool) -> bool:
        return signed

    def __call__(self, rng: Rng, synapses: Synapses) -> Values:
        width = synapses.n_units + (synapses.n_inputs if synapses.inputs else synapses.n_units)
        free = synapses.sign == 0
        if not free.any():
            return rng.random(len(synapses), dtype=np.float32) * np.float32(np.sqrt(1 / width))
        values = XavierNormal()(rng, synapses)
        uniform = rng.random(len(synapses), dtype=np.float32) * np.float32(np.sqrt(1 / width))
        return np.where(free, values, uniform)


@dataclass(frozen=True)
class XavierNormal(Initializer):
    """Normal, variance ``gain^2 * 2 / (n_source + n_target)`` of the projection (Glorot & Bengio 2010)."""

    gain: float = 1.0
    kind: ClassVar[str] = "xavier_normal"

    def __call__(self, rng: Rng, synapses: Synapses) -> Values:
        std = self.gain * np.sqrt(2 / (synapses.source_size + synapses.target_size))
        return rng.standard_normal(len(synapses), dtype=np.float32) * std.astype(np.float32)


@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform on [low, high)."""

    low: float = 0.0
    high: float = 1.0
    kind: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise WeightError(f"uniform: low is {self.low}, above high, {self.high}.")

    def keeps_sign(self, signed: bool) -> bool:
        return self.low >= 0 or self.high <= 0

    def __call__(self, rng: Rng, synapses: Synapses) -> Values:
        uniform = rng.random(len(synapses), dtype=np.float32)
        return np.float32(self.low) + np.float32(self.high - self.low) * uniform


@dataclass(frozen=True)
class Normal(Initializer):
    """Normal with mean 0 and standard deviation ``g / sqrt(fan_in)`` of the target unit.

    For a random net without sign constraints the spectral radius is then close to g
    (Sompolinsky, Crisanti & Sommers 1988).
    """

    g: float = 1.0
    kind: ClassVar[str] = "normal"

    def __call__(self, rng: Rng, synapses: Synapses) -> Values:
        std = (self.g / np.sqrt(np.maximum(synapses.fan_in, 1))).astype(np.float32)
        return rng.standard_normal(len(synapses), dtype=np.float32) * std


class Magnitudes(Initializer):
    """Base of initialisers with values above 0, and all settings above 0."""

    def keeps_sign(self, signed: bool) -> bool:
        return True

    def __post_init__(self) -> None:
        for f in fields(self):
            if not getattr(self, f.name) > 0:
                given = f"{f.name} is {getattr(self, f.name)!r}"
                raise WeightError(f"{self.kind}: {given}; it must be positive.")


@dataclass(frozen=True)
class LogNormal(Magnitudes):
    """Log-normal magnitudes (Song et al. 2005).

    Parameters
    ----------
    mean : float
        Of the magnitudes.
    sigma : float
        Standard deviation of their logarithm.
    """

    mean: float = 0.1
    sigma: float = 1.0
    kind: ClassVar[str] = "log_normal"

    def __call__(self, rng: Rng, synapses: Synapses) -> Values:
        mu = np.float32(np.log(self.mean) - 0.5 * self.sigma**2)
        normal = rng.standard_normal(len(synapses), dtype=np.float32)
        values: Values = np.exp(mu + np.float32(self.sigma) * normal)
        return values


@dataclass(frozen=True)
class Constant(Initializer):
    """The same value everywhere."""

    value: float = 0.1
    kind: ClassVar[str] = "constant"

    def keeps_sign(self, signed: bool) -> bool:
        return True

    def __call__(self, rng: Rng, synapses: Synapses) -> Values:
        return np.full(len(synapses), self.value, dtype=np.float32)


@dataclass(frozen=True)
class Gamma(Magnitudes):
    """Gamma-distributed magnitudes with the given mean and shape (Song, Yang & Wang 2016)."""

    mean: float = 0.1
    shape: float = 2.0
    kind: ClassVar[str] = "gamma"

    def __call__(self, rng: Rng, synapses: Synapses) -> Values:
        draws = rng.standard_gamma(self.shape, len(synapses), dtype=np.float32)
        values: Values = draws * np.float32(self.mean / self.shape)
        return values


@dataclass(frozen=True)
class BalancedEI(Initializer):
    """Excitation and inhibition that cancel at every target unit, for a spectral radius near g under Dale's
    law.

    The means of excitatory and inhibitory weights alone give a net an eigenvalue far outside the disc of its
    other ones; it vanishes where the weights onto every unit sum to zero (Rajan & Abbott 2006). Magnitudes
    are half-normal, ``sigma_E = g / sqrt((1 - 2 p / pi) n_E (1 + n_E / n_I))`` and likewise for I, with p the
    share of all units that reach the unit: both kinds then have the same expected sum, and the variances of
    the entries of a row, zeros included, add to g^2, which makes g the radius of the disc. What is left of
    the sum is then taken off by scaling the inhibitory ones. Synapses of sources without a sign are normal,
    of standard deviation ``g / sqrt(fan_in)``, less their mean onto the unit. A unit with only one signed
    kind cannot be balanced; its magnitudes have the scale ``g / sqrt(fan_in)``.
    """

    g: float = 1.0
    kind: ClassVar[str] = "balanced_ei"

    def keeps_sign(self, signed: bool) -> bool:
        return signed

    def __call__(self, rng: Rng, synapses: Synapses) -> Values:
        normal = Normal(self.g)(rng, synapses)
        sign, rows, fan_in = synapses.sign, synapses.rows, synapses.fan_in
        free = sign == 0

        def onto(weight: NDArray[Any]) -> NDArray[np.float64]:
            sums: NDArray[np.float64] = np.bincount(rows, weight)[rows]
            return sums

        n_e, n_i = onto(sign > 0), onto(sign < 0)
        both = (n_e > 0) & (n_i > 0) & ~free
        own, other = np.where(sign > 0, n_e, n_i), np.where(sign > 0, n_i, n_e)
        signed = (n_e + n_i) / fan_in  # the signed ones' share of g^2; the free ones have the rest
        density = np.minimum(fan_in / max(synapses.n_inputs if synapses.inputs else synapses.n_units, 1), 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            wide = np.sqrt(fan_in * signed / ((1 - 2 / np.pi * density) * own * (1 + own / other)))
        values = np.where(free, normal, np.abs(normal) * np.where(both, wide, 1))
        count = onto(free)
        values -= np.where(free, onto(values * free) / np.maximum(count, 1), 0)
        excitatory, inhibitory = onto(values * (sign > 0)), onto(values * (sign < 0))
        scale = np.where(both, excitatory / np.where(both, inhibitory, 1), 1)
        return np.where(sign < 0, values * scale, values).astype(np.float32)


EVERY = (Default, XavierNormal, Uniform, Normal, LogNormal, Constant, Gamma, BalancedEI)
INITIALIZERS: dict[str, type[Initializer]] = {kind.kind: kind for kind in EVERY}
