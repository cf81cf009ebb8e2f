"""Connection rules: which units of a source region reach which units of a target region.

A rule holds numbers only and samples local (row, col) pairs, row = target unit, col = source unit, sorted
by row and then column, without repeats. Time and memory are O(synapses). ``sample_batch`` draws many
projections of one rule class in a few vectorised calls, so 100,000 small projections take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparse_mrnn.checks import real_number, shown, whole_number
from sparse_mrnn.errors import ConnectivityError

IntArray = NDArray[np.int64]
Synapses = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Rows and columns: target and source unit of each synapse."""
SynapseBatch = tuple[IntArray, NDArray[np.int32], NDArray[np.int32]]
"""Number of synapses of each projection, then rows and columns of all synapses, projection after projection
and row-major inside each."""
Rng = np.random.Generator
Stream = Callable[[int, int], Rng]
"""The random stream of what bands first to last of a projection have in common."""

NUMPY_SLOTS = 10**9
"""Up to so many slots numpy draws hypergeometric numbers."""


@dataclass(frozen=True)
class RegionPair:
    """A source and a target region as a rule sees them: sizes, positions, and if a unit may reach itself.

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
    first_row : int
        Number of the first target unit in its region, where these are a band of its rows.
    """

    label: str
    n_target: int
    n_source: int
    exclude_self: bool = False
    target_positions: NDArray[np.float64] | None = None
    source_positions: NDArray[np.float64] | None = None
    first_row: int = 0

    def rows(self, start: int, stop: int) -> RegionPair:
        """Cut to the target units ``start:stop``."""
        if start == 0 and stop == self.n_target:
            return self
        positions = None if self.target_positions is None else self.target_positions[start:stop]
        return replace(self, n_target=stop - start, first_row=start, target_positions=positions)

    @property
    def columns(self) -> int:
        """Possible sources of one target unit."""
        return self.n_source - int(self.exclude_self)


Bands = Iterator[tuple["ConnectionRule", RegionPair]]
"""A rule and a pair of regions for each band of rows."""


@dataclass(frozen=True)
class ConnectionRule:
    """Base class. A rule of your own overrides ``expected`` and ``sample``.

    A projection onto rows of several bands is then drawn whole and cut, on each rank of several.

    Examples
    --------
    >>> rule = FixedFanIn(2)
    >>> rows, cols = rule.sample(np.random.default_rng(0), RegionPair("a -> b", n_target=3, n_source=10))
    >>> rows.tolist()
    [0, 0, 1, 1, 2, 2]
    """

    kind: ClassVar[str] = "custom"

    def check(self, pair: RegionPair) -> None:
        """Raise `ConnectivityError` if the rule cannot be satisfied between these regions."""

    def expected(self, pair: RegionPair) -> float:
        """Expected number of synapses (exact for the exact rules)."""
        raise ConnectivityError(f"{type(self).__name__} does not say how many synapses to expect.")

    def sample(self, rng: Rng, pair: RegionPair) -> Synapses:
        """Draw the synapses of one projection."""
        _, rows, cols = self.sample_batch(rng, [self], [pair])
        return rows, cols

    def bands(self, pair: RegionPair, cuts: Sequence[int], wanted: Sequence[int], stream: Stream) -> Bands:
        """Divide a projection into bands of target rows; drawn apart they are as if drawn together.

        Parameters
        ----------
        pair : RegionPair
        cuts : sequence of int
            First row of each band, and the rows in all at the end.
        wanted : sequence of int
            Numbers of bands, ascending.
        stream : callable
        """
        rows, cols = (np.asarray(part) for part in self.sample(stream(0, len(cuts) - 2), pair))
        ends = np.searchsorted(rows, cuts)
        for k in wanted:
            part = slice(ends[k], ends[k + 1])
            yield GivenPairs(rows[part] - cuts[k], cols[part]), pair.rows(cuts[k], cuts[k + 1])

    @classmethod
    def sample_batch(cls, rng: Rng, rules: Sequence[Any], pairs: Sequence[RegionPair]) -> SynapseBatch:
        """Draw the synapses of many projections that share this rule class."""
        each = [rule.sample(rng, pair) for rule, pair in zip(rules, pairs, strict=True)]
        parts = ([np.asarray(part, dtype=np.int32) for part in side] for side in zip(*each, strict=True))
        rows, cols = map(np.concatenate, parts)
        return np.array([len(rows) for rows, _ in each], dtype=np.int64), rows, cols

    def to_spec(self) -> dict[str, Any]:
        """The rule as it is written in a configuration file."""
        return {"type": self.kind, **{f.name: getattr(self, f.name) for f in fields(self)}}


