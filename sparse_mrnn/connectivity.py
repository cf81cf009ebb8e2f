"""Connection rules: which units of a source region reach which units of a target region.

A rule holds numbers only and samples local (row, col) pairs, row = target unit, col = source unit, sorted
by row and then column, without repeats. Time and memory are O(synapses). ``sample_batch`` draws many
projections of one rule class in a few vectorised calls, so 100,000 small projections take seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.errors import ConnectivityError

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Site:
    """Where a rule is applied: sizes, positions, and whether a unit may connect to itself.

    Parameters
    ----------
    label : str
        The projection, as errors name it.
    n_target, n_source : int
        Units in the target and in the source region.
    exclude_self : bool
        Leave out the diagonal. Only meaningful within one region.
    target_positions, source_positions : ndarray of shape (units, dimensions) or None
        Unit positions, for rules that need distances.
    """

    label: str
    n_target: int
    n_source: int
    exclude_self: bool = False
    target_positions: NDArray[np.float64] | None = None
    source_positions: NDArray[np.float64] | None = None

    @property
    def columns(self) -> int:
        """Possible sources of one target unit."""
        return self.n_source - int(self.exclude_self)


@dataclass(frozen=True)
class Sample:
    """Synapses of several projections, projection after projection, row-major inside each."""

    lengths: IntArray
    rows: NDArray[np.int32]
    cols: NDArray[np.int32]


@dataclass(frozen=True)
class ConnectionRule:
    """Base class. A rule of your own overrides ``expected`` and ``sample``.

    Examples
    --------
    >>> rule = FixedFanIn(2)
    >>> rows, cols = rule.sample(np.random.default_rng(0), Site("a -> b", n_target=3, n_source=10))
    >>> rows.tolist()
    [0, 0, 1, 1, 2, 2]
    """

    kind: ClassVar[str] = "custom"

    def check(self, site: Site) -> None:
        """Raise `ConnectivityError` where the rule cannot be satisfied at ``site``."""

    def expected(self, site: Site) -> float:
        """Expected number of synapses (exact for the exact rules)."""
        raise ConnectivityError(f"{type(self).__name__} does not say how many synapses to expect.")

    def sample(self, rng: np.random.Generator, site: Site) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Draw the synapses of one projection."""
        drawn = self.sample_batch(rng, [self], [site])
        return drawn.rows, drawn.cols

    @classmethod
    def sample_batch(cls, rng: np.random.Generator, rules: Sequence[Any], sites: Sequence[Site]) -> Sample:
        """Draw the synapses of many projections that share this rule class."""
        pairs = [rule.sample(rng, site) for rule, site in zip(rules, sites, strict=True)]
        return Sample(
            np.array([len(rows) for rows, _ in pairs], dtype=np.int64),
            _join([rows for rows, _ in pairs]),
            _join([cols for _, cols in pairs]),
        )

    def to_spec(self) -> dict[str, Any]:
        """The rule as it is written in a configuration file."""
        return {"type": self.kind, **{f.name: getattr(self, f.name) for f in fields(self)}}


def _join(parts: list[Any]) -> NDArray[np.int32]:
    return np.concatenate([np.asarray(p, dtype=np.int32) for p in parts] or [np.empty(0, np.int32)])


def _dims(sites: Sequence[Site]) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
    """Rows, usable columns and the exclude-self flag of each site."""
    rows = np.array([site.n_target for site in sites], dtype=np.int64)
    columns = np.array([site.columns for site in sites], dtype=np.int64)
    return rows, columns, np.array([site.exclude_self for site in sites], dtype=bool)


def sample_distinct(rng: np.random.Generator, counts: IntArray, sizes: IntArray) -> IntArray:
    """Draw ``counts[k]`` distinct integers from ``range(sizes[k])``, for every k at once.

    Returns them range after range, sorted inside each. Every subset of the given size is equally likely:
    repeats are redrawn, and for more than half of a range its complement is drawn. O(n log n) for n draws.

    Examples
    --------
    >>> drawn = sample_distinct(np.random.default_rng(0), np.array([2, 3]), np.array([5, 3]))
    >>> drawn[2:].tolist()
    [0, 1, 2]
    """
    start = np.concatenate([[0], np.cumsum(sizes)])
    if int(sizes.sum(dtype=np.float64)) >= 2**62:
        raise ConnectivityError("The projections span over 2^62 possible synapses; build the net in parts.")
    flipped = counts > sizes // 2
    keys = _draw(rng, np.where(flipped, sizes - counts, counts), start, sizes)
    if flipped.any():
        full = ranges(start[:-1][flipped], sizes[flipped])
        of_range = np.searchsorted(start, keys, side="right") - 1
        left_out = keys[flipped[of_range]]
        kept = full[~np.isin(full, left_out, assume_unique=True)]
        keys = np.sort(np.concatenate([keys[~flipped[of_range]], kept]))
    local: IntArray = keys - np.repeat(start[:-1], counts)
    return local