class IndependentRows(ConnectionRule):
    """A rule that draws each target unit independently, so a band of rows is a smaller pair of regions."""

    def bands(self, pair: RegionPair, cuts: Sequence[int], wanted: Sequence[int], stream: Stream) -> Bands:
        return ((self, pair.rows(cuts[k], cuts[k + 1])) for k in wanted)


@dataclass(frozen=True, eq=False)
class GivenPairs(ConnectionRule):
    """Synapses that are drawn already, or explicit."""

    rows: NDArray[Any]
    cols: NDArray[Any]

    def sample(self, rng: Rng, pair: RegionPair) -> Synapses:
        return self.rows.astype(np.int32), self.cols.astype(np.int32)


def _dims(pairs: Sequence[RegionPair]) -> tuple[IntArray, IntArray]:
    """Rows and usable columns of each pair."""
    rows = np.array([pair.n_target for pair in pairs], dtype=np.int64)
    return rows, np.array([pair.columns for pair in pairs], dtype=np.int64)


def sample_distinct(rng: Rng, counts: IntArray, sizes: IntArray) -> IntArray:
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


def _draw(rng: Rng, counts: IntArray, start: IntArray, sizes: IntArray) -> IntArray:
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


def _pairs(keys: IntArray, lengths: IntArray, columns: IntArray, pairs: Sequence[RegionPair]) -> SynapseBatch:
    """Turn row-major slots into (row, col), stepping over the diagonal where it is left out."""
    one_width = len(set(columns.tolist())) == 1  # then it needs no copy for each synapse
    width = np.maximum(columns[:1] if one_width else np.repeat(columns, lengths), 1)
    rows = keys // width
    cols = _other_than_self(rows, keys - rows * width, lengths, pairs)
    return lengths, rows.astype(np.int32), cols.astype(np.int32)


def _other_than_self(
    units: IntArray, partners: IntArray, lengths: IntArray, pairs: Sequence[RegionPair]
) -> IntArray:
    """Partners numbered without the unit itself, where a pair leaves it out, as numbers of all units."""
    exclude = np.array([pair.exclude_self for pair in pairs], dtype=bool)
    if not exclude.any():
        return partners
    first = np.array([pair.first_row for pair in pairs], dtype=np.int64)
    own = units + np.repeat(first, lengths) if first.any() else units
    return partners + (np.repeat(exclude, lengths) & (partners >= own))


def share_of(rng: Rng, number: int, left: int, right: int) -> int:
    """How many of ``number`` distinct slots among left + right are among the left: hypergeometric.

    Where numpy's range ends, every slot is taken with one probability, which leaves the taken ones uniform
    given their number; what is missing from it is then taken, or what is too much given back, uniformly.

    Examples
    --------
    >>> share_of(np.random.default_rng(0), 10, 5, 5)
    5
    """
    if left + right < NUMPY_SLOTS:
        return int(rng.hypergeometric(left, right, number)) if number else 0
    taken = [int(n) for n in rng.binomial([left, right], number / (left + right))]
    missing = number - sum(taken)
    if missing >= 0:
        more = share_of(rng, missing, left - taken[0], right - taken[1]) if missing else 0
        return taken[0] + more
    return taken[0] - share_of(rng, -missing, *taken)


@dataclass(frozen=True)
class AllToAll(IndependentRows):
    """Every source unit reaches every target unit."""

    kind: ClassVar[str] = "all_to_all"

    def expected(self, pair: RegionPair) -> float:
        return pair.n_target * pair.columns

    @classmethod
    def sample_batch(cls, rng: Rng, rules: Sequence[Any], pairs: Sequence[RegionPair]) -> SynapseBatch:
        rows, columns = _dims(pairs)
        lengths = rows * columns
        return _pairs(ranges(np.zeros_like(lengths), lengths), lengths, columns, pairs)


@dataclass(frozen=True)
class Bernoulli(IndependentRows):
    """Each possible synapse exists with probability ``density``, independently.

    Drawn as a binomial number of distinct slots, which is the same distribution in O(synapses).
    """

    density: float
    kind: ClassVar[str] = "bernoulli"

    def __post_init__(self) -> None:
        object.__setattr__(self, "density", _probability("density", self.density))

    def expected(self, pair: RegionPair) -> float:
        return self.density * pair.n_target * pair.columns

    @classmethod
    def sample_batch(cls, rng: Rng, rules: Sequence[Any], pairs: Sequence[RegionPair]) -> SynapseBatch:
        rows, columns = _dims(pairs)
        lengths = rng.binomial(rows * columns, np.array([rule.density for rule in rules])).astype(np.int64)
        return _pairs(sample_distinct(rng, lengths, rows * columns), lengths, columns, pairs)


@dataclass(frozen=True)
class FixedNumber(ConnectionRule):
    """Exactly ``number`` synapses, at distinct slots drawn uniformly."""

    number: int
    kind: ClassVar[str] = "fixed_number"

    def __post_init__(self) -> None:
        object.__setattr__(self, "number", whole_number(self.number, "number", ConnectivityError, least=0))

    def check(self, pair: RegionPair) -> None:
        _bounded(self.number, pair.n_target * pair.columns, "number", "possible synapses", pair)

    def expected(self, pair: RegionPair) -> float:
        return self.number

    def bands(self, pair: RegionPair, cuts: Sequence[int], wanted: Sequence[int], stream: Stream) -> Bands:
        """The number in each band is hypergeometric, drawn by halving the bands, each half from its own
        stream."""
        slots = [cut * pair.columns for cut in cuts]

        def halve(rng: Rng, k: int, first: int, middle: int, last: int) -> tuple[int, int]:
            left = share_of(rng, k, slots[middle] - slots[first], slots[last] - slots[middle])
            return left, k - left

        for k, number in _halved(self.number, wanted, stream, halve, 0, len(cuts) - 1):
            yield FixedNumber(number), pair.rows(cuts[k], cuts[k + 1])

    @classmethod
    def sample_batch(cls, rng: Rng, rules: Sequence[Any], pairs: Sequence[RegionPair]) -> SynapseBatch:
        rows, columns = _dims(pairs)
        lengths = np.array([rule.number for rule in rules], dtype=np.int64)
        return _pairs(sample_distinct(rng, lengths, rows * columns), lengths, columns, pairs)


@dataclass(frozen=True)
class FixedFanIn(IndependentRows):
    """Exactly ``fan_in`` distinct sources for every target unit."""

    fan_in: int
    kind: ClassVar[str] = "fixed_fan_in"

    def __post_init__(self) -> None:
        object.__setattr__(self, "fan_in", whole_number(self.fan_in, "fan_in", ConnectivityError, least=0))

    def check(self, pair: RegionPair) -> None:
        _bounded(self.fan_in, pair.columns, "fan_in", "possible sources of a unit", pair)

    def expected(self, pair: RegionPair) -> float:
        return self.fan_in * pair.n_target

    @classmethod
    def sample_batch(cls, rng: Rng, rules: Sequence[Any], pairs: Sequence[RegionPair]) -> SynapseBatch:
        rows, columns = _dims(pairs)
        count = np.array([rule.fan_in for rule in rules], dtype=np.int64)
        lengths, of_row = rows * count, np.repeat(count, rows)
        keys = sample_distinct(rng, of_row, np.repeat(columns, rows))
        row = np.repeat(ranges(np.zeros_like(rows), rows), of_row)
        col = _other_than_self(row, keys, lengths, pairs)
        return lengths, row.astype(np.int32), col.astype(np.int32)