def _draw(rng: np.random.Generator, counts: IntArray, start: IntArray, sizes: IntArray) -> IntArray:
    have: IntArray = np.empty(0, dtype=np.int64)
    need = counts
    while need.any():
        size = np.repeat(sizes, need)
        drawn = (rng.random(len(size)) * size).astype(np.int64)
        drawn += np.repeat(start[:-1], need)
        have = np.concatenate([have, drawn])
        have.sort()
        if len(have) > 1:
            have = have[np.concatenate([[True], have[1:] != have[:-1]])]
        need = counts - np.diff(np.searchsorted(have, start))
    return have


def ranges(starts: IntArray, lengths: IntArray) -> IntArray:
    """Concatenate ``range(start, start + length)``.

    >>> ranges(np.array([5, 0]), np.array([2, 1])).tolist()
    [5, 6, 0]
    """
    before = np.cumsum(lengths) - lengths
    joined: IntArray = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(starts - before, lengths)
    return joined


def _split(keys: IntArray, width: IntArray, exclude: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Turn row-major slots into (row, col), stepping over the diagonal where it is left out."""
    width = np.maximum(width, 1)
    rows = keys // width
    cols = keys - rows * width
    return rows, cols + (exclude & (cols >= rows))


def _pairs(keys: IntArray, lengths: IntArray, columns: IntArray, exclude: NDArray[np.bool_]) -> Sample:
    if len(set(columns.tolist())) == 1 and not exclude.any():  # one width: no per-synapse copy of it
        rows, cols = _split(keys, columns[:1], np.array([False]))
    else:
        rows, cols = _split(keys, np.repeat(columns, lengths), np.repeat(exclude, lengths))
    return Sample(lengths, rows.astype(np.int32), cols.astype(np.int32))


def _per_unit(
    rng: np.random.Generator, units: IntArray, partners: IntArray, count: IntArray, exclude: NDArray[np.bool_]
) -> tuple[IntArray, IntArray, IntArray]:
    """For every unit of every site draw ``count`` distinct partners; the lengths, units and partners."""
    keys = sample_distinct(rng, np.repeat(count, units), np.repeat(partners, units))
    lengths = units * count
    unit = np.repeat(ranges(np.zeros_like(units), units), np.repeat(count, units))
    return lengths, unit, keys + (np.repeat(exclude, lengths) & (keys >= unit))


@dataclass(frozen=True)
class AllToAll(ConnectionRule):
    """Every source unit reaches every target unit."""

    kind: ClassVar[str] = "all_to_all"

    def expected(self, site: Site) -> float:
        return site.n_target * site.columns

    @classmethod
    def sample_batch(cls, rng: np.random.Generator, rules: Sequence[Any], sites: Sequence[Site]) -> Sample:
        rows, columns, exclude = _dims(sites)
        lengths = rows * columns
        return _pairs(ranges(np.zeros_like(lengths), lengths), lengths, columns, exclude)


@dataclass(frozen=True)
class Bernoulli(ConnectionRule):
    """Each possible synapse exists with probability ``density``, independently.

    Drawn as a binomial number of distinct slots, which is the same distribution in O(synapses).
    """

    density: float
    kind: ClassVar[str] = "bernoulli"

    def __post_init__(self) -> None:
        if not (isinstance(self.density, (int, float)) and 0 <= self.density <= 1):
            raise ConnectivityError(f"density is {self.density!r}; it must be between 0 and 1.")

    def expected(self, site: Site) -> float:
        return self.density * site.n_target * site.columns

    @classmethod
    def sample_batch(cls, rng: np.random.Generator, rules: Sequence[Any], sites: Sequence[Site]) -> Sample:
        rows, columns, exclude = _dims(sites)
        lengths = rng.binomial(rows * columns, np.array([rule.density for rule in rules])).astype(np.int64)
        return _pairs(sample_distinct(rng, lengths, rows * columns), lengths, columns, exclude)


@dataclass(frozen=True)
class FixedNumber(ConnectionRule):
    """Exactly ``number`` synapses, at distinct slots drawn uniformly."""

    number: int
    kind: ClassVar[str] = "fixed_number"

    def check(self, site: Site) -> None:
        _bounded(self.number, site.n_target * site.columns, "number", "possible synapses", site)

    def expected(self, site: Site) -> float:
        return self.number

    @classmethod
    def sample_batch(cls, rng: np.random.Generator, rules: Sequence[Any], sites: Sequence[Site]) -> Sample:
        rows, columns, exclude = _dims(sites)
        lengths = np.array([rule.number for rule in rules], dtype=np.int64)
        return _pairs(sample_distinct(rng, lengths, rows * columns), lengths, columns, exclude)


@dataclass(frozen=True)
class FixedFanIn(ConnectionRule):
    """Exactly ``fan_in`` distinct sources for every target unit."""

    fan_in: int
    kind: ClassVar[str] = "fixed_fan_in"

    def check(self, site: Site) -> None:
        _bounded(self.fan_in, site.columns, "fan_in", "possible sources of a unit", site)

    def expected(self, site: Site) -> float:
        return self.fan_in * site.n_target

    @classmethod
    def sample_batch(cls, rng: np.random.Generator, rules: Sequence[Any], sites: Sequence[Site]) -> Sample:
        rows, columns, exclude = _dims(sites)
        count = np.array([rule.fan_in for rule in rules], dtype=np.int64)
        lengths, row, col = _per_unit(rng, rows, columns, count, exclude)
        return Sample(lengths, row.astype(np.int32), col.astype(np.int32))


@dataclass(frozen=True)
class FixedFanOut(ConnectionRule):
    """Exactly ``fan_out`` distinct targets for every source unit."""

    fan_out: int
    kind: ClassVar[str] = "fixed_fan_out"

    def check(self, site: Site) -> None:
        partners = site.n_target - int(site.exclude_self)
        _bounded(self.fan_out, partners, "fan_out", "possible targets of a unit", site)

    def expected(self, site: Site) -> float:
        return self.fan_out * site.n_source

    @classmethod
    def sample_batch(cls, rng: np.random.Generator, rules: Sequence[Any], sites: Sequence[Site]) -> Sample:
        rows, _, exclude = _dims(sites)
        sources = np.array([site.n_source for site in sites], dtype=np.int64)
        count = np.array([rule.fan_out for rule in rules], dtype=np.int64)
        lengths, col, row = _per_unit(rng, sources, rows - exclude, count, exclude)
        site_of = np.repeat(np.arange(len(sites)), lengths)
        order = np.lexsort((col, row, site_of))
        return Sample(lengths, row[order].astype(np.int32), col[order].astype(np.int32))


@dataclass(frozen=True)
class OneToOne(ConnectionRule):
    """Unit k of the source reaches unit k of the target; both regions have the same size."""

    kind: ClassVar[str] = "one_to_one"

    def check(self, site: Site) -> None:
        if site.n_target != site.n_source:
            raise ConnectivityError(
                f"{site.label}: one-to-one needs regions of one size, but the source has {site.n_source} "
                f"units "
                f"and the target {site.n_target}. Resize a region or use fan_in=1."
            )
        if site.exclude_self:
            raise ConnectivityError(
                f"{site.label}: one-to-one within a region is self-connections; set self_connections=True."
            )

    def expected(self, site: Site) -> float:
        return site.n_target

    @classmethod
    def sample_batch(cls, rng: np.random.Generator, rules: Sequence[Any], sites: Sequence[Site]) -> Sample:
        lengths, _, _ = _dims(sites)
        unit = ranges(np.zeros_like(lengths), lengths).astype(np.int32)
        return Sample(lengths, unit, unit.copy())


@dataclass(frozen=True)
class DistanceDependent(ConnectionRule):
    """Connect nearby units, with a probability that falls with distance, up to a cut-off.

    ``probability * exp(-d^2 / (2 scale^2))`` (profile "gaussian") or ``probability * exp(-d / scale)``
    ("exponential"). Candidate pairs come from a KD-tree, so the cost is that of the pairs within the cut-off.

    Parameters
    ----------
    scale : float
        Length constant, in the units of the positions.
    probability : float, default 1.0
        Connection probability at distance zero.
    cutoff : float, optional
        No synapse is longer than this. Default: 3 * scale.
    profile : {"gaussian", "exponential"}
    """

    scale: float
    probability: float = 1.0
    cutoff: float | None = None
    profile: str = "gaussian"
    kind: ClassVar[str] = "distance"

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ConnectivityError(f"scale is {self.scale!r}; it must be a positive length.")
        if not 0 <= self.probability <= 1:
            raise ConnectivityError(f"probability is {self.probability!r}; it must be between 0 and 1.")
        if self.cutoff is not None and not 0 < self.cutoff < math.inf:
            raise ConnectivityError(f"cutoff is {self.cutoff!r}; it must be a positive, finite length.")
        if self.profile not in ("gaussian", "exponential"):
            raise ConnectivityError(f"profile is {self.profile!r}; use 'gaussian' or 'exponential'.")

    def check(self, site: Site) -> None:
        for side, positions in (("source", site.source_positions), ("target", site.target_positions)):
            if positions is None:
                raise ConnectivityError(f"{site.label}: the {side} has no positions; give positions=.")

    def expected(self, site: Site) -> float:
        self.check(site)
        _, _, distance = self._candidates(site)
        return float(self._probability(distance).sum())

    def sample(self, rng: np.random.Generator, site: Site) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        rows, cols, distance = self._candidates(site)
        order = np.lexsort((cols, rows))
        keep = order[rng.random(len(order)) < self._probability(distance[order])]
        return rows[keep].astype(np.int32), cols[keep].astype(np.int32)

    sample_batch = ConnectionRule.sample_batch

    def _probability(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = distance / self.scale
        fall: NDArray[np.float64] = np.exp(-0.5 * ratio**2 if self.profile == "gaussian" else -ratio)
        return self.probability * fall

    def _candidates(self, site: Site) -> tuple[IntArray, IntArray, NDArray[np.float64]]:
        from scipy.spatial import KDTree

        cutoff = 3 * self.scale if self.cutoff is None else self.cutoff
        near = KDTree(site.target_positions).sparse_distance_matrix(
            KDTree(site.source_positions), cutoff, output_type="ndarray"
        )
        keep = near["i"] != near["j"] if site.exclude_self else slice(None)
        return near["i"][keep], near["j"][keep], near["v"][keep]


@dataclass(frozen=True)
class Explicit(ConnectionRule):
    """Exactly the given synapses; their weights come from an initialiser.

    Parameters
    ----------
    rows, cols : sequence of int
        Target and source units, local to their regions, from 0.
    """

    rows: tuple[int, ...] = field(repr=False)
    cols: tuple[int, ...] = field(repr=False)
    kind: ClassVar[str] = "explicit"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(int(i) for i in self.rows))
        object.__setattr__(self, "cols", tuple(int(j) for j in self.cols))
        if len(self.rows) != len(self.cols):
            raise ConnectivityError(f"explicit synapses: {len(self.rows)} rows but {len(self.cols)} cols.")
        if len(set(zip(self.rows, self.cols, strict=True))) != len(self.rows):
            raise ConnectivityError("explicit synapses: a pair is given twice; use a second projection key.")

    def check(self, site: Site) -> None:
        for what, index, size in (("row", self.rows, site.n_target), ("col", self.cols, site.n_source)):
            if index and (min(index) < 0 or max(index) >= size):
                raise ConnectivityError(f"{site.label}: a {what} index lies outside 0..{size - 1}.")

    def expected(self, site: Site) -> float:
        return len(self.rows)

    def sample(self, rng: np.random.Generator, site: Site) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        rows, cols = np.array(self.rows, dtype=np.int32), np.array(self.cols, dtype=np.int32)
        if site.exclude_self:
            rows, cols = rows[rows != cols], cols[rows != cols]
        order = np.lexsort((cols, rows))
        return rows[order], cols[order]


def _bounded(value: int, most: int, name: str, of: str, site: Site) -> None:
    if not 0 <= value <= most:
        raise ConnectivityError(f"{site.label}: {name} is {value}, but there are {most} {of}. Use 0..{most}.")


RULES: dict[str, type[ConnectionRule]] = {
    rule.kind: rule
    for rule in (
        AllToAll, Bernoulli, FixedNumber, FixedFanIn, FixedFanOut, OneToOne, DistanceDependent, Explicit
    )
}


def sample_many(rng: np.random.Generator, rules: Sequence[ConnectionRule], sites: Sequence[Site]) -> Sample:
    """Draw every projection's synapses, rule class by rule class, in the order given."""
    groups: dict[type[ConnectionRule], list[int]] = {}
    for position, (rule, site) in enumerate(zip(rules, sites, strict=True)):
        rule.check(site)
        groups.setdefault(type(rule), []).append(position)
    drawn = [
        (np.array(members), kind.sample_batch(rng, [rules[m] for m in members], [sites[m] for m in members]))
        for kind, members in groups.items()
    ]
    if len(drawn) == 1:
        return drawn[0][1]
    lengths = np.zeros(len(rules), dtype=np.int64)
    for members, sample in drawn:
        lengths[members] = sample.lengths
    start = np.cumsum(lengths) - lengths
    rows, cols = np.empty((2, int(lengths.sum())), dtype=np.int32)
    for members, sample in drawn:
        at = ranges(start[members], sample.lengths)
        rows[at], cols[at] = sample.rows, sample.cols
    return Sample(lengths, rows, cols)