@dataclass(frozen=True)
class FixedFanOut(ConnectionRule):
    """Exactly ``fan_out`` distinct targets for every source unit."""

    fan_out: int
    kind: ClassVar[str] = "fixed_fan_out"

    def __post_init__(self) -> None:
        object.__setattr__(self, "fan_out", whole_number(self.fan_out, "fan_out", ConnectivityError, least=0))

    def check(self, pair: RegionPair) -> None:
        partners = pair.n_target - int(pair.exclude_self)
        _bounded(self.fan_out, partners, "fan_out", "possible targets of a unit", pair)

    def expected(self, pair: RegionPair) -> float:
        return self.fan_out * pair.n_source

    def bands(self, pair: RegionPair, cuts: Sequence[int], wanted: Sequence[int], stream: Stream) -> Bands:
        """Draw each source's number of targets in a band, hypergeometric, by halving the bands."""
        source = np.arange(pair.n_source)

        def targets(first: int, last: int) -> IntArray:
            inside = pair.exclude_self & (source >= cuts[first]) & (source < cuts[last])
            return cuts[last] - cuts[first] - inside.astype(np.int64)

        def halve(rng: Rng, count: IntArray, first: int, middle: int, last: int) -> tuple[IntArray, IntArray]:
            left = rng.hypergeometric(targets(first, middle), targets(middle, last), count)
            return left, count - left

        whole = np.full(pair.n_source, self.fan_out, dtype=np.int64)
        for k, count in _halved(whole, wanted, stream, halve, 0, len(cuts) - 1):
            yield _FanOutOfBand(count), pair.rows(cuts[k], cuts[k + 1])

    @classmethod
    def sample_batch(cls, rng: Rng, rules: Sequence[Any], pairs: Sequence[RegionPair]) -> SynapseBatch:
        count = np.array([rule.fan_out for rule in rules], dtype=np.int64)
        sources = np.array([pair.n_source for pair in pairs], dtype=np.int64)
        return _fan_out(rng, np.repeat(count, sources), pairs)


@dataclass(frozen=True, eq=False)
class _FanOutOfBand(ConnectionRule):
    """Exactly so many distinct targets, among the rows of a band, for each source unit."""

    count: IntArray

    def sample(self, rng: Rng, pair: RegionPair) -> Synapses:
        _, rows, cols = _fan_out(rng, self.count, [pair])  # a batch at once would draw other synapses
        return rows, cols


def _fan_out(rng: Rng, count: IntArray, pairs: Sequence[RegionPair]) -> SynapseBatch:
    """Draw ``count`` distinct targets for each source unit of all pairs."""
    facts = [(pair.n_source, pair.n_target, pair.first_row, pair.exclude_self) for pair in pairs]
    sources, targets, first, exclude = np.array(facts, dtype=np.int64).T
    pair_of = np.repeat(np.arange(len(pairs)), sources)
    source = ranges(np.zeros_like(sources), sources)
    own = source - first[pair_of]
    inside = (exclude[pair_of] > 0) & (own >= 0) & (own < targets[pair_of])
    row = sample_distinct(rng, count, targets[pair_of] - inside)
    row += np.repeat(inside, count) & (row >= np.repeat(own, count))
    pair_of = np.repeat(pair_of, count)
    order = np.lexsort((row, pair_of))  # stable: sources stay in order
    lengths = np.bincount(pair_of, minlength=len(pairs))
    return lengths, row[order].astype(np.int32), np.repeat(source, count)[order].astype(np.int32)


def _halved(
    whole: Any, wanted: Sequence[int], stream: Stream, halve: Callable[..., tuple[Any, Any]],
    first: int, last: int,
) -> Iterator[tuple[int, Any]]:
    """Divide what bands first to last - 1 have in all among them: (band, share) of the wanted ones, in order.

    Every halving draws from the stream of its bands, so a share does not depend on what else is wanted.
    """
    wanted = [k for k in wanted if first <= k < last]
    if not wanted:
        return
    if last - first == 1:
        yield first, whole
        return
    middle = (first + last) // 2
    left, right = halve(stream(first, last - 1), whole, first, middle, last)
    yield from _halved(left, wanted, stream, halve, first, middle)
    yield from _halved(right, wanted, stream, halve, middle, last)


@dataclass(frozen=True)
class OneToOne(IndependentRows):
    """Unit k of the source reaches unit k of the target; both regions have the same size."""

    kind: ClassVar[str] = "one_to_one"

    def check(self, pair: RegionPair) -> None:
        if pair.n_target != pair.n_source:
            sizes = f"the source has {pair.n_source} units and the target {pair.n_target}"
            need = f"one-to-one needs regions of one size, but {sizes}"
            raise ConnectivityError(f"{pair.label}: {need}. Resize a region or use fan_in=1.")
        if pair.exclude_self:
            problem = "one-to-one within a region is self-connections; set self_connections=True"
            raise ConnectivityError(f"{pair.label}: {problem}.")

    def expected(self, pair: RegionPair) -> float:
        return pair.n_target

    @classmethod
    def sample_batch(cls, rng: Rng, rules: Sequence[Any], pairs: Sequence[RegionPair]) -> SynapseBatch:
        lengths, _ = _dims(pairs)
        first = np.array([pair.first_row for pair in pairs], dtype=np.int64)
        unit = ranges(np.zeros_like(lengths), lengths).astype(np.int32)
        return lengths, unit, unit + np.repeat(first, lengths).astype(np.int32)


@dataclass(frozen=True)
class DistanceDependent(IndependentRows):
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
        object.__setattr__(self, "probability", _probability("probability", self.probability))
        lengths = {"scale": self.scale} | ({} if self.cutoff is None else {"cutoff": self.cutoff})
        for name, length in lengths.items():
            object.__setattr__(self, name, real_number(length, name, ConnectivityError))
            if length <= 0:
                raise ConnectivityError(f"{name} is {length!r}; it must be a positive length.")
        if self.profile not in ("gaussian", "exponential"):
            raise ConnectivityError(f"profile is {self.profile!r}; use 'gaussian' or 'exponential'.")

    def check(self, pair: RegionPair) -> None:
        for side, positions in (("source", pair.source_positions), ("target", pair.target_positions)):
            if positions is None:
                raise ConnectivityError(f"{pair.label}: the {side} has no positions; give positions=.")

    def expected(self, pair: RegionPair) -> float:
        self.check(pair)
        _, _, distance = self._candidates(pair)
        return float(self._probability(distance).sum())

    def sample(self, rng: Rng, pair: RegionPair) -> Synapses:
        rows, cols, distance = self._candidates(pair)
        order = np.lexsort((cols, rows))
        keep = order[rng.random(len(order)) < self._probability(distance[order])]
        return rows[keep].astype(np.int32), cols[keep].astype(np.int32)

    sample_batch = ConnectionRule.sample_batch

    def _probability(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = distance / self.scale
        fall: NDArray[np.float64] = np.exp(-0.5 * ratio**2 if self.profile == "gaussian" else -ratio)
        return self.probability * fall

    def _candidates(self, pair: RegionPair) -> tuple[IntArray, IntArray, NDArray[np.float64]]:
        from scipy.spatial import KDTree

        cutoff = 3 * self.scale if self.cutoff is None else self.cutoff
        near = KDTree(pair.target_positions).sparse_distance_matrix(
            KDTree(pair.source_positions), cutoff, output_type="ndarray"
        )
        keep = near["i"] + pair.first_row != near["j"] if pair.exclude_self else slice(None)
        return near["i"][keep], near["j"][keep], near["v"][keep]


@dataclass(frozen=True)
class Explicit(IndependentRows):
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
        object.__setattr__(self, "rows", _whole(self.rows, "rows"))
        object.__setattr__(self, "cols", _whole(self.cols, "cols"))
        if len(self.rows) != len(self.cols):
            raise ConnectivityError(f"explicit synapses: {len(self.rows)} rows but {len(self.cols)} cols.")
        if len(set(zip(self.rows, self.cols, strict=True))) != len(self.rows):
            raise ConnectivityError("explicit synapses: one is given twice; use a second projection key.")

    def check(self, pair: RegionPair) -> None:
        for what, index, size in (("row", self.rows, pair.n_target), ("col", self.cols, pair.n_source)):
            if index and (min(index) < 0 or max(index) >= size):
                raise ConnectivityError(f"{pair.label}: a {what} index lies outside 0..{size - 1}.")

    def expected(self, pair: RegionPair) -> float:
        return len(self.rows)

    def sample(self, rng: Rng, pair: RegionPair) -> Synapses:
        rows, cols = np.array(self.rows, dtype=np.int32) - pair.first_row, np.array(self.cols, dtype=np.int32)
        keep = (rows >= 0) & (rows < pair.n_target)
        if pair.exclude_self:
            keep &= rows + pair.first_row != cols
        rows, cols = rows[keep], cols[keep]
        order = np.lexsort((cols, rows))
        return rows[order], cols[order]


def _whole(index: Sequence[int], what: str) -> tuple[int, ...]:
    array = np.array(index)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ConnectivityError(f"explicit synapses: {what} are {shown(index)}; they must be whole numbers.")
    return tuple(array.tolist())


def _probability(name: str, value: float) -> float:
    found = real_number(value, name, ConnectivityError)
    if not 0 <= found <= 1:
        raise ConnectivityError(f"{name} is {value!r}; it must be between 0 and 1.")
    return found


def _bounded(value: int, most: int, name: str, of: str, pair: RegionPair) -> None:
    if value > most:
        raise ConnectivityError(f"{pair.label}: {name} is {value}, but there are {most} {of}. Use 0..{most}.")


EVERY = (AllToAll, Bernoulli, FixedNumber, FixedFanIn, FixedFanOut, OneToOne, DistanceDependent, Explicit)
RULES: dict[str, type[ConnectionRule]] = {rule.kind: rule for rule in EVERY}


def sample_many(rng: Rng, rules: Sequence[ConnectionRule], pairs: Sequence[RegionPair]) -> SynapseBatch:
    """Draw the synapses of projections, or of bands of their rows, rule class by rule class, in order."""
    groups: dict[type[ConnectionRule], list[int]] = {}
    for position, rule in enumerate(rules):
        groups.setdefault(type(rule), []).append(position)
    drawn = {
        kind: kind.sample_batch(rng, [rules[m] for m in members], [pairs[m] for m in members])
        for kind, members in groups.items()
    }
    if len(drawn) == 1:
        return next(iter(drawn.values()))
    lengths = np.zeros(len(rules), dtype=np.int64)
    for kind, members in groups.items():
        lengths[members] = drawn[kind][0]
    start = np.cumsum(lengths) - lengths
    rows, cols = np.empty((2, int(lengths.sum())), dtype=np.int32)
    for kind, members in groups.items():
        slots = ranges(start[members], drawn[kind][0])
        rows[slots], cols[slots] = drawn[kind][1:]
    return lengths, rows, cols
